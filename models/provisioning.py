"""Provisioning: the runs and steps that turn a request into a customer, and when they may run."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column, relationship

from models.base import Base, IntPk, key_type, utcnow, word_type
from models.subscription_requests import SubscriptionRequest
from models.users import User


class RunState(StrEnum):
    RUNNING = "running"
    FAILED = "failed"
    ROLLING_BACK = "rolling_back"
    COMPLETED = "completed"
    ROLLED_BACK = "rolled_back"


class StepName(StrEnum):
    """The steps in their order."""

    RESERVE_NAMES = "reserve_names"
    CREATE_CUSTOMER = "create_customer"
    CLONE_TEMPLATE = "clone_template"
    CREATE_ON_PLATFORM = "create_on_platform"
    CREATE_ADMINISTRATOR = "create_administrator"
    CHECK = "check"
    NOTIFY = "notify"


class StepState(StrEnum):
    PENDING = "pending"
    RUNNING = "running"
    WAITING = "waiting"
    DONE = "done"
    FAILED = "failed"
    UNDOING = "undoing"
    UNDONE = "undone"


class ProvisioningRun(Base):
    """The work on one request; there is at most one, which a retry goes on with.

    A worker holds it by `lease_token` until `lease_expires_at`; without a lease it waits for
    `next_attempt_at`. Only a run with a lease counts against the cap.
    """

    __tablename__ = "provisioning_runs"
    __table_args__ = (
        sa.CheckConstraint(
            "(lease_token IS NULL) = (lease_expires_at IS NULL)", name="lease_is_whole"
        ),
        sa.Index(
            "ix_provisioning_runs_open",
            "next_attempt_at",
            sqlite_where=sa.text("state IN ('running', 'rolling_back')"),
            postgresql_where=sa.text("state IN ('running', 'rolling_back')"),
        ),
        sa.Index(
            "ix_provisioning_runs_leased",
            "lease_expires_at",
            sqlite_where=sa.text("lease_token IS NOT NULL"),
            postgresql_where=sa.text("lease_token IS NOT NULL"),
        ),
    )

    id: Mapped[IntPk]
    request_id: Mapped[int] = mapped_column(sa.ForeignKey("subscription_requests.id"), unique=True)
    state: Mapped[RunState] = mapped_column(word_type(RunState), default=RunState.RUNNING)
    lease_token: Mapped[str | None] = mapped_column(sa.String(64))
    lease_expires_at: Mapped[datetime | None]
    next_attempt_at: Mapped[datetime] = mapped_column(default=utcnow)
    started_at: Mapped[datetime] = mapped_column(default=utcnow)
    ended_at: Mapped[datetime | None]

    request: Mapped[SubscriptionRequest] = relationship()
    steps: Mapped[list[ProvisioningStep]] = relationship(order_by="ProvisioningStep.position")


class ProvisioningStep(Base):
    """One idempotent step of a run, with what its last attempt said. No secrets in `output`.

    `attempts` counts since the run began, was reopened or began to be rolled back. A step with
    `started_at` may have had an effect; `started_at` and `ended_at` are of its last attempt.
    """

    __tablename__ = "provisioning_steps"
    __table_args__ = (
        sa.UniqueConstraint("run_id", "position"),
        sa.UniqueConstraint("run_id", "name"),
    )

    id: Mapped[IntPk]
    run_id: Mapped[int] = mapped_column(sa.ForeignKey("provisioning_runs.id"))
    position: Mapped[int]
    name: Mapped[StepName] = mapped_column(word_type(StepName))
    state: Mapped[StepState] = mapped_column(word_type(StepState), default=StepState.PENDING)
    attempts: Mapped[int] = mapped_column(default=0, server_default="0")
    started_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]
    output: Mapped[str] = mapped_column(sa.Text, default="", server_default="")
    error: Mapped[str] = mapped_column(sa.String(2000), default="", server_default="")

    @property
    def duration(self) -> timedelta | None:
        """Of its last attempt, None while there is none that has ended."""
        if self.started_at is None or self.ended_at is None:
            return None
        return self.ended_at - self.started_at


class ProvisioningPolicy(Base):
    """When and how much is provisioned: one row, `id` 1.

    `paused_at` stops all runs between two steps. `max_runs` is the cap on runs at once. Off-peak
    windows and exceptions are in `time_zone`.
    """

    __tablename__ = "provisioning_policy"
    __table_args__ = (
        sa.CheckConstraint("id = 1", name="one_row"),
        sa.CheckConstraint("max_runs BETWEEN 1 AND 100", name="max_runs_limited"),
    )

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    version: Mapped[int] = mapped_column(default=1, server_default="1")
    time_zone: Mapped[str] = mapped_column(sa.String(64))
    max_runs: Mapped[int]
    paused_at: Mapped[datetime | None]
    paused_by_id: Mapped[int | None] = mapped_column(sa.ForeignKey("users.id"))
    pause_reason: Mapped[str] = mapped_column(sa.String(500), default="", server_default="")

    paused_by: Mapped[User | None] = relationship()


class OffPeakWindow(Base):
    """A window on some days of the week, over midnight where it ends before it begins.

    `days` are ISO weekdays in order ("12345"), of the day on which the window begins; the times
    are minutes after midnight by the wall clock of the policy's time zone. Equal times are a
    whole day.
    """

    __tablename__ = "off_peak_windows"
    __table_args__ = (
        sa.CheckConstraint("days <> ''", name="days_given"),
        sa.CheckConstraint("from_minute BETWEEN 0 AND 1439", name="from_in_day"),
        sa.CheckConstraint("to_minute BETWEEN 0 AND 1439", name="to_in_day"),
    )

    id: Mapped[IntPk]
    days: Mapped[str] = mapped_column(sa.String(7))
    from_minute: Mapped[int]
    to_minute: Mapped[int]


class OffPeakException(Base):
    """A date with rules of its own: off-peak all day, as on a holiday, or not at all."""

    __tablename__ = "off_peak_exceptions"

    day: Mapped[date] = mapped_column(sa.Date, primary_key=True)
    all_day: Mapped[bool]
    note: Mapped[str] = mapped_column(sa.String(100), default="", server_default="")


class NumberSequence(Base):
    """The last number given out under a name, such as "custno"."""

    __tablename__ = "number_sequences"

    name: Mapped[str] = mapped_column(key_type(32), primary_key=True)
    last: Mapped[int]


class LocalPlatformTenant(Base):
    """A tenant on the local application platform, which stands in where there is no other."""

    __tablename__ = "local_platform_tenants"

    reference: Mapped[str] = mapped_column(key_type(64), primary_key=True)
    name: Mapped[str] = mapped_column(sa.String(64))
    upn_suffix: Mapped[str] = mapped_column(key_type(253), unique=True)
    settings: Mapped[dict[str, Any]] = mapped_column(default=dict)
    suspended: Mapped[bool] = mapped_column(default=False, server_default=sa.false())
    created_at: Mapped[datetime] = mapped_column(default=utcnow)
