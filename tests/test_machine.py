"""What a machine is said to be: its processor, cores and memory, in a container too."""

from __future__ import annotations

from types import SimpleNamespace

import psutil
import pytest
from labbook import machine

DESCRIBED = "model name\t: a processor\nflags\t\t: fpu avx2 avx512f avx512_bf16\n"


@pytest.mark.parametrize(("held_to", "instructions"), [
    ("", ["avx2", "avx512f", "avx512_bf16"]),
    ("AVX512_CORE_BF16", ["avx2", "avx512f", "avx512_bf16"]),
    ("avx512_core", ["avx2", "avx512f"]),
    ("AVX2", ["avx2"]),
    ("nonsense", ["avx2", "avx512f", "avx512_bf16"]),
])
def test_of_the_instruction_sets_those_are_named_that_may_be_used(monkeypatch, held_to, instructions):
    monkeypatch.setattr(machine.Path, "read_text", lambda *_, **__: DESCRIBED)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", held_to)
    held = {"held_to": held_to.upper()} if held_to.upper() in machine.HELD_TO else {}
    assert machine.cpu_description() == {"model": "a processor", "instructions": instructions} | held


def test_a_system_without_cpuinfo_has_a_model_all_the_same(monkeypatch):
    def absent(*_, **__):
        raise FileNotFoundError

    monkeypatch.setattr(machine.Path, "read_text", absent)
    assert machine.cpu_description()["model"]


def test_in_a_container_the_memory_is_what_it_is_granted(monkeypatch, tmp_path):
    granted = machine._granted
    monkeypatch.setattr(machine, "_granted", lambda name, pattern: granted(name, pattern, tmp_path))
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=8e9))
    assert machine.free_memory() == 8
    for name, content in (("memory.max", "800000000"), ("memory.current", "300000000")):
        (tmp_path / name).write_text(f"{content}\n")
    assert machine.free_memory() == pytest.approx(0.5)
    # The cache of files is given back when it is asked for.
    (tmp_path / "memory.stat").write_text("file 250000000\ninactive_file 200000000\nanon 1\n")
    assert machine.free_memory() == pytest.approx(0.7)
    (tmp_path / "memory.max").write_text("max\n")
    assert machine.free_memory() == 8


def test_there_is_a_core():
    assert machine.cores() >= 1
