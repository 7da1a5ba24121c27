"""Root keys wrapped by AWS KMS, against moto's server as a process of its own. Part of the long run: moto is heavy to install."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import boto3
import pytest
from oo_aws_kms import AwsKms

from oo_daemon.connections.key_keeping import wrapping
from oo_daemon.host import SameLoop
from oo_sdk import ConnectorBug, RetryLater
from oo_vault import KeysUnreachable, create_wrapped_key, key_context, read_wrapped_keys

ROOT = bytes(range(32))


@pytest.fixture
async def kms(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[AwsKms]:
    """The key source, with a key of its own at an emulator."""
    for name, value in {
        "AWS_ACCESS_KEY_ID": "canary",
        "AWS_SECRET_ACCESS_KEY": "canary-secret",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT)
    assert process.stdout is not None
    address = ""
    async with asyncio.timeout(60):
        async for line in process.stdout:
            if found := re.search(rb"http://127\.0\.0\.1:\d+", line):
                address = found[0].decode()
                break
    reading = asyncio.create_task(process.stdout.read())
    try:
        client = boto3.client("kms", region_name="eu-central-1", endpoint_url=address)
        made = await asyncio.to_thread(client.create_key)
        kms = AwsKms()
        kms.settings = AwsKms.Settings(key=made["KeyMetadata"]["KeyId"], region="eu-central-1", endpoint=address)
        yield kms
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await reading


@pytest.mark.rows("C5")
async def test_a_key_is_unwrapped_in_its_own_context_only(kms: AwsKms) -> None:
    """What was wrapped comes back in its encryption context, and in no other."""
    context = key_context("0b2d4f66")
    wrapped = await kms.wrap(ROOT, context)
    assert await kms.unwrap(wrapped, context) == ROOT
    for other in (key_context("9e1c77aa"), {}):
        with pytest.raises(ConnectorBug, match="InvalidCiphertextException"):
            await kms.unwrap(wrapped, other)


@pytest.mark.rows("C5")
async def test_an_outage_has_a_name(kms: AwsKms, tmp_path: Path) -> None:
    """A ring is read while KMS answers; when it does not, loading is refused with the key source's name and no secret."""
    path, wraps = tmp_path / "root.key", wrapping("aws_kms", kms, SameLoop())
    await create_wrapped_key(path, wraps)
    assert len((await read_wrapped_keys(path, wraps)).ids) == 1
    kms.settings = AwsKms.Settings(key="none", region="eu-central-1", endpoint="http://127.0.0.1:1")
    with pytest.raises(RetryLater):
        await kms.wrap(ROOT, {})
    with pytest.raises(KeysUnreachable, match="aws_kms") as outage:
        await read_wrapped_keys(path, wraps)
    assert "canary" not in str(outage.value)
