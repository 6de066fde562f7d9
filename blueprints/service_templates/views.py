"""Service templates for staff: the list, editing, versions, publishing."""

from __future__ import annotations

from dataclasses import replace

from flask import Blueprint, Response, abort, flash, request, url_for

from blueprints.forms import LARGEST_ID, apply_refusal
from blueprints.htmx import go, respond
from blueprints.lists import read_cursor
from blueprints.parameters.forms import parse_number
from blueprints.registration.wizard_pages import cards_of
from blueprints.security import current_actor, requires, staff_page
from blueprints.service_templates.forms import (
    PublishForm,
    acted,
    form_of,
    sent_template,
)
from models import Audience, ServiceTemplate, ServiceTemplateVersion, TemplateKind
from services import service_template_versions
from services.actors import Permission
from services.errors import Conflict, InvalidInput, InvalidInputs, Stale
from services.parameter_rules import PARAMETERS, ParameterGroup, default_values, text_of
from services.service_template_rules import MOST_OPTIONS, TypedTemplate
from services.service_template_versions import (
    AUDIENCE_WORDS,
    START_WORDS,
    Offered,
    describe,
    differences,
    find_obstacles,
    typed_from,
)
from services.setup_instructions import Way

bp = Blueprint("service_templates", __name__, url_prefix="/service-templates")

_ONE = f"/<int(max={LARGEST_ID}):template_id>"
_VERSION = f"{_ONE}/versions/<int(max=2147483647):number>"
_NEWEST = 5


@bp.get("")
@staff_page(Permission.TEMPLATES_READ)
def index() -> Response:
    """The templates in the order in which they are offered, or the archived ones."""
    archived = request.args.get("state") == "archived"
    cursor = read_cursor(request.args)
    actor = current_actor()
    return respond(
        "service_templates/index.html",
        listed=service_template_versions.list_templates(actor, archived=archived, cursor=cursor),
        archived=archived,
        cursor=cursor,
        audiences=AUDIENCE_WORDS,
        may_edit=actor.may(Permission.SERVICE_TEMPLATES_EDIT),
    )


# --- One template --------------------------------------------------------------------------------


@bp.get(_ONE)
@staff_page(Permission.TEMPLATES_READ)
def show(template_id: int) -> Response:
    """Its newest version, how registrants see it, what is published, and earlier versions."""
    return _show(template_id)


def _show(
    template_id: int, *, publish_form: PublishForm | None = None, status: int = 200
) -> Response:
    actor = current_actor()
    one = service_template_versions.get_template(actor, template_id)
    newest, template = one.newest, one.template
    published = template.published_version
    if publish_form is None:
        audience = template.audience if published else Audience.EVERYBODY
        publish_form = PublishForm(
            formdata=None, data={"number": str(newest.number), "audience": audience.value}
        )
    return respond(
        "service_templates/show.html",
        status=status,
        template=template,
        newest=newest,
        published=published,
        said=describe(newest),
        card=_card(newest),
        obstacles=find_obstacles(newest),
        changes=differences(published, newest) if published and published is not newest else [],
        versions=service_template_versions.list_versions(template, size=_NEWEST).rows,
        audiences=AUDIENCE_WORDS,
        publish_form=publish_form,
        may_edit=actor.may(Permission.SERVICE_TEMPLATES_EDIT),
    )


def _card(version: ServiceTemplateVersion) -> object:
    """The version as the Template tab shows it, chosen."""
    (card,) = cards_of([version], {"template": str(version.template_id)}, {})
    return card


@bp.post(f"{_ONE}/publish")
@requires(Permission.SERVICE_TEMPLATES_EDIT)
def publish(template_id: int) -> Response:
    one = service_template_versions.get_template(current_actor(), template_id)
    form = PublishForm()
    audience = form.chosen
    if audience is None:
        form.audience.errors = ["Choose who may pick it."]
        return _show(template_id, publish_form=form, status=422)
    try:
        service_template_versions.publish_version(
            current_actor(), one.template, form.version, audience
        )
    except InvalidInput as error:
        apply_refusal(form, error)
        return _show(template_id, publish_form=form, status=422)
    except Conflict as error:
        flash(error.message, "attention")
    else:
        who = {
            Audience.EVERYBODY: "everybody who registers a tenant",
            Audience.INVITED: "who is invited to it",
            Audience.STAFF: "staff alone",
        }[audience]
        flash(f"Version {form.version} is offered to {who}.", "good")
    return _go_to(template_id)


