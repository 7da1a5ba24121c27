"""The pages that a person sees: a provider's own, and the stand-in's front page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape

from aiohttp import web

_STYLE = """body{font:16px/1.5 system-ui,sans-serif;max-width:42rem;margin:3rem auto;padding:0 1rem;color:#202020}
button{font:inherit;padding:.4rem 1.2rem;margin-right:.5rem}code{background:#f3f3f3;padding:.1rem .3rem}
td,th{text-align:left;vertical-align:top;padding:.15rem 1rem .15rem 0}label{display:block}"""

_HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
}


def page(title: str, body: str, *, status: int = 200) -> web.Response:
    """Write a page; `body` is HTML."""
    text = f"""<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title><style>{_STYLE}</style>
<h1>{escape(title)}</h1>{body}"""
    return web.Response(text=text, content_type="text/html", headers=_HEADERS, status=status)


def front(
    title: str, *, settings: Mapping[str, str], people: Iterable[str], control: Mapping[str, str], switches: Mapping[str, str]
) -> web.Response:
    """Say what this is and how to use it; `control` has what the sandbox's own side takes, and in HTML what that does."""
    rows = "".join(f"<tr><th>{escape(name)}<td><code>{escape(value)}</code>" for name, value in settings.items())
    names = "".join(f"<tr><td><code>{escape(name)}</code><td>{escape(what)}" for name, what in switches.items())
    misbehaving = {
        "POST /sandbox/misbehave": '<code>{"name": "status_500", "times": 1, "args": {}}</code> makes something go wrong; '
        "<code>DELETE</code> ends it"
    }
    own = "".join(f"<tr><td><code>{escape(name)}</code><td>{what}" for name, what in {**control, **misbehaving}.items())
    return page(
        f"{title} sandbox",
        f"""<p>A stand-in for {escape(title)}, for trying oO without an account. It forgets everything when it stops.
Here live {escape(" and ".join(people))}.</p>
<h2>The provider's side</h2><table>{rows}</table>
<h2>The sandbox's side</h2><table>{own}</table>
<h2>What can go wrong</h2><table>{names}</table>""",
    )
