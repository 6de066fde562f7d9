"""General parameters for Smart Queues: a customer's draft, what is published, earlier versions.

Everybody edits one draft. Who saves says which state of it he saw, so that nothing is overwritten
that its writer does not know. Publishing makes a new version, which never changes; so does
restoring an earlier one. What differs in the draft at that moment stays in the draft.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import joinedload

from extensions import db
from models import (
    Customer,
    GeneralParameters,
    GeneralParametersVersion,
    ServiceTemplateVersion,
    User,
    table_of,
    utcnow,
)
from services.actors import SYSTEM, Actor, Permission
from services.audit_events import insert_event
from services.errors import Conflict, InvalidInput, NotFound, ServiceError
from services.paging import Page, keyset_page, parse_id_key
from services.parameter_rules import (
    PARAMETERS,
    default_values,
    find_faults,
    read_value,
    text_of,
)
from services.transactions import run_transaction, upsert

_DRAFTS = table_of(GeneralParameters)
_VERSIONS = table_of(GeneralParametersVersion)

LARGEST_NUMBER = 2**31 - 1


class ParameterFaults(ServiceError):
    """Parameters break rules; `faults` has a sentence for each of them, by name."""

    def __init__(self, faults: Mapping[str, str]) -> None:
        self.faults = dict(faults)
        super().__init__(" ".join(self.faults.values()))


class DraftChanged(Conflict):
    """Somebody else changed the draft since the actor saw it; nothing was saved."""

    def __init__(self) -> None:
        super().__init__(
            "Somebody else changed these parameters in the meantime, so nothing was saved. "
            "Load the page again and look at what they are now."
        )


@dataclass(frozen=True, slots=True)
class Parameters:
    """What a customer has. `version` counts the changes of the draft: 0 while there is none.

    `draft` has a value for every parameter, `must_replace` the stand-ins of the service template.
    """

    version: int
    draft: dict[str, Any]
    must_replace: dict[str, Any]
    changed_at: datetime | None
    changed_by: User | None
    published: GeneralParametersVersion | None

    @property
    def differing(self) -> list[str]:
        """Names of the parameters whose draft differs from what is published."""
        return differing(self.published.values if self.published else None, self.draft)


# --- Reading -------------------------------------------------------------------------------------


def get_parameters(actor: Actor, customer: Customer) -> Parameters:
    """The customer's draft beside what is published; a draft of defaults where there is none."""
    actor.require(Permission.PARAMETERS_READ)
    row = db.session.scalar(
        sa.select(GeneralParameters)
        .where(GeneralParameters.customer_id == customer.id)
        .options(joinedload(GeneralParameters.changed_by))
        .execution_options(populate_existing=True)
    )
    published = find_published(customer)
    if row is None:
        return Parameters(0, default_values(), {}, None, None, published)
    return Parameters(
        row.version,
        _completed(row.draft),
        row.must_replace,
        row.changed_at,
        row.changed_by,
        published,
    )


def find_published(customer: Customer) -> GeneralParametersVersion | None:
    """The newest published version, None before the first."""
    return db.session.scalar(
        sa.select(GeneralParametersVersion)
        .where(GeneralParametersVersion.customer_id == customer.id)
        .options(joinedload(GeneralParametersVersion.published_by))
        .order_by(GeneralParametersVersion.number.desc())
        .limit(1)
    )


def list_versions(
    actor: Actor, customer: Customer, *, size: int = 25, cursor: str = ""
) -> Page[GeneralParametersVersion]:
    """A page of the published versions, newest first, with who published them."""
    actor.require(Permission.PARAMETERS_READ)
    number = _VERSIONS.c.number
    return keyset_page(
        lambda query: db.session.scalars(query).all(),
        sa.select(GeneralParametersVersion)
        .where(GeneralParametersVersion.customer_id == customer.id)
        .options(joinedload(GeneralParametersVersion.published_by)),
        key=number,
        row_id=number,
        key_of=lambda row: (str(row.number), row.number),
        parse_key=parse_id_key,
        descending=True,
        size=size,
        cursor=cursor,
    )


def get_version(actor: Actor, customer: Customer, number: int) -> GeneralParametersVersion:
    """The customer's published version `number`. Raises NotFound."""
    actor.require(Permission.PARAMETERS_READ)
    found = None
    if 0 < number <= LARGEST_NUMBER:
        found = db.session.scalar(
            sa.select(GeneralParametersVersion)
            .where(
                GeneralParametersVersion.customer_id == customer.id,
                GeneralParametersVersion.number == number,
            )
            .options(joinedload(GeneralParametersVersion.published_by))
        )
    if found is None:
        raise NotFound(f"{customer.name} has no version {number} of its general parameters.")
    return found


def values_of(version: GeneralParametersVersion) -> dict[str, Any]:
    """A value for every parameter, the default where a version is older than the parameter."""
    return _completed(version.values)


def differing(before: Mapping[str, Any] | None, after: Mapping[str, Any]) -> list[str]:
    """Names of the parameters that differ, in the order of the page; none without a `before`."""
    if before is None:
        return []
    old = _completed(before)
    return [name for name in PARAMETERS if old[name] != after[name]]


