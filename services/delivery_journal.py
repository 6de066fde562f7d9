"""Journals: what the mail server accepted under a claim, noted at once in a file on this machine.

Results are committed per chunk. A worker that is killed before that commit would send its chunk
again; with the journal at most the one mail per connection whose answer had not been noted. A
journal survives its process, not the machine, and is of use only where it was written: elsewhere,
after a power cut, or where it could not be written, the whole chunk is sent again. Losing it costs
repeats of the same messages, nothing else.

A journal holds ids of deliveries and answer codes, never a secret. Its file is `journal/<token>`
below the `folder` that all functions here are given, which is VAR_DIR; `<token>` is the claim's. It
has a header, then eleven bytes per mail: id, code, check.
"""

from __future__ import annotations

import logging
import os
import re
import stat
import struct
from collections.abc import Collection
from contextlib import suppress
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Self

log = logging.getLogger(__name__)

_TOKEN = re.compile(r"[0-9a-f]{32}")
_FOLDER = "journal"
_HEADER = b"foyer-jrn1\n"
_RECORD = struct.Struct("<QHB")
_CODES = range(200, 600)
_LONGEST = 1024 * 1024  # A claim has at most a thousand deliveries.


class Journal:
    """The journal of one claim, written by one thread.

    One that cannot be written says so in the log, once per process and reason, and notes nothing.
    """

    def __init__(self, path: Path, file: int | None) -> None:
        self._path = path
        self._file = file
        self._is_ours = file is not None

    @classmethod
    def open(cls, folder: Path, token: str) -> Self:
        """Begin the journal of a claim. Raises ValueError for what is no token, and nothing else.

        Where there is a file of that name already, this one notes nothing.
        """
        path = _path(folder, token)
        if path is None:
            raise ValueError("not the token of a claim")
        file = None
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError as error:
            _warn(os.strerror(error.errno or 0))
        journal = cls(path, file)
        journal._append(_HEADER)
        return journal

    def note(self, delivery_id: int, code: int) -> None:
        """Note that the server has accepted a delivery with `code` (200 to 599).

        On return the note outlives this process. Never raises OSError.
        """
        self._append(_RECORD.pack(delivery_id, code, _check(delivery_id, code)))

    def _append(self, record: bytes) -> None:
        if self._file is None:
            return
        try:
            if os.write(self._file, record) == len(record):
                return
            _warn("the disk is full")
        except OSError as error:
            _warn(os.strerror(error.errno or 0))
        self.close()  # What followed a torn record could not be read.

    def close(self) -> None:
        """Leave the journal to whoever takes up the deliveries."""
        file, self._file = self._file, None
        if file is not None:
            with suppress(OSError):
                os.close(file)

    def close_and_remove(self) -> None:
        """End the journal of a claim whose results are committed."""
        self.close()
        if self._is_ours:
            _unlink(self._path)


def read(folder: Path, token: str) -> dict[int, int]:
    """The answer codes that a claim's journal holds, by delivery id; empty where there is none.

    Reads as far as the records are whole: what follows a torn or a foreign byte is ignored. The
    first answer for a delivery stands. Never raises OSError.
    """
    path = _path(folder, token)
    content = b"" if path is None else _content(path)
    answers: dict[int, int] = {}
    if not content.startswith(_HEADER):
        return answers
    end = len(content) - (len(content) - len(_HEADER)) % _RECORD.size
    for delivery_id, code, check in _RECORD.iter_unpack(content[len(_HEADER) : end]):
        if code not in _CODES or not delivery_id or check != _check(delivery_id, code):
            break
        answers.setdefault(delivery_id, code)
    return answers


def remove(folder: Path, token: str) -> None:
    """Remove the journal of a claim that is dissolved, if it is here."""
    if (path := _path(folder, token)) is not None:
        _unlink(path)


def remove_orphans(folder: Path, known_tokens: Collection[str], older_than: datetime) -> int:
    """Remove journals, last written before `older_than`, of claims that are not known any more.

    They are left by a process that died between its commit and the removal, or by a claim that
    was dissolved on another machine. Returns how many there were; touches nothing but journals.
    """
    removed = 0
    try:
        with os.scandir(folder / _FOLDER) as entries:
            for entry in entries:
                if _TOKEN.fullmatch(entry.name) and entry.name not in known_tokens:
                    about = entry.stat(follow_symlinks=False)
                    if stat.S_ISREG(about.st_mode) and about.st_mtime < older_than.timestamp():
                        removed += _unlink(Path(entry.path))
    except FileNotFoundError:
        pass  # No journal has been written yet, or another sweep is at it, too.
    except OSError as error:
        log.warning("orphaned journals were not removed: %s", error.strerror)
    return removed


def _path(folder: Path, token: str) -> Path | None:
    """Where a journal is; None for what is no token and must not become a path."""
    return folder / _FOLDER / token if _TOKEN.fullmatch(token) else None


def _check(delivery_id: int, code: int) -> int:
    """From 1 to 251: it tells a record from zeros and from other bytes."""
    return (delivery_id + code) % 251 + 1


def _content(path: Path) -> bytes:
    """The bytes of a regular file; nothing of a pipe or a link."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(file, "rb") as opened:
            if not stat.S_ISREG(os.fstat(file).st_mode):
                return b""
            return opened.read(_LONGEST)
    except FileNotFoundError:
        return b""
    except OSError as error:
        log.warning("a journal could not be read, its mails are sent again: %s", error.strerror)
        return b""


def _unlink(path: Path) -> bool:
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    except OSError as error:
        log.warning("a journal could not be removed: %s", error.strerror)
        return False
    return True


@cache
def _warn(reason: str) -> None:
    """Once per process and reason: a full disk would otherwise fill it with this."""
    log.warning(
        "no journal of accepted mails can be written (%s); mails go on, but a worker that is "
        "killed now repeats up to a chunk of them",
        reason,
    )
