"""What becomes of a deleted customer: everything personal is gone, whenever the worker dies."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from connectors import ConnectorUnavailable
from extensions import db
from models import (
    AccountScheme,
    AuditEvent,
    Customer,
    CustomerBundle,
    CustomerStatus,
    Delivery,
    DeliveryState,
    DirectDebit,
    GeneralParameters,
    ImportRowState,
    LocalPlatformAccount,
    LocalPlatformTenant,
    Mailing,
    MailingState,
    PermissionProfile,
    RequestState,
    Role,
    SelectedUser,
    SignInSession,
    SkipReason,
    SubscriptionRequest,
    User,
    UserImport,
    UserImportPiece,
    UserImportRow,
    UserStatus,
    utcnow,
)
from models.base import Base
from services import (
    customer_follow_ups,
    customer_states,
    direct_debits,
    mailing_controls,
    platform_calls,
    sign_ins,
)
from services.errors import InvalidInput
from services.provisioning_steps import StepFault
from services.transactions import run_transaction
from tests.support.factories import (
    actor_for,
    find_customer,
    find_user,
    make_bundle,
    make_customer,
    make_user,
    make_welcome,
    save,
)
from tests.support.promises import start_welcome

LANDLORD = "landlord@foyer.example"
PASSWORD = "violet-anchor-42-piano"
KEPT = {
    # What people did stays on record under the ids of who did it.
    ("audit_events", "actor_id"),
    ("audit_events", "behalf_id"),
    ("audit_events", "customer_id"),
    ("mailings", "customer_id"),
    ("mailing_customers", "customer_id"),
    ("deliveries", "user_id"),
    ("subscription_requests", "customer_id"),
    ("sign_in_sessions", "behalf_id"),
    ("selected_users", "customer_id"),
    ("user_imports", "behalf_id"),
    ("attachments", "created_by_id"),
    ("users", "customer_id"),
    ("welcomes", "user_id"),  # The database has its name go with the user's.
    # Of the provider's staff and of prospects.
    ("staff_invitations", "user_id"),
    ("user_groups", "user_id"),
}


def make_closing(**changes: Any) -> Customer:
    """A customer whose grace period is over, with what a customer has."""
    return make_customer(
        group_id=find_customer("CQ001").group_id,
        contact_name="Beate Bergmann",
        contact_email="beate@quixotic.example",
        street="Quixotic Street 1",
        platform_reference="",
        **changes,
    )


def close(customer: Customer) -> None:
    customer_states.delete_customer(
        actor_for(LANDLORD), customer, typed_web_id=customer.web_id, reason="about Beate"
    )
    customer.delete_after = utcnow() - timedelta(seconds=1)
    db.session.commit()


def finish(customer: Customer) -> None:
    """Follow up until nothing is due."""
    assert customer_follow_ups.begin_due_deletions() == 1
    for _ in range(100):
        make_due(customer)
        if not customer_follow_ups.follow_up(customer.id):
            break
    db.session.expire_all()


def make_due(customer: Customer) -> None:
    """As time does."""
    db.session.execute(
        sa.update(Customer)
        .where(Customer.id == customer.id, Customer.follow_up_at.is_not(None))
        .values(follow_up_at=utcnow() - timedelta(seconds=1))
    )
    db.session.commit()


def users_of(customer: Customer) -> list[User]:
    return list(
        db.session.scalars(sa.select(User).where(User.customer_id == customer.id).order_by(User.id))
    )


def everything() -> str:
    """All rows but those of the audit trail, which keeps what was done."""
    with db.engine.connect() as connection:
        return json.dumps(
            [
                [table.name, *map(str, row)]
                for table in Base.metadata.sorted_tables
                if table.name != "audit_events"
                for row in connection.execute(sa.select(table))
            ]
        )


def test_nothing_personal_of_a_deleted_customer_is_left(app_context: Flask) -> None:
    customer = make_closing()
    web_id, numbers = customer.web_id, (customer.custno, customer.upn_suffix)
    bundle = make_bundle(customer)
    welcome = make_welcome(customer)
    users = [
        make_user(
            customer,
            first_name="Quixotica",
            last_name=f"Verylongname{number}",
            bundle_id=bundle.id,
            password=PASSWORD,
            role=Role.CUSTOMER_ADMIN if not number else Role.USER,
        )
        for number in range(3)
    ]
    logins = [user.login for user in users]
    session = sign_ins.sign_in(logins[0], PASSWORD)
    save(GeneralParameters(customer_id=customer.id, draft={"mail": "box@quixotic.example"}))
    save(LocalPlatformAccount(user_id=users[1].id, password_hash="x"))
    direct_debits.set_direct_debit(
        actor_for(LANDLORD),
        customer,
        scheme=AccountScheme.IBAN,
        iban="DE89370400440532013000",
        holder="Quixotic Ltd",
        mandate="M-1",
        mandate_signed_on=date(2026, 11, 2),
    )
    upload = save(
        UserImport(
            customer_id=customer.id,
            actor_login="x",
            file_name="quixotic.csv",
            file_bytes=1,
            kind="csv",
            created_by_id=users[0].id,
        )
    )
    save(UserImportPiece(import_id=upload.id, position=1, content=b"Quixotica"))
    save(
        UserImportRow(
            import_id=upload.id, position=1, state=ImportRowState.ADDED, cells=["Quixotica"]
        )
    )
    profile = save(PermissionProfile(customer_id=customer.id, name="Quixotic", name_key="quixotic"))
    save(users[2]).profile_id = profile.id
    users[2].role = Role.SUPERVISOR
    request = save(
        SubscriptionRequest(
            state=RequestState.COMPLETED,
            created_by_id=find_user(LANDLORD).id,
            submitted_at=utcnow(),
            customer_id=customer.id,
            contact_email="beate@quixotic.example",
            draft={"contact": {"street": "Quixotic Street 1"}},
        )
    )
    close(customer)
    finish(customer)
    customer = find_customer(web_id)
    assert customer.status is CustomerStatus.DELETED
    assert (customer.custno, customer.name) == (numbers[0], web_id)
    assert customer.follow_up_at is None
    for user in users_of(customer):
        assert user.status is UserStatus.DELETED
        assert (user.full_name, user.email, user.password_hash) == (user.login, "", None)
    left = everything().lower()
    for word in ("quixotic", "beate", "verylongname", *logins, numbers[1], session.token):
        assert word.lower() not in left, word
    assert db.session.get_one(SubscriptionRequest, request.id).draft == {}
    assert not db.session.scalars(
        sa.select(CustomerBundle).where(CustomerBundle.customer_id == customer.id)
    ).all()
    assert welcome.id
    actions = db.session.scalars(
        sa.select(AuditEvent.action)
        .where(AuditEvent.customer_id == customer.id)
        .order_by(AuditEvent.id)
    ).all()
    assert actions[-2:] == ["customer.deleted", "customer.wiped"]


def test_its_web_id_stays_taken_and_its_names_and_logins_are_free(app_context: Flask) -> None:
    customer = make_closing(name="Bergmann", short_name="bm", upn_suffix="bergmann.example")
    user = make_user(customer, login="ann@bergmann.example")
    close(customer)
    finish(customer)
    again = make_customer(name="Bergmann", short_name="bm", upn_suffix="bergmann.example")
    assert make_user(again, login="ann@bergmann.example").id != user.id
    with pytest.raises(sa.exc.IntegrityError):
        make_customer(web_id=customer.web_id)
    db.session.rollback()
    with pytest.raises(InvalidInput):
        sign_ins.sign_in(f"DELETED.{user.id}", "")


def test_before_the_grace_period_is_over_nothing_is_wiped(app_context: Flask) -> None:
    customer = make_closing()
    user = make_user(customer)
    customer_states.delete_customer(
        actor_for(LANDLORD), customer, typed_web_id=customer.web_id, reason="x"
    )
    assert customer_follow_ups.begin_due_deletions() == 0
    while customer_follow_ups.follow_up(customer.id):
        pass
    db.session.expire_all()
    assert users_of(customer) == [user]
    assert (user.email, user.status) == (user.email_key, UserStatus.ACTIVE)
    assert customer.contact_name == "Beate Bergmann"


def test_the_tenant_is_removed_from_the_platform_however_often_it_fails(
    app_context: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    customer = make_closing(web_id="PLAT1")
    user = make_user(customer)
    save(
        LocalPlatformTenant(
            reference="PLAT1", name="x", upn_suffix=customer.upn_suffix, settings={}
        )
    )
    close(customer)
    assert customer_follow_ups.begin_due_deletions() == 1

    def down(call: Any) -> Any:
        raise StepFault("The platform is down.", transient=True)

    with monkeypatch.context() as patch:
        patch.setattr(customer_follow_ups, "ask_platform", down)
        for attempt in (1, 2, 3):
            make_due(customer)
            assert not customer_follow_ups.follow_up(customer.id)
            db.session.expire_all()
            assert (customer.follow_up_attempts, customer.follow_up_error) == (
                attempt,
                "The platform is down.",
            )
    assert customer.follow_up_at is not None
    assert customer.follow_up_at > utcnow()
    assert user.email == "", "who is to be forgotten does not wait for the platform"
    assert customer.name != "PLAT1", "the platform may ask for the name"
    make_due(customer)
    assert not customer_follow_ups.follow_up(customer.id)
    db.session.expire_all()
    assert customer.name == "PLAT1"
    assert db.session.get(LocalPlatformTenant, "PLAT1") is None


class Killed(BaseException):
    """As if the process were gone: nobody tidies up."""


@pytest.mark.parametrize("dies_at", range(1, 8))
def test_a_worker_that_dies_leaves_what_the_next_one_finishes(
    app_context: Flask, monkeypatch: pytest.MonkeyPatch, dies_at: int
) -> None:
    monkeypatch.setattr(customer_follow_ups, "CHUNK", 2)
    customer = make_closing()
    for _ in range(5):
        make_user(customer)
    close(customer)
    assert customer_follow_ups.begin_due_deletions() == 1
    count = 0
    run = run_transaction

    def dying(work: Callable[[sa.Connection], Any]) -> Any:
        nonlocal count
        count += 1
        if count == dies_at:
            raise Killed
        return run(work)

    with monkeypatch.context() as patch:
        patch.setattr(customer_follow_ups, "run_transaction", dying)
        with pytest.raises(Killed):
            customer_follow_ups.follow_up(customer.id)
    # Under the lease of the dead one nobody else works.
    if dies_at > 1:
        assert not customer_follow_ups.follow_up(customer.id)
    make_due(customer)
    while customer_follow_ups.follow_up(customer.id):
        make_due(customer)
    db.session.expire_all()
    assert customer.name == customer.web_id
    assert all(user.email == "" for user in users_of(customer))
    wiped = sa.select(sa.func.count()).where(
        AuditEvent.action == "customer.wiped", AuditEvent.customer_id == customer.id
    )
    assert db.session.scalar(wiped) == 1


def test_one_slice_is_bounded_and_goes_on_where_it_was_interrupted(
    app_context: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(customer_follow_ups, "CHUNK", 2)
    customer = make_closing()
    for _ in range(5):
        make_user(customer)
    close(customer)
    customer_follow_ups.begin_due_deletions()
    left = []
    while customer_follow_ups.follow_up(customer.id, lambda: True):
        db.session.expire_all()
        left.append(sum(user.email != "" for user in users_of(customer)))
    assert left == [3, 1, 0]
    db.session.expire_all()
    assert customer.name == customer.web_id


def test_uploads_are_deleted_in_pieces(app_context: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(customer_follow_ups, "_IMPORT_ROWS", 2)
    customer = make_closing()
    upload = save(
        UserImport(
            customer_id=customer.id, actor_login="x", file_name="x", file_bytes=1, kind="csv"
        )
    )
    for position in range(5):
        save(
            UserImportRow(
                import_id=upload.id, position=position, state=ImportRowState.ADDED, cells=[]
            )
        )
    close(customer)
    customer_follow_ups.begin_due_deletions()
    left = []
    while customer_follow_ups.follow_up(customer.id, lambda: True):
        left.append(db.session.scalar(sa.select(sa.func.count()).select_from(UserImportRow)))
    assert left == [3, 1, 0]
    assert db.session.scalar(sa.select(sa.func.count()).select_from(UserImport)) == 0


def test_staged_mails_end_with_their_seals_and_those_under_way_are_waited_for(
    app_context: Flask,
) -> None:
    customer = make_closing()
    make_welcome(customer)
    users = [make_user(customer) for _ in range(3)]
    mailing_id = start_welcome(actor_for(LANDLORD), customer.web_id, users, enqueue=False)
    mailing = db.session.get_one(Mailing, mailing_id)
    mailing_controls.pause_mailing(actor_for(LANDLORD), mailing)
    rows = db.session.scalars(
        sa.select(Delivery).where(Delivery.mailing_id == mailing_id).order_by(Delivery.user_id)
    ).all()
    rows[0].seal, rows[0].pending_hash = b"sealed", "hash"
    rows[1].state, rows[1].claim_token = DeliveryState.SENDING, "t"
    mailing.queued, mailing.sending = 2, 1
    close(customer)
    customer_follow_ups.begin_due_deletions()
    assert not customer_follow_ups.follow_up(customer.id)
    db.session.expire_all()
    assert "under way" in customer.follow_up_error
    assert (rows[0].state, rows[0].skip_reason) == (DeliveryState.SKIPPED, SkipReason.DELETED)
    kept = db.session.execute(
        sa.select(Delivery.seal, Delivery.pending_hash, Delivery.email).where(
            Delivery.id == rows[0].id
        )
    ).one()
    assert tuple(kept) == (None, None, "")
    assert (rows[1].state, rows[1].email) == (DeliveryState.SENDING, users[1].email)
    assert users[1].email
    assert (mailing.queued, mailing.skipped, mailing.state) == (0, 2, MailingState.PAUSED)
    rows[1].state, rows[1].claim_token, rows[1].sent_at = DeliveryState.SENT, None, utcnow()
    mailing.sending, mailing.sent = 0, 1
    db.session.commit()
    make_due(customer)
    assert not customer_follow_ups.follow_up(customer.id)
    db.session.expire_all()
    assert (rows[1].email, users[1].email) == ("", "")
    assert customer.name == customer.web_id


def test_a_change_meanwhile_has_the_platform_told_once_more(
    app_context: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    customer = make_closing()
    customer.platform_reference = "x"
    db.session.commit()
    actor = actor_for(LANDLORD)
    customer_states.suspend_customer(actor, customer, reason="x")
    told: list[CustomerStatus | None] = []

    def slow(call: Any) -> None:
        status = db.session.scalar(sa.select(Customer.status).where(Customer.id == customer.id))
        db.session.commit()
        told.append(status)
        if len(told) == 1:
            customer_states.resume_customer(actor, customer, reason="x")
            assert not customer_follow_ups.follow_up(customer.id), "another worker was faster"

    monkeypatch.setattr(customer_follow_ups, "ask_platform", slow)
    assert customer_follow_ups.follow_up(customer.id)
    assert not customer_follow_ups.follow_up(customer.id)
    assert told == [CustomerStatus.SUSPENDED, CustomerStatus.ACTIVE, CustomerStatus.ACTIVE]
    db.session.refresh(customer)
    assert customer.follow_up_at is None


def test_a_hanging_or_down_platform_is_tried_again_later_each_time(
    app_context: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    customer = make_closing()
    customer.platform_reference = "x"
    db.session.commit()

    class Down:
        def suspend_tenant(self, tenant: Any) -> None:
            raise ConnectorUnavailable("It answers nobody.")

    monkeypatch.setattr(
        customer_follow_ups,
        "ask_platform",
        lambda call: platform_calls.ask_platform(call, lambda name: Down()),  # type: ignore[arg-type, return-value]
    )
    customer_states.suspend_customer(actor_for(LANDLORD), customer, reason="x")
    for seconds in (5, 15, 60, 300, 900, 3600, 3600):
        make_due(customer)
        before = utcnow()
        customer_follow_ups.follow_up(customer.id)
        db.session.refresh(customer)
        assert customer.follow_up_at is not None
        wait = timedelta(seconds=seconds)
        assert before + wait <= customer.follow_up_at <= utcnow() + wait
    assert customer.follow_up_error == "It answers nobody."
    assert customer_follow_ups.list_due() == []


def test_every_table_that_refers_to_users_or_customers_is_thought_of(app_context: Flask) -> None:
    """A new table either goes with its user or customer, or is said here to stay."""
    handled = {(model.__tablename__, column) for model, column in customer_follow_ups.OF_USERS}
    handled |= {(model.__tablename__, "customer_id") for model in customer_follow_ups.OF_CUSTOMERS}
    refers = {
        (table.name, key.parent.name)
        for table in Base.metadata.sorted_tables
        for key in table.foreign_keys
        if key.column.table.name in {"users", "customers"}
    }
    done_by = {each for each in refers if each[1].endswith("_by_id") or each[1] == "actor_id"}
    assert refers - done_by - handled - KEPT == set()


def test_a_name_goes_from_the_users_welcome_too(app_context: Flask) -> None:
    customer = make_closing()
    user = make_user(customer, first_name="Ada", last_name="Lovelace")
    assert user.welcome.name_key == "ada lovelace"
    close(customer)
    finish(customer)
    db.session.expire_all()
    assert db.session.get_one(User, user.id).welcome.name_key == ""


def test_other_customers_keep_everything(app_context: Flask) -> None:
    other = make_customer()
    user = make_user(other, password=PASSWORD)
    bundle = make_bundle(other)
    token = sign_ins.sign_in(user.login, PASSWORD).token
    session = sign_ins.find_session(token)
    assert session is not None
    save(SelectedUser(session_id=session.id, customer_id=other.id, user_id=user.id))
    customer = make_closing()
    make_user(customer)
    close(customer)
    finish(customer)
    assert sign_ins.find_session(token) is not None
    assert db.session.get(CustomerBundle, (other.id, bundle.id)) is not None
    assert db.session.scalar(sa.select(sa.func.count()).select_from(SelectedUser)) == 1
    assert db.session.get_one(User, user.id).email == user.email_key
    assert db.session.scalar(sa.select(sa.func.count()).select_from(DirectDebit)) is not None
    assert db.session.scalar(sa.select(sa.func.count()).select_from(SignInSession)) == 1
