"""Who acts, with which permissions, within which scope (section 2 of the design)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import sqlalchemy as sa

from extensions import db
from models import (
    CUSTOMER_ROLES,
    STAFF_ROLES,
    Customer,
    CustomerStatus,
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


_READ = frozenset({Permission.USERS_READ, Permission.MAILINGS_READ, Permission.PARAMETERS_READ})
PERMISSIONS: dict[Role, frozenset[Permission]] = {
    Role.LANDLORD: frozenset(Permission),
    Role.OPERATOR: frozenset(Permission) - {Permission.PROVISIONING_PLAN},
    Role.AUDITOR: _READ
    | {
        Permission.CUSTOMERS_READ,
        Permission.COMMANDS_READ,
        Permission.REQUESTS_READ,
        Permission.PROVISIONING_READ,
    },
    Role.CUSTOMER_ADMIN: _READ | {Permission.MAILINGS_SEND, Permission.PARAMETERS_EDIT},
    Role.SUPERVISOR: frozenset(),
    Role.USER: frozenset(),
    Role.PROSPECT: frozenset({Permission.REQUESTS_READ, Permission.TENANTS_REGISTER}),
}


@dataclass(frozen=True, slots=True)
class Actor:
    """A signed-in person, or nobody for what the system does by itself."""

    user_id: int | None
    login: str
    role: Role | None
    customer_id: int | None = None
    all_groups: bool = False
    address: str = ""

    @classmethod
    def from_user(cls, user: User, address: str = "") -> Actor:
        return cls(
            user_id=user.id,
            login=user.login,
            role=user.role,
            customer_id=user.customer_id,
            all_groups=user.all_groups or user.role is Role.LANDLORD,
            address=address,
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

    @property
    def is_staff(self) -> bool:
        return self.role in STAFF_ROLES

    def may(self, permission: Permission) -> bool:
        return self.role is not None and permission in PERMISSIONS[self.role]

    def require(self, permission: Permission) -> None:
        """Raise Forbidden unless the actor's role has `permission`."""
        if not self.may(permission):
            raise Forbidden("Your role does not include this action.")


SYSTEM = Actor(user_id=None, login="system", role=None)


def customers_in_scope(actor: Actor) -> sa.ColumnElement[bool]:
    """The condition on `customers` that keeps an actor to what is his."""
    if actor.role in CUSTOMER_ROLES:
        return sa.and_(Customer.id == actor.customer_id, Customer.status == CustomerStatus.ACTIVE)
    if actor.role is None or actor.role is Role.PROSPECT:
        return sa.false()
    visible = Customer.status.not_in((CustomerStatus.CREATING, CustomerStatus.DELETED))
    if actor.all_groups:
        return visible
    return sa.and_(visible, Customer.group_id.in_(groups_of(actor)))


def groups_of(actor: Actor) -> sa.Select[int]:
    """Ids of the groups that an actor without `all_groups` is limited to."""
    return sa.select(UserGroup.group_id).where(UserGroup.user_id == actor.user_id)


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


def get_customer(actor: Actor, web_id: str, permission: Permission) -> Customer:
    """The customer `web_id`; NotFound outside the actor's scope, then Forbidden by role."""
    customer = db.session.scalar(
        sa.select(Customer).where(Customer.web_id == web_id, customers_in_scope(actor))
    )
    if customer is None:
        raise NotFound("There is no such customer, or it is not yours to see.")
    actor.require(permission)
    return customer
