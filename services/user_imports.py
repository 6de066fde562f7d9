"""Imports of a customer's users: uploading a file, naming its columns, correcting its rows, and
beginning, cancelling or undoing the import. What takes long is done by `user_import_runs`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any, TypeVar

import sqlalchemy as sa
from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

from extensions import db, queues
from models import (
    Customer,
    ImportRowState,
    ImportState,
    Role,
    UserImport,
    UserImportRow,
    is_storable,
    table_of,
    utcnow,
)
from services import (
    email_templates,
    mailing_confirmations,
    tabular_files,
    user_import_files,
)
from services.actors import Actor, Permission
from services.audit_events import record_event
from services.errors import Conflict, InvalidInput, NotFound
from services.paging import Page, keyset_page, parse_id_key
from services.tabular_files import UnreadableFile
from services.transactions import run_session_transaction
from services.user_import_checks import MOST_CHANGED, Judge, Verdict
from services.user_import_columns import (
    FIELDS,
    check_columns,
    guess_columns,
    has_headings,
    name_columns,
)
from services.xlsx_files import LONGEST_CELL

log = logging.getLogger(__name__)
T = TypeVar("T")

_IMPORTS, _ROWS = table_of(UserImport), table_of(UserImportRow)
_MOST_OPEN = 20
_HEAD_CELL = 120
_READ_AT_ONCE = 1000
REASON = "Reason"
"""The heading of the column that says what is wrong with a row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """What somebody has decided about a file: the field of each column, and what to do with it.

    `empties` says that an empty cell empties what is known of a user, instead of leaving it.
    """

    columns: Sequence[str]
    updates: bool = False
    empties: bool = False
    sends_welcome: bool = False


# --- Uploading and naming the columns ------------------------------------------------------------


def create_import(actor: Actor, customer: Customer, file_name: str, file: IO[bytes]) -> UserImport:
    """Keep an uploaded file, and say what it seems to be. Nothing is imported yet.

    Raises InvalidInput naming `file`, Forbidden, and Conflict where too many files wait already.
    """
    actor.require(Permission.USERS_IMPORT)
    size = user_import_files.measure(file)
    try:
        layout = tabular_files.detect(file)
    except UnreadableFile as error:
        raise InvalidInput("file", str(error)) from None
    imported = UserImport(
        customer_id=customer.id,
        file_name=_clean_name(file_name),
        file_bytes=size,
        kind=layout.kind,
        encoding=layout.encoding,
        delimiter=layout.delimiter,
        sheets=list(layout.sheets),
        sheet=layout.sheet,
        **_author(actor),
    )
    try:
        head = _read_head(file, imported)
    except UnreadableFile as error:
        if layout.kind == "xlsx":
            raise InvalidInput("file", str(error)) from None
        head = []  # With another delimiter or encoding it may be read.
    _take_head(imported, head, has_headings(head[0]) if head else True)
    waiting = sa.select(UserImport.id).where(
        UserImport.customer_id == customer.id,
        UserImport.state.in_([ImportState.UPLOADED, ImportState.CHECKED, ImportState.FAILED]),
    )
    if len(db.session.scalars(waiting.limit(_MOST_OPEN)).all()) >= _MOST_OPEN:
        raise Conflict(
            f"{_MOST_OPEN} files of {customer.name} wait to be imported. "
            "Import or discard one of them first."
        )

    def work() -> UserImport:
        db.session.add(imported)
        db.session.flush()
        user_import_files.store(db.session.connection(), imported.id, file)
        _record(actor, imported, "uploaded", {"file": imported.file_name, "bytes": size})
        db.session.commit()
        return imported

    return _run(work)


def _clean_name(name: str) -> str:
    """The name of a file without folders and what cannot be shown."""
    name = name.replace("\\", "/").rpartition("/")[2][-400:]
    name = "".join(each for each in name if each.isprintable() and is_storable(each)).strip()
    return name[-200:] or "Users"


