"""The page on which a person is asked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape

from aiohttp import web

from oo_sdk.stand_in import page


def consent(*, app: str, wishes: Iterable[str], people: Mapping[str, str], waiting: str) -> web.Response:
    """Ask a person whether an app may act for them; `people` is {user id: name}, `waiting` names the request."""
    asked = "".join(f"<li>{escape(wish)}</li>" for wish in wishes)
    chosen = "".join(f'<option value="{escape(id_)}">{escape(name)}</option>' for id_, name in people.items())
    return page(
        f"Allow {app}?",
        f"""<p><strong>{escape(app)}</strong> would like to:</p><ul>{asked}</ul>
<form method="post" action="/oauth/authorize">
<input type="hidden" name="waiting" value="{escape(waiting)}">
<p><label>You are <select name="user">{chosen}</select></label></p>
<p><button name="decision" value="allow">Allow</button><button name="decision" value="deny">Deny</button></p>
</form>
<p><small>This is the sandbox: nobody's real account is touched.</small></p>""",
    )
