"""E-mail templates as staff look at them: the list, one of them, its versions."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import joinedload, selectinload

from config import LANGUAGES
from extensions import db
from models import (
    Customer,
    CustomerEmailTemplate,
    EmailTemplate,
    EmailTemplateText,
    EmailTemplateVersion,
    TemplateKind,
    User,
    fold,
    is_storable,
    prefix_range,
)
from services.actors import Actor, Permission, customers_in_scope
from services.email_template_rights import get_template
from services.email_template_texts import ReadyText, TypedText, check_text
from services.email_templates import get_current_version
from services.errors import InvalidInputs, NotFound
from services.paging import Page, keyset_page, parse_id_key
from services.text_differences import Hunk, compare_texts

MOST_COUNTED = 1000
"""Customers of a template are counted up to so many: a count costs the same for a million."""

_LARGEST_NUMBER = 2**31 - 1


@dataclass(frozen=True, slots=True)
class TemplateFilter:
    """What the list shows; `web_id` is of a customer who may use the templates."""

    search: str = ""
    kind: TemplateKind | None = None
    archived: bool = False
    web_id: str = ""


@dataclass(frozen=True, slots=True)
class ListedTemplate:
    """A template with its newest version. `customers` counts those in the actor's scope that may
    use it, None for more than MOST_COUNTED."""

    template: EmailTemplate
    number: int
    languages: list[str]
    changed_at: datetime | None
    changed_by: User | None
    customers: int | None


def list_templates(
    actor: Actor, wanted: TemplateFilter, *, size: int = 25, cursor: str = ""
) -> Page[ListedTemplate]:
    """A page of the provider's templates by name; the search is a prefix. Raises Forbidden."""
    actor.require(Permission.TEMPLATES_READ)
    term = fold(wanted.search)
    if not is_storable(term) or not is_storable(wanted.web_id):
        return Page([], None, None)
    is_archived = EmailTemplate.archived_at.is_not(None)
    query = sa.select(EmailTemplate).where(is_archived if wanted.archived else ~is_archived)
    if term:
        lowest, beyond = prefix_range(term)
        query = query.where(EmailTemplate.name_key >= lowest, EmailTemplate.name_key < beyond)
    if wanted.kind is not None:
        query = query.where(EmailTemplate.kind == wanted.kind)
    if wanted.web_id:
        query = query.where(
            sa.exists().where(
                CustomerEmailTemplate.template_id == EmailTemplate.id,
                CustomerEmailTemplate.customer_id == _customer_id(actor, wanted.web_id),
            )
        )
    page = keyset_page(
        lambda statement: db.session.scalars(statement).all(),
        query,
        key=EmailTemplate.name_key.expression,
        row_id=EmailTemplate.id.expression,
        key_of=lambda template: (template.name_key, template.id),
        size=size,
        cursor=cursor,
    )
    return Page(_with_newest(actor, page.rows), page.previous, page.next)


def _customer_id(actor: Actor, web_id: str) -> Any:
    return (
        sa.select(Customer.id)
        .where(Customer.web_id == web_id.upper(), customers_in_scope(actor))
        .scalar_subquery()
    )


def _with_newest(actor: Actor, templates: Collection[EmailTemplate]) -> list[ListedTemplate]:
    ids = [each.id for each in templates]
    newest = (
        sa.select(
            EmailTemplateVersion.template_id, sa.func.max(EmailTemplateVersion.number).label("top")
        )
        .where(EmailTemplateVersion.template_id.in_(ids))
        .group_by(EmailTemplateVersion.template_id)
        .subquery()
    )
    versions = {
        each.template_id: each
        for each in db.session.scalars(
            sa.select(EmailTemplateVersion)
            .join(
                newest,
                sa.and_(
                    newest.c.template_id == EmailTemplateVersion.template_id,
                    newest.c.top == EmailTemplateVersion.number,
                ),
            )
            .options(joinedload(EmailTemplateVersion.created_by))
        )
    }
    languages: dict[int, list[str]] = {}
    for version_id, language in db.session.execute(
        sa.select(EmailTemplateText.version_id, EmailTemplateText.language).where(
            EmailTemplateText.version_id.in_([each.id for each in versions.values()])
        )
    ):
        languages.setdefault(version_id, []).append(language)
    counts = count_customers(actor, ids)
    listed = []
    for template in templates:
        version = versions.get(template.id)
        has = languages.get(version.id, []) if version else []
        listed.append(
            ListedTemplate(
                template=template,
                number=version.number if version else 0,
                languages=[each for each in LANGUAGES if each in has],
                changed_at=version.created_at if version else None,
                changed_by=version.created_by if version else None,
                customers=counts[template.id],
            )
        )
    return listed


