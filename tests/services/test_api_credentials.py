"""API credentials: their rules, their secrets, who signs in with them, and what is noted of it."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from extensions import db
from models import (
    ApiCredential,
    ApiCredentialGroup,
    ApiScope,
    AuditEvent,
    CredentialState,
    Group,
    utcnow,
)
from services import api_credential_rules as rules
from services import api_credentials, passwords
from services.actors import Actor, Permission
from services.api_credential_rules import Terms
from services.api_credentials import Kept, Made, authenticate
from services.errors import Conflict, Forbidden, InvalidInput, InvalidInputs, NotFound, Stale
from tests.support.api import DEMO, SECRET, make_credential
from tests.support.factories import actor_for, make_group, save

LANDLORD = "landlord@foyer.example"
HERE = "192.0.2.9"
WORD = "a-word-of-a-form-0123456789"
NOW = datetime(2026, 2, 28, 12, tzinfo=UTC)

one_database = pytest.mark.parametrize("engine_name", ["sqlite"])
pytestmark = pytest.mark.usefixtures("app_context")


@pytest.fixture
def landlord(app_context: Flask) -> Actor:
    return actor_for(LANDLORD)


def group_id(groupno: int) -> int:
    return db.session.scalars(sa.select(Group.id).where(Group.groupno == groupno)).one()


def terms(**changes: Any) -> Terms:
    values: dict[str, Any] = {
        "description": "Invoices",
        "scopes": {ApiScope.READ},
        "all_groups": False,
        "group_ids": {group_id(1)},
        "networks": "",
        "last_day": None,
        **changes,
    }
    return Terms(**values)


def create(actor: Actor, name: str = "billing", word: str = WORD, **changes: Any) -> Made:
    return api_credentials.create_credential(
        actor, name=name, terms=terms(**changes), confirmation=word
    )


def secret_of(made: Made) -> str:
    assert made.secret is not None
    return made.secret


def row(name: str = "billing") -> ApiCredential:
    db.session.rollback()
    return db.session.scalars(
        sa.select(ApiCredential)
        .where(ApiCredential.name == name)
        .execution_options(populate_existing=True)
    ).one()


def events() -> list[tuple[str, dict[str, Any]]]:
    db.session.rollback()
    found = db.session.scalars(sa.select(AuditEvent).order_by(AuditEvent.id)).all()
    return [
        (each.action, each.detail) for each in found if each.action.startswith("api_credential.")
    ]


def set_row(name: str = "billing", **values: Any) -> None:
    db.session.execute(sa.update(ApiCredential).where(ApiCredential.name == name).values(values))
    db.session.commit()


def faults(make: Callable[[], object]) -> dict[str, str]:
    with pytest.raises(InvalidInputs) as caught:
        make()
    db.session.rollback()
    return dict(reversed(caught.value.faults))


def signs_in(secret: str, name: str = "billing", address: str = HERE) -> bool:
    return authenticate(name, secret, address) is not None


# --- Making --------------------------------------------------------------------------------------


def test_a_credential_is_made_and_signs_in(landlord: Actor) -> None:
    made = create(landlord, scopes={ApiScope.READ, ApiScope.SEND}, networks="192.0.2.0/24")

    secret = secret_of(made)
    assert re.fullmatch(rf"foyer_[{passwords.ALPHABET.decode()}]{{32}}", secret)
    actor = authenticate("billing", secret, HERE)
    assert actor is not None
    assert actor.login == "api:billing"
    assert not actor.all_groups
    assert actor.may(Permission.CUSTOMERS_READ)
    assert actor.may(Permission.MAILINGS_SEND)
    assert not actor.may(Permission.CUSTOMERS_EDIT)
    assert not actor.may(Permission.CREDENTIALS_MANAGE)
    assert [group.groupno for group in made.credential.groups] == [1]
    assert events() == [
        (
            "api_credential.created",
            {
                "after": {
                    "name": "billing",
                    "description": "Invoices",
                    "scopes": ["read", "send"],
                    "groups": [1],
                    "networks": ["192.0.2.0/24"],
                    "last_day": None,
                }
            },
        )
    ]


def test_all_groups_means_those_that_are_added_later_too(landlord: Actor) -> None:
    made = create(landlord, all_groups=True, group_ids=set())
    actor = authenticate("billing", secret_of(made), HERE)
    assert actor is not None
    assert actor.all_groups
    assert db.session.scalar(sa.select(sa.func.count()).select_from(ApiCredentialGroup)) == 1


def test_secrets_differ_and_only_hashes_are_kept(landlord: Actor) -> None:
    first = secret_of(create(landlord))
    second = secret_of(create(landlord, "other", word=f"{WORD}-2"))
    assert first != second
    for secret in (first, second):
        with db.engine.connect() as connection:
            for found in connection.execute(sa.select(ApiCredential.__table__)):
                assert secret not in repr(found)


def test_a_form_that_is_sent_again_makes_one_credential(landlord: Actor) -> None:
    secret = secret_of(create(landlord))
    again = create(landlord)
    other_input = create(landlord, "another-name")

    assert again.secret is None
    assert again.credential.name == other_input.credential.name == "billing"
    assert other_input.secret is None
    assert signs_in(secret)
    assert len(events()) == 1


def test_a_form_that_is_sent_twice_at_once_makes_one_credential(
    app_context: Flask, landlord: Actor
) -> None:
    wanted, made = terms(), []
    barrier = threading.Barrier(4)

    def send() -> None:
        with app_context.app_context():
            barrier.wait()
            made.append(
                api_credentials.create_credential(
                    landlord, name="billing", terms=wanted, confirmation=WORD
                )
            )
            db.session.remove()

    threads = [threading.Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (secret,) = [each.secret for each in made if each.secret is not None]
    assert len(made) == 4
    assert len({each.credential.id for each in made}) == 1
    assert signs_in(secret)
    assert len(events()) == 1


def test_names_are_given_once_for_ever(landlord: Actor) -> None:
    made = create(landlord)
    with pytest.raises(InvalidInput, match="name of another credential") as caught:
        create(landlord, word=f"{WORD}-2")
    assert caught.value.field == "name"
    api_credentials.revoke_credential(landlord, made.credential.id, typed_name="billing")
    with pytest.raises(InvalidInput, match="name of a revoked credential"):
        create(landlord, word=f"{WORD}-3")


@one_database
@pytest.mark.parametrize("name", ["ab", "0.9", "a" * 64, "billing-sync_2.north", "..", "--"])
def test_names_that_are_possible(landlord: Actor, name: str) -> None:
    assert create(landlord, name).credential.name == name


@one_database
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("", "0 characters"),
        ("a", "1 character. It needs 2 to 64"),
        ("a" * 65, "65 characters"),
        ("Billing", "contains B"),
        ("a b", "contains a space"),
        ("a:b", "contains :"),
        ("ä1", "contains ä"),
        ("a\0b", "cannot be seen"),
        ("a\ud800", "cannot be seen"),
        ("ab\n", "cannot be seen"),
        ("\u0661\u0662", "contains \u0661"),
        ("x" * 10_000_000, "10,000,000 characters"),
    ],
)
def test_names_that_are_not(landlord: Actor, name: str, said: str) -> None:
    assert said in faults(lambda: create(landlord, name))["name"]


@one_database
def test_all_faults_are_told_at_once(landlord: Actor) -> None:
    found = faults(
        lambda: create(
            landlord,
            "B",
            description="x" * 201,
            scopes=set(),
            group_ids=set(),
            networks="nonsense",
            last_day=date(2020, 1, 1),
        )
    )
    assert set(found) == {"name", "description", "scopes", "groups", "networks", "last_day"}
    assert "201" in found["description"]
    assert "200" in found["description"]


@one_database
@pytest.mark.parametrize("description", ["a\nb", "a\0", "\ud800", "\x1b[31m"])
def test_descriptions_are_one_line_that_can_be_seen(landlord: Actor, description: str) -> None:
    assert "description" in faults(lambda: create(landlord, description=description))


@one_database
def test_groups_must_be_there(landlord: Actor) -> None:
    wrong = {group_id(1), 999_999}
    assert "not there" in faults(lambda: create(landlord, group_ids=wrong))["groups"]


@one_database
@pytest.mark.parametrize("word", ["", "short", "x" * 65, "a b" * 10, "a\0" * 12])
def test_a_form_without_its_word_is_refused(landlord: Actor, word: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        create(landlord, word=word)
    assert caught.value.field == "confirmation"


@one_database
@pytest.mark.parametrize("login", ["operator@foyer.example", "auditor@foyer.example"])
def test_landlords_alone_look_after_credentials(login: str) -> None:
    actor = actor_for(login)
    credential = db.session.scalars(sa.select(ApiCredential)).one()
    for act in (
        lambda: create(actor),
        lambda: api_credentials.list_credentials(actor),
        lambda: api_credentials.get_credential(actor, credential.id),
        lambda: api_credentials.list_groups(actor),
        lambda: api_credentials.change_credential(actor, credential.id, version=1, terms=terms()),
        lambda: api_credentials.rotate_secret(
            actor, credential.id, version=1, overlap=timedelta(0)
        ),
        lambda: api_credentials.end_overlap(actor, credential.id, version=1),
        lambda: api_credentials.revoke_credential(actor, credential.id, typed_name="demo-api"),
    ):
        with pytest.raises(Forbidden):
            act()
    assert authenticate(*DEMO, HERE) is not None


@one_database
def test_no_credential_looks_after_credentials() -> None:
    actor = authenticate(*DEMO, HERE)
    assert actor is not None
    with pytest.raises(Forbidden):
        create(actor)


# --- Expiry --------------------------------------------------------------------------------------


def test_a_credential_works_until_its_last_day_ends(
    landlord: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    last_day = utcnow().date() + timedelta(days=3)
    secret = secret_of(create(landlord, last_day=last_day))
    assert row().expires_at == datetime(
        last_day.year, last_day.month, last_day.day, 23, 59, 59, 999_999, UTC
    )
    midnight = datetime(last_day.year, last_day.month, last_day.day, tzinfo=UTC) + timedelta(days=1)
    monkeypatch.setattr(api_credentials, "utcnow", lambda: midnight - timedelta(seconds=1))
    assert signs_in(secret)
    monkeypatch.setattr(api_credentials, "utcnow", lambda: midnight)
    assert not signs_in(secret)


@one_database
@pytest.mark.parametrize(
    ("last_day", "said"),
    [
        (date(2026, 2, 27), "has passed"),
        (date(1, 1, 1), "has passed"),
        (date(2026, 2, 28), ""),
        (date(2031, 2, 28), ""),
        (date(2031, 3, 1), "more than 5 years"),
        (date(9999, 12, 31), "latest day is 2031-02-28"),
        (None, ""),
    ],
)
def test_the_last_day_is_ahead_but_not_by_more_than_five_years(
    last_day: date | None, said: str
) -> None:
    wanted = terms(all_groups=True, last_day=last_day)
    if said:
        assert said in faults(lambda: rules.check_terms(wanted, [], NOW))["last_day"]
    else:
        rules.check_terms(wanted, [], NOW)


@one_database
def test_five_years_after_a_leap_day() -> None:
    assert rules.latest_day(datetime(2028, 2, 29, tzinfo=UTC)) == date(2033, 2, 28)


# --- Networks ------------------------------------------------------------------------------------


@one_database
@pytest.mark.parametrize(
    ("text", "networks"),
    [
        ("", []),
        ("\n  \r\n", []),
        ("192.0.2.7", ["192.0.2.7/32"]),
        (" 192.0.2.0/24 \r\n2001:DB8::/32\n\n192.0.2.0/24", ["192.0.2.0/24", "2001:db8::/32"]),
        ("10.0.0.0/255.0.0.0", ["10.0.0.0/8"]),
        ("2001:db8::1", ["2001:db8::1/128"]),
        ("::ffff:192.0.2.0/120", ["192.0.2.0/24"]),
        ("::ffff:192.0.2.7", ["192.0.2.7/32"]),
        ("0.0.0.0/0\n::/0", ["0.0.0.0/0", "::/0"]),
    ],
)
def test_networks_are_read(text: str, networks: list[str]) -> None:
    assert rules.read_networks(text) == (networks, [])


@one_database
@pytest.mark.parametrize(
    "line",
    [
        "nonsense",
        "192.0.2.256",
        "192.0.2.0/33",
        "192.0.2",
        "192.0.2.0/24 # office",
        "192.0.2.1, 192.0.2.2",
        "fe80::1%eth0",
        "fe80::%eth0/64",
        "12345",
        "\u0661.0.0.1",
        "/24",
        "192.0.2.0/",
        "192.0.2.0/-1",
        "a\0b",
        "\ud800",
        "x" * 100_000,
    ],
)
def test_each_fault_of_the_networks_names_its_line(line: str) -> None:
    networks, wrong = rules.read_networks(f"192.0.2.0/24\n\n{line}\n2001:db8::/32")
    assert networks == ["192.0.2.0/24", "2001:db8::/32"]
    (fault,) = wrong
    assert fault.startswith("Line 3: ")
    assert len(fault) < 300


@one_database
def test_an_address_inside_a_network_is_told_what_to_write() -> None:
    _, (first, second) = rules.read_networks("10.1.2.3/8\n2001:db8::1/32")
    assert "Write 10.0.0.0/8 for the whole network, or 10.1.2.3 for this address" in first
    assert "Line 2" in second
    assert "2001:db8::/32" in second


@one_database
def test_there_is_a_limit_to_networks() -> None:
    def lines(count: int) -> str:
        return "\n".join(f"10.0.{number // 256}.{number % 256}" for number in range(count))

    assert rules.read_networks(lines(100))[1] == []
    (fault,) = rules.read_networks(lines(101))[1]
    assert "101" in fault
    assert "100" in fault


@one_database
def test_addresses_are_written_without_the_mask_that_says_nothing() -> None:
    stored = ["192.0.2.7/32", "192.0.2.0/24", "2001:db8::1/128", "2001:db8::/32"]
    assert rules.write_networks(stored) == [
        "192.0.2.7",
        "192.0.2.0/24",
        "2001:db8::1",
        "2001:db8::/32",
    ]


# --- Looking -------------------------------------------------------------------------------------


@pytest.fixture
def many(landlord: Actor) -> list[str]:
    """Thirty credentials, of three states in turn."""
    names = []
    for number in range(30):
        name = f"client-{number:02}"
        now = utcnow()
        make_credential(
            name,
            revoked_at=now if number % 3 == 1 else None,
            expires_at=now - timedelta(days=1) if number % 3 else now + timedelta(days=1),
        )
        names.append(name)
    return names


def test_the_list_pages_forth_and_back_by_name(landlord: Actor, many: list[str]) -> None:
    first = api_credentials.list_credentials(landlord)
    assert [each.name for each in first.rows] == many[:25]
    assert first.previous is None
    assert first.next is not None
    second = api_credentials.list_credentials(landlord, cursor=first.next)
    assert [each.name for each in second.rows] == [*many[25:], "demo-api"]
    assert second.next is None
    assert second.previous is not None
    back = api_credentials.list_credentials(landlord, cursor=second.previous)
    assert [each.name for each in back.rows] == many[:25]


def test_the_list_is_filtered(landlord: Actor, many: list[str]) -> None:
    def names(**wanted: Any) -> list[str]:
        page = api_credentials.list_credentials(landlord, size=100, **wanted)
        return [each.name for each in page.rows]

    assert names(state=CredentialState.ACTIVE) == [*many[0::3], "demo-api"]
    assert names(state=CredentialState.REVOKED) == many[1::3]
    assert names(state=CredentialState.EXPIRED) == many[2::3]
    assert names(search="CLIENT-1") == many[10:20]
    assert names(search="client-1", state=CredentialState.REVOKED) == many[10:20:3]
    assert names(search="lient") == []
    assert names(search="%") == []


def test_the_list_costs_the_same_with_more_groups(landlord: Actor) -> None:
    groups = tuple(make_group().groupno for _ in range(3))
    for number in range(4):
        make_credential(f"wide-{number}", groups=groups)
    page = api_credentials.list_credentials(landlord, search="wide")
    assert [[group.groupno for group in each.groups] for each in page.rows] == [list(groups)] * 4


@one_database
def test_what_is_not_there_is_not_found(landlord: Actor) -> None:
    for wrong in (0, 999, 2**63 - 1):
        with pytest.raises(NotFound):
            api_credentials.get_credential(landlord, wrong)


# --- Changing ------------------------------------------------------------------------------------


def test_a_change_holds_from_the_next_request_on(landlord: Actor) -> None:
    made = create(landlord, networks="192.0.2.0/24")
    secret = secret_of(made)
    assert signs_in(secret)
    changed = api_credentials.change_credential(
        landlord,
        made.credential.id,
        version=1,
        terms=terms(
            scopes={ApiScope.WRITE},
            group_ids={group_id(1), group_id(2)},
            networks="198.51.100.0/24",
        ),
    )
    assert changed.version == 2
    assert [group.groupno for group in changed.groups] == [1, 2]
    assert not signs_in(secret)
    actor = authenticate("billing", secret, "198.51.100.1")
    assert actor is not None
    assert actor.may(Permission.CUSTOMERS_EDIT)
    assert not actor.may(Permission.CUSTOMERS_READ)
    assert events()[-1] == (
        "api_credential.changed",
        {
            "before": {"scopes": ["read"], "groups": [1], "networks": ["192.0.2.0/24"]},
            "after": {
                "scopes": ["write"],
                "groups": [1, 2],
                "networks": ["198.51.100.0/24"],
            },
        },
    )


def test_groups_are_given_up_for_all(landlord: Actor) -> None:
    made = create(landlord)
    changed = api_credentials.change_credential(
        landlord, made.credential.id, version=1, terms=terms(all_groups=True)
    )
    assert changed.all_groups
    assert changed.groups == []
    assert events()[-1][1] == {"before": {"groups": [1]}, "after": {"groups": "all"}}


def test_saving_what_is_already_so_changes_nothing(landlord: Actor) -> None:
    made = create(landlord)
    same = api_credentials.change_credential(landlord, made.credential.id, version=1, terms=terms())
    assert same.version == 1
    assert len(events()) == 1


def test_the_second_of_two_editors_is_told(landlord: Actor) -> None:
    credential_id = create(landlord).credential.id
    api_credentials.change_credential(
        landlord, credential_id, version=1, terms=terms(scopes={ApiScope.SEND})
    )
    with pytest.raises(Stale, match="has changed since"):
        api_credentials.change_credential(
            landlord, credential_id, version=1, terms=terms(description="Later")
        )
    assert row().scopes == {ApiScope.SEND}
    assert row().description == "Invoices"


def test_who_is_overtaken_between_look_and_change_is_told(
    landlord: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    credential_id = create(landlord).credential.id
    check = rules.check_terms

    def overtaken(*args: Any, **more: Any) -> Any:
        set_row(version=2, description="Faster")
        return check(*args, **more)

    monkeypatch.setattr(rules, "check_terms", overtaken)
    with pytest.raises(Stale):
        api_credentials.change_credential(
            landlord,
            credential_id,
            version=1,
            terms=terms(description="Later", group_ids={group_id(2)}),
        )
    assert row().description == "Faster"
    assert [group.groupno for group in row().groups] == [1]
    assert len(events()) == 1


def test_an_expired_one_works_again_with_a_later_day(landlord: Actor) -> None:
    made = create(landlord)
    secret, before = secret_of(made), utcnow() - timedelta(days=30)
    set_row(expires_at=before)
    kept = api_credentials.change_credential(
        landlord,
        made.credential.id,
        version=1,
        terms=terms(description="Paused", last_day=before.date()),
    )
    assert kept.expires_at == before
    assert not signs_in(secret)
    api_credentials.change_credential(
        landlord,
        made.credential.id,
        version=2,
        terms=terms(last_day=utcnow().date() + timedelta(days=30)),
    )
    assert signs_in(secret)


# --- Rotation ------------------------------------------------------------------------------------


def rotate(actor: Actor, overlap: timedelta = timedelta(0), **more: Any) -> Made:
    current = row()
    return api_credentials.rotate_secret(
        actor, current.id, **{"version": current.version, "overlap": overlap, **more}
    )


def test_a_rotation_at_once_ends_the_old_secret(landlord: Actor) -> None:
    old = secret_of(create(landlord))
    new = secret_of(rotate(landlord))
    assert not signs_in(old)
    assert signs_in(new)
    assert (row().previous_hash, row().previous_until) == (None, None)
    assert events()[-1] == ("api_credential.rotated", {"overlap_hours": 0})


@pytest.mark.parametrize("overlap", api_credentials.OVERLAPS[1:])
def test_in_the_overlap_both_secrets_work_and_then_the_new_one(
    landlord: Actor, overlap: timedelta, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = secret_of(create(landlord))
    new = secret_of(rotate(landlord, overlap))
    until = row().previous_until
    assert until is not None
    assert abs(until - utcnow() - overlap) < timedelta(minutes=1)
    assert signs_in(old)
    assert signs_in(new)
    monkeypatch.setattr(api_credentials, "utcnow", lambda: until - timedelta(seconds=1))
    assert signs_in(old)
    monkeypatch.setattr(api_credentials, "utcnow", lambda: until)
    assert not signs_in(old)
    assert signs_in(new)


def test_the_overlap_can_end_early(landlord: Actor) -> None:
    old = secret_of(create(landlord))
    new = secret_of(rotate(landlord, timedelta(days=7)))
    credential = row()
    for version in (credential.version, credential.version + 1):
        api_credentials.end_overlap(landlord, credential.id, version=version)
    assert not signs_in(old)
    assert signs_in(new)
    assert [action for action, _ in events()].count("api_credential.overlap_ended") == 1


def test_an_old_page_does_not_end_a_later_overlap(landlord: Actor) -> None:
    create(landlord)
    rotate(landlord, timedelta(days=1))
    seen = row().version
    last = secret_of(rotate(landlord, timedelta(0)))
    rotate(landlord, timedelta(days=1))
    with pytest.raises(Stale):
        api_credentials.end_overlap(landlord, row().id, version=seen)
    assert signs_in(last)


def test_a_rotation_that_is_sent_again_makes_no_second_secret(landlord: Actor) -> None:
    create(landlord)
    new = secret_of(rotate(landlord, version=1))
    with pytest.raises(Stale):
        rotate(landlord, version=1)
    assert signs_in(new)
    assert len(events()) == 2


@pytest.mark.parametrize("keep", list(Kept))
def test_while_two_work_one_is_chosen_to_go_on(landlord: Actor, keep: Kept) -> None:
    """The newest may have been lost on its way, with the one before it in use everywhere."""
    secrets = {
        Kept.PREVIOUS: secret_of(create(landlord)),
        Kept.CURRENT: secret_of(rotate(landlord, timedelta(hours=1))),
    }
    with pytest.raises(InvalidInput) as caught:
        rotate(landlord, timedelta(days=1))
    assert caught.value.field == "keep"
    new = secret_of(rotate(landlord, timedelta(days=1), keep=keep))
    assert signs_in(new)
    assert {each for each, secret in secrets.items() if signs_in(secret)} == {keep}
    assert events()[-1][1] == {"overlap_hours": 24, "kept": keep.value}


def test_at_once_ends_both_of_two(landlord: Actor) -> None:
    old = secret_of(create(landlord))
    newer = secret_of(rotate(landlord, timedelta(hours=1)))
    newest = secret_of(rotate(landlord, timedelta(0)))
    assert [signs_in(each) for each in (old, newer, newest)] == [False, False, True]


def test_what_is_over_is_not_kept(landlord: Actor) -> None:
    old = secret_of(create(landlord))
    newer = secret_of(rotate(landlord, timedelta(hours=1)))
    set_row(previous_until=utcnow() - timedelta(seconds=1))
    rotate(landlord, timedelta(hours=1), keep=Kept.PREVIOUS)
    assert not signs_in(old)
    assert signs_in(newer)


@one_database
@pytest.mark.parametrize("overlap", [timedelta(hours=2), timedelta(-1), timedelta(days=8)])
def test_other_overlaps_are_refused(landlord: Actor, overlap: timedelta) -> None:
    create(landlord)
    with pytest.raises(InvalidInput) as caught:
        rotate(landlord, overlap)
    assert caught.value.field == "overlap"


@one_database
def test_an_expired_one_is_not_rotated(landlord: Actor) -> None:
    create(landlord)
    set_row(expires_at=utcnow() - timedelta(seconds=1))
    with pytest.raises(Conflict, match="later expiry date first"):
        rotate(landlord)


# --- Revocation ----------------------------------------------------------------------------------


def test_a_revocation_takes_effect_at_once_and_for_good(landlord: Actor) -> None:
    old = secret_of(create(landlord))
    made = rotate(landlord, timedelta(days=7))
    credential_id = made.credential.id
    revoked = api_credentials.revoke_credential(landlord, credential_id, typed_name=" billing ")
    assert revoked.state_at(utcnow()) is CredentialState.REVOKED
    assert not signs_in(old)
    assert not signs_in(secret_of(made))
    version = revoked.version
    for act in (
        lambda: api_credentials.change_credential(
            landlord, credential_id, version=version, terms=terms(description="Again")
        ),
        lambda: api_credentials.rotate_secret(
            landlord, credential_id, version=version, overlap=timedelta(0)
        ),
        lambda: api_credentials.end_overlap(landlord, credential_id, version=version),
    ):
        with pytest.raises(Conflict, match="revoked for good"):
            act()
    api_credentials.revoke_credential(landlord, credential_id, typed_name="billing")
    assert [action for action, _ in events()] == [
        "api_credential.created",
        "api_credential.rotated",
        "api_credential.revoked",
    ]


@one_database
@pytest.mark.parametrize("typed", ["", "Billing", "billin", "demo-api", "billing\0", "\ud800"])
def test_a_revocation_wants_the_name(landlord: Actor, typed: str) -> None:
    made = create(landlord)
    with pytest.raises(InvalidInput):
        api_credentials.revoke_credential(landlord, made.credential.id, typed_name=typed)
    assert signs_in(secret_of(made))


# --- Signing in ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        ("demo-api", ""),
        ("demo-api", "wrong"),
        ("demo-api", DEMO[1][:-1]),
        ("demo-api", DEMO[1] + "x"),
        ("demo-api", DEMO[1].upper()),
        ("demo-api", DEMO[1] + "\0"),
        ("demo-api", "\ud800"),
        ("demo-api", "x" * 10_000_000),
        ("Demo-api", DEMO[1]),
        ("demo-api ", DEMO[1]),
        ("demo-api\0", DEMO[1]),
        ("", ""),
        ("", DEMO[1]),
        ("\0", DEMO[1]),
        ("\ud800", DEMO[1]),
        ("x" * 10_000_000, DEMO[1]),
        ("demo%", DEMO[1]),
        ("unknown", DEMO[1]),
    ],
)
def test_nobody_else_signs_in(name: str, secret: str) -> None:
    assert authenticate(name, secret, HERE) is None
    assert row("demo-api").last_used_at is None


@contextmanager
def counted_checks(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The hashes that secrets are held against."""
    checked: list[str] = []
    verify = passwords.verify

    def count(stored: str | None, password: str) -> bool:
        assert passwords.is_generated(stored), "a hash that takes another time"
        checked.append(str(stored))
        return verify(stored, password)

    with monkeypatch.context() as patch:
        patch.setattr(passwords, "verify", count)
        yield checked


