"""Mailings as staff see them: of all customers, of several at once, with mails that came back."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from extensions import db, queues
from models import (
    CommandSource,
    Delivery,
    DeliveryState,
    Group,
    Mailing,
    MailingState,
    Role,
    User,
    UserGroup,
    utcnow,
)
from services import command_runs
from services.actors import Actor
from tests.support.factories import actor_for, find_customer, make_user, save
from tests.support.pages import CheckingClient, Page
from tests.support.promises import start_welcome
from tests.support.smtp_sink import SmtpSink

OPERATOR, AUDITOR = "operator@foyer.example", "auditor@foyer.example"
ADMIN, OTHER_ADMIN = "prpkeAdmin@kenton-electronics.com", "prphlAdmin@harborlight.example"
LIST = "/sp/mailings"
SEVERAL = "$$RESEND WELCOME EMAIL$$ Entry3PhoneNextGenBundle|CQ002;CQ003"
HTMX = {"HX-Request": "true"}

SignInAs = Callable[[str], CheckingClient]


@pytest.fixture
def alice(sign_in_as: SignInAs) -> CheckingClient:
    """An operator of every group."""
    return sign_in_as(OPERATOR)


def run(actor: Actor, text: str, source: CommandSource = CommandSource.WINDOW) -> int:
    """Run a command that starts one mailing; returns the mailing's id."""
    done = command_runs.run(actor, command_runs.submit(actor, text, source=source).id)
    (mailing,) = command_runs.started_mailings(done)
    return mailing.id


@pytest.fixture
def several(app: Flask) -> int:
    """A mailing to 50 users of CQ002 and CQ003."""
    with app.app_context():
        return run(actor_for(OPERATOR), SEVERAL)


@pytest.fixture
def single(app: Flask) -> int:
    """A mailing to one user of CQ001, by its administrator."""
    with app.app_context():
        return start_welcome(
            actor_for(ADMIN), "CQ001", [make_user(find_customer("CQ001"))], enqueue=False
        )


def start(mailing_id: int) -> None:
    """Ask a worker to look at a mailing."""
    mailing = db.session.get_one(Mailing, mailing_id)
    queues.start_mailing(mailing.lane.value, mailing.id, mailing.waiting)


def first_of(mailing_id: int, web_id: str) -> Delivery:
    """The first recipient of a mailing who belongs to a customer."""
    return db.session.scalars(
        sa.select(Delivery)
        .join(User, User.id == Delivery.user_id)
        .where(Delivery.mailing_id == mailing_id, User.customer_id == find_customer(web_id).id)
        .order_by(Delivery.id)
        .limit(1)
    ).one()


def main(page: Page) -> str:
    return page.text(page.one("main"))


def rows(page: Page) -> list[list[str]]:
    return [
        [page.text(cell) for cell in row if cell.tag in {"td", "th"}]
        for row in page.all("tr", data_row="")
    ]


def row(app: Flask, mailing_id: int) -> Mailing:
    with app.app_context():
        found = db.session.get(Mailing, mailing_id)
        assert found is not None
        return found


def bounce(app: Flask, mailing_id: int, reason: str) -> str:
    """Let the first mail of a mailing have come back; returns its address."""
    with app.app_context():
        delivery = db.session.scalars(
            sa.select(Delivery)
            .where(Delivery.mailing_id == mailing_id, Delivery.state == DeliveryState.SENT)
            .order_by(Delivery.id)
        ).first()
        assert delivery is not None
        delivery.state = DeliveryState.BOUNCED
        delivery.bounced_at = utcnow() - timedelta(minutes=5)
        delivery.bounce_reason = reason
        delivery.mailing.sent -= 1
        delivery.mailing.bounced += 1
        db.session.commit()
        return delivery.email


# --- The list ----------------------------------------------------------------------------------


def test_the_list_has_the_mailings_of_all_customers_newest_first(
    alice: CheckingClient, single: int, several: int
) -> None:
    first, second = rows(alice.page(LIST))
    assert first[1:3] == [str(several), "Harborlight and 1 other customer"]
    assert second[1:3] == [str(single), "KentonElectronics"]
    assert first[4] == "0 of 50"
    assert (first[8], second[8]) == ("Omar Nasser", "Petra Kenton")


def test_the_list_is_paged_both_ways(app: Flask, alice: CheckingClient) -> None:
    with app.app_context():
        user = make_user(find_customer("CQ001"))
        made = [start_welcome(actor_for(ADMIN), "CQ001", [user], enqueue=False) for _ in range(30)]
    pages = [alice.page(LIST)]
    while pages[-1].all("a", id="page-next"):
        pages.append(alice.fragment(pages[-1].one("a", id="page-next").get("href")))
    assert [each[1] for page in pages for each in rows(page)] == [str(e) for e in reversed(made)]
    back = alice.page(pages[-1].one("a", id="page-previous").get("href"))
    assert rows(back) == rows(pages[0])


