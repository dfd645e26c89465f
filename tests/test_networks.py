"""The committed description of the networks is what the models say, and reading it needs no PyTorch."""

from __future__ import annotations

import subprocess
import sys

import pytest
from cifarbook import networks, original
from cifarlab import models, summary
from cifarlab.config import RunConfig
from labbook.errors import LabError
from labbook.paths import project_root
from torch.utils.flop_counter import FlopCounterMode

WITHOUT_TORCH = "import sys; sys.modules.update(torch=None, torchvision=None)\n"


def test_the_committed_networks_are_what_the_models_say():
    assert networks.path().read_text(encoding="utf-8") == networks.as_text(networks.compute()), (
        "the networks changed: `python -m cifarbook networks` writes them anew")


def test_reading_the_networks_and_the_schedule_needs_no_torch():
    script = WITHOUT_TORCH + (
        "from cifarbook import networks\n"
        "from cifarlab import schedules\n"
        "from cifarlab.config import RunConfig\n"
        "print(networks.of(RunConfig())['parameters'], networks.training_flops(RunConfig()),\n"
        "      schedules.learning_rate(RunConfig(), 3))\n")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    parameters, flops, _ = done.stdout.split()
    assert int(parameters) == original.facts()["parameters"]
    assert float(flops) == summary.training_flops(RunConfig())


def test_a_network_that_is_not_committed_needs_torch_and_says_how_to_get_it():
    script = WITHOUT_TORCH + (
        "from cifarbook import networks\nfrom cifarlab.config import RunConfig\n"
        "networks.of(RunConfig.of(width=63))\n")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode != 0
    last = done.stderr.strip().splitlines()[-1]
    assert "LabError" in last
    assert "width=63" in last
    assert "make train" in last


def test_a_network_that_is_not_committed_is_built():
    config = RunConfig.of(width=3)
    assert networks.of(config)["parameters"] == summary.parameter_count(models.build(config))


def test_a_missing_file_is_named_with_its_remedy(tmp_path, monkeypatch):
    monkeypatch.setattr(networks, "path", lambda: tmp_path / "networks.json")
    networks.committed.cache_clear()
    try:
        with pytest.raises(LabError, match=r"networks\.json cannot be read .*python -m cifarbook networks"):
            networks.of(RunConfig())
    finally:
        networks.committed.cache_clear()


@pytest.mark.parametrize("config", [
    RunConfig.of(width=8), RunConfig.of(width=8, norm="none", depth=13), RunConfig.of(model="plaincnn", width=8),
    RunConfig.of(model="speednet", width=8),
], ids=lambda config: networks.key(config))
@pytest.mark.parametrize("side", [32, 24])
def test_multiply_accumulates_are_those_of_pytorchs_counter_and_the_biases(config, side):
    import torch

    if side != 32 and config.model != "speednet":
        pytest.skip("only SpeedNet takes other sides")
    model = models.build(config).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, 3, side, side))
    modules = dict(model.named_modules())
    biases = 0
    for row in summary.layer_table(model, side):
        if row["macs"] and modules[row["layer"]].bias is not None:
            biases += torch.Size(row["output"]).numel()
    assert 2 * (sum(row["macs"] for row in summary.layer_table(model, side)) - biases) == counter.get_total_flops()


def test_describing_a_network_leaves_it_as_it_was():
    model = models.build(RunConfig.of(width=4)).train()
    before = [buffer.clone() for buffer in model.buffers()]
    summary.layer_table(model)
    assert model.training
    assert all(a.equal(b) for a, b in zip(before, model.buffers(), strict=True))
    assert not any(module._forward_hooks for module in model.modules())


def test_the_command_says_what_brings_torch():
    script = WITHOUT_TORCH + "from cifarbook.__main__ import main\nsys.exit(main(['networks']))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=project_root())
    assert done.returncode == 2
    assert "make train" in done.stderr
    assert "Traceback" not in done.stderr


def test_receptive_fields_by_hand():
    # PlainCNN: (3x3, pool 2) three times. 3, 4, 8, 10, 18, 22.
    rows = summary.layer_table(models.build(RunConfig.of(model="plaincnn", width=2)))
    assert networks.receptive_field_sizes(rows) == [3, 4, 8, 10, 18, 22]
    rows = summary.layer_table(models.build(RunConfig.of(width=2, kernel_size=1)))
    # 1x1 kernels see only what pooling gathers.
    assert networks.receptive_field_sizes(rows)[-1] == 32