def _completed(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: values.get(name, default) for name, default in default_values().items()}


# --- Changing ------------------------------------------------------------------------------------


def save_draft(
    actor: Actor, customer: Customer, typed: Mapping[str, str], *, version: int
) -> list[str]:
    """Make what was typed the draft; returns the names of what changed in it.

    `version` is that of the draft as it was seen. Raises ParameterFaults with every text that
    means no value, and DraftChanged; in both cases nothing is saved.
    """
    actor.require(Permission.PARAMETERS_EDIT)
    values = _read_all(typed, customer)

    def save(connection: sa.Connection) -> list[str]:
        seen = _take(connection, customer, version)
        return _write_draft(connection, actor, customer, seen, values)

    return run_transaction(save)


def publish(
    actor: Actor, customer: Customer, typed: Mapping[str, str], *, version: int
) -> GeneralParametersVersion | None:
    """Save what was typed as `save_draft` does and publish it, both or none.

    Returns None where it is what is published already. Raises ParameterFaults, too, where a value
    is missing or only stands in for the customer's own.
    """
    actor.require(Permission.PARAMETERS_EDIT)
    values = _read_all(typed, customer)

    def save_and_publish(connection: sa.Connection) -> int | None:
        seen = _take(connection, customer, version)
        if faults := find_faults(values, seen.must_replace):
            raise ParameterFaults(faults)
        if seen.published is not None and not differing(seen.published, values):
            _write_draft(connection, actor, customer, seen, values)
            return None
        _write_draft(connection, actor, customer, seen, values, always=True)
        return _write_version(connection, actor, customer, seen, values)

    number = run_transaction(save_and_publish)
    return None if number is None else get_version(actor, customer, number)


def discard_changes(actor: Actor, customer: Customer, *, version: int) -> list[str]:
    """Make the draft what is published again; returns the names of what changed in it.

    Raises DraftChanged, and Conflict where nothing is published yet.
    """
    actor.require(Permission.PARAMETERS_EDIT)

    def discard(connection: sa.Connection) -> list[str]:
        seen = _take(connection, customer, version)
        if seen.published is None:
            raise Conflict("Nothing is published yet, so there is nothing to go back to.")
        return _write_draft(
            connection,
            actor,
            customer,
            seen,
            _completed(seen.published),
            action="parameters.discarded",
        )

    return run_transaction(discard)


def restore(
    actor: Actor, customer: Customer, number: int, *, published: int
) -> GeneralParametersVersion:
    """Publish the values of version `number` again, as a new version.

    `published` is the number that was the newest when the actor looked. The draft follows where it
    is as published; what somebody has changed in it and not published yet stays. Raises NotFound,
    Conflict where that version is the published one or another was published meanwhile, and
    ParameterFaults where its values are no longer allowed.
    """
    actor.require(Permission.PARAMETERS_EDIT)
    wanted = values_of(get_version(actor, customer, number))

    def publish_again(connection: sa.Connection) -> int:
        seen = _take(connection, customer, None)
        if seen.number != published:
            raise Conflict(
                f"Version {seen.number} was published in the meantime, so nothing was restored. "
                "Compare with it, and restore again if you still want to."
            )
        before = _completed(seen.published or {})
        if not differing(before, wanted):
            raise Conflict(f"What version {number} says is what is published already.")
        if faults := find_faults(wanted, seen.must_replace):
            raise ParameterFaults(faults)
        draft = {
            name: wanted[name] if seen.draft[name] == before[name] else seen.draft[name]
            for name in PARAMETERS
        }
        _write_draft(connection, actor, customer, seen, draft, always=True)
        return _write_version(connection, actor, customer, seen, wanted, restored_from=number)

    return get_version(actor, customer, run_transaction(publish_again))


def _read_all(typed: Mapping[str, str], customer: Customer) -> dict[str, Any]:
    values: dict[str, Any] = {}
    faults: dict[str, str] = {}
    for name, parameter in PARAMETERS.items():
        try:
            values[name] = read_value(parameter, typed.get(name, ""), country=customer.country)
        except InvalidInput as error:
            faults[name] = error.message
    if faults:
        raise ParameterFaults(faults)
    return values


@dataclass(frozen=True, slots=True)
class _Taken:
    """A customer's draft as a transaction holds it; `published` are the newest version's values."""

    version: int
    draft: dict[str, Any]
    must_replace: dict[str, Any]
    number: int
    published: dict[str, Any] | None


