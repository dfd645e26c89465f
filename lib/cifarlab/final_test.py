"""The test set, read at the end: predictions of finished runs, kept as evidence, and what is computed from them.

A run's predictions are logits on the 10,000 test images, made in float32 from the weights as they are committed (half
precision), so that whoever has the dataset and the committed model can make them again.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cifarlab import store
from cifarlab.config import RunConfig
from cifarlab.errors import LabError
from cifarlab.paths import results_root
from cifarlab.studies import StudyResults

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
        """Softmax of the logits."""
        shifted = np.exp(self.logits - self.logits.max(1, keepdims=True))
        return shifted / shifted.sum(1, keepdims=True)

    @property
    def accuracy(self) -> float:
        """Fraction of images whose predicted class is the true one."""
        return float((self.predicted == self.labels).mean())

    @property
    def loss(self) -> float:
        """Mean cross-entropy in nats."""
        shifted = self.logits - self.logits.max(1, keepdims=True)
        log_sum = np.log(np.exp(shifted).sum(1))
        return float((log_sum - shifted[np.arange(len(self.labels)), self.labels]).mean())

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
        confidence = self.probabilities.max(1)
        wrong = np.flatnonzero(self.predicted != self.labels)
        return wrong[np.argsort(-confidence[wrong], kind="stable")[:count]]


def predictions_path(run_id: str, views: str = "one") -> Path:
    """Where a run's test predictions are committed; those averaged over several views lie beside the plain ones."""
    return results_root() / "predictions" / (f"{run_id}.npz" if views == "one" else f"{run_id}.{views}.npz")


def model_path(run_id: str) -> Path:
    """Where the half-precision weights of a quoted run are committed."""
    return results_root() / "models" / f"{run_id}.pt"


def evaluated(config: RunConfig, views: str = "one") -> bool:
    """Whether the run's predictions are kept."""
    return predictions_path(config.id, views).is_file()


def weights(config: RunConfig) -> Path | None:
    """The run's weights, where they are committed or else where the machine that trained it keeps them."""
    from cifarlab import runner

    places = (model_path(config.id), runner.weights_path(config.id))
    return next((place for place in places if place.is_file()), None)


def predictions(config: RunConfig, views: str = "one") -> Predictions:
    """The test predictions of a finished run: those committed, else made now from its weights and written.

    ``views`` as in :func:`cifarlab.training.predict`: ``mirror`` and ``mirror_shift`` average over several views.

    Raises:
        NoPredictionsError: there is neither. DatasetError: the test images are needed and not there.
    """
    path = predictions_path(config.id, views)
    if not path.is_file():
        found = compute(config, views)
        buffer = io.BytesIO()
        np.savez_compressed(
            buffer, logits=found.logits.astype(np.float16), labels=found.labels.astype(np.uint8),
            pictures=found.pictures,
        )
        store.write_bytes(path, buffer.getvalue())
    with np.load(path) as file:
        return Predictions(
            file["logits"].astype(np.float32), file["labels"].astype(np.int64), file["pictures"]
        )


def compute(config: RunConfig, views: str = "one") -> Predictions:
    """Evaluate the run's weights on the test set. Raises as :func:`predictions`."""
    import torch

    from cifarlab import data, models, runner, training

    path = weights(config)
    if path is None:
        places = (model_path(config.id), runner.weights_path(config.id))
        raise NoPredictionsError(
            f"{config.id}: its predictions are not in {predictions_path(config.id).parent}, and its weights, which "
            f"only the machine that trained it keeps, are neither in {places[0].parent} nor in {places[1].parent}. "
            f"To make them, move {store.path_of(config.id).name} away and run it again."
        )
    model = models.build(config).to(memory_format=torch.channels_last)
    model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    images = data.load(config, train=False)
    logits = training.predict(model, images, config.with_(precision="float32"), views=views)
    # The mistakes are ranked as a reader of the half-precision file will rank them.
    rounded = logits.half().float().numpy()
    found = Predictions(rounded, images.labels.numpy(), np.empty(0))
    pictures = images.pixels.numpy()[found.most_confident_mistakes()]
    return Predictions(rounded, images.labels.numpy(), pictures)


def choose(results: StudyResults) -> str:
    """The level with the highest mean validation accuracy after the last epoch: what the test set is read for."""
    return max(results.levels, key=lambda level: results.values("val_accuracy", level).mean())


def chosen_runs(results: StudyResults) -> dict[int, RunConfig]:
    """The configurations of the chosen level's runs that did not diverge, by seed."""
    return runs_of(results, choose(results))


def runs_of(results: StudyResults, level: str) -> dict[int, RunConfig]:
    """The configurations of a level's runs that did not diverge, by seed."""
    rows = results.runs[(results.runs["level"] == level) & ~results.runs["diverged"]].set_index("seed").sort_index()
    return {int(seed): results.configs[run_id] for seed, run_id in rows["id"].items()}


def keep_model(config: RunConfig) -> Path:
    """Copy a run's half-precision weights from the scratch folder to where they are committed."""
    from cifarlab import runner

    path = model_path(config.id)
    if not path.is_file():
        store.write_bytes(path, runner.weights_path(config.id).read_bytes())
    return path
