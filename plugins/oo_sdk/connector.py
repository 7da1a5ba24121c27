"""The connector: the plugin that knows one provider."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import timedelta
from urllib.parse import urlencode, urlsplit, urlunsplit

from oo_sdk.actions import Action, ActionKind, ActionResult
from oo_sdk.auth import ApiKey, OAuth2, RateLimit, Scope
from oo_sdk.context import Context
from oo_sdk.errors import ConnectorBug, ConnectorError, SignInAgain
from oo_sdk.events import Cursor, Signal
from oo_sdk.flow import Flow, KeyFlow, Redirect, StoredCredential
from oo_sdk.revocation import Revocation, Revoked
from oo_sdk.session import Placeholder, Response, Sign
from oo_sdk.stored import Stored
from oo_sdk.structs import Struct
from oo_sdk.webhooks import Hears


class Connector:
    """Knows one provider. Declare what it is, write `fetch_signals`, and offer an instance through `oo_connectors`.

    One instance serves every connection: keep nothing in it. `Settings` may declare what an operator can set under
    `[connectors.{id}]`; the daemon decodes it into `settings` before anything is called.
    """

    id: str
    title: str = ""  #: the provider's name as people know it
    scopes: Sequence[Scope] = ()
    stores: Sequence[Stored] = ()  #: what is kept of the events that it tells, and what for; everything else is dropped
    auth: OAuth2 | ApiKey | None = None  #: None: nothing to sign in to
    hosts: Sequence[str] = ()  #: the only hosts its credential is ever sent to, "name" or "name:port", besides the addresses of `auth`
    limits: Sequence[RateLimit] = ()
    errors: Mapping[int, type[ConnectorError]] = {}  #: what only this provider means by a status
    actions: Sequence[ActionKind] = ()  #: what `act` can do
    manual_revocation: str = ""  #: where a person removes oO's access by hand
    #: Each sync begins at a cursor that is so much older than the last one: for providers where something may appear late, behind a cursor.
    #: What is met again is told once.
    overlap: timedelta = timedelta(0)
    cursor_shape: int = 1  #: raise it when cursors look otherwise than in the release before, and write `migrate_cursor`

    class Settings(Struct):
        """What an operator can set for this connector; nothing, unless a connector says otherwise."""

    settings: Struct = Settings()

    class Options(Struct):
        """What can be said of one connection that needs no sign-in, when it is made; kept in its meta under `options`."""

    async def begin_oauth(self, flow: Flow) -> Redirect:
        """Say where the person's browser goes to sign in. The default builds it from `auth` (RFC 6749 section 4.1.1, RFC 7636)."""
        auth = flow.auth
        query = {
            "response_type": "code",
            "client_id": flow.client_id,
            "redirect_uri": flow.redirect_uri,
            "scope": auth.scope_separator.join(flow.scopes),
            "state": flow.state,
        }
        if flow.challenge is not None:
            query |= {"code_challenge": flow.challenge, "code_challenge_method": "S256"}
        address = urlsplit(auth.authorize)
        return Redirect(urlunsplit(address._replace(query="&".join(filter(None, [address.query, urlencode(query | dict(auth.extra))])))))

    async def finish_oauth(self, flow: Flow, code: str) -> StoredCredential:
        """Turn the code into a credential. The default exchanges it; a connector that can name the account does so with `.of(…)`."""
        return await flow.exchange(code)

    async def accept_key(self, flow: KeyFlow) -> StoredCredential:
        """Say that a key works, and whose it is. Raises `SignInAgain` for one that does not. The default asks `auth.check`."""
        if not flow.auth.check:
            raise ConnectorBug(f"{self.id} declares no address at which a key is checked")
        answer = await flow.http.request("GET", flow.auth.check, accept=(403,))
        if answer.status == 403:
            raise SignInAgain("the provider refuses the key")
        return flow.stored()

    async def fetch_signals(self, ctx: Context, since: Cursor | None) -> AsyncIterator[Signal]:
        """Yield what changed since the cursor (None: from the beginning), and checkpoints to go on from.

        A connector that only hears need not write it.
        """
        if not isinstance(self, Hears):
            raise ConnectorBug(f"{self.id} has nothing to fetch")
        nothing: tuple[Signal, ...] = ()
        for signal in nothing:
            yield signal

    def migrate_cursor(self, cursor: Cursor, shape: int) -> Cursor | None:
        """Turn a cursor that was kept under another `cursor_shape` into one of today's. None, the default: begin again."""
        return None

    def cursor_order(self, cursor: Cursor) -> int | None:
        """A number that only grows from checkpoint to checkpoint, such as a provider's sequence; a cursor with a lower one is refused.

        None, the default: cursors have no order.
        """
        return None

    async def act(self, ctx: Context, action: Action) -> ActionResult:
        """Change something at the provider. Called again with the same key after a doubt: it must then do nothing twice."""
        raise ConnectorBug(f"{self.id} has no action {action.name}")

    def explain(self, response: Response) -> ConnectorError | None:
        """Say what an answer of 300 and more means at this provider, where its body says more than its status; None: nothing special."""
        return None

    async def revoke(self, ctx: Context) -> Revocation:
        """Give the grant back at the provider. The default does RFC 7009 at `auth.revoke`, the refresh token first.

        A key is the person's own to delete: that is what the default says of one.
        """
        if self.auth is None:
            return Revocation(revoked=Revoked.FULLY)
        if isinstance(self.auth, ApiKey):
            remains = f"oO has forgotten the key, but it works until you delete it at {self.title or self.id}"
            return Revocation(revoked=Revoked.UNSUPPORTED, remains=remains, manual_url=self.manual_revocation)
        if self.auth.revoke is None:
            raise ConnectorBug(f"{self.id} declares no way to revoke")
        for token in (Placeholder.REFRESH_TOKEN, Placeholder.ACCESS_TOKEN):
            await ctx.http.post(self.auth.revoke, form={"token": token, "token_type_hint": token.value}, sign=Sign.CLIENT)
        return Revocation(revoked=Revoked.FULLY, manual_url=self.manual_revocation)
