"""Configurations: refusals that name the field, the value and the remedy; ids that last."""

from __future__ import annotations

import pytest
from cifarlab.config import PRESETS, RunConfig
from labbook.errors import ConfigError


@pytest.mark.parametrize(("values", "expected"), [
    ({"epochs": -3}, "epochs: -3 is refused: input should be greater than or equal to 1"),
    ({"width": 0}, "width: 0 is refused"),
    ({"schedule": "cosin"}, r"schedule: 'cosin' is not known \(did you mean 'warmup_cosine'\?\)"),
    ({"schedule": "warmup_cosin"}, r"did you mean 'warmup_cosine'\?"),
    ({"epoch": 3}, r"unknown parameter 'epoch' \(did you mean 'epochs'\?\)"),
    ({"epochs": "3"}, "epochs: '3' is refused: input should be a valid integer"),
    ({"epochs": 2.5}, "epochs: 2.5 is refused"),
    ({"dropout": 1.0}, "dropout: 1.0 is refused: input should be less than 1"),
    ({"kernel_size": 4}, "kernel_size: 4 is even; allowed: 1, 3, 5, 7"),
    ({"depth": 8}, "depth: 8 is not a depth of resnet9"),
    ({"low_resolution": 24, "low_resolution_epochs": 2}, "low_resolution: 24 needs model 'speednet'"),
    ({"model": "speednet", "low_resolution": 8}, "low_resolution: 8 is refused: nothing would be left"),
    ({"optimizer": "muon", "norm": "none"}, "optimizer: 'muon' scales every filter"),
    ({"train_images": 45_000}, "55000 is more than the 50000 there are"),
    ({"seed": -1}, "seed: -1 is refused"),
])
def test_a_wrong_value_is_refused_with_a_clear_sentence(values, expected):
    with pytest.raises(ConfigError, match=expected):
        RunConfig.of(**values)


def test_every_wrong_value_is_named_at_once():
    with pytest.raises(ConfigError) as caught:
        RunConfig.of(epochs=0, widht=3)
    assert len(str(caught.value).splitlines()) == 2


def test_a_config_is_frozen():
    with pytest.raises(ValueError, match="frozen"):
        RunConfig().epochs = 3


def test_the_id_changes_with_every_field_that_can_change_the_numbers():
    base = RunConfig.of(dropout=0.1, schedule="warmup_cosine")
    changes = {
        "dataset": "synthetic", "train_images": 100, "val_images": 100, "split_seed": 1, "input_norm": "channel",
        "augment": "flip", "model": "plaincnn", "width": 32, "depth": 11, "kernel_size": 5, "norm": "group",
        "dropout": 0.2, "dropout_at": "blocks", "shortcut": False, "block_convolutions": 1, "block_kernel_size": 5,
        "optimizer": "sgd", "learning_rate": 0.2, "momentum": 0.8,
        "weight_decay": 0.1, "batch_size": 64, "epochs": 10, "schedule": "linear",
        "warmup_epochs": 3.0, "warmup_offset": 0.0, "label_smoothing": 0.1, "precision": "bfloat16",
        "seed": 1,
    }
    # These have an effect on one model only, and the first two together.
    low = {"low_resolution": 24, "low_resolution_epochs": 1.0}
    of_low = ({"low_resolution": 20}, {"low_resolution_epochs": 2.0}, {"low_resolution_stages": 2},
              {"whitening_bias_epochs": 1.0})
    assert set(changes) | {name for change in of_low for name in change} == set(RunConfig.model_fields)
    ids = {base.with_(**{name: value}).id for name, value in changes.items()} | {base.id}
    speed = RunConfig.of(model="speednet", **low)
    ids |= {speed.with_(**change).id for change in ({}, *of_low)}
    assert len(ids) == len(changes) + 1 + 1 + len(of_low)


def test_fields_without_effect_do_not_split_a_run_in_two():
    assert RunConfig.of(warmup_epochs=5.0).id == RunConfig().id
    assert RunConfig.of(dropout_at="blocks").id == RunConfig().id
    assert RunConfig.of(block_kernel_size=3).id == RunConfig().id
    assert RunConfig.of(depth=5, shortcut=False, block_convolutions=1).id == RunConfig.of(depth=5).id
    assert RunConfig.of(model="plaincnn", depth=17).id == RunConfig.of(model="plaincnn").id
    assert RunConfig.of(optimizer="muon", weight_decay=0.1).id == RunConfig.of(optimizer="muon").id
    assert RunConfig.of(low_resolution_stages=2, whitening_bias_epochs=1.0).id == RunConfig().id
    speed = RunConfig.of(model="speednet", epochs=8)
    assert speed.with_(low_resolution_stages=2, whitening_bias_epochs=8.0).id == speed.id


def test_ids_of_committed_runs_stay_what_they_are():
    # A changed default would give a committed result another meaning under the same id.
    assert RunConfig().id == "resnet9-w64-e20-constant-s0-44136fa3"
    assert RunConfig.of(**PRESETS["laptop"], schedule="warmup_cosine", seed=2).id.startswith(
        "resnet9-w16-e5-warmup-cosine-s2-"
    )


def test_auto_precision_has_no_id_yet():
    with pytest.raises(ConfigError, match="'auto' must be resolved"):
        _ = RunConfig.of(precision="auto").id


def test_a_retired_field_is_read_with_the_value_that_all_runs_have_and_with_no_other():
    assert RunConfig.of(width=8, compiled=False) == RunConfig.of(width=8)
    with pytest.raises(ConfigError, match="unknown parameter 'compiled'"):
        RunConfig.of(compiled=True)


def test_numbers_given_as_text_are_refused_with_what_to_write():
    with pytest.raises(ConfigError, match=r"epochs: '10' .* It is text to YAML: write 10 without quotes"):
        RunConfig.of(epochs="10")
    with pytest.raises(ConfigError, match=r"learning_rate: '1e-3' .* It is text to YAML: write 0\.001 without quotes"):
        RunConfig.of(learning_rate="1e-3")


@pytest.mark.parametrize("name", RunConfig.model_fields)
def test_no_value_makes_a_long_message_or_a_traceback(name):
    for value in (10**400, -(10**5000), float("nan"), "x" * 10**6, [[[]]] * 9, {"a": {}}, None, b"\0"):
        with pytest.raises(ConfigError) as caught:
            RunConfig.of(**{name: value})
        assert len(str(caught.value)) < 600


def test_presets_are_valid():
    for values in PRESETS.values():
        RunConfig.of(**values)
