"""The rows of Tenant Creation Management, as HTML: see `blueprints.markup`."""

from __future__ import annotations

from collections.abc import Iterable
from zoneinfo import ZoneInfo

from flask import url_for
from markupsafe import Markup, escape

from blueprints.markup import Parts, get_parts, made
from blueprints.tenant_creation.words import RequestShown


def rows(shown: Iterable[RequestShown], *, zone: ZoneInfo, is_staff: bool, boxes: bool) -> Markup:
    """Rows of the table; with `boxes` all but drafts can be selected."""
    parts, base = get_parts(), escape(url_for("tenant_creation.index"))
    return made(
        "\n".join(_row(parts, base, each, zone, is_staff=is_staff, boxes=boxes) for each in shown)
    )


def _row(
    parts: Parts, base: Markup, row: RequestShown, zone: ZoneInfo, *, is_staff: bool, boxes: bool
) -> str:
    request, name = row.request, escape(row.name)
    box: Markup | str = ""
    if boxes:
        is_draft = row.is_draft
        box = '<td class="select-cell"></td>' if is_draft else parts.td_select(request.id, name)
    planned = parts.time_by(row.planned_for, zone)
    template = parts.truncated(row.template) if row.template else ""
    if is_staff and request.group:
        template += made(f'<span class="secondary second-line">{escape(request.group.name)}</span>')
    author = parts.truncated(request.created_by.full_name) if is_staff else ""
    at = parts.time(request.submitted_at or request.created_at)
    label, colour, symbol = row.word
    id_ = f"request-{request.id}"
    return (
        f'<tr data-row>\n{box}\n<th scope="row"><a class="truncate" href="{base}/{request.id}" '
        f'title="{name}">{name}</a></th>\n'
        f'<td><span id="{id_}-word">{parts.pill(colour, label, symbol)}</span></td>\n'
        f'<td class="request-next"><span id="{id_}-next">{escape(row.next_step)}</span></td>\n'
        f'<td data-label="Planned"><span id="{id_}-planned">{planned}</span></td>\n'
        f"<td>{template}</td>\n"
        f'<td>{author}<span class="second-line">{at}</span></td>\n'
        f"</tr>"
    )
