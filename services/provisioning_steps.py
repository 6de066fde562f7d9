"""The steps of a provisioning run: what each does, and what undoes it.

A step says in `prepare` what the platform shall do, and writes in `record` what came of it; each is
called in a transaction of its own, and the call to the platform stands between them, in none. A
step without such a call does everything in `record`. Between any two of these the process may die,
and then the step is done again from its beginning: what `prepare` writes, and what it asks of the
platform, finds that it is there already. The same goes for `prepare_undo` and `record_undo`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.exc import IntegrityError

from connectors import Account, Connector, PlatformTenant, TenantSettings
from models import (
    Bundle,
    Customer,
    CustomerBundle,
    CustomerEmailTemplate,
    CustomerStatus,
    EmailTemplate,
    GeneralParameters,
    GeneralParametersVersion,
    Role,
    ServiceTemplateBundle,
    ServiceTemplateEmailTemplate,
    ServiceTemplateVersion,
    StepName,
    SubscriptionRequest,
    TemplateKind,
    User,
    fold,
    table_of,
    utcnow,
)
from services import email_template_welcomes, general_parameters
from services.actors import SYSTEM
from services.audit_events import insert_event
from services.customer_numbers import draw_numbers
from services.request_passwords import SealBroken, open_password
from services.transactions import upsert
from services.webhook_events import note_new_customer

LABELS: Mapping[StepName, str] = {
    StepName.RESERVE_NAMES: "Reserve the names",
    StepName.CREATE_CUSTOMER: "Create the customer",
    StepName.CLONE_TEMPLATE: "Clone the template",
    StepName.CREATE_ON_PLATFORM: "Create the tenant on the platform",
    StepName.CREATE_ADMINISTRATOR: "Create the administrator",
    StepName.CHECK: "Check that everything is there",
    StepName.NOTIFY: "Open the tenant and notify",
}

_LONGEST_REFERENCE = 64
_REQUESTS, _CUSTOMERS = table_of(SubscriptionRequest), table_of(Customer)
_COPIED = (
    "name name_key short_name short_name_key upn_suffix ani company street postal_code city region "
    "country contact_name contact_email contact_phone language time_zone group_id "
    "template_version_id options"
).split()
"""What a customer takes over from its request."""


class StepFault(Exception):
    """Why a step did not come to its end; a transient fault is worth another try. No secrets."""

    def __init__(self, reason: str, *, transient: bool = False) -> None:
        self.reason = reason
        self.transient = transient
        super().__init__(reason)


@dataclass(frozen=True, slots=True)
class Order:
    """A request and its customer, None before there is one, as one transaction sees them."""

    request: Any
    customer: Any

    @property
    def tenant(self) -> PlatformTenant:
        return PlatformTenant(
            self.customer.web_id,
            self.customer.name,
            self.customer.upn_suffix,
            self.customer.platform_reference,
        )


@dataclass(frozen=True, slots=True)
class PlatformCall:
    """What to ask of the platform of `connector`. `secret` must not occur in what it answers."""

    connector: str
    do: Callable[[Connector], Any]
    secret: str = field(default="", repr=False)


def load_order(connection: sa.Connection, request_id: int) -> Order:
    request = connection.execute(sa.select(_REQUESTS).where(_REQUESTS.c.id == request_id)).one()
    customer = connection.execute(
        sa.select(_CUSTOMERS).where(_CUSTOMERS.c.id == request.customer_id)
    ).one_or_none()
    return Order(request, customer)


class Step:
    """One step. Every method raises StepFault."""

    def prepare(self, connection: sa.Connection, order: Order) -> PlatformCall | None:
        return None

    def record(self, connection: sa.Connection, order: Order, answer: Any) -> str:
        """Write what came of it; returns a sentence on it for operators."""
        raise NotImplementedError

    def prepare_undo(self, connection: sa.Connection, order: Order) -> PlatformCall | None:
        return None

    def record_undo(self, connection: sa.Connection, order: Order) -> None:
        """Take away what the step wrote, as far as it is there."""


class ReserveNames(Step):
    """The open request holds its names among requests; here they are held against customers."""

    def record(self, connection: sa.Connection, order: Order, answer: Any) -> str:
        if taken := _find_taken(connection, order):
            raise StepFault(taken)
        asked = order.request
        return f"{asked.name}, {asked.short_name}, {asked.upn_suffix}, {asked.admin_login}."


class CreateCustomer(Step):
    def record(self, connection: sa.Connection, order: Order, answer: Any) -> str:
        if order.customer is not None:
            return _numbers_of(order.customer)
        if taken := _find_taken(connection, order):
            raise StepFault(taken)
        custno, web_id = draw_numbers(connection)
        asked = order.request._mapping
        values = {name: asked[name] for name in _COPIED}
        try:
            customer = connection.execute(
                sa.insert(_CUSTOMERS)
                .values(
                    custno=custno,
                    web_id=web_id,
                    status=CustomerStatus.CREATING,
                    created_at=utcnow(),
                    **values,
                )
                .returning(_CUSTOMERS.c.id, _CUSTOMERS.c.custno, _CUSTOMERS.c.web_id)
            ).one()
        except IntegrityError as error:
            # Somebody took the names or the numbers since we looked: the next try sees which.
            raise StepFault("A customer was added at the same moment.", transient=True) from error
        connection.execute(
            sa.update(_REQUESTS)
            .where(_REQUESTS.c.id == order.request.id)
            .values(customer_id=customer.id)
        )
        insert_event(
            connection,
            SYSTEM,
            "customer.created",
            customer_id=customer.id,
            object_type="request",
            object_id=order.request.id,
            detail={"after": {"web_id": web_id, "name": order.request.name}},
        )
        return _numbers_of(customer)

    def record_undo(self, connection: sa.Connection, order: Order) -> None:
        if order.customer is None:
            return
        customer_id = order.customer.id
        connection.execute(
            sa.update(_REQUESTS).where(_REQUESTS.c.id == order.request.id).values(customer_id=None)
        )
        # What was done stays on record; only the customer it names is gone.
        insert_event(
            connection,
            SYSTEM,
            "customer.removed",
            group_id=order.customer.group_id,
            object_type="request",
            object_id=order.request.id,
            detail={"before": {"web_id": order.customer.web_id, "name": order.customer.name}},
        )
        connection.execute(sa.delete(_CUSTOMERS).where(_CUSTOMERS.c.id == customer_id))


class CloneTemplate(Step):
    def record(self, connection: sa.Connection, order: Order, answer: Any) -> str:
        customer_id = order.customer.id
        version = _load_version(connection, order)
        connection.execute(
            sa.update(_CUSTOMERS)
            .where(_CUSTOMERS.c.id == customer_id)
            .values(
                setup_instructions=version.setup_instructions,
                application_url=version.application_url,
                connector=version.connector,
            )
        )
        bundles = _insert_missing(
            connection,
            table_of(CustomerBundle),
            "bundle_id",
            customer_id,
            sa.select(ServiceTemplateBundle.bundle_id).where(
                ServiceTemplateBundle.version_id == version.id
            ),
        )
        email_template_welcomes.hold(connection)
        templates = _insert_missing(
            connection,
            table_of(CustomerEmailTemplate),
            "template_id",
            customer_id,
            _email_templates_of(version.id),
        )
        general_parameters.clone_into(connection, customer_id, version)
        return f"Bundles: {bundles}. E-mail templates: {templates}."

    def record_undo(self, connection: sa.Connection, order: Order) -> None:
        if order.customer is None:
            return
        for model in (
            GeneralParametersVersion,
            GeneralParameters,
            CustomerEmailTemplate,
            CustomerBundle,
        ):
            table = table_of(model)
            connection.execute(sa.delete(table).where(table.c.customer_id == order.customer.id))


class CreateOnPlatform(Step):
    def prepare(self, connection: sa.Connection, order: Order) -> PlatformCall | None:
        customer, tenant = order.customer, order.tenant
        settings = TenantSettings(
            short_name=customer.short_name,
            ani=customer.ani,
            language=customer.language,
            time_zone=customer.time_zone,
            bundles=tuple(_bundle_names(connection, customer.id)),
            options=customer.options,
        )
        return PlatformCall(
            customer.connector, lambda connector: connector.create_tenant(tenant, settings)
        )

    def record(self, connection: sa.Connection, order: Order, answer: Any) -> str:
        if not isinstance(answer, str) or not 0 < len(answer) <= _LONGEST_REFERENCE:
            raise StepFault(
                f"The connector {order.customer.connector} returned no name for the tenant that "
                f"has 1 to {_LONGEST_REFERENCE} characters."
            )
        connection.execute(
            sa.update(_CUSTOMERS)
            .where(_CUSTOMERS.c.id == order.customer.id)
            .values(platform_reference=answer)
        )
        return f"{answer} on {order.customer.connector}."

    def prepare_undo(self, connection: sa.Connection, order: Order) -> PlatformCall | None:
        if order.customer is None:
            return None
        tenant = order.tenant
        return PlatformCall(
            order.customer.connector, lambda connector: connector.remove_tenant(tenant)
        )

    def record_undo(self, connection: sa.Connection, order: Order) -> None:
        if order.customer is not None:
            connection.execute(
                sa.update(_CUSTOMERS)
                .where(_CUSTOMERS.c.id == order.customer.id)
                .values(platform_reference="")
            )


class CreateAdministrator(Step):
    """His password is the one he chose: hashed for Foyer, opened here alone for the platform."""

    def prepare(self, connection: sa.Connection, order: Order) -> PlatformCall | None:
        asked = order.request
        if asked.password_hash is None or asked.password_seal is None:
            raise StepFault(
                "The administrator's password is no longer kept. "
                "Roll back, and have the tenant registered again."
            )
        try:
            password = open_password(asked.password_seal)
        except SealBroken as error:
            raise StepFault(
                "The administrator's password cannot be opened: the key that sealed it is not in "
                "SEAL_KEYS. Put it back and retry, or roll back."
            ) from error
        tenant, account = order.tenant, _account_of(_administrator_of(connection, order))
        return PlatformCall(
            order.customer.connector,
            lambda connector: connector.create_account(tenant, account, password),
            secret=password,
        )

    def record(self, connection: sa.Connection, order: Order, answer: Any) -> str:
        return f"{order.request.admin_login}."

    def prepare_undo(self, connection: sa.Connection, order: Order) -> PlatformCall | None:
        if (user := _find_administrator(connection, order)) is None:
            return None
        tenant, account = order.tenant, _account_of(user)
        return PlatformCall(
            order.customer.connector, lambda connector: connector.remove_account(tenant, account)
        )

    def record_undo(self, connection: sa.Connection, order: Order) -> None:
        if (user := _find_administrator(connection, order)) is not None:
            _note_administrator(connection, order, user, "user.removed")
            connection.execute(sa.delete(User).where(User.id == user.id))


class Check(Step):
    def prepare(self, connection: sa.Connection, order: Order) -> PlatformCall | None:
        user = _find_administrator(connection, order)
        if faults := _find_gaps(connection, order, user):
            raise StepFault(" ".join(faults))
        tenant, accounts = order.tenant, [_account_of(user)]
        return PlatformCall(
            order.customer.connector, lambda connector: list(connector.health(tenant, accounts))
        )

    def record(self, connection: sa.Connection, order: Order, answer: Any) -> str:
        if answer:  # A platform may take a moment until it shows what it was given.
            raise StepFault(" ".join(map(str, answer)), transient=True)
        return "Everything is there."


class Notify(Step):
    """The last step: recording it opens the tenant, and completes request and run with it.

    The mail is a row that the transition to COMPLETED writes, so that there is one notification
    exactly when there is a customer to be told of.
    """

    def record(self, connection: sa.Connection, order: Order, answer: Any) -> str:
        connection.execute(
            sa.update(_CUSTOMERS)
            .where(_CUSTOMERS.c.id == order.customer.id)
            .values(status=CustomerStatus.ACTIVE)
        )
        connection.execute(
            sa.update(CustomerBundle)
            .where(CustomerBundle.customer_id == order.customer.id)
            .values(status=CustomerStatus.ACTIVE)
        )
        note_new_customer(connection, order.customer.group_id, order.customer.id)
        return f"A mail goes to {order.request.contact_email}."


STEPS: Mapping[StepName, Step] = {
    StepName.RESERVE_NAMES: ReserveNames(),
    StepName.CREATE_CUSTOMER: CreateCustomer(),
    StepName.CLONE_TEMPLATE: CloneTemplate(),
    StepName.CREATE_ON_PLATFORM: CreateOnPlatform(),
    StepName.CREATE_ADMINISTRATOR: CreateAdministrator(),
    StepName.CHECK: Check(),
    StepName.NOTIFY: Notify(),
}
"""In their order."""


# --- What the steps look up and write ----------------------------------------------------------


def _numbers_of(customer: Any) -> str:
    return f"Customer number {customer.custno}, web ID {customer.web_id}."


def _find_taken(connection: sa.Connection, order: Order) -> str:
    """Who else has one of the request's names, as a sentence; empty when nobody has."""
    asked = order.request
    own = sa.true() if order.customer is None else _CUSTOMERS.c.id != order.customer.id
    for column, label, shown in (
        ("name_key", "name", asked.name),
        ("short_name_key", "short name", asked.short_name),
        ("upn_suffix", "UPN suffix", asked.upn_suffix),
    ):
        value = getattr(asked, column)
        if connection.scalar(
            sa.select(_CUSTOMERS.c.id).where(_CUSTOMERS.c[column] == value, own).limit(1)
        ):
            return f"Another customer has the {label} {shown}. Roll back, and register another."
    user = connection.execute(
        sa.select(User.customer_id).where(User.login_key == fold(asked.admin_login))
    ).one_or_none()
    if user is not None and (order.customer is None or user.customer_id != order.customer.id):
        return f"Another user has the login {asked.admin_login}. Roll back, and register another."
    return ""


