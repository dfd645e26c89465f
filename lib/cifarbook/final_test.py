"""The test set, read at the end: predictions of finished runs, kept as evidence, and what is computed from them.

A run's predictions are logits on the 10,000 test images, made in float32 from the weights as they are committed (half
precision), so that whoever has the dataset and the committed model can make them again.
"""

from __future__ import annotations

import io
import pickle
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from cifarlab.config import RunConfig
from labbook.errors import LabError
from labbook.paths import results_root
from labbook.runs import execution, store
from labbook.studies.results import StudyResults
from scipy.special import logsumexp, softmax

MISTAKES = 12
# Over which views the speedrun's predictions are averaged; see cifarlab.training.predict.
SPEEDRUN_VIEWS = "mirror_shift"


class NoPredictionsError(LabError):
    """A run has neither committed predictions nor weights to make them from."""


@dataclass(frozen=True)
class Predictions:
    """``logits`` (N, 10) float32 and ``labels`` (N,) int64, in the test set's order.

    ``pictures`` (12, 32, 32, 3) uint8 are the images of :meth:`most_confident_mistakes`, so that they can be shown
    where the dataset is not.
    """

    logits: np.ndarray
    labels: np.ndarray
    pictures: np.ndarray

    @property
    def predicted(self) -> np.ndarray:
        """The predicted class of each image."""
        return self.logits.argmax(1)

    @property
    def probabilities(self) -> np.ndarray:
        """Softmax (N, 10) of the logits, float64: float32 makes a certainty of what is nearly one."""
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
        """Counts (10, 10): row the true class, column the predicted one."""
        matrix = np.zeros((10, 10), dtype=int)
        np.add.at(matrix, (self.labels, self.predicted), 1)
        return matrix

    def class_accuracy(self) -> np.ndarray:
        """Accuracy (10,) on the images of each class."""
        matrix = self.confusion()
        return np.diag(matrix) / matrix.sum(1)

    def most_confident_mistakes(self, count: int = MISTAKES) -> np.ndarray:
        """Indices of the wrong predictions made with the highest probability, highest first."""
        wrong = np.flatnonzero(self.predicted != self.labels)
        return wrong[np.argsort(self.doubt[wrong], kind="stable")[:count]]


def predictions_path(run_id: str, views: str = "one") -> Path:
    """Where a run's test predictions are committed; those averaged over several views lie beside the plain ones."""
    return results_root() / "predictions" / (f"{run_id}.npz" if views == "one" else f"{run_id}.{views}.npz")


def model_path(run_id: str) -> Path:
    """Where the half-precision weights of a quoted run are committed."""
    return results_root() / "models" / f"{run_id}.pt"


def evaluated(config: RunConfig, views: str = "one") -> bool:
    """Whether the run's predictions are kept; a damaged file is set aside and counts as none."""
    return _read(predictions_path(config.id, views)) is not None


def weights(config: RunConfig) -> Path | None:
    """The run's weights, where they are committed or else where the machine that trained it keeps them."""
    places = (model_path(config.id), execution.weights_path(config.id))
    return next((place for place in places if place.is_file()), None)


def _needed_weights(config: RunConfig) -> Path:
    """Like :func:`weights`; raises NoPredictionsError where they are in neither place."""
    if path := weights(config):
        return path
    raise NoPredictionsError(
        f"{config.id}: its weights, which only the machine that trained it keeps, are neither in "
        f"{model_path(config.id).parent} nor in {execution.weights_path(config.id).parent}. Its test predictions are "
        f"made from them where {predictions_path(config.id).parent} has none. "
        f"To make them, move {store.path_of(config.id).name} away and run it again."
    )


def predictions(config: RunConfig, views: str = "one") -> Predictions:
    """The test predictions of a finished run: those committed, else made now from its weights and written.

    A damaged file is set aside with a warning and counts as none. ``views`` as in
    :func:`cifarlab.training.predict`: ``mirror`` and ``mirror_shift`` average over several views.

    Raises:
        NoPredictionsError: there is neither. DatasetError: the test images are needed and not there.
    """
    path = predictions_path(config.id, views)
    if found := _read(path):
        return found
    found = compute(config, views)
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer, logits=found.logits.astype(np.float16), labels=found.labels.astype(np.uint8), pictures=found.pictures
    )
    store.write_bytes(path, buffer.getvalue())
    return found


def _read(path: Path) -> Predictions | None:
    if not path.is_file():
        return None
    try:
        with np.load(path) as file:
            return Predictions(
                file["logits"].astype(np.float32), file["labels"].astype(np.int64), file["pictures"]
            )
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, ValueError) as error:
        store.put_aside(
            path, f"The predictions {path.name} are damaged ({type(error).__name__})",
            "Restore them from git, or make them again from the run's weights.",
        )
        return None