def _author(actor: Actor) -> dict[str, Any]:
    return {
        "created_by_id": actor.user_id,
        "actor_login": actor.login,
        "behalf_id": actor.behalf_id,
        "behalf_login": actor.behalf_login,
        "address": actor.address[:64],
        "only_users": actor.role is Role.SUPERVISOR,
    }


def _read_head(file: IO[bytes], imported: UserImport) -> list[list[str]]:
    with user_import_files.table_in(file, imported) as table:
        return table.head()


def _take_head(imported: UserImport, head: list[list[str]], headed: bool) -> None:
    """The first records of a file, what its columns are called, and what they seem to be."""
    imported.head = [[cell[:_HEAD_CELL] for cell in record] for record in head]
    imported.has_headings = headed
    width = max((len(record) for record in imported.head), default=0)
    imported.headings = name_columns(head[0] if head else [], width, headed=headed)
    imported.columns = guess_columns(
        imported.headings if headed else [""] * width, _remembered(imported.customer_id)
    )


def _remembered(customer_id: int) -> dict[str, str]:
    """The fields that the customer's latest import gave to columns, by their headings."""
    latest = db.session.execute(
        sa.select(UserImport.headings, UserImport.columns)
        .where(
            UserImport.customer_id == customer_id,
            UserImport.started_at.is_not(None),
            UserImport.has_headings,
        )
        .order_by(UserImport.id.desc())
        .limit(1)
    ).first()
    return dict(zip(latest.headings, latest.columns, strict=False)) if latest else {}


def change_layout(
    actor: Actor,
    customer: Customer,
    import_id: int,
    *,
    encoding: str,
    delimiter: str,
    sheet: int,
    headed: bool,
) -> UserImport:
    """Read the head of a file otherwise than was detected.

    Raises InvalidInput naming `layout` when that cannot be, NotFound, Forbidden, and Conflict once
    rows have been read.
    """
    actor.require(Permission.USERS_IMPORT)
    imported = get_import(actor, customer, import_id)
    layout = tabular_files.choose(
        user_import_files.layout_of(imported), encoding=encoding, delimiter=delimiter, sheet=sheet
    )

    def work() -> UserImport:
        _take_from(imported, (ImportState.UPLOADED, ImportState.FAILED), ImportState.UPLOADED)
        imported.encoding, imported.delimiter = layout.encoding, layout.delimiter
        imported.sheet, imported.problem = layout.sheet, ""
        with user_import_files.opened(imported) as file:
            _take_head(imported, _read_head(file, imported), headed)
        db.session.commit()
        return imported

    try:
        return _run(work)
    except UnreadableFile as error:
        raise InvalidInput("layout", str(error)) from None


def check_import(actor: Actor, customer: Customer, import_id: int, choices: Choices) -> UserImport:
    """Have every row of the file checked; nothing is written to users. The caller starts the work.

    Raises InvalidInput naming `columns` or `sends_welcome`, NotFound, Forbidden, and Conflict when
    the import has begun.
    """
    actor.require(Permission.USERS_IMPORT)
    actor.require(Permission.USERS_ADD)
    if choices.updates:
        actor.require(Permission.USERS_EDIT)
    imported = get_import(actor, customer, import_id)
    width = len(imported.headings)
    columns = [name if name in FIELDS else "" for name in [*choices.columns, *[""] * width][:width]]
    check_columns(columns)
    if choices.sends_welcome:
        actor.require(Permission.MAILINGS_SEND)
        require_welcome(customer)
        if "email" not in columns:
            raise InvalidInput(
                "columns",
                "Welcome mails are wanted, and no column is the e-mail address. "
                "Say which one it is, or import without welcome mails.",
            )

    def work() -> UserImport:
        _take_from(
            imported,
            (ImportState.UPLOADED, ImportState.FAILED),
            ImportState.CHECKING,
            **_author(actor),
        )
        imported.columns = columns
        imported.updates, imported.empties = choices.updates, choices.empties
        imported.sends_welcome = choices.sends_welcome
        imported.share, imported.read_to, imported.problem = 0.0, 0, ""
        for state in ImportRowState:
            setattr(imported, state.value, 0)
        db.session.commit()
        return imported

    return _run(work)


