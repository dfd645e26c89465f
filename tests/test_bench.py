"""Benchmarks: what they count and in which order they measure. How fast anything is, is not tested."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
import torch
from cifarlab import data, layers, models, training
from cifarlab.__main__ import main
from cifarlab.config import RunConfig
from labbook.runs import provenance, store
from labbook.studies import study as studies

from benchmarks import (
    answers,
    building,
    cards,
    ceiling,
    costs,
    goals,
    gpu,
    growth,
    measuring,
    operations,
    packing,
    processes,
    products,
    race,
    reading,
    starting,
    steps,
    together,
    trials,
)


def test_actions_are_measured_in_turn_and_warmed_up_first():
    calls = []
    seconds = measuring.alternate({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, rounds=2)
    assert calls == ["a", "b"] * 3
    assert {name: len(times) for name, times in seconds.items()} == {"a": 2, "b": 2}


def test_bare_convolutions_count_the_networks_arithmetic():
    config = RunConfig.of(width=4, batch_size=8)
    rows = ceiling.convolutions(config, rounds=1)
    macs = {row["layer"]: row["macs"] for row in layers.layer_table(models.build(config)) if row["kind"] == "Conv2d"}
    assert {row["layer"]: row["flops"] for row in rows} == {name: 2 * 8 * count for name, count in macs.items()}
    assert "input" not in rows[0]["milliseconds"]
    assert all(row["milliseconds"]["input"] > 0 for row in rows[1:])


@pytest.mark.parametrize(("operation", "kind"), [
    ("aten::mkldnn_convolution", "convolution, forward"), ("aten::convolution_backward", "convolution, backward"),
    ("aten::native_batch_norm_backward", "normalization"), ("aten::max_pool2d_with_indices", "pooling"),
    ("aten::threshold_backward", "ReLU"), ("aten::_fused_adam_", "optimizer"), ("aten::copy_", "copies and types"),
    ("aten::addmm", "other"),
])
def test_operations_are_counted_under_their_kind(operation, kind):
    assert operations.kind_of(operation) == kind


@pytest.mark.parametrize("name", [*steps.WITHOUT, *(name for name, step in steps.TRIED.items() if not step.compiled)])
def test_every_variant_of_a_step_trains(name, monkeypatch):
    step = (steps.WITHOUT | steps.TRIED)[name]
    built = []
    network_of = steps.network_of
    monkeypatch.setattr(steps, "network_of", lambda *given: built.append(network_of(*given)) or built[0])
    torch.manual_seed(0)
    train = steps.stepper(step, width=2, pool=data.synthetic(2 * step.batch_size))
    before = {name: value.detach().clone() for name, value in built[0].named_parameters()}
    train()
    for parameter, value in built[0].named_parameters():
        assert torch.equal(value, before[parameter]) == parameter.startswith(step.frozen or "none"), parameter


def test_our_step_is_the_one_that_training_makes():
    pool = data.synthetic(128)
    config = RunConfig.of(width=2, train_images=128, val_images=0, batch_size=128, precision="bfloat16")
    torch.manual_seed(0)
    measured = steps.stepper(steps.Step(), width=2, pool=pool)
    network = next(c.cell_contents for c in measured.__closure__ if isinstance(c.cell_contents, models.ResNet9))
    trained = models.build(config).to(memory_format=torch.channels_last)
    trained.load_state_dict(network.state_dict())
    optimizers = steps.make_optimizers(config, trained)
    measured()
    training.train_epoch(trained, optimizers, training.make_schedulers(config, optimizers), pool, config, 0)
    # One batch holds the whole pool, so its order is all that differs: the sums' rounding.
    for (name, a), (_, b) in zip(network.named_parameters(), trained.named_parameters(), strict=True):
        assert torch.allclose(a, b, atol=2.1 * config.learning_rate), name
        assert (a - b).abs().median() < 0.01 * config.learning_rate, name


def test_every_variant_says_why_it_might_matter():
    kinds = (steps.WITHOUT, steps.TRIED, trials.EVALUATED, {trials.EVERY_SECOND}, processes.WITHOUT, processes.TRIED)
    assert {name for kind in kinds for name in kind} == set(trials.WHY)


@pytest.mark.parametrize("name", ["first layer's inputs padded from 3 to 8 channels",
                                  "norm and ReLU computed again in backward", "ReLU not in place",
                                  "pooling before ReLU", "gradient of the filters by matrix products",
                                  "gradient of the last block's filters by matrix products"])
def test_a_variant_that_should_change_nothing_but_speed_gives_the_same_gradients(name):
    inputs = data.normalise(data.synthetic(8).pixels, "half")
    gradients = []
    for step in (steps.Step(), steps.TRIED.get(name) or steps.WITHOUT[name]):
        network = steps.network_of(step, RunConfig.of(width=4))
        further = torch.zeros(8, step.input_channels - 3, 32, 32)
        network(torch.cat((inputs, further), dim=1)).square().sum().backward()
        gradients.append([parameter.grad for parameter in network.parameters()])
    for plain, changed in zip(*gradients, strict=True):
        same = changed[:, :3] if changed.shape != plain.shape else changed
        assert torch.allclose(plain, same, rtol=1e-4, atol=1e-4 * plain.abs().max())


def test_images_one_by_one_are_the_same_images():
    pool = data.synthetic(5)
    inputs, labels = zip(*steps.AsPictures(pool), strict=True)
    assert torch.allclose(torch.stack(inputs), data.normalise(pool.pixels, "half"), atol=1e-6)
    assert list(labels) == pool.labels.tolist()


def test_networks_trained_together_learn_what_each_learns_alone():
    pool = data.synthetic(24)
    config = RunConfig.of(width=4, batch_size=8, precision="float32")
    networks = [models.build(config.with_(seed=seed)) for seed in (0, 1, 2)]
    joined = together.together(networks)
    images = data.normalise(pool.pixels, "half").chunk(3)
    logits = joined.train()(torch.cat(images, dim=1))
    logits.square().sum().backward()
    gradient = dict(joined.named_parameters())["stage1.0.conv.weight"].grad.chunk(3)
    for number, (network, own) in enumerate(zip(networks, images, strict=True)):
        alone = network.train()(own)
        assert torch.allclose(logits[:, number], alone, atol=1e-5)
        alone.square().sum().backward()
        assert torch.allclose(gradient[number], network.stage1[0].conv.weight.grad, rtol=1e-3, atol=1e-3)
    before = joined.classifier.weight.detach().clone()
    assert before.shape == (3, 32, 10)
    count = sum(parameter.numel() for parameter in joined.parameters())
    assert count == 3 * sum(parameter.numel() for parameter in networks[0].parameters())


def test_seeds_in_one_step_train_as_many_networks_either_way(monkeypatch):
    trained = []
    monkeypatch.setattr(together, "trainer", lambda config, pool, seeds, times=1: (
        lambda: trained.append((seeds, times, len(pool)))))
    monkeypatch.setattr(data, "load_cifar10", lambda train: data.synthetic(64))
    found = packing.seeds_in_one_step(width=4, seeds=3, images=32, rounds=1)
    assert trained == 2 * [(1, 3, 32), (3, 1, 32)]
    assert (len(found["one_by_one"]), len(found["at_once"])) == (1, 1)


def test_together_training_moves_every_networks_weights(monkeypatch):
    joined = []
    build = together.together
    monkeypatch.setattr(together, "together", lambda networks: joined.append(build(networks)) or joined[0])
    train = together.trainer(RunConfig.of(width=2, batch_size=8, precision="float32"), data.synthetic(16), seeds=2)
    before = [parameter.detach().clone() for parameter in joined[0].parameters()]
    train()
    assert not any(torch.equal(old, new) for old, new in zip(before, joined[0].parameters(), strict=True))


def test_variants_that_say_nothing_on_a_processor_are_left_out():
    names = {(units, compiler): {name for name, step in (steps.WITHOUT | steps.TRIED).items()
                                 if steps.applies(step, units, compiler)}
             for units in (False, True) for compiler in (False, True)}
    assert "torch.compile" in names[True, True]
    assert not any("torch.compile" in found for key, found in names.items() if key != (True, True))
    for compiler in (False, True):
        assert "float32, rounded to bfloat16 within oneDNN" not in names[False, compiler]
        assert "every convolution by its definition" not in names[True, compiler]
    assert "batch of 256" in names[False, False]


def test_evaluations_of_all_sizes_see_every_image(monkeypatch):
    asked = []
    monkeypatch.setattr(trials.training, "predict", lambda *_, **options: asked.append(options))
    for size in (None, 3):
        trials.evaluator(2, data.synthetic(8), size)()
    assert asked == [{}, {"batch_size": 3}]
    monkeypatch.undo()
    assert trials.evaluator(2, data.synthetic(8), 3)().shape == (8, 10)


def test_frozen_layers_get_no_gradient_and_are_half_of_the_convolutions():
    network = steps.network_of(steps.TRIED["first half of the convolutions frozen"], RunConfig.of(width=4))
    network(torch.zeros(2, 3, 32, 32)).sum().backward()
    moved = [layer.weight.grad is not None for layer in network.modules() if isinstance(layer, torch.nn.Conv2d)]
    assert moved == [False] * 4 + [True] * 4


def test_two_epochs_are_the_same_but_for_their_evaluations(monkeypatch):
    seen = []
    monkeypatch.setattr(trials, "trainer", lambda *_: lambda: seen.append("training"))
    monkeypatch.setattr(trials, "evaluator", lambda *_: lambda: seen.append("evaluation"))
    for evaluations in (2, 1):
        trials.two_epochs(2, data.synthetic(8), data.synthetic(2), evaluations)()
    assert seen == ["training"] * 2 + ["evaluation"] * 2 + ["training"] * 2 + ["evaluation"]


def test_what_is_set_before_a_process_starts_is_compared_round_by_round(monkeypatch):
    seen = []

    def measured(values):
        (point,) = values
        seen.append({name: value for name, value in point.items() if name not in ("config", "seconds")})
        # The speed that times are reckoned with is that of whole images.
        assert not point["config"].get("low_resolution")
        return [{"images_per_second": 200.0 if seen[-1] else 100.0}]

    monkeypatch.setattr(processes, "points", measured)
    answer = processes.measure(widths=(16,), rounds=2)
    ours, *others = [{}, *(processes.WITHOUT | processes.TRIED).values()]
    assert seen == [ours, *others, *others, ours] * 2   # the second round begins with the second
    speeds = {"ours": [100.0, 100.0], "variant": [200.0, 200.0]}
    change = {"ratio": [2.0, 2.0], "median": 2.0, "images_per_second": speeds}
    none = {"ratio": [1.0, 1.0], "median": 1.0, "images_per_second": {"ours": [100.0] * 2, "variant": [100.0] * 2}}
    for kind, changes in (("without", processes.WITHOUT), ("tried", processes.TRIED)):
        found = {name: change if changed else none for name, changed in changes.items()}
        assert answer[kind] == dict.fromkeys(("16", processes.SPEEDRUN), found)
    speedrun = studies.load("speedrun")
    assert answer["networks"][processes.SPEEDRUN]["batch_size"] == speedrun.config(speedrun.reference, 0).batch_size


def test_a_table_of_trials_reads_earlier_answers_too():
    answer = {"without": {"16": {"loss read every step": {"ratio": [1.0, 0.9, 1.2]}}, "64": {}},
              "tried": {"16": {}, "64": {"of long ago": {"ratio": [3.0]}}}}
    first, second = trials.table(answer)
    assert first == {"change": "loss read every step", "": "taken away", "speed at width 16": "1.00 (0.90 to 1.20)",
                     "speed at width 64": "–", "why it might matter": trials.WHY["loss read every step"]}
    assert second == {"change": "of long ago", "": "not kept", "speed at width 16": "–",
                      "speed at width 64": "3.00 (3.00 to 3.00)", "why it might matter": ""}
    speeds = {"ratio": [2.0], "images_per_second": {"ours": [1000.0], "variant": [2000.0]}}
    (row,) = trials.table({"without": {processes.SPEEDRUN: {"a": speeds}}})
    assert row["speed of the speedrun's network"] == "2.00 (2.00 to 2.00)\n1,000 → 2,000"
    assert len(trials.table(answer | {"evaluation": {"16": {"a": {"ratio": [4.0]}}}})) == 3


LOOP = {"width": 64, "our_flops": 8e9, "our_images_per_second": [80.0, 100.0, 120.0],
        "original_images_per_second": [20.0, 25.0, 30.0], "ratio": [4.0, 4.0, 4.0]}
BARE = [{"layer": "a", "flops": 4e9, "milliseconds": {"forward": 200.0, "weights": 400.0}},
        {"layer": "b", "flops": 1e9, "milliseconds": {"forward": 100.0, "weights": 100.0, "input": 100.0}}]


def test_a_loop_is_held_against_the_product_and_the_fastest_convolution():
    assert ceiling.best_rate(BARE, {"bfloat16": 10e9, "float32": 5e9}) == 20e9
    assert ceiling.best_rate(BARE, {"bfloat16": 30e9}) == 30e9
    held = ceiling.held_against(LOOP, BARE, {"bfloat16": 10e9, "float32": 5e9}, batch_size=128)
    assert held == {"of_matmul": 0.8, "of_best": 0.4, "convolutions": pytest.approx(0.9), "step": 1.28}


@pytest.mark.parametrize(("values", "at_least", "expected"), [
    ([5.0, 6.0], True, "met"), ([4.9, 6.0], True, "in some rounds"), ([4.0, 4.9], True, "not met"),
    ([4.0, 4.9], False, "met"), ([5.0, 4.9], False, "in some rounds"), ([5.0, 6.0], False, "not met"),
])
def test_a_goal_is_met_where_every_round_meets_it(values, at_least, expected):
    assert goals.outcome(values, 5.0, at_least) == expected


def test_goals_stand_beside_what_was_measured_and_say_why_not():
    loops = {"matmul_flops": {"bfloat16": 10e9}, "rows": [LOOP, LOOP | {"width": 16}]}
    taken = {"overhead": {"seconds": [8.0, 9.0, 10.0]}}
    rows = goals.table(loops, {"16": BARE, "64": BARE}, taken)
    assert [(row["goal"], row["measured"], row["outcome"]) for row in rows] == [
        ("5 times the original's loop at width 64", "4.00 (4.00 to 4.00)", "not met"),
        ("4 times the original's loop at width 16", "4.00 (4.00 to 4.00)", "met"),
        ("60 % of the matrix product's rate at width 64", "80 % (64 % to 96 %)", "met"),
        ("the smallest run takes less than 5 s beside its training", "9.0 s (8.0 s to 10.0 s)", "not met"),
    ]
    # An image takes 8e9 / 100 operations and the original 25 of them a second: 2e9, a fifth of the product's rate.
    assert "already computes at 20 %" in rows[0]["why"]
    assert "goal is 100 % of it (50 % of the fastest rate, product or convolution); ours reaches 80 %" in rows[0]["why"]
    assert rows[1]["why"] == rows[2]["why"] == ""
    assert "no part was timed alone" in rows[3]["why"]
    on_a_gpu = goals.table(loops | {"device": "cuda"}, {"16": BARE, "64": BARE}, taken)
    assert on_a_gpu[2]["goal"] == "50 % of the matrix product's rate at width 64"
    taken["overhead"] |= {"imports": [4.0], "reading": [1.25]}
    rows = goals.table(loops | {"matmul_flops": {"float32": 10e9}}, {"16": BARE, "64": BARE}, taken)
    assert rows[0]["why"].startswith("The goal is for processors with bfloat16 units.")
    assert "imports 4.0 s and reading and checking the data 1.2 s" in rows[3]["why"]
    built = goals.table(loops, {"16": BARE, "64": BARE}, taken,
                        building={"whole_seconds": 60.0, "untouched_seconds": 20.0})[-2:]
    assert [(row["measured"], row["outcome"]) for row in built] == [
        ("60 s (one round)", "met"), ("20 s (one round)", "not met")]


def test_the_website_is_built_twice_from_a_copy_of_what_is_committed(monkeypatch):
    called = []
    monkeypatch.setattr(building, "_call", lambda command, folder, environment=None: called.append(
        (Path(command[0]).name, command[1], environment)))
    answer = building.measure()
    assert [(program, first) for program, first, _ in called] == [("git", "clone"), *[("jupyter-book", "build")] * 2]
    assert set(answer) == {"whole_seconds", "untouched_seconds"}
    # Without the dataset, and from the copy's own results and library.
    for *_, environment in called[1:]:
        assert not Path(environment["CIFAR10_ROOT"]).exists()
        assert set(environment) == {"PYTHONPATH", "CIFARLAB_RESULTS", "CIFAR10_ROOT"}
    with pytest.raises(answers.BenchmarkError, match="failed"):
        monkeypatch.undo()
        building._call([sys.executable, "-c", "raise SystemExit(3)"], ".")


def test_the_race_stands_among_the_goals_with_the_rate_that_it_asks_for():
    loops = {"matmul_flops": {"bfloat16": 1e12}, "rows": [LOOP, LOOP | {"width": 16}]}
    race = {"level": "8 epochs", "ratio": [1.5], "theirs": [{"seconds": 1500.0, "test_accuracy": 0.94}],
            "ours": [{"seconds": 1000.0, "test_accuracy": 0.9411}]}
    row = goals.table(loops, {"16": BARE, "64": BARE}, {"overhead": {"seconds": [8.0]}}, race)[-1]
    assert "with our 8 epochs (mean test accuracy there: theirs 94.00 %, ours 94.11 %)" in row["goal"]
    assert (row["measured"], row["outcome"]) == ("1.50 (one round)", "not met")
    # 0.284 PFLOP in 1000 s is 0.284 TFLOP/s; twice as fast as 1500 s is 750 s.
    assert "0.28 PFLOP" in row["why"] and "at 28 %" in row["why"] and row["why"].endswith("would be 38 % of it.")
    kept = race | {"theirs_keeping_memory": [{"seconds": 800.0, "test_accuracy": 0.94}]}
    row = goals.table(loops, {"16": BARE, "64": BARE}, {"overhead": {"seconds": [8.0]}}, kept)[-1]
    assert "theirs 94.00 %, with its memory kept 94.00 %, ours 94.11 %" in row["goal"]
    # Its first biases rest for five of the eight epochs, which is 2 % less to compute.
    assert goals.with_memory_kept(kept).endswith(
        "ours (8 epochs) has 0.80 times (one round) its speed, with 1.02 times its arithmetic: operation for "
        "operation it goes 0.82 times as fast.")


def test_rounds_of_slower_days_do_not_change_what_the_race_asks_for():
    def seconds(*values):
        return [{"seconds": value, "test_accuracy": 0.94} for value in values]

    race = {"level": "8 epochs", "theirs": seconds(1500.0, 2400.0, 2000.0), "ours": seconds(1000.0, 2000.0, 1600.0),
            "theirs_keeping_memory": seconds(1700.0, 2200.0, 1500.0)}
    # As for the first round alone: the matrix product's rate is of a day when the machine was as fast.
    why = goals.what_the_race_takes(race, 1e12)
    assert "in the fastest round done at 28 %" in why and why.endswith("would be 38 % of it.")
    # The middle of 1.70, 1.10 and 0.94, not the middle seconds over the middle seconds, which are of two rounds.
    assert "has 1.10 times (0.94 to 1.70 in 3 rounds) its speed" in goals.with_memory_kept(race)


def test_the_gain_of_winograd_is_none_where_it_was_not_measured():
    speeds = {products.BY_DEFINITION: [10.0, 20.0, 10.0]}
    assert products.gain(speeds) is None
    assert products.gain(speeds | {products.BY_WINOGRAD: [20.0, 30.0, 10.0]}) == 1.5


CARD = {
    "matmul_flops": {"float32": 1e9, "bfloat16": 1e10},
    "loops": [{"width": 64, "original_images_per_second": [90.0, 110.0]}],
    "ours": [
        {"width": 64, "batch_size": batch, "compiled": compiled, "flops_per_image": 1e7,
         "images_per_second": 2 * [speed], "first_steps_seconds": 2.0}
        for batch, compiled, speed in (
            (1024, True, 600.0), (128, False, 100.0), (1024, False, 400.0), (128, True, 200.0))
    ],
    "at_once": {"width": 16, "images_per_second": {"1": [100.0], "2": [190.0], "4": [300.0], "8": [301.0]}},
}


def test_a_cards_loops_are_in_order_and_held_against_the_originals():
    rows = cards.loops(CARD)
    assert [(row["loop"], row["batch"], row["ratio"], row["of the product"]) for row in rows] == [
        ("the original's", 128, "1", ""), ("ours", 128, "1.0 (0.9 to 1.1)", "10 %"),
        ("ours, compiled", 128, "2.0 (1.8 to 2.2)", "20 %"), ("ours", 1024, "4.0 (3.6 to 4.4)", "40 %"),
        ("ours, compiled", 1024, "6.1 (5.5 to 6.7)", "60 %")]
    assert rows[0]["twenty epochs"] == "8000 s"
    assert cards.at_once(CARD) == {
        "width": 16, "1 at once (images/s)": "100", "2 at once (images/s)": "190", "4 at once (images/s)": "300",
        "8 at once (images/s)": "301"}


def test_what_is_said_of_a_card_follows_from_its_figures():
    goal, wait, compiled, together = cards.verdicts(CARD)
    assert goal.startswith("The goal, 50 % of the matrix product's rate at width 64, is met: 10 % with batches of 128;")
    assert wait.startswith("A step of 8 times the images takes only 2.0 times as long")
    assert together == (
        "4 runs at once, at width 16, finish 3.0 (3.0 to 3.0) times the images of one; more than that add nothing.")
    assert compiled == ("Compiled, a step with batches of 128 takes 0.50 of its time. "
                        "Twenty epochs, first passes included, take 4002 s compiled and 8002 s not.")
    busy = [row | {"images_per_second": [100.0]} for row in CARD["ours"] if not row["compiled"]]
    goal, together = cards.verdicts(CARD | {"ours": busy, "at_once": {"width": 8, "images_per_second": {
        "1": [100.0], "2": [200.0]}}})
    assert "is not met" in goal
    assert together == "2 runs at once, at width 8, finish 2.0 (2.0 to 2.0) times the images of one."


def test_the_gpus_benchmark_asks_each_process_in_turn_and_then_several_at_once(monkeypatch):
    asked = []

    class Told(gpu.Trainer):
        def __init__(self, *what):
            self.what, self.process = what, SimpleNamespace(kill=lambda: asked.append("killed"))
            self.ready = False

        def answer(self):
            self.ready, before = True, self.ready
            return {"images_per_second": 10.0} if before else {"first_steps_seconds": 1.0}

        def tell(self, seconds):
            asked.append(self.what)

    monkeypatch.setattr(gpu, "Trainer", Told)
    monkeypatch.setattr(gpu.data, "check_files", lambda root: None)
    monkeypatch.setattr(gpu, "matmul_rates", lambda device: {"float32": 1e9})
    found = gpu.measure(rounds=1, widths=(2, 4), batches=(256,), at_once=(1, 3), compile_them=False)
    plain = ("ours", 2, 128, False)
    assert asked == [
        ("original", 2, 128, False), ("original", 4, 128, False),
        plain, ("ours", 4, 128, False), ("ours", 4, 256, False),
        *4 * [plain], *7 * ["killed"]]
    assert found["at_once"] == {"width": 2, "images_per_second": {"1": [10.0], "3": [30.0]}}
    assert [(row["width"], row["ratio"]) for row in found["loops"]] == [(2, [1.0]), (4, [1.0])]
    assert [(row["batch_size"], row["first_steps_seconds"]) for row in found["ours"]] == [(128, 1), (128, 1), (256, 1)]


@pytest.mark.parametrize("loop", ["ours", "original"])
def test_a_trainer_says_when_it_is_ready_and_then_how_fast_it_is(monkeypatch, capsys, loop):
    class Few(data.Images):
        def take(self, index):
            return data.synthetic(256)

    monkeypatch.setattr(gpu.data, "load_cifar10", lambda train: Few(*vars(data.synthetic(2)).values()))
    monkeypatch.setattr(gpu, "original_passes", lambda config, device: lambda images, epoch: 1e-3 * images)
    monkeypatch.setattr(gpu.sys, "stdin", ["0.001", "0.001"])
    gpu.train_when_told({"loop": loop, "width": 2, "batch_size": 128, "compiled": False})
    ready, *told = map(json.loads, capsys.readouterr().out.splitlines())
    assert ready["first_steps_seconds"] >= 0
    assert all(answer["images_per_second"] > 0 for answer in told)
    assert len(told) == 2


def test_the_chapter_names_the_tests_that_need_a_gpu():
    tests = Path(__file__).parent
    marked = [name for path in sorted(tests.glob("test_*.py"))
              for name in re.findall(r"@pytest\.mark\.gpu\n(?:@.*\n)*def (\w+)", path.read_text(encoding="utf-8"))]
    chapter = nbformat.read(tests.parent / "notebooks" / "14-speed.ipynb", as_version=4)
    prose = "".join(cell.source for cell in chapter.cells if cell.cell_type == "markdown")
    assert marked
    assert sorted(re.findall(r"`(test_\w+)`", prose)) == sorted(marked)


def test_a_points_process_gets_its_environment(monkeypatch):
    started = []

    class Process:
        returncode = 0

        def __init__(self, command, env, **_):
            started.append((command[-1], env["THP_MEM_ALLOC_ENABLE"], env["OMP_NUM_THREADS"]))

        def communicate(self):
            return "{}", None

    monkeypatch.setattr(measuring.subprocess, "Popen", Process)
    measuring.points([{"config": {}, "threads": 3, "environment": {"THP_MEM_ALLOC_ENABLE": "1"}}])
    assert started == [('{"config": {}, "threads": 3}', "1", "3")]


def test_processes_at_once_are_added_up(monkeypatch):
    asked = []

    def measured(values):
        asked.extend(values)
        return [{"images_per_second": 100.0 + number, "peak_memory_bytes": 10} for number, _ in enumerate(values)]

    monkeypatch.setattr(growth, "points", measured)
    assert growth.together(3, seconds=1.0) == {"processes": 3, "images_per_second": 303.0, "peak_memory_bytes": 30}
    assert [point["threads"] for point in asked] == [1, 1, 1]


def test_runs_are_read_in_a_process_of_their_own(smoke_results, monkeypatch):
    monkeypatch.setenv("CIFARLAB_RESULTS", str(smoke_results))   # nothing is added to it meanwhile
    there = len(store.read_all())
    read = reading.measure()
    assert [answer["runs"] for answer in read] == [*(count for count in reading.RUNS if count < there), there]
    assert all(answer["seconds"] > 0 for answer in read)


def test_the_process_that_starts_runs_says_what_memory_it_needed(monkeypatch):
    monkeypatch.setattr(starting, "RUNS", (1,))
    (found,) = starting.measure()
    # It reckons how long its runs will take, from their networks, and needs PyTorch for that; it trains nothing.
    assert found["runs"] == 1
    assert 2e7 < found["peak_memory_bytes"] < 1e9


PEAKS = """
import subprocess, sys
from labbook.runs import provenance
def peak():
    return provenance.peak_memory()["peak_memory_bytes"]
