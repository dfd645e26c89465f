"""The lab's own commands, ``python -m cifarlab COMMAND``: download, card, networks."""

from __future__ import annotations

import argparse
import sys

from labbook.errors import LabError


def download() -> None:
    """Fetch CIFAR-10 from its home page, and check it."""
    from torchvision.datasets import CIFAR10

    from cifarlab.data import DatasetError, check_files, cifar10_root

    root = cifar10_root()
    try:
        CIFAR10(root, download=True)
    except (OSError, RuntimeError) as error:
        raise DatasetError(
            f"CIFAR-10 could not be fetched into {root}: {error}. Try again, or unpack {CIFAR10.url} there by other "
            "means, or set CIFAR10_ROOT to a folder that holds cifar-10-batches-py."
        ) from error
    check_files(root)
    print(f"CIFAR-10 is in {root}")


def card() -> None:
    """Compute the dataset's card (statistics and sample pictures) for the data chapter."""
    from cifarbook import card

    print(f"written to {card.write()}")


def networks() -> None:
    """Describe every study's network (layers, parameters, arithmetic), so that the book is read without PyTorch."""
    from cifarbook import networks

    print(f"written to {networks.write()}")


def main(argv: list[str] | None = None) -> int:
    """Run one command; what goes wrong is one clear sentence and exit status 2."""
    parser = argparse.ArgumentParser(prog="cifarlab", description="The lab's own commands.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for function in (download, card, networks):
        commands.add_parser(function.__name__, help=function.__doc__).set_defaults(function=function)
    arguments = parser.parse_args(argv)
    try:
        arguments.function()
    except LabError as error:
        print(error, file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        print(f"This needs {error.name}, which is not installed. `make train-ready` installs it.", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
