"""E-mail templates for tests."""

from __future__ import annotations

from typing import Any

from extensions import db
from models import EmailTemplate, Role, TemplateKind, User, UserGroup
from services import email_template_assignments as assignments
from services import email_template_edits, email_template_lists
from services.actors import Actor
from services.email_template_assignments import By, Choice, Verb
from services.email_template_edits import Saved
from services.email_template_texts import TypedText
from tests.support.factories import find_customer, make_user, save

HOSTILE = (
    "<script>alert(1)</script>",
    "=cmd|' /C calc'!A0",
    "((first name))",
    "one\r\nBcc: two@evil.example",
    "\u202eRTL \u2066",
    "x" * 300,
)


def text(word: str = "Hello", html: str = "") -> TypedText:
    return TypedText(word, f"{word} ((first name))", html or f"<p>{word} ((first name))</p>")


def create(
    actor: Actor,
    name: str = "Notice",
    kind: TemplateKind = TemplateKind.GENERAL,
    **typed: TypedText,
) -> Saved:
    return email_template_edits.create_template(
        actor, name=name, kind=kind, typed=typed or {"en": text()}
    )


def edit(actor: Actor, template_id: int, **changes: Any) -> Saved:
    """Edit the newest state; `typed` replaces all texts."""
    template = db.session.get(EmailTemplate, template_id, populate_existing=True)
    assert template is not None
    newest = email_template_lists.get_version(actor, template_id)
    values: dict[str, Any] = {
        "version": template.version,
        "name": template.name,
        "typed": email_template_lists.typed_texts(newest),
        **changes,
    }
    return email_template_edits.edit_template(actor, template_id, **values)


def assign(actor: Actor, template_id: int, *web_ids: str, verb: Verb = Verb.ASSIGN) -> int:
    choice = Choice(By.LISTED, web_ids=" ".join(web_ids))
    return assignments.change_assignments(actor, template_id, verb, choice)


def limited_operator(web_id: str = "CQ101") -> Actor:
    """An operator of the customer's group alone."""
    user: User = make_user(role=Role.OPERATOR, login=f"limited-{web_id}@foyer.example".lower())
    save(UserGroup(user_id=user.id, group_id=find_customer(web_id).group_id))
    return Actor.from_user(user, "192.0.2.7")
