"""The seam: what the machinery knows of a lab, and that it works for any. Who imports whom."""

from __future__ import annotations

import ast
import json
import pkgutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cifarbook
import labbook
import pytest
from cifarlab.lab import LAB, PACKED_WIDTH, RunConfig
from labbook import lab as seam
from labbook.errors import ConfigError, LabError
from labbook.lab import Config, Lab, the_lab
from labbook.paths import project_root
from labbook.runs import runner, scratch, store
from pydantic import Field

LIB = Path(labbook.__file__).resolve().parents[1]


# --- any lab ----------------------------------------------------------------------------------------------------------


class Slope(Config):
    """A run of the smallest lab: so many steps down a parabola."""

    epochs: int = Field(3, ge=1, le=100)
    rate: float = Field(0.1, gt=0)
    seed: int = Field(0, ge=0)


class Descent:
    """Its training: no images, no network, one number."""

    def __init__(self, config: Slope) -> None:
        self.config, self.place = config, 1.0 + config.seed
        self.history: list[dict[str, Any]] = []
        self.gradients: list[dict[str, Any]] = []
        self.diverged = False

    def epochs(self, on_step=None):
        while len(self.history) < self.config.epochs and not self.diverged:
            self.place -= self.config.rate * 2 * self.place
            if on_step:
                on_step()
            self.diverged = abs(self.place) > 1e6
            loss = float("inf") if self.diverged else self.place**2
            self.history.append({
                "epoch": len(self.history) + 1, "train_loss": loss, "train_accuracy": 0.5, "val_loss": loss,
                "val_accuracy": 0.5, "learning_rate": self.config.rate, "seconds": 0.0, "val_seconds": 0.0})
            yield self.history[-1]

    def state_dict(self) -> dict[str, Any]:
        return {"place": self.place, "history": self.history}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.place, self.history = float(state["place"]), list(state["history"])

    def final(self) -> dict[str, Any]:
        return {}

    def weights(self) -> bytes | None:
        return None


class SlopeLab(Lab):
    """What it hands over: the three things that must be written, and nothing else."""

    config = Slope
    numeric_modules = ("slope",)

    def training(self, config, device):
        return Descent(config)

    def dump(self, state):
        return json.dumps(state).encode()

    def load(self, content):
        return json.loads(content)


@pytest.fixture
def slope(tmp_path, monkeypatch):
    """A project of its own, whose lab is :class:`SlopeLab`."""
    (tmp_path / "labbook.toml").write_text('lab = "slope:LAB"\n')
    (tmp_path / "slope.py").write_text("from tests.test_lab import SlopeLab\n\nLAB = SlopeLab()\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LABBOOK_RESULTS", raising=False)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "slope", raising=False)
    the_lab.cache_clear()
    yield tmp_path
    the_lab.cache_clear()
    sys.modules.pop("slope", None)


def test_the_machinery_trains_any_lab_and_resumes_it(slope):
    config = Slope.of(epochs=5, seed=2)
    assert config.id.startswith("run-e5-s2-")

    def stopped(history):
        if len(history) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        runner.run(config, on_epoch=stopped)
    steps = []
    result = runner.run(config, on_step=lambda: steps.append(1))
    assert len(steps) == 3
    assert result.final.train_loss == pytest.approx(9 * 0.8**10)
    assert (slope / "results" / "runs" / f"{config.id}.json").is_file()
    assert store.read(config.id) == result
    assert result.facts["versions"].keys() == {"python", "numpy"}
    assert not scratch.checkpoint_path(config.id).exists()


def test_a_lab_s_run_that_diverges_is_recorded_as_such(slope):
    result = runner.run(Slope.of(rate=1000.0, epochs=50))
    assert result.final.diverged
    assert result.final.train_loss is None
    assert len(result.history) < 50


def test_a_lab_without_a_test_set_says_so(slope):
    with pytest.raises(LabError, match="has no test set"):
        the_lab().evaluate(Slope(), b"", "one")
    with pytest.raises(seam.DeviceError, match=r"device: 'cuda' is not known\. Allowed: auto, cpu"):
        the_lab().choose_device("cuda")


