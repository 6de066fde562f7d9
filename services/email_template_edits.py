"""Making and changing e-mail templates: every change of a text is a new version.

Who changes a template says which state of it he saw, so that nothing is overwritten that he does
not know. Every customer always has a Welcome: what could take one away holds all of them first
(`email_template_welcomes`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from config import LANGUAGES
from models import (
    EmailTemplate,
    EmailTemplateText,
    EmailTemplateVersion,
    TemplateKind,
    fold,
    is_storable,
    table_of,
    utcnow,
)
from services import email_template_welcomes as welcomes
from services import mail_texts
from services.actors import Actor, Permission
from services.audit_events import insert_event
from services.command_spelling import can_be_written
from services.email_template_effects import EmptyValue, find_empty_values
from services.email_template_rights import EVERYBODYS, may_create, require_change
from services.email_template_texts import (
    PART_WORDS,
    Part,
    ReadyText,
    TypedText,
    check_texts,
    names_in,
    names_shown_always,
    placeholders_used,
)
from services.errors import Conflict, Forbidden, InvalidInput, InvalidInputs, NotFound, Stale
from services.transactions import run_transaction

NAME_LENGTH = 64
NOTE_LENGTH = 200

_TEMPLATES = table_of(EmailTemplate)
_VERSIONS = table_of(EmailTemplateVersion)
_TEXTS = table_of(EmailTemplateText)

DEFAULTS: Mapping[str, TemplateKind] = {
    "welcome": TemplateKind.WELCOME,
    "password-update": TemplateKind.GENERAL,
    "voicemail-update": TemplateKind.GENERAL,
    "password-reset": TemplateKind.PASSWORD_RESET,
}
"""The templates that an installation starts with, by their slug."""


class Unsure(Conflict):
    """The change would leave something empty for recipients; nothing was saved.

    `empty` are the placeholders that its author has not been told of yet.
    """

    def __init__(self, empty: Collection[EmptyValue]) -> None:
        self.empty = list(empty)
        super().__init__(" ".join(each.sentence for each in empty))


@dataclass(frozen=True, slots=True)
class Saved:
    """What was saved. `number` is that of the newest version, `is_new` whether it was made now."""

    template_id: int
    name: str
    number: int
    is_new: bool
    taken_out: dict[str, tuple[str, ...]]


# --- Making --------------------------------------------------------------------------------------


def create_template(
    actor: Actor,
    *,
    name: str,
    kind: TemplateKind,
    typed: Mapping[str, TypedText],
    note: str = "",
) -> Saved:
    """Make a template with its first version. A Welcome goes to every customer who has none.

    Raises Forbidden, and InvalidInputs with every fault.
    """
    actor.require(Permission.TEMPLATES_EDIT)
    if not may_create(actor, kind):
        raise Forbidden(f"{EVERYBODYS} Making one takes somebody who works for all groups.")
    ready = _check(kind, name, note, typed)
    name = name.strip()

    def create(connection: sa.Connection) -> int:
        if kind is TemplateKind.WELCOME:
            welcomes.hold(connection)
        template_id = _insert_template(connection, name, kind)
        _insert_version(connection, actor, template_id, 1, ready, note)
        insert_event(
            connection,
            actor,
            "email_template.created",
            object_type="email_template",
            object_id=template_id,
            detail={"name": name, "kind": kind.value, "languages": list(ready)},
        )
        if kind is TemplateKind.WELCOME:
            _give_to_those_without(connection, actor, template_id)
        return template_id

    template_id = run_transaction(create)
    return Saved(template_id, name, 1, True, _taken_out(ready))


def create_defaults(actor: Actor) -> list[str]:
    """Make those of the templates that come with Foyer whose names are free; returns the names.

    What reaches customers of all groups is left to who works for them all. Raises Forbidden.
    """
    actor.require(Permission.TEMPLATES_EDIT)
    made = []
    for slug, kind in DEFAULTS.items():
        if not may_create(actor, kind):
            continue
        typed = {
            language: TypedText(*parts)
            for language, parts in mail_texts.load_default_template(slug).items()
        }
        name = mail_texts.DEFAULT_TEMPLATES[slug]
        try:
            create_template(actor, name=name, kind=kind, typed=typed)
        except InvalidInputs:
            continue
        made.append(name)
    return made


def _give_to_those_without(connection: sa.Connection, actor: Actor, template_id: int) -> None:
    given = welcomes.give_to_those_without(connection, template_id)
    if given:
        insert_event(
            connection,
            actor,
            "email_template.assigned",
            object_type="email_template",
            object_id=template_id,
            detail={"to": "every customer without a Welcome", "customers": given},
        )


# --- Changing ------------------------------------------------------------------------------------


def edit_template(
    actor: Actor,
    template_id: int,
    *,
    version: int,
    name: str,
    typed: Mapping[str, TypedText],
    note: str = "",
    told_empty: Collection[str] = (),
) -> Saved:
    """Change name and texts; texts that differ make a new version.

    `version` is that of the template as it was seen. `told_empty` names placeholders that the
    author knows to be empty for some. Raises Forbidden, NotFound, Stale, InvalidInputs, and Unsure
    where another placeholder that the template did not use is empty for recipients.
    """
    actor.require(Permission.TEMPLATES_EDIT)
    kind = run_transaction(lambda connection: _kind_of(connection, template_id))
    ready = _check(kind, name, note, typed, template_id)
    name = name.strip()

    def edit(connection: sa.Connection) -> Saved:
        seen = _take(connection, actor, template_id, version)
        before = _load_newest(connection, template_id)
        after = {language: _parts_of(text) for language, text in ready.items()}
        is_new = before.texts != after
        if name == seen.name and not is_new:
            return Saved(template_id, name, before.number, False, {})
        if is_new:
            empty = _newly_empty(connection, template_id, kind, before, ready)
            if {each.placeholder for each in empty} - set(told_empty):
                raise Unsure(empty)
        number = before.number + is_new
        if is_new:
            _insert_version(connection, actor, template_id, number, ready, note)
        _change(connection, template_id, name=name, name_key=fold(name))
        insert_event(
            connection,
            actor,
            "email_template.edited",
            object_type="email_template",
            object_id=template_id,
            detail={
                "before": {"name": seen.name, "version": before.number},
                "after": {"name": name, "version": number},
                "changed": _changed_parts(before.texts, after),
                "note": note.strip(),
            },
        )
        return Saved(template_id, name, number, is_new, _taken_out(ready))

    return _named(run_transaction, edit)


def restore_version(
    actor: Actor, template_id: int, number: int, *, version: int, note: str = ""
) -> Saved:
    """Make the texts of version `number` the newest again, as a new version.

    Raises Forbidden, NotFound, Stale, Conflict where they are the newest already, and
    InvalidInputs where they cannot be sent any more.
    """
    actor.require(Permission.TEMPLATES_EDIT)
    if not is_storable(note) or len(note.strip()) > NOTE_LENGTH:
        raise InvalidInput("note", f"The note has {len(note):,} characters. {_NOTE_RULE}")

    def restore(connection: sa.Connection) -> Saved:
        seen = _take(connection, actor, template_id, version)
        before = _load_newest(connection, template_id)
        wanted = _load_version(connection, template_id, number)
        if wanted.texts == before.texts:
            raise Conflict(f"Version {before.number} says the same as version {number}.")
        typed = {
            language: TypedText(subject, "" if made else text, html)
            for language, (subject, text, html, made) in wanted.texts.items()
        }
        ready = check_texts(seen.kind, typed)
        _insert_version(
            connection, actor, template_id, before.number + 1, ready, note, restored_from=number
        )
        _change(connection, template_id)
        after = {language: _parts_of(text) for language, text in ready.items()}
        insert_event(
            connection,
            actor,
            "email_template.restored",
            object_type="email_template",
            object_id=template_id,
            detail={
                "before": {"version": before.number},
                "after": {"version": before.number + 1},
                "restored_from": number,
                "changed": _changed_parts(before.texts, after),
                "note": note.strip(),
            },
        )
        return Saved(template_id, seen.name, before.number + 1, True, _taken_out(ready))

    return run_transaction(restore)


def archive_template(actor: Actor, template_id: int, *, version: int) -> str:
    """Take a template out of use; returns its name. Mailings under way go on with it.

    Raises Forbidden, NotFound, Stale, and Conflict where it is archived already, where a customer
    would be left without a Welcome, and for the only password reset.
    """
    actor.require(Permission.TEMPLATES_EDIT)

    def archive(connection: sa.Connection) -> str:
        kind = _kind_of(connection, template_id)
        if kind is not TemplateKind.GENERAL:
            welcomes.hold(connection)
        seen = _take(connection, actor, template_id, version)
        if seen.archived_at is not None:
            raise Conflict(f"{seen.name} is archived already.")
        if seen.kind is TemplateKind.WELCOME:
            welcomes.require_another(connection, template_id, seen.name)
        elif seen.kind is TemplateKind.PASSWORD_RESET:
            _require_other_reset(connection, template_id, seen.name)
        _change(connection, template_id, archived_at=utcnow())
        _record_archiving(connection, actor, template_id, "archived", seen.name)
        return str(seen.name)

    return run_transaction(archive)


def unarchive_template(actor: Actor, template_id: int, *, version: int) -> str:
    """Put a template into use again, for the customers who have it; returns its name.

    Raises Forbidden, NotFound, Stale, and Conflict where it is in use.
    """
    actor.require(Permission.TEMPLATES_EDIT)

    def unarchive(connection: sa.Connection) -> str:
        seen = _take(connection, actor, template_id, version)
        if seen.archived_at is None:
            raise Conflict(f"{seen.name} is in use already.")
        _change(connection, template_id, archived_at=None)
        _record_archiving(connection, actor, template_id, "unarchived", seen.name)
        return str(seen.name)

    return run_transaction(unarchive)


def _record_archiving(
    connection: sa.Connection, actor: Actor, template_id: int, verb: str, name: str
) -> None:
    was_archived = verb == "unarchived"
    insert_event(
        connection,
        actor,
        f"email_template.{verb}",
        object_type="email_template",
        object_id=template_id,
        detail={
            "name": name,
            "before": {"archived": was_archived},
            "after": {"archived": not was_archived},
        },
    )


def _require_other_reset(connection: sa.Connection, template_id: int, name: str) -> None:
    another = sa.exists().where(
        _TEMPLATES.c.kind == TemplateKind.PASSWORD_RESET,
        _TEMPLATES.c.archived_at.is_(None),
        _TEMPLATES.c.id != template_id,
    )
    if not connection.scalar(sa.select(another)):
        raise Conflict(
            f"{name} is the only password reset, and without one nobody can reset passwords. Make "
            "another one first."
        )


# --- Within a transaction ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Texts:
    """A version's texts: subject, text, HTML and whether the text was made, by language."""

    number: int
    texts: dict[str, tuple[str, str, str, bool]]


