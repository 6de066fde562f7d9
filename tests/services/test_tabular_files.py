"""Tables as people have them: encodings, delimiters, workbooks, and files that mean harm."""

from __future__ import annotations

import io
import struct
import zipfile
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.tabular_files import HEAD_RECORDS, Layout, Table, UnreadableFile, choose, detect
from services.user_import_columns import guess_columns, has_headings, name_columns
from services.xlsx_files import LONGEST_CELL
from tests.support.user_imports import sheet_of, text_row, workbook

TEXT = 'Login;Name\r\nadele;"Ædèle; ""A"""\r\n\r\nbert;"two\r\nlines"\r\n'
ROWS = [["Login", "Name"], ["adele", 'Ædèle; "A"'], ["bert", "two\r\nlines"]]


def read(
    content: bytes, layout: Layout | None = None, *, most_columns: int = 50
) -> list[list[str]]:
    file = io.BytesIO(content)
    with Table(file, layout or detect(file), size=len(content), most_columns=most_columns) as table:
        return [record.cells for record in table.records()]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252", "latin-1"])
def test_every_common_encoding_is_detected(encoding: str) -> None:
    assert read(TEXT.encode(encoding)) == ROWS


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_is_detected_without_its_mark(encoding: str) -> None:
    assert detect(io.BytesIO(TEXT.encode(encoding))).encoding == encoding


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_every_common_delimiter_is_detected(delimiter: str) -> None:
    lines = [["Login", "Name, first", "x"], ["a", "b; c", "1"], ["d", "e|f", "2"]]
    text = "\n".join(delimiter.join(f'"{cell}"' for cell in line) for line in lines)
    assert detect(io.BytesIO(text.encode())).delimiter == delimiter
    assert read(text.encode()) == lines


def test_a_first_line_may_name_the_delimiter() -> None:
    assert read(b"sep=|\r\na,b,c|d\r\n") == [["a,b,c", "d"]]


def test_a_single_column_is_a_table_too() -> None:
    assert read(b"Login\nadele\nbert\n") == [["Login"], ["adele"], ["bert"]]


def test_rows_count_as_in_the_file_and_empty_ones_are_left_out() -> None:
    file = io.BytesIO(b"a,b\n\n,,\n , \nc,d\n")
    with Table(file, detect(file), size=15, most_columns=5) as table:
        assert [(each.number, each.cells) for each in table.records()] == [
            (1, ["a", "b"]),
            (5, ["c", "d"]),
        ]
        assert table.share == 1.0


def test_the_head_is_short() -> None:
    file = io.BytesIO(b"a,b\n" * 1000)
    with Table(file, detect(file), size=4000, most_columns=5) as table:
        assert len(table.head()) == HEAD_RECORDS


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b" \r\n", "is empty"),
        (b"\xd0\xcf\x11\xe0" * 100, "password or of the old kind"),
        (b"\x00\x01\x02\x03" * 100, "neither CSV nor .xlsx"),
        (b"PK\x03\x04" * 100, "damaged"),
    ],
)
def test_what_is_no_table_is_told(content: bytes, reason: str) -> None:
    with pytest.raises(UnreadableFile, match=reason):
        detect(io.BytesIO(content))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b'a,b\n1,"' + b"x" * 200_000, "does not end"),
        (b"a,b\n" + b"x" * 1_100_000, "a line of more than"),
        (b"a,b\n" + b"x," * 200 + b"x", "The limit is 50"),
    ],
)
def test_a_file_that_cannot_be_read_to_its_end_is_told(content: bytes, reason: str) -> None:
    with pytest.raises(UnreadableFile, match=reason):
        read(content)


def test_an_encoding_that_is_not_the_files_is_told_with_the_row() -> None:
    layout = Layout("csv", "utf-8-sig", ",")
    with pytest.raises(UnreadableFile, match=r"After row .* are not UTF-8"):
        read(b"a,b\n" * 10_000 + b"\xff,\n", layout)


