"""The rates as a small SVG for the README: bars beside one bare connection, with their targets."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

from benchmarks.records import Records

_BARS = (
    ("bare", "one bare smtplib connection", None),
    ("engine-sqlite", "Foyer, SQLite", 2.5),
    ("engine-postgresql", "Foyer, PostgreSQL", 2.0),
    ("plain-sqlite", "Foyer, SQLite, no PIPELINING", 1.0),
    ("plain-postgresql", "Foyer, PostgreSQL, no PIPELINING", 1.0),
    ("post-office", "django-post-office", None),
)
_UNITS = {"plain-sqlite": "bare-plain", "plain-postgresql": "bare-plain"}
_LABEL, _WIDTH, _RIGHT, _ROW, _TOP, _MARGIN = 252, 380, 132, 30, 62, 16
_STYLE = """
  .paper { fill: #ffffff }
  text { font: 13px system-ui, sans-serif; fill: #24292f }
  .muted { fill: #57606a }
  .bar { fill: #8c959f } .ours { fill: #1f5fbf }
  .target { stroke: #bc4c00; stroke-width: 2 }
  @media (prefers-color-scheme: dark) {
    .paper { fill: #0d1117 } text { fill: #e6edf3 } .muted { fill: #9198a1 }
    .bar { fill: #6e7681 } .ours { fill: #6ea8fe } .target { stroke: #f0883e }
  }
"""


@dataclass(frozen=True, slots=True)
class _Bar:
    label: str
    ratio: float
    rate: float
    target: float | None
    is_ours: bool


def draw(records: Records) -> str | None:
    """The SVG's text, or None when there is nothing to compare."""
    bars = [_bar(records, *each) for each in _BARS if each[0] in records.samples]
    if len(bars) < 2:
        return None
    longest = max(max(bar.ratio, bar.target or 0) for bar in bars)
    height = _TOP + _ROW * len(bars) + _MARGIN
    width = _LABEL + _WIDTH + _RIGHT
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" role="img" aria-labelledby="title">',
        f'<title id="title">{escape(_title(bars))}</title>',
        f"<style>{_STYLE}</style>",
        f'<rect width="{width}" height="{height}" rx="8" class="paper"/>',
        f'<text x="{_MARGIN}" y="30">Mails per second, as multiples of one bare smtplib '
        "connection</text>",
        f'<text x="{_MARGIN}" y="48" class="muted">The upright line is what must be '
        "reached.</text>",
    ]
    for number, bar in enumerate(bars):
        lines += _draw_bar(bar, _TOP + number * _ROW, _WIDTH / longest)
    return "\n".join([*lines, "</svg>", ""])


def _bar(records: Records, series: str, label: str, target: float | None) -> _Bar:
    unit = _UNITS.get(series, "bare")
    ratio = records.ratio(series, unit) if unit in records.samples else 0.0
    return _Bar(label, ratio, records.median(series), target, label.startswith("Foyer"))


def _title(bars: list[_Bar]) -> str:
    return "; ".join(f"{bar.label}: {bar.ratio:.2f} times" for bar in bars)


def _draw_bar(bar: _Bar, top: int, scale: float) -> list[str]:
    length = max(1.0, bar.ratio * scale)
    end = max(bar.ratio, bar.target or 0) * scale
    middle = top + 18
    kind = "bar ours" if bar.is_ours else "bar"
    drawn = [
        f'<text x="{_LABEL - 8}" y="{middle}" text-anchor="end">{escape(bar.label)}</text>',
        f'<rect x="{_LABEL}" y="{top + 5}" width="{length:.1f}" height="18" class="{kind}"/>',
        f'<text x="{_LABEL + end + 8:.1f}" y="{middle}">{bar.ratio:.2f} ×'
        f'<tspan class="muted"> {bar.rate:,.0f}/s</tspan></text>',
    ]
    if bar.target is not None:
        at = _LABEL + bar.target * scale
        drawn.append(f'<path d="M{at:.1f} {top + 2}v24" class="target"/>')
    return drawn
