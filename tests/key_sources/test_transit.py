"""Root keys wrapped by a real OpenBao."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest
from journeys.house import House, served
from key_sources.bao import TOKEN, Bao, openbao
from oo_transit import Transit

from oo_client import Refused
from oo_daemon.cli.stage import stage
from oo_daemon.connections.key_keeping import wrapping
from oo_daemon.host import SameLoop
from oo_sdk import ConnectorBug, RetryLater
from oo_todoist.sandbox import TodoistSandbox
from oo_vault import KeyFileRefused, KeysUnreachable, create_wrapped_key, key_context, read_key_file, read_wrapped_keys

ROOT = bytes(range(32))


@pytest.fixture
async def bao(tmp_path: Path) -> AsyncIterator[Bao]:
    """An OpenBao."""
    (tmp_path / "bao").mkdir()
    async with openbao(tmp_path / "bao") as bao:
        yield bao


@pytest.fixture
def transit(bao: Bao) -> Transit:
    """The key source, pointed at it."""
    transit = Transit()
    transit.settings = Transit.Settings(**{name: str(value) for name, value in bao.settings().items()})
    return transit


@pytest.mark.rows("C5")
async def test_a_key_is_unwrapped_in_its_own_context_only(transit: Transit, bao: Bao) -> None:
    """What was wrapped comes back with the same purpose and key id; with another id, or another key's ciphertext, nothing comes."""
    context = key_context("0b2d4f66")
    wrapped = await transit.wrap(ROOT, context)
    assert wrapped.startswith("vault:v1:")
    assert await transit.unwrap(wrapped, context) == ROOT
    for other in (key_context("9e1c77aa"), {}, {**context, "purpose": "other"}):
        with pytest.raises(ConnectorBug):
            await transit.unwrap(wrapped, other)
    await bao.ask("POST", "transit/keys/oo/rotate")
    assert await transit.unwrap(wrapped, context) == ROOT


@pytest.mark.rows("C5")
async def test_what_is_wrong_is_said_and_the_token_is_not(transit: Transit, bao: Bao, tmp_path: Path) -> None:
    """A wrong token, a sealed server, one that is gone, a missing token file and plain http to elsewhere each have a sentence."""
    settings = transit.settings
    wrapped = await transit.wrap(ROOT, {})
    for changes, kind in [
        ({"token_file": __file__}, ConnectorBug),
        ({"token_file": str(tmp_path / "none")}, ConnectorBug),
        ({"address": "http://bao.example:8200"}, ConnectorBug),
        ({"address": "http://127.0.0.1:1"}, RetryLater),
        ({"key": "other"}, ConnectorBug),
    ]:
        transit.settings = Transit.Settings(**{**{name: getattr(settings, name) for name in ("address", "token_file")}, **changes})
        with pytest.raises(kind) as said:
            await transit.unwrap(wrapped, {})
        assert TOKEN not in str(said.value)
    transit.settings = settings
    await bao.ask("PUT", "sys/seal")
    with pytest.raises(RetryLater, match="503"):
        await transit.unwrap(wrapped, {})


@pytest.mark.rows("C5")
async def test_the_key_file_holds_no_key(transit: Transit, tmp_path: Path) -> None:
    """The key file has the key wrapped, and a line whose id was changed is refused; a plain line beside it still counts."""
    path, wraps = tmp_path / "root.key", wrapping("transit", transit, SameLoop())
    recovery = await create_wrapped_key(path, wraps)
    assert recovery not in path.read_text()
    (id_,) = (await read_wrapped_keys(path, wraps)).ids
    assert path.read_text().startswith(f"{id_} vault:v1:")
    plain = tmp_path / "plain.key"
    plain.write_text(recovery)
    plain.chmod(0o400)
    assert read_key_file(plain).ids == (id_,)
    await create_wrapped_key(path, wraps, add=True)
    assert (await read_wrapped_keys(path, wraps)).ids[1] == id_
    path.chmod(0o600)
    path.write_text(f"{recovery}\n")
    assert (await read_wrapped_keys(path, wraps)).ids == (id_,)
    path.write_text(f"{id_} {await transit.wrap(ROOT, key_context(id_))}\n")
    with pytest.raises(KeyFileRefused, match="Line 1"):
        await read_wrapped_keys(path, wraps)
    with pytest.raises(KeysUnreachable, match="transit"):
        wrapping("transit", None, SameLoop())


@pytest.mark.rows("C5")
async def test_a_running_daemon_outlives_an_outage(bao: Bao, tmp_path: Path) -> None:
    """A host goes from its key file to OpenBao by a rotation; in an outage it works on, and a reload is refused by name."""
    transit = Transit()
    transit.settings = Transit.Settings(**{name: str(value) for name, value in bao.settings().items()})
    path, wraps = tmp_path / "root.key", wrapping("transit", transit, SameLoop())
    await create_wrapped_key(path, wraps)
    sandbox = TodoistSandbox()
    tables: dict[str, Mapping[str, object]] = {
        "vault": {"keys_from": "transit"},
        "key_sources.transit": bao.settings(),
        "sync": {"interval": 3600},
    }
    async with served(sandbox) as address:
        house = House(tmp_path, sandbox, address, settings=tables)
        await house.start()
        try:
            connection = await house.connect()
            assert connection is not None
            await create_wrapped_key(path, wraps, add=True)
            async with house.client as client:
                found = await client.rotate_keys(wait=20)
                assert found.rotation.done == found.rotation.total
                assert found.source == f"{path}, wrapped by transit"
                await bao.stop()
                with pytest.raises(Refused) as outage:
                    await client.reload_keys()
                assert outage.value.code == "keys_unreachable"
                assert (await client.sync_and_wait(connection.id)).outcome == "done"
                assert len((await client.vault()).keys) == 2
        finally:
            await house.stop()
    assert TOKEN not in house.log.getvalue()


@pytest.mark.rows("C5", "H9")
async def test_a_start_without_its_keys_is_refused_by_name(bao: Bao, tmp_path: Path) -> None:
    """`oo vault init` keeps the key wrapped; while OpenBao is gone a start ends with its own exit code and makes nothing."""
    async with stage(tmp_path) as here:
        here.settings |= {"vault": {"keys_from": "transit"}, "key_sources.transit": bao.settings()}
        here.write_settings()
        made = json.loads(await here.oo("vault", "init", "--json"))
        assert made["recovery_key"] not in (tmp_path / "root.key").read_text()
        await here.start_daemon()
        await here.processes["daemon"].stop()
        await bao.stop()
        code, _, words = await here.ended("run")
        assert code == 76
        assert "The key source transit gave no key: it cannot be reached." in words
        assert TOKEN not in words