def _load_version(connection: sa.Connection, order: Order) -> ServiceTemplateVersion:
    with orm.Session(connection) as session:
        return session.get_one(ServiceTemplateVersion, order.request.template_version_id)


def _email_templates_of(version_id: int) -> sa.Select[int]:
    """Those of the service template; without a Welcome among them, the oldest one as well: without
    any nobody can be welcomed."""
    chosen = sa.select(ServiceTemplateEmailTemplate.template_id).where(
        ServiceTemplateEmailTemplate.version_id == version_id
    )
    other = sa.orm.aliased(EmailTemplate)
    welcomes = sa.select(sa.func.min(other.id)).where(
        other.archived_at.is_(None), other.kind == TemplateKind.WELCOME
    )
    welcome = sa.func.coalesce(
        welcomes.where(other.id.in_(chosen)).scalar_subquery(), welcomes.scalar_subquery()
    )
    return sa.select(EmailTemplate.id).where(
        EmailTemplate.archived_at.is_(None),
        sa.or_(EmailTemplate.id.in_(chosen), EmailTemplate.id == welcome),
    )


def _insert_missing(
    connection: sa.Connection,
    table: sa.Table,
    column: str,
    customer_id: int,
    ids: sa.Select[int],
) -> int:
    """Assign to the customer what `ids` selects; returns how many it has then."""
    wanted = connection.scalars(ids).all()
    if wanted:
        connection.execute(
            upsert(table).on_conflict_do_nothing(),
            [{"customer_id": customer_id, column: each} for each in wanted],
        )
    return len(wanted)


