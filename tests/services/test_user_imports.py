"""Imports of users: what is checked, what is written, and what is left when it breaks off."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from extensions import db
from models import (
    AuditEvent,
    Customer,
    CustomerStatus,
    Delivery,
    ImportRowState,
    ImportState,
    Lane,
    Role,
    User,
    UserImport,
    UserImportPiece,
    UserImportRow,
    UserStatus,
    utcnow,
)
from services import user_import_files, user_import_runs, user_imports
from services.actors import Actor, Permission
from services.csv_export import stream_csv
from services.errors import Conflict, Forbidden, InvalidInput, NotFound
from services.user_exports import EXPORT_HEADER, export_users
from services.user_imports import Choices
from services.users import UserFilter
from tests.support.factories import (
    actor_for,
    find_customer,
    find_user,
    make_customer,
    make_profile,
    make_user,
)
from tests.support.user_imports import (
    BUNDLE,
    SUFFIX,
    check_counters,
    checked,
    csv_file,
    expire_leases,
    faults_of,
    imported,
    people,
    person,
    rows_of,
    upload,
    users_named,
    work,
)

ADMIN = "prpkeAdmin@kenton-electronics.com"


@pytest.fixture
def kenton(app_context: Flask) -> Customer:
    return find_customer("CQ001")


@pytest.fixture
def alice(app_context: Flask) -> Actor:
    """The administrator of CQ001."""
    return actor_for(ADMIN)


def events(action: str) -> list[AuditEvent]:
    return list(
        db.session.scalars(
            sa.select(AuditEvent).where(AuditEvent.action == action).order_by(AuditEvent.id)
        )
    )


# --- From a file to users ------------------------------------------------------------------------


def test_users_are_added_as_the_file_says(alice: Actor, kenton: Customer) -> None:
    found = imported(
        alice, kenton, csv_file(person("adele", extension="4711"), person("bert", email=""))
    )
    assert (found.state, found.added, found.failed) == (ImportState.FINISHED, 2, 0)
    check_counters(found)
    adele, bert = users_named(kenton)
    assert (adele.login, adele.first_name, adele.email, adele.extension) == (
        f"adele@{SUFFIX}",
        "Adele",
        "adele@mail.example",
        "4711",
    )
    assert adele.bundle is not None
    assert (adele.bundle.name, adele.role, adele.language) == (BUNDLE, Role.USER, kenton.language)
    assert (adele.password_hash, bert.email) == (None, "")
    told = [event.detail for event in events("user.added") if event.detail.get("import")]
    assert [each["login"] for each in told] == [adele.login, bert.login]
    assert {each["import"] for each in told} == {found.id}
    (started,) = events("user_import.started")
    assert started.detail["to_add"] == 2
    (finished,) = events("user_import.finished")
    assert finished.detail == {"added": 2}
    assert finished.actor_login == alice.login
    assert [row.user_id for row in rows_of(found)] == [adele.id, bert.id]


def test_nothing_is_written_before_somebody_says_so(alice: Actor, kenton: Customer) -> None:
    found = checked(alice, kenton, csv_file(person("adele"), person("bert", last_name="")))
    assert (found.state, found.to_add, found.faulty) == (ImportState.CHECKED, 1, 1)
    assert users_named(kenton) == []
    assert "The last name is missing." in faults_of(found)[3]
    user_imports.start_import(alice, kenton, found.id)
    work()
    assert [user.first_name for user in users_named(kenton)] == ["Adele"]
    again = user_imports.get_import(alice, kenton, found.id)
    assert (again.added, again.faulty, again.failed) == (1, 1, 0)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"login": ""}, "The login is missing."),
        ({"login": "x@elsewhere.example"}, f"ends with @{SUFFIX}"),
        ({"login": ADMIN}, "is taken"),
        ({"email": "not an address"}, "The e-mail address"),
        ({"extension": "12a"}, "up to 16 digits"),
        ({"bundle": "NoSuchBundle"}, "has no bundle “NoSuchBundle”"),
        ({"bundle": ""}, "A user has one of the customer's bundles"),
        ({"last_name": "<>"}, "neither a letter nor a digit"),
        ({"last_name": "x" * 300}, "The limit is 64"),
        ({"last_name": "x" * 5000}, "Shorten it"),
        ({"first_name": "A\u202eda"}, "a character that is none"),
    ],
)
def test_each_fault_is_told_at_its_row(
    alice: Actor, kenton: Customer, changes: dict[str, str], reason: str
) -> None:
    found = checked(alice, kenton, csv_file(person("adele"), person("bert", **changes)))
    assert (found.to_add, found.faulty) == (1, 1)
    assert reason in faults_of(found)[3]
    assert 2 not in faults_of(found)


def test_a_login_twice_in_the_file_counts_once(alice: Actor, kenton: Customer) -> None:
    twice = person("adele"), person("bert"), person("ADELE", login=f"Adele@{SUFFIX}")
    found = checked(alice, kenton, csv_file(*twice))
    assert (found.to_add, found.faulty) == (2, 1)
    assert faults_of(found) == {4: f"Row 2 has the login adele@{SUFFIX}, too."}


def test_a_login_of_a_deleted_user_or_of_another_customer_is_taken(
    alice: Actor, kenton: Customer
) -> None:
    make_user(kenton, login=f"gone@{SUFFIX}", status=UserStatus.DELETED)
    make_user(make_customer(), login=f"theirs@{SUFFIX}")
    found = checked(alice, kenton, csv_file(person("gone"), person("theirs")), updates=True)
    assert (found.faulty, found.to_update) == (2, 0)
    assert all("is taken" in text for text in faults_of(found).values())


def test_user_names_get_the_customers_suffix(alice: Actor, kenton: Customer) -> None:
    content = csv_file(
        ("adele", "Imported", BUNDLE), headings=("Benutzername", "Nachname", "Paket")
    )
    found = imported(alice, kenton, content)
    assert found.columns == ["user_name", "last_name", "bundle"]
    assert [user.login for user in users_named(kenton)] == [f"adele@{SUFFIX}"]


def test_a_file_without_headings_has_columns_by_letters(alice: Actor, kenton: Customer) -> None:
    content = csv_file(person("bert"), headings=person("adele"))
    found = upload(alice, kenton, content)
    assert not found.has_headings
    assert found.headings[:2] == ["Column A", "Column B"]
    wanted = ["login", "first_name", "last_name", "email", "", "bundle"]
    found = imported(alice, kenton, content, columns=wanted)
    assert found.added == 2


def test_columns_are_remembered_from_the_last_import(alice: Actor, kenton: Customer) -> None:
    content = csv_file(("adele", "Imported", BUNDLE), headings=("Kürzel", "Wie", "Was"))
    assert upload(alice, kenton, content).columns == ["", "", ""]
    imported(alice, kenton, content, columns=["user_name", "last_name", "bundle"])
    assert upload(alice, kenton, content).columns == ["user_name", "last_name", "bundle"]
    other = find_customer("CQ002")
    assert upload(actor_for("operator@foyer.example"), other, content).columns == ["", "", ""]


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        (["", "first_name"], "No column is the login"),
        (["login", "login"], "Two columns are the field “Login”"),
        (["login", "user_name"], "Leave one of them out"),
    ],
)
def test_columns_that_say_no_user_are_refused(
    alice: Actor, kenton: Customer, columns: list[str], reason: str
) -> None:
    found = upload(alice, kenton, csv_file(person("adele")))
    with pytest.raises(InvalidInput, match=reason) as refused:
        user_imports.check_import(alice, kenton, found.id, Choices(columns=columns))
    assert refused.value.field == "columns"


# --- Changing those who are there ----------------------------------------------------------------


def test_a_user_who_is_there_is_changed_where_the_file_differs(
    alice: Actor, kenton: Customer
) -> None:
    user = make_user(
        kenton, last_name="Imported", first_name="Old", bundle_id=find_bundle(kenton), extension="1"
    )
    row = person("x", login=user.login, first_name="New", email=user.email)
    found = imported(alice, kenton, csv_file(row), updates=True)
    assert (found.updated, found.added, found.failed) == (1, 0, 0)
    user = find_user(user.login)
    assert (user.first_name, user.extension, user.version) == ("New", "1", 2)
    assert user.name_key == "new imported"
    (event,) = events("user.changed")
    assert event.detail == {
        "before": {"first_name": "Old"},
        "after": {"first_name": "New"},
        "import": found.id,
    }


def find_bundle(customer: Customer) -> int:
    from services.users import list_bundles_of

    return next(each.id for each in list_bundles_of(customer) if each.name == BUNDLE)


def test_an_empty_cell_leaves_what_is_known_unless_it_is_to_empty_it(
    alice: Actor, kenton: Customer
) -> None:
    user = make_user(kenton, last_name="Imported", bundle_id=find_bundle(kenton), extension="12")
    row = person("x", login=user.login, first_name="", email="", extension="")
    found = imported(alice, kenton, csv_file(row), updates=True)
    assert (found.unchanged, found.updated) == (1, 0)
    found = imported(alice, kenton, csv_file(row), updates=True, empties=True)
    assert (found.unchanged, found.updated) == (0, 1)
    user = find_user(user.login)
    assert (user.first_name, user.email, user.extension) == ("", "", "")
    assert user.bundle_id is not None


def test_without_the_word_to_update_somebody_who_is_there_is_a_fault(
    alice: Actor, kenton: Customer
) -> None:
    user = make_user(kenton)
    found = checked(alice, kenton, csv_file(person("x", login=user.login)))
    assert faults_of(found) == {2: f"The login {user.login_key} is taken."}


def test_the_last_administrator_stays_one(alice: Actor, kenton: Customer) -> None:
    others = sa.update(User).where(
        User.customer_id == kenton.id,
        User.role == Role.CUSTOMER_ADMIN,
        User.login != ADMIN,
    )
    db.session.execute(others.values(status=UserStatus.SUSPENDED))
    second = make_user(kenton, role=Role.CUSTOMER_ADMIN)
    rows = [(second.login, "User", BUNDLE), (ADMIN, "Benutzer", BUNDLE)]
    found = imported(
        alice, kenton, csv_file(*rows, headings=("Login", "Rolle", "Bundle")), updates=True
    )
    assert (found.updated, found.faulty) == (1, 1)
    assert "is the last active administrator" in faults_of(found)[3]
    assert find_user(ADMIN).role is Role.CUSTOMER_ADMIN
    assert find_user(second.login).role is Role.USER


def test_a_rule_that_changed_since_the_check_is_told_at_the_row(
    alice: Actor, kenton: Customer
) -> None:
    found = checked(alice, kenton, csv_file(person("adele"), person("bert")))
    make_user(kenton, login=f"bert@{SUFFIX}")
    user_imports.start_import(alice, kenton, found.id)
    work()
    found = user_imports.get_import(alice, kenton, found.id)
    assert (found.added, found.failed) == (1, 1)
    assert faults_of(found) == {3: f"The login bert@{SUFFIX} is taken."}
    check_counters(found)


def test_what_was_exported_changes_nothing(alice: Actor, kenton: Customer) -> None:
    make_user(kenton, first_name="=cmd|'/c'!A1", last_name="O'Neil", email="")
    make_user(kenton, first_name="'=1", last_name='\'t Hart; "x", y', bundle_id=None)
    make_user(kenton, role=Role.SUPERVISOR, profile_id=make_profile(kenton, "users.read").id)
    before = snapshot(kenton)
    text = "".join(stream_csv(EXPORT_HEADER, export_users(alice, kenton, UserFilter())))
    assert "'=cmd" in text
    found = imported(alice, kenton, text.encode(), updates=True, empties=True)
    assert (found.unchanged, found.updated, found.added) == (len(before), 0, 0), faults_of(found)
    assert (found.failed, found.faulty) == (0, 0)
    assert snapshot(kenton) == before
    assert events("user.changed") == []


def snapshot(customer: Customer) -> list[Any]:
    query = sa.select(*User.__table__.c).where(User.customer_id == customer.id).order_by(User.id)
    return [tuple(row) for row in db.session.execute(query)]


# --- Correcting rows -----------------------------------------------------------------------------


def test_a_row_that_is_corrected_is_checked_again_with_those_of_its_login(
    alice: Actor, kenton: Customer
) -> None:
    rows = person("adele"), person("bert", login=f"adele@{SUFFIX}"), person("carl", email="?")
    found = checked(alice, kenton, csv_file(*rows))
    assert sorted(faults_of(found)) == [3, 4]
    user_imports.change_row(alice, kenton, found.id, 2, {"login": f"dora@{SUFFIX}"})
    user_imports.change_row(alice, kenton, found.id, 4, {"email": "carl@mail.example"})
    found = user_imports.get_import(alice, kenton, found.id)
    assert (found.to_add, found.faulty) == (3, 0)
    check_counters(found)
    user_imports.start_import(alice, kenton, found.id)
    work()
    logins = {user.login for user in users_named(kenton)}
    assert logins == {f"{name}@{SUFFIX}" for name in ("adele", "dora", "carl")}


def test_a_correction_that_is_none_says_what_is_wrong(alice: Actor, kenton: Customer) -> None:
    found = checked(alice, kenton, csv_file(person("adele", extension="x"), person("bert")))
    row = user_imports.change_row(
        alice, kenton, found.id, 2, {"extension": "7", "login": f"bert@{SUFFIX}"}
    )
    assert (row.state, len(row.faults)) == (ImportRowState.TO_ADD, 0)
    assert sorted(faults_of(found)) == [3]
    row = user_imports.change_row(alice, kenton, found.id, 3, {"email": "\ud800\0?"})
    assert row.state is ImportRowState.FAULTY
    check_counters(user_imports.get_import(alice, kenton, found.id))


def test_faulty_rows_come_back_as_the_file_had_them_with_a_reason(
    alice: Actor, kenton: Customer
) -> None:
    content = csv_file(
        ("adele", "", "kept", BUNDLE), headings=("User name", "Surname", "Floor", "Bundle")
    )
    found = checked(alice, kenton, content)
    header, rows = user_imports.export_faults(alice, kenton, found.id)
    assert header == ["User name", "Surname", "Floor", "Bundle", "Reason"]
    assert list(rows) == [["adele", "", "kept", BUNDLE, "The last name is missing."]]


# --- Welcome mails -------------------------------------------------------------------------------


def test_those_who_were_added_get_a_welcome_mail(alice: Actor, kenton: Customer) -> None:
    user = make_user(kenton, bundle_id=find_bundle(kenton))
    rows = [*people(30), person("x", login=user.login, first_name="New")]
    found = imported(alice, kenton, csv_file(*rows), updates=True, sends_welcome=True)
    assert found.mailing is not None
    assert (found.mailing.total, found.mailing.queued) == (30, 30)
    assert found.mailing.lane is Lane.BULK
    mailed = set(
        db.session.scalars(
            sa.select(Delivery.user_id).where(Delivery.mailing_id == found.mailing_id)
        )
    )
    assert mailed == {each.id for each in users_named(kenton) if each.id != user.id}


def test_welcome_mails_need_addresses(alice: Actor, kenton: Customer) -> None:
    found = checked(alice, kenton, csv_file(person("adele", email="")), sends_welcome=True)
    assert "The welcome mail needs an e-mail address." in faults_of(found)[2]
    found = upload(alice, kenton, csv_file(("adele", "A"), headings=("User name", "Surname")))
    with pytest.raises(InvalidInput, match="no column is the e-mail address"):
        user_imports.check_import(
            alice,
            kenton,
            found.id,
            Choices(columns=["user_name", "last_name"], sends_welcome=True),
        )


# --- Cancelling, undoing, taking over ------------------------------------------------------------


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(user_import_runs, "CHUNK", 3)


@pytest.fixture
def one_chunk_a_slice(small_chunks: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(user_import_runs, "_LONGEST_SLICE", 0.0)


def test_slices_come_back_for_the_rest(
    alice: Actor, kenton: Customer, one_chunk_a_slice: None
) -> None:
    found = imported(alice, kenton, csv_file(*people(10)))
    assert found.added == 10
    check_counters(found)
    assert len(users_named(kenton)) == 10


def test_cancelling_leaves_what_was_added_and_undoing_takes_it_back(
    alice: Actor, kenton: Customer, one_chunk_a_slice: None
) -> None:
    found = checked(alice, kenton, csv_file(*people(10)))
    user_imports.start_import(alice, kenton, found.id)
    assert user_import_runs.work_on_import(found.id, lambda: False)
    user_imports.cancel_import(alice, kenton, found.id)
    assert not user_import_runs.work_on_import(found.id, lambda: False)
    found = user_imports.get_import(alice, kenton, found.id)
    assert (found.state, found.added, found.waiting) == (ImportState.CANCELLED, 3, 7)
    assert len(users_named(kenton)) == 3

    used, changed, _ = users_named(kenton)
    used.last_sign_in_at = utcnow()
    changed.version += 1
    db.session.commit()
    user_imports.undo_import(alice, kenton, found.id)
    work()
    found = user_imports.get_import(alice, kenton, found.id)
    assert (found.state, found.undone, found.kept) == (ImportState.UNDONE, 1, 2)
    check_counters(found)
    assert {user.id for user in users_named(kenton)} == {used.id, changed.id}
    (event,) = events("user.deleted")
    assert event.detail["import"] == found.id
    wiped = db.session.get_one(User, event.object_id)
    assert wiped.status is UserStatus.DELETED
    assert event.detail["before"]["login"] == rows_of(found, ImportRowState.UNDONE)[0].login_key
    assert (wiped.first_name, wiped.last_name, wiped.email, wiped.bundle_id) == ("", "", "", None)
    again = imported(alice, kenton, csv_file(*people(10)), updates=True)
    assert (again.added, again.unchanged) == (8, 2)


def test_a_supervisor_takes_back_users_alone(alice: Actor, kenton: Customer) -> None:
    content = csv_file(
        ("adele", "Imported", "Administrator", BUNDLE),
        ("bert", "Imported", "User", BUNDLE),
        headings=("User name", "Surname", "Role", "Bundle"),
    )
    found = imported(alice, kenton, content)
    profile = make_profile(kenton, *map(str, Permission))
    supervisor = make_user(kenton, role=Role.SUPERVISOR, profile_id=profile.id)
    user_imports.undo_import(actor_for(supervisor.login), kenton, found.id)
    work()
    (left,) = users_named(kenton)
    assert left.role is Role.CUSTOMER_ADMIN
    found = user_imports.get_import(alice, kenton, found.id)
    assert (found.undone, found.kept) == (1, 1)


def test_nobody_who_was_mailed_can_be_undone(alice: Actor, kenton: Customer) -> None:
    found = imported(alice, kenton, csv_file(*people(2)), sends_welcome=True)
    with pytest.raises(Conflict):
        user_imports.undo_import(alice, kenton, found.id)


def test_a_cancelled_worker_writes_nothing_more(
    alice: Actor, kenton: Customer, small_chunks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody cancels while a worker is between two chunks."""
    found = checked(alice, kenton, csv_file(*people(10)))
    user_imports.start_import(alice, kenton, found.id)
    write = user_import_runs.Slice._write
    calls = []

    def cancel_after_two(self: Any, state: Any) -> int:
        calls.append(state)
        return write(self, state)

    def is_over(self: Any) -> bool:
        if len(calls) == 2:
            user_imports.cancel_import(alice, kenton, found.id)
        return False

    monkeypatch.setattr(user_import_runs.Slice, "_write", cancel_after_two)
    monkeypatch.setattr(user_import_runs.Slice, "_is_over", is_over)
    work()
    found = user_imports.get_import(alice, kenton, found.id)
    assert (found.state, found.added) == (ImportState.CANCELLED, 6)
    assert len(users_named(kenton)) == 6


