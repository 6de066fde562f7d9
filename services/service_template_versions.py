"""Editing service templates: every save is a version, and one of them is published.

A version never changes, so that a request keeps what it was made with. The name, the audience and
the place in the list belong to the template itself. Who saves says which version he saw.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import aliased, contains_eager, joinedload, selectinload

from connectors import list_connectors
from extensions import db
from models import (
    Audience,
    Bundle,
    EmailTemplate,
    Group,
    OptionKind,
    ServiceOption,
    ServiceTemplate,
    ServiceTemplateVersion,
    StartRule,
    TemplateKind,
    fold,
    table_of,
    utcnow,
)
from services.actors import Actor, Permission, groups_of
from services.audit_events import record_event
from services.bulk_rows import update_rows
from services.errors import Conflict, InvalidInput, InvalidInputs, NotFound, ServiceError, Stale
from services.general_parameters import LARGEST_NUMBER
from services.paging import Page, keyset_page, parse_id_key
from services.parameter_rules import PARAMETERS, shown_text, text_of, title_of
from services.service_template_rules import (
    TypedOption,
    TypedTemplate,
    check_template,
)
from services.setup_instructions import Way
from services.transactions import run_session_transaction

AUDIENCE_WORDS = {
    Audience.EVERYBODY: "Everybody",
    Audience.INVITED: "By invitation",
    Audience.STAFF: "Staff only",
}
START_WORDS = {
    StartRule.IMMEDIATE: "At once",
    StartRule.OFF_PEAK: "During off-peak hours",
    StartRule.AT_APPROVAL: "When the approver says",
}
KIND_WORDS = {
    OptionKind.CHOICE: "One of several choices",
    OptionKind.COUNT: "A number",
    OptionKind.YES_NO: "Yes or no",
}

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Listed:
    """A line of the list: a template with its newest version."""

    template: ServiceTemplate
    newest: ServiceTemplateVersion


@dataclass(frozen=True, slots=True)
class Offered:
    """What a template can be made of."""

    groups: list[Group]
    bundles: list[Bundle]
    email_templates: list[EmailTemplate]
    connectors: list[str]


# --- Reading -------------------------------------------------------------------------------------


def _is_newest() -> sa.ColumnElement[bool]:
    other = aliased(ServiceTemplateVersion)
    newest = sa.select(sa.func.max(other.number)).where(other.template_id == ServiceTemplate.id)
    return sa.and_(
        ServiceTemplateVersion.template_id == ServiceTemplate.id,
        ServiceTemplateVersion.number == newest.scalar_subquery(),
    )


def _in_scope(actor: Actor) -> sa.ColumnElement[bool]:
    """Who works for some groups sees the templates whose newest version is for one of them."""
    actor.require(Permission.CUSTOMERS_READ)
    actor.require(Permission.TEMPLATES_READ)
    if actor.all_groups:
        return sa.true()
    return ServiceTemplateVersion.group_id.in_(groups_of(actor))


def list_templates(
    actor: Actor, *, archived: bool = False, size: int = 25, cursor: str = ""
) -> Page[Listed]:
    """A page of the templates in the order in which they are offered. Raises Forbidden."""
    is_archived = ServiceTemplate.archived_at.is_not(None)
    query = (
        sa.select(ServiceTemplateVersion)
        .join(ServiceTemplate, _is_newest())
        .where(_in_scope(actor), is_archived if archived else ~is_archived)
        .options(
            contains_eager(ServiceTemplateVersion.template).joinedload(
                ServiceTemplate.published_version
            ),
            joinedload(ServiceTemplateVersion.group),
            selectinload(ServiceTemplateVersion.bundles),
        )
    )
    return keyset_page(
        lambda statement: [
            Listed(version.template, version) for version in db.session.scalars(statement)
        ],
        query,
        key=ServiceTemplate.position.expression,
        row_id=ServiceTemplate.id.expression,
        key_of=lambda listed: (str(listed.template.position), listed.template.id),
        parse_key=parse_id_key,
        size=size,
        cursor=cursor,
    )


def get_template(actor: Actor, template_id: int) -> Listed:
    """A template with its newest version. Raises Forbidden, and NotFound outside the scope."""
    found = db.session.execute(
        sa.select(ServiceTemplate, ServiceTemplateVersion)
        .join(ServiceTemplateVersion, _is_newest())
        .where(ServiceTemplate.id == template_id, _in_scope(actor))
        .options(*_loaded())
    ).one_or_none()
    if found is None:
        raise NotFound("There is no such service template, or it is not yours to see.")
    return Listed(*found)


def _loaded() -> list[Any]:
    version = ServiceTemplateVersion
    return [
        joinedload(version.group),
        joinedload(version.created_by),
        joinedload(version.template),
        selectinload(version.options),
        selectinload(version.bundles),
        selectinload(version.email_templates),
    ]


def list_versions(
    template: ServiceTemplate, *, size: int = 25, cursor: str = ""
) -> Page[ServiceTemplateVersion]:
    """A page of a template's versions, newest first, with who saved them.

    The caller has found the template in the actor's scope.
    """
    number = ServiceTemplateVersion.number.expression
    return keyset_page(
        lambda query: db.session.scalars(query).all(),
        sa.select(ServiceTemplateVersion)
        .where(ServiceTemplateVersion.template_id == template.id)
        .options(joinedload(ServiceTemplateVersion.created_by)),
        key=number,
        row_id=number,
        key_of=lambda row: (str(row.number), row.number),
        parse_key=parse_id_key,
        descending=True,
        size=size,
        cursor=cursor,
    )


def get_version(template: ServiceTemplate, number: int) -> ServiceTemplateVersion:
    """The version `number` of a template that the caller has found. Raises NotFound."""
    found = None
    if 0 < number <= LARGEST_NUMBER:
        found = db.session.scalar(
            sa.select(ServiceTemplateVersion)
            .where(
                ServiceTemplateVersion.template_id == template.id,
                ServiceTemplateVersion.number == number,
            )
            .options(*_loaded())
        )
    if found is None:
        raise NotFound(f"{template.name} has no version {number}.")
    return found


def list_offered_parts(version: ServiceTemplateVersion | None = None) -> Offered:
    """What a template may be made of, and what `version` is made of although it is archived."""
    kept_bundles = [each.id for each in version.bundles] if version else []
    kept_templates = [each.id for each in version.email_templates] if version else []
    bundles = sa.or_(Bundle.archived_at.is_(None), Bundle.id.in_(kept_bundles))
    templates = sa.or_(EmailTemplate.archived_at.is_(None), EmailTemplate.id.in_(kept_templates))
    return Offered(
        list(db.session.scalars(sa.select(Group).order_by(Group.groupno))),
        list(db.session.scalars(sa.select(Bundle).where(bundles).order_by(Bundle.name))),
        list(
            db.session.scalars(
                sa.select(EmailTemplate)
                .where(templates, EmailTemplate.kind != TemplateKind.PASSWORD_RESET)
                .order_by(EmailTemplate.kind != TemplateKind.WELCOME, EmailTemplate.name_key)
            )
        ),
        list_connectors(),
    )


def find_obstacles(version: ServiceTemplateVersion) -> list[str]:
    """Why a version cannot be published: a sentence for each thing that a tenant would lack."""
    obstacles = []
    if not any(each.archived_at is None for each in version.bundles):
        obstacles.append(
            "It has no bundle that is in use, so that users of a new tenant could be given "
            "nothing. Choose one."
        )
    if not any(
        each.kind is TemplateKind.WELCOME and each.archived_at is None
        for each in version.email_templates
    ):
        obstacles.append(
            "It has no welcome mail, so that users of a new tenant would never get their "
            "passwords. Choose an e-mail template of the kind Welcome."
        )
    if version.connector not in list_connectors():
        obstacles.append(
            f"The application platform “{version.connector}” is not installed here. Choose another."
        )
    return obstacles


def describe(version: ServiceTemplateVersion) -> dict[str, str]:
    """What a version says, as titles and texts in the order of the page; empty where nothing."""
    said = {
        "Description": version.description,
        "Group": f"{version.group.groupno}, {version.group.name}",
        "Approval": "Needed" if version.needs_approval else "Not needed",
        "Start": START_WORDS[version.start_rule],
        "Application platform": version.connector,
        "Application address": version.application_url,
        "Setup instructions": version.setup_instructions,
        "Bundles": ", ".join(each.name for each in version.bundles),
        "E-mail templates": ", ".join(each.name for each in version.email_templates),
    }
    for option in version.options:
        said[f"Option {option.name}"] = _describe_option(option)
    for name, parameter in PARAMETERS.items():
        shown = shown_text(parameter, version.parameters.get(name, parameter.default))
        must = " (must be replaced)" if name in version.must_replace else ""
        said[title_of(parameter)] = f"{shown}{must}"
    return said


def _describe_option(option: ServiceOption) -> str:
    match option.kind:
        case OptionKind.CHOICE:
            rule = f"one of {', '.join(option.choices)}"
        case OptionKind.COUNT:
            rule = f"{option.minimum:,} to {option.maximum:,}"
        case OptionKind.YES_NO:
            rule = "yes or no"
    text = f"{option.position + 1}. {option.label}: {rule}; {option.default} by default."
    return f"{text} {option.help}".strip()


def differences(
    before: ServiceTemplateVersion, after: ServiceTemplateVersion
) -> list[tuple[str, str, str]]:
    """Title, text before and text after of what differs between two versions."""
    old, new = describe(before), describe(after)
    titles = dict.fromkeys([*new, *old])
    return [
        (title, old.get(title, ""), new.get(title, ""))
        for title in titles
        if old.get(title, "") != new.get(title, "")
    ]


def typed_from(version: ServiceTemplateVersion) -> TypedTemplate:
    """A version as it would be typed."""
    return TypedTemplate(
        name=version.template.name,
        description=version.description,
        group_id=version.group_id,
        needs_approval=version.needs_approval,
        start_rule=version.start_rule,
        connector=version.connector,
        application_url=version.application_url,
        setup_instructions=version.setup_instructions,
        bundles=[each.id for each in version.bundles],
        email_templates=[each.id for each in version.email_templates],
        parameters={
            name: text_of(parameter, version.parameters.get(name, parameter.default))
            for name, parameter in PARAMETERS.items()
        },
        must_replace=list(version.must_replace),
        options=[
            TypedOption(
                label=option.label,
                name=option.name,
                help=option.help,
                kind=option.kind,
                choices="\n".join(option.choices),
                minimum="" if option.minimum is None else str(option.minimum),
                maximum="" if option.maximum is None else str(option.maximum),
                default=option.default,
            )
            for option in version.options
        ],
    )


# --- Changing ------------------------------------------------------------------------------------


def create_template(actor: Actor, typed: TypedTemplate) -> ServiceTemplate:
    """A new template with its first version, the last in the list and not published.

    Raises Forbidden, and InvalidInputs with every fault.
    """
    actor.require(Permission.SERVICE_TEMPLATES_EDIT)

    def create() -> ServiceTemplate:
        name, values, options = check_template(typed)
        last = sa.select(sa.func.coalesce(sa.func.max(ServiceTemplate.position), 0) + 1)
        template = ServiceTemplate(
            name=name,
            name_key=fold(name),
            audience=Audience.STAFF,
            position=last.scalar_subquery(),
        )
        db.session.add(template)
        _flush_name(name)
        version = _add_version(actor, template, 1, values, options)
        _record(actor, template, "created", {"after": {"Name": name, **_told(describe(version))}})
        return template

    return _write(create)


def save_template(
    actor: Actor, template: ServiceTemplate, typed: TypedTemplate, *, seen: int
) -> ServiceTemplateVersion | None:
    """Make what was typed the newest version; None where only the name, or nothing, changed.

    `seen` is the number of the version that the actor has seen. Raises Forbidden, InvalidInputs,
    Stale when there is a newer one, and Conflict for an archived template.
    """
    actor.require(Permission.SERVICE_TEMPLATES_EDIT)
    template_id = template.id

    def save() -> ServiceTemplateVersion | None:
        held = _hold(template_id)
        newest = _newest_of(held)
        if newest.number != seen:
            raise Stale(
                f"Version {newest.number} was saved in the meantime, so nothing of yours was. "
                "Compare it with what you typed, and save again."
            )
        name, values, options = check_template(typed)
        if name != held.name:
            _record(
                actor, held, "renamed", {"before": {"Name": held.name}, "after": {"Name": name}}
            )
            held.name, held.name_key = name, fold(name)
            _flush_name(name)
        if _is_same(newest, values, options):
            return None
        version = _add_version(actor, held, newest.number + 1, values, options)
        _record_version(actor, held, "saved", newest, version)
        return version

    return _write(save)


def restore_version(
    actor: Actor, template: ServiceTemplate, number: int, *, seen: int
) -> ServiceTemplateVersion:
    """Make version `number` the newest once more, as a new one, which is not published by that.

    Raises Forbidden, NotFound, Stale when there is a newer version than `seen`, and Conflict where
    it says what the newest says, or the template is archived.
    """
    actor.require(Permission.SERVICE_TEMPLATES_EDIT)
    template_id = template.id

    def restore() -> ServiceTemplateVersion:
        held = _hold(template_id)
        newest, wanted = _newest_of(held), get_version(held, number)
        if newest.number != seen:
            raise Stale(
                f"Version {newest.number} was saved in the meantime, so nothing was restored. "
                "Compare with it, and restore again if you still want to."
            )
        if not differences(newest, wanted):
            raise Conflict(f"Version {newest.number} says what version {number} says.")
        values = {name: getattr(wanted, name) for name in _COLUMNS}
        values |= {
            "bundles": list(wanted.bundles),
            "email_templates": list(wanted.email_templates),
            "restored_from": number,
        }
        options = [
            {name: getattr(each, name) for name in _OPTION_COLUMNS} for each in wanted.options
        ]
        version = _add_version(actor, held, newest.number + 1, values, options)
        _record_version(actor, held, "restored", newest, version)
        return version

    return _write(restore)


def publish_version(
    actor: Actor, template: ServiceTemplate, number: int, audience: Audience
) -> None:
    """Offer version `number` to an audience, instead of what is published before.

    Raises Forbidden, NotFound, Conflict for an archived template, and InvalidInput with what the
    version lacks.
    """
    actor.require(Permission.SERVICE_TEMPLATES_EDIT)
    template_id = template.id

    def publish() -> None:
        held = _hold(template_id)
        version = get_version(held, number)
        if obstacles := find_obstacles(version):
            raise InvalidInput("publish", " ".join(obstacles))
        before = _publication(held)
        held.published_version_id, held.audience = version.id, audience
        db.session.flush()
        db.session.refresh(held)
        if before != (after := _publication(held)):
            _record(actor, held, "published", {"before": before, "after": after})

    _write(publish)


def unpublish(actor: Actor, template: ServiceTemplate) -> None:
    """Offer the template no more. Requests that were made with it stay. Raises Forbidden."""
    actor.require(Permission.SERVICE_TEMPLATES_EDIT)
    template_id = template.id

    def take_back() -> None:
        held = _hold(template_id, archived=None)
        if held.published_version_id is None:
            return
        before = _publication(held)
        held.published_version_id = None
        _record(actor, held, "unpublished", {"before": before, "after": {}})

    _write(take_back)


def archive_template(actor: Actor, template: ServiceTemplate) -> None:
    """Take the template out of the list, and back what is published. Raises Forbidden."""
    actor.require(Permission.SERVICE_TEMPLATES_EDIT)
    template_id = template.id

    def archive() -> None:
        held = _hold(template_id, archived=None)
        if held.archived_at is not None:
            return
        before = _publication(held)
        held.published_version_id, held.archived_at = None, utcnow()
        _record(actor, held, "archived", {"before": before, "after": {}})

    _write(archive)


def unarchive_template(actor: Actor, template: ServiceTemplate) -> None:
    """Put the template back into the list; it is not published by that. Raises Forbidden."""
    actor.require(Permission.SERVICE_TEMPLATES_EDIT)
    template_id = template.id

    def bring_back() -> None:
        held = _hold(template_id, archived=None)
        if held.archived_at is None:
            return
        held.archived_at = None
        _record(actor, held, "unarchived", {})

    _write(bring_back)


def move_template(actor: Actor, template: ServiceTemplate, way: Way) -> None:
    """Change places with the next template above or below; at the end of the list it stays.

    Raises Forbidden, and Conflict for an archived template.
    """
    actor.require(Permission.SERVICE_TEMPLATES_EDIT)
    template_id = template.id

    def move() -> None:
        held = _hold(template_id)
        own = sa.tuple_(ServiceTemplate.position, ServiceTemplate.id)
        place = sa.tuple_(sa.literal(held.position), sa.literal(held.id))
        up = way is Way.UP
        keys = (ServiceTemplate.position, ServiceTemplate.id)
        other = db.session.scalar(
            sa.select(ServiceTemplate)
            .where(own < place if up else own > place, ServiceTemplate.archived_at.is_(None))
            .order_by(*(each.desc() if up else each.asc() for each in keys))
            .limit(1)
            .with_for_update()
        )
        if other is None:
            return
        before = held.position
        if other.position == before:  # Two that were made at the same moment.
            _number_anew()
            db.session.refresh(held)
            db.session.refresh(other)
        held.position, other.position = other.position, held.position
        _record(
            actor,
            held,
            "moved",
            {
                "before": {"Position": before},
                "after": {"Position": held.position},
                "past": other.name,
            },
        )

    _write(move)


def _number_anew() -> None:
    """Give every template a place of its own, in the order that they have."""
    keys = (ServiceTemplate.position, ServiceTemplate.id)
    ids = db.session.scalars(sa.select(ServiceTemplate.id).order_by(*keys)).all()
    update_rows(
        db.session.connection(),
        table_of(ServiceTemplate),
        ("position",),
        [(each, place) for place, each in enumerate(ids, start=1)],
    )


_COLUMNS = (
    "description",
    "group_id",
    "needs_approval",
    "start_rule",
    "connector",
    "application_url",
    "setup_instructions",
    "parameters",
    "must_replace",
)
_OPTION_COLUMNS = (
    "position",
    "name",
    "label",
    "help",
    "kind",
    "choices",
    "minimum",
    "maximum",
    "default",
)


def _write(work: Callable[[], T]) -> T:
    """Run `work` in a transaction of its own, whole or not at all."""

    def run() -> T:
        done = work()
        db.session.commit()
        return done

    db.session.commit()  # What was read before belongs to another transaction.
    try:
        return run_session_transaction(run)
    except (ServiceError, IntegrityError):
        db.session.rollback()
        raise


def _hold(template_id: int, *, archived: bool | None = False) -> ServiceTemplate:
    """The template as it is, which nobody else changes meanwhile. Raises Conflict and NotFound."""
    db.session.execute(
        # Changes nothing, but from here on everybody else who writes has to wait.
        sa.update(ServiceTemplate)
        .where(ServiceTemplate.id == template_id)
        .values(position=ServiceTemplate.position)
        .execution_options(synchronize_session=False)
    )
    held = db.session.get(ServiceTemplate, template_id, populate_existing=True)
    if held is None:
        raise NotFound("There is no such service template.")
    if archived is False and held.archived_at is not None:
        raise Conflict(f"{held.name} is archived. Bring it back before you change it.")
    return held


def _newest_of(template: ServiceTemplate) -> ServiceTemplateVersion:
    return db.session.scalars(
        sa.select(ServiceTemplateVersion)
        .where(ServiceTemplateVersion.template_id == template.id)
        .order_by(ServiceTemplateVersion.number.desc())
        .limit(1)
        .options(*_loaded())
    ).one()


def _flush_name(name: str) -> None:
    taken = sa.select(ServiceTemplate.id).where(ServiceTemplate.name_key == fold(name))
    try:
        db.session.flush()
    except IntegrityError:
        db.session.rollback()
        if db.session.scalar(taken) is None:
            raise
        raise InvalidInputs(
            [("name", f"There is a service template “{name}” already, perhaps an archived one.")]
        ) from None


def _add_version(
    actor: Actor,
    template: ServiceTemplate,
    number: int,
    values: Mapping[str, Any],
    options: Iterable[Mapping[str, Any]],
) -> ServiceTemplateVersion:
    version = ServiceTemplateVersion(
        template_id=template.id,
        number=number,
        created_by_id=actor.user_id,
        options=[ServiceOption(**option) for option in options],
        **values,
    )
    db.session.add(version)
    db.session.flush()
    db.session.refresh(version, ["bundles", "email_templates", "options"])
    return version


def _is_same(
    version: ServiceTemplateVersion, values: Mapping[str, Any], options: Sequence[Mapping[str, Any]]
) -> bool:
    kept = [{name: getattr(each, name) for name in _OPTION_COLUMNS} for each in version.options]
    return (
        all(getattr(version, name) == values[name] for name in _COLUMNS if name != "parameters")
        and kept == list(options)
        and _known(version.parameters) == values["parameters"]
        and {each.id for each in version.bundles} == {each.id for each in values["bundles"]}
        and {each.id for each in version.email_templates}
        == {each.id for each in values["email_templates"]}
    )


def _known(parameters: Mapping[str, Any]) -> dict[str, Any]:
    return {name: parameters.get(name, each.default) for name, each in PARAMETERS.items()}


def _publication(template: ServiceTemplate) -> dict[str, Any]:
    if template.published_version is None:
        return {}
    return {
        "Version": template.published_version.number,
        "Audience": AUDIENCE_WORDS[template.audience],
    }


def _record_version(
    actor: Actor,
    template: ServiceTemplate,
    action: str,
    before: ServiceTemplateVersion,
    after: ServiceTemplateVersion,
) -> None:
    changes = differences(before, after)
    _record(
        actor,
        template,
        action,
        {
            "number": after.number,
            "before": {title: old for title, old, _ in changes},
            "after": {title: new for title, _, new in changes},
        },
    )


def _told(said: Mapping[str, str]) -> dict[str, str]:
    return {title: text for title, text in said.items() if text}


def _record(actor: Actor, template: ServiceTemplate, what: str, detail: dict[str, Any]) -> None:
    record_event(
        actor,
        f"service_template.{what}",
        object_type="service_template",
        object_id=template.id,
        detail={"name": template.name, **detail},
    )
