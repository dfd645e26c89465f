"""What chapters read of the benchmarks: answers with clear errors, seconds an epoch, rejected ideas."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from cifarbook import bench
from cifarlab.config import RunConfig
from labbook.studies import study as studies

ANSWERS = [(name, place) for name in bench.FIELDS for place in bench.machines(name)]


def test_reading_needs_no_torch():
    code = ("import sys; from cifarbook import bench; bench.read('costs'); bench.negatives(); "
            "sys.exit('torch' in sys.modules)")
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(("name", "place"), ANSWERS)
def test_committed_answers_are_read(name, place):
    assert bench.read(name, place)["name"] == name


def test_every_answer_has_a_committed_file():
    assert {name for name, _ in ANSWERS} == set(bench.FIELDS)
    assert bench.machines()[0] == bench.OURS
    assert bench.read_if_there("loops", "results/bench-of-nobody") is None


@pytest.mark.parametrize(("text", "said"), [
    (None, "is missing"), ("", "is damaged"), ('{"rows": [', "is damaged"), ("\xff", "is damaged"),
    ("[" * 100_000, "is damaged"), ("[]", "the whole: input should be a valid dictionary"),
    ('{"name": "loops"}', "provenance: field required"),
    ({"matmul_flops": {"float32": "fast"}}, "matmul_flops.float32: input should be a valid number"),
    ({"matmul_flops": {"float32": "1e12"}}, "matmul_flops.float32: input should be a valid number"),
    ({"matmul_flops": {}}, "matmul_flops: dictionary should have at least 1 item"),
    ({"rows": [{"width": 0}]}, "rows.0.width: input should be greater than 0"),
    ({"rows": [{"width": 16, "original_images_per_second": [float("nan")]}]},
     "rows.0.original_images_per_second.0: input should be"),
    ({"provenance": {"date": 1}}, "provenance.date: input should be a valid string"),
])
def test_what_cannot_be_used_is_one_sentence_with_the_remedy(tmp_path, text, said):
    path = tmp_path / "loops.json"
    if isinstance(text, dict):
        text = json.dumps(bench.read("loops") | text)
    if text is not None:
        path.write_text(text, encoding="latin-1")
    with pytest.raises(bench.BenchmarkError) as error:
        bench.read("loops", str(tmp_path))
    message = str(error.value)
    assert message.startswith(f"{path}") and said in message and "\n" not in message
    assert message.endswith(f"Restore it from git, or measure it: `python -m benchmarks loops --folder {tmp_path}`.")


def test_a_folder_in_a_files_place_is_refused(tmp_path):
    (tmp_path / "loops.json").mkdir()
    with pytest.raises(bench.BenchmarkError, match="is damaged"):
        bench.read_if_there("loops", str(tmp_path))


def test_an_answer_that_no_script_measures_is_only_restored():
    with pytest.raises(bench.BenchmarkError, match=r"unknown\.json is missing\. Restore it from git\.$"):
        bench.read("unknown")


def test_an_epochs_seconds_are_those_of_the_runs_kind():
    wide, narrow = RunConfig.of(width=8, precision="bfloat16"), RunConfig.of(width=4, precision="bfloat16")
    deep, reference = wide.with_(depth=13), wide.with_(width=16)
    timed = {"reference": bench.kind_of_run(reference).id, "kinds": {
        bench.kind_of_run(wide).id: {"seconds_per_image": 0.001, "ratio": [0.4, 0.5, 0.6]},
        bench.kind_of_run(deep).id: {"seconds_per_image": 0.003, "ratio": [1.5, 1.5, 1.5]},
        # A minute in which everything was slow, and the same thing timed beside itself.
        bench.kind_of_run(reference).id: {"seconds_per_image": 0.009, "ratio": [0.8, 1.1, 1.2]},
    }}
    # Seed, rate and schedule change no image's time; a part of the images takes its part of the time.
    same = wide.with_(seed=3, learning_rate=0.1, schedule="linear", epochs=2)
    assert bench.seconds_per_epoch(same, timed) == pytest.approx(40)
    assert bench.seconds_per_epoch(same.with_(train_images=10_000), timed) == pytest.approx(10)
    assert bench.seconds_per_epoch(deep, timed) == pytest.approx(120)
    assert bench.seconds_per_epoch(reference, timed) == pytest.approx(80)
    assert bench.seconds_per_epoch(narrow, timed) is None
    assert bench.seconds_per_epoch(wide.with_(norm="group"), timed) is None


def test_the_committed_costs_still_name_the_studies_kinds():
    timed, study = bench.read("costs"), studies.load("dropout")
    assert all(bench.seconds_per_epoch(study.config(level, 0), timed) for level in study.levels)


def test_every_rejected_idea_has_a_measured_effect():
    ideas = bench.negatives()
    assert len({row["idea"] for row in ideas}) == len(ideas) > 20
    assert all(ratio > 0 for row in ideas for ratios in row["speed"].values() for ratio in ratios)
    by_name = {row["idea"]: row for row in ideas}
    compiled = by_name["torch.compile on a processor"]
    trials = bench.read("trials")
    assert compiled["speed"]["64"] == trials["tried"]["64"]["torch.compile"]["ratio"]
    assert compiled["provenance"] == trials["provenance"]
    # Seconds: slower is below one.
    packing = bench.read("packing")["seeds_in_one_step"]
    seeds = next(row for row in ideas if row["idea"].startswith("seeds trained together"))
    assert seeds["speed"]["16"][0] == packing[1]["one_by_one"][0] / packing[1]["at_once"][0] < 1
    # Of a list only the rows asked for.
    gpu = next(row for row in ideas if row["idea"].endswith("on a GPU"))
    assert set(gpu["speed"]) == {"16", "32", "64"}


def test_an_idea_whose_figure_is_not_there_is_named():
    with pytest.raises(bench.BenchmarkError, match=r"results/bench/trials\.json has nothing for 'a new one'"):
        bench._measured({"idea": "a new one", "answer": "bench/trials.json", "ratio": ["tried", "*", "new", "ratio"]})


def test_a_spread_is_the_middle_and_both_ends():
    assert bench.spread([3.0, 1.0, 2.5]) == "2.50 (1.00 to 3.00)"
