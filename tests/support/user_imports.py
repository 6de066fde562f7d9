"""Imports of users for tests: files, and the way from one to its users."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Iterable, Sequence
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import sqlalchemy as sa

from extensions import db
from models import (
    Customer,
    ImportRowState,
    ImportState,
    User,
    UserImport,
    UserImportRow,
    UserStatus,
    utcnow,
)
from services import user_import_runs, user_imports
from services.actors import Actor
from services.user_imports import Choices

HEADINGS = ("Login", "First name", "Last name", "E-mail", "Extension", "Bundle")
COLUMNS = ("login", "first_name", "last_name", "email", "extension", "bundle")
BUNDLE = "Entry3PhoneNextGenBundle"
SUFFIX = "kenton-electronics.com"


def csv_file(*rows: Sequence[str], headings: Sequence[str] = HEADINGS) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows([headings, *rows])
    return text.getvalue().encode()


def person(name: str, **changes: str) -> tuple[str, ...]:
    """A row of HEADINGS for somebody of CQ001."""
    values = {
        "login": f"{name}@{SUFFIX}",
        "first_name": name.capitalize(),
        "last_name": "Imported",
        "email": f"{name}@mail.example",
        "extension": "",
        "bundle": BUNDLE,
        **changes,
    }
    return tuple(values[field] for field in COLUMNS)


def people(count: int, start: int = 1) -> list[tuple[str, ...]]:
    return [person(f"imported{number}") for number in range(start, start + count)]


def upload(actor: Actor, customer: Customer, content: bytes, name: str = "users.csv") -> UserImport:
    return user_imports.create_import(actor, customer, name, io.BytesIO(content))


def work() -> None:
    """Do what imports wait for, until nothing is left, as the workers do."""
    for _ in range(1000):
        waiting = user_import_runs.list_waiting()
        if not waiting:
            return
        for import_id in waiting:
            user_import_runs.work_on_import(import_id, lambda: False)
    raise AssertionError("the work does not end")


def checked(
    actor: Actor, customer: Customer, content: bytes, columns: Sequence[str] = (), **choices: Any
) -> UserImport:
    """A file whose rows have been checked."""
    imported = upload(actor, customer, content)
    wanted = Choices(columns=columns or list(imported.columns), **choices)
    user_imports.check_import(actor, customer, imported.id, wanted)
    work()
    return user_imports.get_import(actor, customer, imported.id)


def imported(actor: Actor, customer: Customer, content: bytes, **choices: Any) -> UserImport:
    """The same, and then imported."""
    found = checked(actor, customer, content, **choices)
    user_imports.start_import(actor, customer, found.id)
    work()
    return user_imports.get_import(actor, customer, found.id)


def expire_leases() -> None:
    """As if the workers had been dead for a while."""
    db.session.execute(
        sa.update(UserImport)
        .where(UserImport.lease_token.is_not(None))
        .values(lease_expires_at=utcnow())
    )
    db.session.commit()


def rows_of(found: UserImport, state: ImportRowState | None = None) -> list[UserImportRow]:
    query = sa.select(UserImportRow).where(UserImportRow.import_id == found.id)
    if state is not None:
        query = query.where(UserImportRow.state == state)
    return list(
        db.session.scalars(
            query.order_by(UserImportRow.position).execution_options(populate_existing=True)
        )
    )


def faults_of(found: UserImport) -> dict[int, str]:
    """What is said of each row that is faulty or failed, by its number."""
    return {
        row.position: " ".join(message for _, message in row.faults)
        for row in rows_of(found)
        if row.faults
    }


def users_named(customer: Customer, *last_names: str) -> list[User]:
    return list(
        db.session.scalars(
            sa.select(User)
            .where(
                User.customer_id == customer.id,
                User.last_name.in_(last_names or ("Imported",)),
                User.status != UserStatus.DELETED,
            )
            .order_by(User.id)
            .execution_options(populate_existing=True)
        )
    )


def check_counters(found: UserImport) -> None:
    """The counters say what the rows say."""
    for state in ImportRowState:
        assert getattr(found, state.value) == len(rows_of(found, state)), state
    assert (found.lease_token is None) or found.state in {
        ImportState.CHECKING,
        ImportState.IMPORTING,
        ImportState.UNDOING,
    }


# --- Workbooks -----------------------------------------------------------------------------------

_MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_DOCUMENT = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006/relationships"


def sheet_of(rows: Iterable[str]) -> str:
    """A sheet of `<row>` elements."""
    return f'<worksheet xmlns="{_MAIN}"><sheetData>{"".join(rows)}</sheetData></worksheet>'


def text_row(number: int, *cells: str) -> str:
    """A row of texts that stand in it."""
    inside = "".join(
        f'<c r="{chr(65 + place)}{number}" t="inlineStr"><is><t>{escape(cell)}</t></is></c>'
        for place, cell in enumerate(cells)
    )
    return f'<row r="{number}">{inside}</row>'


def workbook(
    *sheets: str,
    names: Sequence[str] = (),
    shared: str = "",
    styles: str = "",
    extra: dict[str, str] | None = None,
    before: str = "",
) -> bytes:
    """An .xlsx file; `before` stands before the root of each sheet, `extra` are further parts."""
    listed = "".join(
        f"<sheet name={quoteattr(names[place] if names else f'Sheet{place + 1}')} "
        f'sheetId="{place + 1}" r:id="rId{place + 1}"/>'
        for place in range(len(sheets))
    )
    links = "".join(
        f'<Relationship Id="rId{place + 1}" Type="{_DOCUMENT}/worksheet" '
        f'Target="worksheets/sheet{place + 1}.xml"/>'
        for place in range(len(sheets))
    )
    parts = {
        "xl/workbook.xml": f'<workbook xmlns="{_MAIN}" xmlns:r="{_DOCUMENT}">'
        f"<sheets>{listed}</sheets></workbook>",
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{_PACKAGE}">{links}</Relationships>',
        **{
            f"xl/worksheets/sheet{place + 1}.xml": before + sheet
            for place, sheet in enumerate(sheets)
        },
        **({"xl/sharedStrings.xml": shared} if shared else {}),
        **({"xl/styles.xml": styles} if styles else {}),
        **(extra or {}),
    }
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in parts.items():
            archive.writestr(name, text)
    return content.getvalue()
