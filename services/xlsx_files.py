"""Rows of .xlsx workbooks, read from their XML as a stream.

Only the parts that hold cells are opened, by their names within the archive: nothing that a
workbook links to is followed, no formula is worked out (the result that was saved with it counts),
no document type is let in. Texts that cells share wait in a temporary file, so that memory does not
grow with the workbook.
"""

from __future__ import annotations

import posixpath
import re
import tempfile
import zipfile
import zlib
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import IO, Any
from xml.parsers import expat

LONGEST_CELL = 2000
"""Characters of a cell that are kept: more than any field takes, so that it is told as too long."""

_PIECE = 64 * 1024
_LARGEST_PART = 1024 * 1024 * 1024
_LARGEST_SHARED = 256 * 1024 * 1024
_MOST_PARTS = 5000
_MOST_SHEETS = 100
_RELATIONSHIPS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_STRICT_RELATIONSHIPS = "http://purl.oclc.org/ooxml/officeDocument/relationships"
_BUILT_IN_DATES = frozenset({*range(14, 23), *range(27, 37), *range(45, 48), *range(50, 59)})
_NOT_CODE = re.compile(r'"[^"]*"|\\.|\[[^\]]*\]')
_ZEROS = re.compile(r"0{2,40}")


class UnreadableFile(Exception):
    """The file cannot be read; the message says why, and what to do."""


@dataclass
class _Cells:
    """What a style says of the numbers it shows."""

    dates: set[int] = field(default_factory=set)
    digits: dict[int, int] = field(default_factory=dict)


