"""The contracts of the listeners, held against a daemon that runs: each route is described, and each answer is one that is."""

from __future__ import annotations

import asyncio
import os
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
import requests
import schemathesis
import yaml
from aiohttp import web
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from journeys.house import House
from openapi_spec_validator import validate
from ports import free_port
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from oo_daemon.ingress.console.door import COOKIE
from oo_daemon.ingress.contract import FILES, Listener, contract, document

#: The daemon draws its chances while requests are made up in another thread.
pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies")
#: Requests for each operation, as many again that do not fit where that can be.
CASES = int(os.environ.get("OO_TEST_CONTRACT_CASES", "4"))
CHECKS = (
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
)


def described(listener: Listener) -> dict[str, Any]:
    read: dict[str, Any] = yaml.load(document(listener), yaml.CSafeLoader)
    return read


def operations(listener: Listener) -> set[tuple[str, str]]:
    return {(method.upper(), path) for path, item in described(listener)["paths"].items() for method in item if method != "parameters"}


def routed(app: web.Application) -> set[tuple[str, str]]:
    routes = [(route.method, route.resource.canonical) for route in app.router.routes() if route.resource is not None]
    return {(method, path.replace(":.*", "")) for method, path in routes if method != "HEAD"}


@pytest.mark.parametrize("listener", FILES)
def test_each_document_is_valid(listener: Listener) -> None:
    """They are OpenAPI 3.1; each operation has a name of its own, a sentence, and a tag that is declared."""
    whole = described(listener)
    validate(whole)
    assert whole["openapi"].startswith("3.1")
    found = [item[method] for item in whole["paths"].values() for method in item if method != "parameters"]
    assert len({each["operationId"] for each in found}) == len(found)
    assert {tag for each in found for tag in each["tags"]} == {tag["name"] for tag in whole["tags"]}
    assert all(each["summary"].endswith(".") for each in found)


async def test_each_route_has_an_entry_and_each_entry_a_route(house: House) -> None:
    """What the doors of a running daemon route and what the documents describe is the same, on both listeners."""
    assert house.app is not None
    assert house.app.public is not None
    public, private = (routed(door._runner.app) for door in (house.app.public, house.app.private))
    console = {each for each in private if each[1].startswith("/console")}
    # Webhooks are heard under every method, so that all that is refused looks alike; two of them mean something.
    assert ("*", "/webhooks/{token}") in public
    webhooks = {("GET", "/webhooks/{token}"), ("POST", "/webhooks/{token}")}
    assert operations("public") == public - {("*", "/webhooks/{token}")} | webhooks
    assert operations("private") == private - console
    assert operations("console") == console


async def test_they_are_served(house: House) -> None:
    """The private listener gives each of them, as it lies in the package."""
    async with house.client as client:
        for listener in FILES:
            assert (await client.openapi(listener)).encode() == document(listener)


@pytest.mark.parametrize("listener", FILES)
def test_the_page_leaves_nothing_out(listener: Listener) -> None:
    """What is read as a page has each operation, each answer, and each shape that is named on it."""
    told, whole = contract(listener), described(listener)
    shown = [each for group in told.groups for each in group.operations]
    assert {(each.method, each.path) for each in shown} == operations(listener)
    for each in shown:
        assert [it.status for it in each.answers] == sorted(whole["paths"][each.path][each.method.lower()]["responses"])
    assert {each.name for group in told.groups for each in group.shapes} == whole["components"].get("schemas", {}).keys()
    for group in told.groups:
        contents = [it for each in group.operations for it in (*each.takes, *(it for answer in each.answers for it in answer.contents))]
        linked = {member.shape for it in (contents, group.shapes) for each in it for member in each.members}
        assert linked - {""} == {each.name for each in group.shapes}


# --- what is answered -----------------------------------------------------------------------------------------------------

