"""E-mail templates: which a customer may use, and their texts ready to be filled."""

from __future__ import annotations

from functools import lru_cache

import sqlalchemy as sa

from extensions import db, get_settings
from models import (
    Customer,
    CustomerEmailTemplate,
    EmailTemplate,
    EmailTemplateText,
    EmailTemplateVersion,
    TemplateKind,
    fold,
)
from services import mail_html, mail_texts, messages
from services.actors import Actor, Permission
from services.errors import NotFound
from services.paging import Page, keyset_page


def list_templates_for(customer: Customer) -> list[EmailTemplate]:
    """The templates a customer may choose by name: Welcome first, the others by name."""
    return list(db.session.scalars(_OF_CUSTOMER, {"customer": customer.id}))


# Built once: every list of users asks, and building them takes longer.
_OF_CUSTOMER = (
    sa.select(EmailTemplate)
    .join(CustomerEmailTemplate, CustomerEmailTemplate.template_id == EmailTemplate.id)
    .where(
        CustomerEmailTemplate.customer_id == sa.bindparam("customer"),
        EmailTemplate.archived_at.is_(None),
    )
    .order_by(EmailTemplate.kind != TemplateKind.WELCOME, EmailTemplate.name_key)
)
_OF_KIND = (
    sa.select(EmailTemplate)
    .where(EmailTemplate.kind == sa.bindparam("kind"), EmailTemplate.archived_at.is_(None))
    .order_by(EmailTemplate.id.desc())
    .limit(1)
)


def page_templates_for(
    actor: Actor, customer: Customer, *, size: int = 25, cursor: str = ""
) -> Page[EmailTemplate]:
    """A page of what the customer's users can be sent, by name: the templates that are assigned to
    it, and the password reset. Raises Forbidden."""
    actor.require(Permission.MAILINGS_READ)
    return keyset_page(
        lambda query: db.session.scalars(query).all(),
        sa.select(EmailTemplate).where(_can_be_sent_to(customer)),
        key=EmailTemplate.name_key.expression,
        row_id=EmailTemplate.id.expression,
        key_of=lambda template: (template.name_key, template.id),
        size=size,
        cursor=cursor,
    )


def find_named_template(customer: Customer, name: str) -> EmailTemplate | None:
    """Of these, the one that `name` names."""
    return db.session.scalar(
        sa.select(EmailTemplate).where(
            EmailTemplate.name_key == fold(name), _can_be_sent_to(customer)
        )
    )


def _can_be_sent_to(customer: Customer) -> sa.ColumnElement[bool]:
    reset = find_template_of_kind(TemplateKind.PASSWORD_RESET)
    assigned = sa.exists().where(
        CustomerEmailTemplate.template_id == EmailTemplate.id,
        CustomerEmailTemplate.customer_id == customer.id,
    )
    usable = assigned & (EmailTemplate.kind != TemplateKind.PASSWORD_RESET)
    if reset is not None:
        usable |= EmailTemplate.id == reset.id
    return EmailTemplate.archived_at.is_(None) & usable


def get_template_for(customer: Customer, template_id: int) -> EmailTemplate:
    """A template the customer may use; the password reset belongs to all. Raises NotFound."""
    template = db.session.get(EmailTemplate, template_id)
    if template is not None and template.kind is TemplateKind.PASSWORD_RESET:
        return template
    if template is None or template.id not in {each.id for each in list_templates_for(customer)}:
        raise NotFound(f"{customer.name} has no such e-mail template.")
    return template


def find_welcome_template(customer: Customer) -> EmailTemplate | None:
    """The welcome template that is assigned to the customer, the newest where there are several."""
    return db.session.scalar(
        sa.select(EmailTemplate)
        .join(CustomerEmailTemplate, CustomerEmailTemplate.template_id == EmailTemplate.id)
        .where(
            CustomerEmailTemplate.customer_id == customer.id,
            EmailTemplate.kind == TemplateKind.WELCOME,
            EmailTemplate.archived_at.is_(None),
        )
        .order_by(EmailTemplate.id.desc())
        .limit(1)
    )


def find_template_of_kind(kind: TemplateKind) -> EmailTemplate | None:
    """The newest template of a kind that is not archived."""
    return db.session.scalar(_OF_KIND, {"kind": kind})


def get_current_version(template: EmailTemplate) -> EmailTemplateVersion:
    """The newest version of a template."""
    version = db.session.scalar(
        sa.select(EmailTemplateVersion)
        .where(EmailTemplateVersion.template_id == template.id)
        .order_by(EmailTemplateVersion.number.desc())
        .limit(1)
    )
    if version is None:
        raise NotFound(f"The e-mail template {template.name} has no text yet.")
    return version


def get_current_texts(template: EmailTemplate) -> list[EmailTemplateText]:
    """The texts of the newest version, one for each of its languages."""
    version = get_current_version(template)
    return list(
        db.session.scalars(
            sa.select(EmailTemplateText)
            .where(EmailTemplateText.version_id == version.id)
            .order_by(EmailTemplateText.language)
        )
    )


def prepare_texts(version_id: int) -> dict[str, messages.PreparedMessage]:
    """The prepared message of each language that a template version has.

    Raises MessageError or PlaceholderError when a text is broken.
    """
    with db.engine.connect() as connection:
        texts = connection.execute(
            sa.select(
                EmailTemplateText.language,
                EmailTemplateText.subject,
                EmailTemplateText.text,
                EmailTemplateText.html,
            ).where(EmailTemplateText.version_id == version_id)
        ).all()
    return {
        row.language: _compiled(row.subject, row.text, row.html, row.language, sender(), branding())
        for row in texts
    }


@lru_cache(maxsize=64)
def _compiled(
    subject: str,
    text: str,
    html: str,
    language: str,
    from_: str,
    provider: mail_html.ProviderBranding,
) -> messages.PreparedMessage:
    """Compiling costs more than all the rest of accepting a mail; the texts say what is in it."""
    return messages.compile_message(
        subject, text, html, language=language, sender=from_, provider=provider
    )


def prepare_system_mail(name: str, language: str) -> messages.PreparedMessage:
    """One of the system's own mails, in `language` or, if need be, in English."""
    subject, text, html = mail_texts.load_system_mail(name, language)
    return messages.compile_message(
        subject,
        text,
        html,
        sender=sender(),
        provider=branding(),
        language=mail_html.base_language(language),
        system=True,
    )


def sender() -> str:
    """The From of every mail: the provider's name and MAIL_DEFAULT_SENDER."""
    settings = get_settings()
    name = settings.provider_name.replace("\\", "").replace('"', "")
    return f'"{name}" <{settings.mail_default_sender}>'


def branding() -> mail_html.ProviderBranding:
    settings = get_settings()
    return mail_html.ProviderBranding(
        name=settings.provider_name,
        help_contact=settings.support_email,
        accent=settings.provider_accent,
    )
