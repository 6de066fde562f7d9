"""The files of imports, which the database holds in pieces: any machine may come to read them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

import sqlalchemy as sa

from extensions import db, get_settings
from models import UserImport, UserImportPiece, table_of
from services.errors import InvalidInput
from services.tabular_files import Layout, Table, UnreadableFile

_PIECE = 256 * 1024
_PIECES = table_of(UserImportPiece)


def measure(file: IO[bytes]) -> int:
    """The size of an uploaded file in bytes. Raises InvalidInput naming `file`."""
    size = file.seek(0, 2)
    file.seek(0)
    if size > largest_file():
        limit = get_settings().user_import_megabytes
        raise InvalidInput(
            "file", f"The file has {size / 1024 / 1024:,.1f} MB. The limit is {limit} MB."
        )
    return size


def largest_file() -> int:
    """In bytes."""
    return get_settings().user_import_megabytes * 1024 * 1024


def store(connection: sa.Connection, import_id: int, file: IO[bytes]) -> None:
    """Write a file's pieces, one after the other, in the caller's transaction."""
    file.seek(0)
    position = 0
    while piece := file.read(_PIECE):
        connection.execute(
            sa.insert(_PIECES),
            {"import_id": import_id, "position": position, "content": piece},
        )
        position += 1


def remove(connection: sa.Connection, import_id: int) -> None:
    connection.execute(sa.delete(_PIECES).where(_PIECES.c.import_id == import_id))


@contextmanager
def opened(imported: UserImport) -> Iterator[IO[bytes]]:
    """The file of an import as a temporary one. Raises UnreadableFile when it is gone."""
    with tempfile.TemporaryFile() as file:
        position = 0
        while True:
            with db.engine.connect() as connection:
                piece = connection.scalar(
                    sa.select(_PIECES.c.content).where(
                        _PIECES.c.import_id == imported.id, _PIECES.c.position == position
                    )
                )
            if piece is None:
                break
            file.write(piece)
            position += 1
        if not position:
            raise UnreadableFile("The file has been deleted. Upload it again.")
        file.seek(0)
        yield file


def table_in(file: IO[bytes], imported: UserImport) -> Table:
    """The records of an import's file. Raises UnreadableFile."""
    return Table(
        file,
        layout_of(imported),
        size=imported.file_bytes,
        most_columns=get_settings().user_import_columns,
    )


def layout_of(imported: UserImport) -> Layout:
    return Layout(
        imported.kind,
        imported.encoding,
        imported.delimiter,
        imported.sheet,
        tuple(imported.sheets),
    )
