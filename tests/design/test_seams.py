"""Time, chance, network, disk and process ids come in by the door (G1)."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
#: Rooms whose behaviour a simulation must own whole.
HUB = "daemon/oo_daemon"
ROOMS = (
    "vault/oo_vault",
    *(f"{HUB}/{room}" for room in ("store", "sync", "outbox", "privacy", "connections") if (ROOT / HUB / room).is_dir()),
)
BANNED_MODULES = {
    "time",
    "random",
    "secrets",
    "uuid",
    "socket",
    "subprocess",
    "multiprocessing",
    "ssl",
    "shutil",
    "tempfile",
    "io",
    "signal",
}
BANNED_CALLS = {
    "asyncio.sleep",
    "datetime.now",
    "datetime.utcnow",
    "datetime.today",
    "date.today",
    "os.getpid",
    "os.getppid",
    "os.kill",
    "os.fork",
    "os.urandom",
    "os.getrandom",
    "os.open",
    "asyncio.open_connection",
    "asyncio.start_server",
    "asyncio.create_subprocess_exec",
    "threading.get_native_id",
    "threading.Timer",
    "loop.time",
}
#: Where the door is, and why it is there.
DOORS = {
    ("vault/oo_vault/sources.py", "os.urandom"): "the default of an argument: a new root key",
    ("vault/oo_vault/wrapped.py", "os.urandom"): "the same",
    ("vault/oo_vault/sources.py", "os.open"): "key files: read at the start, with flags that only the system call has",
    (
        "daemon/oo_daemon/privacy/deletions.py",
        "os.open",
    ): "the deletion log, which is handed in: it must outlive the database and is no part of it",
    ("daemon/oo_daemon/connections/uploads.py", "os.open"): "the files that people hand in: their folder is handed in as `Files`",
    ("daemon/oo_daemon/privacy/deletions.py", "Path.read_text"): "the same",
    ("daemon/oo_daemon/privacy/export.py", "tempfile"): "a file that is handed out and removed",
    ("daemon/oo_daemon/store/backup.py", "os.open"): "a copy reaches the disk: SQLite syncs the database, and nobody else the copy",
    ("daemon/oo_daemon/store/lock.py", "os.open"): "the lock beside the database, for the process and not for what is simulated",
    ("daemon/oo_daemon/store/storage.py", "Path.read_text"): "the default of an argument: what is mounted",
    ("daemon/oo_daemon/store/storage.py", "loop.time"): "how long a reader's thread has looked: the simulation has no such thread",
    ("daemon/oo_daemon/sync/act.py", "uuid"): "uuid5 computes and draws nothing",
}


def dotted(node: ast.expr) -> str:
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=value, attr=attr):
            return f"{dotted(value)}.{attr}"
        case _:
            return ""


def offences(path: Path) -> set[tuple[str, str]]:
    where = path.relative_to(ROOT).as_posix()
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Import(names=names):
                found |= {(where, alias.name) for alias in names if alias.name.partition(".")[0] in BANNED_MODULES}
            case ast.ImportFrom(module=str() as module):
                if module.partition(".")[0] in BANNED_MODULES:
                    found.add((where, module))
            case ast.Name(id="open", ctx=ast.Load()):
                found.add((where, "open"))
            case ast.Attribute(attr="read_text" | "read_bytes" | "write_text" | "write_bytes" as method):
                found.add((where, f"Path.{method}"))
            case ast.Attribute(value=ast.Call(func=ast.Name(id="Path")), attr="open"):
                found.add((where, "Path.open"))
            case ast.Attribute():
                name = dotted(node)
                found |= {(where, call) for call in BANNED_CALLS if name == call or name.endswith(f".{call}")}
    return found


@pytest.mark.rows("G1")
@pytest.mark.parametrize("room", ROOMS)
def test_nothing_reads_the_clock_by_itself(room: str) -> None:
    """No module of these rooms reads the clock, sleeps, draws randomness or opens a socket of its own accord."""
    found = {offence for path in sorted((ROOT / room).rglob("*.py")) for offence in offences(path)}
    assert found - set(DOORS) == set()


def test_the_check_sees(tmp_path: Path) -> None:
    """The check finds each kind of offence."""
    path = ROOT / "build" / "offender.py"
    path.parent.mkdir(exist_ok=True)
    path.write_text(
        "import random\nfrom time import sleep\nimport asyncio, datetime, os\nasyncio.sleep(1)\ndatetime.datetime.now()\n"
        "open('x')\nos.open('x', 0)\nos.getpid()\nPath('x').open()\nwhere.read_text()\nasyncio.open_connection('x', 1)\n"
    )
    try:
        assert {what for _, what in offences(path)} == {
            *("random", "time", "asyncio.sleep", "datetime.now"),
            *("open", "os.open", "os.getpid", "Path.open", "Path.read_text", "asyncio.open_connection"),
        }
    finally:
        path.unlink()
