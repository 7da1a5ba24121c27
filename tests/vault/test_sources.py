"""The key file is made once, durably, and refused when others could have touched it."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from oo_vault import KeyFileExists, KeyFileRefused, Keyring, add_key, create_key_file, key_text, parse_key, read_key_file

ONE, TWO = bytes([1]) * 32, bytes([2]) * 32


def write(path: Path, text: str, mode: int = 0o400) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


@pytest.fixture(params=[0o022, 0o000, 0o777])
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


def test_create_and_read(tmp_path: Path) -> None:
    """A new key file gives back the ring of its recovery text; file 0400, new folders 0700."""
    path = tmp_path / "new" / "folder" / "vault.key"
    text = create_key_file(path)
    assert read_key_file(path).ids == Keyring([parse_key(text)]).ids
    assert stat.S_IMODE(path.stat().st_mode) == 0o400
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.parent.parent.stat().st_mode) == 0o700


@pytest.mark.usefixtures("umask")
def test_mode_does_not_depend_on_the_umask(tmp_path: Path) -> None:
    """The file is 0400 under every umask."""
    path = tmp_path / "vault.key"
    create_key_file(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o400


def test_create_uses_the_chance_given(tmp_path: Path) -> None:
    """The root key is what the random source gave."""
    assert create_key_file(tmp_path / "vault.key", random=lambda size: bytes([1]) * size) == key_text(ONE)


def test_create_syncs_file_and_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file, its folder, and the folder that holds the new folder are synced before the key is given out."""
    synced: list[int] = []

    def note(handle: int) -> None:
        synced.append(os.fstat(handle).st_ino)

    monkeypatch.setattr("os.fsync", note)
    path = tmp_path / "new" / "vault.key"
    create_key_file(path)
    assert synced == [tmp_path.stat().st_ino, path.stat().st_ino, path.parent.stat().st_ino]


def test_create_never_replaces(tmp_path: Path) -> None:
    """A file that exists, or a link in its place, is left as it is."""
    path = write(tmp_path / "vault.key", "something")
    with pytest.raises(KeyFileExists):
        create_key_file(path)
    assert path.read_text() == "something"
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "nowhere")
    with pytest.raises(KeyFileExists):
        create_key_file(link)


def test_create_leaves_no_half_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the disk fails, no file stays behind and the next try can succeed."""
    path = tmp_path / "vault.key"

    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(OSError, match="No space"):
            create_key_file(path)
    create_key_file(path)


def test_newest_first(tmp_path: Path) -> None:
    """The first line is the newest key; empty lines do not count."""
    ring = read_key_file(write(tmp_path / "vault.key", f"\n{key_text(TWO)}\n\n{key_text(ONE)}\n"))
    assert ring.ids == Keyring([TWO, ONE]).ids


@pytest.mark.rows("C4")
@pytest.mark.parametrize("mode", [0o440, 0o404, 0o420, 0o402, 0o410, 0o644, 0o640, 0o666])
def test_refused_when_open_to_others(tmp_path: Path, mode: int) -> None:
    """A file that group or others can touch is refused with the command that helps."""
    path = write(tmp_path / "vault.key", key_text(ONE), mode)
    with pytest.raises(KeyFileRefused, match=f"mode {mode:04o}.*chmod 0400 {path}"):
        read_key_file(path)


@pytest.mark.parametrize("mode", [0o400, 0o600])
def test_accepted_when_ours_alone(tmp_path: Path, mode: int) -> None:
    """A file that only its owner can touch is read."""
    assert read_key_file(write(tmp_path / "vault.key", key_text(ONE), mode)).ids == Keyring([ONE]).ids


@pytest.mark.rows("C4")
def test_refused_when_somebody_else_owns_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of a user who is neither this one nor root is refused."""
    path = write(tmp_path / "vault.key", key_text(ONE))
    if os.geteuid() == 0:
        os.chown(path, 1234, 0)
    else:
        monkeypatch.setattr("os.geteuid", lambda: path.stat().st_uid + 1)
    with pytest.raises(KeyFileRefused, match="belongs to user"):
        read_key_file(path)


def test_accepted_when_root_owns_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of root is read by another user who was let in."""
    path = write(tmp_path / "vault.key", key_text(ONE))
    if path.stat().st_uid != 0:
        pytest.skip("only root can make a file of root")
    monkeypatch.setattr("os.geteuid", lambda: 1234)
    assert read_key_file(path)


def test_refused_when_missing(tmp_path: Path) -> None:
    """A missing file is refused, never made."""
    with pytest.raises(KeyFileRefused, match=r"no key file.*oo vault init"):
        read_key_file(tmp_path / "vault.key")
    assert not list(tmp_path.iterdir())


def test_refused_when_not_a_regular_file(tmp_path: Path) -> None:
    """A folder, a link and a named pipe are refused, and none holds up the start."""
    link, pipe, folder = tmp_path / "link", tmp_path / "pipe", tmp_path / "folder"
    link.symlink_to(write(tmp_path / "vault.key", key_text(ONE)))
    os.mkfifo(pipe, 0o400)
    folder.mkdir(mode=0o700)
    for path in (link, pipe, folder):
        with pytest.raises(KeyFileRefused, match="Name a regular file"):
            read_key_file(path)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "no key in"),
        ("\n \n", "no key in"),
        (f"{key_text(ONE)}\n\ncanary\n", "Line 3 of .* is not a key"),
        (f"{key_text(ONE)[:-1]}\n", "Line 1 of .* has 56 characters"),
        (f"{key_text(ONE)}\n{key_text(TWO)}\n{key_text(ONE).upper()}\n", "Line 3 of .* is the same key as line 1"),
        ("x" * 70_000, "too large"),
        ("\x00\x00", "Line 1"),
    ],
)
def test_refused_content(tmp_path: Path, text: str, sentence: str) -> None:
    """What is wrong with a file is said with the number of its line and never its content."""
    with pytest.raises(KeyFileRefused, match=sentence) as refused:
        read_key_file(write(tmp_path / "vault.key", text))
    assert "canary" not in str(refused.value)
    assert key_text(ONE)[4:12] not in str(refused.value)


def test_a_new_key_goes_on_top(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that is added becomes the newest; the file stays its owner's and private, and an attempt that was cut off is no hindrance."""
    path = tmp_path / "root.key"
    first = create_key_file(path)
    (tmp_path / ".root.key.new").write_text("half a")
    owners: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "fchown", lambda _, uid, gid: owners.append((uid, gid)))
    second = add_key(path)
    assert path.read_text() == f"{second}\n{first}\n"
    assert path.stat().st_mode & 0o777 == 0o400
    assert owners == [(path.stat().st_uid, path.stat().st_gid)]
    assert [file.name for file in tmp_path.iterdir()] == ["root.key"]


def test_a_file_that_is_refused_gets_no_key(tmp_path: Path) -> None:
    """What could not be read at a start is not added to."""
    path = tmp_path / "root.key"
    path.write_text("no key")
    path.chmod(0o644)
    with pytest.raises(KeyFileRefused):
        add_key(path)
    assert path.read_text() == "no key"
