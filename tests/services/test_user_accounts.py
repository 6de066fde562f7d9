"""User accounts: who may change them, what follows for sessions and links, what is audited."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from extensions import db
from models import (
    ApiCredential,
    ApiScope,
    AuditEvent,
    Customer,
    CustomerBundle,
    Delivery,
    EmailTemplateText,
    Mailing,
    ResetLink,
    Role,
    SignInSession,
    User,
    UserStatus,
)
from services import customer_locks, reset_links, sign_ins, user_accounts, user_states
from services.actors import SYSTEM, Actor
from services.errors import (
    Conflict,
    Forbidden,
    InvalidInput,
    InvalidInputs,
    NotFound,
    ServiceError,
    Stale,
)
from services.user_accounts import UserChanges
from services.user_rules import NewUser
from services.users import UserFilter, list_users
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

ADMIN = "prpkeAdmin@kenton-electronics.com"
ENTRY = "Entry3PhoneNextGenBundle"
PASSWORD = "a-password-of-a-test"


@pytest.fixture(autouse=True)
def kenton(app_context: Flask) -> Customer:
    return find_customer("CQ001")


def new(**changes: Any) -> NewUser:
    return NewUser(**{"user_name": "ada", "last_name": "Lovelace", "bundle": ENTRY, **changes})


def operator() -> Actor:
    return actor_for("operator@foyer.example")


def add(customer: Customer, **changes: Any) -> User:
    return user_accounts.add_user(operator(), customer, new(**changes))[0]


def change(customer: Customer, user: User, **changes: Any) -> User:
    return user_accounts.update_user(operator(), customer, user.id, UserChanges(**changes))


def events() -> list[tuple[str, dict[str, Any]]]:
    rows = db.session.scalars(
        sa.select(AuditEvent)
        .where(AuditEvent.object_type == "user", AuditEvent.action.like("user.%"))
        .order_by(AuditEvent.id)
    )
    return [(row.action, row.detail) for row in rows]


# --- Who may -------------------------------------------------------------------------------------


def test_staff_and_the_customers_administrators_may(kenton: Customer) -> None:
    for number, login in enumerate(("landlord@foyer.example", "operator@foyer.example", ADMIN)):
        actor = actor_for(login)
        user, _ = user_accounts.add_user(actor, kenton, new(user_name=f"ada{number}"))
        user_accounts.update_user(actor, kenton, user.id, UserChanges(first_name="Ada"))
        user_states.suspend_user(actor, kenton, user.id)
        user_states.resume_user(actor, kenton, user.id)


def test_others_may_not(kenton: Customer) -> None:
    actors = [
        actor_for("auditor@foyer.example"),
        SYSTEM,
        *(Actor.from_user(make_user(kenton, role=role)) for role in (Role.USER, Role.SUPERVISOR)),
    ]
    user = make_user(kenton)
    for actor in actors:
        for attempt in (
            lambda: user_accounts.add_user(actor, kenton, new()),  # noqa: B023
            lambda: user_accounts.add_users(actor, kenton, [new()]),  # noqa: B023
            lambda: user_accounts.update_user(actor, kenton, user.id, UserChanges()),  # noqa: B023
            lambda: user_states.suspend_user(actor, kenton, user.id),  # noqa: B023
            lambda: user_states.resume_user(actor, kenton, user.id),  # noqa: B023
        ):
            with pytest.raises(Forbidden):
                attempt()


def test_who_may_not_mail_learns_nothing_of_the_welcome(kenton: Customer) -> None:
    """Not even that the customer has none."""
    bare = make_customer()
    row = save(ApiCredential(name="crm", may_write=True, secret_hash="x"))
    writer = Actor.from_credential(row.id, "crm", [ApiScope.WRITE], all_groups=True)
    for customer, bundle in ((kenton, ENTRY), (bare, "")):
        with pytest.raises(Forbidden):
            user_accounts.add_user(
                writer,
                customer,
                new(email="a@x.example", bundle=bundle),
                send_welcome_mail=True,
            )
        user_accounts.add_user(writer, customer, new(bundle=bundle))


# --- Adding --------------------------------------------------------------------------------------


def test_a_new_user_has_no_password_and_the_customers_language() -> None:
    ostrava = find_customer("CQ003")
    user = add(ostrava, first_name="  Åsa ", last_name="Großmann  Lund")
    assert user.login == "ada@ostrava.example"
    assert (user.password_hash, user.must_change_password, user.language) == (None, False, "de")
    assert (user.first_name, user.last_name) == ("Åsa", "Großmann Lund")
    assert (user.name_key, user.surname_key) == ("åsa grossmann lund", "grossmann lund")


def test_an_international_suffix_is_typed_as_it_is_shown(app_context: Flask) -> None:
    customer = make_customer(upn_suffix="xn--bcher-kva.example")
    for number, suffix in enumerate(("bücher.example", "BÜCHER.example", "xn--bcher-kva.example")):
        user = add(customer, user_name="", login=f"ada{number}@{suffix}", bundle="")
        assert user.login == f"ada{number}@xn--bcher-kva.example"
    with pytest.raises(InvalidInputs, match=r"@bücher\.example"):
        add(customer, user_name="", login="ada@bucher.example", bundle="")


def test_only_a_customer_without_bundles_has_users_without_one(kenton: Customer) -> None:
    bare = make_customer()
    assert add(bare, bundle="").bundle is None
    with pytest.raises(InvalidInputs, match="has none at all"):
        add(bare, user_name="b", bundle=ENTRY)
    make_bundle(bare, name="OnlyOne")
    with pytest.raises(InvalidInputs, match="It has OnlyOne"):
        add(bare, user_name="bb", bundle="")
    assert add(kenton, bundle="", role=Role.CUSTOMER_ADMIN).bundle is None


def test_every_added_user_is_audited(kenton: Customer) -> None:
    added = user_accounts.add_users(
        operator(), kenton, [new(), new(user_name="bea", email="bea@x.example")]
    )
    assert events() == [
        (
            "user.added",
            {
                "login": f"{name}@kenton-electronics.com",
                "first_name": "",
                "last_name": "Lovelace",
                "email": email,
                "extension": "",
                "language": "en",
                "bundle": ENTRY,
                "role": "user",
                "profile": "",
            },
        )
        for name, email in (("ada", ""), ("bea", "bea@x.example"))
    ]
    ids = db.session.scalars(
        sa.select(AuditEvent.object_id)
        .where(AuditEvent.action == "user.added")
        .order_by(AuditEvent.id)
    ).all()
    assert ids == [each.id for each in added.users]


def test_users_and_their_welcome_mail_are_there_together_or_not_at_all(kenton: Customer) -> None:
    user, mailing = user_accounts.add_user(
        operator(), kenton, new(email="ada@x.example"), send_welcome_mail=True
    )
    assert mailing is not None
    (delivery,) = db.session.scalars(sa.select(Delivery))
    assert (delivery.user_id, delivery.mailing_id) == (user.id, mailing.id)
    template = make_welcome(kenton)
    db.session.execute(
        sa.update(EmailTemplateText)
        .where(
            EmailTemplateText.language == "de",
            EmailTemplateText.version_id.in_(
                sa.text("SELECT id FROM email_template_versions WHERE template_id = :t").bindparams(
                    t=template.id
                )
            ),
        )
        .values(text="Nothing secret", html="<p>Nothing secret</p>")
    )
    db.session.commit()
    with pytest.raises(Conflict, match="different passwords"):
        user_accounts.add_user(
            operator(), kenton, new(user_name="bea", email="b@x.example"), send_welcome_mail=True
        )
    assert db.session.scalar(sa.select(User.id).where(User.email_key == "b@x.example")) is None
    assert db.session.scalar(sa.select(sa.func.count(Mailing.id))) == 1


def test_a_role_of_staff_cannot_be_given(kenton: Customer) -> None:
    user = add(kenton)
    for role in set(Role) - {Role.USER, Role.SUPERVISOR, Role.CUSTOMER_ADMIN}:
        with pytest.raises(InvalidInputs, match="role"):
            add(kenton, user_name="bea", role=role)
        with pytest.raises(InvalidInputs, match="role"):
            change(kenton, user, role=role)


def test_more_than_a_thousand_or_none_are_refused(kenton: Customer) -> None:
    for rows in ([], [new()] * 1001):
        with pytest.raises(InvalidInput, match="Give 1 to 1,000"):
            user_accounts.add_users(operator(), kenton, rows)


def test_a_bundle_that_was_taken_away_at_that_moment_adds_nobody(
    kenton: Customer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look at the bundles and the insert: the constraint holds, and it is told."""
    bundle = make_bundle(kenton)
    lock = customer_locks.lock_customer

    def take_away(customer: Customer) -> None:
        lock(customer)
        db.session.execute(sa.delete(CustomerBundle).where(CustomerBundle.bundle_id == bundle.id))

    monkeypatch.setattr(customer_locks, "lock_customer", take_away)
    with pytest.raises(Conflict, match="at the same moment"):
        add(kenton, bundle=bundle.name)
    assert events() == []


