"""Tables that people upload: what kind of file it is, and its records, one after the other.

CSV of any common delimiter and encoding, and .xlsx. Memory does not grow with the file.
"""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import IO, Any

from models import is_storable
from services.xlsx_files import LONGEST_CELL, UnreadableFile, Workbook

__all__ = [
    "DELIMITERS",
    "ENCODINGS",
    "HEAD_RECORDS",
    "Layout",
    "Record",
    "Table",
    "UnreadableFile",
    "choose",
    "detect",
]

ENCODINGS = {
    "utf-8-sig": "UTF-8",
    "utf-16-le": "UTF-16 (little endian)",
    "utf-16-be": "UTF-16 (big endian)",
    "cp1252": "Windows-1252 (Western Europe)",
    "latin-1": "ISO 8859-1 (Latin-1)",
    "cp1250": "Windows-1250 (Central Europe)",
}
DELIMITERS = {",": "Comma", ";": "Semicolon", "\t": "Tab", "|": "Vertical bar"}
HEAD_RECORDS = 6
"""Records that are shown before a file is read."""

_HEAD = 256 * 1024
_PIECE = 256 * 1024
_LONGEST_LINE = 1024 * 1024
_JUDGED_RECORDS = 50
_OLD_EXCEL = b"\xd0\xcf\x11\xe0"
_ZIP = b"PK\x03\x04"


@dataclass(frozen=True, slots=True)
class Layout:
    """How a file is to be read: `encoding` and `delimiter` of CSV, `sheet` of a workbook."""

    kind: str
    encoding: str = ""
    delimiter: str = ""
    sheet: int = 0
    sheets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Record:
    """A record of the file by its number, from 1."""

    number: int
    cells: list[str]


def detect(file: IO[bytes]) -> Layout:
    """What an uploaded file is. Reads all of it; raises UnreadableFile for what is no table."""
    file.seek(0)
    head = file.read(_HEAD)
    if not head.strip():
        raise UnreadableFile("The file is empty.")
    if head.startswith(_OLD_EXCEL):
        raise UnreadableFile(
            "This is a workbook with a password or of the old kind (.xls). "
            "Save it without a password as .xlsx, or as CSV."
        )
    if head.startswith(_ZIP):
        with Workbook(file) as workbook:
            return Layout("xlsx", sheets=tuple(workbook.sheets))
    encoding = _detect_encoding(file, head)
    text = _decoded(head, encoding)
    if sum(text.count(letter) for letter in "\0\1\2\3\4\5\6") > len(text) // 100:
        raise UnreadableFile("This is neither CSV nor .xlsx. Save the table as one of them.")
    return Layout("csv", encoding, _detect_delimiter(text))


def _detect_encoding(file: IO[bytes], head: bytes) -> str:
    for mark, encoding in (
        (codecs.BOM_UTF8, "utf-8-sig"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
    ):
        if head.startswith(mark):
            return encoding
    sample = head[:4096]
    half = len(sample) // 2 or 1
    if sample[1::2].count(0) > half // 2:
        return "utf-16-le"
    if sample[0::2].count(0) > half // 2:
        return "utf-16-be"
    decoder = codecs.getincrementaldecoder("utf-8")()
    file.seek(0)
    try:
        while piece := file.read(_PIECE):
            decoder.decode(piece)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return "cp1252"
    return "utf-8-sig"


def _decoded(head: bytes, encoding: str) -> str:
    """The head as text, without a letter that its end may have cut."""
    text = codecs.getincrementaldecoder(encoding)("replace").decode(head)
    return text.removeprefix("\ufeff")


def _detect_delimiter(text: str) -> str:
    """The delimiter that cuts most records into the same number of cells, more than one."""
    if (named := _named_delimiter(text.partition("\n")[0])) is not None:
        return named
    best, found = (0.0, 0), ","
    for delimiter in DELIMITERS:
        widths = []
        try:
            for record in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter):
                if record:
                    widths.append(len(record))
                if len(widths) >= _JUDGED_RECORDS:
                    break
        except csv.Error:
            continue
        if not widths or widths[0] < 2:
            continue
        score = (widths.count(widths[0]) / len(widths), widths[0])
        if score > best:
            best, found = score, delimiter
    return found


def _named_delimiter(line: str) -> str | None:
    """The delimiter that a first line such as `sep=;` names, which Excel writes and reads."""
    line = line.strip('\r\n\ufeff" ')
    delimiter = line[4:] or "\t"
    return delimiter if line[:4].lower() == "sep=" and delimiter in DELIMITERS else None


