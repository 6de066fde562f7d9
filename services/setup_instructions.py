"""Setup instructions of a customer: a text and files, for its users and with their welcome mail.

Text and files have one counter on the customer's row. It tells who edits a text that another has
changed it, and workers whether the files that they have prepared are still those of the customer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple, TypeVar

import sqlalchemy as sa
from sqlalchemy.orm import joinedload

from extensions import db, get_settings
from models import Attachment, Customer, CustomerStatus, fold, is_storable, table_of, utcnow
from services.actors import Actor, Permission
from services.attachment_parts import AttachedFile, wire_parts
from services.attachment_rules import clean_name, kind_of
from services.audit_events import insert_event
from services.errors import Conflict, InvalidInput, NotFound, Stale
from services.transactions import run_transaction

LONGEST_TEXT = 5_000

_CUSTOMERS = table_of(Customer)
_FILES = table_of(Attachment)
_FACTS = (_FILES.c.id, _FILES.c.name, _FILES.c.name_key, _FILES.c.size)

T = TypeVar("T")


class _Row(NamedTuple):
    """What is known of a file without its content, in the order of `_FACTS`."""

    id: int
    name: str
    name_key: str
    size: int


class Way(StrEnum):
    """Where a file moves in the list."""

    UP = "up"
    DOWN = "down"


@dataclass(frozen=True, slots=True)
class Limits:
    """What may be attached: bytes of one file, bytes of all, and how many."""

    file: int
    total: int
    count: int


def limits() -> Limits:
    settings = get_settings()
    return Limits(
        settings.attachment_file_kb * 1000,
        settings.attachment_total_kb * 1000,
        settings.attachment_files,
    )


def size_words(size: int) -> str:
    """A number of bytes as people say it: "820 bytes", "12 KB", "1.4 MB"."""
    if size < 1000:
        return f"{size} bytes"
    if size < 999_500:
        return f"{round(size / 1000)} KB"
    return f"{size / 1_000_000:.1f} MB"


# --- Reading -------------------------------------------------------------------------------------


def list_files(customer: Customer) -> list[Attachment]:
    """The customer's files in their order, without their content."""
    if not customer.attachments_version:
        return []
    return list(
        db.session.scalars(
            sa.select(Attachment)
            .where(Attachment.customer_id == customer.id)
            .options(joinedload(Attachment.created_by))
            .order_by(Attachment.position, Attachment.id)
        )
    )


def get_file(customer: Customer, file_id: int) -> AttachedFile:
    """A file with its content. Raises NotFound."""
    found = db.session.execute(
        sa.select(Attachment.name, Attachment.content_type, Attachment.content).where(
            Attachment.id == file_id, Attachment.customer_id == customer.id
        )
    ).one_or_none()
    if found is None:
        raise NotFound("There is no such file any more.")
    return AttachedFile(*found)


def prepare_attachments(customer_id: int) -> bytes:
    """The customer's files as they follow a message on the wire; nothing when there are none.

    On a connection of its own, for workers.
    """
    with db.engine.connect() as connection:
        rows = connection.execute(
            sa.select(_FILES.c.name, _FILES.c.content_type, _FILES.c.content)
            .where(_FILES.c.customer_id == customer_id)
            .order_by(_FILES.c.position, _FILES.c.id)
        ).all()
    return wire_parts(AttachedFile(*row) for row in rows) if rows else b""


# --- Changing ------------------------------------------------------------------------------------