def require_welcome(customer: Customer) -> mailing_confirmations.ChosenMail:
    """The customer's welcome mail as it would be sent now. Raises InvalidInput."""
    template = email_templates.find_welcome_template(customer)
    if template is None:
        raise InvalidInput(
            "sends_welcome", f"{customer.name} has no welcome mail among its e-mail templates."
        )
    try:
        return mailing_confirmations.choose_mail(template)
    except (InvalidInput, Conflict) as error:
        raise InvalidInput("sends_welcome", error.message) from error


def reopen_import(actor: Actor, customer: Customer, import_id: int) -> UserImport:
    """Back to the columns of a file whose rows have been checked. Raises as `check_import` does."""
    actor.require(Permission.USERS_IMPORT)
    imported = get_import(actor, customer, import_id)

    def work() -> UserImport:
        _take_from(imported, (ImportState.CHECKED, ImportState.FAILED), ImportState.UPLOADED)
        imported.problem = ""
        db.session.commit()
        return imported

    return _run(work)


# --- Looking -------------------------------------------------------------------------------------


def get_import(actor: Actor, customer: Customer, import_id: int) -> UserImport:
    """An import of the customer, as it is now. Raises NotFound, Forbidden."""
    actor.require(Permission.USERS_IMPORT)
    found: UserImport | None = db.session.scalar(
        sa.select(UserImport)
        .where(UserImport.id == import_id, UserImport.customer_id == customer.id)
        .execution_options(populate_existing=True)
    )
    if found is None:
        raise NotFound(f"{customer.name} has no such import.")
    return found


def list_imports(
    actor: Actor, customer: Customer, *, size: int = 25, cursor: str = ""
) -> Page[UserImport]:
    """The customer's imports, the newest first. Raises Forbidden."""
    actor.require(Permission.USERS_IMPORT)
    return keyset_page(
        lambda query: db.session.scalars(query).all(),
        sa.select(UserImport).where(UserImport.customer_id == customer.id),
        key=UserImport.id.expression,
        row_id=UserImport.id.expression,
        key_of=lambda imported: (imported.id, imported.id),
        parse_key=parse_id_key,
        descending=True,
        size=size,
        cursor=cursor,
    )


def list_rows(
    imported: UserImport, state: ImportRowState, *, size: int = 25, cursor: str = ""
) -> Page[UserImportRow]:
    """The rows of an import in one state, in the order of the file."""
    return keyset_page(
        lambda query: db.session.scalars(query).all(),
        sa.select(UserImportRow).where(
            UserImportRow.import_id == imported.id, UserImportRow.state == state
        ),
        key=UserImportRow.position.expression,
        row_id=UserImportRow.id.expression,
        key_of=lambda row: (row.position, row.id),
        parse_key=parse_id_key,
        size=size,
        cursor=cursor,
    )


def get_row(imported: UserImport, position: int) -> UserImportRow:
    """Raises NotFound."""
    found: UserImportRow | None = db.session.scalar(
        sa.select(UserImportRow).where(
            UserImportRow.import_id == imported.id, UserImportRow.position == position
        )
    )
    if found is None:
        raise NotFound("The file has no such row, or its rows have been deleted.")
    return found


def texts_of(imported: UserImport, row: UserImportRow) -> dict[str, str]:
    """What stands in a row, by field."""
    return {
        name: row.cells[place] if place < len(row.cells) else ""
        for place, name in enumerate(imported.columns)
        if name
    }


def export_faults(
    actor: Actor, customer: Customer, import_id: int
) -> tuple[list[str], Iterator[list[str]]]:
    """The rows that are faulty or failed as the file had them, with a column that says why.

    Header and rows. Raises NotFound, Forbidden.
    """
    imported = get_import(actor, customer, import_id)
    return [*imported.headings, REASON], _fault_rows(imported.id, len(imported.headings))