def test_two_workers_do_not_hold_one_import(alice: Actor, kenton: Customer) -> None:
    found = checked(alice, kenton, csv_file(*people(2)))
    user_imports.start_import(alice, kenton, found.id)
    first = user_import_runs.claim(found.id)
    assert first is not None
    assert user_import_runs.claim(found.id) is None
    assert user_import_runs.list_waiting() == []
    expire_leases()
    assert user_import_runs.list_waiting() == [found.id]
    assert user_import_runs.claim(found.id) is not None
    with pytest.raises(user_import_runs.LeaseLost), db.engine.begin() as connection:
        user_import_runs.hold(connection, first)


def test_a_customer_that_is_gone_gets_no_users(alice: Actor, kenton: Customer) -> None:
    found = checked(alice, kenton, csv_file(*people(2)))
    user_imports.start_import(alice, kenton, found.id)
    db.session.execute(sa.update(Customer).values(status=CustomerStatus.DELETED))
    db.session.commit()
    work()
    found = user_imports.get_import(alice, kenton, found.id)
    assert (found.state, found.added) == (ImportState.CANCELLED, 0)
    assert "no such customer" in found.problem
    assert users_named(kenton) == []


def test_starting_twice_imports_once(alice: Actor, kenton: Customer) -> None:
    found = checked(alice, kenton, csv_file(*people(2)))
    for _ in range(2):
        user_imports.start_import(alice, kenton, found.id)
    work()
    assert user_imports.start_import(alice, kenton, found.id).added == 2
    assert len(events("user_import.started")) == 1
    with pytest.raises(Conflict):
        user_imports.reopen_import(alice, kenton, found.id)
    with pytest.raises(Conflict):
        user_imports.cancel_import(alice, kenton, found.id)
    with pytest.raises(Conflict):
        user_imports.change_row(alice, kenton, found.id, 2, {"login": "x"})


