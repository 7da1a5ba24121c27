"""The connect pages and the way through them, over HTTP."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from itertools import count
from typing import Any
from urllib.parse import quote

import pytest
from daemon.ingress.hub import NOW, Hub, StoppedClock, an_offer
from daemon.ingress.wire import Dial, Notebook, Open, Wire
from msgspec.structs import replace

from oo_daemon.connections.connect import Asked, Outcome
from oo_daemon.identity.person import NotSignedIn, NotVouched, Person
from oo_daemon.ingress.answers import public_application
from oo_daemon.ingress.connect import ConnectPages
from oo_daemon.ingress.proving import Proving
from oo_sdk import KeyField

CANARY = "canary-0123456789"


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    text: str


@dataclass
class Browser:
    """Keeps cookies, follows nothing by itself."""

    wire: Wire
    cookies: dict[str, str] = field(default_factory=dict)

    async def ask(self, method: str, path: str, headers: dict[str, str] | None = None, form: str = "") -> Answer:
        sent = {"Host": "x", "Content-Length": str(len(form)), **(headers or {})}
        if form:
            sent["Content-Type"] = "application/x-www-form-urlencoded"
        if self.cookies:
            sent["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        head = "".join(f"{name}: {value}\r\n" for name, value in sent.items())
        await self.wire.send(f"{method} {path} HTTP/1.1\r\n{head}\r\n{form}".encode())
        if method == "HEAD":
            got = (await self.wire.reader.readuntil(b"\r\n\r\n")).decode()
            return Answer(int(got.split()[1]), {}, "")
        status, got_headers, body = await self.wire.answer()
        for name, morsel in SimpleCookie(got_headers.get("set-cookie", "")).items():
            self.cookies[name] = morsel.value
        return Answer(status, got_headers, body.decode())

    async def get(self, path: str, **headers: str) -> Answer:
        return await self.ask("GET", path, headers)

    async def press(self, path: str, form: str = "") -> Answer:
        return await self.ask("POST", path, form=form)


@pytest.fixture
def hub() -> Hub:
    return Hub()


@pytest.fixture
def public_url() -> str:
    return "https://oo.example.org"


@pytest.fixture
def rate() -> int:
    return 1000


@pytest.fixture
def visit(open_door: Open, dial: Dial, notebook: Notebook, hub: Hub, public_url: str, rate: int) -> Callable[[], Any]:
    """Gives browsers at the door, each with its own cookies."""
    listening: list[Any] = []

    async def browser() -> Browser:
        if not listening:
            numbers = count(1)
            app = public_application(log=notebook)
            proving = Proving(
                public_url=public_url,
                token=lambda: f"browser-{next(numbers)}",
                clock=StoppedClock(),
                rate=rate,
                links={"connect": hub},
                at_issuer=AtIssuer(),
                tickets=Product(),
            )
            app.add_routes([*proving.routes(), *ConnectPages(connecting=hub, proving=proving, clock=StoppedClock()).routes()])
            listening.append(await open_door(app))
        return Browser(await dial(listening[0]))

    return browser


Visit = Callable[[], Any]

KEY_FIELDS = (KeyField("site", "Your <name>", secret=False), KeyField("key", "API key", "Under Settings."))


async def test_a_key_is_entered_on_the_page(visit: Visit, hub: Hub) -> None:
    """Labels, help and what is wrong stand where they belong; what is secret is not shown again; nothing may be sent elsewhere."""
    hub.offered = replace(an_offer(), fields=KEY_FIELDS, provider_origin="", manual_revocation="https://todoist.example/keys")
    browser: Browser = await visit()
    page = await browser.get("/connect/good")
    assert "form-action 'self';" in page.headers["content-security-policy"]
    for words in ("Your &lt;name&gt;", "API key", "Under Settings.", "https://todoist.example/keys", "oO cannot do that for you"):
        assert words in page.text
    hub.not_taken = {"": "It was refused.", "key": "Not whole."}
    again = await browser.press("/connect/good", f"key-site=ada%22%3E&key-key={CANARY}&scope=change")
    assert again.status == 400
    for words in ("It was refused.", "Not whole.", 'value="ada&#34;&gt;"', 'value="change" checked', 'aria-invalid="true"'):
        assert words in again.text
    assert CANARY not in again.text
    assert (hub.entered, hub.ticked) == ({"site": 'ada">', "key": CANARY}, ["change"])
    hub.not_taken = {}
    done = await browser.press("/connect/good", f"key-site=ada&key-key={CANARY}")
    assert (done.status, done.headers["location"]) == (303, "/connect/outcome/out-1")
    hub.ended = Outcome(status="pending", provider_title="Todoist", label="ada@example.org", user_label="Ada", by_key=True)
    assert "accepts the key" in (await browser.get("/connect/outcome/out-1")).text
    hub.ended = replace(hub.ended, status="connected")
    assert "until you delete it there" in (await browser.get("/connect/outcome/out-1")).text
    other: Browser = await visit()
    hub.spent = False
    assert "cookie" in (await other.press("/connect/good", f"key-key={CANARY}")).text


# ---- proving who one is


@dataclass(frozen=True, kw_only=True)
class Ticket:
    user: str
    session: str


class Product:
    """Reads tickets of the form USER.SESSION."""

    def read(self, text: str) -> Ticket:
        user, dot, session = text.partition(".")
        if not dot:
            raise NotVouched("it is no ticket")
        return Ticket(user=user, session=session)


@dataclass(frozen=True, kw_only=True)
class Gone:
    address: str
    kept: str


class AtIssuer:
    """Everybody who comes back with the code NAME is NAME."""

    host = "id.example"

    async def origin(self) -> str:
        return "https://id.example"

    async def begin(self, redirect_uri: str, *, purpose: str, carried: str = "") -> Gone:
        assert (redirect_uri, purpose) == ("https://oo.example.org/identity/callback", "a link")
        return Gone(address="https://id.example/auth?state=s", kept=f"k.{carried}")

    async def finish(self, kept: str, answer: Mapping[str, str], *, purpose: str) -> tuple[Person, str]:
        if "error" in answer:
            raise NotSignedIn
        if answer.get("state") != "s" or not kept.startswith("k."):
            raise NotVouched("no")
        return Person(name=answer["code"], role="user"), kept.removeprefix("k.")


@pytest.fixture
def proving(visit: Visit, hub: Hub) -> Hub:
    hub.offered = replace(hub.offered, proof_needed=True)
    return hub


@pytest.mark.rows("D3")
async def test_who_it_is_comes_first(visit: Visit, proving: Hub) -> None:
    """Nothing of what is asked is shown before; the way to the issuer is open in the policy, and the cookie must have come."""
    browser: Browser = await visit()
    page = await browser.get("/connect/good")
    assert (page.status, "See your tasks" in page.text) == (200, False)
    assert "form-action 'self' https://id.example;" in page.headers["content-security-policy"]
    gone = await browser.press("/connect/good/sign-in")
    assert (gone.status, gone.headers["location"]) == (303, "https://id.example/auth?state=s")
    assert "HttpOnly" in gone.headers["set-cookie"]
    for query in ("state=other&code=ada", "state=s&code=grace", "state=s&error=access_denied", "state=s&state=s&code=ada"):
        refused = await browser.get(f"/identity/callback?{query}")
        assert refused.status == 403
        assert (await browser.get("/connect/good")).text.count("<button") == 1
        await browser.press("/connect/good/sign-in")
    stranger: Browser = await visit()
    assert (await stranger.press("/connect/good/sign-in")).status == 400
    assert (await stranger.get("/identity/callback?state=s&code=ada")).status == 403
    assert (await browser.get("/identity/callback?state=s&code=ada", **{"Sec-Purpose": "prefetch"})).status == 503
    back = await browser.get("/identity/callback?state=s&code=ada")
    assert (back.status, back.headers["location"]) == (303, "/connect/good")
    assert "See your tasks" in (await browser.get("/connect/good")).text


@pytest.mark.rows("D3", "D8")
async def test_a_ticket_leaves_the_address(visit: Visit, proving: Hub) -> None:
    """It is read once, by a browser that means it, and is gone from the address; what does not hold is a page without a word of it."""
    browser: Browser = await visit()
    for query in (CANARY, "grace.session-1", "ada.session-2", "ada.session-1&ticket=ada.session-1"):
        refused = await browser.get(f"/connect/good?ticket={query}")
        assert (refused.status, CANARY in refused.text) == (403, False)
    assert (await browser.get("/connect/good?ticket=ada.session-1", Purpose="prefetch")).status == 503
    assert proving.proved == ""
    gone = await browser.get("/connect/good?ticket=ada.session-1")
    assert (gone.status, gone.headers["location"], gone.headers["referrer-policy"]) == (303, "/connect/good", "no-referrer")
    assert "See your tasks" in (await browser.get("/connect/good")).text


@pytest.mark.rows("D11")
@pytest.mark.parametrize("rate", [3])
async def test_proofs_cannot_be_tried_for_long(visit: Visit, proving: Hub, rate: int) -> None:
    """Tickets and answers of the issuer's are taken a few times a minute from one address."""
    browser: Browser = await visit()
    tickets = [(await browser.get("/connect/good?ticket=x")).status for _ in range(5)]
    answers = [(await browser.get("/identity/callback?state=x&code=y")).status for _ in range(5)]
    assert (tickets, answers) == ([403] * 3 + [429] * 2, [403] * 3 + [429] * 2)


