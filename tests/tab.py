"""A browser without a screen: cookies of its own, and the forms of our pages, which it sends as they are."""

from __future__ import annotations

import re
from typing import Any

import aiohttp


class Tab:
    """One tab. What was answered last is in `headers` and `body`, and the last page in `page`."""

    def __init__(self, url: str, cookie: str) -> None:
        self.url = url
        self.session = aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True))
        self.page, self.body = "", b""
        self.headers: dict[str, str] = {}
        self._cookie = cookie

    async def get(self, path: str, **headers: str) -> int:
        """Open a page; gives the status."""
        return await self.ask("GET", path, headers=headers)

    async def send(self, path: str, form: dict[str, str] | None = None, **headers: str) -> int:
        """Send the form that the page has; a `csrf` given here is sent in place of the page's."""
        return await self.ask("POST", path, data=self.filled(form or {}), headers=headers)

    def filled(self, form: dict[str, str]) -> dict[str, str]:
        """A form with what the page put into it."""
        found = re.search(r'name="csrf" value="([0-9a-f]+)"', self.page)
        return {"csrf": found[1] if found else "", **form}

    async def ask(self, method: str, path: str, *, allow_redirects: bool = False, **more: Any) -> int:
        """Send anything."""
        async with self.session.request(method, self.url + path, allow_redirects=allow_redirects, **more) as answer:
            self.headers, self.body = {**answer.headers}, await answer.read()
            if answer.content_type == "text/html":
                self.page = self.body.decode()
            return answer.status

    @property
    def cookie(self) -> str:
        """The cookie by which it is known."""
        return next((each.value for each in self.session.cookie_jar if each.key == self._cookie), "")
