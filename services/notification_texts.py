"""What a notification about a request says, in its reader's language and time zone."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

from babel.dates import format_date, format_time, get_timezone_name

from extensions import get_settings
from models import RequestNotification, Role, SubscriptionRequest
from services import (
    countries,
    domain_names,
    email_templates,
    messages,
    off_peak,
    provisioning_policy,
)
from services.mail_html import FALLBACK_LANGUAGE, base_language

_LOCALES = {"en": "en_GB", "de": "de", "fr": "fr", "nl": "nl"}


def prepare(notification: RequestNotification, language: str = "") -> messages.PreparedMessage:
    """The system e-mail template of the notification's kind, in `language` or its own."""
    return email_templates.prepare_system_mail(notification.kind, language or notification.language)


def values_of(notification: RequestNotification, language: str = "") -> dict[str, str]:
    """A value for each placeholder of all the kinds; those that do not apply are empty.

    Needs `request` with its author and template version, and `transition`.
    """
    request, transition = notification.request, notification.transition
    language = language or notification.language
    portal = get_settings().public_url
    version = request.template_version
    # Whoever registered for somebody else is the only one who can open the request.
    is_own = request.created_by is not None and request.created_by.role is Role.PROSPECT
    start, end = _planned(notification)
    zone = _zone_of(request)
    return {
        "full name": request.contact_name,
        "tenant name": request.name,
        "login": domain_names.shown_login(request.admin_login),
        "reason": transition.reason,
        "planned start": format_moment(start, zone, language) if start else "",
        "planned end": format_moment(end, zone, language) if end else "",
        "provider name": get_settings().provider_name,
        "help contact": get_settings().support_email,
        "portal link": f"{portal}/login",
        "forgot link": f"{portal}/password/forgot",
        "application link": version.application_url if version else "",
        "request link": f"{portal}/tenant-creation-management/{request.id}" if is_own else "",
        "change link": f"{portal}/tenant-registration/{request.id}/template" if is_own else "",
        "registration page": f"{portal}/tenant-registration" if is_own else "",
    }


def _planned(notification: RequestNotification) -> tuple[datetime | None, datetime | None]:
    """The planned start, and the end of the off-peak hours where these chose it."""
    start, request = notification.transition.scheduled_for, notification.request
    if start is None:
        return None, None
    if not request.off_peak or request.scheduled_for != start:
        return start, None
    return start, off_peak.end_of(start, provisioning_policy.load())


def _zone_of(request: SubscriptionRequest) -> ZoneInfo:
    if countries.is_time_zone(request.time_zone):
        return ZoneInfo(request.time_zone)
    return provisioning_policy.load().zone


def format_moment(moment: datetime, zone: ZoneInfo, language: str) -> str:
    """`moment` (aware) with weekday, time and the zone's name, in one of the mails' languages.

    For example `Saturday, 21 November 2026, 22:00 (Central European Standard Time)`.
    """
    locale = _LOCALES.get(base_language(language), _LOCALES[FALLBACK_LANGUAGE])
    local = moment.astimezone(zone)
    day = format_date(local.date(), "full", locale=locale)
    time = format_time(local, "short", tzinfo=zone, locale=locale)
    return f"{day}, {time} ({get_timezone_name(local, locale=locale)})"