@pytest.mark.parametrize("content", ["", 'lab = "nowhere"', "lab = 3", "lab =", 'lab = ""', 'lab = "slope:Slope"'])
def test_a_project_whose_file_names_no_lab_is_refused_in_a_sentence(slope, content):
    (slope / "labbook.toml").write_text(content)
    with pytest.raises(LabError, match=r"labbook\.toml"):
        the_lab()


@pytest.mark.parametrize(("values", "expected"), [
    ({"epochs": 0}, "epochs: 0 is refused: input should be greater than or equal to 1"),
    ({"epoch": 3}, r"unknown parameter 'epoch' \(did you mean 'epochs'\?\)\. Known: epochs, rate, seed"),
    ({"rate": "0.1"}, "It is text to YAML: write 0.1 without quotes"),
    ({"seed": True}, "seed: True is refused"),
])
def test_any_configuration_refuses_in_a_sentence(values, expected):
    with pytest.raises(ConfigError, match=expected):
        Slope.of(**values)


def test_an_id_hashes_only_what_differs_from_the_defaults():
    assert Slope().id == Slope.of(epochs=3, rate=0.1).id == "run-e3-s0-44136fa3"
    assert Slope.of(rate=1).id == Slope.of(rate=1.0).id != Slope().id


# --- this lab ---------------------------------------------------------------------------------------------------------


def test_this_project_s_lab_is_the_one_that_its_file_names():
    assert the_lab() is LAB
    assert (project_root() / "labbook.toml").is_file()


def test_a_gpu_asked_for_where_there_is_none(monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(seam.DeviceError, match=r"device: 'cuda' was asked for.*Use device auto or cpu"):
        LAB.choose_device("cuda")
    with pytest.raises(seam.DeviceError, match=r"'gpu' is not known\. Allowed: auto, cpu, cuda"):
        LAB.choose_device("gpu")
    assert LAB.choose_device("auto").type == "cpu"


@pytest.mark.parametrize(("asked", "units", "chosen", "line"), [
    ("auto", True, "bfloat16", "precision bfloat16: this processor has bfloat16 units"),
    ("auto", False, "bfloat16", "precision bfloat16: this processor has no bfloat16 units; "
                                "rounded numbers are multiplied in float32"),
    ("bfloat16", True, "bfloat16", "precision bfloat16, as asked"),
    ("bfloat16", False, "bfloat16", "precision bfloat16, as asked: this processor has no bfloat16 units; "
                                    "rounded numbers are multiplied in float32"),
    ("float32", False, "float32", "precision float32, as asked"),
])
def test_precision_becomes_concrete_and_says_why(monkeypatch, asked, units, chosen, line):
    import torch
    from cifarlab import precision

    monkeypatch.setattr(precision, "has_fast_bfloat16", lambda: units)
    config, why = LAB.resolve(RunConfig.of(precision=asked), torch.device("cpu"))
    assert (config.precision, why) == (chosen, line)


def test_a_gpu_without_units_computes_in_float32(monkeypatch):
    import torch

    # Asked without an argument, PyTorch counts emulation.
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "An old card")
    config, why = LAB.resolve(RunConfig.of(precision="auto"), torch.device("cuda"))
    assert (config.precision, why) == ("float32", "precision float32: An old card has no bfloat16 units")


def test_wide_networks_get_all_cores_and_large_batches_more_memory():
    import torch

    cpu = torch.device("cpu")
    narrow, wide = RunConfig.of(width=16), RunConfig.of(width=2 * PACKED_WIDTH)
    assert LAB.at_once([narrow] * 5, cpu, 4) == 4
    assert LAB.at_once([narrow, wide], cpu, 4) == 1
    assert [LAB.memory(RunConfig.of(batch_size=images), cpu) for images in (128, 8000)] == [4, 13]


@pytest.mark.parametrize(("card", "expected"), [(80, 4), (30, 2), (8, 1)])
def test_on_a_gpu_as_many_runs_as_its_memory_holds(monkeypatch, card, expected):
    import torch

    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (card * 1e9, 80e9))
    configs = [RunConfig.of(width=width) for width in (16, 256)]
    assert LAB.at_once(configs, torch.device("cuda"), 4) == expected