LAST = ("/sign-in", "/sign-out", "/erase", "/disconnect", "/drop", "/cancel", "/leave")  #: after these there is less to ask for
#: Left to tests of their own: answers without end, and what the provider says rather than we.
LEFT_OUT = {"/v1/connections/{id}/proxy/{path}", "/console/live", "/console/inbox/replays/{at}/live"}
ANY = settings(
    max_examples=CASES,
    deadline=None,
    database=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@dataclass(frozen=True, kw_only=True)
class Asking:
    """How a listener is asked: where, as whom, and for what there is."""

    listener: Listener
    url: str
    headers: dict[str, str] = field(default_factory=dict)
    known: dict[str, Mapping[str, str]] = field(default_factory=dict)  #: beginning of a path → what stands for its parameters
    form: dict[str, str] = field(default_factory=dict)  #: what each form carries

    def ask(self) -> Counter[int]:
        """Send each operation what fits its description, and what does not. Fails with the answers that are not described."""
        seen: Counter[int] = Counter()
        wrong: list[str] = []
        schema = schemathesis.openapi.from_dict(described(self.listener))
        schema.config.update(base_url=self.url)
        with requests.Session() as session:
            found: list[Any] = [each.ok() for each in schema.get_all_operations()]  # type: ignore[union-attr]  # the documents are valid
            for operation in sorted(found, key=lambda each: each.method == "delete" or each.path.endswith(LAST)):
                if operation.path not in LEFT_OUT:
                    # Where nothing but a path is said, nothing can be said wrongly.
                    for mode in GenerationMode if operation.body or operation.query else [GenerationMode.POSITIVE]:
                        self._ask(operation, mode, session, seen, wrong)
        assert not wrong, "\n\n".join(wrong)
        return seen

    def _ask(self, operation: Any, mode: GenerationMode, session: requests.Session, seen: Counter[int], wrong: list[str]) -> None:
        known = max((each for each in self.known if operation.path.startswith(each)), key=len, default="")

        @ANY
        @given(case=operation.as_strategy(generation_mode=mode), there=st.booleans())
        def holds(case: Any, there: bool) -> None:
            if there:
                case.path_parameters.update({name: it for name, it in self.known.get(known, {}).items() if name in case.path_parameters})
            if isinstance(case.query.get("wait"), int | float):
                case.query["wait"] = min(case.query["wait"], 0.01)
            if isinstance(case.body, dict) and self.form and there:
                case.body.update(self.form)
            answer = case.call(session=session, headers=self.headers, allow_redirects=False, timeout=20)
            seen[answer.status_code] += 1
            try:
                case.validate_response(answer, checks=CHECKS)
            except (
                FailureGroup
            ) as failures:  # not raised: what was asked before may have changed what there is, so it cannot be tried again
                wrong.extend(f"{operation.label}: {each}" for each in failures.exceptions)

        holds()


async def test_the_private_listener_answers_as_described(furnished: House, token: str) -> None:
    """Whatever is asked of the API, no answer is a fault of ours and each is one that the document has."""
    known = await _known(furnished)
    headers = {"Authorization": f"Bearer {token}", "Accept": "application/json, application/yaml, application/zip, text/plain"}
    seen = await asyncio.to_thread(Asking(listener="private", url=_private(furnished), headers=headers, known=known).ask)
    assert {200, 201, 202, 400, 404, 409} <= seen.keys()


async def test_the_console_answers_as_described(furnished: House, token: str) -> None:
    """Nor is one of the console, to an operator who is signed in."""
    known = {f"/console{path.removeprefix('/v1')}": each for path, each in (await _known(furnished)).items()}
    known["/console/inbox/"] = known["/console/deliveries/"]
    known["/console/events/"] = {"position": "1"}
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as browser:
        async with browser.get(f"{_private(furnished)}/console/sign-in") as page:
            csrf = _csrf(await page.text())
        async with browser.post(f"{_private(furnished)}/console/sign-in", data={"csrf": csrf, "token": token}) as page:
            csrf = _csrf(await page.text())
        cookie = next(each.value for each in browser.cookie_jar if each.key == COOKIE)
    asking = Asking(listener="console", url=_private(furnished), headers={"Cookie": f"{COOKIE}={cookie}"}, known=known, form={"csrf": csrf})
    seen = await asyncio.to_thread(asking.ask)
    assert {200, 303, 403, 404} <= seen.keys()


async def test_the_public_listener_answers_as_described(furnished: House) -> None:
    """Nor is one to strangers."""
    assert furnished.app is not None
    url, known = furnished.app.public_url, await _known(furnished)
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as browser:
        async with furnished.client as client:
            link = (await client.visit("ada")).url
            known["/visit/{link}"] = {"link": (await client.visit("eve")).url.rpartition("/")[2]}
        async with browser.get(link):
            pass
        async with browser.post(link) as page:
            csrf = _csrf(await page.text())
        cookies = "; ".join(f"{each.key}={each.value}" for each in browser.cookie_jar)
    known["/person/connections/"] = known["/v1/connections/"]
    asking = Asking(listener="public", url=url, headers={"Cookie": cookies}, known=known, form={"csrf": csrf})
    seen = await asyncio.to_thread(asking.ask)
    assert {200, 303, 400, 403, 404, 409} <= seen.keys()


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("multipart/form-data", b"answer=yes"),
        ("multipart/form-data; boundary=x", b"--y\r\n\r\nyes\r\n--y--"),
        ("application/x-www-form-urlencoded; charset=odd", b"answer=yes"),
        ("application/x-www-form-urlencoded; charset=utf-8", b"answer=\xff"),
    ],
)
async def test_a_form_that_is_not_well_formed_is_the_senders_fault(furnished: House, kind: str, body: bytes) -> None:
    """Whatever stands in place of a form, the answer is 400, to strangers and in the console."""
    assert furnished.app is not None
    ticket = (await _known(furnished))["/import/"]["ticket"]
    public = furnished.app.public_url
    pages = [f"{public}/connect/outcome/odd", f"{public}/connect/odd", f"{_private(furnished)}/console/sign-in"]
    if kind.startswith("multipart"):
        pages.append(f"{public}/import/{ticket}")
    async with aiohttp.ClientSession() as outside:
        for page in pages:
            headers = {"Content-Type": kind, "Cookie": "oo-browser=odd"}
            async with outside.post(page, data=body, headers=headers, allow_redirects=False) as answer:
                assert answer.status == 400, (page, await answer.text())