def _kind_of(connection: sa.Connection, template_id: int) -> TemplateKind:
    kind = connection.scalar(sa.select(_TEMPLATES.c.kind).where(_TEMPLATES.c.id == template_id))
    if kind is None:
        raise NotFound("There is no such e-mail template.")
    return TemplateKind(kind)


def _take(connection: sa.Connection, actor: Actor, template_id: int, version: int) -> sa.Row[Any]:
    """Hold a template in the state that was seen. Raises NotFound, Forbidden and Stale."""
    row = connection.execute(
        # Changes nothing, but from here on everybody else who writes has to wait.
        sa.update(_TEMPLATES)
        .where(_TEMPLATES.c.id == template_id)
        .values(version=_TEMPLATES.c.version)
        .returning(*_TEMPLATES.c)
    ).one_or_none()
    if row is None:
        raise NotFound("There is no such e-mail template.")
    require_change(connection, actor, template_id, row.kind)
    if row.version != version:
        raise Stale("Somebody else changed this template meanwhile, so nothing was saved.")
    return row


def _change(connection: sa.Connection, template_id: int, **values: Any) -> None:
    connection.execute(
        sa.update(_TEMPLATES)
        .where(_TEMPLATES.c.id == template_id)
        .values(version=_TEMPLATES.c.version + 1, **values)
    )


