"""Making, changing and archiving e-mail templates: versions, rights, conflicts, Welcomes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
import sqlalchemy as sa
from flask import Flask

from extensions import db
from models import (
    AuditEvent,
    Customer,
    CustomerEmailTemplate,
    EmailTemplate,
    EmailTemplateVersion,
    Mailing,
    Role,
    ServiceTemplateVersion,
    TemplateKind,
    User,
    utcnow,
)
from services import email_template_edits as edits
from services import email_template_effects as effects
from services import email_template_lists as lists
from services import email_template_welcomes as welcomes
from services import provisioning_steps
from services.actors import Actor
from services.email_template_assignments import Verb
from services.email_template_edits import Unsure
from services.email_template_lists import TemplateFilter
from services.email_template_rights import get_template, why_not_changed
from services.email_template_texts import TypedText
from services.email_template_welcomes import has_welcome
from services.email_templates import find_template_of_kind, get_current_version
from services.errors import Conflict, Forbidden, InvalidInputs, NotFound, ServiceError, Stale
from tests.support.factories import (
    actor_for,
    find_customer,
    make_customer,
    make_template,
    make_user,
    make_welcome,
)
from tests.support.promises import start_welcome
from tests.support.smtp_sink import SmtpSink
from tests.support.templates import HOSTILE, assign, create, edit, limited_operator, text

pytestmark = pytest.mark.usefixtures("app_context")

AUDITOR = "auditor@foyer.example"


@pytest.fixture
def operator(app_context: Flask) -> Actor:
    return actor_for("operator@foyer.example")


def texts_of(actor: Actor, template_id: int, number: int = 0) -> dict[str, TypedText]:
    return lists.typed_texts(lists.get_version(actor, template_id, number))


def newest_event(action: str) -> AuditEvent:
    return db.session.scalars(
        sa.select(AuditEvent).where(AuditEvent.action == action).order_by(AuditEvent.id.desc())
    ).first()  # type: ignore[return-value]


def version_of(template_id: int) -> int:
    found = db.session.scalar(
        sa.select(EmailTemplate.version).where(EmailTemplate.id == template_id)
    )
    assert found is not None
    return found


# --- Making and changing -------------------------------------------------------------------------


def test_each_change_of_a_text_is_a_version_that_stays(operator: Actor) -> None:
    made = create(operator, en=text("One"))
    second = edit(operator, made.template_id, typed={"en": text("Two")}, note=" Clearer ")
    edit(operator, made.template_id, typed={"en": text("Two"), "de": text("Zwei")})
    assert second.number == 2
    assert texts_of(operator, made.template_id, 1) == {"en": text("One")}
    assert texts_of(operator, made.template_id, 2) == {"en": text("Two")}
    assert set(texts_of(operator, made.template_id)) == {"en", "de"}
    rows = lists.list_versions(operator, made.template_id).rows
    assert [(row.number, row.note) for row in rows] == [(3, ""), (2, "Clearer"), (1, "")]
    assert {row.created_by.login for row in rows if row.created_by} == {operator.login}
    event = newest_event("email_template.edited")
    assert event.detail["before"]["version"] == 2
    assert event.detail["after"]["version"] == 3
    assert event.detail["changed"] == ["de subject", "de text", "de HTML"]


def test_another_name_alone_is_no_version_and_is_recorded(operator: Actor) -> None:
    made = create(operator)
    saved = edit(operator, made.template_id, name="  Renamed  ")
    assert (saved.number, saved.is_new, saved.name) == (1, False, "Renamed")
    assert newest_event("email_template.edited").detail["before"]["name"] == "Notice"
    before = version_of(made.template_id)
    assert not edit(operator, made.template_id).is_new
    assert version_of(made.template_id) == before


def test_a_text_that_was_made_follows_the_html(operator: Actor) -> None:
    made = create(operator, en=TypedText("S", "", "<p>One</p>"))
    edit(operator, made.template_id, typed={"en": TypedText("S", "", "<p>Two</p>")})
    row = lists.get_version(operator, made.template_id).texts[0]
    assert (row.text, row.text_made) == ("Two\n", True)
    assert texts_of(operator, made.template_id)["en"].text == ""


@pytest.mark.parametrize(
    "name", ["", "x" * 65, "a;b", "a|b", "a\nb", "\0", "\ud800", "wELcome", "Password update"]
)
def test_a_name_that_commands_cannot_write_or_another_has_is_refused(
    operator: Actor, name: str
) -> None:
    made = create(operator)
    for attempt in (
        lambda: create(operator, name),
        lambda: edit(operator, made.template_id, name=name),
    ):
        with pytest.raises(InvalidInputs) as caught:
            attempt()
        assert [field for field, _ in caught.value.faults] == ["name"]


def test_all_faults_come_together(operator: Actor) -> None:
    with pytest.raises(InvalidInputs) as caught:
        edits.create_template(
            operator,
            name="",
            kind=TemplateKind.GENERAL,
            typed={"en": TypedText("", "", "")},
            note="x" * 201,
        )
    assert [field for field, _ in caught.value.faults] == ["name", "note", "subject_en"]


@pytest.mark.parametrize("hostile", HOSTILE)
def test_hostile_texts_are_kept_as_texts_or_refused(operator: Actor, hostile: str) -> None:
    refused: set[str] = set()
    values = {"name": hostile, "note": hostile, "subject": hostile}
    for name in (*values, "nothing"):
        typed = TypedText(values["subject"], hostile, f"<p>x</p>{hostile}")
        try:
            made = edits.create_template(
                operator,
                name=values["name"],
                kind=TemplateKind.GENERAL,
                typed={"en": typed},
                note=values["note"],
            )
        except InvalidInputs as error:
            faults = error.faults
        else:
            break
        refused |= {field for field, _ in faults}
        values[name] = "Harmless"
    assert refused <= {"name", "note", "subject_en"}
    kept = texts_of(operator, made.template_id)["en"]
    assert kept.subject == values["subject"].strip()
    assert "<script" not in kept.html


def test_who_saves_what_he_has_not_seen_is_told_and_nothing_is_lost(operator: Actor) -> None:
    made = create(operator, en=text("One"))
    seen = version_of(made.template_id)
    edit(operator, made.template_id, typed={"en": text("Two")})
    with pytest.raises(Stale):
        edit(operator, made.template_id, typed={"en": text("Mine")}, version=seen)
    assert texts_of(operator, made.template_id) == {"en": text("Two")}
    for late in (
        lambda: edits.archive_template(operator, made.template_id, version=seen),
        lambda: edits.restore_version(operator, made.template_id, 1, version=seen),
    ):
        with pytest.raises(Stale):
            late()


def test_two_who_save_at_once_make_one_version(app: Flask, operator: Actor) -> None:
    made = create(operator, en=text("One"))
    seen = version_of(made.template_id)
    outcomes = at_once(
        app,
        [
            partial(edit, operator, made.template_id, typed={"en": text(word)}, version=seen)
            for word in ("Two", "Three", "Four")
        ],
    )
    assert sorted(outcomes) == ["Stale", "Stale", "done"]
    assert lists.get_version(operator, made.template_id).number == 2


def test_a_restored_version_is_a_new_one(operator: Actor) -> None:
    made = create(operator, en=text("One"))
    edit(operator, made.template_id, typed={"en": text("Two")})
    saved = edits.restore_version(
        operator, made.template_id, 1, version=version_of(made.template_id), note="Back"
    )
    assert saved.number == 3
    assert texts_of(operator, made.template_id) == {"en": text("One")}
    row = lists.get_version(operator, made.template_id)
    assert (row.restored_from, row.note) == (1, "Back")
    event = newest_event("email_template.restored")
    assert event.detail["restored_from"] == 1
    with pytest.raises(Conflict, match="says the same"):
        edits.restore_version(operator, made.template_id, 1, version=version_of(made.template_id))
    with pytest.raises(NotFound):
        edits.restore_version(operator, made.template_id, 9, version=version_of(made.template_id))


def test_differences_are_told_by_language_part_and_line(operator: Actor) -> None:
    before = {"en": TypedText("S", "a\nb\nc\n", "<p>x</p>"), "de": text("Weg")}
    after = {"en": TypedText("S", "a\nB\nc\n", "<p>x</p>")}
    found = lists.compare_versions(before, after)
    assert [(each.language, each.part) for each in found] == [
        ("English", "Text"),
        ("Deutsch", "Subject"),
        ("Deutsch", "Text"),
        ("Deutsch", "HTML"),
    ]
    (hunk,) = found[0].hunks
    assert [(line.change.value, line.text) for line in hunk] == [
        ("same", "a"),
        ("removed", "b"),
        ("added", "B"),
        ("same", "c"),
    ]
    assert lists.compare_versions(before, before) == []


def test_a_mailing_keeps_the_version_that_was_confirmed(
    app: Flask, sink: SmtpSink, work: Callable[[], None], operator: Actor
) -> None:
    welcome = find_template_of_kind(TemplateKind.WELCOME)
    assert welcome is not None
    user = make_user(find_customer("CQ001"))
    mailing_id = start_welcome(operator, "CQ001", [user])
    confirmed = get_current_version(welcome).id
    changed = {
        language: TypedText("Changed subject", typed.text, typed.html)
        for language, typed in texts_of(operator, welcome.id).items()
    }
    edit(operator, welcome.id, typed=changed)
    another = make_welcome(find_customer("CQ001"))
    for web_id in ("CQ002", "CQ003", "CQ101"):
        assign(operator, another.id, web_id)
    edits.archive_template(operator, welcome.id, version=version_of(welcome.id))
    assert db.session.get_one(Mailing, mailing_id).template_version_id == confirmed
    work()
    (mail,) = sink.mails
    assert mail.message["Subject"] == "Your Foyer Communications account is ready"


# --- Rights --------------------------------------------------------------------------------------


def test_who_only_reads_changes_nothing(operator: Actor) -> None:
    made = create(operator)
    auditor = actor_for(AUDITOR)
    assert get_template(auditor, made.template_id).name == "Notice"
    for attempt in (
        lambda: create(auditor, "Mine"),
        lambda: edit(auditor, made.template_id),
        lambda: edits.archive_template(auditor, made.template_id, version=1),
        lambda: edits.restore_version(auditor, made.template_id, 1, version=1),
        lambda: edits.create_defaults(auditor),
    ):
        with pytest.raises(Forbidden):
            attempt()
    with pytest.raises(Forbidden):
        get_template(actor_for("prpkeAdmin@kenton-electronics.com"), made.template_id)


def test_an_operator_of_some_groups_changes_what_reaches_nobody_else(operator: Actor) -> None:
    limited = limited_operator("CQ101")
    mine = create(limited, "Ours")
    assign(limited, mine.template_id, "CQ101")
    edit(limited, mine.template_id, typed={"en": text("Again")})
    assign(operator, mine.template_id, "CQ001")
    reason = why_not_changed(limited, get_template(limited, mine.template_id))
    assert reason is not None
    assert "other groups" in reason
    for attempt in (
        lambda: edit(limited, mine.template_id, typed={"en": text("No")}),
        lambda: edits.archive_template(
            limited, mine.template_id, version=version_of(mine.template_id)
        ),
        lambda: create(limited, "Another Welcome", TemplateKind.WELCOME),
    ):
        with pytest.raises(Forbidden):
            attempt()
    for kind in (TemplateKind.WELCOME, TemplateKind.PASSWORD_RESET):
        template = find_template_of_kind(kind)
        assert template is not None
        assert why_not_changed(limited, template) is not None
        assert why_not_changed(operator, template) is None
    assert edit(operator, mine.template_id, typed={"en": text("Yes")}).is_new


def test_a_template_that_new_customers_of_others_get_is_not_his_to_change() -> None:
    """Service templates of another group give it to their new customers."""
    limited = limited_operator("CQ001")
    update = db.session.scalars(
        sa.select(EmailTemplate).where(EmailTemplate.name == "Password update")
    ).one()
    assert why_not_changed(limited, update) is not None


# --- What is empty -------------------------------------------------------------------------------


def test_a_placeholder_that_is_new_and_empty_for_some_is_told_before(operator: Actor) -> None:
    customer = make_customer()
    make_user(customer, extension="11")
    for _ in range(3):
        make_user(customer)
    template = make_template(customer, slug="password-update")
    new = TypedText("S", "((extension))", "<p>((extension)) ((first name))</p>")
    with pytest.raises(Unsure) as caught:
        edit(operator, template.id, typed={"en": new})
    (told,) = caught.value.empty
    assert told.sentence == "“((extension))” is empty for 3 of 4 users of 1 customer."
    assert lists.get_version(operator, template.id).number == 1
    assert edit(operator, template.id, typed={"en": new}, told_empty=["extension"]).is_new
    again = TypedText("Other", new.text, new.html)
    assert edit(operator, template.id, typed={"en": again}).is_new, "told again of what it used"


def test_in_an_optional_part_it_is_left_out_and_nobody_else_is_looked_at(operator: Actor) -> None:
    customer, other = make_customer(), make_customer()
    make_user(customer)
    make_user(customer, status="suspended")
    make_user(other)
    template = make_template(customer, slug="password-update")
    ready = {"en": TypedText("S", "[[((extension))]]", "<p>[[((extension))]]</p>")}
    with pytest.raises(Unsure) as caught:
        edit(operator, template.id, typed=ready)
    (told,) = caught.value.empty
    assert told.sentence == (
        "“((extension))” is empty for 1 of 1 user of 1 customer. "
        "The optional part is left out for them."
    )
    everybody = effects.find_empty_values(
        db.session, template.id, TemplateKind.PASSWORD_RESET, {"last name": True, "bundle": True}
    )
    assert [each.placeholder for each in everybody] == ["bundle"]


def test_a_template_of_very_many_users_is_judged_by_some(
    operator: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(effects, "MOST_USERS", 2)
    customer = make_customer()
    for _ in range(4):
        make_user(customer)
    template = make_template(customer)
    (told,) = effects.find_empty_values(
        db.session, template.id, TemplateKind.GENERAL, {"extension": True}
    )
    assert "2 of the first 2 users" in told.sentence


# --- Archiving, and a Welcome for everybody ------------------------------------------------------


def attempt(app: Flask, act: Callable[[], object]) -> str:
    """Try it in an application context of its own: the name of the refusal, or `done`."""
    with app.app_context():
        try:
            act()
        except ServiceError as error:
            return type(error).__name__
        finally:
            db.session.remove()
    return "done"


def at_once(app: Flask, acts: list[Callable[[], object]]) -> list[str]:
    """Try all of them at the same moment."""
    db.session.commit()
    barrier = threading.Barrier(len(acts))

    def run(act: Callable[[], object]) -> str:
        barrier.wait(timeout=30)
        return attempt(app, act)

    with ThreadPoolExecutor(len(acts)) as pool:
        return list(pool.map(run, acts))


def without_welcome() -> list[str]:
    return list(db.session.scalars(sa.select(Customer.web_id).where(~has_welcome())))


def test_archived_it_can_be_chosen_no_more_and_put_back(operator: Actor) -> None:
    customer = find_customer("CQ001")
    template = make_template(customer)
    edits.archive_template(operator, template.id, version=1)
    found = lists.list_templates(operator, TemplateFilter(search=template.name))
    assert found.rows == []
    archived = lists.list_templates(operator, TemplateFilter(archived=True)).rows
    assert [each.template.id for each in archived] == [template.id]
    with pytest.raises(Conflict, match="archived already"):
        edits.archive_template(operator, template.id, version=2)
    edits.unarchive_template(operator, template.id, version=2)
    assert len(lists.list_templates(operator, TemplateFilter(search=template.name)).rows) == 1
    assert newest_event("email_template.unarchived").detail["before"] == {"archived": True}


def test_the_only_welcome_of_a_customer_stays(operator: Actor) -> None:
    welcome = find_template_of_kind(TemplateKind.WELCOME)
    assert welcome is not None
    with pytest.raises(Conflict, match="no other Welcome than Welcome"):
        edits.archive_template(operator, welcome.id, version=1)
    other = create(operator, "Other Welcome", TemplateKind.WELCOME)
    assign(operator, other.template_id, "CQ001", "CQ002", "CQ003")
    with pytest.raises(Conflict, match="CQ101 has no other Welcome"):
        edits.archive_template(operator, welcome.id, version=1)
    with pytest.raises(Conflict, match="CQ101 has no other Welcome"):
        assign(operator, welcome.id, "CQ001", "CQ101", verb=Verb.REMOVE)
    assert assign(operator, welcome.id, "CQ001", verb=Verb.REMOVE) == 1
    with pytest.raises(Conflict, match="CQ001 has no other Welcome than Other Welcome"):
        edits.archive_template(operator, other.template_id, version=version_of(other.template_id))
    assign(operator, other.template_id, "CQ101")
    edits.archive_template(operator, welcome.id, version=1)
    with pytest.raises(Conflict, match="no other Welcome than Other Welcome"):
        edits.archive_template(operator, other.template_id, version=version_of(other.template_id))
    assert without_welcome() == []


def test_the_last_welcome_and_the_last_reset_stay_though_nobody_has_them(operator: Actor) -> None:
    db.session.execute(sa.delete(CustomerEmailTemplate))
    db.session.commit()
    for kind, told in (
        (TemplateKind.WELCOME, "the only Welcome"),
        (TemplateKind.PASSWORD_RESET, "the only password reset"),
    ):
        template = find_template_of_kind(kind)
        assert template is not None
        with pytest.raises(Conflict, match=told):
            edits.archive_template(operator, template.id, version=1)


def test_a_new_welcome_goes_to_customers_who_have_none(operator: Actor) -> None:
    lonely = make_customer()
    made = create(operator, "Other Welcome", TemplateKind.WELCOME)
    having = db.session.scalars(
        sa.select(CustomerEmailTemplate.customer_id).where(
            CustomerEmailTemplate.template_id == made.template_id
        )
    ).all()
    assert having == [lonely.id]
    assert newest_event("email_template.assigned").detail["customers"] == 1


def test_welcomes_taken_away_at_once_leave_every_customer_one(app: Flask, operator: Actor) -> None:
    """Two are archived and one is removed at the same moment: each alone is allowed."""
    for _ in range(5):
        customer = make_customer()
        ids = [make_welcome(customer).id for _ in range(3)]
        attempts: list[Callable[[], object]] = [
            partial(edits.archive_template, operator, each, version=1) for each in ids[:2]
        ]
        attempts.append(partial(assign, operator, ids[2], customer.web_id, verb=Verb.REMOVE))
        outcomes = at_once(app, attempts)
        assert sorted(outcomes) == ["Conflict", "done", "done"]
        assert without_welcome() == []


@pytest.mark.empty_database
def test_an_empty_installation_gets_the_standard_templates(app_context: Flask) -> None:
    landlord = make_user(role=Role.LANDLORD, login="first@foyer.example")
    actor = Actor.from_user(landlord)
    made = edits.create_defaults(actor)
    assert made == ["Welcome", "Password update", "Voicemail update", "Password reset"]
    assert edits.create_defaults(actor) == []
    assert find_template_of_kind(TemplateKind.WELCOME) is not None
    assert db.session.scalar(sa.select(sa.func.count()).select_from(EmailTemplateVersion)) == 4


# --- The list ------------------------------------------------------------------------------------


def test_the_list_is_searched_filtered_and_counts_what_is_ones_own(operator: Actor) -> None:
    names = [each.template.name for each in lists.list_templates(operator, TemplateFilter()).rows]
    assert names == ["Password reset", "Password update", "Voicemail update", "Welcome"]
    found = lists.list_templates(operator, TemplateFilter(search="PASSW", web_id="cq001"))
    assert [each.template.name for each in found.rows] == ["Password update"]
    (welcome,) = lists.list_templates(operator, TemplateFilter(kind=TemplateKind.WELCOME)).rows
    assert (welcome.customers, welcome.number) == (4, 1)
    assert welcome.languages == ["en", "de", "fr", "nl"]
    limited = limited_operator("CQ101")
    (welcome,) = lists.list_templates(limited, TemplateFilter(kind=TemplateKind.WELCOME)).rows
    assert welcome.customers == 1
    assert lists.list_templates(limited, TemplateFilter(web_id="CQ001")).rows == []
    first = lists.list_templates(operator, TemplateFilter(), size=3)
    rest = lists.list_templates(operator, TemplateFilter(), size=3, cursor=first.next or "")
    assert [each.template.name for each in rest.rows] == ["Welcome"]


def test_very_many_customers_are_counted_up_to_a_limit(
    operator: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lists, "MOST_COUNTED", 3)
    (welcome,) = lists.list_templates(operator, TemplateFilter(kind=TemplateKind.WELCOME)).rows
    assert welcome.customers is None


def test_deleted_people_stay_named_in_versions(operator: Actor) -> None:
    made = create(operator)
    row = lists.get_version(operator, made.template_id)
    assert db.session.get_one(User, row.created_by_id).login == operator.login


# --- New customers -------------------------------------------------------------------------------


def service_template(*templates: EmailTemplate) -> ServiceTemplateVersion:
    """A version of a service template with these e-mail templates alone."""
    version = db.session.scalars(sa.select(ServiceTemplateVersion).limit(1)).one()
    version.email_templates = list(templates)
    db.session.commit()
    return version


def given_to_new_customers(*templates: EmailTemplate) -> set[int]:
    version = service_template(*templates)
    return set(db.session.scalars(provisioning_steps._email_templates_of(version.id)))


def test_a_new_customer_gets_what_its_service_template_names_and_always_a_welcome() -> None:
    first = find_template_of_kind(TemplateKind.WELCOME)
    assert first is not None
    special = make_welcome(find_customer("CQ001"))
    notice, gone = make_template(), make_template()
    gone.archived_at = utcnow()
    db.session.commit()
    assert given_to_new_customers(notice, gone) == {notice.id, first.id}
    assert given_to_new_customers(notice, special) == {notice.id, special.id}
    special.archived_at = utcnow()
    db.session.commit()
    assert given_to_new_customers(special) == {first.id}


def test_who_archives_waits_for_a_customer_that_is_just_made(app: Flask, operator: Actor) -> None:
    """The one transaction has read which Welcomes there are; the other must not end one of them."""
    customer = make_customer()
    doomed = make_welcome(customer)
    make_welcome(customer)
    group_id = find_customer("CQ001").group_id
    db.session.commit()
    with db.engine.begin() as connection:
        welcomes.hold(connection)
        made = connection.execute(
            sa.insert(Customer)
            .values(
                group_id=group_id,
                custno=77,
                web_id="NEW77",
                name="New 77",
                name_key="new 77",
                short_name="n77",
                short_name_key="n77",
                upn_suffix="n77.example",
            )
            .returning(Customer.id)
        ).scalar_one()
        connection.execute(
            sa.insert(CustomerEmailTemplate).values(customer_id=made, template_id=doomed.id)
        )
        pool = ThreadPoolExecutor(1)
        act = partial(edits.archive_template, operator, doomed.id, version=1)
        outcome = pool.submit(attempt, app, act)
        with pytest.raises(TimeoutError):
            outcome.result(timeout=1)
    assert outcome.result(timeout=60) == "Conflict"
    pool.shutdown()
    assert without_welcome() == []