class Workbook:
    """An open workbook; close it, or use it as a context."""

    def __init__(self, file: IO[bytes]) -> None:
        """Raises UnreadableFile."""
        try:
            self._archive = zipfile.ZipFile(file)
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
            raise UnreadableFile(
                "The workbook is damaged. Open it in a spreadsheet and save it again as .xlsx."
            ) from None
        self._shared_texts = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the workbook
        self._offsets: array[int] = array("Q")
        self._shared: Callable[[int], str] = lambda _number: ""
        self._read = 0
        self._size = 1
        self._starts_1904 = False
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        names = self._archive.namelist()
        if len(names) > _MOST_PARTS:
            raise UnreadableFile(f"The workbook has {len(names):,} parts, which no table needs.")
        main = next((each for each in names if each.endswith("xl/workbook.xml")), None)
        if main is None:
            raise UnreadableFile(
                "This is an archive, not an .xlsx workbook. Save the table as .xlsx or as CSV."
            )
        self._folder = posixpath.dirname(main)
        self._parts = set(names)
        self._sheets = self._read_sheets(main)
        if not self._sheets:
            raise UnreadableFile("The workbook has no sheet with cells.")

    def __enter__(self) -> Workbook:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._archive.close()
        self._shared_texts.close()

    @property
    def sheets(self) -> list[str]:
        """The names of the sheets in their order."""
        return [name for name, _ in self._sheets]

    @property
    def share(self) -> float:
        """How much of the sheet has been read, from 0 to 1."""
        return min(1.0, self._read / self._size)

    def rows(self, sheet: int, most_columns: int) -> Iterator[tuple[int, list[str]]]:
        """Number (from 1) and texts of each row that has cells.

        Raises UnreadableFile, also for a cell beyond `most_columns`.
        """
        if not 0 <= sheet < len(self._sheets):
            raise UnreadableFile("The workbook has no such sheet. Choose another one.")
        styles = self._read_styles()
        self._read_shared_texts()
        part = self._sheets[sheet][1]
        self._read, self._size = 0, max(1, self._archive.getinfo(part).file_size)
        reader = _SheetReader(self._shared, styles, most_columns, starts_1904=self._starts_1904)
        for piece in self._pieces(part, _LARGEST_PART):
            self._read += len(piece)
            _feed(reader.parser, piece)
            yield from reader.take()
        _feed(reader.parser, b"", is_last=True)
        yield from reader.take()

    def _pieces(self, part: str, most: int) -> Iterator[bytes]:
        size = self._archive.getinfo(part).file_size
        if size > most:
            raise UnreadableFile(
                f"A part of the workbook unpacks to {size // 1024 // 1024:,} MB. "
                "Copy the table into a new workbook, or save it as CSV."
            )
        try:
            with self._archive.open(part) as opened:
                while piece := opened.read(_PIECE):
                    yield piece
        except RuntimeError:
            raise UnreadableFile(
                "The workbook has a password. Save it without one, or as CSV."
            ) from None
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError):
            raise UnreadableFile(
                "The workbook is damaged. Open it in a spreadsheet and save it again as .xlsx."
            ) from None

    def _parse(self, part: str, start: Callable[[str, dict[str, str]], None]) -> None:
        parser = _new_parser()
        parser.StartElementHandler = lambda name, given: start(_local(name), given)
        for piece in self._pieces(part, _LARGEST_SHARED):
            _feed(parser, piece)
        _feed(parser, b"", is_last=True)

    def _read_sheets(self, main: str) -> list[tuple[str, str]]:
        named: list[tuple[str, str]] = []

        def of_workbook(name: str, given: dict[str, str]) -> None:
            if name == "workbookPr":
                self._starts_1904 = given.get("date1904") in {"1", "true"}
            elif name == "sheet" and len(named) < _MOST_SHEETS:
                reference = next(
                    (
                        given[f"{space} id"]
                        for space in (_RELATIONSHIPS, _STRICT_RELATIONSHIPS)
                        if f"{space} id" in given
                    ),
                    "",
                )
                named.append((given.get("name", "")[:64], reference))

        targets: dict[str, str] = {}

        def of_relationships(name: str, given: dict[str, str]) -> None:
            if (
                name == "Relationship"
                and given.get("TargetMode") != "External"
                and given.get("Type", "").endswith("/worksheet")
            ):
                target = given.get("Target", "")
                path = posixpath.normpath(posixpath.join("/", self._folder, target))
                targets[given.get("Id", "")] = path.lstrip("/")

        self._parse(main, of_workbook)
        links = f"{self._folder}/_rels/workbook.xml.rels"
        if links in self._parts:
            self._parse(links, of_relationships)
        return [
            (name, targets[reference])
            for name, reference in named
            if targets.get(reference) in self._parts
        ]

    def _read_styles(self) -> _Cells:
        """Which styles show numbers as dates, or with zeros before them."""
        found = _Cells()
        part = f"{self._folder}/styles.xml"
        if part not in self._parts:
            return found
        codes: dict[str, str] = {}
        place = {"in": False, "style": 0}

        def start(name: str, given: dict[str, str]) -> None:
            if name == "numFmt":
                codes[given.get("numFmtId", "")] = given.get("formatCode", "")[:200]
            elif name in {"cellXfs", "cellStyleXfs", "cellStyles", "dxfs"}:
                place["in"] = name == "cellXfs"
            elif name == "xf" and place["in"]:
                number = given.get("numFmtId", "0")
                code = _NOT_CODE.sub("", codes.get(number, ""))
                style = place["style"]
                if (number.isdecimal() and int(number) in _BUILT_IN_DATES) or (
                    number in codes and any(letter in code.lower() for letter in "dmyhs")
                ):
                    found.dates.add(style)
                elif _ZEROS.fullmatch(code):
                    found.digits[style] = len(code)
                place["style"] += 1

        self._parse(part, start)
        return found

    def _read_shared_texts(self) -> None:
        part = f"{self._folder}/sharedStrings.xml"
        if part not in self._parts or self._offsets:
            return
        texts = self._shared_texts
        state: dict[str, Any] = {"open": False, "phonetic": 0, "text": [], "length": 0}

        def start(name: str, _given: dict[str, str]) -> None:
            name = _local(name)
            if name == "si":
                state.update(text=[], length=0)
            elif name == "rPh":
                state["phonetic"] += 1
            elif name == "t":
                state["open"] = not state["phonetic"]

        def end(name: str) -> None:
            name = _local(name)
            if name == "t":
                state["open"] = False
            elif name == "rPh":
                state["phonetic"] -= 1
            elif name == "si":
                self._offsets.append(texts.tell())
                texts.write("".join(state["text"])[:LONGEST_CELL].encode("utf-8", "replace"))

        def characters(text: str) -> None:
            if state["open"] and state["length"] < LONGEST_CELL:
                state["text"].append(text)
                state["length"] += len(text)

        parser = _new_parser()
        parser.StartElementHandler, parser.EndElementHandler = start, end
        parser.CharacterDataHandler = characters
        for piece in self._pieces(part, _LARGEST_SHARED):
            _feed(parser, piece)
        _feed(parser, b"", is_last=True)
        self._offsets.append(texts.tell())
        texts.flush()
        self._shared = lru_cache(maxsize=4096)(self._read_shared)

    def _read_shared(self, number: int) -> str:
        if not 0 <= number < len(self._offsets) - 1:
            return ""
        begin, end = self._offsets[number], self._offsets[number + 1]
        self._shared_texts.seek(begin)
        return self._shared_texts.read(end - begin).decode("utf-8", "replace")


