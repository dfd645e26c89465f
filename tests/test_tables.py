"""Tables: how cells are aligned and written."""

from __future__ import annotations

import pandas as pd
import pytest
from labbook.page import tables


@pytest.mark.parametrize(("cells", "words"), [
    (["no difference found", "one seed", ""], True),
    (["0.79 (0.74 to 0.79)", "–"], False),
    (["+4.22 ± 6.46", "reference", "-1.00"], False),
    ([16, 64], False),
    (["already at 38 % of the rate", ""], True),
    ([], False),
])
def test_columns_of_words_are_told_from_columns_of_numbers(cells, words):
    assert tables.in_words(pd.Series(cells, dtype=object)) is words


def test_a_minus_is_one_where_it_is_shown_and_codes_stay():
    shown = tables.as_shown([{"code": "resnet9-w16", "date": "2026-11-24", "difference": "-1.50 ± 0.20", "n": 3}])
    page = shown.to_html()
    assert "\N{MINUS SIGN}1.50 ± 0.20" in page
    assert "resnet9-w16" in page
    assert "2026-11-24" in page
    assert shown.data["difference"][0] == "-1.50 ± 0.20"


def test_the_lines_of_a_cell_stay_lines():
    assert "1.50<br>100 → 150" in tables.as_shown([{"level": "a", "speed": "1.50\n100 → 150"}]).to_html()


def test_words_are_aligned_left():
    html = tables.as_shown([{"level": "a", "accuracy": "84.1", "verdict": "no difference found"}]).to_html()
    style = html[: html.index("</style>")]
    assert "td.col2" in style
    assert "td.col1" not in style
