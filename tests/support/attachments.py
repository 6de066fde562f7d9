"""Files of setup instructions for tests: small ones of each kind."""

from __future__ import annotations

import sqlalchemy as sa

from extensions import db
from models import Attachment, Customer
from services import setup_instructions
from tests.support.factories import actor_for

PDF = b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n.. a line that begins with dots\r\n.\r\n%%EOF\n"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))
TEXT = "First line\n.\nZoë, second line\n".encode()


def make_attachment(
    customer: Customer, name: str = "First steps.pdf", content: bytes = PDF
) -> Attachment:
    """A file of the customer, as an operator attaches it."""
    kept, _ = setup_instructions.add_file(
        actor_for("operator@foyer.example"), customer, name, content
    )
    return db.session.scalars(
        sa.select(Attachment).where(Attachment.customer_id == customer.id, Attachment.name == kept)
    ).one()
