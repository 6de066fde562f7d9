"""CSV that spreadsheets open harmlessly and everything reads back."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.csv_export import as_text, defuse, stream_csv, undefuse

FORMULAS = [
    "=1+1",
    "+1",
    "-1",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "\n=1",
    "\uff1d1",
    "=cmd|' /C calc'!A0",
    '=HYPERLINK("x")',
]


@pytest.mark.parametrize("cell", FORMULAS)
def test_a_formula_becomes_text(cell: str) -> None:
    assert defuse(cell) == f"'{cell}"


@pytest.mark.parametrize("cell", ["", "Ada", "1=1", "a@b.example", "12-3", "O'Brien", "'t Hart"])
def test_other_cells_stay_as_they_are(cell: str) -> None:
    assert defuse(cell) == cell


@pytest.mark.parametrize("cell", [*FORMULAS, "'=1", "''+1", "'", "''", "'t Hart", "\uff1d1", "x"])
def test_what_was_defused_comes_back(cell: str) -> None:
    assert undefuse(defuse(cell)) == cell


def read_back(header: list[str], rows: Sequence[tuple[str, ...]]) -> list[list[str]]:
    text = "".join(stream_csv(header, rows))
    assert text.startswith("\ufeff"), "spreadsheets take it for their old encoding"
    return list(csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline="")))


_CELLS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)


@given(st.lists(st.tuples(_CELLS, st.one_of(st.sampled_from(FORMULAS), _CELLS)), max_size=8))
def test_every_cell_comes_back_and_none_is_a_formula(rows: list[tuple[str, ...]]) -> None:
    header, *found = read_back(["A", "B"], rows)
    assert header == ["A", "B"]
    assert len(found) == len(rows)
    for given_row, row in zip(rows, found, strict=True):
        assert tuple(undefuse(cell) for cell in row) == given_row
        assert not [cell for cell in row if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]


@pytest.mark.parametrize("count", [0, 1, 499, 500, 501, 1000, 1234])
def test_pieces_are_small_and_lose_nothing(count: int) -> None:
    rows = [(str(number),) for number in range(count)]
    pieces = list(stream_csv(["N"], rows))
    assert len(pieces) == count // 500 + 1
    assert [row[0] for row in read_back(["N"], rows)[1:]] == [str(n) for n in range(count)]


def test_values_as_cells() -> None:
    assert as_text(None) == ""
    assert as_text(7) == "7"
    assert as_text(datetime(2026, 2, 3, 4, 5, 6, 7, tzinfo=UTC)) == "2026-02-03 04:05:06"
