"""What this lab hands to the machinery: its configuration, its budgets, and how one of its runs is trained."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Mapping, Sequence
from typing import Any

from labbook.lab import DeviceError, Lab

from cifarlab.config import PRESETS, RunConfig

# Networks up to this width are trained one run per core, each on one thread. That finishes more runs an hour than
# giving each run all cores; measured up to here (results/bench/packing.json, the chapter on speed).
PACKED_WIDTH = 64
# How many GB of a processor's memory to allow for one run's process beside a GPU: PyTorch, its library, the images.
BESIDE_A_GPU = 4
NO_TORCH = (
    "Training needs PyTorch, which is not installed: reading the book does without. "
    "`make train` adds it (about 5.5 GB, some minutes), or `pip install -r requirements-train.txt`."
)


class CifarLab(Lab):
    """ResNet-9 and others on CIFAR-10. PyTorch is imported by what trains, and by nothing else."""

    name = "cifarlab"
    config = RunConfig
    presets = PRESETS
    numeric_modules = tuple(f"cifarlab.{name}" for name in (
        "data", "models", "network", "optimizers", "precision", "schedules", "speednet", "streams", "training",
        "winograd"))
    packages = ("torch", "torchvision", "numpy")
    views = ("one", "mirror", "mirror_shift")

    def training(self, config: RunConfig, device: Any) -> Any:
        """Read the images, split them, and put the network of ``config`` on ``device``.

        Raises:
            DatasetError: CIFAR-10 is missing or damaged.
        """
        from cifarlab import data
        from cifarlab.allocator import keep_freed_memory
        from cifarlab.training import Training

        if device.type == "cpu":
            keep_freed_memory()
        images = data.split(data.load(config), config)
        return Training(config, *(part.to(device) for part in images))

    def dump(self, state: Mapping[str, Any]) -> bytes:
        """A training state as bytes, in PyTorch's format."""
        import torch

        buffer = io.BytesIO()
        torch.save(dict(state), buffer)
        return buffer.getvalue()

    def load(self, content: bytes) -> dict[str, Any]:
        """What :meth:`dump` wrote; tensors and plain values only, so no code in it can run."""
        import torch

        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)

    def choose_device(self, name: str = "auto") -> Any:
        """A GPU where there is one and ``name`` is ``auto`` or ``cuda``; else the processor."""
        if name not in ("auto", "cpu", "cuda"):
            raise DeviceError(
                f"device: {name!r} is not known. Allowed: auto, cpu, cuda. Of several GPUs, CUDA_VISIBLE_DEVICES=1 "
                "chooses one; Apple's are not used.")
        if importlib.util.find_spec("torch") is None:
            raise DeviceError(NO_TORCH)
        import torch

        if name == "cuda" and not torch.cuda.is_available():
            raise DeviceError(
                "device: 'cuda' was asked for, but PyTorch sees no GPU here. Use device auto or cpu, "
                "or install a driver and a CUDA build of torch."
            )
        return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")

    def resolve(self, config: RunConfig, device: Any) -> tuple[RunConfig, str]:
        """Make ``precision: auto`` concrete, and say in one line what was chosen and why."""
        from cifarlab.precision import has_fast_bfloat16

        if device.type == "cuda":
            import torch

            # By default the question counts emulation, which every card has.
            units = torch.cuda.is_bf16_supported(including_emulation=False)
            where = torch.cuda.get_device_name(device)
        else:
            units, where = has_fast_bfloat16(), "this processor"
        # A processor without units computes bfloat16 at least as fast as float32 (cifarlab.precision); a GPU does not.
        fast = units or device.type == "cpu"
        chosen = config.precision if config.precision != "auto" else "bfloat16" if fast else "float32"
        line = f"precision {chosen}" + ("" if config.precision == "auto" else ", as asked")
        if config.precision == "auto" or (chosen == "bfloat16" and not units):
            line += f": {where} has {'' if units else 'no '}bfloat16 units"
            line += "; rounded numbers are multiplied in float32" if chosen == "bfloat16" and not units else ""
        return config.with_(precision=chosen), line

    def check_data(self, configs: Sequence[RunConfig]) -> None:
        """Compare CIFAR-10's files with the official checksums, where a run needs them."""
        if any(config.dataset == "cifar10" for config in configs):
            from cifarlab.data import check_files, cifar10_root

            check_files(cifar10_root())

    def set_threads(self, count: int | None) -> int:
        """Compute on ``count`` threads from here on."""
        import torch

        if count is not None:
            torch.set_num_threads(count)
        return torch.get_num_threads()

    def facts(self, config: RunConfig, device: Any) -> dict[str, Any]:
        """The device's name, the precision and the dataset's checksum."""
        import torch

        from cifarlab.data import dataset_md5

        return {
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
            "precision": config.precision,
            "dataset_md5": dataset_md5() if config.dataset == "cifar10" else None,
        }

    def peak_memory(self, device: Any) -> int | None:
        """The largest memory that tensors took on a GPU so far; None on a processor."""
        if device.type != "cuda":
            return None
        import torch

        return torch.cuda.max_memory_allocated(device)

    def evaluate(self, config: RunConfig, weights: bytes, views: str) -> tuple[Any, Any, Any]:
        """Predict the test images in float32; ``views`` as in :func:`cifarlab.training.predict`."""
        import torch

        from cifarlab import data, models
        from cifarlab.training import predict, reproducible

        device = self.choose_device()
        model = models.build(config).to(device, memory_format=torch.channels_last)
        model.load_state_dict(self.load(weights))
        images = data.load(config, train=False)
        with reproducible(device):  # on a GPU also: TF32 off
            logits = predict(model, images.to(device), config.with_(precision="float32"), views=views)
        return logits.numpy(), images.labels.numpy(), images.pixels.numpy()

    def work(self, config: RunConfig) -> float:
        """The run's arithmetic as far as its size decides it; for the progress bar, which need not be exact."""
        size = config.width**2 * config.kernel_size**2 * max(1, config.depth - 3)
        return float(config.epochs * config.train_images * size)

    def memory(self, config: RunConfig, device: Any) -> float:
        """GB to reserve for one run's process: above the peaks of committed runs, with batches up to 2,000."""
        return BESIDE_A_GPU if device.type == "cuda" else self.network_memory(config)

    def network_memory(self, config: RunConfig) -> float:
        """GB: one for PyTorch, the rest for network and batch, growing with the width and with batches above 2,000."""
        return 1 + 3 * config.width / 64 * max(1, config.batch_size / 2000)

    def at_once(self, configs: Sequence[RunConfig], device: Any, most: int) -> int:
        """On a processor one run a core as long as they are narrow; on a GPU as many as its memory holds."""
        if device.type == "cpu":
            return most if all(config.width <= PACKED_WIDTH for config in configs) else 1
        import torch

        free = torch.cuda.mem_get_info(device)[0] / 1e9
        return max(1, min(most, int(free / max(map(self.network_memory, configs), default=1))))


LAB = CifarLab()