def _fault_rows(import_id: int, width: int) -> Iterator[list[str]]:
    for state in (ImportRowState.FAULTY, ImportRowState.FAILED):
        position = 0
        while True:
            query = (
                sa.select(_ROWS.c.position, _ROWS.c.cells, _ROWS.c.faults)
                .where(
                    _ROWS.c.import_id == import_id,
                    _ROWS.c.state == state,
                    _ROWS.c.position > position,
                )
                .order_by(_ROWS.c.position)
                .limit(_READ_AT_ONCE)
            )
            with db.engine.connect() as connection:
                found = connection.execute(query).all()
            for row in found:
                reason = " ".join(message for _, message in row.faults)
                yield [*[*row.cells, *[""] * width][:width], reason]
            if len(found) < _READ_AT_ONCE:
                break
            position = found[-1].position


# --- Correcting a row ----------------------------------------------------------------------------


def change_row(
    actor: Actor, customer: Customer, import_id: int, position: int, texts: Mapping[str, str]
) -> UserImportRow:
    """Write other texts into a row that was checked, and check it again.

    Rows that have its old or its new login are checked again, too, up to a hundred of them.
    Raises NotFound, Forbidden, and Conflict when the rows are no longer being looked at.
    """
    actor.require(Permission.USERS_IMPORT)
    imported = get_import(actor, customer, import_id)

    def work() -> UserImportRow:
        _take_from(imported, (ImportState.CHECKED,), ImportState.CHECKED)
        row = get_row(imported, position)
        cells = [*row.cells, *[""] * (len(imported.columns) - len(row.cells))]
        for place, name in enumerate(imported.columns):
            if name in texts:
                cells[place] = _storable(texts[name])
        judge = Judge(actor, customer, imported)
        (verdict,) = judge.judge([(position, cells)])
        keys = {row.login_key, verdict.login_key} - {""}
        row.cells, row.login_key = cells, verdict.login_key
        row.faults, row.state = _told(verdict), _move(imported, row.state, verdict.state)
        db.session.flush()
        _check_again(judge, imported, keys, position)
        db.session.commit()
        return row

    return _run(work)


def _check_again(judge: Judge, imported: UserImport, keys: set[str], position: int) -> None:
    others = db.session.scalars(
        sa.select(UserImportRow)
        .where(
            UserImportRow.import_id == imported.id,
            UserImportRow.login_key.in_(keys),
            UserImportRow.position != position,
        )
        .order_by(UserImportRow.position)
        .limit(MOST_CHANGED)
    ).all()
    verdicts = judge.judge([(other.position, other.cells) for other in others])
    for other, verdict in zip(others, verdicts, strict=True):
        other.faults, other.state = _told(verdict), _move(imported, other.state, verdict.state)


def _told(verdict: Verdict) -> list[list[str]]:
    return [list(fault) for fault in verdict.faults]


def _move(imported: UserImport, old: ImportRowState, new: ImportRowState) -> ImportRowState:
    """Count a row that goes from one state to another."""
    setattr(imported, old.value, getattr(imported, old.value) - 1)
    setattr(imported, new.value, getattr(imported, new.value) + 1)
    return new


def _storable(text: str) -> str:
    text = text[:LONGEST_CELL]
    return "".join(each if is_storable(each) else "\ufffd" for each in text)


# --- Beginning, cancelling, undoing --------------------------------------------------------------


def start_import(actor: Actor, customer: Customer, import_id: int) -> UserImport:
    """Begin to write; rows with faults are left out. The caller starts the work.

    A second click finds the import that the first one began. Raises InvalidInput when the welcome
    mail cannot be sent, NotFound, Forbidden, and Conflict when there is nothing to import.
    """
    actor.require(Permission.USERS_IMPORT)
    actor.require(Permission.USERS_ADD)
    imported = get_import(actor, customer, import_id)
    if imported.updates:
        actor.require(Permission.USERS_EDIT)
    if imported.started_at is not None:
        return imported
    if imported.state is ImportState.CHECKED and not imported.waiting:
        raise Conflict("No row of this file can be imported. Correct one first.")
    if imported.sends_welcome:
        actor.require(Permission.MAILINGS_SEND)
        require_welcome(customer)

    def work() -> UserImport:
        _take_from(
            imported,
            (ImportState.CHECKED,),
            ImportState.IMPORTING,
            **_author(actor),
        )
        imported.started_at = utcnow()
        user_import_files.remove(db.session.connection(), imported.id)
        _record(
            actor,
            imported,
            "started",
            {
                "file": imported.file_name,
                "to_add": imported.to_add,
                "to_update": imported.to_update,
                "left_out": imported.faulty,
                "welcome_mails": imported.sends_welcome,
            },
        )
        db.session.commit()
        return imported

    return _run(work)


