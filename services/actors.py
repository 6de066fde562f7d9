"""Who acts, with which permissions, within which scope (section 2 of the design)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import sqlalchemy as sa

from extensions import db
from models import CUSTOMER_ROLES, Customer, CustomerStatus, Role, User, UserGroup
from services.errors import Forbidden, NotFound


class Permission(StrEnum):
    CUSTOMERS_READ = "customers.read"
    USERS_READ = "users.read"
    MAILINGS_READ = "mailings.read"
    MAILINGS_SEND = "mailings.send"
    COMMANDS_READ = "commands.read"
    COMMANDS_RUN = "commands.run"


_READ = frozenset({Permission.USERS_READ, Permission.MAILINGS_READ})
PERMISSIONS: dict[Role, frozenset[Permission]] = {
    Role.LANDLORD: frozenset(Permission),
    Role.OPERATOR: frozenset(Permission),
    Role.AUDITOR: _READ | {Permission.CUSTOMERS_READ, Permission.COMMANDS_READ},
    Role.CUSTOMER_ADMIN: _READ | {Permission.MAILINGS_SEND},
    Role.SUPERVISOR: frozenset(),
    Role.USER: frozenset(),
    Role.PROSPECT: frozenset(),
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
    visible = Customer.status != CustomerStatus.DELETED
    if actor.all_groups:
        return visible
    groups = sa.select(UserGroup.group_id).where(UserGroup.user_id == actor.user_id)
    return sa.and_(visible, Customer.group_id.in_(groups))


def get_customer(actor: Actor, web_id: str, permission: Permission) -> Customer:
    """The customer `web_id`; NotFound outside the actor's scope, then Forbidden by role."""
    customer = db.session.scalar(
        sa.select(Customer).where(Customer.web_id == web_id, customers_in_scope(actor))
    )
    if customer is None:
        raise NotFound("There is no such customer, or it is not yours to see.")
    actor.require(permission)
    return customer
