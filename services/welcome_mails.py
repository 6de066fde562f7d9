"""The welcome mail to a customer's administrators, as other systems ask for it."""

from __future__ import annotations

import secrets

from extensions import db
from models import Customer, Lane, Mailing, MailingState
from services import email_templates
from services.actors import Actor, Permission
from services.errors import Conflict
from services.mailing_confirmations import (
    ADMINISTRATORS,
    freeze_mailing,
    prepare_version,
    resets_of,
)


def resend_to_administrators(actor: Actor, customer: Customer) -> Mailing:
    """Accept a welcome mail to the customer's administrators; the caller enqueues it after.

    Whoever asks again means it: somebody mailed a moment ago is mailed again. Raises Forbidden, and
    Conflict when there is nobody to mail or no template to mail.
    """
    actor.require(Permission.MAILINGS_SEND)
    template = email_templates.find_welcome_template(customer)
    if template is None:
        raise Conflict(f"{customer.name} has no welcome mail among its e-mail templates.")
    version = email_templates.get_current_version(template)
    resets_portal, resets_application = resets_of(prepare_version(template, version))
    mailing = Mailing(
        customer_id=customer.id,
        template_version_id=version.id,
        created_by_id=actor.user_id,
        credential_id=actor.credential_id,
        confirmation=secrets.token_urlsafe(24),
        lane=Lane.INTERACTIVE,
        state=MailingState.RUNNING,
        resets_portal_password=resets_portal,
        resets_application_password=resets_application,
    )
    db.session.add(mailing)
    db.session.flush()
    freeze_mailing(actor, mailing, [customer.id], ADMINISTRATORS, include_recent=True)
    if not mailing.queued:
        db.session.rollback()
        raise Conflict(
            f"{customer.name} has no administrator who can be mailed: each one is suspended, has "
            "no e-mail address, or has one that is suppressed."
        )
    db.session.commit()
    return mailing
