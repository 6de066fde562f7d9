"""Welcome mails with the files of the customer's setup instructions, as they arrive."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import sqlalchemy as sa
from flask import Flask
from sqlalchemy import event

from extensions import db
from models import Delivery, DeliveryState, EmailTemplate
from services import mailing_confirmations, setup_instructions, welcome_mails
from services.deliveries import AttachmentsKept, deliver_mailing, list_waiting_mailings
from services.email_templates import get_current_version
from tests.engine.test_deliveries import confirm, signs_in, users_of
from tests.support.attachments import PDF, PNG, make_attachment
from tests.support.factories import actor_for, find_customer, make_template
from tests.support.promises import passwords_in
from tests.support.smtp_sink import SinkMail, SmtpSink, Stage

ADMIN = "prpkeAdmin@kenton-electronics.com"


def files_of(mail: SinkMail) -> list[tuple[str | None, bytes]]:
    return [(part.get_filename(), part.get_content()) for part in mail.message.iter_attachments()]


def delivery_of(mailing_id: int) -> Delivery:
    db.session.expire_all()
    query = sa.select(Delivery).where(Delivery.mailing_id == mailing_id)
    return db.session.scalars(query).one()


def attach_two() -> list[tuple[str, bytes]]:
    customer = find_customer("CQ001")
    for name, content in (("Zoë’s steps.pdf", PDF), ("b.png", PNG * 2000)):
        make_attachment(customer, name, content)
    return [("Zoë’s steps.pdf", PDF), ("b.png", PNG * 2000)]


def test_every_welcome_mail_carries_the_files_in_their_order(
    app_context: Flask, sink: SmtpSink, work: Callable[[], None]
) -> None:
    files = attach_two()
    users = users_of("CQ001", 3)
    mailing_id = confirm(users)
    work()
    db.session.expire_all()
    assert len(sink.mails) == 3
    for user in users:
        (mail,) = sink.mails_to(user.email)
        assert files_of(mail) == files
        portal, application = passwords_in(mail)
        assert signs_in(user.login, portal)
        assert application in mail.html
    states = sa.select(Delivery.state).where(Delivery.mailing_id == mailing_id).distinct()
    assert db.session.scalars(states).all() == [DeliveryState.SENT]


def test_a_welcome_mail_that_another_system_asks_for_carries_them(
    app_context: Flask, sink: SmtpSink
) -> None:
    files = attach_two()
    customer = find_customer("CQ001")
    landlord = actor_for("landlord@foyer.example")
    welcome_mails.resend_to_administrators(landlord, customer.group.groupno, customer.custno)
    assert welcome_mails.begin_accepted() == 1
    for waiting, _, _ in list_waiting_mailings():
        deliver_mailing(waiting)
    assert [files_of(mail) for mail in sink.mails] == [files]


def test_other_mails_and_other_customers_go_without(
    app_context: Flask, sink: SmtpSink, work: Callable[[], None]
) -> None:
    make_attachment(find_customer("CQ002"))
    confirm(users_of("CQ001", 1))
    work()
    assert sink.mails[0].message.get_content_type() == "multipart/alternative"
    attach_two()
    news: EmailTemplate = make_template(find_customer("CQ001"))
    mailing_confirmations.confirm_mailing(
        actor_for(ADMIN),
        find_customer("CQ001"),
        get_current_version(news).id,
        [user.id for user in users_of("CQ001", 1)],
        include_recent=True,
        confirmation="a" * 20,
    )
    for waiting, _, _ in list_waiting_mailings():
        deliver_mailing(waiting)
    assert len(sink.mails) == 2
    assert sink.mails[1].message.get_content_type() == "multipart/alternative"


@pytest.mark.parametrize("settings_changes", [{"DELIVERY_RETRY_DELAYS": "0,0"}])
def test_a_repeat_is_the_same_message(
    app_context: Flask, sink: SmtpSink, work: Callable[[], None]
) -> None:
    files = attach_two()
    (user,) = users_of("CQ001", 1)
    sink.close(Stage.END, accept=True, times=1)
    mailing_id = confirm([user])
    work()
    assert delivery_of(mailing_id).state is DeliveryState.SENT
    first, second = sink.mails_to(user.email)
    assert first.data == second.data
    assert files_of(second) == files
    assert signs_in(user.login, passwords_in(first)[0])


def test_a_mail_larger_than_the_server_takes_says_so_and_the_line_stays_open(
    app_context: Flask, sink: SmtpSink, work: Callable[[], None]
) -> None:
    sink.largest = 100_000
    attach_two()
    (user,) = users_of("CQ001", 1)
    mailing_id = confirm([user])
    work()
    delivery = delivery_of(mailing_id)
    assert delivery.state is DeliveryState.FAILED
    assert "0.7 MB" in delivery.answer
    assert "takes 0.1 MB at most" in delivery.answer
    assert "Remove files" in delivery.answer
    assert signs_in(user.login, "foyer-demo-1")
    customer = find_customer("CQ001")
    for file in setup_instructions.list_files(customer):
        setup_instructions.remove_file(actor_for(ADMIN), customer, file.id)
    confirm([user])
    work()
    assert len(sink.mails) == 1


def test_a_server_that_refuses_the_size_without_a_limit_is_told_with_its_words(
    app_context: Flask, sink: SmtpSink, work: Callable[[], None]
) -> None:
    attach_two()
    sink.answer(Stage.END, 552, "5.3.4 " + "Too big for us. " * 60, times=1)
    mailing_id = confirm(users_of("CQ001", 1))
    work()
    delivery = delivery_of(mailing_id)
    assert delivery.state is DeliveryState.FAILED
    assert delivery.answer_code == 552
    assert "0.7 MB" in delivery.answer
    assert "Too big for us" in delivery.answer


def test_the_size_that_is_announced_is_that_of_the_whole_mail(
    app_context: Flask, sink: SmtpSink, work: Callable[[], None]
) -> None:
    attach_two()
    confirm(users_of("CQ001", 1))
    work()
    (command,) = [each for each in sink.commands if each.startswith("MAIL")]
    assert f"SIZE={len(sink.mails[0].data)}" in command


def test_files_are_loaded_once_for_all_users_of_a_customer(
    app_context: Flask, sink: SmtpSink, work: Callable[[], None]
) -> None:
    attach_two()
    loads = []

    def note(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        if "attachments.content" in statement:
            loads.append(statement)

    confirm(users_of("CQ001", 12))
    event.listen(db.engine, "before_cursor_execute", note)
    try:
        work()
    finally:
        event.remove(db.engine, "before_cursor_execute", note)
    assert len(sink.mails) == 12
    assert len(loads) == 1


def test_what_is_kept_of_files_is_bounded(app_context: Flask) -> None:
    first, second = find_customer("CQ001"), find_customer("CQ002")
    for customer in (first, second):
        make_attachment(customer, "a.png", PNG * 40)
    kept = AttachmentsKept(most=20_000)
    wire = kept.of(first.id, first.attachments_version)
    assert kept.of(first.id, first.attachments_version) is wire
    kept.of(second.id, second.attachments_version)
    assert kept.of(first.id, first.attachments_version) is not wire
    make_attachment(first, "b.png", PNG)
    assert len(kept.of(first.id, first.attachments_version)) > len(wire)


def test_files_that_were_removed_since_the_claim_are_not_missed(app_context: Flask) -> None:
    customer = find_customer("CQ001")
    assert AttachmentsKept().of(customer.id, 7) == b""