BACK = "/oauth/todoist-1/callback?state=fresh&code=c0de"


async def test_the_whole_way(visit: Visit, hub: Hub) -> None:
    """From the link over the provider to the outcome: one page, one button, one exchange, one clean page."""
    browser: Browser = await visit()
    page = await browser.get("/connect/good")
    assert page.status == 200
    for words in ("Connect", "Todoist", "Ada", "See your tasks", "Complete a task.", "12 minutes", "encrypted", "disconnect"):
        assert words in page.text
    assert page.text.count("<button") == 1

    begun = await browser.press("/connect/good")
    assert (begun.status, begun.headers["location"]) == (303, hub.provider)

    back = await browser.get(BACK + "&iss=https%3A%2F%2Ftodoist.example")
    assert (back.status, back.headers["location"]) == (303, "/connect/outcome/out-1")
    assert hub.finished == [
        {
            "registration": "todoist-1",
            "state": "fresh",
            "code": "c0de",
            "error": None,
            "iss": "https://todoist.example",
        }
    ]

    ended = await browser.get("/connect/outcome/out-1")
    assert ended.status == 200
    assert "is connected" in ended.text
    assert "ada@example.org" in ended.text


@pytest.mark.rows("D14")
async def test_a_reload_shows_the_outcome_again(visit: Visit, hub: Hub) -> None:
    """Loading the outcome again shows the same and asks the provider nothing; the callback itself works once."""
    browser: Browser = await visit()
    await browser.get("/connect/good")
    await browser.press("/connect/good")
    await browser.get(BACK)
    assert (await browser.get("/connect/outcome/out-1")).text == (await browser.get("/connect/outcome/out-1")).text
    assert len(hub.finished) == 1
    assert (await browser.get(BACK)).status == 400