def _bundle_names(connection: sa.Connection, customer_id: int) -> list[str]:
    return list(
        connection.scalars(
            sa.select(Bundle.name)
            .join(CustomerBundle, CustomerBundle.bundle_id == Bundle.id)
            .where(CustomerBundle.customer_id == customer_id)
            .order_by(Bundle.name)
        )
    )


def _find_administrator(connection: sa.Connection, order: Order) -> Any:
    if order.customer is None:
        return None
    users = table_of(User)
    return connection.execute(
        sa.select(users).where(
            users.c.login_key == fold(order.request.admin_login),
            users.c.customer_id == order.customer.id,
        )
    ).one_or_none()


def _administrator_of(connection: sa.Connection, order: Order) -> Any:
    """The administrator's row, made where it is not there yet."""
    if (user := _find_administrator(connection, order)) is not None:
        return user
    if taken := _find_taken(connection, order):
        raise StepFault(taken)
    asked, users = order.request, table_of(User)
    first, _, last = asked.contact_name.strip().rpartition(" ")
    first, last = first.strip()[:64], last[:64]
    added = connection.execute(
        sa.insert(users)
        .values(
            customer_id=order.customer.id,
            role=Role.CUSTOMER_ADMIN,
            login=asked.admin_login,
            login_key=fold(asked.admin_login),
            first_name=first,
            last_name=last,
            # A letter can fold to as many as eighteen.
            name_key=fold(f"{first} {last}")[:260],
            surname_key=fold(last)[:130],
            email=asked.contact_email,
            email_key=fold(asked.contact_email),
            language=asked.language,
            password_hash=asked.password_hash,
            must_change_password=False,
            created_at=utcnow(),
        )
        .returning(users)
    ).one()
    _note_administrator(connection, order, added, "user.added")
    return added


