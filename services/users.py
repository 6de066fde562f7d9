"""Users of a customer: the list behind the Users tab, and its selection."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import cache
from operator import attrgetter
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import contains_eager, joinedload, selectinload

from extensions import db
from models import (
    Bundle,
    Customer,
    CustomerBundle,
    Delivery,
    DeliveryState,
    EmailTemplate,
    EmailTemplateVersion,
    Mailing,
    Role,
    SelectedUser,
    TemplateKind,
    User,
    UserStatus,
    Welcome,
    WelcomeState,
    fold,
    prefix_range,
    table_of,
)
from models.base import LONG_AGO, never_first
from models.users import ADMINISTRATORS, SUPERVISORS
from services.actors import Actor, Permission
from services.bulk_rows import among_ids, ids_parameter
from services.errors import InvalidInput, NotFound
from services.paging import Page, keyset_page
from services.transactions import upsert

SEARCH_CAP = 500
"""Matches taken per searched column, so that a short search term costs as little as a long one."""

SELECTION_CAP = 1000
_NEVER = datetime.fromisoformat(LONG_AGO).replace(tzinfo=UTC)


class UserSort(StrEnum):
    NAME = "name"
    LOGIN = "login"
    EMAIL = "email"
    EXTENSION = "extension"
    WELCOME = "welcome"
    SIGN_IN = "sign_in"


class Mailed(StrEnum):
    """The filter on the last welcome mail."""

    NEVER = "never"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class UserFilter:
    """What the Users tab is asked for; the same values stand in its URL."""

    search: str = ""
    bundle_id: int | None = None
    status: UserStatus | None = None
    role: Role | None = None
    profile_id: int | None = None
    mailed: Mailed | None = None
    never_signed_in: bool = False
    sort: UserSort = UserSort.NAME
    descending: bool = False

    @property
    def is_filtered(self) -> bool:
        return bool(
            self.search.strip()
            or self.bundle_id
            or self.status
            or self.role
            or self.profile_id
            or self.mailed
            or self.never_signed_in
        )


_SORTS: dict[UserSort, tuple[sa.ColumnElement[Any], Callable[[User], Any]]] = {
    UserSort.NAME: (User.name_key.expression, attrgetter("name_key")),
    UserSort.LOGIN: (User.login_key.expression, attrgetter("login_key")),
    UserSort.EMAIL: (User.email_key.expression, attrgetter("email_key")),
    UserSort.EXTENSION: (User.extension.expression, attrgetter("extension")),
    UserSort.WELCOME: (
        sa.type_coerce(never_first("welcomes.at"), Welcome.at.type),
        attrgetter("welcome.at"),
    ),
    UserSort.SIGN_IN: (
        sa.type_coerce(never_first("users.last_sign_in_at"), User.last_sign_in_at.type),
        attrgetter("last_sign_in_at"),
    ),
}
_TIMES = {UserSort.WELCOME, UserSort.SIGN_IN}


def list_users(
    actor: Actor, customer: Customer, wanted: UserFilter, *, size: int = 25, cursor: str = ""
) -> Page[User]:
    """A page of the customer's users, with all that a row shows loaded. Raises Forbidden."""
    actor.require(Permission.USERS_READ)
    column, value_of = _SORTS[wanted.sort]
    row_id: sa.ColumnElement[int] = User.id.expression
    query = matching(customer, wanted)
    if wanted.sort is UserSort.NAME:
        column, row_id = order_by_name(wanted)
    elif wanted.sort is UserSort.WELCOME:
        row_id = Welcome.user_id.expression
        if not _finds_few(customer, wanted):
            query = query.where(Welcome.customer_id == customer.id)

    def key_of(user: User) -> tuple[Any, int]:
        value = value_of(user)
        return (_NEVER if value is None else value), user.id

    return keyset_page(
        lambda query: db.session.scalars(query).all(),
        query.options(
            contains_eager(User.welcome), joinedload(User.bundle), selectinload(User.profile)
        ),
        key=column,
        row_id=row_id,
        key_of=key_of,
        parse_key=_parse_time if wanted.sort in _TIMES else str,
        descending=wanted.descending,
        size=size,
        cursor=cursor,
    )


