"""The Customer section of the API."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import sqlalchemy as sa
from flask import Flask

from extensions import db
from models import Delivery, DeliveryState, Mailing, Role, User, UserStatus
from tests.support.api import CQ001, Caller
from tests.support.factories import find_customer
from tests.support.smtp_sink import SmtpSink

SEND = f"{CQ001}/send-welcome-email"


def test_a_customer_is_shown(api: Caller) -> None:
    response = api.get(CQ001)

    assert response.status_code == 200
    body = response.get_json()
    assert (body["custno"], body["groupno"], body["web_id"]) == (1001, 1, "CQ001")
    assert body["upn_suffix"] == "kenton-electronics.com"
    assert response.headers["ETag"] == f'"{body["version"]}"'
    assert body["created_at"].endswith("Z")


@pytest.mark.parametrize("base", ["/tiab/api/v1", "/api/v1"])
@pytest.mark.parametrize(
    "sent",
    [
        {"json": {}},
        {},
        {"data": b"", "headers": {"Content-Type": "application/json"}},
    ],
    ids=["empty object", "no body", "empty body"],
)
def test_the_welcome_mail_goes_to_the_administrators(
    app: Flask, api: Caller, sink: SmtpSink, work: Callable[[], None], base: str, sent: dict
) -> None:
    response = api.post(base + SEND, **sent)

    assert (response.status_code, response.data) == (204, b"")
    work()
    with app.app_context():
        customer = find_customer("CQ001")
        mailing = db.session.scalars(sa.select(Mailing)).one()
        assert mailing.author == "API credential demo-api"
        admins = db.session.scalars(
            sa.select(User).where(User.customer_id == customer.id, User.role == Role.CUSTOMER_ADMIN)
        ).all()
        deliveries = db.session.scalars(sa.select(Delivery)).all()
        assert [each.user_id for each in deliveries] == [each.id for each in admins]
        assert {each.state for each in deliveries} == {DeliveryState.SENT}


def test_it_is_sent_again_to_who_was_mailed_a_moment_ago(
    api: Caller, sink: SmtpSink, work: Callable[[], None]
) -> None:
    for _ in range(2):
        assert api.post(SEND).status_code == 204
        work()
    assert len(sink.mails_to("admin@kenton-electronics.com")) == 2


def test_nobody_to_mail_is_said(app: Flask, api: Caller) -> None:
    with app.app_context():
        db.session.execute(
            sa.update(User)
            .where(User.role == Role.CUSTOMER_ADMIN)
            .values(status=UserStatus.SUSPENDED)
        )
        db.session.commit()

    response = api.post(SEND)

    assert response.status_code == 409
    assert response.mimetype == "application/problem+json"
    assert "no administrator who can be mailed" in response.get_json()["detail"]
    with app.app_context():
        assert db.session.scalar(sa.select(sa.func.count(Mailing.id))) == 0
