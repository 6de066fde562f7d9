"""Who acts, with which permissions, within which scope (section 2 of the design)."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from functools import cache, lru_cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import aliased, contains_eager

from extensions import db
from models import (
    CUSTOMER_ROLES,
    STAFF_ROLES,
    ApiCredentialGroup,
    ApiScope,
    Customer,
    CustomerStatus,
    Group,
    Role,
    User,
    UserGroup,
    UserStatus,
    fold,
    is_storable,
)
from services.errors import Forbidden, NotFound


class Permission(StrEnum):
    CUSTOMERS_READ = "customers.read"
    USERS_READ = "users.read"
    MAILINGS_READ = "mailings.read"
    MAILINGS_SEND = "mailings.send"
    COMMANDS_READ = "commands.read"
    COMMANDS_RUN = "commands.run"
    REQUESTS_READ = "requests.read"
    REQUESTS_MANAGE = "requests.manage"
    TENANTS_REGISTER = "tenants.register"
    PROSPECTS_INVITE = "prospects.invite"
    PROVISIONING_READ = "provisioning.read"
    PROVISIONING_PAUSE = "provisioning.pause"
    PROVISIONING_PLAN = "provisioning.plan"
    PARAMETERS_READ = "parameters.read"
    PARAMETERS_EDIT = "parameters.edit"
    SETUP_EDIT = "setup.edit"
    CUSTOMERS_EDIT = "customers.edit"
    USERS_EDIT = "users.edit"
    SUPPRESSIONS_EDIT = "suppressions.edit"
    WEBHOOKS_READ = "webhooks.read"
    WEBHOOKS_EDIT = "webhooks.edit"
    CREDENTIALS_MANAGE = "credentials.manage"
    CUSTOMERS_CLOSE = "customers.close"
    IMPERSONATE = "customers.impersonate"
    BUNDLES_EDIT = "bundles.edit"
    GROUPS_MANAGE = "groups.manage"
    SERVICE_TEMPLATES_EDIT = "service_templates.edit"
    TEMPLATES_READ = "templates.read"
    TEMPLATES_EDIT = "templates.edit"
    USERS_ADD = "users.add"
    USERS_SUSPEND = "users.suspend"
    USERS_DELETE = "users.delete"
    USERS_IMPORT = "users.import"
    USERS_EXPORT = "users.export"
    PROFILES_EDIT = "profiles.edit"
    STAFF_MANAGE = "staff.manage"
    AUDIT_READ = "audit.read"


_READ = frozenset({Permission.USERS_READ, Permission.MAILINGS_READ, Permission.PARAMETERS_READ})
PERMISSIONS: dict[Role, frozenset[Permission]] = {
    Role.LANDLORD: frozenset(Permission),
    Role.OPERATOR: frozenset(Permission)
    - {
        Permission.PROVISIONING_PLAN,
        Permission.WEBHOOKS_READ,
        Permission.WEBHOOKS_EDIT,
        Permission.CREDENTIALS_MANAGE,
        Permission.GROUPS_MANAGE,
        Permission.SERVICE_TEMPLATES_EDIT,
        Permission.STAFF_MANAGE,
    },
    Role.AUDITOR: _READ
    | {
        Permission.TEMPLATES_READ,
        Permission.USERS_EXPORT,
        Permission.AUDIT_READ,
        Permission.CUSTOMERS_READ,
        Permission.COMMANDS_READ,
        Permission.REQUESTS_READ,
        Permission.PROVISIONING_READ,
    },
    Role.CUSTOMER_ADMIN: _READ
    | {
        Permission.MAILINGS_SEND,
        Permission.PARAMETERS_EDIT,
        Permission.SETUP_EDIT,
        Permission.SUPPRESSIONS_EDIT,
        Permission.USERS_EDIT,
        Permission.USERS_ADD,
        Permission.USERS_SUSPEND,
        Permission.USERS_DELETE,
        Permission.USERS_IMPORT,
        Permission.USERS_EXPORT,
        Permission.PROFILES_EDIT,
        Permission.AUDIT_READ,
    },
    Role.SUPERVISOR: frozenset(),
    Role.USER: frozenset(),
    Role.PROSPECT: frozenset({Permission.REQUESTS_READ, Permission.TENANTS_REGISTER}),
}

DELEGABLE = PERMISSIONS[Role.CUSTOMER_ADMIN] - {Permission.PROFILES_EDIT}
"""What a customer's administrators may share with supervisors: never the sharing itself."""

NEEDS: dict[Permission, frozenset[Permission]] = {
    **dict.fromkeys(DELEGABLE, frozenset({Permission.USERS_READ})),
    Permission.USERS_READ: frozenset(),
    Permission.MAILINGS_SEND: frozenset({Permission.USERS_READ, Permission.MAILINGS_READ}),
    Permission.SUPPRESSIONS_EDIT: frozenset({Permission.USERS_READ, Permission.MAILINGS_READ}),
    Permission.USERS_IMPORT: frozenset(
        {Permission.USERS_READ, Permission.USERS_ADD, Permission.USERS_EDIT}
    ),
    Permission.PARAMETERS_READ: frozenset(),
    Permission.PARAMETERS_EDIT: frozenset({Permission.PARAMETERS_READ}),
}
"""What else each of them needs to be of use, and what that needs in its turn."""