def _note_administrator(connection: sa.Connection, order: Order, user: Any, action: str) -> None:
    values = {"login": user.login, "email": user.email, "role": str(user.role)}
    insert_event(
        connection,
        SYSTEM,
        action,
        customer_id=order.customer.id,
        object_type="user",
        object_id=user.id,
        detail={"after" if action == "user.added" else "before": values},
    )


def _account_of(user: Any) -> Account:
    return Account(
        user_id=user.id,
        login=user.login,
        email=user.email,
        first_name=user.first_name,
        last_name=user.last_name,
        language=user.language,
        is_administrator=True,
    )


def _find_gaps(connection: sa.Connection, order: Order, user: Any) -> list[str]:
    """What of the customer is not there as it should be, a sentence each."""
    customer_id = order.customer.id
    faults = []
    wanted = sa.select(ServiceTemplateBundle.bundle_id).where(
        ServiceTemplateBundle.version_id == order.request.template_version_id
    )
    having = sa.select(CustomerBundle.bundle_id).where(CustomerBundle.customer_id == customer_id)
    if set(connection.scalars(wanted)) - set(connection.scalars(having)):
        faults.append("A bundle of the template is missing.")
    welcome = (
        sa.select(EmailTemplate.id)
        .join(CustomerEmailTemplate, CustomerEmailTemplate.template_id == EmailTemplate.id)
        .where(
            CustomerEmailTemplate.customer_id == customer_id,
            EmailTemplate.kind == TemplateKind.WELCOME,
        )
    )
    if connection.scalar(welcome.limit(1)) is None:
        faults.append("There is no e-mail template of the kind welcome.")
    draft = sa.select(GeneralParameters.customer_id).where(
        GeneralParameters.customer_id == customer_id
    )
    if connection.scalar(draft) is None:
        faults.append("The general parameters are missing.")
    if user is None or user.password_hash is None:
        faults.append("The administrator is missing.")
    return faults
