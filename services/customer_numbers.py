"""Numbers of new customers: custno and web ID, each given out once and never again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa

from models import Customer, NumberSequence

_LOOK_AHEAD = 200
_T = NumberSequence


def draw_numbers(connection: sa.Connection) -> tuple[int, str]:
    """The next custno and web ID, in the caller's transaction.

    Nobody else draws until that transaction ends; its rollback gives them back. Numbers that
    customers have already, whoever gave them, are skipped.
    """
    custno = _draw(connection, "custno", Customer.custno, lambda number: number)
    web_number = _draw(connection, "web_id", Customer.web_id, web_id_of)
    return custno, web_id_of(web_number)


def web_id_of(number: int) -> str:
    """CQ001, …, CQ999, CQ1000, …"""
    return f"CQ{number:03}"


def _draw(
    connection: sa.Connection,
    name: str,
    column: sa.orm.InstrumentedAttribute[Any],
    written: Callable[[int], Any],
) -> int:
    # An update even of nothing: it locks the sequence on both databases before it is read.
    last: int = connection.execute(
        sa.update(_T).where(_T.name == name).values(last=_T.last).returning(_T.last)
    ).scalar_one()
    while True:
        candidates = {written(number): number for number in range(last + 1, last + 1 + _LOOK_AHEAD)}
        taken = set(connection.scalars(sa.select(column).where(column.in_(candidates))))
        free = [number for value, number in candidates.items() if value not in taken]
        if free:
            break
        last += _LOOK_AHEAD
    connection.execute(sa.update(_T).where(_T.name == name).values(last=free[0]))
    return free[0]