def save_text(actor: Actor, customer: Customer, text: str, *, version: int) -> bool:
    """Make `text` the customer's setup instructions; returns whether it changed.

    `version` is the customer's `setup_version` as it was seen. Raises Forbidden, InvalidInput, and
    Stale when text or files were changed since.
    """
    actor.require(Permission.SETUP_EDIT)
    text = check_text(text)

    def save(connection: sa.Connection, seen: int, before: str) -> bool:
        if seen != version:
            raise Stale(
                "Somebody else changed the setup instructions in the meantime, so nothing was "
                "saved. Both texts are below: change yours where need be, and save again."
            )
        if text == before:
            return False
        _write(connection, customer.id, {"setup_instructions": text})
        insert_event(
            connection,
            actor,
            "setup.text_changed",
            customer_id=customer.id,
            object_type="setup",
            object_id=customer.id,
            detail={"before": before, "after": text},
        )
        return True

    return _change(customer, save)


def check_text(text: str, field: str = "text") -> str:
    """Setup instructions as they are kept. Raises InvalidInput naming `field`."""
    text = "\n".join(line.rstrip() for line in text.splitlines()).strip("\n")
    if len(text) > LONGEST_TEXT:
        raise InvalidInput(
            field,
            f"The setup instructions have {len(text):,} characters. "
            f"The limit is {LONGEST_TEXT:,}: put what is longer into a file.",
        )
    if not is_storable(text) or any(
        not letter.isprintable() and letter.isascii() and letter not in "\n\t" for letter in text
    ):
        raise InvalidInput(
            field,
            "The setup instructions contain a character that cannot be seen. Type it by hand.",
        )
    return text


def add_file(actor: Actor, customer: Customer, name: str, content: bytes) -> tuple[str, bool]:
    """Attach a file, or replace the one of the same name.

    Returns the name under which it is kept, and whether one was replaced. Raises Forbidden, and
    InvalidInput for its name, kind or size, or one file too many.
    """
    actor.require(Permission.SETUP_EDIT)
    kept, allowed = clean_name(name), limits()
    kind = kind_of(kept, content)
    if len(content) > allowed.file:
        raise InvalidInput(
            "file",
            f"“{kept}” has {size_words(len(content))}. A file may have "
            f"{size_words(allowed.file)} at most.",
        )

    def add(connection: sa.Connection, _seen: int, _text: str) -> bool:
        files = _files_of(connection, customer.id)
        same = next((each for each in files if each.name_key == fold(kept)), None)
        others = [each for each in files if each is not same]
        _check_room(kept, len(content), others, allowed)
        values: dict[str, Any] = {
            "name": kept,
            "name_key": fold(kept),
            "content_type": kind.content_type,
            "size": len(content),
            "content": content,
            "created_by_id": actor.user_id,
            "created_at": utcnow(),
        }
        if same is None:
            last = sa.select(sa.func.coalesce(sa.func.max(_FILES.c.position), 0) + 1).where(
                _FILES.c.customer_id == customer.id
            )
            connection.execute(
                sa.insert(_FILES).values(
                    customer_id=customer.id, position=last.scalar_subquery(), **values
                )
            )
        else:
            # A row of its own: whoever loads the old one's address is not given another file.
            position = sa.select(_FILES.c.position).where(_FILES.c.id == same.id)
            values["position"] = connection.scalar(position)
            connection.execute(sa.delete(_FILES).where(_FILES.c.id == same.id))
            connection.execute(sa.insert(_FILES).values(customer_id=customer.id, **values))
        _write_files(connection, actor, customer.id, "setup.file_added", files)
        return same is not None

    return kept, _change(customer, add)


def _check_room(name: str, size: int, others: list[_Row], allowed: Limits) -> None:
    if len(others) >= allowed.count:
        raise InvalidInput(
            "file",
            f"There are {len(others)} files already, and {allowed.count} is the most. "
            "Remove one first."
            if allowed.count
            else "Files are switched off here.",
        )
    total = sum(each.size for each in others) + size
    if total > allowed.total:
        raise InvalidInput(
            "file",
            f"With “{name}” the files would have {size_words(total)} together. "
            f"{size_words(allowed.total)} is the most.",
        )


