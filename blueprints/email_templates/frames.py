"""A preview as its frame shows it: the mail, its plain text, or why there is none."""

from __future__ import annotations

from collections.abc import Sequence

from flask import Response
from markupsafe import Markup, escape

from blueprints.mailings.frames import frame_mail
from services.email_template_previews import Preview

_PLAIN = Markup(
    "<!doctype html><html><head><meta charset='utf-8'><title>Mail</title></head>"
    "<body style='margin:0;background:#fff;color:#191d24'>{}</body></html>"
)
_TEXT = Markup(
    "<pre style='margin:0;padding:16px;white-space:pre-wrap;overflow-wrap:anywhere;"
    "font:14px/1.5 ui-monospace,monospace'>{}</pre>"
)
_SENTENCE = Markup("<p style='margin:16px;font:15px/1.5 sans-serif'>{}</p>")


def frame_preview(preview: Preview, shown: str) -> Response:
    """The mail as `shown` asks: `text`, or else HTML."""
    if shown == "text":
        return frame_mail(_PLAIN.format(_TEXT.format(escape(preview.message.text))))
    return frame_mail(preview.message.html)


def frame_faults(sentences: Sequence[str]) -> Response:
    """Why there is nothing to show; 200, because a frame is no place for an error page."""
    return frame_mail(_PLAIN.format(Markup("").join(map(_SENTENCE.format, sentences))))
