"""Staff: inviting, changing, suspending, deleting, and who must not be touched."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from extensions import db
from models import (
    AuditEvent,
    Group,
    Role,
    SignInSession,
    StaffInvitation,
    StaffInvitationState,
    Suppression,
    User,
    UserGroup,
    UserStatus,
    fold,
    utcnow,
)
from services import reset_links, sign_in_policies, sign_ins, staff_accounts, staff_invitations
from services.actors import Actor
from services.errors import (
    Conflict,
    Forbidden,
    InvalidInput,
    InvalidInputs,
    NotFound,
    ServiceError,
    Stale,
)
from services.staff_accounts import Member, Particulars, StaffState
from tests.support.factories import actor_for, find_customer, find_user, make_user, save
from tests.support.smtp_sink import SmtpSink

LANDLORD = "landlord@foyer.example"
OPERATOR = "operator@foyer.example"
NEW = "violet teapot on the moon"
ANNA = Particulars(
    first_name="Anna", last_name="Berg", email="anna.berg@foyer.example", all_groups=True
)


@pytest.fixture
def landlord(app_context: Flask) -> Actor:
    return actor_for(LANDLORD)


def group_id(groupno: int) -> int:
    return db.session.scalars(sa.select(Group.id).where(Group.groupno == groupno)).one()


def events(action: str) -> list[dict[str, Any]]:
    rows = db.session.scalars(sa.select(AuditEvent).where(AuditEvent.action == action))
    return [row.detail for row in rows]


def version_of(login: str) -> int:
    db.session.expire_all()
    return find_user(login).version


def link_in(sink: SmtpSink) -> str:
    found = re.search(r"/staff/welcome/([\w-]+)", sink.mails[-1].text)
    assert found
    return found.group(1)


def faults_of(error: ServiceError) -> set[str]:
    return {field for field, _ in getattr(error, "faults", [])}


# --- Inviting ------------------------------------------------------------------------------------


def test_an_invitation_makes_somebody_who_chooses_a_password(
    app: Flask, sink: SmtpSink, work: Callable[[], None]
) -> None:
    with app.app_context():
        typed = replace(ANNA, all_groups=False, group_ids=frozenset({group_id(2)}), language="de")
        member = staff_accounts.invite(actor_for(LANDLORD), typed, login="")
        assert member.state is StaffState.INVITED
        assert member.user.login == ANNA.email
        assert member.user.status is UserStatus.SUSPENDED
        assert [each.groupno for each in member.groups] == [2]
        assert events("staff_member.invited")[0]["after"]["groups"] == [2]
    work()
    (mail,) = sink.mails
    assert mail.recipient == ANNA.email
    assert "Ihr Login: anna.berg@foyer.example" in mail.text
    token = link_in(sink)
    with app.app_context():
        stored = db.session.scalars(sa.select(StaffInvitation)).one()
        assert stored.token_hash is not None
        assert token not in stored.token_hash
        assert stored.state_at(utcnow()) is StaffInvitationState.MAILED
        assert reset_links.request_reset(ANNA.email) is None, "another way round the invitation"
        with pytest.raises(InvalidInput):
            staff_invitations.accept(token, "tooshort")
        user, session = staff_invitations.accept(token, NEW, address="192.0.2.4")
        assert user.status is UserStatus.ACTIVE
        assert sign_ins.find_session(session) is not None
        assert sign_ins.sign_in(ANNA.email, NEW).user.id == user.id
        assert staff_invitations.find_invitation(token) is None
        with pytest.raises(InvalidInput):
            staff_invitations.accept(token, NEW)
        member = staff_accounts.get_member(actor_for(LANDLORD), user.id)
        assert member.state is StaffState.ACTIVE
        with pytest.raises(Conflict):
            staff_accounts.resend_invitation(actor_for(LANDLORD), user.id, seen=utcnow())
        with pytest.raises(Conflict):
            staff_accounts.withdraw_invitation(actor_for(LANDLORD), user.id)


def test_a_link_ends_with_a_week_with_the_next_one_and_when_it_is_withdrawn(
    app: Flask, sink: SmtpSink, work: Callable[[], None]
) -> None:
    with app.app_context():
        member = staff_accounts.invite(actor_for(LANDLORD), ANNA)
        user_id = member.user.id
        assert member.invitation is not None
        seen = member.invitation.requested_at
    work()
    first = link_in(sink)
    with app.app_context():
        for _ in range(2):  # Pressed twice it is one mail.
            staff_accounts.resend_invitation(actor_for(LANDLORD), user_id, seen=seen)
        assert staff_invitations.find_invitation(first) is None
    work()
    assert len(sink.mails) == 2
    second = link_in(sink)
    with app.app_context():
        assert staff_invitations.find_invitation(second) is not None
        db.session.execute(sa.update(StaffInvitation).values(expires_at=utcnow()))
        db.session.commit()
        assert staff_invitations.find_invitation(second) is None
        db.session.execute(
            sa.update(StaffInvitation).values(expires_at=utcnow() + timedelta(days=1))
        )
        db.session.commit()
        staff_accounts.withdraw_invitation(actor_for(LANDLORD), user_id)
        assert staff_invitations.find_invitation(second) is None
        assert db.session.get(User, user_id) is None
        assert events("staff_member.withdrawn")[0]["before"]["login"] == ANNA.email
        again = staff_accounts.invite(actor_for(LANDLORD), ANNA)
        assert again.user.login == ANNA.email


def test_a_refused_mail_says_so_and_a_slow_server_is_waited_for(
    app: Flask, sink: SmtpSink, work: Callable[[], None]
) -> None:
    sink.refuse(ANNA.email, 451, "Later")
    with app.app_context():
        member = staff_accounts.invite(actor_for(LANDLORD), ANNA)
        user_id = member.user.id
    work()
    with app.app_context():
        member = staff_accounts.get_member(actor_for(LANDLORD), user_id)
        assert member.invitation is not None
        assert member.invitation.state_at(utcnow()) is StaffInvitationState.WAITING
        assert "Later" in member.invitation.answer
        invitation_id = member.invitation.id
        assert staff_invitations.list_unmailed() == [], "at it again within five minutes"
        db.session.execute(sa.update(StaffInvitation).values(claimed_at=None))
        db.session.commit()
        assert staff_invitations.list_unmailed() == [invitation_id]
        sink.behave()
        sink.refuse(ANNA.email, 550, "No such user")
        assert staff_invitations.mail_invitation(invitation_id) is False
        member = staff_accounts.get_member(actor_for(LANDLORD), user_id)
        assert member.invitation is not None
        assert member.invitation.state_at(utcnow()) is StaffInvitationState.FAILED
        assert "No such user" in member.invitation.answer


@pytest.mark.parametrize(
    ("changes", "login", "fields"),
    [
        ({"first_name": " ", "last_name": "x"}, "", {"first_name"}),
        ({"last_name": "x" * 65}, "", {"last_name"}),
        ({"last_name": "a\u202eb"}, "", {"last_name"}),
        ({"first_name": "a\r\nBcc: x@y.example"}, "", set()),
        ({"email": ""}, "anna", {"email"}),
        ({"email": "anna"}, "anna", {"email"}),
        ({"email": "anna@foyer.example\r\nBcc: x@y.example"}, "anna", {"email"}),
        ({"email": "\ud800@foyer.example"}, "anna", {"email"}),
        ({"language": "tlh"}, "", {"language"}),
        ({"role": Role.USER}, "", {"role"}),
        ({"all_groups": False}, "", {"groups"}),
        ({"all_groups": False, "group_ids": frozenset({2**62})}, "", {"groups"}),
        ({}, "a b", {"login"}),
        ({}, "prospect:anna@foyer.example", {"login"}),
        ({}, "a" * 300, {"login"}),
        ({}, "a\0b", {"login"}),
        ({}, OPERATOR.upper(), {"login"}),
        ({"first_name": "", "email": "x"}, "a b", {"first_name", "email", "login"}),
    ],
)
def test_what_is_wrong_is_told_all_at_once(
    landlord: Actor, changes: dict[str, Any], login: str, fields: set[str]
) -> None:
    before = db.session.scalar(sa.select(sa.func.count(User.id)))
    typed = replace(ANNA, **changes)
    if not fields:
        member = staff_accounts.invite(landlord, typed, login=login)
        assert "\r" not in member.user.first_name
        return
    with pytest.raises(InvalidInputs) as refused:
        staff_accounts.invite(landlord, typed, login=login)
    assert faults_of(refused.value) == fields
    assert db.session.scalar(sa.select(sa.func.count(User.id))) == before


def test_nobody_is_invited_to_an_address_that_gets_no_mail(landlord: Actor) -> None:
    save(Suppression(email_key=fold(ANNA.email), reason="It does not exist."))
    with pytest.raises(InvalidInputs, match="It does not exist"):
        staff_accounts.invite(landlord, ANNA)


def test_a_landlord_administrator_has_all_groups(landlord: Actor) -> None:
    typed = replace(ANNA, role=Role.LANDLORD, all_groups=False, group_ids=frozenset({group_id(1)}))
    member = staff_accounts.invite(landlord, typed)
    assert member.reaches_all
    assert member.groups == ()


@pytest.mark.parametrize("login", [OPERATOR, "auditor@foyer.example"])
def test_only_landlord_administrators_look_after_staff(app_context: Flask, login: str) -> None:
    actor, other = actor_for(login), find_user(LANDLORD)
    for work in (
        lambda: staff_accounts.list_members(actor),
        lambda: staff_accounts.invite(actor, ANNA),
        lambda: staff_accounts.change_member(actor, other.id, ANNA, version=1),
        lambda: staff_accounts.suspend_member(actor, other.id, version=1),
        lambda: staff_accounts.resume_member(actor, other.id, version=1),
        lambda: staff_accounts.delete_member(actor, other.id, version=1, typed_login=LANDLORD),
        lambda: staff_accounts.reset_second_factors(actor, other.id),
        lambda: staff_accounts.withdraw_invitation(actor, other.id),
        lambda: sign_in_policies.require_second_factor(actor, [], seen=[]),
    ):
        with pytest.raises(Forbidden):
            work()


# --- Changing ------------------------------------------------------------------------------------


def particulars_of(login: str, **changes: Any) -> Particulars:
    user = find_user(login)
    return Particulars(
        **{
            "first_name": user.first_name,
            "last_name": user.last_name,
            "email": user.email,
            "language": user.language,
            "role": user.role,
            "all_groups": user.all_groups,
            **changes,
        }
    )


def test_a_change_is_recorded_with_before_and_after(landlord: Actor) -> None:
    operator = find_user(OPERATOR)
    typed = particulars_of(
        OPERATOR, role=Role.AUDITOR, all_groups=False, group_ids=frozenset({group_id(2)})
    )
    member = staff_accounts.change_member(landlord, operator.id, typed, version=operator.version)
    assert member.user.role is Role.AUDITOR
    assert [each.groupno for each in member.groups] == [2]
    (detail,) = events("staff_member.changed")
    assert detail == {
        "login": OPERATOR,
        "before": {"role": "operator", "groups": "all"},
        "after": {"role": "auditor", "groups": [2]},
    }
    staff_accounts.change_member(landlord, operator.id, typed, version=member.user.version)
    assert len(events("staff_member.changed")) == 1, "nothing was changed"
    with pytest.raises(Stale):
        staff_accounts.change_member(landlord, operator.id, typed, version=1)


def test_the_groups_hold_at_the_next_request(landlord: Actor) -> None:
    operator = find_user(OPERATOR)
    typed = particulars_of(OPERATOR, all_groups=False, group_ids=frozenset({group_id(2)}))
    staff_accounts.change_member(landlord, operator.id, typed, version=operator.version)
    from services import customers

    page = customers.list_customers(actor_for(OPERATOR))
    assert {row.web_id for row in page.rows} == {"CQ101"}


def test_one_neither_demotes_nor_suspends_nor_deletes_oneself(landlord: Actor) -> None:
    make_user(role=Role.LANDLORD, password=NEW)
    oneself = find_user(LANDLORD)
    with pytest.raises(InvalidInput) as refused:
        staff_accounts.change_member(
            landlord,
            oneself.id,
            particulars_of(LANDLORD, role=Role.OPERATOR),
            version=oneself.version,
        )
    assert refused.value.field == "role"
    for work in (
        lambda: staff_accounts.suspend_member(landlord, oneself.id, version=oneself.version),
        lambda: staff_accounts.delete_member(
            landlord, oneself.id, version=oneself.version, typed_login=LANDLORD
        ),
    ):
        with pytest.raises(Conflict, match="yourself"):
            work()
    changed = staff_accounts.change_member(
        landlord,
        oneself.id,
        particulars_of(LANDLORD, first_name="Leni"),
        version=version_of(LANDLORD),
    )
    assert changed.user.first_name == "Leni"
    assert find_user(LANDLORD).status is UserStatus.ACTIVE


def test_suspending_ends_sessions_and_links_and_resuming_brings_back(landlord: Actor) -> None:
    user = make_user(role=Role.OPERATOR, password=NEW, all_groups=True)
    _, token = sign_ins.sign_in(user.login, NEW)
    reset_links.request_reset(user.login)
    member = staff_accounts.suspend_member(landlord, user.id, version=user.version)
    assert member.state is StaffState.SUSPENDED
    assert sign_ins.find_session(token) is None
    assert db.session.scalars(sa.select(SignInSession)).all() == []
    assert reset_links.list_unmailed() == []
    with pytest.raises(InvalidInput):
        sign_ins.sign_in(user.login, NEW)
    with pytest.raises(Conflict):
        staff_accounts.suspend_member(landlord, user.id, version=member.user.version)
    member = staff_accounts.resume_member(landlord, user.id, version=member.user.version)
    assert sign_ins.sign_in(user.login, NEW).user.id == user.id
    assert events("staff_member.suspended")[0]["before"] == {"status": "active"}
    assert events("staff_member.resumed")[0]["after"] == {"status": "active"}


def test_who_is_invited_is_not_resumed_round_the_invitation(landlord: Actor) -> None:
    member = staff_accounts.invite(landlord, ANNA)
    with pytest.raises(Conflict):
        staff_accounts.resume_member(landlord, member.user.id, version=member.user.version)
    with pytest.raises(Conflict):
        staff_accounts.delete_member(
            landlord, member.user.id, version=member.user.version, typed_login=ANNA.email
        )


def test_deleting_forgets_password_groups_and_factors_and_keeps_the_login(landlord: Actor) -> None:
    user = make_user(role=Role.OPERATOR, password=NEW)
    save(UserGroup(user_id=user.id, group_id=group_id(1)))
    with pytest.raises(InvalidInput) as refused:
        staff_accounts.delete_member(
            landlord, user.id, version=user.version, typed_login="somebody else"
        )
    assert refused.value.field == "login"
    staff_accounts.delete_member(
        landlord, user.id, version=user.version, typed_login=user.login.upper()
    )
    db.session.expire_all()
    kept = db.session.get_one(User, user.id)
    assert (kept.status, kept.password_hash) == (UserStatus.DELETED, None)
    assert db.session.scalars(sa.select(UserGroup).where(UserGroup.user_id == user.id)).all() == []
    with pytest.raises(NotFound):
        staff_accounts.get_member(landlord, user.id)
    with pytest.raises(InvalidInputs):
        staff_accounts.invite(landlord, ANNA, login=user.login)
    assert events("staff_member.deleted")[0]["before"]["role"] == "operator"


def test_customers_users_are_no_staff(landlord: Actor) -> None:
    user = make_user(find_customer("CQ001"))
    for work in (
        lambda: staff_accounts.get_member(landlord, user.id),
        lambda: staff_accounts.suspend_member(landlord, user.id, version=1),
        lambda: staff_accounts.get_member(landlord, 2**62),
    ):
        with pytest.raises(NotFound):
            work()


# --- The last landlord administrator -------------------------------------------------------------


def test_the_last_landlord_administrator_stays_whoever_asks(app_context: Flask) -> None:
    terminal = Actor.from_terminal("root")
    last = find_user(LANDLORD)
    make_user(role=Role.LANDLORD, status=UserStatus.SUSPENDED, password=NEW)
    for work in (
        lambda: staff_accounts.suspend_member(terminal, last.id, version=last.version),
        lambda: staff_accounts.delete_member(
            terminal, last.id, version=last.version, typed_login=LANDLORD
        ),
        lambda: staff_accounts.change_member(
            terminal,
            last.id,
            particulars_of(LANDLORD, role=Role.AUDITOR),
            version=last.version,
        ),
    ):
        with pytest.raises(Conflict, match="last active landlord"):
            work()
    assert version_of(LANDLORD) == last.version


@pytest.mark.parametrize("how", ["suspend", "demote", "delete"])
def test_two_who_remove_each_other_leave_one(app: Flask, how: str) -> None:
    with app.app_context():
        other = make_user(role=Role.LANDLORD, password=NEW, all_groups=True).login
    barrier = threading.Barrier(2)
    ends: list[str] = []

    def remove(by: str, whom: str) -> None:
        with app.app_context():
            actor, user = actor_for(by), find_user(whom)
            typed = particulars_of(whom, role=Role.AUDITOR)
            user_id, version = user.id, user.version
            db.session.rollback()
            barrier.wait(30)
            try:
                if how == "suspend":
                    staff_accounts.suspend_member(actor, user_id, version=version)
                elif how == "demote":
                    staff_accounts.change_member(actor, user_id, typed, version=version)
                else:
                    staff_accounts.delete_member(actor, user_id, version=version, typed_login=whom)
                ends.append("done")
            except (Conflict, Stale):
                ends.append("refused")
            finally:
                db.session.remove()

    threads = [
        threading.Thread(target=remove, args=pair)
        for pair in ((LANDLORD, other), (other, LANDLORD))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(ends) == ["done", "refused"]
    with app.app_context():
        left = db.session.scalars(
            sa.select(User.login).where(
                User.role == Role.LANDLORD, User.status == UserStatus.ACTIVE
            )
        ).all()
        assert len(left) == 1


def test_who_was_suspended_a_moment_ago_changes_nobody(landlord: Actor) -> None:
    """Whoever waits in line behind the change that ends his own rights."""
    other = make_user(role=Role.LANDLORD, password=NEW, all_groups=True)
    third = make_user(role=Role.LANDLORD, password=NEW, all_groups=True)
    late = actor_for(other.login)
    staff_accounts.suspend_member(landlord, other.id, version=other.version)
    with pytest.raises(Conflict, match="Your own role was changed"):
        staff_accounts.suspend_member(late, third.id, version=third.version)
    assert version_of(third.login) == 1


# --- The list ------------------------------------------------------------------------------------


def names(members: list[Member]) -> list[str]:
    return [each.user.login for each in members]


def test_the_list_is_searched_filtered_and_paged(landlord: Actor) -> None:
    north = make_user(role=Role.OPERATOR, login="north@foyer.example", last_name="Northwind")
    save(UserGroup(user_id=north.id, group_id=group_id(2)))
    invited = staff_accounts.invite(landlord, ANNA).user
    gone = make_user(role=Role.AUDITOR, status=UserStatus.DELETED)
    listed = staff_accounts.list_members
    assert set(names(listed(landlord).rows)) == {
        *(LANDLORD, OPERATOR, "auditor@foyer.example"),
        *(north.login, invited.login),
    }
    assert gone.login not in names(listed(landlord, search="user").rows)
    for search in ("Northw", "NORTH@", "given north"):
        assert names(listed(landlord, search=search).rows) == [north.login]
    assert names(listed(landlord, search="prpke").rows) == []
    assert names(listed(landlord, role=Role.AUDITOR).rows) == ["auditor@foyer.example"]
    assert names(listed(landlord, state=StaffState.INVITED).rows) == [invited.login]
    assert names(listed(landlord, state=StaffState.SUSPENDED).rows) == []
    assert invited.login not in names(listed(landlord, state=StaffState.ACTIVE).rows)
    assert names(listed(landlord, groupno=2).rows) == [north.login]
    assert names(listed(landlord, groupno=999).rows) == []
    first = listed(landlord, size=2)
    assert first.next is not None
    second = listed(landlord, size=2, cursor=first.next)
    assert not set(names(first.rows)) & set(names(second.rows))
    back = listed(landlord, size=2, cursor=second.previous or "")
    assert names(back.rows) == names(first.rows)


def test_the_list_is_read_by_the_index_of_the_staff(landlord: Actor) -> None:
    """However many users customers have."""
    found: list[Any] = []
    sa.event.listen(
        db.engine,
        "before_cursor_execute",
        lambda _c, _u, statement, parameters, *_: found.append((statement, parameters)),
    )
    staff_accounts.list_members(landlord, search="x")
    statement, parameters = next(each for each in found if "name_key" in each[0])
    with db.engine.connect() as connection:
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql("SET enable_seqscan = off")
            plan = connection.exec_driver_sql(f"EXPLAIN {statement}", parameters)
        else:
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
        assert "ix_users_staff" in str(plan.fetchall())


# --- Policies ------------------------------------------------------------------------------------


def test_policies_are_changed_seen_and_recorded(landlord: Actor) -> None:
    required = sign_in_policies.require_second_factor(landlord, [Role.OPERATOR, Role.USER], seen=[])
    assert required == {Role.OPERATOR, Role.USER}
    with pytest.raises(Stale):
        sign_in_policies.require_second_factor(landlord, [], seen=[])
    with pytest.raises(InvalidInput):
        sign_in_policies.require_second_factor(landlord, [Role.PROSPECT], seen=required)
    assert sign_in_policies.require_second_factor(landlord, [], seen=required) == frozenset()
    first, second = events("sign_in_policy.changed")
    assert first == {
        "before": {"second_factor": []},
        "after": {"second_factor": ["operator", "user"]},
    }
    assert second["after"] == {"second_factor": []}


# --- From the terminal ---------------------------------------------------------------------------


@pytest.mark.empty_database
def test_the_first_landlord_administrator_is_made_at_the_terminal(app_context: Flask) -> None:
    run = app_context.test_cli_runner().invoke
    options = ["--email", "lena@foyer.example", "--first-name", "Lena", "--last-name", "Hofmann"]
    refused = run(args=["create-landlord", *options], input="short\nshort\n")
    assert refused.exit_code == 1
    assert "Use at least 12" in refused.output
    made = run(args=["create-landlord", *options], input=f"{NEW}\n{NEW}\n")
    assert made.exit_code == 0, made.output
    assert "lena@foyer.example" in made.output
    assert NEW not in made.output
    user = sign_ins.sign_in("lena@foyer.example", NEW).user
    assert (user.role, user.all_groups) == (Role.LANDLORD, True)
    again = run(args=["create-landlord", *options], input=f"{NEW}\n{NEW}\n")
    assert again.exit_code == 1
    assert "is taken" in again.output