@pytest.mark.rows("D2")
@pytest.mark.parametrize(
    ("public_url", "name", "secure"),
    [
        ("https://oo.example.org", "__Host-oo-browser", True),
        ("http://localhost:8710", "oo-browser", False),
        ("http://127.0.0.1:8710", "oo-browser", False),
        ("http://[::1]:8710", "oo-browser", False),
    ],
)
async def test_the_cookie_is_bound_to_host_and_browser(visit: Visit, hub: Hub, name: str, secure: bool) -> None:
    """The cookie is HttpOnly, Lax, for every path, and over https Secure with the __Host- prefix; it is set once."""
    browser: Browser = await visit()
    header = (await browser.get("/connect/good")).headers["set-cookie"]
    morsel = SimpleCookie(header)[name]
    assert (morsel.value, morsel["path"], morsel["samesite"], morsel["httponly"]) == ("browser-1", "/", "Lax", True)
    assert bool(morsel["secure"]) == secure
    assert morsel["domain"] == morsel["max-age"] == morsel["expires"] == ""
    assert "set-cookie" not in (await browser.get("/connect/good")).headers
    await browser.press("/connect/good")
    assert hub.browser == "browser-1"


@pytest.mark.parametrize("public_url", ["http://oo.example.org", "http://192.0.2.1", "oo.example.org", "ftp://localhost.example"])
def test_no_sign_in_over_plain_http(hub: Hub, public_url: str) -> None:
    """Away from loopback, only https will do."""
    with pytest.raises(ValueError, match="use an https address"):
        Proving(public_url=public_url, token=str, clock=StoppedClock(), rate=10, links={"connect": hub})


async def test_looking_spends_nothing(visit: Visit, hub: Hub) -> None:
    """GET, HEAD and a prefetch of a link, and a HEAD or prefetch of the callback, leave everything as it is."""
    browser: Browser = await visit()
    await browser.ask("HEAD", "/connect/good")
    await browser.get("/connect/good", Purpose="prefetch")
    await browser.get("/connect/good")
    assert not hub.spent
    await browser.press("/connect/good")
    assert (await browser.ask("HEAD", BACK)).status == 404
    assert (await browser.get(BACK, **{"Sec-Purpose": "prefetch;prerender"})).status == 503
    assert hub.finished == []
    assert (await browser.get(BACK)).status == 303