def test_a_file_can_be_read_again_with_other_columns(alice: Actor, kenton: Customer) -> None:
    found = checked(alice, kenton, csv_file(*people(4)))
    user_imports.reopen_import(alice, kenton, found.id)
    columns = ["login", "last_name", "", "", "", "bundle"]
    user_imports.check_import(alice, kenton, found.id, Choices(columns=columns))
    work()
    found = user_imports.get_import(alice, kenton, found.id)
    assert (found.to_add, found.rows) == (4, 4)
    check_counters(found)
    user_imports.start_import(alice, kenton, found.id)
    work()
    assert [user.email for user in users_named(kenton, "Imported1")] == [""]


def test_a_file_that_cannot_be_read_to_its_end_says_why(alice: Actor, kenton: Customer) -> None:
    content = csv_file(person("adele", first_name="Adèle"))
    found = upload(alice, kenton, content)
    user_imports.change_layout(
        alice, kenton, found.id, encoding="cp1252", delimiter=";", sheet=0, headed=True
    )
    found = user_imports.get_import(alice, kenton, found.id)
    assert (found.encoding, found.delimiter, len(found.headings)) == ("cp1252", ";", 1)
    assert found.columns == [""]
    with pytest.raises(InvalidInput, match="not UTF-16") as refused:
        user_imports.change_layout(
            alice, kenton, found.id, encoding="utf-16-le", delimiter=",", sheet=0, headed=True
        )
    assert refused.value.field == "layout"
    late = csv_file(*people(3000)) + "Ä".encode("cp1252")
    found = upload(alice, kenton, late)
    assert found.encoding == "cp1252"
    user_imports.change_layout(
        alice, kenton, found.id, encoding="utf-8-sig", delimiter=",", sheet=0, headed=True
    )
    columns = user_imports.get_import(alice, kenton, found.id).columns
    user_imports.check_import(alice, kenton, found.id, Choices(columns=columns))
    work()
    found = user_imports.get_import(alice, kenton, found.id)
    assert found.state is ImportState.FAILED
    assert "are not UTF-8" in found.problem


