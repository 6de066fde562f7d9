"""Imports of users: the file as it was uploaded, its rows, and what became of them."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column, relationship

from models.base import ID, Base, IntPk, key_type, utcnow, word_type
from models.customers import Customer
from models.mailings import Mailing


class ImportState(StrEnum):
    """UPLOADED waits for its columns to be named, CHECKED for somebody to begin it.

    FAILED is a file that could not be read to its end; its columns can be named again.
    """

    UPLOADED = "uploaded"
    CHECKING = "checking"
    CHECKED = "checked"
    FAILED = "failed"
    IMPORTING = "importing"
    FINISHED = "finished"
    CANCELLED = "cancelled"
    UNDOING = "undoing"
    UNDONE = "undone"


WORKED_ON = (ImportState.CHECKING, ImportState.IMPORTING, ImportState.UNDOING)
"""The states in which a worker has something to do."""


class ImportRowState(StrEnum):
    """First what would become of a row, then what became of it.

    UNDONE was added and is gone again; KEPT was added, and was in use when the import was undone.
    """

    FAULTY = "faulty"
    TO_ADD = "to_add"
    TO_UPDATE = "to_update"
    SAME = "same"
    ADDED = "added"
    UPDATED = "updated"
    UNCHANGED = "unchanged"
    FAILED = "failed"
    UNDONE = "undone"
    KEPT = "kept"


ROW_COUNTERS = tuple(state.value for state in ImportRowState)


class UserImport(Base):
    """One file of users for one customer.

    `head` are its first records, `headings` what its columns are called, `columns` the field that
    each of them is (empty for one that is left out). `share` is how much of the file has been read,
    from 0 to 1, and `read_to` the last record of it that is among the rows. The counters are the
    rows by state. `only_users` says that whoever began it may not touch administrators.
    """

    __tablename__ = "user_imports"
    __table_args__ = (
        sa.CheckConstraint(
            " AND ".join(f"{name} >= 0" for name in ROW_COUNTERS), name="counters_not_negative"
        ),
        sa.CheckConstraint(
            "(lease_token IS NULL) = (lease_expires_at IS NULL)", name="lease_is_whole"
        ),
        sa.Index("ix_user_imports_of_customer", "customer_id", "id"),
        sa.Index(
            "ix_user_imports_worked_on",
            "id",
            sqlite_where=sa.text("state IN ('checking', 'importing', 'undoing')"),
            postgresql_where=sa.text("state IN ('checking', 'importing', 'undoing')"),
        ),
        sa.Index(
            "ix_user_imports_to_wipe",
            "changed_at",
            sqlite_where=sa.text("wiped_at IS NULL"),
            postgresql_where=sa.text("wiped_at IS NULL"),
        ),
    )

    id: Mapped[IntPk]
    customer_id: Mapped[int] = mapped_column(sa.ForeignKey("customers.id"))
    state: Mapped[ImportState] = mapped_column(
        word_type(ImportState), default=ImportState.UPLOADED, server_default="uploaded"
    )
    created_by_id: Mapped[int | None] = mapped_column(sa.ForeignKey("users.id"))
    actor_login: Mapped[str] = mapped_column(sa.String(320))
    behalf_id: Mapped[int | None] = mapped_column(sa.ForeignKey("users.id"))
    behalf_login: Mapped[str] = mapped_column(sa.String(320), default="", server_default="")
    address: Mapped[str] = mapped_column(sa.String(64), default="", server_default="")
    only_users: Mapped[bool] = mapped_column(default=False, server_default=sa.false())

    file_name: Mapped[str] = mapped_column(sa.String(200))
    file_bytes: Mapped[int]
    kind: Mapped[str] = mapped_column(sa.String(8))
    encoding: Mapped[str] = mapped_column(sa.String(16), default="", server_default="")
    delimiter: Mapped[str] = mapped_column(sa.String(4), default="", server_default="")
    sheets: Mapped[list[Any]] = mapped_column(sa.JSON, default=list, server_default="[]")
    sheet: Mapped[int] = mapped_column(default=0, server_default="0")
    has_headings: Mapped[bool] = mapped_column(default=True, server_default=sa.true())
    head: Mapped[list[Any]] = mapped_column(sa.JSON, default=list, server_default="[]")
    headings: Mapped[list[Any]] = mapped_column(sa.JSON, default=list, server_default="[]")
    columns: Mapped[list[Any]] = mapped_column(sa.JSON, default=list, server_default="[]")
    updates: Mapped[bool] = mapped_column(default=False, server_default=sa.false())
    empties: Mapped[bool] = mapped_column(default=False, server_default=sa.false())
    sends_welcome: Mapped[bool] = mapped_column(default=False, server_default=sa.false())

    share: Mapped[float] = mapped_column(sa.Float, default=0.0, server_default="0")
    read_to: Mapped[int] = mapped_column(default=0, server_default="0")
    problem: Mapped[str] = mapped_column(sa.String(500), default="", server_default="")
    faulty: Mapped[int] = mapped_column(default=0, server_default="0")
    to_add: Mapped[int] = mapped_column(default=0, server_default="0")
    to_update: Mapped[int] = mapped_column(default=0, server_default="0")
    same: Mapped[int] = mapped_column(default=0, server_default="0")
    added: Mapped[int] = mapped_column(default=0, server_default="0")
    updated: Mapped[int] = mapped_column(default=0, server_default="0")
    unchanged: Mapped[int] = mapped_column(default=0, server_default="0")
    failed: Mapped[int] = mapped_column(default=0, server_default="0")
    undone: Mapped[int] = mapped_column(default=0, server_default="0")
    kept: Mapped[int] = mapped_column(default=0, server_default="0")
    mailing_id: Mapped[int | None] = mapped_column(sa.ForeignKey("mailings.id"))

    lease_token: Mapped[str | None] = mapped_column(sa.String(32))
    lease_expires_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(default=utcnow)
    changed_at: Mapped[datetime] = mapped_column(default=utcnow)
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    wiped_at: Mapped[datetime | None]

    customer: Mapped[Customer] = relationship()
    mailing: Mapped[Mailing | None] = relationship()

    @property
    def rows(self) -> int:
        """Rows of users that have been read, faulty ones included."""
        return sum(getattr(self, name) for name in ROW_COUNTERS)

    @property
    def waiting(self) -> int:
        """Rows that would be imported and have not been."""
        return self.to_add + self.to_update + self.same

    @property
    def done(self) -> int:
        """Rows that the import has come to its end with."""
        return self.added + self.updated + self.unchanged + self.failed + self.undone + self.kept

    @property
    def is_worked_on(self) -> bool:
        return self.state in WORKED_ON


class UserImportPiece(Base):
    """A piece of the uploaded file, which the database holds because any machine may work on it."""

    __tablename__ = "user_import_pieces"

    import_id: Mapped[int] = mapped_column(
        sa.ForeignKey("user_imports.id", ondelete="CASCADE"), primary_key=True
    )
    position: Mapped[int] = mapped_column(primary_key=True)
    content: Mapped[bytes] = mapped_column(sa.LargeBinary)


class UserImportRow(Base):
    """A record of the file. `position` is its number there, headings included, as people count.

    `cells` are its texts in the columns that are fields; `faults` are pairs of field and sentence;
    `user_id` is who was added or changed.
    """

    __tablename__ = "user_import_rows"
    __table_args__ = (
        sa.UniqueConstraint("import_id", "position"),
        sa.Index("ix_user_import_rows_by_state", "import_id", "state", "position"),
        sa.Index("ix_user_import_rows_by_login", "import_id", "login_key"),
    )

    id: Mapped[IntPk]
    import_id: Mapped[int] = mapped_column(sa.ForeignKey("user_imports.id", ondelete="CASCADE"))
    position: Mapped[int]
    state: Mapped[ImportRowState] = mapped_column(word_type(ImportRowState))
    login_key: Mapped[str] = mapped_column(key_type(320), default="", server_default="")
    cells: Mapped[list[Any]] = mapped_column(sa.JSON)
    faults: Mapped[list[Any]] = mapped_column(sa.JSON, default=list, server_default="[]")
    user_id: Mapped[int | None] = mapped_column(ID)
