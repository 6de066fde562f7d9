"""Invitations: who may send them to what, that one link of each works, and what becomes of them."""

from __future__ import annotations

import re
import threading
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from extensions import db
from models import (
    Audience,
    AuditEvent,
    Group,
    RegistrationLink,
    Role,
    ServiceTemplate,
    Suppression,
    User,
    UserGroup,
    utcnow,
)
from services import invitations, registration_drafts, registration_links, service_templates
from services.actors import Actor
from services.errors import Conflict, Forbidden, InvalidInput, NotFound
from services.registration_links import DeadLink
from tests.support.factories import actor_for, make_group, make_invitation, make_user, save
from tests.support.smtp_sink import SmtpSink, Stage

OPERATOR, LANDLORD = "operator@foyer.example", "landlord@foyer.example"
ADA = "ada@harbour.example"
HOSTILE = '<script>alert("x")</script> ((login)) [[x]] {{ 7 * 7 }}'

one_database = pytest.mark.parametrize("engine_name", ["sqlite"])
closed = pytest.mark.parametrize("settings_changes", [{"REGISTRATION": "closed"}])


def template(name: str) -> ServiceTemplate:
    return db.session.scalars(sa.select(ServiceTemplate).where(ServiceTemplate.name == name)).one()


def group(groupno: int) -> Group:
    return db.session.scalars(sa.select(Group).where(Group.groupno == groupno)).one()


def limited_to(*groups: Group) -> Actor:
    """An operator of these groups alone."""
    user = make_user(role=Role.OPERATOR)
    for each in groups:
        save(UserGroup(user_id=user.id, group_id=each.id))
    return Actor.from_user(user)


def invite(email: str = ADA, *, by: Actor | None = None, **more: Any) -> RegistrationLink:
    return invitations.invite(by or actor_for(OPERATOR), email=email, **more)


def token_in(sink: SmtpSink) -> str:
    found = re.search(r"/tenant-registration/link/([\w-]+)", sink.mails[-1].text)
    assert found
    return found.group(1)


def fresh(invitation: RegistrationLink) -> RegistrationLink:
    return db.session.get_one(RegistrationLink, invitation.id, populate_existing=True)


def state_of(invitation: RegistrationLink) -> str:
    return fresh(invitation).state_at(utcnow()).value


# --- Inviting ------------------------------------------------------------------------------------


def test_an_invitation_leads_into_a_draft_with_its_template(
    app_context: Flask, sink: SmtpSink
) -> None:
    preset = template("Contact centre")
    assert preset.audience is Audience.INVITED
    invitation = invite(template_id=preset.id, language="nl", message="Tot snel.\n\nOmar")
    assert preset.published_version is not None
    assert invitation.group_id == preset.published_version.group_id
    assert state_of(invitation) == "waiting"
    assert registration_links.mail_link(invitation.id)
    assert state_of(invitation) == "mailed"
    [sent] = sink.mails
    assert sent.recipient == ADA
    assert sent.message["Content-Language"] == "nl"
    for words in ("Omar Nasser", "Contact centre", "Tot snel."):
        assert words in sent.text
        assert words in sent.html

    entered = registration_links.use_link(token_in(sink))
    assert entered.invitation_id == invitation.id
    assert state_of(invitation) == "accepted"
    assert entered.user.language == "nl"
    prospect = Actor.from_user(entered.user)
    draft = registration_drafts.start_draft(prospect, invitation_id=entered.invitation_id)
    assert draft.draft["template"] == {"template": str(preset.id)}
    offered = {each.template_id for each in service_templates.list_offered(prospect, invitation)}
    assert preset.id in offered
    uninvited = {each.template_id for each in service_templates.list_offered(prospect)}
    assert preset.id not in uninvited


def test_what_the_inviter_writes_is_text_and_nothing_else(
    app_context: Flask, sink: SmtpSink
) -> None:
    registration_links.mail_link(invite(message=HOSTILE).id)
    [sent] = sink.mails
    assert HOSTILE in sent.text
    assert "<script" not in sent.html
    assert "((login))" in sent.html


