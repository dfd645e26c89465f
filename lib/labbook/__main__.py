"""``python -m labbook``: the command line of :mod:`labbook.cli`."""

import sys

from labbook.cli import main

if __name__ == "__main__":
    sys.exit(main())