@pytest.mark.parametrize("settings_changes", [{"USER_IMPORT_ROWS": "3"}])
def test_too_many_rows_and_none_are_told(alice: Actor, kenton: Customer) -> None:
    found = checked(alice, kenton, csv_file(*people(4)))
    assert (found.state, found.problem[:36]) == (
        ImportState.FAILED,
        "The file has more than 3 rows. Split",
    )
    found = checked(alice, kenton, csv_file())
    assert found.problem == "The file has no rows below its headings."


@pytest.mark.parametrize("settings_changes", [{"USER_IMPORT_MEGABYTES": "1"}])
def test_a_file_that_is_too_large_is_refused(alice: Actor, kenton: Customer) -> None:
    with pytest.raises(InvalidInput, match="The limit is 1 MB"):
        upload(alice, kenton, b"x" * (1024 * 1024 + 1))
    assert db.session.scalar(sa.select(sa.func.count()).select_from(UserImport)) == 0


# --- Who may, and for how long -------------------------------------------------------------------


def test_imports_are_the_customers_own_and_not_for_readers(alice: Actor, kenton: Customer) -> None:
    found = upload(alice, kenton, csv_file(person("adele")))
    other = find_customer("CQ002")
    operator = actor_for("operator@foyer.example")
    assert user_imports.get_import(operator, kenton, found.id).id == found.id
    with pytest.raises(NotFound):
        user_imports.get_import(operator, other, found.id)
    auditor = actor_for("auditor@foyer.example")
    with pytest.raises(Forbidden):
        user_imports.get_import(auditor, kenton, found.id)
    with pytest.raises(Forbidden):
        upload(auditor, kenton, csv_file())


