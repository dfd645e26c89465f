"""The test set's predictions of finished runs, kept as evidence, and the weights from which they are made.

A run's predictions are logits on the test images, made in float32 from the weights as they are committed (half
precision), so that whoever has the dataset and the committed model can make them again.
"""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.special import logsumexp, softmax

from labbook.errors import LabError
from labbook.lab import Config, the_lab
from labbook.paths import results_root
from labbook.runs import scratch, store
from labbook.runs.files import quarantine, read_bytes, write_bytes

MISTAKES = 12


class NoPredictionsError(LabError):
    """A run has neither committed predictions nor weights to make them from."""


@dataclass(frozen=True)
class Predictions:
    """``logits`` (N, classes) float32 and ``labels`` (N,) int64, in the test set's order.

    ``pictures`` (up to 12, height, width, channels) uint8 are the images of :meth:`most_confident_mistakes`, so that
    they can be shown where the dataset is not.

    Raises:
        ValueError: shapes or types do not fit, a logit is no number, or a label is no class.
    """

    logits: np.ndarray
    labels: np.ndarray
    pictures: np.ndarray

    def __post_init__(self) -> None:
        count, classes = self.logits.shape if self.logits.ndim == 2 else (0, 0)
        if not count or self.labels.shape != (count,) or not np.isfinite(self.logits).all():
            raise ValueError("its logits or labels have a wrong shape, or are no numbers")
        if self.labels.min() < 0 or self.labels.max() >= classes:
            raise ValueError(f"a label is not one of 0 to {classes - 1}")
        shown = self.pictures
        if shown.size and (shown.ndim != 4 or shown.dtype != np.uint8 or len(shown) != len(
                self.most_confident_mistakes())):
            raise ValueError("its pictures are not those of its mistakes")

    @property
    def predicted(self) -> np.ndarray:
        """The predicted class of each image."""
        return self.logits.argmax(1)

    @property
    def probabilities(self) -> np.ndarray:
        """Softmax (N, classes) of the logits, float64: float32 makes a certainty of what is nearly one."""
        return softmax(self.logits.astype(np.float64), axis=1)

    @property
    def doubt(self) -> np.ndarray:
        """The probability (N,) of all classes but the predicted one together; it keeps its digits where it is tiny."""
        others = self.probabilities
        others[np.arange(len(others)), self.predicted] = 0
        return others.sum(1)

    @property
    def accuracy(self) -> float:
        """Fraction of images whose predicted class is the true one."""
        return float((self.predicted == self.labels).mean())

    @property
    def loss(self) -> float:
        """Mean cross-entropy in nats."""
        true_logits = self.logits[np.arange(len(self.labels)), self.labels]
        return float((logsumexp(self.logits, axis=1) - true_logits).mean())

    def confusion(self) -> np.ndarray:
        """Counts (classes, classes): row the true class, column the predicted one."""
        classes = self.logits.shape[1]
        matrix = np.zeros((classes, classes), dtype=int)
        np.add.at(matrix, (self.labels, self.predicted), 1)
        return matrix

    def most_confident_mistakes(self, count: int = MISTAKES) -> np.ndarray:
        """Indices of the wrong predictions made with the highest probability, highest first."""
        wrong = np.flatnonzero(self.predicted != self.labels)
        return wrong[np.argsort(self.doubt[wrong], kind="stable")[:count]]


def predictions_path(run_id: str, views: str = "one") -> Path:
    """Where a run's test predictions are committed; those averaged over several views lie beside the plain ones."""
    return results_root() / "predictions" / (f"{run_id}.npz" if views == "one" else f"{run_id}.{views}.npz")


def kept_views(run_id: str) -> list[str]:
    """The views for which a run's test predictions are committed, in the order of their names; ``one`` is the plain."""
    folder, plain = predictions_path(run_id).parent, f"{run_id}.npz"
    found = [path.name for path in folder.glob(f"{run_id}.*npz")]
    return sorted("one" if name == plain else name.removesuffix(".npz").removeprefix(f"{run_id}.") for name in found)


def model_path(run_id: str) -> Path:
    """Where the half-precision weights of a quoted run are committed."""
    return results_root() / "models" / f"{run_id}.pt"


def evaluated(config: Config, views: str = "one") -> bool:
    """Whether the run's predictions are kept; a damaged file is set aside and counts as none."""
    return read(config.id, views) is not None


