"""The lab's own command line, ``python -m cifarlab COMMAND``: the dataset."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer
from labbook import terminal

app = terminal.application(
    "The CIFAR-10 lab: its dataset.",
    {"download": "the next call goes on where this one ended"},
)


@app.command()
def download(
    source: Annotated[str | None, typer.Option(
        metavar="ADDRESS", help="Another address of the archive, or the path of a copy of it.")] = None,
) -> None:
    """Fetch CIFAR-10 and check it.

    170 MB, from its home page, into data/ or the folder that CIFAR10_ROOT names. A download that was stopped goes on
    where it ended; files that are missing or altered are replaced.
    """
    from cifarlab.data import cifar10_root
    from cifarlab.download import download as fetch

    fetch(cifar10_root(), source)
    print(f"CIFAR-10 is in {cifar10_root()}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; a wrong value is one clear sentence and exit status 2."""
    return terminal.run(app, arguments)


if __name__ == "__main__":
    sys.exit(main())
