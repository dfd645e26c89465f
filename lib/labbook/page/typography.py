"""How a negative number is written; shared by tables.py and ext/typography.py."""

from __future__ import annotations

import re

# A hyphen before a digit that follows no word, and what stands for it.
MINUS = re.compile(r"(?<![\w-])-(?=\d)"), "\N{MINUS SIGN}"