def delegated(words: Collection[str]) -> frozenset[Permission]:
    """What a permission profile of these words allows.

    What an administrator may not do himself is none of it, nor is what lacks something it needs.
    """
    chosen = frozenset(each for each in DELEGABLE if each.value in words)
    return frozenset(each for each in chosen if NEEDS[each] <= chosen)


GRANTS: dict[ApiScope, frozenset[Permission]] = {
    ApiScope.READ: frozenset(
        {
            Permission.CUSTOMERS_READ,
            Permission.USERS_READ,
            Permission.MAILINGS_READ,
            Permission.REQUESTS_READ,
            Permission.WEBHOOKS_READ,
        }
    ),
    ApiScope.WRITE: frozenset(
        {
            Permission.CUSTOMERS_EDIT,
            Permission.USERS_EDIT,
            Permission.USERS_ADD,
            Permission.USERS_SUSPEND,
            Permission.SUPPRESSIONS_EDIT,
            Permission.TENANTS_REGISTER,
            Permission.WEBHOOKS_EDIT,
        }
    ),
    ApiScope.SEND: frozenset({Permission.MAILINGS_SEND}),
}
"""What the scopes of an API credential include."""


@dataclass(frozen=True, slots=True)
class Actor:
    """A signed-in person, an API credential, or nobody for what the system does by itself.

    A credential acts as an operator of its groups does, limited to what it was granted. A member of
    staff who has signed in as a customer's administrator acts as that one does, under his own
    `user_id` and `login`; `behalf_id` and `behalf_login` are the administrator's. A supervisor has
    what his permission profile says at this moment.
    """

    user_id: int | None
    login: str
    role: Role | None
    customer_id: int | None = None
    all_groups: bool = False
    address: str = ""
    credential_id: int | None = None
    granted: frozenset[Permission] | None = None
    behalf_id: int | None = None
    behalf_login: str = ""

    @classmethod
    def from_user(cls, user: User, address: str = "") -> Actor:
        return cls(
            user_id=user.id,
            login=user.login,
            role=user.role,
            customer_id=user.customer_id,
            all_groups=user.all_groups or user.role is Role.LANDLORD,
            address=address,
            granted=_granted_to(user),
        )

    @classmethod
    def from_terminal(cls, account: str) -> Actor:
        """Who has a terminal on the machine may do everything; `account` is his name there."""
        return cls(
            user_id=None,
            login=f"terminal:{account}"[:320],
            role=Role.LANDLORD,
            all_groups=True,
            address="terminal",
        )

    @classmethod
    def from_credential(
        cls,
        credential_id: int,
        name: str,
        scopes: Collection[ApiScope],
        *,
        all_groups: bool,
        address: str = "",
    ) -> Actor:
        return cls(
            user_id=None,
            login=f"api:{name}",
            role=Role.OPERATOR,
            all_groups=all_groups,
            address=address,
            credential_id=credential_id,
            granted=_granted_by(frozenset(scopes)),
        )

    @property
    def is_staff(self) -> bool:
        return self.role in STAFF_ROLES

    def may(self, permission: Permission) -> bool:
        if self.granted is not None:
            return permission in self.granted
        return self.role is not None and permission in PERMISSIONS[self.role]

    def may_any(self, *permissions: Permission) -> bool:
        return any(self.may(each) for each in permissions)

    def require(self, permission: Permission) -> None:
        """Raise Forbidden unless the actor's role has `permission`."""
        if not self.may(permission):
            raise Forbidden("Your role does not include this action.")


def _granted_to(user: User) -> frozenset[Permission] | None:
    if user.role is not Role.SUPERVISOR:
        return None
    return delegated(user.profile.permissions) if user.profile is not None else frozenset()


@lru_cache(maxsize=8)  # As many as there are sets of scopes.
def _granted_by(scopes: frozenset[ApiScope]) -> frozenset[Permission]:
    return frozenset().union(*(GRANTS[scope] for scope in scopes))


_INVISIBLE = (CustomerStatus.CREATING, CustomerStatus.DELETED)

SYSTEM = Actor(user_id=None, login="system", role=None)


def customers_in_scope(actor: Actor) -> sa.ColumnElement[bool]:
    """The condition on `customers` that keeps an actor to what is his."""
    if actor.role in CUSTOMER_ROLES:
        return sa.and_(Customer.id == actor.customer_id, Customer.status == CustomerStatus.ACTIVE)
    if actor.role is None or actor.role is Role.PROSPECT:
        return sa.false()
    visible = Customer.status.not_in(_INVISIBLE)
    if actor.all_groups:
        return visible
    return sa.and_(visible, Customer.group_id.in_(groups_of(actor)))


