"""A customer's users as CSV, in the columns that an import reads back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import sqlalchemy as sa

from extensions import db
from models import Bundle, Customer, PermissionProfile, Role, User, Welcome
from services.actors import Actor, Permission
from services.audit_events import record_event
from services.csv_export import as_text
from services.user_import_columns import FIELDS, ROLE_WORDS
from services.users import UserFilter, matching, order_by_name

_CHUNK = 1000

EXPORT_HEADER = (
    FIELDS["first_name"],
    FIELDS["last_name"],
    FIELDS["login"],
    FIELDS["email"],
    FIELDS["extension"],
    FIELDS["bundle"],
    FIELDS["role"],
    FIELDS["profile"],
    FIELDS["language"],
    "Status",
    "Last welcome mail",
    "Last welcome mail at (UTC)",
    "Last sign-in at (UTC)",
)
_COLUMNS = (
    User.first_name,
    User.last_name,
    User.login,
    User.email,
    User.extension,
    Bundle.name,
    User.role,
    PermissionProfile.name,
    User.language,
    User.status,
    Welcome.state,
    Welcome.at,
    User.last_sign_in_at,
)


def export_users(
    actor: Actor, customer: Customer, wanted: UserFilter, selected: Sequence[int] = ()
) -> Iterator[tuple[str, ...]]:
    """Rows of EXPORT_HEADER for the selected users, or for all that the filter shows, by name.

    The export is audited when it begins. Rows are read a thousand at a time, each time by a
    statement of its own: however long the reader takes, no transaction is open meanwhile.
    Raises Forbidden.
    """
    actor.require(Permission.USERS_EXPORT)
    record_event(
        actor,
        "users.exported",
        customer_id=customer.id,
        object_type="customer",
        object_id=customer.id,
        detail={"selected": len(selected)} if selected else {"filtered": wanted.is_filtered},
    )
    db.session.commit()
    query, order = matching(customer, wanted), order_by_name(wanted)
    if selected:
        order = order_by_name(UserFilter())
        query = (
            sa.select(User)
            .join(User.welcome)
            .where(User.customer_id == customer.id, User.id.in_(selected))
        )
    return _export_rows(query, order)


def _export_rows(
    query: sa.Select[tuple[User]], order: tuple[sa.ColumnElement[str], sa.ColumnElement[int]]
) -> Iterator[tuple[str, ...]]:
    rows = (
        query.with_only_columns(*_COLUMNS, *order)
        .outerjoin(Bundle, Bundle.id == User.bundle_id)
        .outerjoin(PermissionProfile, PermissionProfile.id == User.profile_id)
        .order_by(*order)
        .limit(_CHUNK)
    )
    place: tuple[Any, ...] | None = None
    while True:
        following = rows
        if place is not None:
            following = rows.where(sa.tuple_(*order) > sa.tuple_(*place))
        with db.engine.connect() as connection:
            found = connection.execute(following).all()
        for row in found:
            yield tuple(map(_cell, row[: len(_COLUMNS)]))
        if len(found) < _CHUNK:
            return
        place = tuple(map(sa.literal, found[-1][len(_COLUMNS) :]))


def _cell(value: Any) -> str:
    return ROLE_WORDS[value] if isinstance(value, Role) else as_text(value)