ballast = bytearray(b"1") * 300_000_000
code = "from cifarlab import provenance; print(provenance.peak_memory()['peak_memory_bytes'])"
child = int(subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True).stdout)
own = peak()
del ballast
provenance.forget_peak_memory()
print(child, own, peak())
"""


def test_the_peak_of_a_process_is_its_own():
    # In a process of its own: one that has trained keeps the memory it frees.
    done = subprocess.run([sys.executable, "-c", PEAKS], stdout=subprocess.PIPE, text=True, check=True)
    child, own, later = map(int, done.stdout.split())
    assert 5e6 < child < 3e8 < own
    if sys.platform == "linux":
        assert later < own - 2e8


def test_answers_say_when_they_were_measured_and_which_by_earlier_code(monkeypatch):
    def answer(name, day, **other):
        today = {"code_digest": provenance.code_digest(), "bench_digest": answers.bench_digest(name)}
        return {"name": name, "provenance": {"date": f"{day}T10:00:00"} | today | other}

    new = answer("loops", "2026-01-02")
    assert answers.when([new]) == "measured 2026-01-02"
    # Earlier code may measure the same, and a digest may have been computed in another way.
    judged = next(iter(answers.SAME_MEASUREMENTS))
    assert answers.when([answer("costs", "2026-01-02", bench_digest=judged)]) == "measured 2026-01-02"
    monkeypatch.setitem(provenance.COMPUTED_ANEW, "old", answers.bench_digest("loops"))
    assert answers.when([answer("loops", "2026-01-02", bench_digest="old")]) == "measured 2026-01-02"
    assert "earlier code" in answers.when([answer("growth", "2026-01-02", bench_digest="old")])
    trained = answer("growth", "2026-01-01", code_digest="other")
    measured = answer("trials", "2026-01-01", bench_digest="other")
    assert answers.when([new, trained, measured]) == (
        "measured 2026-01-01 to 2026-01-02; by earlier code: `growth`, `trials`")


def test_the_digest_of_a_benchmark_sees_what_it_imports_and_no_more(monkeypatch):
    seen = {}
    monkeypatch.setattr(provenance, "digest_of", lambda paths: seen.update({path.stem: path for path in paths}))
    answers.bench_digest("growth")
    assert set(seen) == {"allocator", "growth", "measuring", "point", "reading", "starting", "textbook"}
    assert all(path.is_file() for path in seen.values())


def test_an_answer_says_where_any_part_of_it_was_measured():
    assert answers.on_a_gpu({"rows": [{"value": 1, "device": "cuda"}]})
    assert not answers.on_a_gpu({"rows": [{"device": "cpu"}], "reading": [1, "cuda"]})


def test_an_epochs_seconds_are_those_of_the_runs_kind():
    wide, narrow = RunConfig.of(width=8, precision="bfloat16"), RunConfig.of(width=4, precision="bfloat16")
    deep, reference = wide.with_(depth=13), wide.with_(width=16)
    timed = {"reference": costs.kind_of_run(reference).id, "kinds": {
        costs.kind_of_run(wide).id: {"seconds_per_image": 0.001, "ratio": [0.4, 0.5, 0.6]},
        costs.kind_of_run(deep).id: {"seconds_per_image": 0.003, "ratio": [1.5, 1.5, 1.5]},
        # A minute in which everything was slow, and the same thing timed beside itself.
        costs.kind_of_run(reference).id: {"seconds_per_image": 0.009, "ratio": [0.8, 1.1, 1.2]},
    }}
    # Seed, rate and schedule change no image's time; a part of the images takes its part of the time.
    same = wide.with_(seed=3, learning_rate=0.1, schedule="linear", epochs=2)
    assert costs.seconds_per_epoch(same, timed) == pytest.approx(40)
    assert costs.seconds_per_epoch(same.with_(train_images=10_000), timed) == pytest.approx(10)
    assert costs.seconds_per_epoch(deep, timed) == pytest.approx(120)
    assert costs.seconds_per_epoch(reference, timed) == pytest.approx(80)
    assert costs.seconds_per_epoch(narrow, timed) is None
    assert costs.seconds_per_epoch(wide.with_(norm="group"), timed) is None


def test_runs_that_share_the_cores_are_added_up_and_one_alone_has_all_threads(monkeypatch):
    asked = []

    def measured(values):
        asked.append([point["threads"] for point in values])
        return [{"images_per_second": 100.0} for _ in values]

    monkeypatch.setattr(packing, "points", measured)
    found = packing.one_or_many(8, cores=3, rounds=2)
    assert asked == [[3], [1, 1, 1]] * 2
    assert (found["one_run"], found["a_run_a_core"]) == ([100.0] * 2, [300.0] * 2)


@pytest.mark.dataset
def test_what_a_run_prepares_is_timed_in_a_process_of_its_own():
    assert all(seconds > 0 for seconds in packing.preparation())


@pytest.mark.dataset
def test_a_point_is_measured_in_its_own_process():
    (point,) = measuring.points([{"config": {"width": 2, "batch_size": 32}, "images": 64, "epochs": 2, "threads": 1}])
    assert point["images"] == 64
    assert point["images_per_second"] == pytest.approx(64 / point["seconds_per_epoch"])
    assert point["peak_memory_bytes"] > 1e8


def test_another_machines_answers_lie_beside_ours():
    pool = data.synthetic(8)
    assert all(products.step_seconds(way, 2, pool, at_least=0.0) > 0 for way in products.WAYS)
    for name in ("loops", "products"):
        for place in answers.folders(name):
            assert answers.read(name, place)["name"] == name


def test_the_race_needs_a_copy_of_the_program_it_knows(monkeypatch, tmp_path):
    monkeypatch.delenv("AIRBENCH94", raising=False)
    with pytest.raises(answers.BenchmarkError, match=r"AIRBENCH94: .* name your copy"):
        race.measure()
    other = tmp_path / "other.py"
    other.write_text("print('another program')\n")
    monkeypatch.setenv("AIRBENCH94", str(other))
    with pytest.raises(answers.BenchmarkError, match=r"no '@torch\.compile' in this file"):
        race.measure()


def test_the_program_is_changed_in_every_place_that_names_a_gpu():
    program = "\n".join(old.rstrip("\n") for old, _ in race.CHANGES + race.IN_BFLOAT16) + "\n"
    for bfloat16 in (False, True):
        changed = race.adapted(program, bfloat16)
        assert "cuda" not in changed and "half()" not in changed
        assert ("autocast" in changed) == bfloat16


@pytest.mark.parametrize(("program", "why"), [
    ("raise MemoryError('too little')", "exit status 1: MemoryError: too little"),
    ("print('| epoch |')", "exit status 0: it printed no row 'eval'"),
    ("import os; os.kill(os.getpid(), 9)", "exit status -9: it printed no row 'eval'"),
])
def test_a_program_that_fails_is_said_in_one_sentence(program, why):
    with pytest.raises(answers.BenchmarkError, match=re.escape(why)):
        race.their_run(program, data.synthetic(2), data.synthetic(2))


def test_the_program_is_run_as_it_comes_and_keeping_its_memory(monkeypatch, tmp_path):
    def run(program, images, test_images, environment=None):
        return {"seconds": 4.0 if environment else 6.0, "test_accuracy": 0.94}

    (tmp_path / "program.py").write_text("")
    monkeypatch.setenv("AIRBENCH94", str(tmp_path / "program.py"))
    monkeypatch.setattr(race, "adapted", lambda *_: "")
    monkeypatch.setattr(race.data, "load_cifar10", lambda train: data.synthetic(2))
    monkeypatch.setattr(race, "their_run", run)
    monkeypatch.setattr(race, "our_run", lambda config, *_: {"seconds": 2.0, "test_accuracy": config.epochs / 100})
    answer = race.measure(rounds=2)
    assert answer["ratio"] == [3.0, 3.0]
    assert [run["seconds"] for run in answer["theirs_keeping_memory"]] == [4.0, 4.0]
    assert answer["level"] == race.LEVEL
    epochs = studies.load("speedrun").config(race.LEVEL, 0).epochs
    assert {run["test_accuracy"] for run in answer["ours"]} == {epochs / 100}


@pytest.fixture
def one_round(monkeypatch, tmp_path):
    """A folder with a race of one round; each further round is slower by one second."""
    def measure(rounds=1, first_seed=1000):
        seconds = 2.0 + first_seed - 1000
        return {"level": race.LEVEL, "ours": [{"seconds": seconds, "test_accuracy": 0.94}], "ratio": [8 / seconds]}

    monkeypatch.setattr(race, "measure", measure)
    answers.write("race", measure() | {"wall_seconds": 1.0}, str(tmp_path))
    return str(tmp_path)


def test_rounds_are_added_to_a_race_each_with_its_day_and_a_seed_of_its_own(one_round):
    assert main(["bench", "--only", "race", "--add", "--rounds", "2", "--folder", one_round]) == 0
    answer = answers.read("race", one_round)
    assert [run["seconds"] for run in answer["ours"]] == [2.0, 3.0, 4.0]
    assert answer["ratio"] == [4.0, 8 / 3, 2.0]
    assert len(answer["days"]) == 3
    assert answer["wall_seconds"] > 1.0


def test_rounds_are_added_only_to_those_of_the_same_code_and_kind_of_processor(one_round, capsys):
    path = answers.path_of("race", one_round)
    measured = json.loads(path.read_text())
    for fact, other, why in (("bench_digest", "0" * 12, "other code"), ("threads", 99, "another processor")):
        path.write_text(json.dumps(measured | {"provenance": measured["provenance"] | {fact: other}}))
        assert main(["bench", "--only", "race", "--add", "--folder", one_round]) == 2
        assert why in capsys.readouterr().err
    assert main(["bench", "--only", "loops", "--add", "--folder", one_round]) == 2
    assert "for the race alone" in capsys.readouterr().err


def test_a_program_keeps_its_memory_by_its_environment():
    code = "from cifarlab import provenance as p; b = bytearray(b'1') * 300_000_000; del b; p.forget_peak_memory(); " \
           "print(p.peak_memory()['peak_memory_bytes'])"
    held = [int(subprocess.run([sys.executable, "-c", code], env=os.environ | variables, stdout=subprocess.PIPE,
                               text=True, check=True).stdout) for variables in ({}, race.KEEPING_MEMORY)]
    if platform.libc_ver()[0] == "glibc":
        assert held[1] > held[0] + 2e8


def test_our_side_of_the_race_counts_training_and_the_final_evaluation():
    config = RunConfig.of(model="speednet", width=2, optimizer="muon", batch_size=32, epochs=1, learning_rate=0.1)
    outcome = race.our_run(config, data.synthetic(64), data.synthetic(32))
    assert outcome["seconds"] > 0
    assert 0 <= outcome["test_accuracy"] <= 1


def test_a_missing_answer_says_how_to_measure_it(tmp_path):
    with pytest.raises(answers.BenchmarkError, match=r"`.*bench --only loops --folder .*` measures it"):
        answers.read("loops", str(tmp_path))


def test_a_damaged_answer_is_named_with_the_remedy(tmp_path):
    path = tmp_path / "loops.json"
    path.write_text('{"rows": [')
    with pytest.raises(answers.DamagedAnswerError, match=r"loops\.json is damaged .* bench --only loops --folder"):
        answers.read("loops", str(tmp_path))
    assert path.read_text() == '{"rows": ['