@pytest.mark.parametrize("language", ["en", "de", "fr", "nl"])
@one_database
def test_a_short_invitation_has_no_empty_parts(
    app_context: Flask, sink: SmtpSink, language: str
) -> None:
    registration_links.mail_link(invite(language=language).id)
    [sent] = sink.mails
    assert "“" not in sent.text
    assert "„" not in sent.text
    assert ":\n\n\n" not in sent.text
    assert 'class="panel"' not in sent.html
    assert sent.text.count("Omar Nasser") == 1


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("email", {"email": "ada@"}),
        ("email", {"email": "\ud800@harbour.example"}),
        ("language", {"language": "ja"}),
        ("language", {"language": "\0"}),
        ("template", {"template_id": 999_999}),
        ("group", {"group_id": 999_999}),
        ("message", {"message": "x" * 1001}),
        ("message", {"message": "a\0b"}),
        ("message", {"message": "\ud800"}),
        ("message", {"message": "\x1b[31m"}),
    ],
)
@one_database
def test_what_is_wrong_is_refused_at_its_field(
    app_context: Flask, field: str, values: dict[str, Any]
) -> None:
    with pytest.raises(InvalidInput) as caught:
        invitations.invite(actor_for(OPERATOR), **{"email": ADA, **values})
    assert caught.value.field == field
    assert db.session.scalars(sa.select(RegistrationLink)).all() == []


def test_an_unpublished_template_cannot_be_preset(app_context: Flask) -> None:
    starter = template("Starter")
    starter.published_version_id = None
    db.session.commit()
    with pytest.raises(InvalidInput) as caught:
        invite(template_id=starter.id)
    assert caught.value.field == "template"


def test_a_suppressed_address_is_not_invited(app_context: Flask) -> None:
    save(Suppression(email_key=ADA, reason="The mailbox does not exist."))
    with pytest.raises(InvalidInput) as caught:
        invite(ADA.title())
    assert "The mailbox does not exist." in caught.value.message


def test_an_address_has_one_invitation_that_works(app_context: Flask) -> None:
    first = invite()
    with pytest.raises(InvalidInput) as caught:
        invite(ADA.upper())
    assert "still works" in caught.value.message
    invitations.withdraw(actor_for(OPERATOR), first.id)
    second = invite()
    fresh(second).used_at = utcnow()
    db.session.commit()
    invite()  # Whoever has accepted one may register another tenant.