def test_a_supervisor_adds_users_alone(alice: Actor, kenton: Customer) -> None:
    content = csv_file(
        ("adele", "Imported", "Administrator", BUNDLE),
        ("bert", "Imported", "", BUNDLE),
        (ADMIN.partition("@")[0], "Changed", "", ""),
        headings=("User name", "Surname", "Role", "Bundle"),
    )
    found = checked(alice, kenton, content, updates=True)
    assert (found.to_add, found.to_update) == (2, 1)
    db.session.execute(sa.update(UserImport).values(only_users=True, state=ImportState.CHECKING,
        read_to=0, faulty=0, to_add=0, to_update=0))  # fmt: skip
    db.session.commit()
    work()
    found = user_imports.get_import(alice, kenton, found.id)
    assert (found.to_add, found.to_update, found.faulty) == (1, 0, 2)
    assert all("Only an administrator" in text for text in faults_of(found).values())


def test_files_and_rows_are_wiped_after_their_days(alice: Actor, kenton: Customer) -> None:
    done = imported(alice, kenton, csv_file(*people(2)))
    waiting = upload(alice, kenton, csv_file(person("late")))
    assert count(UserImportPiece) == 1, "an import that has begun needs its file no more"
    user_import_runs.wipe_old_imports()
    assert (count(UserImportRow), count(UserImportPiece)) == (2, 1)
    old = utcnow() - timedelta(days=8)
    db.session.execute(sa.update(UserImport).values(changed_at=old))
    db.session.commit()
    user_import_runs.wipe_old_imports()
    assert (count(UserImportRow), count(UserImportPiece)) == (0, 0)
    done = user_imports.get_import(alice, kenton, done.id)
    assert (done.state, done.added, done.head) == (ImportState.FINISHED, 2, [])
    assert not user_imports.may_be_undone(done)
    waiting = user_imports.get_import(alice, kenton, waiting.id)
    assert (waiting.state, waiting.head) == (ImportState.CANCELLED, [])


def test_a_discarded_file_is_wiped_at_once(alice: Actor, kenton: Customer) -> None:
    found = checked(alice, kenton, csv_file(*people(2)))
    user_imports.cancel_import(alice, kenton, found.id)
    user_import_runs.wipe_old_imports()
    assert (count(UserImportRow), count(UserImportPiece)) == (0, 0)


def count(model: Any) -> int:
    return db.session.scalar(sa.select(sa.func.count()).select_from(model)) or 0


def test_files_do_not_pile_up(
    alice: Actor, kenton: Customer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(user_imports, "_MOST_OPEN", 2)
    for _ in range(2):
        upload(alice, kenton, csv_file())
    with pytest.raises(Conflict, match="wait to be imported"):
        upload(alice, kenton, csv_file())


def test_a_file_in_many_pieces_comes_back_whole(
    alice: Actor, kenton: Customer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(user_import_files, "_PIECE", 100)
    content = csv_file(*people(20))
    found = upload(alice, kenton, content)
    with user_import_files.opened(found) as file:
        assert file.read() == content