# --- Changing ------------------------------------------------------------------------------------


def test_a_change_is_audited_before_and_after(kenton: Customer) -> None:
    user = add(kenton, email="Ada@x.example")
    changed = change(kenton, user, email="new@x.example", bundle="Stand4PhoneNextGenBundle")
    assert changed.bundle is not None
    assert changed.bundle.name == "Stand4PhoneNextGenBundle"
    assert (changed.email_key, changed.version) == ("new@x.example", 2)
    assert events()[1:] == [
        (
            "user.changed",
            {
                "before": {"email": "Ada@x.example", "bundle": ENTRY},
                "after": {"email": "new@x.example", "bundle": "Stand4PhoneNextGenBundle"},
            },
        )
    ]


def test_what_is_not_given_is_not_judged(kenton: Customer) -> None:
    """Users of other ways in may lack what is asked of new ones."""
    user = make_user(kenton, last_name="", extension="ext 7")
    assert user.bundle_id is None
    changed = change(kenton, user, first_name="Given Anew")
    assert (changed.name_key, changed.surname_key) == ("given anew", "")


def test_a_change_that_changes_nothing_leaves_no_trace(kenton: Customer) -> None:
    user = add(kenton)
    assert change(kenton, user, last_name=" Lovelace", role=Role.USER).version == 1
    assert len(events()) == 1