def groups_of(actor: Actor) -> sa.Select[int]:
    """Ids of the groups that an actor without `all_groups` is limited to."""
    by_credential = actor.credential_id is not None
    return groups_given_to(actor.credential_id if by_credential else actor.user_id, by_credential)


def groups_given_to(id_: Any, by_credential: bool) -> sa.Select[int]:
    """Ids of the groups of a credential or a user: an id, or the parameter of a kept statement."""
    if by_credential:
        return sa.select(ApiCredentialGroup.group_id).where(ApiCredentialGroup.credential_id == id_)
    return sa.select(UserGroup.group_id).where(UserGroup.user_id == id_)


def get_group(actor: Actor, groupno: int) -> Group:
    """The group with this number. Raises NotFound outside the actor's scope."""
    mine = sa.true() if actor.all_groups else Group.id.in_(groups_of(actor))
    found = None
    if actor.is_staff and 0 < groupno < 2**31:
        found = db.session.scalar(sa.select(Group).where(Group.groupno == groupno, mine))
    if found is None:
        raise NotFound("There is no such group, or it is not yours to see.")
    return found


def get_numbered_customer(actor: Actor, groupno: int, custno: int) -> Customer:
    """The customer with this number, its group loaded. Raises NotFound outside the actor's scope,
    or when it belongs to another group."""
    found = None
    if (values := numbers_of(actor, groupno, custno)) is not None:
        statement = _numbered_customer(actor.all_groups, actor.credential_id is not None)
        found = db.session.scalar(statement, values)
    if found is None:
        raise NotFound("There is no such customer, or it is not yours to see.")
    return found


def numbers_of(actor: Actor, groupno: int, custno: int) -> dict[str, int | None] | None:
    """What `has_number` binds; None where no customer can be meant."""
    if not (actor.is_staff and 0 < groupno < 2**31 and 0 < custno < 2**31):
        return None
    return {
        "groupno": groupno,
        "custno": custno,
        "credential": actor.credential_id,
        "user": actor.user_id,
    }


def has_number(all_groups: bool, by_credential: bool) -> sa.ColumnElement[bool]:
    """The condition on `customers` for a number within a group, for an actor of such a kind.

    First the group, then the number within it: a customer of a group that is out of reach is not
    even looked at, so that its refusal takes as long as that of none.
    """
    mine = groups_given_to(sa.bindparam("credential" if by_credential else "user"), by_credential)
    group = aliased(Group)
    reachable = sa.select(group.id).where(group.groupno == sa.bindparam("groupno"))
    if not all_groups:
        reachable = reachable.where(group.id.in_(mine))
    return sa.and_(
        Customer.group_id == reachable.scalar_subquery(),
        Customer.custno == sa.bindparam("custno"),
        # Of a list, its parameters would be expanded again for each execution.
        *(Customer.status != status for status in _INVISIBLE),
    )


def get_staff_actor(login: str, address: str = "") -> Actor:
    """A member of staff as an actor, for who acts in his name. Raises NotFound."""
    found = None
    if len(login) <= 320 and is_storable(login):
        found = db.session.scalar(
            sa.select(User).where(
                User.login_key == fold(login),
                User.status == UserStatus.ACTIVE,
                User.role.in_(STAFF_ROLES),
            )
        )
    if found is None:
        raise NotFound(f"There is no active member of staff with the login {login}.")
    return Actor.from_user(found, address)


@lru_cache(maxsize=4)
def _numbered_customer(all_groups: bool, by_credential: bool) -> sa.Select[Customer]:
    """Built once: every call of the API for a customer asks, and building takes longer."""
    return (
        sa.select(Customer)
        .join(Customer.group)
        .options(contains_eager(Customer.group))
        .where(has_number(all_groups, by_credential))
    )


@cache
def _customer_named(is_own: bool, all_groups: bool) -> sa.Select[Customer]:
    """What `customers_in_scope` says of people, built once for each kind of them."""
    query = sa.select(Customer).where(Customer.web_id == sa.bindparam("web_id"))
    if is_own:
        return query.where(
            Customer.id == sa.bindparam("own"), Customer.status == CustomerStatus.ACTIVE
        )
    query = query.where(*(Customer.status != status for status in _INVISIBLE))
    if all_groups:
        return query
    mine = sa.select(UserGroup.group_id).where(UserGroup.user_id == sa.bindparam("user"))
    return query.where(Customer.group_id.in_(mine))


def get_customer(actor: Actor, web_id: str, *any_of: Permission) -> Customer:
    """The customer `web_id`; NotFound outside the actor's scope, then Forbidden without any of
    these permissions."""
    customer = None
    if actor.role in CUSTOMER_ROLES or actor.is_staff:
        customer = db.session.scalar(
            _customer_named(actor.role in CUSTOMER_ROLES, actor.all_groups),
            {"web_id": web_id, "own": actor.customer_id, "user": actor.user_id},
        )
    if customer is None:
        raise NotFound("There is no such customer, or it is not yours to see.")
    if not actor.may_any(*any_of):
        raise Forbidden("Your role does not include this action.")
    return customer