@bp.post(f"{_ONE}/unpublish")
@requires(Permission.SERVICE_TEMPLATES_EDIT)
def unpublish(template_id: int) -> Response:
    one = service_template_versions.get_template(current_actor(), template_id)
    service_template_versions.unpublish(current_actor(), one.template)
    flash("Nobody can pick it any more. Requests that were made with it stay.", "good")
    return _go_to(template_id)


@bp.post(f"{_ONE}/archive")
@requires(Permission.SERVICE_TEMPLATES_EDIT)
def archive(template_id: int) -> Response:
    one = service_template_versions.get_template(current_actor(), template_id)
    service_template_versions.archive_template(current_actor(), one.template)
    flash("The template is archived. It can be brought back at any time.", "good")
    return _go_to(template_id)


@bp.post(f"{_ONE}/unarchive")
@requires(Permission.SERVICE_TEMPLATES_EDIT)
def unarchive(template_id: int) -> Response:
    one = service_template_versions.get_template(current_actor(), template_id)
    service_template_versions.unarchive_template(current_actor(), one.template)
    flash("The template is back in the list. Publish it to have it offered again.", "good")
    return _go_to(template_id)


@bp.post(f"{_ONE}/move")
@requires(Permission.SERVICE_TEMPLATES_EDIT)
def move(template_id: int) -> Response:
    """One place up or down in the list."""
    way = request.form.get("way", "")
    if way not in set(Way):
        abort(400)
    one = service_template_versions.get_template(current_actor(), template_id)
    try:
        service_template_versions.move_template(current_actor(), one.template, Way(way))
    except Conflict as error:
        flash(error.message, "attention")
    return go(url_for("service_templates.index"))


def _go_to(template_id: int) -> Response:
    return go(url_for("service_templates.show", template_id=template_id))


# --- Editing -------------------------------------------------------------------------------------


@bp.route("/new", methods=["GET", "POST"])
@requires(Permission.SERVICE_TEMPLATES_EDIT)
def new() -> Response:
    """A new template, empty or as a copy of the one that `from` names."""
    if request.method == "GET":
        return _edit(None, _first_texts(), 0)
    typed, _ = sent_template()
    if (answer := _act_on_options(None, typed, 0)) is not None:
        return answer
    try:
        template = service_template_versions.create_template(current_actor(), typed)
    except InvalidInputs as error:
        return _edit(None, typed, 0, error=error, status=422)
    flash(f"{template.name} is saved. Publish it when it is ready.", "good")
    return _go_to(template.id)


def _first_texts() -> TypedTemplate:
    source = request.args.get("from", "")
    if source.isascii() and source.isdecimal() and len(source) < 19:
        one = service_template_versions.get_template(current_actor(), int(source))
        kept = typed_from(one.newest)
        return replace(kept, name=f"Copy of {kept.name}"[:64])
    offered = service_template_versions.list_offered_parts()
    defaults = default_values()
    return TypedTemplate(
        name="",
        description="",
        group_id=offered.groups[0].id if len(offered.groups) == 1 else 0,
        needs_approval=True,
        start_rule="immediate",
        connector="local",
        application_url="",
        setup_instructions="",
        bundles=[],
        email_templates=[
            each.id for each in offered.email_templates if each.kind is TemplateKind.WELCOME
        ],
        parameters={name: text_of(PARAMETERS[name], defaults[name]) for name in PARAMETERS},
        must_replace=[name for name, each in PARAMETERS.items() if each.is_required],
        options=[],
    )


@bp.route(f"{_ONE}/edit", methods=["GET", "POST"])
@requires(Permission.SERVICE_TEMPLATES_EDIT)
def edit(template_id: int) -> Response:
    """The newest version as a form; saving makes the next."""
    one = service_template_versions.get_template(current_actor(), template_id)
    template = one.template
    if template.archived_at is not None:
        flash(f"{template.name} is archived. Bring it back before you change it.", "attention")
        return _go_to(template_id)
    if request.method == "GET":
        return _edit(template, typed_from(one.newest), one.newest.number)
    typed, seen = sent_template()
    if (answer := _act_on_options(template, typed, seen)) is not None:
        return answer
    name = template.name
    try:
        version = service_template_versions.save_template(
            current_actor(), template, typed, seen=seen
        )
    except InvalidInputs as error:
        return _edit(template, typed, seen, error=error, status=422)
    except Stale:
        return _overtaken(template_id, typed, seen)
    except Conflict as error:
        flash(error.message, "attention")
        return _go_to(template_id)
    if version is not None:
        flash(f"Version {version.number} is saved. It is offered when it is published.", "good")
    elif template.name != name:
        flash(f"It is called {template.name} now.", "good")
    else:
        flash("Nothing was changed.", "neutral")
    return _go_to(template_id)


