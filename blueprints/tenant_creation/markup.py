"""The rows of Tenant Creation Management, as HTML: see `blueprints.markup`."""

from __future__ import annotations

from collections.abc import Iterable
from zoneinfo import ZoneInfo

from flask import url_for
from markupsafe import Markup

from blueprints.markup import Parts, as_text, get_parts, made
from blueprints.tenant_creation.words import RequestShown


def rows(shown: Iterable[RequestShown], *, zone: ZoneInfo, is_staff: bool, boxes: bool) -> Markup:
    """Rows of the table; with `boxes` all but drafts can be selected."""
    parts, base = get_parts(), as_text(url_for("tenant_creation.index"))
    return made(
        "\n".join(_row(parts, base, each, zone, is_staff=is_staff, boxes=boxes) for each in shown)
    )


def _row(
    parts: Parts, base: str, row: RequestShown, zone: ZoneInfo, *, is_staff: bool, boxes: bool
) -> str:
    request, name = row.request, as_text(row.name)
    box = ""
    if boxes:
        is_draft = row.is_draft
        box = (
            '<td class="select-cell"></td>' if is_draft else parts.td_select_text(request.id, name)
        )
    planned = parts.time_by_text(row.planned_for, zone) if row.planned_for else ""
    template = parts.truncated_text(row.template) if row.template else ""
    if is_staff and request.group:
        template += f'<span class="secondary second-line">{as_text(request.group.name)}</span>'
    author = ""
    if is_staff:
        person = request.created_by  # None where another system made it.
        author = parts.truncated_text(person.full_name if person else "")
    at = parts.time_text(request.submitted_at or request.created_at)
    label, colour, symbol = row.word
    id_ = f"request-{request.id}"
    return (
        f'<tr data-row>\n{box}\n<th scope="row"><a class="truncate" href="{base}/{request.id}" '
        f'title="{name}">{name}</a></th>\n'
        f'<td><span id="{id_}-word">{parts.pill_text(colour, label, symbol)}</span></td>\n'
        f'<td class="request-next"><span id="{id_}-next">{as_text(row.next_step)}</span></td>\n'
        f'<td data-label="Planned"><span id="{id_}-planned">{planned}</span></td>\n'
        f"<td>{template}</td>\n"
        f'<td>{author}<span class="second-line">{at}</span></td>\n'
        f"</tr>"
    )