@pytest.fixture
async def furnished(house: House) -> House:
    """A house in which there is one of everything, and a door on TCP."""
    await house.stop()
    house.settings |= {"private": {"port": free_port()}, "oauth": {"rate": 1_000_000}}
    await house.start()
    assert await house.connect() is not None
    return house


@pytest.fixture
async def token(furnished: House) -> str:
    async with furnished.client as client:
        return (await client.create_token("everything", scopes=["admin"])).token


async def _known(house: House) -> dict[str, Mapping[str, str]]:
    async with house.client as client:
        await client.add_consumer("reader")
        source = await client.add_source("hook", user="ada", scheme="none")
        async with aiohttp.ClientSession() as outside, outside.post(source.url, data=b"{}") as answer:
            assert answer.status == 200
        (delivery,) = await client.deliveries()
        (connection, *_) = await client.connections(provider="todoist")
        upload = await client.await_upload(provider="apple_health", user="ada")
        link = await client.connect(provider="todoist", user="eve")
    return {
        "/v1/connections/": {"id": connection.id},
        "/v1/consumers/": {"name": "reader"},
        "/v1/sources/": {"id": "hook"},
        "/v1/deliveries/": {"id": delivery.id},
        "/v1/uploads/": {"id": upload.upload.id},
        "/v1/connect-sessions/": {"id": link.id},
        "/v1/users/{user}/export": {"user": "ada"},
        "/webhooks/": {"token": source.url.rpartition("/")[2]},
        "/connect/{link}": {"link": link.url.rpartition("/")[2]},
        "/import/": {"ticket": upload.url.rpartition("/")[2]},
    }


def _private(house: House) -> str:
    return f"http://127.0.0.1:{house.settings['private']['port']}"


def _csrf(page: str) -> str:
    found = re.search(r'name="csrf" value="([0-9a-f]+)"', page)
    assert found is not None
    return found[1]