def _parse_time(raw: str) -> datetime:
    parsed = datetime.fromisoformat(raw)
    try:
        return parsed.astimezone(UTC) if parsed.tzinfo else parsed.replace(tzinfo=UTC)
    except OverflowError:
        raise ValueError("beyond what a time can be") from None


def order_by_name(
    wanted: UserFilter,
) -> tuple[sa.ColumnElement[str], sa.ColumnElement[int]]:
    """The columns of `matching` that order it by name, in the table whose index has that order."""
    if wanted.mailed is not None:
        return Welcome.name_key.expression, Welcome.user_id.expression
    return User.name_key.expression, User.id.expression


def matching(customer: Customer, wanted: UserFilter) -> sa.Select[tuple[User]]:
    """The users that a filter shows, joined to their welcomes, in no order."""
    term = fold(wanted.search)
    few = _few(customer, wanted)
    finds_few = _finds_few(customer, wanted)
    mine = [] if finds_few else [User.customer_id == customer.id]
    if few is not None:
        mine.append(User.id.in_(few))
    if term:
        mine.append(User.id.in_(_found_by_prefix(customer, term)))
    # Few among a great many: without the customer beside them, no other index seems better.
    query = (
        sa.select(User)
        .join(User.welcome)
        .where(
            *mine,
            User.status == wanted.status
            if wanted.status
            else User.status.in_([UserStatus.ACTIVE, UserStatus.SUSPENDED]),
        )
    )
    if wanted.bundle_id is not None:
        query = query.where(User.bundle_id == wanted.bundle_id)
    if wanted.role is not None and few is None:
        query = query.where(User.role == wanted.role)
    if wanted.mailed is not None:
        query = query.where(Welcome.state == WelcomeState(wanted.mailed.value))
        if not finds_few:
            query = query.where(Welcome.customer_id == customer.id)
    if wanted.never_signed_in:
        query = query.where(User.last_sign_in_at.is_(None))
    return query


def _finds_few(customer: Customer, wanted: UserFilter) -> bool:
    """Whether ids that were looked up say who is meant, and no index of the customer should."""
    return bool(fold(wanted.search)) or _few(customer, wanted) is not None


def _few(customer: Customer, wanted: UserFilter) -> sa.Select[int] | None:
    """Ids of administrators or supervisors, by the index that has no others; None for the rest."""
    if wanted.role is Role.CUSTOMER_ADMIN:
        return sa.select(User.id).where(User.customer_id == customer.id, ADMINISTRATORS)
    if wanted.profile_id is not None:
        return sa.select(User.id).where(
            User.customer_id == customer.id, SUPERVISORS, User.profile_id == wanted.profile_id
        )
    if wanted.role is Role.SUPERVISOR:
        return sa.select(User.id).where(User.customer_id == customer.id, SUPERVISORS)
    return None


def _found_by_prefix(customer: Customer, term: str) -> sa.Select[tuple[int]]:
    """Ids whose name, surname, login, e-mail or extension begins with `term`, by index."""
    lowest, beyond = prefix_range(term)
    branches = [
        sa.select(
            sa.select(User.id)
            .where(User.customer_id == customer.id, column >= lowest, column < beyond)
            .order_by(column)
            .limit(SEARCH_CAP)
            .subquery()
            .c.id
        )
        for column in (
            User.name_key,
            User.surname_key,
            User.login_key,
            User.email_key,
            User.extension,
        )
    ]
    return sa.select(sa.union_all(*branches).subquery().c.id)


def list_bundles_of(customer: Customer) -> list[Bundle]:
    """The bundles assigned to the customer, by name."""
    return list(db.session.scalars(_BUNDLES_OF, {"customer": customer.id}))


