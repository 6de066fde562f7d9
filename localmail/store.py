"""Received mails in a SQLite file, newest last, the oldest dropped beyond a limit."""

from __future__ import annotations

import queue
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

KEPT = 10_000
_BATCH = 500
_LAST_CHARACTER = "\U0010ffff"

_SCHEMA = """
CREATE TABLE IF NOT EXISTS message (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    received_at REAL NOT NULL,
    sender TEXT NOT NULL,
    recipients TEXT NOT NULL,
    subject TEXT NOT NULL,
    raw BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS recipient (
    address TEXT NOT NULL,
    message_id INTEGER NOT NULL REFERENCES message (id) ON DELETE CASCADE,
    PRIMARY KEY (address, message_id)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS recipient_message ON recipient (message_id);
"""


@dataclass(frozen=True, slots=True)
class Incoming:
    """A mail as the SMTP dialogue gave it, not yet stored."""

    sender: str
    recipients: Sequence[str]
    subject: str
    raw: bytes


@dataclass(frozen=True, slots=True)
class Stored:
    """A row of the list; the message itself is fetched with `MailStore.raw`."""

    id: int
    received_at: datetime
    sender: str
    recipients: tuple[str, ...]
    subject: str


class MailStore:
    """The mails below one path. Safe to share between threads; close it to stop its writer.

    One thread writes and commits whatever has gathered meanwhile, so that many connections share a
    commit and yet none is told "accepted" before its mail is in the file.
    """

    def __init__(self, path: Path, *, kept: int = KEPT) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._kept = kept
        self._incoming: queue.SimpleQueue[tuple[Incoming, Future[int]] | None] = queue.SimpleQueue()
        with self._connection() as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.executescript(_SCHEMA)
        self._writer = threading.Thread(target=self._write, name="mail-writer", daemon=True)
        self._writer.start()

    def close(self) -> None:
        """Store what has been handed over, then stop the writer."""
        self._incoming.put(None)
        self._writer.join()

    def add(self, mail: Incoming) -> Future[int]:
        """Hand over a mail; the future gives its id once it is committed, or sqlite3.Error."""
        stored: Future[int] = Future()
        self._incoming.put((mail, stored))
        return stored

    def newest(self, *, to: str = "", before: int | None = None, limit: int = 50) -> list[Stored]:
        """List mails, newest first, older than the id `before`.

        `to` keeps those with a recipient that starts with it, without regard to case.
        """
        conditions = ["id < ?"]
        parameters: list[str | int] = [before if before is not None else 2**62]
        if to:
            prefix = to.lower()
            conditions.append(
                "id IN (SELECT message_id FROM recipient WHERE address >= ? AND address < ?)"
            )
            parameters += [prefix, prefix + _LAST_CHARACTER]
        statement = (
            "SELECT id, received_at, sender, recipients, subject FROM message "  # noqa: S608
            f"WHERE {' AND '.join(conditions)} ORDER BY id DESC LIMIT ?"
        )
        with self._connection() as connection:
            rows = connection.execute(statement, [*parameters, limit]).fetchall()
        return [_stored(row) for row in rows]

    def find(self, message_id: int) -> tuple[Stored, bytes] | None:
        """Give the row and the message as received, or None when there is none (any more)."""
        with self._connection() as connection:
            row = connection.execute(
                "SELECT id, received_at, sender, recipients, subject, raw FROM message "
                "WHERE id = ?",
                [message_id],
            ).fetchone()
        return (_stored(row[:5]), bytes(row[5])) if row else None

    def count(self) -> int:
        """How many mails are kept."""
        with self._connection() as connection:
            return int(connection.execute("SELECT count(*) FROM message").fetchone()[0])

    def empty(self) -> None:
        """Delete all mails. Ids go on counting, so that an old link never shows another mail."""
        with self._connection() as connection:
            connection.execute("DELETE FROM message")

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """Open a connection, commit at the end, roll back on an error."""
        with closing(sqlite3.connect(self._path, timeout=30)) as connection:
            connection.execute("PRAGMA foreign_keys = ON")
            # With a write-ahead log, what is committed outlives the death of the process.
            connection.execute("PRAGMA synchronous = NORMAL")
            with connection:
                yield connection

    def _write(self) -> None:
        with closing(sqlite3.connect(self._path, timeout=30)) as connection:
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("PRAGMA synchronous = NORMAL")
            while (first := self._incoming.get()) is not None:
                batch, ended = self._gather(first)
                self._commit(connection, batch)
                if ended:
                    return

    def _gather(
        self, first: tuple[Incoming, Future[int]]
    ) -> tuple[list[tuple[Incoming, Future[int]]], bool]:
        """Take what is waiting without waiting for more; tell whether the end was among it."""
        batch = [first]
        while len(batch) < _BATCH:
            try:
                following = self._incoming.get_nowait()
            except queue.Empty:
                break
            if following is None:
                return batch, True
            batch.append(following)
        return batch, False

    def _commit(
        self, connection: sqlite3.Connection, batch: list[tuple[Incoming, Future[int]]]
    ) -> None:
        ids: list[int] = []
        try:
            with connection:
                ids = [_insert(connection, mail) for mail, _ in batch]
                connection.execute("DELETE FROM message WHERE id <= ?", [ids[-1] - self._kept])
        except sqlite3.Error as error:
            for _, stored in batch:
                stored.set_exception(error)
            return
        for (_, stored), message_id in zip(batch, ids, strict=True):
            stored.set_result(message_id)


def _insert(connection: sqlite3.Connection, mail: Incoming) -> int:
    recipients = [_clean(address) for address in mail.recipients]
    cursor = connection.execute(
        "INSERT INTO message (received_at, sender, recipients, subject, raw) "
        "VALUES (?, ?, ?, ?, ?)",
        [
            datetime.now(UTC).timestamp(),
            _clean(mail.sender),
            "\n".join(recipients),
            _clean(mail.subject),
            mail.raw,
        ],
    )
    message_id = cursor.lastrowid
    if message_id is None:  # pragma: no cover - an INSERT always has one
        raise sqlite3.DatabaseError("The message got no id.")
    connection.executemany(
        "INSERT OR IGNORE INTO recipient (address, message_id) VALUES (?, ?)",
        [(address.lower(), message_id) for address in recipients],
    )
    return message_id


def _clean(text: str) -> str:
    """Replace what no database and no page can hold: lone surrogates and line ends."""
    return " ".join(text.encode("utf-8", "replace").decode().split())


def _stored(row: Sequence[object]) -> Stored:
    message_id, received_at, sender, recipients, subject = row
    return Stored(
        id=int(str(message_id)),
        received_at=datetime.fromtimestamp(float(str(received_at)), UTC),
        sender=str(sender),
        recipients=tuple(str(recipients).split("\n")),
        subject=str(subject),
    )
