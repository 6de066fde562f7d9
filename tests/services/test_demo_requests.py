"""The demonstration's requests: every state that lasts, made once, and nobody is mailed."""

from __future__ import annotations

import sqlalchemy as sa
from flask import Flask

from extensions import db
from models import (
    Customer,
    CustomerStatus,
    RequestCount,
    RequestNotification,
    RequestState,
    SubscriptionRequest,
)
from services import demo_requests, sign_ins
from services.demo_data import PASSWORD

LASTING = set(RequestState) - {
    RequestState.SUBMITTED,
    RequestState.PROVISIONING,
    RequestState.ROLLING_BACK,
}


def test_there_is_a_request_in_each_state_that_lasts_and_no_mail(app_context: Flask) -> None:
    demo_requests.load_demo_requests()
    demo_requests.load_demo_requests()
    states = list(db.session.scalars(sa.select(SubscriptionRequest.state)))
    assert all(states.count(state) >= 2 for state in LASTING - {RequestState.DRAFT})
    assert set(states) == LASTING
    assert len(states) == len(demo_requests.REQUESTS) + 1
    assert db.session.scalar(sa.select(sa.func.count(RequestNotification.id))) == 0
    counted = db.session.execute(
        sa.select(RequestCount.state, sa.func.sum(RequestCount.requests)).group_by(
            RequestCount.state
        )
    )
    shown = {state: number for state, number in counted if number}
    assert shown == {
        state: states.count(state) for state in LASTING if state is not RequestState.DRAFT
    }


def test_the_completed_one_is_a_customer_whose_administrator_signs_in(app_context: Flask) -> None:
    demo_requests.load_demo_requests()
    user, _ = sign_ins.sign_in("prpsbAdmin@seabright.example", PASSWORD)
    assert user.customer is not None
    assert user.customer.name == "Seabright"
    tessera = db.session.scalars(sa.select(Customer).where(Customer.name == "Tessera")).one()
    assert tessera.status is CustomerStatus.CREATING
