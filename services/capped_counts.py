"""Counts up to a number: one over a million rows would make everybody's page slow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from extensions import db

COUNT_CAP = 1000


@dataclass(frozen=True, slots=True)
class CappedCount:
    """`number`, or more than that where `is_more`."""

    number: int
    is_more: bool = False


def count_up_to(rows: sa.Select[Any], cap: int = COUNT_CAP) -> CappedCount:
    """How many `rows` there are, counted no further than `cap`."""
    some = rows.limit(cap + 1).subquery()
    found = db.session.scalar(sa.select(sa.func.count()).select_from(some)) or 0
    return CappedCount(min(found, cap), found > cap)
