"""The texts that come with the system: its own mails, and templates to start with."""

from collections.abc import Mapping
from pathlib import Path

from services.mail_html import FALLBACK_LANGUAGE, MAIL_TEMPLATES, base_language

DEFAULT_TEMPLATES: Mapping[str, str] = {
    "welcome": "Welcome",
    "password-update": "Password update",
    "voicemail-update": "Voicemail update",
    "password-reset": "Password reset",
}
"""Slug and name of the templates that a new installation starts with."""


def load_system_mail(name: str, language: str) -> tuple[str, str, str]:
    """Return subject, text and HTML of one of the system's own mails, in English if need be."""
    folder = MAIL_TEMPLATES / name
    found = base_language(language)
    if not (folder / f"{found}.subject.txt").is_file():
        found = FALLBACK_LANGUAGE
    return _read(folder, found, "")


def load_default_template(slug: str) -> dict[str, tuple[str, str, str]]:
    """Return subject, text and HTML by language of one of DEFAULT_TEMPLATES. Raises KeyError."""
    if slug not in DEFAULT_TEMPLATES:
        raise KeyError(slug)
    folder = MAIL_TEMPLATES / "defaults" / slug
    languages = sorted(path.name.partition(".")[0] for path in folder.glob("*.subject.txt"))
    return {language: _read(folder, language, "body.") for language in languages}


def _read(folder: Path, language: str, infix: str) -> tuple[str, str, str]:
    subject = (folder / f"{language}.subject.txt").read_text(encoding="utf-8").strip()
    text = (folder / f"{language}.{infix}txt").read_text(encoding="utf-8")
    html = (folder / f"{language}.{infix}html").read_text(encoding="utf-8")
    return subject, text, html