def test_a_run_weighs_what_it_computes_and_seeds_weigh_the_same():
    narrow = RunConfig.of(width=16)
    assert LAB.work(narrow) == LAB.work(narrow.with_(seed=1))
    assert LAB.work(narrow.with_(width=32)) > 3 * LAB.work(narrow)
    assert LAB.work(narrow.with_(epochs=40)) == 2 * LAB.work(narrow)


# --- who imports whom -------------------------------------------------------------------------------------------------

ALL = {package.__name__: [found.name for found in pkgutil.walk_packages(package.__path__, package.__name__ + ".")]
       for package in (labbook, cifarbook)}

IMPORT_ALL = """
import importlib, sys
blocked, names = sys.argv[1].split(","), sys.argv[2].split(",")
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in blocked:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Blocked())
for name in names:
    importlib.import_module(name)
print(sum(name.split(".")[0] == "cifarlab" for name in sys.modules))
"""


def imported_without(blocked: str, names: list[str]) -> int:
    """Import modules in a process in which others cannot be; returns how many modules of the lab that took."""
    done = subprocess.run([sys.executable, "-c", IMPORT_ALL, blocked, ",".join(names)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return int(done.stdout)


def test_the_machinery_needs_neither_pytorch_nor_a_lab():
    names = [name for name in ALL["labbook"] if not name.endswith("__main__")]
    assert len(names) > 30
    assert imported_without("torch,torchvision,cifarbook", names) == 0


def test_what_reads_the_book_needs_no_pytorch():
    names = [*ALL["cifarbook"], *(f"cifarlab.{name}" for name in ("config", "schedules", "lab", "summary", "__main__"))]
    imported_without("torch,torchvision", names)


def imports(path: Path) -> set[str]:
    """The project's modules that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: a relative import"
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


# From the bottom: a package may import from itself and from those named.
MAY_IMPORT = {
    "cifarlab": {"cifarlab", "labbook.errors", "labbook.lab", "labbook.machine", "labbook.paths"},
    "labbook": {"labbook.errors", "labbook.paths", "labbook.machine", "labbook.lab"},
    "labbook/runs": {"labbook.errors", "labbook.paths", "labbook.machine", "labbook.lab", "labbook.runs"},
    "labbook/studies": {"labbook.errors", "labbook.paths", "labbook.machine", "labbook.lab", "labbook.runs",
                        "labbook.strict_yaml", "labbook.studies"},
    "labbook/page": {"labbook"},
    "cifarbook": {"labbook", "cifarlab", "cifarbook", "benchmarks"},
}
# The command lines: they name the commands of every floor.
COMMANDS = {"labbook/cli.py", "labbook/__main__.py", "cifarlab/__main__.py"}
OURS = ("labbook", "cifarlab", "cifarbook", "benchmarks", "tests")


@pytest.mark.parametrize("folder", MAY_IMPORT)
def test_imports_go_downwards_only(folder):
    paths = sorted((LIB / folder).glob("*.py") if folder == "labbook" else (LIB / folder).rglob("*.py"))
    assert paths
    allowed, wrong = MAY_IMPORT[folder], []
    for path in paths:
        if str(path.relative_to(LIB)) in COMMANDS:
            continue
        for name in imports(path):
            parts = name.split(".")
            if parts[0] in OURS and not any(
                    parts[: len(base)] == base or base[: len(parts)] == parts
                    for base in (one.split(".") for one in allowed)):
                wrong.append(f"{path.relative_to(LIB)} imports {name}")
    assert not wrong


def test_the_machinery_names_no_data_set_and_no_framework():
    """A lab on other data would have to change it."""
    for path in sorted((LIB / "labbook").rglob("*.py")):
        top = {name.split(".")[0] for name in imports(path)}
        assert not top & {"torch", "torchvision", "sklearn", "cifarlab", "cifarbook", "benchmarks"}, path
