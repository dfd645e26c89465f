"""The figures of the chapter on speed: where a step's time goes, and how time and memory grow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from labbook.page.figures import COLOURS, FAINT, INK, BookFigure, legend_below, look, new_figure, plain_log_ticks
from matplotlib.ticker import FuncFormatter, NullFormatter

GROWTH_LABELS = {
    "batch_size": "batch size (images)", "width": "width (channels)", "depth": "depth (layers)",
    "kernel_size": "kernel side (pixels)", "train_images": "training images", "epochs": "epochs",
}


def step_shares(milliseconds: Mapping[str, Mapping[str, Mapping[str, float]]]) -> BookFigure:
    """Milliseconds a step by kind of operation: one panel a width, one stacked bar a loop.

    ``milliseconds``: width to loop to kind. Kinds below a fiftieth of every bar are drawn as the rest.
    """
    figure, axes = new_figure(1, len(milliseconds), width=7.0, height=1.7)
    totals = {(w, name): sum(kinds.values()) for w, loops in milliseconds.items() for name, kinds in loops.items()}
    large = [
        kind for kind in dict.fromkeys(k for loops in milliseconds.values() for kinds in loops.values() for k in kinds)
        if kind != "other" and any(
            loops[name].get(kind, 0) > 0.02 * totals[w, name] for w, loops in milliseconds.items() for name in loops)
    ]
    for axis, (width, loops) in zip(axes, milliseconds.items(), strict=True):
        for place, (_, kinds) in enumerate(reversed(list(loops.items()))):
            start = 0.0
            parts = [(kind, kinds.get(kind, 0.0)) for kind in large]
            parts.append(("everything else", sum(kinds.values()) - sum(value for _, value in parts)))
            for number, (kind, value) in enumerate(parts):
                axis.barh(place, value, left=start, height=0.6, color=(*COLOURS, INK)[number % 8],
                          hatch="//" if number >= len(COLOURS) else None, edgecolor="white", linewidth=0.5,
                          label=kind if not place else None)
                start += value
        axis.set_yticks(range(len(loops)), list(reversed(list(loops))))
        axis.set(xlabel="milliseconds a step", title=f"width {width}")
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=3, frameon=False, fontsize="small")
    return figure


def growth(rows: Sequence[Mapping], memory_before: float = 0.0) -> BookFigure:
    """Milliseconds an image (top) and peak memory (bottom) against each factor that was varied alone.

    ``memory_before``: bytes that a process holds before it trains; they are taken off.
    """
    frame = pd.DataFrame(rows)
    factors = [factor for factor in GROWTH_LABELS if factor in set(frame["factor"])]
    figure, axes = new_figure(3, 2 * -(-len(factors) // 3), width=2.7, height=2.4)
    for axis in axes:
        axis.axis("off")
    for number, factor in enumerate(factors):
        part = frame[frame["factor"] == factor].sort_values("value")
        block, column = divmod(number, 3)
        time, memory = axes[6 * block + column], axes[6 * block + 3 + column]
        for axis, values, colour, marker in (
            (time, 1e3 / part["images_per_second"], COLOURS[0], "o"),
            (memory, (part["peak_memory_bytes"] - memory_before) / 2**20, COLOURS[1], "s"),
        ):
            axis.axis("on")
            axis.plot(part["value"], values, marker=marker, color=colour, markersize=4)
            axis.set(xscale="log", ylim=(0, 1.15 * float(np.max(values))))
            axis.set_xticks(list(part["value"]), [f"{value:,}" for value in part["value"]], fontsize=7.5)
            axis.xaxis.set_minor_formatter(NullFormatter())
            axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        memory.set_xlabel(GROWTH_LABELS[factor])
        if not column:
            time.set_ylabel("time (ms an image)")
            memory.set_ylabel("peak memory,\nadded (MiB)")
    return figure


def time_against_accuracy(
    runs: Mapping[str, pd.DataFrame], records: Sequence[Mapping[str, Any]], elsewhere: str
) -> BookFigure:
    """Test accuracy against the time of training, every run a dot; published records of another machine as crosses.

    ``runs``: label to a frame with ``seconds`` and ``test_accuracy`` (a fraction). ``elsewhere`` names the machine of
    ``records`` (name, seconds, test_accuracy).
    """
    figure, (axis,) = new_figure(width=7.0, height=4.0)
    for number, (label, frame) in enumerate(runs.items()):
        colour, _, marker = look(number)
        axis.plot(frame["seconds"], 100 * frame["test_accuracy"], linestyle="", marker=marker, markersize=6, alpha=0.7,
                  color=colour, label=label)
    axis.plot([record["seconds"] for record in records], [100 * record["test_accuracy"] for record in records],
              linestyle="", marker="x", markersize=8, color=INK, label=f"published: {elsewhere}")
    for target in (94, 95, 96):
        axis.axhline(target, color=FAINT, linewidth=0.8, linestyle=":")
    axis.set_xscale("log")
    plain_log_ticks(axis.xaxis)
    axis.margins(x=0.15, y=0.3)
    axis.set(xlabel="time of training (seconds)", ylabel="test accuracy (%)")
    legend_below(figure, axis)
    middle = np.sqrt(np.prod(axis.get_xlim()))
    for record in records:
        # Towards the middle, so that the name stays inside the frame.
        right = record["seconds"] > middle
        axis.annotate(record["name"], (record["seconds"], 100 * record["test_accuracy"]), fontsize="small", color=INK,
                      xytext=(-6 if right else 6, -12), textcoords="offset points", ha="right" if right else "left")
    return figure