def test_many_who_invite_one_address_at_once_send_one_mail(app_context: Flask) -> None:
    actor = actor_for(OPERATOR)
    db.session.commit()
    gate = threading.Barrier(5)
    results: list[str] = []

    def work() -> None:
        with app_context.app_context():
            gate.wait()
            try:
                invite(by=actor)
                results.append("sent")
            except Exception as error:  # noqa: BLE001 - the test looks at it
                results.append(type(error).__name__)

    threads = [threading.Thread(target=work) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == ["InvalidInput"] * 4 + ["sent"]
    db.session.expire_all()
    assert len(db.session.scalars(sa.select(RegistrationLink)).all()) == 1


@closed
@one_database
def test_nobody_is_invited_while_registration_is_closed(app_context: Flask) -> None:
    known = make_invitation()
    with pytest.raises(Conflict):
        invite()
    with pytest.raises(Conflict):
        invitations.resend(actor_for(OPERATOR), known.id, seen=known.requested_at)
    invitations.withdraw(actor_for(OPERATOR), known.id)
    assert state_of(known) == "withdrawn"


# --- Scope ---------------------------------------------------------------------------------------


def test_operators_see_and_steer_the_invitations_of_their_groups(app_context: Flask) -> None:
    mine, others = group(1), make_group()
    actor = limited_to(mine)
    seen = make_invitation(group_id=mine.id)
    for hidden in (make_invitation(group_id=others.id), make_invitation(group_id=None)):
        for refused in (
            lambda each=hidden: invitations.get_invitation(actor, each.id),
            lambda each=hidden: invitations.withdraw(actor, each.id),
            lambda each=hidden: invitations.resend(actor, each.id, seen=each.requested_at),
        ):
            with pytest.raises(NotFound):
                refused()
        assert state_of(hidden) == "mailed"
    assert [each.id for each in invitations.list_invitations(actor).rows] == [seen.id]
    assert len(invitations.list_invitations(actor_for(LANDLORD)).rows) == 3


def test_a_wish_for_a_link_is_no_invitation(app_context: Flask) -> None:
    wish = registration_links.request_link(ADA)
    assert wish is not None
    actor = actor_for(LANDLORD)
    assert invitations.list_invitations(actor).rows == []
    with pytest.raises(NotFound):
        invitations.withdraw(actor, wish)


def test_a_group_is_the_inviters_own_or_the_templates(app_context: Flask) -> None:
    mine, others = group(1), group(2)
    actor = limited_to(mine)
    assert {each.id for each in invitations.list_groups(actor)} == {mine.id}
    assert invite("a@harbour.example", by=actor, group_id=mine.id).group_id == mine.id
    offered = invitations.list_templates(actor)
    assert {each.group_id for each in offered} == {mine.id}
    sent = invite("b@harbour.example", by=actor, template_id=offered[0].template_id)
    assert sent.group_id == mine.id
    for field, values in (
        ("group", {}),
        ("group", {"group_id": others.id}),
        ("template", {"template_id": template("Contact centre").id}),
    ):
        with pytest.raises(InvalidInput) as caught:
            invite("c@harbour.example", by=actor, **values)
        assert caught.value.field == field
    assert invite("d@harbour.example").group_id is None


@one_database
def test_who_may_not_invite_can_do_nothing(app_context: Flask) -> None:
    known = make_invitation()
    prospect = make_user(role=Role.PROSPECT)
    for actor in (
        actor_for("auditor@foyer.example"),
        actor_for("prpkeAdmin@kenton-electronics.com"),
        Actor.from_user(prospect),
    ):
        for refused in (
            lambda each=actor: invite(by=each),
            lambda each=actor: invitations.list_invitations(each),
            lambda each=actor: invitations.list_templates(each),
            lambda each=actor: invitations.list_groups(each),
            lambda each=actor: invitations.withdraw(each, known.id),
            lambda each=actor: invitations.resend(each, known.id, seen=known.requested_at),
        ):
            with pytest.raises(Forbidden):
                refused()
    with pytest.raises(Forbidden):
        invite(by=Actor.from_terminal("root"))


# --- Afterwards ----------------------------------------------------------------------------------


def test_resending_kills_the_old_link_at_once(app_context: Flask, sink: SmtpSink) -> None:
    invitation = invite()
    registration_links.mail_link(invitation.id)
    old = token_in(sink)
    actor, seen = actor_for(OPERATOR), fresh(invitation).requested_at
    invitations.resend(actor, invitation.id, seen=seen)
    assert state_of(invitation) == "waiting"
    with pytest.raises(DeadLink):
        registration_links.use_link(old)
    assert registration_links.mail_link(invitation.id)
    invitations.resend(actor, invitation.id, seen=seen)  # The same button once more.
    assert not registration_links.mail_link(invitation.id)
    assert len(sink.mails) == 2
    assert registration_links.use_link(token_in(sink)).invitation_id == invitation.id
    with pytest.raises(Conflict):
        invitations.resend(actor, invitation.id, seen=fresh(invitation).requested_at)


@pytest.mark.parametrize(
    "ended",
    [
        {"ended_at": utcnow()},
        {"ended_at": utcnow(), "answer": "550 No such mailbox", "mailed_at": None},
        {"expires_at": utcnow() - timedelta(days=1)},
    ],
    ids=["withdrawn", "failed", "expired"],
)
def test_an_invitation_that_ended_can_be_sent_again(
    app_context: Flask, sink: SmtpSink, ended: dict[str, Any]
) -> None:
    invitation = make_invitation(email=ADA, **ended)
    invitations.resend(actor_for(OPERATOR), invitation.id, seen=invitation.requested_at)
    assert (state_of(invitation), fresh(invitation).answer) == ("waiting", "")
    assert registration_links.mail_link(invitation.id)
    registration_links.use_link(token_in(sink))


def test_resending_while_the_old_mail_is_on_its_way_mails_the_new_one(
    app_context: Flask, sink: SmtpSink
) -> None:
    """What becomes of the old mail is not noted as what became of the new one."""
    invitation = invite()
    sink.hang(Stage.END, times=1)

    def work() -> None:
        with app_context.app_context():
            registration_links.mail_link(invitation.id)

    worker = threading.Thread(target=work)
    worker.start()
    sink.wait_until_hanging()
    seen = fresh(invitation).requested_at
    invitations.resend(actor_for(OPERATOR), invitation.id, seen=seen)
    sink.release()
    worker.join()
    old = token_in(sink)
    assert state_of(invitation) == "waiting"
    assert registration_links.mail_link(invitation.id)
    with pytest.raises(DeadLink):
        registration_links.use_link(old)
    registration_links.use_link(token_in(sink))


def test_withdrawing_kills_the_link_and_says_so(app_context: Flask, sink: SmtpSink) -> None:
    invitation = invite()
    registration_links.mail_link(invitation.id)
    token = token_in(sink)
    actor = actor_for(OPERATOR)
    for _ in range(2):
        invitations.withdraw(actor, invitation.id)
    assert state_of(invitation) == "withdrawn"
    with pytest.raises(DeadLink) as caught:
        registration_links.get_link(token)
    assert caught.value.message == "The invitation was withdrawn."
    with pytest.raises(DeadLink):
        registration_links.use_link(token)


def test_one_that_is_withdrawn_before_its_mail_is_not_mailed(
    app_context: Flask, sink: SmtpSink
) -> None:
    invitation = invite()
    fresh(invitation).answer = "451 Later"
    db.session.commit()
    invitations.withdraw(actor_for(OPERATOR), invitation.id)
    assert state_of(invitation) == "withdrawn"
    assert not registration_links.mail_link(invitation.id)
    assert sink.mails == []


def test_what_was_accepted_can_be_neither_withdrawn_nor_sent_again(app_context: Flask) -> None:
    invitation = make_invitation(used_at=utcnow())
    actor = actor_for(OPERATOR)
    with pytest.raises(Conflict):
        invitations.withdraw(actor, invitation.id)
    with pytest.raises(Conflict):
        invitations.resend(actor, invitation.id, seen=invitation.requested_at)
    assert state_of(invitation) == "accepted"


def test_a_refused_mail_is_told_in_the_servers_words(app_context: Flask, sink: SmtpSink) -> None:
    invitation = invite()
    sink.refuse(ADA, 550, "5.1.1 No such mailbox")
    registration_links.mail_link(invitation.id)
    assert state_of(invitation) == "failed"
    assert "No such mailbox" in fresh(invitation).answer


def test_each_step_is_in_the_audit_trail(app_context: Flask, sink: SmtpSink) -> None:
    actor = actor_for(OPERATOR)
    invitation = invite(message="between us")
    invitations.withdraw(actor, invitation.id)
    invitations.resend(actor, invitation.id, seen=fresh(invitation).requested_at)
    registration_links.mail_link(invitation.id)
    token = token_in(sink)
    registration_links.use_link(token)
    rows = db.session.scalars(
        sa.select(AuditEvent)
        .where(AuditEvent.object_type == "registration_link")
        .order_by(AuditEvent.id)
    ).all()
    assert [each.action for each in rows] == [
        "invitation.sent",
        "invitation.withdrawn",
        "invitation.resent",
        "invitation.accepted",
    ]
    prospect = db.session.scalars(sa.select(User).where(User.role == Role.PROSPECT)).one()
    assert [each.actor_id for each in rows] == [actor.user_id] * 3 + [prospect.id]
    assert {each.object_id for each in rows} == {invitation.id}
    assert token not in repr([each.detail for each in rows])


def test_the_list_is_paged_newest_first_and_searched_by_address(app_context: Flask) -> None:
    made = [make_invitation(email=f"{'ab'[n % 2]}{n:02}@harbour.example") for n in range(7)]
    actor = actor_for(LANDLORD)
    newest_first = [each.id for each in reversed(made)]
    first = invitations.list_invitations(actor, size=3)
    assert ([each.id for each in first.rows], first.previous) == (newest_first[:3], None)
    second = invitations.list_invitations(actor, size=3, cursor=first.next or "")
    assert [each.id for each in second.rows] == newest_first[3:6]
    back = invitations.list_invitations(actor, size=3, cursor=second.previous or "")
    assert [each.id for each in back.rows] == newest_first[:3]
    found = invitations.list_invitations(actor, search="A0")
    assert [each.email[0] for each in found.rows] == ["a"] * 4
    assert invitations.list_invitations(actor, search="harbour").rows == []
    for hostile in ("%", "_", "\U0010ffff", "x" * 400):
        assert invitations.list_invitations(actor, search=hostile).rows == []
    assert invitations.list_invitations(actor, cursor="nonsense").rows
