"""What a customer's administrator does on the Users tab, through its pages."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass

import sqlalchemy as sa

from benchmarks.installations import Installation
from benchmarks.processes import BenchmarkError, wait_until
from benchmarks.web import Answer, Browser
from models import Customer, Mailing, MailingState, Role, User

_MAILING = re.compile(r"/mailings/(\d+)")


@dataclass(frozen=True, slots=True)
class Clicked:
    """A mailing that was confirmed on its page, and when the button was pressed."""

    mailing_id: int
    at: float


def administrator_of(installation: Installation, web_id: str) -> str:
    """The login of a customer's administrator."""
    query = (
        sa.select(User.login)
        .join(Customer, Customer.id == User.customer_id)
        .where(Customer.web_id == web_id, User.role == Role.CUSTOMER_ADMIN)
        .limit(1)
    )
    (row,) = installation.read(query)
    return str(row.login)


def mail_users(browser: Browser, installation: Installation, web_id: str, count: int) -> Clicked:
    """Tick `count` users, choose Resend Welcome Mail, confirm; return at the answer."""
    users = browser.get(f"/customers/{web_id}/users?size=50")
    form = users.form(f"/customers/{web_id}/users/actions")
    ticked = _plain_users(installation, form.boxes)[:count]
    if len(ticked) < count:
        raise BenchmarkError(f"The Users tab of {web_id} shows {len(ticked)} of {count} users.")
    preview = browser.submit(form, selected=ticked, action=form.options["Resend Welcome Mail"])
    confirmation = preview.form(f"/customers/{web_id}/mailings")
    at = time.time()
    return Clicked(_mailing_in(browser.submit(confirmation)), at)


def _plain_users(installation: Installation, ids: list[str]) -> list[str]:
    """Without the administrator: a new password would end his session."""
    numbers = [int(each) for each in ids if each.isdecimal()]
    plain = installation.read(
        sa.select(User.id).where(User.id.in_(numbers), User.role == Role.USER).order_by(User.id)
    )
    return [str(row.id) for row in plain]


def _mailing_in(answer: Answer) -> int:
    found = _MAILING.search(answer.path)
    if found is None or answer.status != 200:
        raise BenchmarkError(f"Confirming led to {answer.path} with status {answer.status}.")
    return int(found[1])


def wait_until_recorded(
    installation: Installation, clicked: Clicked, count: int, seconds: float
) -> tuple[float, list[str]]:
    """Seconds from the click until all was recorded, and what is wrong with the mailing."""

    def is_over() -> bool:
        return installation.state_of(clicked.mailing_id) is MailingState.FINISHED

    wait_until(is_over, f"Mailing {clicked.mailing_id}", seconds, every=0.02)
    (row,) = installation.read(
        sa.select(Mailing.sent, Mailing.finished_at).where(Mailing.id == clicked.mailing_id)
    )
    faults = [] if row.sent == count else [f"{row.sent} of {count} were sent"]
    return row.finished_at.timestamp() - clicked.at, faults