def _overtaken(template_id: int, typed: TypedTemplate, seen: int) -> Response:
    """The form with what was typed, to be saved on top of what another has saved meanwhile."""
    one = service_template_versions.get_template(current_actor(), template_id)
    base = min(max(seen, 1), one.newest.number)
    before = service_template_versions.get_version(one.template, base)
    return _edit(
        one.template,
        typed,
        one.newest.number,
        overtaken_by=one.newest,
        changes=differences(before, one.newest),
        status=409,
    )


def _act_on_options(
    template: ServiceTemplate | None, typed: TypedTemplate, seen: int
) -> Response | None:
    """What a button of the options does: the form again, with nothing saved."""
    act = request.form.get("act", "")
    if not act:
        return None
    done = acted(list(typed.options), act)
    if done is None:
        return _edit(template, typed, seen)
    options, place = done
    return _edit(template, replace(typed, options=options), seen, place=place)


def _edit(
    template: ServiceTemplate | None,
    typed: TypedTemplate,
    seen: int,
    *,
    error: InvalidInputs | None = None,
    place: int | None = None,
    overtaken_by: ServiceTemplateVersion | None = None,
    changes: list[tuple[str, str, str]] | None = None,
    status: int = 200,
) -> Response:
    """The form. `place` is the option to go on at after one of their buttons."""
    form = form_of(typed, seen)
    if error is not None:
        apply_refusal(form, error)
    newest = None
    if template is not None:
        newest = service_template_versions.get_template(current_actor(), template.id).newest
    offered: Offered = service_template_versions.list_offered_parts(newest)
    form.offer(offered)
    return respond(
        "service_templates/edit.html",
        status=status,
        template=template,
        form=form,
        offered=offered,
        options=range(len(typed.options)),
        kinds=[option.kind for option in typed.options],
        place=place,
        has_room=len(typed.options) < MOST_OPTIONS,
        groups=[
            (group, [each for each in PARAMETERS.values() if each.group is group])
            for group in ParameterGroup
        ],
        overtaken_by=overtaken_by,
        changes=changes or [],
        starts=START_WORDS,
    )


# --- Versions ------------------------------------------------------------------------------------


@bp.get(f"{_ONE}/versions")
@staff_page(Permission.TEMPLATES_READ)
def versions(template_id: int) -> Response:
    one = service_template_versions.get_template(current_actor(), template_id)
    cursor = read_cursor(request.args)
    return respond(
        "service_templates/versions.html",
        template=one.template,
        listed=service_template_versions.list_versions(one.template, cursor=cursor),
        cursor=cursor,
    )


@bp.get(_VERSION)
@staff_page(Permission.TEMPLATES_READ)
def version(template_id: int, number: int) -> Response:
    """A version beside the newest, or the one that the address says."""
    return _show_version(template_id, number)


@bp.post(f"{_VERSION}/restore")
@requires(Permission.SERVICE_TEMPLATES_EDIT)
def restore(template_id: int, number: int) -> Response:
    """Make a version the newest again."""
    one = service_template_versions.get_template(current_actor(), template_id)
    seen = parse_number(request.form.get("newest"))
    try:
        made = service_template_versions.restore_version(
            current_actor(), one.template, number, seen=seen
        )
    except Conflict as error:
        flash(error.message, "attention")
        address = url_for("service_templates.version", template_id=template_id, number=number)
        return go(address)
    flash(
        f"Version {made.number} says what version {number} said. It is not published yet.", "good"
    )
    return _go_to(template_id)


def _show_version(template_id: int, number: int) -> Response:
    actor = current_actor()
    one = service_template_versions.get_template(actor, template_id)
    shown = service_template_versions.get_version(one.template, number)
    newest = one.newest.number
    wanted = parse_number(request.args.get("with"))
    if not 0 < wanted <= newest or wanted == number:
        wanted = newest if number != newest else number - 1
    beside = service_template_versions.get_version(one.template, wanted) if wanted else None
    said, other = describe(shown), describe(beside) if beside else {}
    offered = sorted({newest, number - 1, number + 1, wanted} - {number, 0, newest + 1})
    return respond(
        "service_templates/version.html",
        template=one.template,
        version=shown,
        newest=one.newest,
        beside=beside,
        offered=offered,
        rows=[
            (title, said.get(title, ""), other.get(title, ""))
            for title in dict.fromkeys([*said, *other])
        ],
        may_edit=actor.may(Permission.SERVICE_TEMPLATES_EDIT),
    )
