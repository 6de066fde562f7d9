"""Command runs: a text from the maintenance command window, what it would do, and what it did."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column, relationship

from models.base import Base, IntPk, utcnow, word_type
from models.users import User


class CommandRunState(StrEnum):
    """PLANNED has answered with a dry run and waits for Run; REFUSED was pressed, and could not."""

    PLANNED = "planned"
    DONE = "done"
    REFUSED = "refused"


class CommandSource(StrEnum):
    WINDOW = "window"
    TERMINAL = "terminal"


class CommandRun(Base):
    """`plan` is what the dry run said, `outcome` what was done: JSON by command line, no secrets.

    A plan can be long and is loaded when it is asked for.

    `actor_id` is empty for a terminal, whose `actor_login` then names the account there.
    """

    __tablename__ = "command_runs"
    __table_args__ = (
        sa.CheckConstraint("(state = 'planned') = (ran_at IS NULL)", name="ended_has_time"),
        sa.Index("ix_command_runs_of_actor", "actor_id", "id"),
        sa.Index("ix_command_runs_by_state", "state", "id"),
    )

    id: Mapped[IntPk]
    actor_id: Mapped[int | None] = mapped_column(sa.ForeignKey("users.id"))
    actor_login: Mapped[str] = mapped_column(sa.String(320))
    source: Mapped[CommandSource] = mapped_column(word_type(CommandSource))
    state: Mapped[CommandRunState] = mapped_column(word_type(CommandRunState))
    text: Mapped[str] = mapped_column(sa.Text)
    plan: Mapped[dict[str, Any]] = mapped_column(default=dict, deferred=True)
    outcome: Mapped[dict[str, Any]] = mapped_column(default=dict)
    created_at: Mapped[datetime] = mapped_column(default=utcnow)
    ran_at: Mapped[datetime | None]

    actor: Mapped[User | None] = relationship()
