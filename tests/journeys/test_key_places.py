"""Where a daemon finds its root keys: a systemd credential, and a variable that was asked for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from oo_client import Client
from oo_config import load
from oo_daemon.app import build
from oo_daemon.cli.stage import stage
from oo_vault import KeyFileRefused, KeysUnreachable, add_key, create_key_file, key_text

KEY = key_text(bytes(range(32)))


def settings(folder: Path, extra: str = "") -> str:
    """A file of settings for a daemon in this folder."""
    file = folder / "oo.toml"
    file.write_text(f'[places]\nstate = "{folder}"\n[public]\nport = 0\n{extra}')
    return str(file)


@pytest.mark.rows("C4")
async def test_a_systemd_credential(tmp_path: Path) -> None:
    """The credential oo-root-key that systemd gives the unit, decrypted by systemd where it was encrypted, is the key file."""
    given = tmp_path / "credentials"
    given.mkdir()
    create_key_file(given / "oo-root-key")
    environ = {"CREDENTIALS_DIRECTORY": str(given)}
    async with build(load(Path(settings(tmp_path)), environ), environ={}) as app:
        assert (await app.keys.status()).source == str(given / "oo-root-key")
    (given / "oo-root-key").chmod(0o644)
    with pytest.raises(KeyFileRefused):
        async with build(load(Path(settings(tmp_path)), environ), environ={}):
            pass


@pytest.mark.rows("C4")
async def test_a_variable_only_when_asked_for(tmp_path: Path) -> None:
    """A key in the environment counts only with vault.keys_from = "environment", is taken out of it at once, and cannot be loaded again."""
    environ = {"OO_ROOT_KEY": KEY}
    with pytest.raises(KeyFileRefused, match="no key file"):
        async with build(load(Path(settings(tmp_path)), {}), environ=environ):
            pass
    assert environ == {"OO_ROOT_KEY": KEY}
    loaded = load(Path(settings(tmp_path, '[vault]\nkeys_from = "environment"')), {})
    async with build(loaded, environ=environ) as app:
        assert environ == {}
        assert (await app.keys.status()).source == "the variable OO_ROOT_KEY"
        with pytest.raises(KeysUnreachable):
            await app.keys.reload()
    with pytest.raises(KeyFileRefused, match="no key in OO_ROOT_KEY"):
        async with build(loaded, environ=environ):
            pass


@pytest.mark.rows("C4")
async def test_no_child_and_no_plugin_finds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a real process the key has left the environment before any plugin is loaded, so that nothing that it starts inherits it."""
    async with stage(tmp_path) as here:
        plugin = tmp_path / "plugin"
        plugin.mkdir()
        (plugin / "nosy_oo.py").write_text(
            "import os, pathlib, subprocess\n"
            "from oo_sdk import hookimpl\n"
            f"seen = subprocess.run(['cat', '/proc/self/environ'], capture_output=True).stdout\n"
            f"pathlib.Path({str(tmp_path / 'seen')!r}).write_bytes(seen + repr(dict(os.environ)).encode())\n"
            "@hookimpl\ndef oo_sinks():\n    return []\n"
        )
        info = plugin / "nosy_oo-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: nosy-oo\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("[oo.plugins]\nnosy = nosy_oo\n")
        here.settings |= {"vault": {"keys_from": "environment"}, "plugins": {"enabled": ["nosy-oo"]}}
        here.write_settings()
        here.environ |= {"OO_ROOT_KEY": KEY, "PYTHONPATH": os.pathsep.join([str(plugin), os.environ.get("PYTHONPATH", "")])}
        await here.start_daemon()
        seen = (tmp_path / "seen").read_bytes()
    assert b"PATH" in seen
    assert KEY.encode() not in seen


@pytest.mark.rows("C3")
async def test_a_rotation_that_was_cut_off_goes_on_by_itself(tmp_path: Path) -> None:
    """What a dead daemon had begun to seal with a newer key, the next one goes on with unasked."""
    create_key_file(tmp_path / "root.key")
    loaded = load(Path(settings(tmp_path)), {})
    async with build(loaded, environ={}) as app, Client(app.settings.places.socket) as client:
        await client.register(provider="todoist", client_id="us", client_secrets=["canary-secret"])
        await app.storage.write(lambda database: database.rows("UPDATE vault_key SET rotating_since = 1"))
    add_key(tmp_path / "root.key")
    async with build(loaded, environ={}) as app:
        await app.keys.ended(20)
        found = await app.keys.status()
    assert [key.sealed for key in found.keys] == [found.rotation.total, 0]
    assert (found.rotation.total > 0, found.rotation.since) == (True, None)