def test_the_version_that_was_read_is_compared(kenton: Customer) -> None:
    user = add(kenton)
    for versions in ((), (2, 3)):
        with pytest.raises(Stale):
            user_accounts.update_user(
                operator(), kenton, user.id, UserChanges(first_name="X"), versions=versions
            )
    changed = user_accounts.update_user(
        operator(), kenton, user.id, UserChanges(first_name="X"), versions=(1, 3)
    )
    assert changed.version == 2


def test_a_link_to_the_old_address_opens_no_more(kenton: Customer) -> None:
    user = make_user(kenton, password=PASSWORD)
    link_id = reset_links.request_reset(user.login)
    change(kenton, user, first_name="Same address")
    assert db.session.get_one(ResetLink, link_id).used_at is None
    change(kenton, user, email="new@x.example")
    assert db.session.get_one(ResetLink, link_id, populate_existing=True).used_at is not None


def test_the_role_is_changed_while_another_administrator_stays(kenton: Customer) -> None:
    first = find_user(ADMIN)
    second = add(kenton, role=Role.CUSTOMER_ADMIN, bundle="")
    make_user(find_customer("CQ002"), role=Role.CUSTOMER_ADMIN)
    with pytest.raises(InvalidInputs, match="A user has one of the customer's bundles"):
        change(kenton, second, role=Role.USER)
    assert change(kenton, second, role=Role.USER, bundle=ENTRY).role is Role.USER
    with pytest.raises(Conflict, match="last active administrator"):
        change(kenton, first, role=Role.USER, bundle=ENTRY)
    change(kenton, second, role=Role.CUSTOMER_ADMIN)
    user_states.suspend_user(operator(), kenton, second.id)
    with pytest.raises(Conflict, match="last active administrator"):
        change(kenton, first, role=Role.USER, bundle=ENTRY)
    # Who is suspended is no active one that could be missed.
    assert change(kenton, second, role=Role.USER, bundle=ENTRY).role is Role.USER


# --- Suspending ----------------------------------------------------------------------------------


