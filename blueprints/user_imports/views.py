"""Import users: upload a file, name its columns, correct its rows, watch it being imported."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, flash, redirect, render_template, request, url_for

from blueprints.downloads import csv_download
from blueprints.forms import LARGEST_ID, apply_refusal
from blueprints.htmx import go, respond, wants_fragment
from blueprints.lists import read_cursor
from blueprints.security import current_actor, customer_page, passive, takes_files
from blueprints.user_imports.forms import (
    ChoicesForm,
    LayoutForm,
    RowForm,
    UploadForm,
    read_columns,
)
from blueprints.user_imports.words import ROW_STATES, STATES, progress_of, start_label
from config import Settings
from extensions import get_settings
from models import Customer, ImportRowState, ImportState, UserImport, UserImportRow
from services import user_imports, users
from services.actors import Permission
from services.errors import Conflict, InvalidInput
from services.tabular_files import DELIMITERS, ENCODINGS
from services.user_import_columns import FIELDS

bp = Blueprint("user_imports", __name__, url_prefix="/customers/<web_id>/users")

_IMPORT = f"/imports/<int(max={LARGEST_ID}):import_id>"
_ROW = f"{_IMPORT}/rows/<int(max=2147483647):position>"
_REST_OF_FORM = 1024 * 1024
_EDITABLE = (ImportState.UPLOADED, ImportState.FAILED)


def _largest_form(settings: Settings) -> int:
    """Somewhat more than a file may have, so that it is refused on the page, in words."""
    return 2 * settings.user_import_megabytes * 1024 * 1024 + _REST_OF_FORM


# --- Uploading -----------------------------------------------------------------------------------


@bp.get("/imports")
@customer_page(Permission.USERS_IMPORT)
def index(customer: Customer) -> Response:
    cursor = read_cursor(request.args)
    page = user_imports.list_imports(current_actor(), customer, cursor=cursor)
    return respond(
        "user_imports/index.html",
        "user_imports/_table.html",
        customer=customer,
        listed=page,
        cursor=cursor,
        states=STATES,
    )


@bp.get("/import")
@customer_page(Permission.USERS_IMPORT)
def new(customer: Customer) -> Response:
    return _show_upload(customer, UploadForm(formdata=None))


@bp.post("/imports")
@takes_files(_largest_form)
@customer_page(Permission.USERS_IMPORT)
def create(customer: Customer) -> Response:
    """Keep the file, and go on to its columns."""
    form = UploadForm()
    try:
        file = request.files.get("file")
        if file is None or not file.filename:
            raise InvalidInput("file", "No file is chosen. Choose one, then upload it.")
        imported = user_imports.create_import(current_actor(), customer, file.filename, file.stream)
    except (InvalidInput, Conflict) as error:
        apply_refusal(form, error)
        return _show_upload(customer, form, status=422)
    return go(_url_of(customer, imported))


def _show_upload(customer: Customer, form: UploadForm, *, status: int = 200) -> Response:
    settings = get_settings()
    return respond(
        "user_imports/new.html",
        status=status,
        customer=customer,
        form=form,
        bundles=users.list_bundles_of(customer),
        most_rows=settings.user_import_rows,
        most_megabytes=settings.user_import_megabytes,
        days=settings.user_import_days,
    )


def _url_of(customer: Customer, imported: UserImport, **more: Any) -> str:
    return url_for("user_imports.show", web_id=customer.web_id, import_id=imported.id, **more)


# --- One import ----------------------------------------------------------------------------------


@bp.get(_IMPORT)
@customer_page(Permission.USERS_IMPORT)
def show(customer: Customer, import_id: int) -> Response:
    imported = user_imports.get_import(current_actor(), customer, import_id)
    return _show(customer, imported)


def _show(
    customer: Customer,
    imported: UserImport,
    *,
    layout: LayoutForm | None = None,
    choices: ChoicesForm | None = None,
    columns: list[str] | None = None,
    status: int = 200,
) -> Response:
    context: dict[str, Any] = {
        "customer": customer,
        "imported": imported,
        "states": STATES,
        "row_states": ROW_STATES,
        "days": get_settings().user_import_days,
    }
    if imported.state in _EDITABLE:
        return respond(
            "user_imports/columns.html",
            status=status,
            layout=layout or LayoutForm.of(imported),
            choices=choices or ChoicesForm.of(imported),
            columns=columns or imported.columns,
            fields=FIELDS,
            encodings=ENCODINGS,
            delimiters=DELIMITERS,
            may_send=current_actor().may(Permission.MAILINGS_SEND),
            may_update=current_actor().may(Permission.USERS_EDIT),
            **context,
        )
    if imported.is_worked_on:
        return respond("user_imports/progress.html", progress=progress_of(imported), **context)
    return _show_rows(customer, imported, context)


def _show_rows(customer: Customer, imported: UserImport, context: dict[str, Any]) -> Response:
    """What was found, or what became of it, with the rows of one state."""
    state = _row_state(imported)
    cursor = read_cursor(request.args)
    return respond(
        "user_imports/rows.html",
        "user_imports/_rows.html",
        listed=user_imports.list_rows(imported, state, cursor=cursor),
        row_state=state,
        cursor=cursor,
        start_label=start_label(imported),
        may_undo=user_imports.may_be_undone(imported)
        and current_actor().may(Permission.USERS_DELETE),
        texts_of=user_imports.texts_of,
        **context,
    )


def _row_state(imported: UserImport) -> ImportRowState:
    """The state that is asked for, or the one that tells most."""
    try:
        return ImportRowState(request.args.get("state", ""))
    except ValueError:
        pass
    for state in (
        ImportRowState.FAULTY,
        ImportRowState.FAILED,
        ImportRowState.KEPT,
        ImportRowState.TO_ADD,
        ImportRowState.TO_UPDATE,
        ImportRowState.ADDED,
        ImportRowState.UPDATED,
    ):
        if getattr(imported, state.value):
            return state
    return ImportRowState.SAME if imported.same else ImportRowState.UNCHANGED


@bp.get(f"{_IMPORT}/progress")
@customer_page(Permission.USERS_IMPORT)
@passive
def progress(customer: Customer, import_id: int) -> Any:
    """What the page polls while a worker is at it; at the end it leads to the page itself."""
    imported = user_imports.get_import(current_actor(), customer, import_id)
    if not wants_fragment():
        return redirect(_url_of(customer, imported))
    body = render_template(
        "user_imports/_progress.html",
        customer=customer,
        imported=imported,
        progress=progress_of(imported),
    )
    response = Response(body)
    if not imported.is_worked_on:
        response.headers["HX-Redirect"] = _url_of(customer, imported)
    return response


@bp.post(f"{_IMPORT}/layout")
@customer_page(Permission.USERS_IMPORT)
def change_layout(customer: Customer, import_id: int) -> Response:
    """Read the file otherwise than was detected."""
    actor = current_actor()
    imported = user_imports.get_import(actor, customer, import_id)
    form = LayoutForm.of(imported)
    if not form.validate():
        return _show(customer, imported, layout=form, status=422)
    try:
        user_imports.change_layout(
            actor,
            customer,
            import_id,
            **form.chosen,
            sheet=form.chosen_sheet,
            headed=bool(form.headed.data),
        )
    except InvalidInput as error:
        apply_refusal(form, error)
        imported = user_imports.get_import(actor, customer, import_id)
        return _show(customer, imported, layout=form, status=422)
    return go(_url_of(customer, imported))


@bp.post(f"{_IMPORT}/check")
@customer_page(Permission.USERS_IMPORT)
def check(customer: Customer, import_id: int) -> Response:
    """Have all rows checked, with these columns."""
    actor = current_actor()
    imported = user_imports.get_import(actor, customer, import_id)
    form = ChoicesForm()
    columns = read_columns(imported)
    if not form.validate():
        return _show(customer, imported, choices=form, columns=columns, status=422)
    try:
        imported = user_imports.check_import(actor, customer, import_id, form.choices(imported))
    except InvalidInput as error:
        apply_refusal(form, error)
        imported = user_imports.get_import(actor, customer, import_id)
        return _show(customer, imported, choices=form, columns=columns, status=422)
    user_imports.start_work(imported)
    return go(_url_of(customer, imported))


@bp.post(f"{_IMPORT}/reopen")
@customer_page(Permission.USERS_IMPORT)
def reopen(customer: Customer, import_id: int) -> Response:
    """Back to the columns."""
    imported = user_imports.reopen_import(current_actor(), customer, import_id)
    return go(_url_of(customer, imported))


@bp.post(f"{_IMPORT}/start")
@customer_page(Permission.USERS_IMPORT)
def start(customer: Customer, import_id: int) -> Response:
    try:
        imported = user_imports.start_import(current_actor(), customer, import_id)
    except InvalidInput as error:
        raise Conflict(error.message) from error
    user_imports.start_work(imported)
    return go(_url_of(customer, imported))


@bp.post(f"{_IMPORT}/cancel")
@customer_page(Permission.USERS_IMPORT)
def cancel(customer: Customer, import_id: int) -> Response:
    imported = user_imports.cancel_import(current_actor(), customer, import_id)
    if imported.started_at is None:
        flash(f"{imported.file_name} is discarded. Nobody was imported.", "neutral")
        return go(url_for("user_imports.index", web_id=customer.web_id))
    flash("Cancelled. Users who were imported before stay, until you undo it.", "neutral")
    return go(_url_of(customer, imported))


@bp.post(f"{_IMPORT}/undo")
@customer_page(Permission.USERS_IMPORT)
def undo(customer: Customer, import_id: int) -> Response:
    imported = user_imports.undo_import(current_actor(), customer, import_id)
    user_imports.start_work(imported)
    return go(_url_of(customer, imported))


@bp.post(f"{_IMPORT}/faults")
@customer_page(Permission.USERS_IMPORT)
def faults(customer: Customer, import_id: int) -> Response:
    """The rows that could not be imported, as the file had them, with the reason."""
    header, rows = user_imports.export_faults(current_actor(), customer, import_id)
    return csv_download(f"users-{customer.web_id}-faults", header, rows)


# --- One row -------------------------------------------------------------------------------------


@bp.get(_ROW)
@customer_page(Permission.USERS_IMPORT)
def edit_row(customer: Customer, import_id: int, position: int) -> Response:
    imported = user_imports.get_import(current_actor(), customer, import_id)
    row = user_imports.get_row(imported, position)
    if request.args.get("shown") == "row":
        return _show_row(customer, imported, row)
    texts = user_imports.texts_of(imported, row)
    form = RowForm(formdata=None, data=texts)
    form.keep(set(texts), position)
    _add_faults(form, row)
    return _show_row_form(customer, imported, row, form)


@bp.post(_ROW)
@customer_page(Permission.USERS_IMPORT)
def save_row(customer: Customer, import_id: int, position: int) -> Response:
    """Check a row again with other texts; it stays open while something is wrong with it."""
    actor = current_actor()
    imported = user_imports.get_import(actor, customer, import_id)
    row = user_imports.get_row(imported, position)
    form = RowForm()
    form.keep({name for name in imported.columns if name}, position)
    if not form.validate():
        return _show_row_form(customer, imported, row, form, status=422)
    texts = {field.name: field.data or "" for field in form if field.name in FIELDS}
    row = user_imports.change_row(actor, customer, import_id, position, texts)
    imported = user_imports.get_import(actor, customer, import_id)
    if row.state is ImportRowState.FAULTY:
        _add_faults(form, row)
        return _show_row_form(customer, imported, row, form, status=422)
    flash(f"Row {position:,} is right now. {ROW_STATES[row.state][1]}.", "good")
    if wants_fragment():
        return _show_row(customer, imported, row)
    return go(_url_of(customer, imported, state=ImportRowState.FAULTY.value))


def _add_faults(form: RowForm, row: UserImportRow) -> None:
    for name, message in row.faults:
        if name in form:
            form[name].errors = [*form[name].errors, message]
        else:
            form.form_errors.append(message)


def _show_row(customer: Customer, imported: UserImport, row: UserImportRow) -> Response:
    """A row of the list, with the counters and the button that it has changed."""
    return respond(
        "user_imports/row.html",
        "user_imports/_row_update.html",
        customer=customer,
        imported=imported,
        row=row,
        form=None,
        texts=user_imports.texts_of(imported, row),
        row_states=ROW_STATES,
        start_label=start_label(imported),
    )


def _show_row_form(
    customer: Customer,
    imported: UserImport,
    row: UserImportRow,
    form: RowForm,
    *,
    status: int = 200,
) -> Response:
    return respond(
        "user_imports/row.html",
        "user_imports/_row_form.html",
        status=status,
        customer=customer,
        imported=imported,
        row=row,
        form=form,
        texts=user_imports.texts_of(imported, row),
        row_states=ROW_STATES,
        bundles=users.list_bundles_of(customer),
    )
