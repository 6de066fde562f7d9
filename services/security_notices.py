"""Security notices: a person is told by mail what happened to his second factors.

A row is written with the change; what happens to it then, noted_mails.py says.
"""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy.orm import joinedload

from extensions import db, get_settings
from models import SecurityNotice, SecurityNoticeKind, User
from services import (
    email_templates,
    noted_mails,
    provisioning_policy,
    system_mails,
)
from services.mail_html import FALLBACK_LANGUAGE, base_language
from services.notification_texts import format_moment

_MAIL = "security_notice"

_WORDS: Mapping[SecurityNoticeKind, Mapping[str, str]] = {
    SecurityNoticeKind.TOTP_ADDED: {
        "en": "An authenticator app was set up as second factor.",
        "de": "Eine Authenticator-App wurde als zweiter Faktor eingerichtet.",
        "fr": "Une application d\u2019authentification a été configurée comme second facteur.",
        "nl": "Een authenticator-app is ingesteld als tweede factor.",
    },
    SecurityNoticeKind.TOTP_REMOVED: {
        "en": "The authenticator app was removed.",
        "de": "Die Authenticator-App wurde entfernt.",
        "fr": "L\u2019application d\u2019authentification a été supprimée.",
        "nl": "De authenticator-app is verwijderd.",
    },
    SecurityNoticeKind.PASSKEY_ADDED: {
        "en": "A passkey was added: {name}.",
        "de": "Ein Passkey wurde hinzugefügt: {name}.",
        "fr": "Une clé d\u2019accès a été ajoutée : {name}.",
        "nl": "Er is een passkey toegevoegd: {name}.",
    },
    SecurityNoticeKind.PASSKEY_REMOVED: {
        "en": "A passkey was removed: {name}.",
        "de": "Ein Passkey wurde entfernt: {name}.",
        "fr": "Une clé d\u2019accès a été supprimée : {name}.",
        "nl": "Er is een passkey verwijderd: {name}.",
    },
    SecurityNoticeKind.RECOVERY_CODES_MADE: {
        "en": "New recovery codes were made. Earlier ones no longer work.",
        "de": "Neue Wiederherstellungscodes wurden erzeugt. Frühere gelten nicht mehr.",
        "fr": "De nouveaux codes de récupération ont été créés. Les anciens ne fonctionnent plus.",
        "nl": "Er zijn nieuwe herstelcodes gemaakt. Eerdere werken niet meer.",
    },
    SecurityNoticeKind.RECOVERY_CODE_USED: {
        "en": "A recovery code was used to sign in. It does not work again.",
        "de": "Ein Wiederherstellungscode wurde zum Anmelden benutzt. Er gilt nicht noch einmal.",
        "fr": "Un code de récupération a servi à la connexion. Il ne fonctionne plus.",
        "nl": "Er is een herstelcode gebruikt om aan te melden. De code werkt niet nog eens.",
    },
    SecurityNoticeKind.FACTORS_RESET: {
        "en": "An administrator removed all second factors of your account.",
        "de": "Ein Administrator hat alle zweiten Faktoren Ihres Kontos entfernt.",
        "fr": "Un administrateur a supprimé tous les seconds facteurs de votre compte.",
        "nl": "Een beheerder heeft alle tweede factoren van uw account verwijderd.",
    },
}


def note(user: User, kind: SecurityNoticeKind, *, name: str = "", address: str = "") -> None:
    """Note a mail to a person in the caller's transaction; nothing where he has no address."""
    if not user.email:
        return
    db.session.add(
        SecurityNotice(
            user_id=user.id,
            kind=kind,
            name=name,
            address=address[:64],
            email=user.email,
            language=user.language,
            message_id=system_mails.new_message_id(),
        )
    )


def start_mails() -> None:
    """Ask workers to mail what waits. Call it after the commit; the sweep finds what is lost."""
    _mails.enqueue(list_unmailed())


def list_unmailed() -> list[int]:
    """Ids of notices that are due, the oldest first; none while the line is blocked."""
    return _mails.list_unmailed()


def mail_notice(notice_id: int) -> bool:
    """Mail a notice that is due; False when it was not mailed now."""
    return _mails.mail(notice_id)


def _load(notice_id: int) -> SecurityNotice:
    return db.session.get_one(
        SecurityNotice,
        notice_id,
        populate_existing=True,
        options=[joinedload(SecurityNotice.user)],
    )


def _send(notice: SecurityNotice) -> None:
    prepared = email_templates.prepare_system_mail(_MAIL, notice.language)
    values = _values_of(notice)
    db.session.commit()  # No transaction is open while the server thinks.
    system_mails.send(
        prepared,
        values,
        to_name=values["full name"],
        to_address=notice.email,
        message_id=notice.message_id,
        date=notice.created_at,
    )


def _values_of(notice: SecurityNotice) -> dict[str, str]:
    settings = get_settings()
    words = _WORDS[notice.kind]
    sentence = words.get(base_language(notice.language), words[FALLBACK_LANGUAGE])
    zone = provisioning_policy.load().zone
    return {
        "full name": notice.user.full_name,
        "login": notice.user.login,
        "what happened": sentence.replace("{name}", notice.name),
        "changed at": format_moment(notice.created_at, zone, notice.language),
        "network address": notice.address,
        "provider name": settings.provider_name,
        "help contact": settings.support_email,
    }


_mails = noted_mails.NotedMails(SecurityNotice, "jobs.second_factors.mail_notice", _load, _send)