def test_suspending_ends_sessions_and_links_at_once(kenton: Customer) -> None:
    user = make_user(kenton, password=PASSWORD)
    other = make_user(kenton, password=PASSWORD)
    tokens = [sign_ins.sign_in(user.login, PASSWORD)[1] for _ in range(2)]
    others = sign_ins.sign_in(other.login, PASSWORD)[1]
    link_id = reset_links.request_reset(user.login)

    user_states.suspend_user(operator(), kenton, user.id)

    assert [sign_ins.find_session(token) for token in tokens] == [None, None]
    assert sign_ins.find_session(others) is not None
    left = db.session.scalars(sa.select(SignInSession.user_id)).all()
    assert left == [other.id]
    assert db.session.get_one(ResetLink, link_id, populate_existing=True).used_at is not None
    with pytest.raises(InvalidInput):
        sign_ins.sign_in(user.login, PASSWORD)

    user_states.resume_user(operator(), kenton, user.id)

    assert [sign_ins.find_session(token) for token in tokens] == [None, None]
    assert sign_ins.sign_in(user.login, PASSWORD)[0].id == user.id
    assert [action for action, _ in events()] == ["user.suspended", "user.resumed"]


def test_the_last_active_administrator_is_not_suspended(kenton: Customer) -> None:
    first = find_user(ADMIN)
    make_user(kenton, role=Role.CUSTOMER_ADMIN, status=UserStatus.SUSPENDED)
    make_user(find_customer("CQ002"), role=Role.CUSTOMER_ADMIN)
    token = sign_ins.sign_in(ADMIN, "foyer-demo-1")[1]
    with pytest.raises(Conflict, match="last active administrator"):
        user_states.suspend_user(operator(), kenton, first.id)
    assert sign_ins.find_session(token) is not None
    assert events() == []


def test_nothing_happens_to_a_user_of_somebody_else(kenton: Customer) -> None:
    stranger = make_user(find_customer("CQ002"))
    gone = make_user(kenton, status=UserStatus.DELETED)
    for user in (stranger, gone, find_user("operator@foyer.example")):
        for attempt in (user_states.suspend_user, user_states.resume_user):
            with pytest.raises(NotFound):
                attempt(operator(), kenton, user.id)
        with pytest.raises(NotFound):
            change(kenton, user, first_name="X")
    assert events() == []


def test_a_refusal_holds_nobody_up(kenton: Customer) -> None:
    """What was locked is free again when the service has refused."""
    user = add(kenton)
    refusals: list[Any] = [
        lambda: change(kenton, user, email="x"),
        lambda: add(kenton),
        lambda: user_states.suspend_user(operator(), kenton, find_user(ADMIN).id),
    ]
    for refusal in refusals:
        with pytest.raises(ServiceError):
            refusal()
        with db.engine.begin() as connection:
            connection.execute(sa.update(User).where(User.id == user.id).values(version=1))


# --- The list ------------------------------------------------------------------------------------


def list_with_plan(customer: Customer, wanted: UserFilter) -> tuple[list[str], list[str]]:
    """Logins of a page, and how SQLite gets at its users."""
    asked: list[tuple[str, Any]] = []

    def note(_c: object, _cursor: object, statement: str, values: object, *_rest: object) -> None:
        asked.append((statement, values))

    actor = operator()
    sa.event.listen(db.engine, "before_cursor_execute", note)
    try:
        page = list_users(actor, customer, wanted)
    finally:
        sa.event.remove(db.engine, "before_cursor_execute", note)
    ((statement, values),) = asked
    with db.engine.connect() as connection:
        explained = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)
        plan = [each.detail for each in explained if "users" in each.detail]
    return [user.login for user in page.rows], plan


@pytest.mark.parametrize("engine_name", ["sqlite"])
def test_administrators_are_looked_up_among_all_users(kenton: Customer) -> None:
    """Without statistics, too: few among a great many are found by the index that has no others."""
    logins, plan = list_with_plan(kenton, UserFilter(role=Role.CUSTOMER_ADMIN))
    assert logins == [ADMIN]
    assert any("ix_users_administrators" in line for line in plan)
    assert all("PRIMARY KEY" in line or "ix_users_administrators" in line for line in plan), plan


@pytest.mark.parametrize("engine_name", ["sqlite"])
def test_a_search_looks_at_what_it_finds_alone(kenton: Customer) -> None:
    """Never at all users of the customer, to see which of them were found."""
    logins, plan = list_with_plan(kenton, UserFilter(search=ADMIN))
    assert logins == [ADMIN]
    assert all("PRIMARY KEY" in line or "_key>?" in line or "extension>?" in line for line in plan)
    assert any("PRIMARY KEY" in line for line in plan), plan