def _take(connection: sa.Connection, customer: Customer, version: int | None) -> _Taken:
    """Hold the draft in the state that was seen, whichever where None; made where there is none.

    Raises DraftChanged.
    """
    if not version:
        connection.execute(
            upsert(_DRAFTS)
            .values(
                customer_id=customer.id,
                version=0,
                draft=default_values(),
                must_replace={},
                changed_at=utcnow(),
            )
            .on_conflict_do_nothing()
        )
    row = connection.execute(
        # Changes nothing, but from here on everybody else who writes has to wait.
        sa.update(_DRAFTS)
        .where(_DRAFTS.c.customer_id == customer.id)
        .values(version=_DRAFTS.c.version)
        .returning(_DRAFTS.c.version, _DRAFTS.c.draft, _DRAFTS.c.must_replace)
    ).one_or_none()
    if row is None or version not in {None, row.version}:
        raise DraftChanged
    newest = connection.execute(
        sa.select(_VERSIONS.c.number, _VERSIONS.c["values"].label("published"))
        .where(_VERSIONS.c.customer_id == customer.id)
        .order_by(_VERSIONS.c.number.desc())
        .limit(1)
    ).one_or_none()
    return _Taken(
        row.version,
        _completed(row.draft),
        row.must_replace,
        newest.number if newest else 0,
        newest.published if newest else None,
    )


def _write_draft(
    connection: sa.Connection,
    actor: Actor,
    customer: Customer,
    seen: _Taken,
    values: dict[str, Any],
    *,
    action: str = "parameters.saved",
    always: bool = False,
) -> list[str]:
    """Write the draft and its audit event; returns the names of what changed.

    A draft that stays as it is keeps its version, unless `always` says that what is published
    changes beside it: then whoever has the page open is to look again.
    """
    changed = differing(seen.draft, values)
    if not changed and not always:
        return []
    row: dict[str, Any] = {"version": seen.version + 1}
    if changed:
        row |= {"draft": values, "changed_at": utcnow(), "changed_by_id": actor.user_id}
        insert_event(
            connection,
            actor,
            action,
            customer_id=customer.id,
            object_type="parameters",
            object_id=customer.id,
            detail=_change(seen.draft, values, changed),
        )
    connection.execute(sa.update(_DRAFTS).where(_DRAFTS.c.customer_id == customer.id).values(**row))
    return changed


def _write_version(
    connection: sa.Connection,
    actor: Actor,
    customer: Customer,
    seen: _Taken,
    values: dict[str, Any],
    *,
    restored_from: int | None = None,
) -> int:
    """Write the next version and its audit event; returns its number."""
    number = seen.number + 1
    version_id = connection.execute(
        sa.insert(_VERSIONS)
        .values(
            {
                "customer_id": customer.id,
                "number": number,
                "values": values,
                "restored_from": restored_from,
                "published_at": utcnow(),
                "published_by_id": actor.user_id,
            }
        )
        .returning(_VERSIONS.c.id)
    ).scalar_one()
    before = seen.published or {}
    changed = [name for name in PARAMETERS if before.get(name) != values[name]]
    detail: dict[str, Any] = {"number": number, **_change(before, values, changed)}
    if restored_from is not None:
        detail["restored_from"] = restored_from
    insert_event(
        connection,
        actor,
        "parameters.restored" if restored_from is not None else "parameters.published",
        customer_id=customer.id,
        object_type="parameters",
        object_id=version_id,
        detail=detail,
    )
    return number


def _change(
    before: Mapping[str, Any], after: Mapping[str, Any], names: Iterable[str]
) -> dict[str, Any]:
    """What an audit event says of a change: the changed parameters, before and after."""
    return {
        "before": {name: before.get(name) for name in names},
        "after": {name: after[name] for name in names},
    }


# --- New customers -------------------------------------------------------------------------------


def clone_into(
    connection: sa.Connection, customer_id: int, version: ServiceTemplateVersion
) -> None:
    """Give a new customer its draft, in the caller's transaction; once, however often repeated.

    The values are the template's. Time zone, language and number are the customer's own where the
    registration told them, since a template cannot know. Nothing is published: what *must be
    replaced* has to be replaced first.
    """
    customer = connection.execute(
        sa.select(Customer.time_zone, Customer.language, Customer.ani).where(
            Customer.id == customer_id
        )
    ).one()
    told = {
        "time_zone": customer.time_zone,
        "greeting_language": customer.language,
        "number_shown": customer.ani,
    }
    template = _readable(version.parameters)
    must_replace = {
        name: template.get(name, PARAMETERS[name].default)
        for name in version.must_replace
        if name in PARAMETERS
    }
    draft = _completed(template | _readable({name: told[name] for name in told if told[name]}))
    made = connection.execute(
        upsert(_DRAFTS)
        .values(
            customer_id=customer_id,
            version=1,
            draft=draft,
            must_replace=must_replace,
            changed_at=utcnow(),
        )
        .on_conflict_do_nothing()
        .returning(_DRAFTS.c.customer_id)
    ).one_or_none()
    if made is not None:
        insert_event(
            connection,
            SYSTEM,
            "parameters.cloned",
            customer_id=customer_id,
            object_type="parameters",
            object_id=customer_id,
            detail={"template_version": version.id, "after": draft},
        )


def _readable(values: Mapping[str, Any]) -> dict[str, Any]:
    """Known parameters as they are kept; what means no value stays as it is, to be corrected.

    A template that is faulty must not stop the creation of a tenant: publishing names the fault.
    """
    read = {}
    for name, value in values.items():
        if name not in PARAMETERS:
            continue
        try:
            read[name] = read_value(PARAMETERS[name], text_of(PARAMETERS[name], value))
        except InvalidInput:
            read[name] = value
    return read