def test_cells_that_no_database_takes_are_marked_and_endless_ones_cut() -> None:
    (first,) = read(b"a\0b," + b"x" * 3000 + b"," + b"y" * 400)
    assert first[0] == "a\ufffdb"
    assert len(first[1]) == LONGEST_CELL


def test_corrections_are_taken_where_they_are_offered() -> None:
    layout = Layout("csv", "cp1252", ",")
    assert choose(layout, encoding="utf-16-le", delimiter="|", sheet=3) == Layout(
        "csv", "utf-16-le", "|"
    )
    assert choose(layout, encoding="rot13", delimiter="x", sheet=3) == layout
    book = Layout("xlsx", sheets=("A", "B"))
    assert choose(book, encoding="cp1252", delimiter=",", sheet=1).sheet == 1
    assert choose(book, encoding="", delimiter="", sheet=2).sheet == 0


_CELLS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8)


@given(st.lists(st.lists(_CELLS, min_size=1, max_size=4), max_size=8), st.binary(max_size=60))
def test_nothing_that_is_sent_breaks_the_reader(rows: list[list[str]], noise: bytes) -> None:
    content = "\n".join(",".join(row) for row in rows).encode() + noise
    for start in (b"", b"PK\x03\x04", b"\xff\xfe", b"\xef\xbb\xbf"):
        with suppress(UnreadableFile):
            read(start + content)


# --- Workbooks -----------------------------------------------------------------------------------

_STYLES = (
    '<styleSheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main">'
    '<numFmts><numFmt numFmtId="164" formatCode="0000"/>'
    '<numFmt numFmtId="165" formatCode="dd/mm/yyyy;@"/>'
    '<numFmt numFmtId="166" formatCode=\'0 "days"\'/></numFmts>'
    '<cellStyleXfs><xf numFmtId="14"/></cellStyleXfs>'
    '<cellXfs><xf numFmtId="0"/><xf numFmtId="164"/><xf numFmtId="165"/><xf numFmtId="14"/>'
    '<xf numFmtId="166"/></cellXfs></styleSheet>'
)
_SHARED = (
    '<sst xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main">'
    "<si><t>Login</t></si><si><r><t>Adè</t></r><r><t>le</t></r><rPh><t>phonetic</t></rPh></si>"
    "</sst>"
)


def test_cells_of_a_workbook_are_read_as_people_see_them() -> None:
    cells = (
        '<c r="A1" t="s"><v>0</v></c><c r="B1" t="s"><v>1</v></c><c r="C1" t="s"><v>99</v></c>'
        '<c r="D1"><v>4711</v></c><c r="E1" s="1"><v>42</v></c><c r="F1"><v>3.2470123456E10</v></c>'
        '<c r="G1" s="2"><v>45000</v></c><c r="H1" s="3"><v>45000.5</v></c>'
        '<c r="I1" s="4"><v>7</v></c><c r="J1" t="b"><v>1</v></c><c r="K1" t="e"><v>#REF!</v></c>'
        '<c r="L1" t="str"><f>WEBSERVICE("http://evil.example")</f><v>result</v></c>'
        '<c r="N1"><v>0.1</v></c><c r="O1"><v>nonsense</v></c>'
    )
    content = workbook(
        sheet_of([f'<row r="1">{cells}</row>', '<row r="2"/>', text_row(7, "later")]),
        shared=_SHARED,
        styles=_STYLES,
    )
    first, second = read(content)
    assert first == [
        "Login", "Adèle", "", "4711", "0042", "32470123456", "2023-03-15", "2023-03-15 12:00:00",
        "7", "TRUE", "#REF!", "result", "", "0.1", "nonsense",
    ]  # fmt: skip
    assert second == ["later"]
    file = io.BytesIO(content)
    with Table(file, detect(file), size=1, most_columns=50) as table:
        assert [record.number for record in table.records()] == [1, 7]