def cancel_import(actor: Actor, customer: Customer, import_id: int) -> UserImport:
    """Stop an import: rows that were imported stay, the others never are. Discards a file that
    has not been imported at all.

    Raises NotFound, Forbidden, and Conflict once it has ended.
    """
    actor.require(Permission.USERS_IMPORT)
    imported = get_import(actor, customer, import_id)

    def work() -> UserImport:
        # A worker writes a chunk with this row locked, so that nothing is written after this.
        _take_from(
            imported,
            (
                ImportState.UPLOADED,
                ImportState.CHECKING,
                ImportState.CHECKED,
                ImportState.FAILED,
                ImportState.IMPORTING,
            ),
            ImportState.CANCELLED,
            lease_token=None,
            lease_expires_at=None,
            finished_at=utcnow(),
        )
        if imported.started_at is None:
            user_import_files.remove(db.session.connection(), imported.id)
        _record(
            actor,
            imported,
            "cancelled",
            {"added": imported.added, "updated": imported.updated, "waiting": imported.waiting},
        )
        db.session.commit()
        return imported

    return _run(work)


def undo_import(actor: Actor, customer: Customer, import_id: int) -> UserImport:
    """Begin to delete the users that an import added and nobody has used. The caller starts the
    work.

    Raises NotFound, Forbidden, and Conflict when there is nothing to undo.
    """
    actor.require(Permission.USERS_IMPORT)
    actor.require(Permission.USERS_DELETE)
    imported = get_import(actor, customer, import_id)
    if not may_be_undone(imported):
        raise Conflict("This import has added nobody whom undoing it could delete.")

    def work() -> UserImport:
        _take_from(
            imported,
            (ImportState.FINISHED, ImportState.CANCELLED),
            ImportState.UNDOING,
            **_author(actor),
        )
        db.session.commit()
        return imported

    return _run(work)


def may_be_undone(imported: UserImport) -> bool:
    """Whether it added users, its rows are still there, and nobody was mailed."""
    return (
        imported.state in {ImportState.FINISHED, ImportState.CANCELLED}
        and imported.added > 0
        and imported.mailing_id is None
        and imported.wiped_at is None
    )


def _take_from(
    imported: UserImport, states: Sequence[ImportState], to: ImportState, **values: Any
) -> None:
    """Go from one of `states` to another, with the row locked to the commit. Raises Conflict."""
    taken = db.session.connection().execute(
        sa.update(_IMPORTS)
        .where(
            _IMPORTS.c.id == imported.id,
            _IMPORTS.c.state.in_(states),
            _IMPORTS.c.wiped_at.is_(None),
        )
        .values(state=to, changed_at=utcnow(), **values)
    )
    if not taken.rowcount:
        raise Conflict("This import has gone on in the meantime. Load the page again.")
    db.session.refresh(imported)


def _record(actor: Actor, imported: UserImport, what: str, detail: dict[str, Any]) -> None:
    record_event(
        actor,
        f"user_import.{what}",
        customer_id=imported.customer_id,
        object_type="user_import",
        object_id=imported.id,
        detail=detail,
    )


def start_work(imported: UserImport) -> None:
    """Ask a worker to go on with an import; call it after the commit. The sweep asks, too."""
    try:
        queues.enqueue("default", "jobs.user_imports.work_on_import", imported.id)
    except RedisError as error:
        log.warning(
            "import %s waits for the sweep, the queue does not answer: %s",
            imported.id,
            type(error).__name__,
        )


def _run(work: Callable[[], T]) -> T:
    try:
        return run_session_transaction(work)
    except (SQLAlchemyError, Conflict, InvalidInput, NotFound, UnreadableFile):
        db.session.rollback()
        raise
