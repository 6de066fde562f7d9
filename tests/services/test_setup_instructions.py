"""Setup instructions: the text, the files, their limits, and who may change them."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from flask import Flask

from extensions import db
from models import Attachment, AuditEvent, Customer
from services import setup_instructions
from services.actors import Actor
from services.errors import Conflict, Forbidden, InvalidInput, NotFound, Stale
from services.setup_instructions import LONGEST_TEXT, Way
from tests.support.attachments import PDF, PNG, TEXT, make_attachment
from tests.support.factories import actor_for, find_customer, make_customer

ADMIN = "prpkeAdmin@kenton-electronics.com"


@pytest.fixture
def customer(app_context: Flask) -> Customer:
    return find_customer("CQ001")


@pytest.fixture
def actor(app_context: Flask) -> Actor:
    return actor_for(ADMIN)


def names(customer: Customer) -> list[str]:
    return [each.name for each in setup_instructions.list_files(customer)]


def last_event() -> AuditEvent:
    return db.session.scalars(sa.select(AuditEvent).order_by(AuditEvent.id.desc()).limit(1)).one()


def test_the_text_is_saved_with_what_it_was(customer: Customer, actor: Actor) -> None:
    before, version = customer.setup_instructions, customer.setup_version
    text = "  Plug it in.  \r\n\r\n<script>alert(1)</script> ((first name))\n\n"
    assert setup_instructions.save_text(actor, customer, text, version=version)
    kept = "  Plug it in.\n\n<script>alert(1)</script> ((first name))"
    assert customer.setup_instructions == kept
    assert customer.setup_version == version + 1
    event = last_event()
    assert (event.action, event.customer_id, event.actor_login) == (
        "setup.text_changed",
        customer.id,
        ADMIN,
    )
    assert event.detail == {"before": before, "after": kept}
    assert not setup_instructions.save_text(actor, customer, kept, version=version + 1)
    assert customer.setup_version == version + 1


def test_who_saw_another_text_saves_nothing(customer: Customer, actor: Actor) -> None:
    version = customer.setup_version
    setup_instructions.save_text(actor, customer, "First", version=version)
    with pytest.raises(Stale):
        setup_instructions.save_text(actor, customer, "Second", version=version)
    db.session.refresh(customer)
    assert customer.setup_instructions == "First"


@pytest.mark.parametrize("text", ["a\0b", "a\ud800", "\x1b[31m", "x" * (LONGEST_TEXT + 1)])
def test_texts_that_cannot_be_kept_are_refused(customer: Customer, actor: Actor, text: str) -> None:
    before = customer.setup_instructions
    with pytest.raises(InvalidInput) as refused:
        setup_instructions.save_text(actor, customer, text, version=customer.setup_version)
    assert refused.value.field == "text"
    assert customer.setup_instructions == before


def test_files_are_kept_in_their_order(customer: Customer, actor: Actor) -> None:
    for name, content in (("a.pdf", PDF), ("b.png", PNG), ("c.txt", TEXT)):
        assert setup_instructions.add_file(actor, customer, name, content) == (name, False)
    assert names(customer) == ["a.pdf", "b.png", "c.txt"]
    files = {each.name: each.id for each in setup_instructions.list_files(customer)}
    setup_instructions.move_file(actor, customer, files["c.txt"], Way.UP)
    assert names(customer) == ["a.pdf", "c.txt", "b.png"]
    assert last_event().detail["after"] == [
        {"name": "a.pdf", "bytes": len(PDF)},
        {"name": "c.txt", "bytes": len(TEXT)},
        {"name": "b.png", "bytes": len(PNG)},
    ]
    setup_instructions.move_file(actor, customer, files["a.pdf"], Way.DOWN)
    assert names(customer) == ["c.txt", "a.pdf", "b.png"]
    setup_instructions.move_file(actor, customer, files["c.txt"], Way.UP)
    setup_instructions.move_file(actor, customer, files["b.png"], Way.DOWN)
    assert names(customer) == ["c.txt", "a.pdf", "b.png"]
    assert setup_instructions.remove_file(actor, customer, files["a.pdf"]) == "a.pdf"
    assert names(customer) == ["c.txt", "b.png"]
    file = setup_instructions.get_file(customer, files["b.png"])
    assert (file.name, file.content_type, file.content) == ("b.png", "image/png", PNG)
    with pytest.raises(NotFound):
        setup_instructions.get_file(customer, files["a.pdf"])
    with pytest.raises(NotFound):
        setup_instructions.remove_file(actor, customer, files["a.pdf"])


def test_a_file_of_the_same_name_takes_the_others_place(customer: Customer, actor: Actor) -> None:
    first = make_attachment(customer, "Steps.pdf").id
    make_attachment(customer, "b.txt", TEXT)
    assert setup_instructions.add_file(actor, customer, "STEPS.pdf", PDF + b"2") == (
        "STEPS.pdf",
        True,
    )
    assert names(customer) == ["STEPS.pdf", "b.txt"]
    with pytest.raises(NotFound):
        setup_instructions.get_file(customer, first)


def test_the_version_of_the_files_says_whether_there_are_any(
    customer: Customer, actor: Actor
) -> None:
    assert customer.attachments_version == 0
    file = make_attachment(customer)
    assert customer.attachments_version == customer.setup_version > 1
    version = customer.attachments_version
    setup_instructions.save_text(actor, customer, "New", version=customer.setup_version)
    assert customer.attachments_version == version < customer.setup_version
    setup_instructions.remove_file(actor, customer, file.id)
    assert customer.attachments_version == 0
    assert setup_instructions.prepare_attachments(customer.id) == b""
    make_attachment(customer)
    assert customer.attachments_version > version


@pytest.mark.parametrize(
    "settings_changes",
    [{"ATTACHMENT_FILE_KB": "2", "ATTACHMENT_TOTAL_KB": "3", "ATTACHMENT_FILES": "2"}],
)
def test_limits(customer: Customer, actor: Actor) -> None:
    with pytest.raises(InvalidInput, match="A file may have 2 KB"):
        setup_instructions.add_file(actor, customer, "a.pdf", PDF + bytes(2000))
    setup_instructions.add_file(actor, customer, "a.pdf", PDF + bytes(1800))
    with pytest.raises(InvalidInput, match="together"):
        setup_instructions.add_file(actor, customer, "b.pdf", PDF + bytes(1800))
    setup_instructions.add_file(actor, customer, "b.pdf", PDF)
    with pytest.raises(InvalidInput, match="2 files already"):
        setup_instructions.add_file(actor, customer, "c.pdf", PDF)
    setup_instructions.add_file(actor, customer, "b.pdf", PDF + b"\n")
    assert names(customer) == ["a.pdf", "b.pdf"]


@pytest.mark.parametrize("settings_changes", [{"ATTACHMENT_FILES": "0"}])
def test_files_can_be_switched_off(customer: Customer, actor: Actor) -> None:
    with pytest.raises(InvalidInput, match="switched off"):
        setup_instructions.add_file(actor, customer, "a.pdf", PDF)


def test_who_may_not_changes_nothing(customer: Customer) -> None:
    auditor = actor_for("auditor@foyer.example")
    file = make_attachment(customer)
    for attempt in (
        lambda: setup_instructions.save_text(auditor, customer, "x", version=1),
        lambda: setup_instructions.add_file(auditor, customer, "b.pdf", PDF),
        lambda: setup_instructions.remove_file(auditor, customer, file.id),
        lambda: setup_instructions.move_file(auditor, customer, file.id, Way.UP),
    ):
        with pytest.raises(Forbidden):
            attempt()
    assert names(customer) == [file.name]


def test_a_file_of_another_customer_is_none(customer: Customer, actor: Actor) -> None:
    other = make_customer()
    file_id = make_attachment(other).id
    with pytest.raises(NotFound):
        setup_instructions.get_file(customer, file_id)
    with pytest.raises(NotFound):
        setup_instructions.remove_file(actor, customer, file_id)
    with pytest.raises(NotFound):
        setup_instructions.move_file(actor, customer, file_id, Way.UP)
    assert names(other) == ["First steps.pdf"]


def test_a_customer_that_is_gone_takes_no_file(customer: Customer, actor: Actor) -> None:
    db.session.execute(
        sa.update(Customer).where(Customer.id == customer.id).values(status="deleted")
    )
    db.session.commit()
    with pytest.raises(Conflict):
        setup_instructions.add_file(actor, customer, "a.pdf", PDF)
    assert not db.session.scalars(sa.select(Attachment)).all()
