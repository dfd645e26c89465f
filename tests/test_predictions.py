"""A run's test predictions: what is computed from them, what is not believed, and that they are the model's."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from cifarlab import data
from cifarlab.config import PRESETS, RunConfig
from labbook.errors import LabError
from labbook.lab import the_lab
from labbook.paths import project_root
from labbook.runs import files, store
from labbook.runs import predictions as evidence
from labbook.studies import study as studies


def toy() -> evidence.Predictions:
    logits = np.full((4, 10), -10.0, dtype=np.float32)
    logits[[0, 1, 2, 3], [0, 1, 5, 6]] = [10, 1, 3, 9]
    return evidence.Predictions(logits, np.array([0, 1, 2, 3]), np.empty(0))


def test_accuracy_loss_confusion_and_mistakes_of_a_toy():
    predictions = toy()
    assert predictions.accuracy == 0.5
    matrix = predictions.confusion()
    assert matrix.sum() == 4
    assert matrix[2, 5] == matrix[3, 6] == 1
    assert predictions.most_confident_mistakes(5).tolist() == [3, 2]
    assert predictions.probabilities.sum(1) == pytest.approx(np.ones(4))
    assert predictions.doubt == pytest.approx(9 * np.exp([-20, -11, -13, -19]), 1e-3)
    assert predictions.loss == pytest.approx((0 + 0 + 13 + 19) / 4, abs=1e-3)


def test_a_run_without_predictions_or_weights_says_what_to_do(results):
    for make in (evidence.predictions, evidence.keep_model):
        with pytest.raises(evidence.NoPredictionsError, match=r"its weights, .* run it again"):
            make(RunConfig.of(width=4))


@pytest.mark.parametrize("damage", [
    lambda content: content[: len(content) // 2],
    lambda content: b"",
    lambda content: b"not an archive",
    lambda content: content.replace(b"labels", b"lables"),
    lambda content: content[:1000] + bytes(1000) + content[2000:],
])
def test_damaged_predictions_are_named_and_set_aside(results, damage):
    config = RunConfig.of(width=4)
    path = evidence.predictions_path(config.id)
    path.parent.mkdir(parents=True)
    np.savez_compressed(path, logits=np.random.default_rng(0).normal(size=(500, 10)), labels=np.zeros(500, np.uint8),
                        pictures=np.zeros(0))
    assert evidence.predictions(config).logits.shape == (500, 10)
    path.write_bytes(damaged := damage(path.read_bytes()))
    with (
        pytest.warns(files.DamagedResultWarning, match=rf"The predictions {path.name} are damaged .* Restore them"),
        pytest.raises(evidence.NoPredictionsError),
    ):
        evidence.predictions(config)
    assert not evidence.evaluated(config)
    assert store.set_aside() == [f"{path.name}.damaged"]
    assert path.with_name(f"{path.name}.damaged").read_bytes() == damaged


@pytest.mark.parametrize("content", [b"", b"not weights", b"another network"])
def test_damaged_weights_are_named_with_the_remedy(results, content):
    config = RunConfig.of(width=4)
    path = evidence.model_path(config.id)
    path.parent.mkdir(parents=True)
    if content == b"another network":
        other = RunConfig.of(**PRESETS["smoke"] | {"width": 8})
        content = the_lab().training(other, torch.device("cpu")).weights()
    path.write_bytes(content)
    with pytest.raises(evidence.NoPredictionsError, match=rf"The weights .*{path.name} are damaged .* Restore them"):
        evidence.compute(config)
    assert path.read_bytes() == content


def test_weights_are_evaluated_again_and_compared_with_what_is_committed(results, monkeypatch):
    config = RunConfig()
    with pytest.raises(LabError, match=r"npz is not there to compare with"):
        evidence.again(config)
    logits, labels = np.eye(10, dtype=np.float32), np.arange(10)
    monkeypatch.setattr(evidence, "compute", lambda *_: evidence.Predictions(logits, labels, np.empty(0)))
    before = evidence.predictions(config)   # computed and written
    assert evidence.again(config) == (
        "test accuracy 100.00 %, committed 100.00 %; 10 of 10 predictions are the same")
    other = evidence.Predictions(np.roll(logits, 1, axis=0), labels, np.empty(0))
    monkeypatch.setattr(evidence, "compute", lambda *_: other)
    assert evidence.again(config) == "test accuracy 0.00 %, committed 100.00 %; 0 of 10 predictions are the same"
    assert evidence.predictions(config).accuracy == before.accuracy   # nothing was written


RIGHT = {"logits": np.random.default_rng(0).normal(size=(500, 10)).astype(np.float16),
         "labels": np.zeros(500, np.uint8), "pictures": np.zeros((12, 32, 32, 3), np.uint8)}
NOT_A_NUMBER = RIGHT["logits"].copy()
NOT_A_NUMBER[7, 3] = np.nan


@pytest.mark.parametrize("wrong", [
    {"logits": NOT_A_NUMBER}, {"logits": RIGHT["logits"][:499]}, {"logits": RIGHT["logits"][:, 0]},
    {"logits": np.zeros((0, 10)), "labels": np.zeros(0, np.uint8)}, {"logits": np.full((500, 10), np.inf)},
    {"labels": np.full(500, 255, np.uint8)}, {"labels": np.full(500, -1, np.int8)}, {"labels": np.zeros((500, 1))},
    {"pictures": np.zeros((12, 32, 32), np.uint8)}, {"pictures": np.zeros((12, 32, 32, 3))},
    {"pictures": np.zeros((3, 32, 32, 3), np.uint8)}, {"pictures": np.array([None])},
    {"logits": np.array([["x"] * 10] * 500)},
], ids=lambda wrong: ", ".join(f"{name} {value.shape} {value.dtype}" for name, value in wrong.items()))
def test_predictions_of_a_wrong_shape_type_or_range_are_set_aside(results, wrong):
    path = evidence.predictions_path("x")
    path.parent.mkdir(parents=True)
    np.savez_compressed(path, **RIGHT)
    assert evidence.read("x") is not None
    np.savez_compressed(path, **RIGHT | wrong)
    with pytest.warns(files.DamagedResultWarning, match=r"The predictions x\.npz are damaged"):
        assert evidence.read("x") is None
    assert store.set_aside() == ["x.npz.damaged"]


def test_a_flipped_bit_in_weights_is_refused(results):
    """PyTorch takes no notice of the archive's checksums."""
    config = RunConfig.of(**PRESETS["smoke"])
    whole = the_lab().training(config, torch.device("cpu")).weights()
    path = evidence.model_path(config.id)
    files.write_bytes(path, whole)
    assert len(evidence.compute(config).labels) == 256
    for place in (len(whole) // 3, len(whole) // 2, len(whole) * 2 // 3):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(evidence.NoPredictionsError, match=rf"The weights .*{path.name} are damaged"):
            evidence.compute(config)


@pytest.mark.dataset
def test_the_committed_pictures_are_those_of_the_most_confident_mistakes():
    images = data.load(RunConfig(), train=False).pixels.numpy()
    paths = sorted((project_root() / "results" / "predictions").glob("*.npz"))
    assert paths
    for path in paths:
        run_id, *views = path.stem.split(".")
        found = evidence.predictions(SimpleNamespace(id=run_id), *views)
        assert np.array_equal(found.pictures, images[found.most_confident_mistakes()]), path.name


@pytest.mark.dataset
def test_the_committed_predictions_come_from_the_committed_models(monkeypatch):
    paths = sorted((project_root() / "results" / "models").glob("*.pt"))
    configs = {config.id: config for name in studies.names() for _, config in studies.load(name).runs()}
    # A model may be kept before its study is complete; until then the test set is not read for it.
    pairs = {views: configs[path.stem] for path in paths for views in ("one", "mirror", "mirror_shift")
             if evidence.evaluated(configs[path.stem], views)}
    # One model for each way of looking at an image, and the first images: six views of all of them take minutes, and
    # `final-test --again` compares those.
    assert pairs.keys() >= {"one", "mirror_shift"}
    first = torch.arange(300)
    some = data.load_cifar10(train=False).take(first)
    monkeypatch.setattr(data, "load", lambda config, train: some)
    for views, config in pairs.items():
        committed = evidence.predictions(config, views)
        made_again = evidence.compute(config, views)
        assert (made_again.predicted == committed.predicted[first]).mean() > 0.99
        hit = committed.predicted[first] == committed.labels[first]
        assert made_again.accuracy == pytest.approx(hit.mean(), abs=0.01)