def _insert_template(connection: sa.Connection, name: str, kind: TemplateKind) -> int:
    try:
        return int(
            connection.execute(
                sa.insert(_TEMPLATES)
                .values(name=name, name_key=fold(name), kind=kind, version=1, created_at=utcnow())
                .returning(_TEMPLATES.c.id)
            ).scalar_one()
        )
    except IntegrityError:
        raise InvalidInputs([("name", _taken(name))]) from None


def _insert_version(
    connection: sa.Connection,
    actor: Actor,
    template_id: int,
    number: int,
    ready: Mapping[str, ReadyText],
    note: str,
    *,
    restored_from: int | None = None,
) -> None:
    version_id = connection.execute(
        sa.insert(_VERSIONS)
        .values(
            template_id=template_id,
            number=number,
            note=note.strip(),
            restored_from=restored_from,
            created_by_id=actor.user_id,
            created_at=utcnow(),
        )
        .returning(_VERSIONS.c.id)
    ).scalar_one()
    connection.execute(
        sa.insert(_TEXTS),
        [
            {
                "version_id": version_id,
                "language": language,
                "subject": text.subject,
                "text": text.text,
                "html": text.html,
                "text_made": text.text_made,
            }
            for language, text in ready.items()
        ],
    )


def _load_newest(connection: sa.Connection, template_id: int) -> _Texts:
    number = connection.scalar(
        sa.select(sa.func.max(_VERSIONS.c.number)).where(_VERSIONS.c.template_id == template_id)
    )
    return _Texts(0, {}) if number is None else _load_version(connection, template_id, number)


