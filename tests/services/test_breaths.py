"""Work that nobody waits for lets go of the processor between its pieces."""

from __future__ import annotations

import time

import pytest

from services import breaths


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The breaths that were taken, in seconds."""
    found: list[float] = []
    monkeypatch.setattr(time, "sleep", found.append)
    monkeypatch.setattr(breaths, "_is_patient", False)
    return found


def test_what_somebody_waits_for_takes_no_breath(taken: list[float]) -> None:
    rows = list(range(3 * breaths.PIECE))
    breaths.breathe()
    assert list(breaths.paced(rows)) == rows
    assert list(breaths.pieces(rows)) == [rows]
    assert taken == []


@pytest.mark.parametrize("count", [0, 1, breaths.PIECE, breaths.PIECE + 1, 3 * breaths.PIECE])
def test_patient_work_gets_every_row_once_and_in_order(taken: list[float], count: int) -> None:
    breaths.be_patient()
    rows = list(range(count))
    assert list(breaths.paced(rows)) == rows
    assert len(taken) == count // breaths.PIECE
    taken.clear()
    cut = list(breaths.pieces(rows))
    assert [row for piece in cut for row in piece] == rows
    assert all(0 < len(piece) <= breaths.PIECE for piece in cut)
    assert len(taken) == max(0, len(cut) - 1)


def test_a_breath_is_short_and_lets_others_run(taken: list[float]) -> None:
    breaths.be_patient()
    breaths.breathe()
    assert 0 < taken[0] <= 0.001
