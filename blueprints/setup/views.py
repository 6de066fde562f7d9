"""Setup instructions of a customer: the text and the files that its users are welcomed with."""

from __future__ import annotations

from flask import Blueprint, Response, abort, flash, request, url_for

from blueprints.downloads import file_download
from blueprints.forms import LARGEST_ID, apply_refusal
from blueprints.htmx import go, respond
from blueprints.security import current_actor, customer_page, takes_files
from blueprints.setup.forms import FileForm, TextForm, visible
from config import Settings
from models import Customer
from services import setup_instructions
from services.actors import Permission
from services.attachment_rules import ENDINGS
from services.errors import InvalidInput, NotFound, Stale
from services.setup_instructions import LONGEST_TEXT, Way, limits, size_words

bp = Blueprint("setup", __name__, url_prefix="/customers/<web_id>/setup")
bp.add_app_template_filter(size_words, "size_words")

_FILE = f"/files/<int(max={LARGEST_ID}):file_id>"
_REST_OF_FORM = 64 * 1024


def _largest_form(settings: Settings) -> int:
    """Somewhat more than a file may have, so that it is refused on the page, in words."""
    return 2 * settings.attachment_file_kb * 1000 + _REST_OF_FORM


@bp.get("")
@customer_page(Permission.USERS_READ)
def index(customer: Customer) -> Response:
    """Text and files, as forms for those who may change them."""
    return _show(customer)


@bp.post("")
@customer_page(Permission.SETUP_EDIT)
def save(customer: Customer) -> Response:
    form = TextForm()
    if not form.validate():
        return _show(customer, form, status=422)
    try:
        changed = setup_instructions.save_text(
            current_actor(), customer, form.text.data or "", version=form.seen
        )
    except Stale:
        form.version.data = str(customer.setup_version)
        return _show(customer, form, is_overtaken=True, status=409)
    except InvalidInput as error:
        apply_refusal(form, error)
        return _show(customer, form, status=422)
    if changed:
        flash("The text is saved. Welcome mails from now on have it.", "good")
    else:
        flash("Nothing was changed.", "neutral")
    return _back(customer)


@bp.post("/files")
@takes_files(_largest_form)
@customer_page(Permission.SETUP_EDIT)
def add_file(customer: Customer) -> Response:
    """Attach a file, or replace the one of its name."""
    form = FileForm()
    try:
        file = request.files.get("file")
        if file is None or not file.filename:
            raise InvalidInput("file", "No file is chosen. Choose one, then attach it.")
        name, is_replaced = setup_instructions.add_file(
            current_actor(), customer, file.filename, file.stream.read()
        )
    except InvalidInput as error:
        apply_refusal(form, error)
        return _show(customer, file_form=form, status=422)
    flash(f"{name} is {'replaced' if is_replaced else 'attached'}.", "good")
    return _back(customer)


@bp.get(_FILE)
@customer_page(Permission.USERS_READ)
def download(customer: Customer, file_id: int) -> Response:
    return file_download(setup_instructions.get_file(customer, file_id))


@bp.post(f"{_FILE}/remove")
@customer_page(Permission.SETUP_EDIT)
def remove_file(customer: Customer, file_id: int) -> Response:
    try:
        name = setup_instructions.remove_file(current_actor(), customer, file_id)
    except NotFound as error:
        flash(error.message, "attention")
    else:
        flash(f"{name} is removed. Mails that have left still have it.", "good")
    return _back(customer)


@bp.post(f"{_FILE}/move")
@customer_page(Permission.SETUP_EDIT)
def move_file(customer: Customer, file_id: int) -> Response:
    """One place up or down."""
    way = request.form.get("way", "")
    if way not in set(Way):
        abort(400)
    try:
        setup_instructions.move_file(current_actor(), customer, file_id, Way(way))
    except NotFound as error:
        flash(error.message, "attention")
    return _back(customer)


def _back(customer: Customer) -> Response:
    return go(url_for("setup.index", web_id=customer.web_id))


def _show(
    customer: Customer,
    form: TextForm | None = None,
    *,
    file_form: FileForm | None = None,
    is_overtaken: bool = False,
    status: int = 200,
) -> Response:
    files = setup_instructions.list_files(customer)
    allowed = limits()
    total = sum(each.size for each in files)
    if form is None:
        saved = {"text": customer.setup_instructions, "version": str(customer.setup_version)}
        form = TextForm(formdata=None, data=saved)
    form.text.data = visible(form.text.data or "")
    return respond(
        "setup/index.html",
        status=status,
        customer=customer,
        form=form,
        file_form=file_form or FileForm(formdata=None),
        is_overtaken=is_overtaken,
        files=files,
        total=total,
        limits=allowed,
        has_room=len(files) < allowed.count,
        endings=ENDINGS,
        longest=LONGEST_TEXT,
        may_edit=current_actor().may(Permission.SETUP_EDIT),
    )
