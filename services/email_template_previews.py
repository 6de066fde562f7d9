"""How a mail of an e-mail template will look, for a made-up reader or a real one, and a test of it.

Nothing secret is ever shown: the passwords of a preview are made up and look like it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from config import LANGUAGES
from extensions import db
from models import (
    CUSTOMER_ROLES,
    Bundle,
    Customer,
    CustomerEmailTemplate,
    EmailTemplate,
    TemplateKind,
    User,
    UserStatus,
    fold,
    is_storable,
    prefix_range,
)
from services import recipients, system_mails
from services.actors import Actor, Permission, customers_in_scope
from services.audit_events import record_event
from services.domain_names import ascii_login
from services.email_template_texts import (
    Part,
    ReadyText,
    TypedText,
    check_text,
    field_of,
)
from services.errors import Conflict, InvalidInput, InvalidInputs
from services.mail_headers import MessageError
from services.messages import RenderedMessage
from services.placeholders import PLACEHOLDERS, sample_values
from services.seals import Credentials
from services.smtp import ServerUnavailable
from services.throttles import Limit, count_attempt, refuse_if_throttled

TEST_MARK = "[Test] "
_TESTS = Limit(free=10, longest_wait=300)
_MOST_PEOPLE = 8
_LOOKED_AT = 500
"""Logins that begin as asked for, of which those who could get the mail are picked."""

SAMPLES = Credentials(
    PLACEHOLDERS["portal password"].sample, PLACEHOLDERS["application password"].sample
)


@dataclass(frozen=True, slots=True)
class Reader:
    """Whom a preview is for: a user, or nobody in particular. `values` fill the placeholders."""

    name: str
    login: str
    customer: str
    language: str
    values: Mapping[str, str]


SAMPLE_READER = Reader("", "", "", "", sample_values())


@dataclass(frozen=True, slots=True)
class Preview:
    """A mail as it will look in one language. `remark` says what is wrong about the reader."""

    language: str
    message: RenderedMessage
    text: ReadyText


def find_reader(
    actor: Actor, template: EmailTemplate | None, login: str, customer: Customer | None = None
) -> Reader:
    """The user whose login begins with `login`; the made-up one for no login.

    Users are those of customers in scope who may use the template, or of `customer`. Raises
    InvalidInput naming `reader` where there is none.
    """
    login = login.strip()
    if not login:
        return SAMPLE_READER
    if not is_storable(login) or len(login) > 320:
        raise InvalidInput("reader", "No login looks like this.")
    rows = _find_users(actor, template, login, customer, limit=1)
    if not rows:
        raise InvalidInput(
            "reader",
            f"No user with a login that begins with “{login[:64]}” can be sent this template. "
            "Type more of the login, or leave it empty for a made-up reader.",
        )
    row = rows[0]
    return Reader(
        name=recipients.full_name(row) or row.login,
        login=row.login,
        customer=row.customer_name,
        language=row.language or row.customer_language,
        values=recipients.placeholder_values(row, SAMPLES),
    )


def suggest_readers(
    actor: Actor, template: EmailTemplate | None, login: str, customer: Customer | None = None
) -> list[str]:
    """Some logins that begin with `login`, of users who could be sent the template."""
    login = login.strip()
    if not login or not is_storable(login) or len(login) > 320:
        return []
    return [row.login for row in _find_users(actor, template, login, customer, limit=_MOST_PEOPLE)]


def _find_users(
    actor: Actor,
    template: EmailTemplate | None,
    login: str,
    customer: Customer | None,
    *,
    limit: int,
) -> Sequence[sa.Row[Any]]:
    if template is None:
        return []
    lowest, beyond = prefix_range(fold(ascii_login(login)))
    begins = sa.and_(User.login_key >= lowest, User.login_key < beyond)
    if customer is not None:
        begins = sa.and_(begins, User.customer_id == customer.id)
    near = sa.select(User.id).where(begins).order_by(User.login_key).limit(_LOOKED_AT).subquery()
    query = (
        sa.select(*recipients.RECIPIENT_COLUMNS)
        .select_from(User)
        .join(near, near.c.id == User.id)
        .join(Customer, Customer.id == User.customer_id)
        .outerjoin(Bundle, Bundle.id == User.bundle_id)
        .where(
            customers_in_scope(actor),
            User.role.in_(CUSTOMER_ROLES),
            User.status != UserStatus.DELETED,
        )
        .order_by(User.login_key)
        .limit(limit)
    )
    if template.kind is not TemplateKind.PASSWORD_RESET:
        query = query.where(
            sa.exists().where(
                CustomerEmailTemplate.customer_id == User.customer_id,
                CustomerEmailTemplate.template_id == template.id,
            )
        )
    return db.session.execute(query).all()


def pick_language(wanted: str, available: Sequence[str], reader: Reader) -> str:
    """The language to show: as asked for, else the reader's, else the first there is."""
    for language in (wanted, reader.language, *LANGUAGES):
        if language in available:
            return language
    return next(iter(LANGUAGES))


def preview_text(language: str, typed: TypedText, reader: Reader) -> Preview:
    """What was typed as a mail to the reader, whether it has been saved or not.

    Raises InvalidInputs with what is wrong about the text, or about the reader's values.
    """
    ready = check_text(language, typed)
    return Preview(language, _render(language, ready, reader), ready)


def _render(language: str, ready: ReadyText, reader: Reader) -> RenderedMessage:
    try:
        return ready.prepared.preview(reader.values)
    except MessageError as error:
        whose = reader.name or "a made-up reader"
        raise InvalidInputs(
            [(field_of(Part.HTML, language), f"The mail to {whose} cannot be written. {error}")]
        ) from None


def send_test(
    actor: Actor,
    template: EmailTemplate | None,
    language: str,
    typed: TypedText,
    reader: Reader,
) -> str:
    """Send what was typed to who asks, with made-up passwords and a subject that says so.

    Waits for the server's answer; returns where it went. Raises Forbidden, InvalidInputs,
    Throttled, and Conflict with the server's words where it does not take the mail.
    """
    actor.require(Permission.TEMPLATES_EDIT)
    person = db.session.get(User, actor.user_id) if actor.user_id else None
    if person is None or not person.email:
        raise Conflict("You have no e-mail address, so there is nowhere to send it.")
    ready = check_text(language, typed, mark=TEST_MARK)
    _render(language, ready, reader)
    key = f"template-test:{actor.user_id}"
    refuse_if_throttled([key])
    count_attempt(key, _TESTS)
    db.session.commit()
    try:
        system_mails.send(
            ready.prepared,
            reader.values,
            to_name=person.full_name,
            to_address=person.email,
        )
    except (system_mails.MailRefused, system_mails.MailDelayed) as error:
        raise Conflict(f"The mail server did not take the test. It said: {error}") from None
    except ServerUnavailable as error:
        raise Conflict(
            f"The test was not sent: the mail server cannot be used at the moment. {error.reason}"
        ) from None
    record_event(
        actor,
        "email_template.tested",
        object_type="email_template",
        object_id=template.id if template else None,
        detail={"to": person.email, "language": language, "reader": reader.login},
    )
    db.session.commit()
    return person.email
