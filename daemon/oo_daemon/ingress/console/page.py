"""One page of the console, in its frame, for the one who looks."""

from __future__ import annotations

from aiohttp import web

from oo_daemon.ingress import pages
from oo_daemon.ingress.console.door import VISITOR

#: Besides our own style, our own script may run and may ask us.
POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
#: The rail.
PLACES = (
    ("/console/", "Overview"),
    ("/console/connections", "Connections"),
    ("/console/sources", "Sources"),
    ("/console/inbox", "Inbox"),
    ("/console/events", "Events"),
    ("/console/plugins", "Plugins"),
    ("/console/vault", "Vault"),
    ("/console/health", "Health"),
    ("/console/erasures", "Erasures"),
    ("/console/reference", "Reference"),
)


def page(request: web.Request, template: str, *, here: str, status: int = 200, **values: object) -> web.Response:
    """A page; `here` is the place in the rail that it belongs to."""
    text = pages.console(template, visitor=request[VISITOR], places=PLACES, here=here, **values)
    return web.Response(status=status, text=text, content_type="text/html", headers={"Content-Security-Policy": POLICY})


def see(location: str) -> web.Response:
    """Go on there."""
    return web.Response(status=303, headers={"Location": location})


def number_in(text: str) -> int:
    """A number of ours in an address or a form; 0 where it is none."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else 0
