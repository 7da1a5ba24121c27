"""The service on a real systemd: installed by its own command, under its whole hardening, in a container that is thrown away."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from journeys.test_strangers import STRANGERS, moved_here

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
UV = Path(sys.executable).with_name("uv")
#: `make systemd-test` restarts a hundred times, the ordinary run a few.
RESTARTS = int(os.environ.get("OO_TEST_RESTARTS", "3"))
#: Longest that anybody may wait for an answer, in seconds: as promised where it is measured, looser where other tests run beside it.
LONGEST = 3.0 if RESTARTS >= 100 else 60.0
#: Longest that all of it may take, in seconds: a hang is cut, a slow machine is not.
LIMIT = 200 + 20 * RESTARTS
#: Port of the stranger's provider; in the container all are free.
ACME = 8799
#: The service sees no home folder, so it needs a Python that lies outside of one.
PYTHON = Path("/usr/bin/python3")

TARGET = "[Unit]\nRequires=basic.target oo-test.service\nAfter=basic.target\nAllowIsolate=yes\n"
SERVICE = """\
[Unit]
After=basic.target systemd-journald.service
[Service]
Type=oneshot
TimeoutStartSec=infinity
ExecStart=/bin/bash /oo-test/run.sh
StandardOutput=file:/out/output
StandardError=file:/out/output
"""
RUN = """\
set -x
/opt/oo-integrations/bin/oo systemd install > /out/install && \
/opt/oo-integrations/bin/python /oo-test/drive.py {restarts} {acme} && \
/opt/oo-integrations/bin/oo systemd uninstall > /out/uninstall
code=$?
journalctl --no-pager > /out/journal
ls /etc/systemd/system > /out/units
systemctl --no-block exit $code
"""
#: A shorter watch than on a host, so that the freeze is noticed while the test waits; and as many connections as the load needs, which
#: on a host would come from many addresses, through a proxy that is trusted. Nobody there restarts it a hundred times in five minutes.
DIFFERENT = "[Unit]\nStartLimitIntervalSec=0\n[Service]\nWatchdogSec=3\nEnvironment=OO_PUBLIC_MAX_CONNECTIONS_PER_ADDRESS=1000\n"


def impossible() -> str:
    """Why this machine cannot, or nothing."""
    if os.geteuid() != 0:
        return "only root can boot a systemd of its own"
    for needed in (Path("/lib/systemd/systemd"), PYTHON):
        if not needed.exists():
            return f"{needed} is not on this machine"
    if subprocess.run([PYTHON, "-c", "import sys; sys.exit(sys.version_info < (3, 11))"], check=False).returncode:
        return f"{PYTHON} is older than 3.11"
    probe = ["unshare", "--mount", "--pid", "--fork", "--net", "--cgroup", "true"]
    if shutil.which("unshare") is None or subprocess.run(probe, check=False, capture_output=True).returncode:
        return "this machine lets nobody make namespaces"
    return ""


pytestmark = pytest.mark.skipif(impossible() != "", reason=f"NO REAL SYSTEMD HERE: {impossible()}")


def run(*command: str | Path) -> None:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Boot once; everything that was seen."""
    folder = tmp_path_factory.mktemp("systemd")
    files, out = folder / "files", folder / "out"
    place = files / "opt/oo-integrations"
    shutil.copytree(STRANGERS / "acme", folder / "acme")
    for module in (folder / "acme").rglob("*.py"):
        module.write_text(moved_here(module.read_text(), ACME))
    for source in (ROOT, folder / "acme"):
        run(UV, "build", "--quiet", "--wheel", "--no-build-isolation", "--python", sys.executable, "--out-dir", folder, source)
    run(UV, "venv", "--quiet", "--python", PYTHON, place)
    run(UV, "pip", "install", "--quiet", "--python", place / "bin/python", "--require-hashes", "-r", ROOT / "requirements/runtime.lock")
    run(UV, "pip", "install", "--quiet", "--python", place / "bin/python", "--no-deps", *folder.glob("*.whl"))
    command = place / "bin/oo"
    command.write_text(command.read_text().replace(str(place), "/opt/oo-integrations"))
    for path, text in {
        "etc/systemd/system/oo-test.target": TARGET,
        "etc/systemd/system/oo-test.service": SERVICE,
        "etc/systemd/system/oo-integrations.service.d/test.conf": DIFFERENT,
        "oo-test/run.sh": RUN.format(restarts=RESTARTS, acme=ACME),
        "oo-test/drive.py": (HERE / "drive.py").read_text(),
        "oo-test/journeys/acme.py": (ROOT / "tests/journeys/acme.py").read_text(),
    }.items():
        (files / path).parent.mkdir(parents=True, exist_ok=True)
        (files / path).write_text(text)
    done = subprocess.run(
        ["bash", HERE / "boot.sh", files, out],
        env={**os.environ, "LIMIT": str(LIMIT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT + 60,
    )
    texts = {path.name: path.read_text(errors="replace") for path in out.iterdir()}
    assert done.returncode == 0, "\n".join(
        [done.stdout[-3000:], done.stderr[-2000:], texts.get("output", ""), texts.get("journal", "")[-6000:]]
    )
    return {**json.loads(texts["seen.json"]), **{name: texts[name] for name in ("install", "uninstall", "units")}}


@pytest.mark.timeout(LIMIT + 300)
@pytest.mark.rows("H2", "H3")
def test_the_service_lives_under_its_hardening(seen: dict[str, Any]) -> None:
    """Start, sign-in, sync, webhook, refresh, reload, disconnect and erasure, with the system calls filtered and nothing killed."""
    assert seen["life"] == {
        "synced": "done",
        "pushed": 1,
        "refreshed": "done",
        "reloaded": "done",
        "disconnected": "disconnected",
        "erased": "done",
        "health": "ok",
    }
    assert (seen["unit"]["NRestarts"], seen["unit"]["Result"], seen["unit"]["User"]) == ("0", "success", "oo-integrations")
    assert seen["unit"]["StatusText"] == "Listening at http://127.0.0.1:8710"
    assert seen["backups"] == 1
    assert seen["status"]["Seccomp"] == "2"
    assert seen["status"]["CapEff"] == "0000000000000000"
    assert seen["status"]["NoNewPrivs"] == "1"
    assert "Operation not permitted" not in seen["log"]


@pytest.mark.rows("H3")
def test_a_strangers_plugin_lives_under_it_too(seen: dict[str, Any]) -> None:
    """Installed and not named, nothing of it runs; named in the settings, it fetches, writes where the service may, and gives back."""
    found = seen["stranger"]
    assert set(found["before"].values()) == {"disabled"}
    assert {found["after"][id_] for id_ in ("acme_notes", "acme_file")} == {"loaded"}
    assert found["installed"]
    assert (found["synced"], found["notes"], found["gone"]) == ("done", 3, "disconnected")
    assert "refresh_token" in found["revoked"]


def test_who_reads_a_file_lets_the_daemon_go_first(seen: dict[str, Any]) -> None:
    """The process that reads an import may make itself nicer, under the same filter."""
    assert seen["imported"] == {"state": "done", "records": 20_000, "nicest": 10}


@pytest.mark.rows("C4")
def test_the_key_is_a_credential_encrypted_or_plain(seen: dict[str, Any]) -> None:
    """The daemon has its key from systemd, which opens the file sealed to this host; installed again with a plain one, it has the same."""
    encrypted, plain = seen["encrypted"], seen["plain"]
    assert encrypted["given"] == "LoadCredentialEncrypted=oo-root-key:/etc/oo-integrations/root.cred"
    assert plain["given"] == "LoadCredential=oo-root-key:/etc/oo-integrations/root.key"
    assert [encrypted["on_disk"], plain["on_disk"]] == [False, True]
    assert encrypted["source"] == plain["source"] == "/run/credentials/oo-integrations.service/oo-root-key"
    assert encrypted["ids"] == plain["ids"]
    assert encrypted["sealed"] == plain["sealed"] > 0


@pytest.mark.rows("H1")
def test_a_start_compiles_nothing(seen: dict[str, Any]) -> None:
    """Whatever oO was installed by, the service, which may not write there, finds compiled what it would compile at each start."""
    assert seen["compiled"]


@pytest.mark.rows("H1")
def test_nobody_is_turned_away_by_a_restart(seen: dict[str, Any]) -> None:
    """While the service restarts, systemd holds the door: nobody is refused or cut off, and nobody waits long."""
    restarts = seen["restarts"]
    print(f"\nrestarts: {RESTARTS}, asked {restarts['asked']}, longest wait {restarts['longest']:.2f} s")
    assert (restarts["refused"], restarts["cut"], restarts["late"], restarts["wrong"]) == (0, 0, 0, 0)
    assert restarts["asked"] > 20 * RESTARTS
    assert restarts["longest"] < LONGEST


@pytest.mark.rows("H2")
def test_a_frozen_process_is_replaced(seen: dict[str, Any]) -> None:
    """A process that no longer feeds the watchdog is killed, and another one is well."""
    assert seen["frozen"]["health"] == "ok"
    assert seen["frozen"]["after"] < 35


@pytest.mark.rows("H2")
def test_a_frozen_database_is_noticed(seen: dict[str, Any]) -> None:
    """A loop that turns is not enough: where nothing can be written any more, the watchdog is not fed."""
    assert seen["database_frozen"]["health"] == "ok"


def test_the_install_shows_the_recovery_key_and_is_undone(seen: dict[str, Any]) -> None:
    """The key is sealed to the host and its recovery key shown once; uninstalling leaves no unit behind."""
    assert "oo1-" in seen["install"]
    assert "/etc/oo-integrations/root.cred" in seen["install"]
    assert "The service is gone" in seen["uninstall"]
    assert not [line for line in seen["units"].splitlines() if line.startswith("oo-integrations") and not line.endswith(".d")]