class Table:
    """The records of a file under a layout; close it, or use it as a context.

    `share` is how much has been read, from 0 to 1.
    """

    def __init__(self, file: IO[bytes], layout: Layout, *, size: int, most_columns: int) -> None:
        """Raises UnreadableFile. `size` is the file's, in bytes."""
        self._file, self._layout, self._size = file, layout, max(1, size)
        self._most_columns = most_columns
        self._workbook = Workbook(file) if layout.kind == "xlsx" else None

    def __enter__(self) -> Table:
        return self

    def __exit__(self, *_: object) -> None:
        if self._workbook is not None:
            self._workbook.close()

    @property
    def share(self) -> float:
        if self._workbook is not None:
            return self._workbook.share
        return min(1.0, self._file.tell() / self._size)

    def records(self) -> Iterator[Record]:
        """Every record that has a cell with something in it. Raises UnreadableFile."""
        rows = self._csv_rows() if self._workbook is None else self._xlsx_rows(self._workbook)
        for number, cells in rows:
            if len(cells) > self._most_columns:
                while cells and not cells[-1].strip():
                    cells.pop()
            if len(cells) > self._most_columns:
                raise UnreadableFile(
                    f"Row {number:,} has {len(cells):,} columns. The limit is "
                    f"{self._most_columns:,}: take out those that are not about users, or say "
                    "which delimiter the file has."
                )
            if any(cell and not cell.isspace() for cell in cells):
                yield Record(number, [_kept(cell) for cell in cells])

    def head(self) -> list[list[str]]:
        """The first records. Raises UnreadableFile."""
        found = []
        for record in self.records():
            found.append(record.cells)
            if len(found) == HEAD_RECORDS:
                break
        return found

    def _xlsx_rows(self, workbook: Workbook) -> Iterator[tuple[int, list[str]]]:
        return workbook.rows(self._layout.sheet, self._most_columns)

    def _csv_rows(self) -> Iterator[tuple[int, list[str]]]:
        self._file.seek(0)
        encoding = self._layout.encoding
        text = io.TextIOWrapper(io.BufferedReader(_Open(self._file), _PIECE), encoding, newline="")
        number = 0
        try:
            for cells in csv.reader(self._lines(text), delimiter=self._layout.delimiter):
                number += 1
                if number == 1 and _named_delimiter(self._layout.delimiter.join(cells)):
                    continue
                yield number, cells
        except UnicodeError:
            raise UnreadableFile(
                f"After row {number:,} come letters that are not {ENCODINGS[encoding]}. "
                "Choose another encoding."
            ) from None
        except csv.Error:
            raise UnreadableFile(
                f"Row {number + 1:,} has a cell that does not end. Look for a quotation mark that "
                "opens it and is not closed, or choose another delimiter."
            ) from None

    def _lines(self, text: IO[str]) -> Iterator[str]:
        is_first = True
        while line := text.readline(_LONGEST_LINE):
            if len(line) >= _LONGEST_LINE and not line.endswith(("\n", "\r")):
                raise UnreadableFile(
                    f"The file has a line of more than {_LONGEST_LINE:,} characters. "
                    "Save the table as CSV, with a line for each user."
                )
            if is_first:
                line, is_first = line.removeprefix("\ufeff"), False
            yield line


class _Open(io.RawIOBase):
    """A file that whoever reads it does not close."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        piece = self._file.read(len(buffer))
        buffer[: len(piece)] = piece
        return len(piece)


def _kept(cell: str) -> str:
    """A cell as it is kept: what no database takes is marked, what is endless is cut."""
    cell = cell[:LONGEST_CELL]
    if cell.isascii() and "\0" not in cell:
        return cell
    if not is_storable(cell):
        cell = "".join(letter if is_storable(letter) else "\ufffd" for letter in cell)
    return cell


def choose(layout: Layout, *, encoding: str, delimiter: str, sheet: int) -> Layout:
    """The layout as somebody corrected it; what is not offered stays as it was."""
    if layout.kind == "xlsx":
        return replace(layout, sheet=sheet if 0 <= sheet < len(layout.sheets) else layout.sheet)
    return replace(
        layout,
        encoding=encoding if encoding in ENCODINGS else layout.encoding,
        delimiter=delimiter if delimiter in DELIMITERS else layout.delimiter,
    )
