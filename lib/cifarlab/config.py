"""What one run is: every choice that can change its numbers, grouped by concern, and the named budgets.

Reads and checks values only; imports neither torch nor any data.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

from labbook.errors import ConfigError
from labbook.lab import Config
from pydantic import Field, model_validator

Augment = Literal["none", "flip", "flip_crop", "flip_crop_cutout", "alternating_flip_shift"]
Schedule = Literal["constant", "warmup_cosine", "warmup_constant", "step", "exponential", "linear", "one_cycle"]

# Schedules that begin with a warm-up.
WITH_WARMUP = ("warmup_cosine", "warmup_constant", "one_cycle")

# Budgets: how much of an experiment, never what is studied.
PRESETS: dict[str, dict[str, Any]] = {
    # Seconds, on synthetic images: for tests only, never for a number in the book.
    "smoke": {
        "dataset": "synthetic", "train_images": 256, "val_images": 128, "width": 4,
        "epochs": 2, "batch_size": 64, "precision": "float32",
    },
    # About a minute a run on two processor cores with bfloat16 units.
    "laptop": {"width": 16, "epochs": 5, "precision": "bfloat16"},
    # The original's budget: full width, twenty epochs.
    "report": {"width": 64, "epochs": 20, "precision": "bfloat16"},
}
# So many training images are used to judge how well the finished network fits them, for a twelfth of an epoch's
# arithmetic.
FIT_IMAGES = 10_000


def choice(default: Any, description: str, **limits: Any) -> Any:
    """A field of :class:`RunConfig`: its default, its limits and its line of documentation."""
    return Field(default, description=description, **limits)


class RunConfig(Config):
    """Every choice that can change a run's numbers. A default is never changed: ids hash what differs from it."""

    # Dropped fields, each with the only value that stored runs have; see labbook.lab.Config.
    retired: ClassVar[dict[str, Any]] = {"compiled": False}
    # Fields counted in epochs: a run of another length keeps their share of it.
    shares: ClassVar[tuple[str, ...]] = ("warmup_epochs", "low_resolution_epochs", "whitening_bias_epochs")

    # --- data: which images, and what is done to them -------------------------------------------------------------
    dataset: Literal["cifar10", "synthetic"] = choice("cifar10", "CIFAR-10, or patterns made for tests")
    train_images: int = choice(40_000, "images trained on", ge=1, le=50_000)
    val_images: int = choice(10_000, "images held out for validation; 0: none", ge=0, le=50_000)
    split_seed: int = choice(0, "seed of the split into training and validation images", ge=0, lt=2**53)
    input_norm: Literal["none", "half", "channel"] = choice(
        "half", "scaling of pixels: none, by 0.5 and 0.5, or by each channel's mean and deviation")
    augment: Augment = choice("none", "random changes of the training images")
    low_resolution: int = choice(0, "side of the images in the first epochs, SpeedNet only; 0: 32 throughout",
                                 ge=0, le=32)
    low_resolution_epochs: float = choice(0.0, "epochs with smaller images", ge=0, le=1000)
    low_resolution_stages: int = choice(1, "equal stages in which the side grows to 32", ge=1, le=16)

    # --- model: the network and its size --------------------------------------------------------------------------
    model: Literal["resnet9", "plaincnn", "speednet"] = choice("resnet9", "the network")
    width: int = choice(64, "channels of the first convolution", ge=1, le=1024)
    depth: int = choice(9, "weighted layers; odd from 5 (resnet9), 4 (plaincnn)", ge=3, le=201)
    kernel_size: int = choice(3, "side of every convolution's kernel; odd", ge=1, le=15)
    norm: Literal["none", "batch", "layer", "group", "instance"] = choice(
        "batch", "normalization after each convolution")
    dropout: float = choice(0.0, "probability with which dropout switches a value off", ge=0, lt=1)
    dropout_at: Literal["classifier", "blocks"] = choice(
        "classifier", "single values before the classifier, or whole feature maps after each stage")
    shortcut: bool = choice(True, "identity shortcuts around the residual blocks")
    block_convolutions: int = choice(2, "convolutions in a residual block", ge=1, le=2)
    block_kernel_size: int = choice(0, "side of the residual blocks' kernels; odd; 0: as kernel_size", ge=0, le=15)

    # --- optimization: how the weights move -----------------------------------------------------------------------
    optimizer: Literal["sgd", "adam", "adamw", "muon"] = choice("adam", "the optimizer")
    learning_rate: float = choice(0.01, "peak learning rate", gt=0, le=10)
    momentum: float = choice(0.9, "momentum of SGD and Muon, beta1 of Adam", ge=0, lt=1)
    weight_decay: float = choice(0.0, "weight decay", ge=0, le=1)
    label_smoothing: float = choice(0.0, "share of the target spread over all classes", ge=0, lt=1)
    whitening_bias_epochs: float = choice(
        0.0, "epochs in which SpeedNet's first biases are trained; 0: all", ge=0, le=1000)

    # --- schedule: how long, and how the learning rate changes ----------------------------------------------------
    epochs: int = choice(20, "passes over the training images", ge=1, le=1000)
    batch_size: int = choice(128, "images an optimizer step", ge=2, le=50_000)
    schedule: Schedule = choice("constant", "how the learning rate changes over the run")
    warmup_epochs: float = choice(2.0, "epochs of linear warm-up, where the schedule has one", ge=0, le=1000)
    warmup_offset: float = choice(0.01, "the original's addend to the warm-up factor", ge=0, le=1)

    # --- numerics and chance --------------------------------------------------------------------------------------
    precision: Literal["float32", "bfloat16", "auto"] = choice("float32", "number format of the products")
    seed: int = choice(0, "seed of first weights, order of images, augmentation and dropout", ge=0, lt=2**53)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for name in ("kernel_size", "block_kernel_size"):
            if (size := getattr(self, name)) and size % 2 == 0:
                raise ValueError(f"{name}: {size} is even; allowed: 1, 3, 5, 7, …")
        if self.model == "resnet9" and (self.depth < 5 or self.depth % 2 == 0):
            raise ValueError(f"depth: {self.depth} is not a depth of resnet9; allowed: 5, 7, 9, 11, …")
        if self.low_resolution and self.model != "speednet":
            raise ValueError(f"low_resolution: {self.low_resolution} needs model 'speednet'; the others need 32 x 32")
        if self.low_resolution and self.low_resolution < 16:
            raise ValueError(f"low_resolution: {self.low_resolution} is refused: nothing would be left; at least 16")
        if self.train_images + self.val_images > 50_000:
            raise ValueError(
                f"train_images + val_images: {self.train_images + self.val_images} is more than the 50000 there are"
            )
        if self.schedule in WITH_WARMUP and self.warmup_epochs > self.epochs:
            raise ValueError(
                f"warmup_epochs: {self.warmup_epochs:g} is refused: the run has {self.epochs} epochs, so the warm-up "
                "would not end"
            )
        if self.optimizer == "muon" and self.norm == "none" and self.model != "speednet":
            raise ValueError("optimizer: 'muon' scales every filter, and with norm 'none' that changes the network")
        for name, value in self._without_effect().items():
            object.__setattr__(self, name, value)  # the model is frozen
        return self

    def _without_effect(self) -> dict[str, Any]:
        """Fields without effect beside the others, and their neutral values: two studies that mean the same run share
        it."""
        neutral: dict[str, Any] = {}
        if self.schedule not in WITH_WARMUP:
            neutral["warmup_epochs"] = 2.0
        if self.schedule not in ("warmup_cosine", "warmup_constant") or self.warmup_epochs == 0:
            neutral["warmup_offset"] = 0.01
        if self.optimizer == "muon":
            neutral["weight_decay"] = 0.0
        if self.dropout == 0:
            neutral["dropout_at"] = "classifier"
        if not self.low_resolution or not self.low_resolution_epochs:
            neutral |= {"low_resolution": 0, "low_resolution_epochs": 0.0, "low_resolution_stages": 1}
        if self.model != "speednet" or self.whitening_bias_epochs >= self.epochs:
            neutral["whitening_bias_epochs"] = 0.0
        if self.block_kernel_size == self.kernel_size:
            neutral["block_kernel_size"] = 0
        if self.model != "resnet9" or self.depth == 5:
            # Neither has a residual block.
            neutral |= {"shortcut": True, "block_convolutions": 2, "block_kernel_size": 0}
        if self.model == "plaincnn":
            neutral["depth"] = 4
        if self.model == "speednet":
            # Its shape is fixed but for the width.
            neutral |= {"depth": 9, "kernel_size": 3, "norm": "batch", "dropout": 0.0, "dropout_at": "classifier"}
        return neutral

    @property
    def name(self) -> str:
        """The network, its width, the run's length, its schedule and seed: ``resnet9-w16-e5-warmup-cosine-s0``."""
        network = self.model
        if self.model == "resnet9":
            network = f"{'resnet' if self.shortcut else 'plain'}{self.depth}"
        synthetic = "synthetic-" if self.dataset == "synthetic" else ""
        return f"{synthetic}{network}-w{self.width}-e{self.epochs}-{self.schedule.replace('_', '-')}-s{self.seed}"

    @property
    def id(self) -> str:
        """As :attr:`labbook.lab.Config.id`.

        Raises:
            ConfigError: the precision is still ``auto``; it is resolved before a run has an identity.
        """
        if self.precision == "auto":
            raise ConfigError("precision: 'auto' must be resolved to float32 or bfloat16 before the run has an id")
        return super().id