def remove_file(actor: Actor, customer: Customer, file_id: int) -> str:
    """Delete a file; returns its name. Raises Forbidden and NotFound."""
    actor.require(Permission.SETUP_EDIT)

    def remove(connection: sa.Connection, _seen: int, _text: str) -> str:
        files = _files_of(connection, customer.id)
        gone = _find(files, file_id)
        connection.execute(sa.delete(_FILES).where(_FILES.c.id == gone.id))
        _write_files(connection, actor, customer.id, "setup.file_removed", files)
        return gone.name

    return _change(customer, remove)


def move_file(actor: Actor, customer: Customer, file_id: int, way: Way) -> None:
    """Move a file one place; at the end of the list it stays. Raises Forbidden and NotFound."""
    actor.require(Permission.SETUP_EDIT)

    def move(connection: sa.Connection, _seen: int, _text: str) -> None:
        files = _files_of(connection, customer.id)
        place = files.index(_find(files, file_id))
        other = place - 1 if way is Way.UP else place + 1
        if not 0 <= other < len(files):
            return
        order = [each.id for each in files]
        order[place], order[other] = order[other], order[place]
        for position, each in enumerate(order, start=1):
            connection.execute(
                sa.update(_FILES).where(_FILES.c.id == each).values(position=position)
            )
        _write_files(connection, actor, customer.id, "setup.file_moved", files)

    _change(customer, move)


def _find(files: list[_Row], file_id: int) -> _Row:
    found = next((each for each in files if each.id == file_id), None)
    if found is None:
        raise NotFound("This file is no longer there. Somebody else has removed or replaced it.")
    return found


def _files_of(connection: sa.Connection, customer_id: int) -> list[_Row]:
    found = connection.execute(
        sa.select(*_FACTS)
        .where(_FILES.c.customer_id == customer_id)
        .order_by(_FILES.c.position, _FILES.c.id)
    )
    return [_Row(*row) for row in found]


def _change(customer: Customer, work: Callable[[sa.Connection, int, str], T]) -> T:
    """Run `work` on the customer's row, which nobody else changes meanwhile.

    It is given the version and the text that it finds. Raises Conflict for a customer that is gone.
    """
    customer_id = customer.id

    def change(connection: sa.Connection) -> T:
        found = connection.execute(
            # Changes nothing, but from here on everybody else who writes has to wait.
            sa.update(_CUSTOMERS)
            .where(
                _CUSTOMERS.c.id == customer_id,
                _CUSTOMERS.c.status.in_((CustomerStatus.ACTIVE, CustomerStatus.SUSPENDED)),
            )
            .values(setup_version=_CUSTOMERS.c.setup_version)
            .returning(_CUSTOMERS.c.setup_version, _CUSTOMERS.c.setup_instructions)
        ).one_or_none()
        if found is None:
            raise Conflict("The customer has been deleted in the meantime.")
        return work(connection, found.setup_version, found.setup_instructions)

    db.session.commit()  # Gives its connection back, which the transaction may need.
    done = run_transaction(change)
    db.session.refresh(customer)
    return done


def _write(connection: sa.Connection, customer_id: int, values: dict[str, Any]) -> None:
    connection.execute(
        sa.update(_CUSTOMERS)
        .where(_CUSTOMERS.c.id == customer_id)
        .values(setup_version=_CUSTOMERS.c.setup_version + 1, **values)
    )


def _write_files(
    connection: sa.Connection, actor: Actor, customer_id: int, action: str, before: list[_Row]
) -> None:
    """Note on the customer that its files have changed, and what they were."""
    files = _files_of(connection, customer_id)
    version = _CUSTOMERS.c.setup_version + 1 if files else 0
    _write(connection, customer_id, {"attachments_version": version})
    insert_event(
        connection,
        actor,
        action,
        customer_id=customer_id,
        object_type="setup",
        object_id=customer_id,
        detail={"before": _told(before), "after": _told(files)},
    )


def _told(files: list[_Row]) -> list[dict[str, Any]]:
    return [{"name": each.name, "bytes": each.size} for each in files]
