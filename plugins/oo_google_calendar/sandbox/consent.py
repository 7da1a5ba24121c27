"""Asking a person: the consent page, on which each permission can be unticked, and the way back to the app."""

from __future__ import annotations

import re
from html import escape

from aiohttp import web

from oo_google_calendar.sandbox.grants import PREFIX, SCOPES, Ask
from oo_google_calendar.sandbox.world import World
from oo_sdk.stand_in import back, page

_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")


class Consent:
    """The authorization endpoint of one world."""

    def __init__(self, world: World) -> None:
        self._world = world

    def routes(self) -> list[web.RouteDef]:
        """Give the routes."""
        return [web.get("/o/oauth2/v2/auth", self.authorize), web.post("/o/oauth2/v2/auth", self.decide)]

    async def authorize(self, request: web.Request) -> web.Response:
        """Show the page. A request that names no address of the app's is answered here."""
        asked = request.query
        client = self._world.grants.clients.get(asked.get("client_id", ""))
        if client is None:
            return page("Access blocked", "<p>Error 401: invalid_client</p>", status=401)
        redirect_uri = asked.get("redirect_uri", "")
        if not client.takes(redirect_uri):
            return page("Access blocked", "<p>Error 400: redirect_uri_mismatch</p>", status=400)
        challenge, scopes = asked.get("code_challenge"), tuple(dict.fromkeys(asked.get("scope", "").split()))
        if asked.get("response_type") != "code" or (
            challenge is not None and (asked.get("code_challenge_method") != "S256" or not _CHALLENGE.fullmatch(challenge))
        ):
            return page("Access blocked", "<p>Error 400: invalid_request</p>", status=400)
        if not scopes or not {f"{PREFIX}{scope}" for scope in SCOPES} >= set(scopes):
            return page("Access blocked", "<p>Error 400: invalid_scope</p>", status=400)
        ask = Ask(
            client=client,
            scopes=scopes,
            redirect_uri=redirect_uri,
            state=asked.get("state", ""),
            challenge=challenge,
            offline=asked.get("access_type") == "offline",
            again="consent" in asked.get("prompt", "").split(),
            incremental=asked.get("include_granted_scopes") == "true",
        )
        return self._page(ask, self._world.grants.wait(ask))

    async def decide(self, request: web.Request) -> web.Response:
        """Take the person's decision and send the browser back to the app."""
        form = await request.post()
        ask = self._world.grants.answered(str(form.get("waiting", "")))
        if ask is None:
            return page("Access blocked", "<p>Error 400: invalid_request</p>", status=400)
        person = self._world.people.get(str(form.get("user", "")))
        # A single permission has no box of its own: to allow is to allow it.
        ticked = (
            ask.scopes if len(ask.scopes) == 1 else tuple(scope for scope in ask.scopes if form.get(scope.removeprefix(PREFIX)) == "on")
        )
        if form.get("decision") != "allow" or person is None or not ticked:
            return back(ask.redirect_uri, error="access_denied", state=ask.state)
        code = self._world.grants.code(ask, person.email, ticked)
        return back(ask.redirect_uri, code=code, scope=" ".join(ticked), state=ask.state)

    def _page(self, ask: Ask, waiting: str) -> web.Response:
        names = [scope.removeprefix(PREFIX) for scope in ask.scopes]
        boxes = "".join(
            f'<label><input type="checkbox" name="{escape(name)}" value="on" checked> {escape(SCOPES[name])}</label>' for name in names
        )
        asked = boxes if len(names) > 1 else f"<p>{escape(SCOPES[names[0]])}</p>"
        people = "".join(f'<option value="{escape(each.email)}">{escape(each.name)}</option>' for each in self._world.people.values())
        return page(
            f"{ask.client.name} wants access to your Google Account",
            f"""<form method="post" action="/o/oauth2/v2/auth">
<input type="hidden" name="waiting" value="{escape(waiting)}">
<p><label>Choose an account <select name="user">{people}</select></label></p>
<p>Select what {escape(ask.client.name)} can access:</p>{asked}
<p><button name="decision" value="allow">Continue</button><button name="decision" value="deny">Cancel</button></p>
</form><p><small>The sandbox asks: nobody's real account is touched.</small></p>""",
        )
