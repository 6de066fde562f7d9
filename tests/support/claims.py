"""Claims in tests: what a worker does between the line and its results, step by step."""

from __future__ import annotations

from datetime import timedelta

import sqlalchemy as sa

from extensions import db
from models import Delivery, DeliveryClaim, Mailing, utcnow
from models.mailings import COUNTERS
from services import claim_recovery, delivery_claims
from services.delivery_claims import Claim
from services.delivery_results import Outcome, Result, record_results


def claim(mailing_id: int, limit: int = 50) -> Claim | None:
    """What a worker would take now."""
    db.session.rollback()
    with db.engine.connect() as connection:
        job = delivery_claims.find_mailing_job(connection, mailing_id)
    assert job is not None
    return delivery_claims.claim_deliveries(job, limit, "foyer.example")


def must_claim(mailing_id: int, limit: int = 50) -> Claim:
    held = claim(mailing_id, limit)
    assert held is not None, "nothing is due"
    return held


def end_with(held: Claim, outcome: Outcome, **values: object) -> bool:
    """Record the same outcome for all of a claim; the result of `record_results`."""
    results = [Result(each, outcome, **values) for each in held.deliveries]  # type: ignore[arg-type]
    return record_results(held, results)


def expire(held: Claim) -> int:
    """Its worker is gone, and the sweep notices."""
    db.session.execute(
        sa.update(DeliveryClaim)
        .where(DeliveryClaim.token == held.token)
        .values(expires_at=utcnow() - timedelta(seconds=1))
    )
    db.session.commit()
    return claim_recovery.expire_claims()


def fresh_mailing(mailing_id: int) -> Mailing:
    db.session.rollback()
    return db.session.get_one(Mailing, mailing_id, populate_existing=True)


def rows_of(mailing_id: int) -> list[Delivery]:
    db.session.rollback()
    return list(
        db.session.scalars(
            sa.select(Delivery)
            .where(Delivery.mailing_id == mailing_id)
            .order_by(Delivery.id)
            .execution_options(populate_existing=True)
        )
    )


def counters(mailing_id: int) -> dict[str, int]:
    """The counters that are not zero."""
    found = fresh_mailing(mailing_id)
    return {name: getattr(found, name) for name in COUNTERS if getattr(found, name)}
