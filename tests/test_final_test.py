"""The test set's predictions: what is computed from them, and that they can be made again from the committed model."""

from __future__ import annotations

import numpy as np
import pytest
from cifarlab import final_test, studies
from cifarlab.__main__ import main
from cifarlab.paths import project_root


def toy() -> final_test.Predictions:
    logits = np.full((4, 10), -10.0, dtype=np.float32)
    logits[[0, 1, 2, 3], [0, 1, 5, 6]] = [10, 1, 3, 9]
    return final_test.Predictions(logits, np.array([0, 1, 2, 3]), np.empty(0))


def test_accuracy_loss_confusion_and_mistakes_of_a_toy():
    predictions = toy()
    assert predictions.accuracy == 0.5
    matrix = predictions.confusion()
    assert matrix.sum() == 4
    assert matrix[2, 5] == matrix[3, 6] == 1
    assert predictions.most_confident_mistakes(5).tolist() == [3, 2]
    assert predictions.probabilities.sum(1) == pytest.approx(np.ones(4))
    assert predictions.loss == pytest.approx((0 + 0 + 13 + 19) / 4, abs=1e-3)


def test_a_run_without_predictions_or_weights_says_what_to_do(results):
    from cifarlab.config import RunConfig

    with pytest.raises(final_test.NoPredictionsError, match="run it again"):
        final_test.predictions(RunConfig.of(width=4))


def test_the_level_is_chosen_on_validation(smoke_results, monkeypatch):
    monkeypatch.setenv("CIFARLAB_RESULTS", str(smoke_results))
    found = studies.ensure("baseline", preset="smoke", seeds=[0], train=False)
    best = found.runs.set_index("level")["val_accuracy"].idxmax()
    assert final_test.choose(found) == best
    (config,) = final_test.chosen_runs(found).values()
    assert config.id in set(found.runs[found.runs["level"] == best]["id"])


def test_a_level_that_was_not_trained_is_refused_by_name(capsys):
    assert main(["final-test", "--study", "baseline", "--level", "wide"]) == 2
    assert "level: no finished run of 'wide'" in capsys.readouterr().err


@pytest.mark.dataset
def test_the_committed_predictions_come_from_the_committed_models():
    paths = sorted((project_root() / "results" / "models").glob("*.pt"))
    assert paths
    configs = {config.id: config for name in studies.names() for _, config in studies.load(name).runs()}
    for path in paths:
        committed = final_test.predictions(configs[path.stem])
        made_again = final_test.compute(configs[path.stem])
        assert (made_again.predicted == committed.predicted).mean() > 0.999
        assert made_again.accuracy == pytest.approx(committed.accuracy, abs=5e-4)