def _load_version(connection: sa.Connection, template_id: int, number: int) -> _Texts:
    rows = connection.execute(
        sa.select(_TEXTS)
        .join(_VERSIONS, _VERSIONS.c.id == _TEXTS.c.version_id)
        .where(_VERSIONS.c.template_id == template_id, _VERSIONS.c.number == number)
    ).all()
    if not rows:
        raise NotFound(f"This template has no version {number}.")
    return _Texts(
        number, {row.language: (row.subject, row.text, row.html, row.text_made) for row in rows}
    )


def _parts_of(text: ReadyText) -> tuple[str, str, str, bool]:
    return text.subject, text.text, text.html, text.text_made


def _changed_parts(
    before: Mapping[str, tuple[str, str, str, bool]],
    after: Mapping[str, tuple[str, str, str, bool]],
) -> list[str]:
    """Which parts differ, such as `en subject`: the versions themselves hold the texts."""
    none = ("", "", "", False)
    return [
        f"{language} {PART_WORDS[part]}"
        for language in LANGUAGES
        for position, part in enumerate(Part)
        if before.get(language, none)[position] != after.get(language, none)[position]
    ]


def find_newly_empty(
    actor: Actor, template_id: int, ready: Mapping[str, ReadyText]
) -> list[EmptyValue]:
    """The placeholders that the newest version does not use, and that are empty for recipients.

    Raises Forbidden and NotFound.
    """
    actor.require(Permission.TEMPLATES_EDIT)

    def find(connection: sa.Connection) -> list[EmptyValue]:
        kind = _kind_of(connection, template_id)
        return _newly_empty(
            connection, template_id, kind, _load_newest(connection, template_id), ready
        )

    return run_transaction(find)


def _newly_empty(
    connection: sa.Connection,
    template_id: int,
    kind: TemplateKind,
    before: _Texts,
    ready: Mapping[str, ReadyText],
) -> list[EmptyValue]:
    old = _used_by(before)
    new = {
        name: leaves_gap
        for name, leaves_gap in placeholders_used(ready).items()
        if name not in old or leaves_gap > old[name]
    }
    return find_empty_values(connection, template_id, kind, new)


def _named(run: Any, edit: Any) -> Saved:
    """Run the transaction; a name that somebody else took at the same moment is a fault of it."""
    try:
        saved: Saved = run(edit)
    except IntegrityError:
        raise InvalidInputs([("name", "Another template has this name. Choose another.")]) from None
    return saved


# --- Checks --------------------------------------------------------------------------------------


_NOTE_RULE = f"{NOTE_LENGTH} is the most, on one line."


def _check(
    kind: TemplateKind,
    name: str,
    note: str,
    typed: Mapping[str, TypedText],
    template_id: int | None = None,
) -> dict[str, ReadyText]:
    faults: list[tuple[str, str]] = []
    ready: dict[str, ReadyText] = {}
    if fault := _fault_of_name(name.strip(), template_id):
        faults.append(("name", fault))
    if not is_storable(note) or len(note.strip()) > NOTE_LENGTH or not note.strip().isprintable():
        faults.append(("note", f"The note has {len(note):,} characters. {_NOTE_RULE}"))
    try:
        ready = check_texts(kind, typed)
    except InvalidInputs as error:
        faults += error.faults
    if faults:
        raise InvalidInputs(faults)
    return ready


def _fault_of_name(name: str, template_id: int | None) -> str | None:
    if not name:
        return "Give the template a name."
    if len(name) > NAME_LENGTH:
        return f"The name has {len(name):,} characters. The limit is {NAME_LENGTH}."
    if not is_storable(name) or not can_be_written(name) or len(fold(name)) > NAME_LENGTH:
        return (
            "The name is one line without “;” and “|”, which the maintenance commands use, and "
            "without characters that cannot be seen."
        )
    taken = sa.select(_TEMPLATES.c.id).where(_TEMPLATES.c.name_key == fold(name))
    other = run_transaction(lambda connection: connection.scalar(taken))
    return _taken(name) if other not in {None, template_id} else None


def _taken(name: str) -> str:
    return f"Another template has the name “{name}”. Choose another."


def _taken_out(ready: Mapping[str, ReadyText]) -> dict[str, tuple[str, ...]]:
    return {language: text.taken_out for language, text in ready.items() if text.taken_out}


def _used_by(version: _Texts) -> dict[str, bool]:
    """The placeholders of a kept version; True for those that stand outside optional parts.

    What the list of placeholders no longer allows is none.
    """
    used: dict[str, bool] = {}
    for subject, text, html, _ in version.texts.values():
        for source in (subject, text, html):
            try:
                always = names_shown_always(source)
                used |= {name: used.get(name, False) or name in always for name in names_in(source)}
            except ValueError:
                continue
    return used