async def test_a_form_on_another_site_begins_nothing(visit: Visit, hub: Hub) -> None:
    """A POST without our cookie, as other sites' forms are sent, spends no link but shows the page and says why."""
    stranger: Browser = await visit()
    pushed = await stranger.press("/connect/good")
    assert pushed.status == 400
    assert "allow cookies" in pushed.text
    assert "<button" in pushed.text
    assert not hub.spent
    assert (await stranger.press("/connect/good")).status == 303


@pytest.mark.parametrize("value", ["", "a.b", '"', "x" * 129, "<b>", "é"])
async def test_a_cookie_that_is_not_ours_is_none(visit: Visit, hub: Hub, value: str) -> None:
    """A value that we would never set counts as no cookie."""
    browser: Browser = await visit()
    browser.cookies["__Host-oo-browser"] = value
    assert (await browser.press("/connect/good")).status == 400
    assert not hub.spent


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("link", ["bad", "outcome", "good%2F", "..%2F..%2Fetc", "%00", "a" * 4000])
async def test_a_link_that_is_gone_is_said_to_be(visit: Visit, link: str, method: str) -> None:
    """An unknown, old or used link gets a page with a remedy: never 410, and always the same."""
    browser: Browser = await visit()
    await browser.get("/connect/good")
    gone = await browser.ask(method, f"/connect/{link}")
    assert gone.status == 404
    assert "no longer works" in gone.text
    assert link not in gone.text


@pytest.mark.rows("D3")
async def test_a_link_works_once(visit: Visit) -> None:
    """After the button was pressed, the link is gone."""
    browser: Browser = await visit()
    await browser.get("/connect/good")
    await browser.press("/connect/good")
    assert (await browser.press("/connect/good")).status == (await browser.get("/connect/good")).status == 404


async def test_every_wrong_answer_looks_alike(visit: Visit, hub: Hub) -> None:
    """Forged, foreign, doubled, empty, misdirected and repeated answers, and foreign outcomes, get the same page byte for byte."""
    browser: Browser = await visit()
    await browser.get("/connect/good")
    await browser.press("/connect/good")
    other: Browser = await visit()
    answers = [
        await browser.get("/oauth/todoist-1/callback?state=forged&code=c0de"),
        await browser.get("/oauth/todoist-1/callback"),
        await browser.get("/oauth/todoist-1/callback?error=access_denied"),
        await browser.get("/oauth/google-1/callback?state=fresh&code=c0de"),
        await browser.get("/oauth/todoist-1/callback?state=fresh&state=fresh&code=c0de"),
        await browser.get("/oauth/todoist-1/callback?state=fresh&code=a&code=b"),
        await other.get(BACK),
        await other.get("/connect/outcome/out-1"),
        await browser.get("/connect/outcome/out-2"),
    ]
    assert {answer.status for answer in answers} == {400}
    assert len({answer.text for answer in answers}) == 1
    for answer in answers:
        answer.headers.pop("date")
    assert all(answer.headers == answers[0].headers for answer in answers)


@pytest.mark.parametrize("name", ["state", "code", "error", "iss"])
async def test_a_doubled_answer_is_handed_to_nobody(visit: Visit, hub: Hub, name: str) -> None:
    """Where a word of the answer comes twice, nobody can say which is meant: it is refused before anything is spent."""
    browser: Browser = await visit()
    await browser.get("/connect/good")
    await browser.press("/connect/good")
    assert (await browser.get(f"{BACK}&{name}=fresh&{name}=fresh")).status == 400
    assert hub.finished == []
    assert (await browser.get(BACK)).status == 303


@pytest.mark.rows("D9")
@pytest.mark.parametrize("query", ["error=access_denied&error_description={}", "error={}", "code={}&iss={}&scope={}&hd={}"])
async def test_the_provider_s_words_are_not_shown(visit: Visit, hub: Hub, query: str) -> None:
    """Whatever a provider, or somebody in its name, puts into the address appears on no page and in no header."""
    browser: Browser = await visit()
    await browser.get("/connect/good")
    await browser.press("/connect/good")
    evil = quote(f"<script>{CANARY}</script>")
    hub.ended = Outcome(status="denied", provider_title="Todoist")
    back = await browser.get(f"/oauth/todoist-1/callback?state=fresh&{query.replace('{}', evil)}")
    ended = await browser.get(back.headers["location"])
    wrong = await browser.get(f"/oauth/todoist-1/callback?state=forged&{query.replace('{}', evil)}")
    assert back.status == 303
    assert CANARY not in repr([back, ended, wrong])


