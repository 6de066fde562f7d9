"""Checks of a draft: every field of every tab, and what is taken."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from extensions import db
from models import (
    Customer,
    CustomerStatus,
    RequestState,
    SubscriptionRequest,
    User,
    fold,
    is_storable,
)
from services import registration_checks, registration_drafts
from services.actors import Actor
from services.registration_drafts import FIELDS, OPTIONAL, DraftCheck, Tab, Verdicts
from services.request_states import HOLDS_NAMES
from tests.support.factories import actor_for, find_customer, make_customer, make_user
from tests.support.registrations import (
    CONTACT,
    PASSWORD,
    TENANT,
    fill_draft,
    find_template,
    make_draft,
    make_prospect,
)
from tests.support.requests import make_request

HOSTILE = [
    "\0",
    "a\0b",
    "\ud800",
    "b\udfffc",
    "\u202egnp.exe",
    "\u2066x\u2069",
    "\u200b",
    "\ufeffx",
    "\r\nBcc: everybody@example.com",
    "😀" * 20,
    "שלום עולם",
    "مرحبا بالعالم",
    "Ke\u0301nton\u0301\u0301\u0301",
    "'; DROP TABLE customers; --",
    '<script>alert("1")</script>',
    "((first name)) {{ 7*7 }} {% x %} ${7*7}",
    "%s %n %00 %0d%0a",
    "../../etc/passwd",
    "=cmd|' /C calc'!A0",
    "x" * 1_000_000,
    "ﷺ" * 300,
    "9" * 400,
    "-1",
    "1e309",
    "NaN",
    "null",
    " \t\u00a0\u3000 ",
]


@pytest.fixture
def prospect(app_context: Flask) -> Actor:
    return make_prospect()


@pytest.fixture
def draft(prospect: Actor) -> SubscriptionRequest:
    return registration_drafts.start_draft(prospect)


def check(prospect: Actor, draft: SubscriptionRequest, **changes: str) -> DraftCheck:
    return registration_drafts.check(fill_draft(prospect, draft, **changes))


def faults(prospect: Actor, draft: SubscriptionRequest, **changes: str) -> dict[str, str]:
    return {fault.field: fault.message for fault in check(prospect, draft, **changes).faults}


def judge(prospect: Actor, draft: SubscriptionRequest, **typed: str) -> Verdicts:
    tab = Tab.CONTACT if set(typed) & {*FIELDS[Tab.CONTACT]} else Tab.TENANT
    return registration_drafts.check_field(prospect, draft.id, tab, typed)


def test_a_draft_without_faults_has_the_columns_of_its_request(
    prospect: Actor, draft: SubscriptionRequest
) -> None:
    checked = check(prospect, draft, upn_suffix="https://www.München.example/", name="KéntonÉ")
    values = checked.values
    assert checked.is_ready
    assert values["name"] == "KéntonÉ"
    assert values["name_key"] == "kéntoné"
    assert values["upn_suffix"] == "xn--mnchen-3ya.example"
    assert values["admin_login"] == "prpbmAdmin@xn--mnchen-3ya.example"
    assert values["ani"] == "+3225550123"
    assert values["contact_phone"] == "+32475123456"
    assert values["options"] == {"lines": 5, "voicemail_to_email": True}
    assert set(values) <= set(sa.inspect(SubscriptionRequest).columns.keys())
    shown = {line.label: line.value for line in checked.summary}
    assert shown["UPN Suffix"] == "münchen.example (xn--mnchen-3ya.example)"
    assert shown["Country"] == "Belgium"
    assert shown["Language"] == "Deutsch"


def check_with(prospect: Actor, draft: SubscriptionRequest, field: str, typed: str) -> DraftCheck:
    """The check of a draft that is right but for one field."""
    tab = next(tab for tab in Tab if field in FIELDS[tab])
    before = registration_drafts.form_values(draft, tab).get(field, "")
    draft = registration_drafts.get_draft(prospect, draft.id)
    changed = registration_drafts.save_tab(
        prospect, draft.id, tab, {field: typed}, draft_version=draft.draft_version
    )
    checked = registration_drafts.check(changed)
    registration_drafts.save_tab(
        prospect, draft.id, tab, {field: before}, draft_version=changed.draft_version
    )
    return checked


def test_a_field_that_is_needed_is_told_when_it_is_missing(
    prospect: Actor, subtests: pytest.Subtests
) -> None:
    draft = make_draft(prospect)
    for field in sorted({*TENANT, *CONTACT} - OPTIONAL):
        with subtests.test(field):
            (fault,) = check_with(prospect, draft, field, "  ").faults
            assert (fault.field, fault.is_missing) == (field, True)
            assert fault.message == f"{registration_drafts.LABELS[field]} is missing."


def test_other_fields_may_be_empty(prospect: Actor, subtests: pytest.Subtests) -> None:
    draft = make_draft(prospect)
    for field in sorted(OPTIONAL):
        with subtests.test(field):
            checked = check_with(prospect, draft, field, "")
            assert checked.is_ready
            assert checked.values[field] == ""


FAULTY = [
    ("template", "999999", "not offered any more"),
    ("template", "1\0", "not offered any more"),
    ("template", "9" * 30, "not offered any more"),
    ("company", "x" * 129, "Company has 129 characters. The limit is 128."),
    ("company", "Ken\u202eton", "a character that is none"),
    ("company", "Ken\0ton", "a character that is none"),
    ("company", "—", "neither a letter nor a digit"),
    ("street", "x" * 201, "Street has 201 characters. The limit is 200."),
    (
        "postal_code",
        "1000; DROP",
        "neither a letter from A to Z, a digit, a space nor a hyphen",
    ),
    ("postal_code", "1" * 17, "The limit is 16"),
    ("city", "x" * 101, "The limit is 100"),
    ("region", "\u200b", "a character that is none"),
    ("country", "Belgium", "Country: “Belgium” is not in the list."),
    ("country", "EU", "is not in the list"),
    ("contact_name", "x" * 129, "The limit is 128"),
    ("contact_phone", "12", "Phone 12 is too short"),
    ("contact_email", "beate", "E-mail address: "),
    ("contact_email", "a@b.example\r\nBcc: c@d.example", "E-mail address: "),
    ("contact_email", "x" * 400 + "@b.example", "The limit is 320"),
    ("contact_email", "a@localhost", "E-mail address: "),
    ("language", "xx", "Language: “xx” is not in the list."),
    ("time_zone", "Europe/Atlantis", "Time zone: “Europe/Atlantis” is not in the list."),
    ("upn_suffix", "foyer.example", "is the service provider's own"),
    ("name", "Foyer Communications", "must not contain spaces"),
    ("name", "FoyerCommunications", "is reserved"),
]


def test_a_faulty_field_is_told_with_its_value_and_limit(
    prospect: Actor, subtests: pytest.Subtests
) -> None:
    draft = make_draft(prospect)
    for field, typed, told in FAULTY:
        with subtests.test(field, typed=typed[:40]):
            checked = check_with(prospect, draft, field, typed)
            assert [fault.field for fault in checked.faults] == [field]
            assert told in checked.faults[0].message
            assert not checked.faults[0].is_missing


STORED = [
    ("company", "  Kenton \t Electronics\u00a0NV ", "Kenton Electronics NV"),
    ("company", "حلول الاتصالات", "حلول الاتصالات"),
    ("company", "می\u200cخواهم", "می\u200cخواهم"),
    ("company", "Re\u0301union & Co. <3", "Réunion & Co. <3"),
    ("postal_code", "sw1a  2aa", "SW1A 2AA"),
    ("postal_code", "1234-567", "1234-567"),
    ("contact_name", "Łukasz O'Brien-Ñandú 🎺", "Łukasz O'Brien-Ñandú 🎺"),
    ("contact_email", " Beate@MÜNCHEN.example ", "Beate@münchen.example"),
    ("time_zone", "Asia/Calcutta", "Asia/Calcutta"),
]


def test_a_field_is_stored_as_it_is_meant(prospect: Actor, subtests: pytest.Subtests) -> None:
    draft = make_draft(prospect)
    for field, typed, stored in STORED:
        with subtests.test(field, typed=typed):
            checked = check_with(prospect, draft, field, typed)
            assert checked.is_ready
            assert checked.values[field] == stored


def test_numbers_are_of_the_country_of_the_contact(
    prospect: Actor, draft: SubscriptionRequest
) -> None:
    checked = check(
        prospect, draft, country="GB", ani="020 7946 0958", contact_phone="0131 496 0000"
    )
    assert checked.values["ani"] == "+442079460958"
    assert checked.values["contact_phone"] == "+441314960000"
    checked = check(prospect, draft, country="??", ani="02 555 01 23")
    assert checked.values["ani"] == "+3225550123"


@pytest.mark.parametrize("tab", [Tab.TEMPLATE, Tab.TENANT, Tab.CONTACT])
def test_hostile_input_is_kept_judged_and_shown_harmlessly(
    prospect: Actor, draft: SubscriptionRequest, tab: Tab
) -> None:
    """Whatever is sent to whatever field: it is saved, judged as typed, checked and read again."""
    names = [*FIELDS[tab]]
    if tab is Tab.TEMPLATE:
        names.append(f"option-{find_template('Starter').id}-lines")
    draft = fill_draft(prospect, draft)
    for text in HOSTILE:
        typed = dict.fromkeys(names, text)
        draft = registration_drafts.save_tab(
            prospect, draft.id, tab, typed, draft_version=draft.draft_version
        )
        shown = registration_drafts.form_values(draft, tab)
        assert all(is_storable(shown[name]) for name in names)
        if is_storable(text):
            assert all(shown[name] == text[:2000] for name in names)
        checked = registration_drafts.check(draft)
        for fault in checked.faults:
            assert len(fault.message) < 500
            assert is_storable(fault.message)
        for value in checked.values.values():
            assert not isinstance(value, str) or is_storable(value)
        verdicts = registration_drafts.check_field(
            prospect, draft.id, tab, typed | {"password": text, "confirmation": text}
        )
        assert all(len(verdict.message) < 500 for verdict in verdicts.fields.values())


def test_a_faulty_draft_shows_every_fault_in_the_order_of_its_fields(
    prospect: Actor, draft: SubscriptionRequest
) -> None:
    checked = check(prospect, draft, name="a b", ani="x", city="")
    assert [fault.field for fault in checked.faults] == ["name", "ani", "city"]
    assert [fault.field for fault in checked.faults_of(Tab.TENANT)] == ["name", "ani"]


# --- What is taken -------------------------------------------------------------------------------


WORDS = {"name": "KENTON", "short_name": "KNT", "upn_suffix": "Kenton.EXAMPLE"}


@pytest.mark.parametrize("status", CustomerStatus)
@pytest.mark.parametrize("field", WORDS)
def test_a_word_of_a_customer_is_taken_whatever_its_case(
    prospect: Actor, draft: SubscriptionRequest, field: str, status: CustomerStatus
) -> None:
    make_customer(name="Kenton", short_name="knt", upn_suffix="kenton.example", status=status)
    found = faults(prospect, draft, **{field: WORDS[field]})
    assert set(found) == {field}
    assert "is taken" in found[field]
    verdict = judge(prospect, draft, **{field: WORDS[field]}).fields[field]
    assert (verdict.ok, verdict.message) == (False, found[field])


@pytest.mark.parametrize("state", RequestState)
def test_a_word_of_an_open_request_is_taken(
    prospect: Actor, draft: SubscriptionRequest, state: RequestState
) -> None:
    make_request(
        state,
        name="Kenton",
        short_name="knt",
        short_name_key="knt",
        upn_suffix="kenton.example",
    )
    found = faults(prospect, draft, **WORDS)
    assert set(found) == (set(WORDS) if state in HOLDS_NAMES else set())


def test_whose_a_taken_suffix_is_is_not_said(prospect: Actor, draft: SubscriptionRequest) -> None:
    find_customer("CQ001")
    told = faults(prospect, draft, upn_suffix="kenton-electronics.com")["upn_suffix"]
    assert told == (
        "The UPN suffix kenton-electronics.com is taken. If the domain is your company's, write "
        "to support@foyer.example."
    )


def test_ones_own_open_request_is_named(prospect: Actor, draft: SubscriptionRequest) -> None:
    own = make_request(created_by_id=prospect.user_id, name="Kenton")
    told = faults(prospect, draft, name="kenton")["name"]
    assert told == (f"The name kenton is in your own request {own.id} already. Choose another one.")


def test_a_request_does_not_stand_in_its_own_way(prospect: Actor) -> None:
    request = make_request(
        RequestState.CHANGES_REQUESTED,
        created_by_id=prospect.user_id,
        name="Kenton",
        short_name="knt",
        short_name_key="knt",
        upn_suffix="kenton.example",
    )
    assert check(prospect, request, **WORDS).is_ready


def test_a_final_id_that_somebody_has_is_taken(prospect: Actor, draft: SubscriptionRequest) -> None:
    make_user(role="operator", login="prpBMADMIN@bergmann.example")
    found = faults(prospect, draft)
    assert found == {
        "user_name": "The final ID prpbmAdmin@bergmann.example is taken. Choose another name."
    }


def test_the_providers_own_domain_is_for_staff(app_context: Flask) -> None:
    operator = actor_for("operator@foyer.example")
    draft = registration_drafts.start_draft(operator)
    assert check(operator, draft, upn_suffix="foyer.example").is_ready


@pytest.mark.parametrize("column", ["name_key", "short_name_key", "upn_suffix"])
def test_words_are_looked_up_by_index(app_context: Flask, column: str) -> None:
    """However many requests there are."""
    statements: list[tuple[str, Any]] = []

    def note(_c: Any, _cursor: Any, statement: str, parameters: Any, *_more: Any) -> None:
        statements.append((statement, parameters))

    sa.event.listen(db.engine, "before_cursor_execute", note)
    registration_checks.find_holder(column, "nobody", 1)
    sa.event.remove(db.engine, "before_cursor_execute", note)
    assert len(statements) == 2
    with db.engine.connect() as connection:
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql("SET enable_seqscan = off")
            explain = "EXPLAIN "
        else:
            explain = "EXPLAIN QUERY PLAN "
        for statement, parameters in statements:
            plan = str(connection.exec_driver_sql(explain + statement, parameters).all())
            assert "uq_" in plan or "sqlite_autoindex" in plan, plan
            assert "SCAN subscription_requests" not in plan


# --- As one types --------------------------------------------------------------------------------


def test_verdicts_confirm_what_is_right(prospect: Actor, draft: SubscriptionRequest) -> None:
    verdicts = judge(
        prospect,
        draft,
        name="KingstonEast",
        short_name="",
        upn_suffix="münchen.example",
        user_name="keAdmin",
        ani="02 555 01 23",
        password=PASSWORD,
        confirmation=PASSWORD,
    )
    assert all(verdict.ok for verdict in verdicts.fields.values())
    assert {name: verdict.message for name, verdict in verdicts.fields.items()} == {
        "name": "KingstonEast is free.",
        "upn_suffix": "münchen.example (xn--mnchen-3ya.example) is free.",
        "user_name": "The final ID is prpkeAdmin@münchen.example.",
        "ani": "02 555 01 23, from abroad +32 2 555 01 23",
        "password": "Strength: strong.",
        "confirmation": "Both are the same.",
    }
    assert verdicts.login == "prpkeAdmin@xn--mnchen-3ya.example"
    assert verdicts.suffix is not None
    assert verdicts.suffix.unicode == "münchen.example"
    assert verdicts.ani is not None
    assert verdicts.ani.e164 == "+3225550123"
    assert verdicts.strength is not None
    assert verdicts.strength.score == 4


def test_verdicts_take_the_rest_from_the_draft(prospect: Actor) -> None:
    draft = make_draft(prospect)
    verdicts = judge(prospect, draft, user_name="other")
    assert set(verdicts.fields) == {"user_name"}
    assert verdicts.login == "prpother@bergmann.example"
    assert judge(prospect, draft, user_name=".").login == ""
    assert judge(prospect, draft, upn_suffix="kenton-electronics.com").login == ""
    after = registration_drafts.get_draft(prospect, draft.id)
    assert after.draft_version == draft.draft_version
    assert registration_drafts.form_values(after, Tab.TENANT)["user_name"] == "bmAdmin"


def test_a_short_name_that_is_free_is_suggested(
    prospect: Actor, draft: SubscriptionRequest
) -> None:
    assert judge(prospect, draft, name="KingstonEast").short_name == "ke2"
    make_customer(short_name="ke2")
    make_request(short_name="ke3", short_name_key="ke3")
    assert judge(prospect, draft, name="KingstonEast").short_name == "ke4"
    assert judge(prospect, draft, name="KingstonEast", short_name="x").short_name == ""
    assert judge(prospect, draft, name="株式会社").short_name == ""


STRENGTHS = [
    ("short", 0, "too short", False),
    ("passwordpassword", 0, "very weak", False),
    ("bergmann.example", 0, "very weak", False),
    (PASSWORD, 4, "strong", True),
    ("x" * 100_000, 0, "very weak", False),
]


def test_the_strength_of_a_password_is_told(
    prospect: Actor, draft: SubscriptionRequest, subtests: pytest.Subtests
) -> None:
    fill_draft(prospect, draft)
    for password, score, word, ok in STRENGTHS:
        with subtests.test(password[:20]):
            verdicts = judge(prospect, draft, password=password, confirmation="")
            assert verdicts.strength is not None
            assert verdicts.fields["password"].ok is ok
            assert (verdicts.strength.score, verdicts.strength.word) == (score, word)
            assert "confirmation" not in verdicts.fields


def test_passwords_that_differ_are_told(prospect: Actor, draft: SubscriptionRequest) -> None:
    verdicts = judge(prospect, draft, password=PASSWORD, confirmation="violet")
    assert verdicts.fields["password"].ok
    assert verdicts.fields["confirmation"].message == "The two passwords differ."


def test_options_are_judged_as_they_are_chosen(prospect: Actor, draft: SubscriptionRequest) -> None:
    starter = find_template("Starter").id
    name = f"option-{starter}-lines"
    verdicts = registration_drafts.check_field(
        prospect, draft.id, Tab.TEMPLATE, {"template": str(starter), name: "500"}
    )
    assert verdicts.fields["template"].ok
    assert "is not a whole number from 1 to 20" in verdicts.fields[name].message


def test_contacts_are_judged_as_they_are_typed(prospect: Actor, draft: SubscriptionRequest) -> None:
    verdicts = judge(prospect, draft, contact_phone="0131 496 0000", country="GB", city="")
    assert verdicts.fields["contact_phone"].message == (
        "0131 496 0000, from abroad +44 131 496 0000"
    )
    assert "city" not in verdicts.fields
    assert db.session.scalar(sa.select(User.id).where(User.login_key == fold("nobody"))) is None
    assert db.session.scalar(sa.select(Customer.id).where(Customer.name_key == "nobody")) is None


class TestInProduction:
    @pytest.fixture
    def settings_changes(self) -> dict[str, str]:
        return {
            "FOYER_ENV": "production",
            "SEAL_KEYS": "YSBzZWFsIGtleSBvZiB0aGlydHktdHdvIGxldHRlcnM=",
            "PUBLIC_URL": "https://portal.kenton-provider.com",
            "MAIL_SERVER": "127.0.0.1",
            "MAIL_DEFAULT_SENDER": "welcome@kenton-provider.com",
            "SUPPORT_EMAIL": "help@kenton-help.com",
        }

    def test_names_that_nobody_owns_are_refused(
        self, prospect: Actor, draft: SubscriptionRequest
    ) -> None:
        found = faults(prospect, draft, contact_email="beate@bergmann.com")
        assert "reserved for examples" in found["upn_suffix"]

    @pytest.mark.parametrize(
        "own", ["kenton-provider.com", "kenton-help.com", "portal.kenton-provider.com"]
    )
    def test_the_providers_domains_are_its_own(
        self, prospect: Actor, draft: SubscriptionRequest, own: str
    ) -> None:
        found = faults(prospect, draft, upn_suffix=own, contact_email="beate@bergmann.com")
        assert "is the service provider's own" in found["upn_suffix"]