def weights(config: Config) -> Path | None:
    """The run's weights, where they are committed or else where the machine that trained it keeps them."""
    places = (model_path(config.id), scratch.weights_path(config.id))
    return next((place for place in places if place.is_file()), None)


def predictions(config: Config, views: str = "one") -> Predictions:
    """The test predictions of a finished run: those committed, else made now from its weights and written.

    A damaged file is set aside with a warning and counts as none. ``views`` are those over which the lab can average.

    Raises:
        NoPredictionsError: there is neither. DatasetError: the test images are needed and not there.
    """
    if found := read(config.id, views):
        return found
    found = compute(config, views)
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer, logits=found.logits.astype(np.float16), labels=found.labels.astype(np.uint8), pictures=found.pictures
    )
    write_bytes(predictions_path(config.id, views), buffer.getvalue())
    return found


def read(run_id: str, views: str = "one") -> Predictions | None:
    """A run's committed predictions, or None; a damaged file is set aside with a warning and counts as none."""
    path = predictions_path(run_id, views)
    if (content := read_bytes(path)) is None:
        return None
    try:
        with np.load(io.BytesIO(content)) as file:
            return Predictions(file["logits"].astype(np.float32), file["labels"].astype(np.int64), file["pictures"])
    except MemoryError:
        raise
    except Exception as error:  # a file is input: NumPy raises a dozen kinds for a damaged one
        quarantine(
            path, f"The predictions {path.name} are damaged ({type(error).__name__})",
            "Restore them from git, or make them again from the run's weights.",
        )
        return None


def again(config: Config, views: str = "one") -> str:
    """Evaluate a run's weights anew, and say how far that agrees with its committed predictions: one sentence.

    Raises:
        NoPredictionsError: it was not evaluated before, or its weights are not here. DatasetError: the test images are
            not there.
    """
    if (before := read(config.id, views)) is None:
        raise NoPredictionsError(f"{config.id}: {predictions_path(config.id, views)} is not there to compare with.")
    found = compute(config, views)
    same = int((found.predicted == before.predicted).sum())
    return (f"test accuracy {100 * found.accuracy:.2f} %, committed {100 * before.accuracy:.2f} %; "
            f"{same:,} of {len(before.labels):,} predictions are the same")


def compute(config: Config, views: str = "one") -> Predictions:
    """Evaluate the run's weights on the test set. Raises as :func:`predictions`."""
    path, content = _needed_weights(config)
    try:
        if damaged := zipfile.ZipFile(io.BytesIO(content)).testzip():  # PyTorch takes no notice of the checksums
            raise ValueError(f"{damaged} has changed")
        logits, labels, images = the_lab().evaluate(config, content, views)
    except (MemoryError, LabError):
        raise
    except Exception as error:  # PyTorch raises many kinds for a file that is not what it should be
        raise NoPredictionsError(
            f"The weights {path} are damaged or another network's ({type(error).__name__}). Restore them from git, or "
            f"move them and {store.path_of(config.id).name} away and run it again."
        ) from error
    # The mistakes are ranked as a reader of the half-precision file will rank them.
    rounded = logits.astype(np.float16).astype(np.float32)
    mistakes = Predictions(rounded, labels, np.empty(0)).most_confident_mistakes()
    return Predictions(rounded, labels, images[mistakes])


def keep_model(config: Config) -> Path:
    """Copy a run's half-precision weights from the scratch folder to where they are committed.

    Raises:
        NoPredictionsError: they are on another machine.
    """
    path = model_path(config.id)
    if not path.is_file():
        write_bytes(path, _needed_weights(config)[1])
    return path


def _needed_weights(config: Config) -> tuple[Path, bytes]:
    """Where the run's weights lie, and their content; raises NoPredictionsError where there are none."""
    if (path := weights(config)) and (content := read_bytes(path)) is not None:
        return path, content
    raise NoPredictionsError(
        f"{config.id}: its weights, which only the machine that trained it keeps, are neither in "
        f"{model_path(config.id).parent} nor in {scratch.weights_path(config.id).parent}. Its test predictions are "
        f"made from them where {predictions_path(config.id).parent} has none. "
        f"To make them, move {store.path_of(config.id).name} away and run it again."
    )
