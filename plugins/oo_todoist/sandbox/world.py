"""The whole state of the stand-in: users, apps, grants, objects. No HTTP, no clock and no chance of its own."""

from __future__ import annotations

import hmac
import random
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from hashlib import blake2b
from string import ascii_letters, digits
from typing import Any

from oo_sdk.stand_in import Window
from oo_todoist.sandbox import objects
from oo_todoist.sandbox.account import Account
from oo_todoist.sandbox.commands import Change, Executed, Execution, scopes_for
from oo_todoist.sandbox.dates import stamp
from oo_todoist.sandbox.grants import App, Grants, Token
from oo_todoist.sandbox.refusals import invalid, outside_scope, too_many, unavailable

Json = dict[str, Any]

WINDOW = timedelta(minutes=15)
#: requests a user may make in the window
LIMITS = {"partial": 1000, "full": 100}


class World:
    """Todoist's state. `seed` decides ids, so that they repeat; `token` gives what must not be guessed."""

    def __init__(self, *, now: Callable[[], datetime], seed: int, token: Callable[[], str], expires_in: int = 3600) -> None:
        self.now = now
        self.token = token
        self.accounts: dict[str, Account] = {}
        self.grants = Grants(now=now, token=token, expires_in=expires_in)
        self._chance = random.Random(seed)  # noqa: S311 (ids only; they are to repeat)
        self._key = token().encode()
        self._listeners: list[Callable[[Change], None]] = []
        self._window = Window(WINDOW)
        self._generation = 0

    # --- people and apps -----------------------------------------------------------------------------------------------

    def new_id(self) -> str:
        """Give an id as Todoist's are: opaque, sixteen alphanumerics."""
        return "".join(self._chance.choices(ascii_letters + digits, k=16))

    def new_hex(self, digits_: int) -> str:
        """Give so many hex digits that repeat with the seed."""
        return f"{self._chance.getrandbits(4 * digits_):0{digits_}x}"

    def add_user(self, name: str, *, zone: str = "UTC", hours: int = 0, joined: datetime | None = None) -> Account:
        """Add a person with an empty inbox; `hours` is the zone's distance from UTC, without summer time."""
        at = joined or self.now()
        id_, inbox = str(self._chance.randrange(10_000_000, 99_999_999)), self.new_id()
        email, token = f"{name}@example.com", self.token()
        user = objects.user(id_, name.title(), email, inbox, stamp(at), zone=zone, hours=hours, token=token)
        account = Account(user, at)
        account.put("projects", {**objects.project(inbox, "Inbox", stamp(at)), "child_order": 0, "inbox_project": True}, at)
        self.accounts[id_] = account
        return account

    def account(self, who: str) -> Account | None:
        """Find a user by id or by name."""
        named = (each for each in self.accounts.values() if each.user["email"].split("@")[0] == who.lower())
        return self.accounts.get(who) or next(named, None)

    def add_app(self, name: str, *, redirect_uris: Sequence[str] = (), public: bool = False, dynamic: bool = False) -> App:
        """Register an app; the ids of dynamically registered ones begin with tdd_."""
        client_id = f"tdd_{self.new_hex(32)}" if dynamic else self.new_hex(32)
        secret = None if public else self.new_hex(32)
        app = App(client_id=client_id, client_secret=secret, name=name, redirect_uris=tuple(redirect_uris))
        self.grants.apps[client_id] = app
        return app

    # --- changes -------------------------------------------------------------------------------------------------------

    def subscribe(self, callback: Callable[[Change], None]) -> None:
        """Call back with every change from now on, in order, at once; a webhook sender starts here."""
        self._listeners.append(callback)

    def execute(
        self, account: Account, commands: object, *, token: Token | None = None, at: datetime | None = None, failing: bool = False
    ) -> Executed:
        """Execute sync commands for a user, within the scopes of the token; without one, as the person themselves."""

        def may(type_: str) -> None:
            if failing:
                raise unavailable()
            if token is not None and not token.allows(*scopes_for(type_)):
                raise outside_scope()

        return Execution(account, now=at or self.now(), new_id=self.new_id, tell=self._tell).run(commands, may=may)

    def _tell(self, change: Change) -> None:
        for listener in self._listeners:
            listener(change)

    # --- sync tokens and limits ----------------------------------------------------------------------------------------

    def sync_token(self, account: Account, position: int) -> str:
        """Write a position as an opaque text of sixty characters that only we can write."""
        place = f"{account.id} {self._generation} {position}".encode().ljust(29)
        return urlsafe_b64encode(place + self._seal(place)).decode()

    def position(self, account: Account, sync_token: str) -> int:
        """Read a sync token of this user; anything else is refused by its name."""
        refused = invalid("sync_token", explanation="The sync token is unknown or too old; start over with *")
        try:
            raw = urlsafe_b64decode(sync_token.encode())
        except ValueError:
            raise refused from None
        place, seal = raw[:29], raw[29:]
        if not hmac.compare_digest(seal, self._seal(place)):
            raise refused
        user_id, generation, position = place.decode().split()
        if user_id != account.id or int(generation) != self._generation:
            raise refused
        return int(position)

    def forget_sync_tokens(self) -> None:
        """Make every sync token given so far unknown."""
        self._generation += 1

    def spend(self, account: Account, kind: str) -> None:
        """Count a sync request, "partial" or "full", against the user's limit."""
        wait = self._window.spend((account.id, kind), LIMITS[kind], self.now())
        if wait is not None:
            raise too_many(max(1, int(wait.total_seconds())))

    def _seal(self, place: bytes) -> bytes:
        return blake2b(place, key=self._key[:64], digest_size=16).digest()