def test_links_to_elsewhere_are_not_followed() -> None:
    links = (
        '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
        '<Relationship Id="rId1" TargetMode="External" Target="http://evil.example/x" '
        'Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/worksheet"/>'
        "</Relationships>"
    )
    with pytest.raises(UnreadableFile, match="no sheet"):
        detect(io.BytesIO(workbook(sheet_of([]), extra={"xl/_rels/workbook.xml.rels": links})))


def test_entities_are_refused() -> None:
    bomb = '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]>'
    with pytest.raises(UnreadableFile, match="document type"):
        read(workbook(sheet_of([text_row(1, "x")]), before=bomb))


def test_a_workbook_that_unpacks_without_end_is_refused() -> None:
    content = bytearray(workbook(sheet_of([text_row(1, "x")])))
    # The archive's index says that the sheet has four gigabytes.
    at = content.rfind(b"xl/worksheets/sheet1.xml") - 46
    assert content[at : at + 4] == b"PK\x01\x02"
    content[at + 24 : at + 28] = struct.pack("<I", 0xFFFFFF00)
    with pytest.raises(UnreadableFile, match="unpacks to 4,095 MB"):
        read(bytes(content))


def test_a_cell_that_unpacks_to_much_is_cut() -> None:
    assert len(read(workbook(sheet_of([text_row(1, "x" * 5_000_000)])))[0][0]) == LONGEST_CELL


def test_a_workbook_with_too_many_columns_is_refused() -> None:
    row = '<row r="1"><c r="XFD1" t="inlineStr"><is><t>far</t></is></c></row>'
    with pytest.raises(UnreadableFile, match="Row 1 has more than 50 columns"):
        read(workbook(sheet_of([row])))


def test_a_damaged_workbook_and_one_without_sheets_are_told() -> None:
    with pytest.raises(UnreadableFile, match="damaged"):
        read(workbook("<worksheet><sheetData><row>"))
    other = io.BytesIO()
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
    with pytest.raises(UnreadableFile, match=r"not an \.xlsx workbook"):
        detect(other)
    whole = workbook(sheet_of([text_row(1, "x")]))
    for length in range(4, len(whole), 37):
        with pytest.raises(UnreadableFile):
            read(whole[:length])


# --- Columns -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headings", "fields"),
    [
        (["Login", "First name", "LAST NAME", "E-Mail", "Ext."],
         ["login", "first_name", "last_name", "email", "extension"]),
        (["Benutzername", "Vorname", "Nachname", "E-Mail-Adresse", "Durchwahl", "Paket", "Sprache"],
         ["user_name", "first_name", "last_name", "email", "extension", "bundle", "language"]),
        (["Identifiant", "Prénom", "Nom", "Courriel", "Poste", "Forfait", "Rôle"],
         ["login", "first_name", "last_name", "email", "extension", "bundle", "role"]),
        (["Gebruikersnaam", "Voornaam", "Achternaam", "E-mailadres", "Toestel", "Pakket", "Taal"],
         ["user_name", "first_name", "last_name", "email", "extension", "bundle", "language"]),
        (["Shoe size", "", "Login", "Login"], ["", "", "login", ""]),
        (["User name", "Login"], ["", "login"]),
    ],
)  # fmt: skip
def test_headings_are_understood(headings: list[str], fields: list[str]) -> None:
    assert guess_columns(headings, {}) == fields


def test_remembered_headings_come_first() -> None:
    assert guess_columns(["Name", "Wie"], {"Name": "first_name", "Wie": "last_name"}) == [
        "first_name",
        "last_name",
    ]
    assert guess_columns(["Login"], {"Login": ""}) == [""]


def test_a_first_row_of_somebody_is_no_heading() -> None:
    assert has_headings(["Login", "x@y.example"])
    assert has_headings(["Wer", "Was"])
    assert not has_headings(["adele", "adele@mail.example"])
    assert name_columns(["a", ""], 3, headed=True) == ["a", "Column B", "Column C"]
    assert name_columns(["a"], 28, headed=False)[-1] == "Column AB"