def test_every_name_costs_the_same_two_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether it is known, rotated, expired, revoked or fenced in, and whether the secret fits."""
    now = utcnow()
    earlier = passwords.hash_generated("the-earlier-secret")
    overlap: dict[str, Any] = {"previous_hash": earlier, "previous_until": now + timedelta(hours=1)}
    over: dict[str, Any] = {"previous_hash": earlier, "previous_until": now - timedelta(hours=1)}
    make_credential("plain")
    make_credential("rotated", **overlap)
    make_credential("rotated-once", **over)
    make_credential("expired", expires_at=now)
    make_credential("revoked", revoked_at=now)
    make_credential("fenced", networks=["198.51.100.0/24"])
    authenticate("unknown", "wrong", HERE)  # Makes the hash that stands in for a missing one.
    names = {
        "plain": True,
        "rotated": True,
        "rotated-once": True,
        "expired": False,
        "revoked": False,
        "fenced": False,
        "unknown": False,
        "": False,
        "x" * 100: False,
    }
    for name, may in names.items():
        for secret, fits in ((SECRET, True), ("wrong", False)):
            with counted_checks(monkeypatch) as checked:
                actor = authenticate(name, secret, HERE)
            assert (actor is not None) == (may and fits), name
            assert len(checked) == 2, name
            assert len({len(each) for each in checked}) == 1, "hashes of different cost"


@pytest.mark.parametrize(
    ("networks", "address", "may"),
    [
        ([], "203.0.113.1", True),
        ([], "", True),
        ([], "nonsense", True),
        (["192.0.2.0/24"], "192.0.2.255", True),
        (["192.0.2.0/24"], "192.0.3.0", False),
        (["192.0.2.0/24"], "::ffff:192.0.2.1", True),
        (["192.0.2.0/24"], "::ffff:192.0.3.1", False),
        (["192.0.2.0/24"], "2001:db8::1", False),
        (["192.0.2.7/32", "2001:db8::/32"], "2001:db8:ffff::1", True),
        (["2001:db8::/32"], "2001:db9::1", False),
        (["2001:db8::/32"], "192.0.2.1", False),
        (["::/0"], "192.0.2.1", False),
        (["192.0.2.0/24"], "", False),
        (["192.0.2.0/24"], "nonsense", False),
        (["192.0.2.0/24"], "unix:", False),
    ],
)
def test_it_may_come_from_its_networks_alone(networks: list[str], address: str, may: bool) -> None:
    make_credential(networks=networks)
    assert (authenticate("test-api", SECRET, address) is not None) == may


# --- Last use ------------------------------------------------------------------------------------


def test_the_last_use_is_noted_at_most_once_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    start = utcnow()
    noted = []
    for seconds, address in ((0, "192.0.2.1"), (59, "192.0.2.2"), (61, "192.0.2.3")):
        now = start + timedelta(seconds=seconds)
        monkeypatch.setattr(api_credentials, "utcnow", lambda now=now: now)
        assert authenticate(*DEMO, address) is not None
        found = row("demo-api")
        noted.append((found.last_used_at, found.last_used_from))
    assert noted == [
        (start, "192.0.2.1"),
        (start, "192.0.2.1"),
        (start + timedelta(seconds=61), "192.0.2.3"),
    ]


def test_who_looked_before_another_noted_does_not_note_as_well() -> None:
    start = utcnow()
    credential_id = row("demo-api").id
    api_credentials._note_use(credential_id, start, "192.0.2.1")
    api_credentials._note_use(credential_id, start + timedelta(seconds=30), "192.0.2.2")
    assert row("demo-api").last_used_from == "192.0.2.1"


def test_of_many_at_once_one_notes_the_use(app_context: Flask) -> None:
    updates: list[int] = []

    def count(_c: Any, cursor: Any, statement: str, *_rest: Any) -> None:
        if statement.startswith("UPDATE api_credentials"):
            updates.append(cursor.rowcount)

    sa.event.listen(db.engine, "after_cursor_execute", count)
    barrier = threading.Barrier(6)

    def call() -> None:
        with app_context.app_context():
            barrier.wait()
            assert authenticate(*DEMO, HERE) is not None
            db.session.remove()

    threads = [threading.Thread(target=call) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sa.event.remove(db.engine, "after_cursor_execute", count)
    assert sum(updates) == 1


def test_a_locked_database_neither_refuses_nor_holds_up_a_request(app_context: Flask) -> None:
    """Somebody writes, or holds the row, for longer than any request would wait."""
    held, released = threading.Event(), threading.Event()

    def hold() -> None:
        with app_context.app_context(), db.engine.connect() as connection:
            connection.execute(sa.update(ApiCredential).values(description="Held"))
            held.set()
            released.wait(60)
            connection.rollback()

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(15)
    try:
        actors: list[Actor | None] = []

        def call() -> None:
            with app_context.app_context():
                actors.append(authenticate(*DEMO, HERE))
                db.session.remove()

        caller = threading.Thread(target=call)
        caller.start()
        caller.join(15)
        assert not caller.is_alive(), "it waits for the one who writes"
        assert [actor is not None for actor in actors] == [True]
    finally:
        released.set()
        thread.join(15)
    assert row("demo-api").last_used_at is None
    assert authenticate(*DEMO, HERE) is not None
    assert row("demo-api").last_used_at is not None


def test_the_haste_of_a_note_is_no_setting_for_others() -> None:
    assert authenticate(*DEMO, HERE) is not None
    if db.engine.dialect.name == "sqlite":
        with db.engine.connect() as connection:
            assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() == 30_000


@one_database
def test_rows_of_every_shape_are_taken(landlord: Actor) -> None:
    """Made by hand, with a hash of a kind that is none: kept out, not failed."""
    save(ApiCredential(name="odd", may_read=True, secret_hash="none", all_groups=True))
    assert authenticate("odd", "none", HERE) is None