def count_customers(actor: Actor, template_ids: Collection[int]) -> dict[int, int | None]:
    """How many customers in the actor's scope may use each template, None for more than
    MOST_COUNTED whoever's they are."""
    found: dict[int, int | None] = {}
    for template_id in template_ids:
        using = (
            sa.select(CustomerEmailTemplate.customer_id)
            .where(CustomerEmailTemplate.template_id == template_id)
            .limit(MOST_COUNTED + 1)
            .subquery()
        )
        everybodys, mine = db.session.execute(
            sa.select(
                sa.func.count(),
                sa.func.count().filter(customers_in_scope(actor)),
            )
            .select_from(using)
            .join(Customer, Customer.id == using.c.customer_id)
        ).one()
        found[template_id] = None if everybodys > MOST_COUNTED else mine
    return found


# --- One template --------------------------------------------------------------------------------


def get_listed(actor: Actor, template_id: int) -> ListedTemplate:
    """A template as the list shows it. Raises Forbidden and NotFound."""
    return _with_newest(actor, [get_template(actor, template_id)])[0]


def get_version(actor: Actor, template_id: int, number: int = 0) -> EmailTemplateVersion:
    """A version with its texts and who made it; the newest without `number`.

    Raises Forbidden and NotFound.
    """
    template = get_template(actor, template_id)
    if not number:
        number = get_current_version(template).number
    found = None
    if 0 < number <= _LARGEST_NUMBER:
        found = db.session.scalar(
            sa.select(EmailTemplateVersion)
            .where(
                EmailTemplateVersion.template_id == template.id,
                EmailTemplateVersion.number == number,
            )
            .options(
                joinedload(EmailTemplateVersion.created_by),
                selectinload(EmailTemplateVersion.texts),
            )
        )
    if found is None:
        raise NotFound(f"{template.name} has no version {number}.")
    return found


def typed_texts(version: EmailTemplateVersion) -> dict[str, TypedText]:
    """The texts of a version as an editor shows them: one that was made stands empty."""
    return typed_of(version.texts)


def typed_of(texts: Iterable[EmailTemplateText]) -> dict[str, TypedText]:
    """The same for the texts alone."""
    return {
        text.language: TypedText(text.subject, "" if text.text_made else text.text, text.html)
        for text in texts
    }


def ready_texts(version: EmailTemplateVersion) -> dict[str, ReadyText]:
    """Those of a version's texts that can still be sent, in the order of LANGUAGES."""
    typed = typed_texts(version)
    ready = {}
    for language in LANGUAGES:
        if language in typed:
            try:
                ready[language] = check_text(language, typed[language])
            except InvalidInputs:
                continue
    return ready


def list_versions(
    actor: Actor, template_id: int, *, size: int = 25, cursor: str = ""
) -> Page[EmailTemplateVersion]:
    """A page of a template's versions, newest first, with who made them."""
    template = get_template(actor, template_id)
    return keyset_page(
        lambda statement: db.session.scalars(statement).all(),
        sa.select(EmailTemplateVersion)
        .where(EmailTemplateVersion.template_id == template.id)
        .options(joinedload(EmailTemplateVersion.created_by)),
        key=EmailTemplateVersion.number.expression,
        row_id=EmailTemplateVersion.number.expression,
        key_of=lambda row: (str(row.number), row.number),
        parse_key=parse_id_key,
        descending=True,
        size=size,
        cursor=cursor,
    )


# --- Differences ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PartDifference:
    """How one part of one language differs: `hunks` are its changed lines with those around."""

    language: str
    part: str
    hunks: list[Hunk]


def compare_versions(
    before: Mapping[str, TypedText], after: Mapping[str, TypedText]
) -> list[PartDifference]:
    """What differs between two states of a template, by language and part; empty for nothing."""
    found = []
    for language in LANGUAGES:
        old, new = before.get(language, TypedText()), after.get(language, TypedText())
        for part, was, now in (
            ("Subject", old.subject, new.subject),
            ("Text", old.text, new.text),
            ("HTML", old.html, new.html),
        ):
            hunks = compare_texts(was, now)
            if hunks:
                found.append(PartDifference(LANGUAGES[language], part, hunks))
    return found