@pytest.mark.rows("D8")
async def test_code_and_state_are_never_written_down(visit: Visit, hub: Hub, notebook: Notebook) -> None:
    """Neither the log of a good answer, of a refused one nor of one that breaks the hub holds code, state, link or cookie."""
    browser: Browser = await visit()
    browser.cookies["__Host-oo-browser"] = CANARY
    address = f"/oauth/todoist-1/callback?state={CANARY}&code={CANARY}&error={CANARY}&iss={CANARY}"
    await browser.get(f"/connect/{CANARY}?{CANARY}")
    await browser.press(f"/connect/{CANARY}")
    await browser.get(f"/connect/outcome/{CANARY}")
    await browser.get(address)
    hub.broken = RuntimeError(f"the provider did not like {CANARY}")
    broken = await browser.get(address)
    assert broken.status == 503
    assert "retry-after" in broken.headers
    assert CANARY not in broken.text
    assert [line["path"] for line in notebook.events("request")] == [
        "/connect/{link}",
        "/connect/{link}",
        "/connect/outcome/{outcome}",
        "/oauth/{registration}/callback",
        "/oauth/{registration}/callback",
    ]
    assert len(notebook.events("request_failed")) == 1
    assert CANARY not in repr(notebook.lines)


@pytest.mark.rows("D8")
async def test_every_page_carries_the_guards(visit: Visit, hub: Hub) -> None:
    """All pages and redirects keep to our own stylesheet, tell nobody where they were and are kept nowhere."""
    browser: Browser = await visit()
    answers = {path: await browser.get(path) for path in ("/", "/connect/good", "/connect/bad", "/nothing")}
    answers["begun"] = await browser.press("/connect/good")
    answers["back"] = await browser.get(BACK)
    answers["ended"] = await browser.get("/connect/outcome/out-1")
    answers["refused"] = await browser.get(BACK)
    for path, answer in answers.items():
        policy = answer.headers["content-security-policy"].split("; ")
        form = "form-action 'self'" + (" https://app.todoist.example" if path == "/connect/good" else "")
        assert policy == ["default-src 'none'", "style-src 'self'", form, "base-uri 'none'", "frame-ancestors 'none'"], path
        assert answer.headers["referrer-policy"] == "no-referrer", path
        assert answer.headers["cache-control"] == "no-store", path
        assert answer.headers["x-content-type-options"] == "nosniff", path


@pytest.mark.parametrize(
    "origin",
    ["", "*", "https:", "https://x; script-src *", "https://x https://y", "javascript:alert(1)", "https://x/path", "'unsafe-inline'"],
)
async def test_an_origin_cannot_loosen_the_policy(visit: Visit, hub: Hub, origin: str) -> None:
    """What is no plain origin never gets into the policy: the page is not shown."""
    hub.offered = replace(hub.offered, provider_origin=origin)
    page = await (await visit()).get("/connect/good")
    assert page.status == 503
    assert "form-action 'self';" in page.headers["content-security-policy"]


