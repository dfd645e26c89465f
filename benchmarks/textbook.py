"""A training loop written as the original's, for comparison with ours."""

from __future__ import annotations

import time

import torch
from cifarlab import models
from cifarlab.config import RunConfig
from cifarlab.data import cifar10_root
from torch import nn
from torch.utils.data import DataLoader, Subset
from torchvision import transforms
from torchvision.datasets import CIFAR10


def original_loop(config: RunConfig, images: int, device: torch.device) -> float:
    """Images a second of a textbook loop: DataLoader, PIL and ToTensor for every image, float32, NCHW."""
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.5,) * 3, (0.5,) * 3)])
    dataset = CIFAR10(cifar10_root(), train=True, transform=transform)
    loader = DataLoader(Subset(dataset, range(images)), batch_size=config.batch_size, shuffle=True)
    model = models.build(config).to(device)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=config.learning_rate)
    model.train()
    started = time.perf_counter()
    for batch in loader:
        inputs, labels = (tensor.to(device) for tensor in batch)
        optimizer.zero_grad()
        loss = criterion(model(inputs), labels)
        loss.backward()
        optimizer.step()
        loss.item()
    return images / (time.perf_counter() - started)
