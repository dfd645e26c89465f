"""The progress bar over many runs: it counts runs, and moves, and reckons the time left, by their arithmetic."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Self

from cifarlab.config import RunConfig

EVERY_SECONDS = 5.0


def work(configs: Sequence[RunConfig]) -> dict[str, float]:
    """Floating-point operations of each run, by id; runs that differ by their seed are counted once."""
    from cifarlab.summary import training_flops  # imports torch, which who only looks at results does not need

    counted: dict[RunConfig, float] = {}
    for config in configs:
        alike = config.with_(seed=0)
        if alike not in counted:
            counted[alike] = training_flops(alike)
    return {config.id: counted[config.with_(seed=0)] for config in configs}


class RunsBar:
    """A context manager that draws the bar on stderr, and removes it at its end.

    ``progress`` says of runs under way how many epochs are finished and asked for
    (:func:`labbook.runs.execution.progress`); it is asked every few seconds, so the bar moves within a long run too. What
    was finished before counts as done, and not as speed.
    """

    def __init__(self, configs: Sequence[RunConfig], progress: Callable[[], Mapping[str, Mapping[str, int]]]):
        from tqdm import tqdm

        self.work, self.progress = work(configs), progress
        self.finished: set[str] = set()
        self.over = threading.Event()
        self.bar = tqdm(
            total=sum(self.work.values()), initial=self._done(), file=sys.stderr, disable=not configs, leave=False,
            dynamic_ncols=True, desc=self._counted(),
            bar_format="{desc} {percentage:3.0f}%|{bar}| {elapsed}, about {remaining} left",
        )

    def __enter__(self) -> Self:
        if not self.bar.disable:
            threading.Thread(target=self._follow, daemon=True).start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.over.set()
        self.bar.close()

    def finish(self, run_id: str) -> None:
        """Count a run that is finished, or failed: nothing of it is left to do."""
        self.finished.add(run_id)
        self.bar.set_description_str(self._counted(), refresh=False)
        self.refresh()

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        self.bar.write(line, file=sys.stderr)

    def refresh(self) -> None:
        """Draw the bar as far as the runs are now."""
        self.bar.n = self._done()
        self.bar.refresh()

    def _counted(self) -> str:
        return f"{len(self.finished)}/{len(self.work)} runs"

    def _done(self) -> float:
        under_way = {run_id: state["epochs"] / state["of"] for run_id, state in self.progress().items()}
        return sum(
            work * (1.0 if run_id in self.finished else under_way.get(run_id, 0.0))
            for run_id, work in self.work.items()
        )

    def _follow(self) -> None:
        while not self.over.wait(EVERY_SECONDS):
            self.refresh()