class _SheetReader:
    """Puts the cells of a sheet together as its XML comes in."""

    def __init__(
        self,
        shared: Callable[[int], str],
        styles: _Cells,
        most_columns: int,
        *,
        starts_1904: bool,
    ) -> None:
        self._shared, self._styles, self._most = shared, styles, most_columns
        self._epoch = datetime(1904, 1, 1) if starts_1904 else datetime(1899, 12, 30)  # noqa: DTZ001
        self._ready: list[tuple[int, list[str]]] = []
        self._number = 0
        self._cells: list[str] = []
        self._column = -1
        self._type, self._style = "n", 0
        self._takes, self._phonetic = False, 0
        self._text: list[str] = []
        self._length = 0
        self.parser = _new_parser()
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._characters

    def take(self) -> list[tuple[int, list[str]]]:
        ready, self._ready = self._ready, []
        return ready

    def _start(self, name: str, given: dict[str, str]) -> None:
        name = _local(name)
        if name == "c":
            self._column = _column_of(given.get("r", ""), self._column + 1)
            self._type = given.get("t", "n")
            style = given.get("s", "0")
            self._style = int(style) if style.isdecimal() and len(style) < 7 else 0
            self._text, self._length = [], 0
        elif name == "v":
            self._takes = True
        elif name == "t":
            self._takes = not self._phonetic
        elif name == "rPh":
            self._phonetic += 1
        elif name == "row":
            number = given.get("r", "")
            self._number = (
                int(number) if number.isdecimal() and len(number) < 9 else self._number + 1
            )
            self._cells, self._column = [], -1

    def _end(self, name: str) -> None:
        name = _local(name)
        if name in {"v", "t"}:
            self._takes = False
        elif name == "rPh":
            self._phonetic -= 1
        elif name == "c":
            text = self._value("".join(self._text)[:LONGEST_CELL])
            if not text:
                return
            if self._column >= self._most:
                raise UnreadableFile(
                    f"Row {self._number:,} has more than {self._most:,} columns. "
                    "Take out those that are not about users."
                )
            self._cells += [""] * (self._column + 1 - len(self._cells))
            self._cells[self._column] = text
        elif name == "row" and self._cells:
            self._ready.append((self._number, self._cells))

    def _characters(self, text: str) -> None:
        if self._takes and self._length < LONGEST_CELL:
            self._text.append(text)
            self._length += len(text)

    def _value(self, text: str) -> str:
        match self._type:
            case "s":
                return self._shared(int(text)) if text.isdecimal() and len(text) < 12 else ""
            case "b":
                return {"1": "TRUE", "0": "FALSE"}.get(text, text)
            case "n" if text:
                return self._number_text(text)
        return text

    def _number_text(self, text: str) -> str:
        """A number as people read it: a date where it is shown as one, else without an exponent."""
        try:
            value = Decimal(text)
        except InvalidOperation:
            return text
        if not value.is_finite() or abs(value) >= Decimal(10) ** 40:
            return text
        if self._style in self._styles.dates and 0 <= value < 2_958_466:
            return self._date_text(float(value))
        if value == value.to_integral_value():
            return f"{int(value):0{self._styles.digits.get(self._style, 1)}d}"
        return f"{value:f}"

    def _date_text(self, value: float) -> str:
        try:
            at = self._epoch + timedelta(seconds=round(value * 86_400))
        except OverflowError:
            return str(value)
        if at.time() == datetime.min.time():
            return date.isoformat(at.date())
        return at.isoformat(" ")


def _column_of(reference: str, following: int) -> int:
    """The number of a cell's column, from 0: 27 for AB12."""
    column = 0
    for letter in reference[:4]:
        if not "A" <= letter <= "Z":
            break
        column = column * 26 + ord(letter) - 64
    return column - 1 if column else following


def _new_parser() -> Any:
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True
    parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)
    parser.StartDoctypeDeclHandler = _refuse_doctype
    return parser


def _refuse_doctype(*_: object) -> None:
    raise UnreadableFile("The workbook declares a document type, which no spreadsheet writes.")


def _feed(parser: Any, piece: bytes, *, is_last: bool = False) -> None:
    try:
        parser.Parse(piece, is_last)
    except expat.ExpatError:
        raise UnreadableFile(
            "The workbook is damaged. Open it in a spreadsheet and save it again as .xlsx."
        ) from None


def _local(name: str) -> str:
    return name.rpartition(" ")[2]
