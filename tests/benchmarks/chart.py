"""Charts as SVG: bars with their spread, readable on light and dark; each bar says its figures."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from benchmarks.harness import Figure, Results, Shown

WIDTH, BAR, GAP, TOP = 720, 20, 10, 44
#: About, of a letter.
LETTER = 7
STYLE = (
    ":root{--ink:#1b1f24;--faint:#6b7280;--bar:#2563a8;--other:#9aa4b2}"
    "@media(prefers-color-scheme:dark){:root{--ink:#e6e8eb;--faint:#a0a7b1;--bar:#6aa7e8;--other:#66707d}}"
    "text{font:13px system-ui,sans-serif;fill:var(--ink)}.faint{fill:var(--faint)}.ours{fill:var(--bar)}.other{fill:var(--other)}"
    "line{stroke:var(--ink)}.axis{stroke:var(--faint)}"
)


def drawn(results: Results) -> str:
    """One chart under the other."""
    parts, top = [], 0
    for shown in results.shown:
        bars = [(side, figures[shown.figure]) for side, figures in results.figures.items() if shown.figure in figures]
        if bars:
            parts.append(_bars(shown, bars, top))
            top += TOP + len(bars) * (BAR + GAP) + 44
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {max(top, 1)}" role="img" aria-label="{escape(results.title)}">'
    return "\n".join([head, f"<title>{escape(results.title)}</title>", f"<style>{STYLE}</style>", *parts, "</svg>", ""])


def _bars(shown: Shown, bars: Sequence[tuple[str, Figure]], top: int) -> str:
    label = LETTER * max(len(side) for side, _ in bars) + 10  # where the bars begin
    room = WIDTH - label - 110
    most = max(figure.max for _, figure in bars) or 1.0
    lines = [f'<text x="0" y="{top + 18}" font-weight="600">{escape(shown.title)}</text>']
    for place, (side, figure) in enumerate(bars):
        y = top + TOP - 8 + place * (BAR + GAP)
        long, low, high = (room * value / most for value in (figure.median, figure.min, figure.max))
        kind = "ours" if side.startswith("oO") else "other"
        middle = y + BAR / 2
        lines += [
            f"<g><title>{escape(side)}: {_short(figure.median)} {shown.unit} ({_short(figure.min)} to {_short(figure.max)})</title>",
            f'<text x="{label - 10}" y="{middle + 4:.0f}" text-anchor="end">{escape(side)}</text>',
            f'<rect class="{kind}" x="{label}" y="{y}" width="{max(long, 1):.1f}" height="{BAR}"/>',
            f'<line x1="{label + low:.1f}" x2="{label + high:.1f}" y1="{middle}" y2="{middle}"/>',
            f'<text class="faint" x="{label + max(long, high) + 8:.0f}" y="{middle + 4:.0f}">{_short(figure.median)}</text></g>',
        ]
    bottom = top + TOP - 8 + len(bars) * (BAR + GAP)
    lines.append(f'<line class="axis" x1="{label}" x2="{label + room}" y1="{bottom}" y2="{bottom}"/>')
    for share in (0.0, 0.5, 1.0):
        x = label + room * share
        lines.append(f'<text class="faint" x="{x:.0f}" y="{bottom + 16}" text-anchor="middle">{_short(most * share)}</text>')
    lines.append(f'<text class="faint" x="{WIDTH}" y="{bottom + 16}" text-anchor="end">{escape(shown.unit)}</text>')
    return "\n".join(lines)


def _short(value: float) -> str:
    if value >= 1000:
        return f"{value:,.0f}".replace(",", "\u2009")
    return f"{value:.3g}"
