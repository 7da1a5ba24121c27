"""`oo systemd`: the daemon as a service of this host."""

from __future__ import annotations

import compileall
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import click
import msgspec

from oo_daemon.cli import terminal
from oo_daemon.cli.call import Call, quiet_option
from oo_daemon.cli.terminal import NotDone

CONFIG = """\
# Settings of oO integrations; `oo config example` explains every one.
[places]
state = "/var/lib/oo-integrations"
socket = "/run/oo-integrations/oo.sock"

[public]
# The https:// address of the TLS proxy in front of 127.0.0.1:8710; without it only this host can sign in.
# url = "https://oo.example.org"
"""


@click.group()
def systemd() -> None:
    """Install and remove the service."""


class Host(msgspec.Struct, frozen=True, kw_only=True):
    """A host, or a folder that will become a part of one."""

    root: Path
    said: list[str] = msgspec.field(default_factory=list)

    @property
    def lives(self) -> bool:
        """It is this host, and not a folder that somebody packs."""
        return self.root == Path("/")

    def write(self, place: str, text: str, mode: int = 0o644) -> None:
        """Put a file there."""
        path = self.root / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)
        self.said.append(str(path))

    def differs(self, place: str, text: str) -> bool:
        """There is a file, which says something else."""
        path = self.root / place
        return path.exists() and path.read_text() != text

    def run(self, *command: str, given: bytes | None = None) -> bytes:
        """Run one of systemd's own programs."""
        done = subprocess.run(command, input=given, capture_output=True, check=False)  # noqa: S603 - our own words, no shell
        if done.returncode:
            why = (done.stderr.decode(errors="replace").strip().splitlines() or ["it says nothing"])[-1]
            raise NotDone(f"`{' '.join(command[:3])}` failed ({why})", "mend that and run it again; what is done already is kept")
        return done.stdout


@systemd.command()
@click.option("--root", type=click.Path(path_type=Path), default=Path("/"), help="Write below this folder and run nothing: for packagers.")
@click.option("--command", type=click.Path(path_type=Path), help="The command `oo` that the service runs; by default this one.")
@click.option("--no-start", is_flag=True, help="Install, and start nothing.")
@quiet_option
@click.pass_obj
def install(call: Call, root: Path, command: Path | None, no_start: bool, quiet: bool) -> None:
    """Make the user, the key, the settings and the units, and start the service. Run as root; run again, it renews the units."""
    from oo_systemd import SERVICE, SOCKETS, TIMER, units

    host = Host(root=root)
    command = command or Path(sys.argv[0]).resolve()
    key = Path("etc/oo-integrations/root.key")
    sealed = root / key.with_suffix(".cred")
    recovery = ""
    if host.lives:
        _refuse(command)
        if not ((root / key).exists() or sealed.exists()):
            recovery = _make_key(host, root / key, sealed)
    is_sealed = sealed.exists()
    made = units(command=command, key=Path("/") / (key.with_suffix(".cred") if is_sealed else key), sealed=is_sealed)
    if host.lives and not no_start and any(host.differs(_place(name), made[name]) for name in SOCKETS):
        # All at once, and before the units say otherwise: somebody who knocks at one door would start the service meanwhile, and systemd
        # opens no door of a service that runs. Whatever fails after this, the next time opens them as they are to be.
        host.run("systemctl", "stop", SERVICE, *SOCKETS)
    for name, text in made.items():
        host.write(_place(name), text)
    if not (root / "etc/oo-integrations/oo.toml").exists():
        host.write("etc/oo-integrations/oo.toml", CONFIG)
    if host.lives:
        # Not every installer does it, and the service cannot: it would do it again at each start, and people would wait for that.
        compileall.compile_dir(sysconfig.get_path("purelib"), quiet=2)
        host.run("systemd-sysusers", "/etc/sysusers.d/oo-integrations.conf")
        host.run("systemctl", "daemon-reload")
        if not no_start:
            host.run("systemctl", "enable", *SOCKETS, SERVICE, TIMER)
            host.run("systemctl", "start", *SOCKETS)
            host.run("systemctl", "restart", SERVICE)
            host.run("systemctl", "restart", TIMER)
    if not quiet:
        for line in host.said:
            terminal.show(f"Wrote {line}.")
        if host.lives and not no_start:
            terminal.show("The service runs. `systemctl status oo-integrations` shows it, `journalctl -u oo-integrations` what it says.")
    if recovery:
        terminal.show("Keep this recovery key elsewhere; it is not shown again, and without it backups are worthless:")
        terminal.show("")
        terminal.show_link(recovery)


@systemd.command()
@click.option("--root", type=click.Path(path_type=Path), default=Path("/"), help="Remove below this folder and run nothing.")
@quiet_option
def uninstall(root: Path, quiet: bool) -> None:
    """Stop the service and remove its units. Key, settings and data stay."""
    from oo_systemd import PLACES, SERVICE, SOCKETS, TIMER

    host = Host(root=root)
    if host.lives:
        if os.geteuid() != 0:
            raise NotDone("only root may remove a service", "run it with sudo")
        if (root / PLACES[SERVICE]).exists():
            host.run("systemctl", "disable", "--now", TIMER, SERVICE, *SOCKETS)
    for place in PLACES.values():
        (root / place).unlink(missing_ok=True)
    if host.lives:
        host.run("systemctl", "daemon-reload")
    if not quiet:
        terminal.show("The service is gone. Left for you: /etc/oo-integrations (key and settings) and /var/lib/oo-integrations (data).")


def _place(name: str) -> str:
    from oo_systemd import PLACES

    return PLACES[name]


def _refuse(command: Path) -> None:
    """Say before anything is changed what would keep the service from running."""
    if os.geteuid() != 0:
        raise NotDone("only root may install a service", "run it with sudo")
    if not Path("/run/systemd/system").is_dir():
        raise NotDone("systemd does not run this host", "start `oo run` in your own way, or write the units elsewhere with --root")
    for folder in (Path("/root"), Path("/home"), Path("/tmp")):  # noqa: S108 - the unit has its own
        if folder in command.parents or folder in Path(sys.prefix).resolve().parents:
            raise NotDone(f"the service could not read {command}, since it does not see {folder}", "install oO into /opt/oo-integrations")


def _make_key(host: Host, key: Path, sealed: Path) -> str:
    """Make the root key, sealed to this host where systemd can do that; gives the recovery key."""
    from oo_systemd import CREDENTIAL
    from oo_vault import create_key_file

    key.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    if shutil.which("systemd-creds") is None:
        recovery = create_key_file(key)
        host.said.append(str(key))
        return recovery
    with tempfile.TemporaryDirectory(dir="/run") as memory:  # the plain key touches no disk
        plain = Path(memory) / "key"
        recovery = create_key_file(plain)
        host.run("systemd-creds", "encrypt", f"--name={CREDENTIAL}", str(plain), str(sealed))
    sealed.chmod(0o400)
    host.said.append(str(sealed))
    return recovery
