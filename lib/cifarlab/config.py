"""What one run is: a frozen, validated :class:`RunConfig`, its id, and the named budgets.

Reads and checks values only; imports neither torch nor any data.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Literal, Self, get_args

from labbook.errors import ConfigError, did_you_mean
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

Model = Literal["resnet9", "plaincnn", "speednet"]
Norm = Literal["none", "batch", "layer", "group", "instance"]
DropoutAt = Literal["classifier", "blocks"]
Augment = Literal["none", "flip", "flip_crop", "flip_crop_cutout", "alternating_flip_shift"]
InputNorm = Literal["none", "half", "channel"]
Optimizer = Literal["sgd", "adam", "adamw", "muon"]
Schedule = Literal["constant", "warmup_cosine", "warmup_constant", "step", "exponential", "linear", "one_cycle"]
Precision = Literal["float32", "bfloat16", "auto"]

# Schedules that begin with a warm-up.
WITH_WARMUP = ("warmup_cosine", "warmup_constant", "one_cycle")

# Budgets: how much of an experiment, never what is studied.
PRESETS: dict[str, dict[str, Any]] = {
    # Seconds, on synthetic images: for tests only, never for a number in the book.
    "smoke": {
        "dataset": "synthetic", "train_images": 256, "val_images": 128, "width": 4,
        "epochs": 2, "batch_size": 64, "precision": "float32",
    },
    # About a minute a run on two processor cores.
    "laptop": {"width": 16, "epochs": 5, "precision": "bfloat16"},
    # The original's budget: full width, twenty epochs.
    "report": {"width": 64, "epochs": 20, "precision": "bfloat16"},
}
# On so many training images the finished network is judged: enough to see how well it fits them, for a twelfth of an
# epoch's arithmetic.
FIT_IMAGES = 10_000


class RunConfig(BaseModel):
    """Every choice that can change a run's numbers. Where it ran is provenance and does not belong here."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    # data
    dataset: Literal["cifar10", "synthetic"] = "cifar10"
    train_images: int = Field(40_000, ge=1, le=50_000, description="images trained on")
    val_images: int = Field(10_000, ge=0, le=50_000, description="images held out; 0: no validation")
    split_seed: int = Field(0, ge=0, description="seed of the training/validation split")
    input_norm: InputNorm = "half"
    augment: Augment = "none"
    # model
    model: Model = "resnet9"
    width: int = Field(64, ge=1, le=1024, description="channels of the first convolution")
    depth: int = Field(9, ge=3, le=201, description="weighted layers (ResNet9: odd, from 5; PlainCNN: 4)")
    kernel_size: int = Field(3, ge=1, le=15, description="side of every convolution; odd")
    norm: Norm = "batch"
    dropout: float = Field(0.0, ge=0, lt=1)
    dropout_at: DropoutAt = "classifier"
    shortcut: bool = True
    block_convolutions: int = Field(2, ge=1, le=2, description="convolutions in a residual block")
    block_kernel_size: int = Field(0, ge=0, le=15, description="side of the blocks' kernels; 0: as kernel_size; odd")
    low_resolution: int = Field(0, ge=0, le=32, description="side of the images in the first epochs; 0: as they are")
    low_resolution_epochs: float = Field(0.0, ge=0, le=1000)
    low_resolution_stages: int = Field(1, ge=1, le=16, description="equal stages in which that side grows towards 32")
    # training
    optimizer: Optimizer = "adam"
    learning_rate: float = Field(0.01, gt=0, le=10)
    momentum: float = Field(0.9, ge=0, lt=1, description="SGD's and Muon's momentum, Adam's beta1")
    weight_decay: float = Field(0.0, ge=0, le=1)
    batch_size: int = Field(128, ge=2, le=50_000)
    epochs: int = Field(20, ge=1, le=1000)
    schedule: Schedule = "constant"
    warmup_epochs: float = Field(2.0, ge=0, le=1000)
    warmup_offset: float = Field(0.01, ge=0, le=1, description="the original's addend to the warm-up factor")
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    whitening_bias_epochs: float = Field(
        0.0, ge=0, le=1000, description="epochs in which SpeedNet's first biases are trained; 0: all")
    precision: Precision = "float32"
    compiled: bool = Field(False, description="torch.compile, on a GPU with CUDA graphs")
    seed: int = Field(0, ge=0)

    @model_validator(mode="before")
    @classmethod
    def _whole_floats(cls, values: Any) -> Any:
        # `-p learning_rate 1` arrives as an int; strict mode would refuse it for a float field.
        if not isinstance(values, dict):
            return values
        floats = {name for name, field in cls.model_fields.items() if field.annotation is float}
        return {
            name: float(value) if name in floats and isinstance(value, int) and not isinstance(value, bool) else value
            for name, value in values.items()
        }

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
        # A field without effect takes its neutral value, so that two studies that mean the same run share it.
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
        for name, value in neutral.items():
            object.__setattr__(self, name, value)
        return self

    @classmethod
    def of(cls, **values: Any) -> Self:
        """Build a configuration.

        Raises:
            ConfigError: one clear line per wrong value: the field, the value, what is allowed.
        """
        try:
            return cls(**values)
        except ValidationError as error:
            raise ConfigError("\n".join(_sentence(cls, problem) for problem in error.errors())) from None

    def with_(self, **changes: Any) -> Self:
        """Return a copy with ``changes`` made and checked."""
        return type(self).of(**(self.model_dump() | changes))

    @property
    def id(self) -> str:
        """A readable slug and eight hex digits of the fields that differ from the defaults.

        Hashing only the differences keeps today's ids valid when a later version adds a field.

        Raises:
            ConfigError: the precision is still ``auto``; it is resolved before a run has an identity.
        """
        if self.precision == "auto":
            raise ConfigError("precision: 'auto' must be resolved to float32 or bfloat16 before the run has an id")
        changed = self.model_dump(exclude_defaults=True)
        digest = digest_of(changed)
        name = self.model
        if self.model == "resnet9":
            name = f"{'resnet' if self.shortcut else 'plain'}{self.depth}"
        synthetic = "synthetic-" if self.dataset == "synthetic" else ""
        schedule = self.schedule.replace("_", "-")
        return f"{synthetic}{name}-w{self.width}-e{self.epochs}-{schedule}-s{self.seed}-{digest}"


def digest_of(changed: dict[str, Any]) -> str:
    """The end of a run's id: eight hex digits of the fields that differ from the defaults."""
    return hashlib.sha256(json.dumps(changed, sort_keys=True).encode()).hexdigest()[:8]


def _sentence(cls: type[RunConfig], problem: Any) -> str:
    """Turn one of pydantic's problems into a line with the field, the value and the remedy."""
    if not problem["loc"]:
        return problem["msg"].removeprefix("Value error, ")
    name, value = str(problem["loc"][0]), problem["input"]
    if problem["type"] == "extra_forbidden":
        fields = list(cls.model_fields)
        return f"unknown parameter {name!r}{did_you_mean(name, fields)}. Known: {', '.join(fields)}."
    annotation = cls.model_fields[name].annotation
    allowed = [str(choice) for choice in get_args(annotation)]
    if allowed:
        return f"{name}: {value!r} is not known{did_you_mean(value, allowed)}. Allowed: {', '.join(allowed)}."
    sentence = f"{name}: {value!r} is refused: {problem['msg'][0].lower()}{problem['msg'][1:]}."
    try:
        return f"{sentence} It is text to YAML: write {float(value)!r}." if isinstance(value, str) else sentence
    except ValueError:
        return sentence