def test_a_list_without_mailings_says_so(alice: CheckingClient) -> None:
    assert "No mail has been sent to users of your customers yet." in main(alice.page(LIST))
    assert alice.get(f"{LIST}?cursor=nonsense").status_code == 200


def test_an_operator_of_one_group_sees_its_mailings_alone(
    app: Flask, sign_in_as: SignInAs, single: int, several: int
) -> None:
    with app.app_context():
        limited = make_user(role=Role.OPERATOR, login="north@foyer.example")
        group = db.session.scalars(sa.select(Group).where(Group.groupno == 2)).one()
        save(UserGroup(user_id=limited.id, group_id=group.id))
        text = "$$RESEND WELCOME EMAIL$$ Stand4PhoneNextGenBundle|CQ101"
        own = run(actor_for("north@foyer.example"), text)
        mixed = run(actor_for(OPERATOR), "$$RESEND WELCOME EMAIL$$ Entry3PhoneNextGenBundle;"
                    "Stand4PhoneNextGenBundle|CQ001;CQ101")  # fmt: skip
    charlie = sign_in_as("north@foyer.example")
    assert [each[1] for each in rows(charlie.page(LIST))] == [str(own)]
    for mailing in (single, several, mixed):
        assert charlie.get(f"{LIST}/{mailing}").status_code == 404
        for verb in ("pause", "cancel", "export"):
            assert charlie.submit(f"{LIST}/{mailing}/{verb}").status_code == 404
    assert row(app, several).state is MailingState.RUNNING


# --- One mailing -------------------------------------------------------------------------------


def test_a_mailing_to_several_customers_says_whose_user_each_is(
    alice: CheckingClient, several: int
) -> None:
    page = alice.page(f"{LIST}/{several}")
    words = main(page)
    assert f"Mailing {several}, confirmed just now by Omar Nasser with a command" in words
    assert "for 50 users of Harborlight and 1 other customer" in words
    shown = rows(page)
    assert len(shown) == 50
    assert {each[1] for each in shown} == {"Harborlight", "Ostrava"}
    hrefs = [a.get("href") for a in page.all("a")]
    assert any(href.startswith("/customers/CQ003/users/") for href in hrefs)
    assert [href for href in hrefs if href.startswith("/sp/commands/")]


def test_it_is_watched_and_steered_at_its_own_address(
    app: Flask, alice: CheckingClient, several: int, sink: SmtpSink, work: Callable[[], None]
) -> None:
    url = f"{LIST}/{several}"
    page = alice.page(url)
    polled = page.one("div", id="mailings-progress")
    assert polled.get("hx-get").startswith(f"{url}/progress?")
    assert page.one("ul", class_="figures").find(".//a").get("href") == f"{url}?state=queued"
    assert alice.submit(f"{url}/pause").location == url
    assert row(app, several).state is MailingState.PAUSED
    assert alice.submit(f"{url}/resume", headers=HTMX).headers["HX-Redirect"] == url
    work()
    ended = alice.get(polled.get("hx-get"), headers=HTMX)
    assert ended.headers["HX-Trigger"] == "mailing-ended"
    assert "Finished. 50 of 50 sent." in main(alice.page(url))
    assert len(sink.mails) == 50
    sent = alice.fragment(f"{url}?state=sent")
    assert sent.one("div", id="mailings-deliveries") is not None
    assert sent.one("a", class_="chip-clear").get("href") == url
    assert alice.get(f"{url}/progress").location == url


def test_cancel_and_retry_stand_at_both_addresses(
    app: Flask, alice: CheckingClient, several: int, single: int
) -> None:
    assert alice.submit(f"{LIST}/{several}/cancel").status_code == 303
    assert row(app, several).state is MailingState.CANCELLED
    assert "Cancelled. 0 of 50 sent, 50 cancelled." in main(alice.page(f"{LIST}/{several}"))
    page = alice.page(alice.submit(f"{LIST}/{single}/retry").location)
    assert "Nothing in this mailing has failed." in page.source
    here = f"/customers/CQ001/mailings/{single}"
    assert alice.submit(f"{here}/cancel").location == here


def test_passwords_that_were_not_mailed_are_mended_customer_by_customer(
    app: Flask, alice: CheckingClient, several: int, sink: SmtpSink, work: Callable[[], None]
) -> None:
    with app.app_context():
        refused = {web_id: first_of(several, web_id) for web_id in ("CQ002", "CQ003")}
        for delivery in refused.values():
            sink.refuse(delivery.email, 550, "No such mailbox")
        start(several)
    work()
    page = alice.page(f"{LIST}/{several}")
    assert "Finished with failures" in main(page)
    assert "550 No such mailbox" in main(page)
    links = {page.text(a): a.get("href") for a in page.all("a")}
    harborlight = links["Resend to 1 of Harborlight"]
    assert harborlight.startswith("/customers/CQ002/mailings/new?")
    assert f"user={refused['CQ002'].user_id}" in harborlight
    again = alice.page(links["Resend to 1 of Ostrava"])
    assert "1 user will get it" in main(again)


