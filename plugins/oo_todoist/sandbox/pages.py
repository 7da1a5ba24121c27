"""The pages a person sees: the consent page, which is the provider's, and the sandbox's own front page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape

from aiohttp import web

_STYLE = """body{font:16px/1.5 system-ui,sans-serif;max-width:42rem;margin:3rem auto;padding:0 1rem;color:#202020}
button{font:inherit;padding:.4rem 1.2rem;margin-right:.5rem}code{background:#f3f3f3;padding:.1rem .3rem}
td,th{text-align:left;vertical-align:top;padding:.15rem 1rem .15rem 0}"""

_HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
}


def consent(*, app: str, wishes: Iterable[str], people: Mapping[str, str], waiting: str) -> web.Response:
    """Ask a person whether an app may act for them; `people` is {user id: name}, `waiting` names the request."""
    asked = "".join(f"<li>{escape(wish)}</li>" for wish in wishes)
    chosen = "".join(f'<option value="{escape(id_)}">{escape(name)}</option>' for id_, name in people.items())
    return _page(
        f"Allow {app}?",
        f"""<p><strong>{escape(app)}</strong> would like to:</p><ul>{asked}</ul>
<form method="post" action="/oauth/authorize">
<input type="hidden" name="waiting" value="{escape(waiting)}">
<p><label>You are <select name="user">{chosen}</select></label></p>
<p><button name="decision" value="allow">Allow</button><button name="decision" value="deny">Deny</button></p>
</form>
<p><small>This is the sandbox: nobody's real account is touched.</small></p>""",
    )


def front(*, settings: Mapping[str, str], people: Iterable[str], switches: Mapping[str, str]) -> web.Response:
    """Say what this is and how to use it."""
    rows = "".join(f"<tr><th>{escape(name)}<td><code>{escape(value)}</code>" for name, value in settings.items())
    names = "".join(f"<tr><td><code>{escape(name)}</code><td>{escape(what)}" for name, what in switches.items())
    return _page(
        "Todoist sandbox",
        f"""<p>A stand-in for Todoist, for trying oO without an account. It forgets everything when it stops.
Here live {escape(" and ".join(people))}.</p>
<h2>The provider's side</h2><table>{rows}</table>
<h2>The sandbox's side</h2><table>
<tr><td><code>GET /sandbox/state</code><td>what is there: users, tasks, tokens, requests so far
<tr><td><code>POST /sandbox/change</code><td><code>{{"user": "ada", "commands": [{{"type": "item_add",
 "args": {{"content": "Buy milk"}}}}]}}</code> changes something, as the person would in the app
<tr><td><code>POST /sandbox/misbehave</code><td><code>{{"name": "status_500", "times": 1, "args": {{}}}}</code> makes
 something go wrong; <code>DELETE</code> ends it
<tr><td><code>POST /sandbox/webhook</code><td><code>{{"url": "http://127.0.0.1:8710/webhooks/…"}}</code> pushes changes there;
 <code>GET /sandbox/deliveries</code> lists them, <code>POST /sandbox/redeliver</code> <code>{{"id": …}}</code> repeats one</table>
<h2>What can go wrong</h2><table>{names}</table>""",
    )


def _page(title: str, body: str) -> web.Response:
    text = f"""<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title><style>{_STYLE}</style>
<h1>{escape(title)}</h1>{body}"""
    return web.Response(text=text, content_type="text/html", headers=_HEADERS)