_BUNDLES_OF = (
    sa.select(Bundle)
    .join(CustomerBundle, CustomerBundle.bundle_id == Bundle.id)
    .where(CustomerBundle.customer_id == sa.bindparam("customer"))
    .order_by(Bundle.name)
)


def find_open_welcome_mails(user_ids: Sequence[int]) -> set[int]:
    """Which of these users have a welcome mail on its way."""
    if not user_ids:
        return set()
    connection = db.session.connection()
    statement = _open_welcome_mails(connection.dialect.name)
    return set(connection.scalars(statement, {"ids": ids_parameter(connection, user_ids)}))


@cache
def _open_welcome_mails(dialect: str) -> sa.Select[int]:
    """Built once: building takes longer than asking."""
    return (
        sa.select(Delivery.user_id)
        .join(Mailing, Mailing.id == Delivery.mailing_id)
        .join(EmailTemplateVersion, EmailTemplateVersion.id == Mailing.template_version_id)
        .join(EmailTemplate, EmailTemplate.id == EmailTemplateVersion.template_id)
        .where(
            among_ids(dialect, Delivery.user_id.expression),
            Delivery.state.in_([DeliveryState.QUEUED, DeliveryState.SENDING]),
            EmailTemplate.kind == TemplateKind.WELCOME,
        )
    )


# --- Selection -------------------------------------------------------------------------------


def get_selection(session_id: int, customer: Customer) -> list[int]:
    """Ids of the users selected in this session, in the order of the list."""
    values = {"session": session_id, "customer": customer.id}
    return list(db.session.connection().scalars(_SELECTED, values))


_SELECTED = (
    sa.select(SelectedUser.user_id)
    .join(User, User.id == SelectedUser.user_id)
    .where(
        SelectedUser.session_id == sa.bindparam("session"),
        SelectedUser.customer_id == sa.bindparam("customer"),
        User.status != UserStatus.DELETED,
    )
    .order_by(User.name_key, User.id)
)


def change_selection(
    session_id: int, customer: Customer, *, ticked: Iterable[int], shown: Iterable[int]
) -> int:
    """Make the users `shown` selected exactly where they are `ticked`; returns how many are now.

    Users that were selected on other pages stay so. Ids that are not the customer's are ignored.
    Raises InvalidInput beyond SELECTION_CAP.
    """
    ticked, shown = set(ticked), set(shown)
    own = set(
        db.session.scalars(
            sa.select(User.id).where(
                User.customer_id == customer.id,
                User.id.in_(ticked),
                User.status != UserStatus.DELETED,
            )
        )
    )
    selected = set(get_selection(session_id, customer))
    wanted = (selected - shown) | own
    if len(wanted) > SELECTION_CAP:
        raise InvalidInput(
            "users",
            f"{len(wanted):,} users would be selected. The limit is {SELECTION_CAP:,}.",
        )
    if gone := selected - wanted:
        db.session.execute(
            sa.delete(SelectedUser).where(
                SelectedUser.session_id == session_id, SelectedUser.user_id.in_(gone)
            )
        )
    if new := wanted - selected:
        db.session.execute(
            upsert(table_of(SelectedUser)).on_conflict_do_nothing(),
            [
                {"session_id": session_id, "customer_id": customer.id, "user_id": user_id}
                for user_id in sorted(new)
            ],
        )
    db.session.commit()
    return len(wanted)


def clear_selection(session_id: int, customer: Customer) -> None:
    db.session.execute(
        sa.delete(SelectedUser).where(
            SelectedUser.session_id == session_id, SelectedUser.customer_id == customer.id
        )
    )
    db.session.commit()


def get_user_of(customer: Customer, user_id: int, *, or_deleted: bool = False) -> User:
    """A user of the customer, one that is not deleted unless he may be. Raises NotFound."""
    user = db.session.get(User, user_id)
    if (
        user is None
        or user.customer_id != customer.id
        or (user.status is UserStatus.DELETED and not or_deleted)
    ):
        raise NotFound(f"{customer.name} has no such user.")
    return user
