"""The rows of lists of mailings, as HTML: see `blueprints.markup`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from markupsafe import Markup

from blueprints.formats import format_number
from blueprints.markup import Parts, as_text, get_parts, made
from models import Mailing, MailingState
from services.mailings import Audience

_STATES = {
    MailingState.RUNNING: ("neutral", "Running", "loader-circle"),
    MailingState.PAUSED: ("attention", "Paused", "circle-pause"),
    MailingState.CANCELLING: ("attention", "Cancelling", "circle-dashed"),
    MailingState.CANCELLED: ("neutral", "Cancelled", "ban"),
    MailingState.FINISHED: ("good", "Finished", "circle-check"),
}


def mailing_state(mailing: Mailing) -> Markup:
    """Finished with failures, or with mails that came back, asks for attention."""
    return made(_state(get_parts(), mailing))


def state_pill(state: MailingState) -> Markup:
    """A state, however the mailing has ended."""
    return get_parts().pill(*_STATES[state])


def _state(parts: Parts, mailing: Mailing) -> str:
    if mailing.state is MailingState.FINISHED and (mailing.failed or mailing.bounced):
        return parts.pill_text("attention", "Finished with failures")
    return parts.pill_text(*_STATES[mailing.state])


def audience_of(audience: Audience | None) -> str:
    """`Harborlight`, or `Harborlight and 2 other customers`."""
    if audience is None:
        return ""
    others = audience.customers - 1
    if others < 1:
        return audience.first
    noun = "customer" if others == 1 else "customers"
    return f"{audience.first} and {format_number(others)} other {noun}"


def rows(
    mailings: Iterable[Mailing], *, list_url: str, audiences: Mapping[int, Audience] | None
) -> Markup:
    """Rows of the table; without the columns of who gets them if `audiences` is None."""
    parts, base = get_parts(), as_text(list_url)
    return made("\n".join(_row(parts, base, mailing, audiences) for mailing in mailings))


def _row(
    parts: Parts, base: str, mailing: Mailing, audiences: Mapping[int, Audience] | None
) -> str:
    to_whom = ""
    if audiences is not None:
        audience = parts.truncated_text(audience_of(audiences.get(mailing.id)))
        to_whom = (
            f'<td class="numeric" data-label="Number">{mailing.id}</td>\n<td>{audience}</td>\n'
        )
    sent, total = format_number(mailing.sent), format_number(mailing.total)
    bounced, failed = format_number(mailing.bounced), format_number(mailing.failed)
    return (
        f'<tr data-row>\n<th scope="row"><a href="{base}/{mailing.id}">'
        f"{as_text(mailing.template_version.template.name)}</a></th>\n"
        f"{to_whom}<td>{_state(parts, mailing)}</td>\n"
        f'<td class="numeric" data-label="Sent">{sent} of {total}</td>\n'
        f'<td class="numeric wide-only" data-label="Bounced">{bounced}</td>\n'
        f'<td class="numeric" data-label="Failed">{failed}</td>\n'
        f'<td class="numeric" data-label="Skipped">{format_number(mailing.skipped)}</td>\n'
        f'<td data-label="By">{parts.truncated_text(mailing.author)}</td>\n'
        f"<td>{parts.time_text(mailing.created_at)}</td>\n</tr>"
    )