async def test_an_outcome_s_address_is_ours(visit: Visit, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """An outcome's id cannot lead off the site."""
    browser: Browser = await visit()

    async def finish(**_: object) -> str:
        return "//evil.example/..\\?x=é"

    monkeypatch.setattr(hub, "finish", finish)
    assert (await browser.get(BACK)).headers["location"] == "/connect/outcome/%2F%2Fevil.example%2F..%5C%3Fx%3D%C3%A9"


async def test_the_stylesheet_may_be_kept(visit: Visit) -> None:
    """The stylesheet is ours, small, and the only thing that a browser keeps."""
    browser: Browser = await visit()
    address = (await browser.get("/")).text.split('rel="stylesheet" href="')[1].split('"')[0]
    sheet = await browser.get(address)
    assert sheet.status == 200
    assert sheet.headers["content-type"] == "text/css; charset=utf-8"
    assert sheet.headers["cache-control"] == "public, max-age=86400"
    assert len(sheet.text.encode()) <= 12_000


async def test_a_link_that_only_reads_says_so(visit: Visit, hub: Hub) -> None:
    """Where nothing can be changed the page says that, and an account with a name is named."""
    hub.offered = an_offer(account="work", scopes=(Asked(id="c", sentence="See your calendar.", access="read"),))
    text = (await (await visit()).get("/connect/good")).text
    assert "<p>Nothing.</p>" in text
    assert "checkbox" not in text
    assert "See your calendar." in text
    assert "work" in text
    assert NOW.strftime("%Y-%m-%d") in text


@pytest.mark.rows("D4", "D14")
async def test_the_account_is_shown_and_asked_about(visit: Visit, hub: Hub) -> None:
    """Where it is to be confirmed, the page names the account, the user and whose place it takes; each button leads to the clean page."""
    hub.ended = Outcome(
        status="pending",
        provider_title="Todoist",
        label="ada@example.org",
        user_label="Ada",
        replaces="old@example.org",
        withheld=("Complete a task.",),
    )
    browser: Browser = await visit()
    await browser.get("/connect/good")
    await browser.press("/connect/good")
    page = await browser.get((await browser.get(BACK)).headers["location"])
    for words in ("right account", "ada@example.org", "Ada", "old@example.org", "Complete a task.", "Nothing has changed yet"):
        assert words in page.text
    for answer in ("yes", "no"):
        said = await browser.press("/connect/outcome/out-1", f"answer={answer}")
        assert (said.status, said.headers["location"]) == (303, "/connect/outcome/out-1")
    assert hub.answers == ["yes", "no"]
    for form in ("", "answer=", "answer=maybe", "yes=answer"):
        assert (await browser.press("/connect/outcome/out-1", form)).status == 400
    stranger: Browser = await visit()
    assert (await stranger.press("/connect/outcome/out-1", "answer=yes")).status == 400
    assert hub.answers == ["yes", "no"]


async def test_what_is_optional_is_a_box_to_tick(visit: Visit, hub: Hub) -> None:
    """What may be left out is a check-box with a label, ticked where it was asked for; what is ticked is handed on."""
    browser: Browser = await visit()
    page = (await browser.get("/connect/good")).text
    assert page.count('type="checkbox"') == page.count("checked") == 1
    await browser.press("/connect/good", "scope=change&scope=other")
    assert hub.ticked == ["change", "other"]


async def test_the_way_back_is_a_link(visit: Visit, hub: Hub) -> None:
    """The outcome leads back to the product by a link that names it, and never by itself."""
    hub.ended = Outcome(status="connected", provider_title="Todoist", return_to="https://app.example/settings?a=1&b=2")
    browser: Browser = await visit()
    await browser.get("/connect/good")
    await browser.press("/connect/good")
    page = await browser.get((await browser.get(BACK)).headers["location"])
    assert page.status == 200
    assert 'href="https://app.example/settings?a=1&amp;b=2"' in page.text
    assert "<bdi>app.example</bdi>" in page.text


@pytest.mark.rows("D11")
@pytest.mark.parametrize("rate", [3])
async def test_guessing_is_slow(visit: Visit, hub: Hub, rate: int) -> None:
    """An address may press so many buttons and bring so many answers in a minute; then it is told to wait, whatever it brings."""
    browser: Browser = await visit()
    await browser.get("/connect/good")
    for path, method in (("/connect/bad", "POST"), ("/oauth/todoist-1/callback?state=forged", "GET")):
        assert {(await browser.ask(method, path)).status for _ in range(rate)} <= {400, 404}
        refused = await browser.ask(method, path)
        assert (refused.status, refused.headers["retry-after"]) == (429, "5")
    assert (await browser.get("/connect/good")).status == 200
    assert not hub.spent


@pytest.mark.rows("D7")
@pytest.mark.parametrize("name", ["next", "return_to", "redirect_uri", "url", "continue", "return", "to", "target"])
async def test_no_parameter_leads_away(visit: Visit, hub: Hub, name: str) -> None:
    """Whatever an address asks for, each redirect goes to the provider of the sign-in or to a page of ours."""
    browser: Browser = await visit()
    for away in ("https://evil.example/", "//evil.example", "/\\\\evil.example", "javascript:alert(1)", "https:evil.example"):
        hub.spent, hub.finished = False, []
        more = f"{name}={quote(away, safe='')}"
        await browser.get(f"/connect/good?{more}")
        begun = await browser.press(f"/connect/good?{more}", more)
        back = await browser.get(f"{BACK}&{more}")
        ended = await browser.get(f"/connect/outcome/out-1?{more}")
        said = await browser.press(f"/connect/outcome/out-1?{more}", f"answer=yes&{more}")
        assert begun.headers["location"] == hub.provider
        assert back.headers["location"] == said.headers["location"] == "/connect/outcome/out-1"
        assert "evil" not in ended.text