def again(config: RunConfig, views: str = "one") -> str:
    """Evaluate a run's weights anew, and say how far that agrees with its committed predictions: one sentence.

    Raises:
        NoPredictionsError: it was not evaluated before, or its weights are not here. DatasetError: the test images are
            not there.
    """
    path = predictions_path(config.id, views)
    if (before := _read(path)) is None:
        raise NoPredictionsError(f"{config.id}: {path} is not there to compare with.")
    found = compute(config, views)
    same = int((found.predicted == before.predicted).sum())
    return (f"test accuracy {100 * found.accuracy:.2f} %, committed {100 * before.accuracy:.2f} %; "
            f"{same:,} of {len(before.labels):,} predictions are the same")


def compute(config: RunConfig, views: str = "one") -> Predictions:
    """Evaluate the run's weights on the test set. Raises as :func:`predictions`."""
    import torch
    from cifarlab import data, models, training
    from labbook.runs import runner

    device = runner.choose_device()
    path = _needed_weights(config)
    model = models.build(config).to(device, memory_format=torch.channels_last)
    try:
        model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except (RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        raise NoPredictionsError(
            f"The weights {path} are damaged or another network's ({type(error).__name__}). Restore them from git, or "
            f"move them and {store.path_of(config.id).name} away and run it again."
        ) from error
    images = data.load(config, train=False)
    with training.reproducible(device):  # on a GPU also: with float32's own products
        logits = training.predict(model, images.to(device), config.with_(precision="float32"), views=views)
    # The mistakes are ranked as a reader of the half-precision file will rank them.
    rounded = logits.half().float().numpy()
    found = Predictions(rounded, images.labels.numpy(), np.empty(0))
    pictures = images.pixels.numpy()[found.most_confident_mistakes()]
    return Predictions(rounded, images.labels.numpy(), pictures)


def choose(results: StudyResults) -> str:
    """The level with the highest mean validation accuracy after the last epoch: what the test set is read for.

    Compared over the seeds that all levels share. A level of which a run diverged is chosen only where that is so of
    every level.

    Raises:
        LabError: no level has a run that did not diverge, or the levels share no seed.
    """
    runs = results.runs
    diverged = set(runs[runs["diverged"]]["level"])
    levels = [level for level in results.levels if level not in diverged] or results.levels
    values = {level: results.values("val_accuracy", level) for level in levels}
    shared = sorted(set.intersection(*(set(column.index) for column in values.values()))) if values else []
    if not shared:
        raise LabError(
            f"study {results.study.name!r}: no level can be chosen, as there is no seed of which every level has a run "
            f"that did not diverge. `make results STUDY={results.study.name}` trains what is missing."
        )
    return max(levels, key=lambda level: values[level][shared].mean())


def chosen_runs(results: StudyResults) -> dict[int, RunConfig]:
    """The configurations of the chosen level's runs that did not diverge, by seed."""
    return runs_of(results, choose(results))


def runs_of(results: StudyResults, level: str) -> dict[int, RunConfig]:
    """The configurations of a level's runs that did not diverge, by seed."""
    rows = results.runs[(results.runs["level"] == level) & ~results.runs["diverged"]].set_index("seed").sort_index()
    return {int(seed): results.configs[run_id] for seed, run_id in rows["id"].items()}


def readable(results: StudyResults, level: str, views: str = "one") -> dict[int, RunConfig]:
    """The runs of a level whose test predictions a page shows, by seed: those kept as evidence.

    With other parameters than the study's own, also those whose weights are here to make them from. A page of the
    study's own runs makes none: the command ``final-test`` does, when the study is finished.

    Raises:
        NoPredictionsError: there is none.
    """
    found = {
        seed: config for seed, config in runs_of(results, level).items()
        if evaluated(config, views) or (results.changed and weights(config))
    }
    if not found:
        averaged = "" if views == "one" else f" --views {views}"
        raise NoPredictionsError(
            f"study {results.study.name!r}: no run of {level!r} has been evaluated on the test set. "
            f"`python -m labbook final-test {results.study.name}{averaged}` does that."
        )
    return found


def keep_model(config: RunConfig) -> Path:
    """Copy a run's half-precision weights from the scratch folder to where they are committed.

    Raises:
        NoPredictionsError: they are on another machine.
    """
    path = model_path(config.id)
    if not path.is_file():
        store.write_bytes(path, _needed_weights(config).read_bytes())
    return path