def test_an_auditor_reads_and_is_offered_nothing(
    app: Flask, sign_in_as: SignInAs, several: int
) -> None:
    auditor = sign_in_as(AUDITOR)
    assert "Pause" not in main(auditor.page(f"{LIST}/{several}"))
    for verb in ("pause", "resume", "cancel", "retry"):
        assert auditor.submit(f"{LIST}/{several}/{verb}").status_code == 403
    assert auditor.submit(f"{LIST}/{several}/export").status_code == 200
    assert row(app, several).state is MailingState.RUNNING


def test_a_customers_administrator_sees_nothing_of_a_mailing_with_others(
    sign_in_as: SignInAs, app: Flask, several: int
) -> None:
    admin = sign_in_as(OTHER_ADMIN)
    assert admin.get(f"{LIST}/{several}").status_code == 403
    assert admin.get(f"/customers/CQ002/mailings/{several}").status_code == 404
    with app.app_context():
        user = db.session.scalars(
            sa.select(Delivery.user_id)
            .where(Delivery.mailing_id == several)
            .order_by(Delivery.id)
            .limit(1)
        ).one()
    page = admin.page(f"/customers/CQ002/users/{user}")
    assert "Welcome" in main(page)
    assert not [a for a in page.all("a") if f"mailings/{several}" in a.get("href", "")]
    assert "Ostrava" not in page.source
    staff = sign_in_as(OPERATOR).page(f"/customers/CQ002/users/{user}")
    assert [a for a in staff.all("a") if a.get("href") == f"{LIST}/{several}"]


def test_a_mailing_from_a_terminal_names_the_account_there(
    app: Flask, alice: CheckingClient
) -> None:
    with app.app_context():
        actor = Actor(user_id=None, login="terminal:root", role=Role.LANDLORD, all_groups=True)
        mailing = run(actor, SEVERAL, CommandSource.TERMINAL)
    assert rows(alice.page(LIST))[0][8] == "terminal:root"
    assert "by terminal:root with a command" in main(alice.page(f"{LIST}/{mailing}"))


# --- Mails that came back ----------------------------------------------------------------------


def test_a_mail_that_came_back_is_counted_shown_and_filtered(
    app: Flask, alice: CheckingClient, several: int, sink: SmtpSink, work: Callable[[], None]
) -> None:
    with app.app_context():
        start(several)
    work()
    reason = "550 5.1.1 <b>user unknown</b>"
    address = bounce(app, several, reason)
    page = alice.page(f"{LIST}/{several}")
    words = main(page)
    assert "Finished with failures" in words
    assert "Finished. 49 of 50 sent, 1 bounced." in words
    assert page.one("strong", id="count-bounced").text == "1"
    assert page.one("progress").get("value") == "50"
    (only,) = rows(alice.fragment(f"{LIST}/{several}?state=bounced"))
    assert address in only
    assert "Bounced" in only
    (words,) = [each for each in only if each.startswith(reason)]
    assert "Came back 5 minutes ago" in words
    assert words.endswith("Application password changed, not mailed")
    assert "<b>user" not in page.source
    assert rows(alice.page(LIST))[0][5] == "1"


def test_the_download_says_when_and_why_a_mail_came_back_and_whose_user_it_is(
    app: Flask, alice: CheckingClient, several: int, sink: SmtpSink, work: Callable[[], None]
) -> None:
    with app.app_context():
        start(several)
    work()
    address = bounce(app, several, "=cmd|' /C calc'!A0")
    response = alice.submit(f"{LIST}/{several}/export")
    found = list(csv.DictReader(io.StringIO(response.text.removeprefix("\ufeff"))))
    assert len(found) == 50
    assert {each["Customer"] for each in found} == {"CQ002", "CQ003"}
    (bounced,) = [each for each in found if each["Bounced at (UTC)"]]
    assert (bounced["E-mail"], bounced["State"]) == (address, "bounced")
    assert bounced["Bounce reason"].startswith("'=cmd")


def test_polling_and_lists_read_counters_alone(
    app: Flask, alice: CheckingClient, several: int
) -> None:
    read: list[Any] = []
    with app.app_context():
        engine = db.engine
    sa.event.listen(engine, "before_cursor_execute", lambda *args: read.append(args[2]))
    for path in (LIST, f"{LIST}/{several}/progress"):
        assert alice.get(path, headers=HTMX).status_code == 200
    assert read
    assert not [each for each in read if "deliveries" in each]
