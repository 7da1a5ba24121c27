"""What is sealed opens only in its place, with its key."""

import dataclasses
import itertools
import pickle
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oo_vault import (
    BundleOnly,
    Context,
    KeyFileRefused,
    KeyMistyped,
    Keyring,
    KeyUnknown,
    Sealed,
    Tampered,
    WrongKey,
    key_text,
    read_bundle_file,
    read_key_file,
    write_bundle,
)
from oo_vault.box import OnlySeals, RootKey
from oo_vault.recovery import bundle_text

OLD, NEW, OTHER = bytes(range(32)), bytes(range(32, 64)), bytes(range(64, 96))
PLACE = Context(purpose="credential", connection="c1", user="u1", provider="acme", account="default", token_version=3)


def test_seal_and_open() -> None:
    """A credential opens in its place, and its ciphertext holds none of it."""
    ring = Keyring([OLD])
    sealed = ring.seal(PLACE, b"plain text")
    assert ring.open(PLACE, sealed) == b"plain text"
    assert b"plain" not in sealed.blob
    assert sealed != ring.seal(PLACE, b"plain text")


def test_wrap_and_unwrap() -> None:
    """A webhook secret comes back in its place, and neither opens as the other kind."""
    ring = Keyring([OLD])
    wrapped = ring.wrap(PLACE, b"plain text")
    assert ring.unwrap(PLACE, wrapped) == b"plain text"
    with pytest.raises(Tampered):
        ring.open(PLACE, wrapped)
    with pytest.raises(Tampered):
        ring.unwrap(PLACE, ring.seal(PLACE, b"plain text"))


@pytest.mark.rows("C1", "C2")
@pytest.mark.parametrize("kind", ["seal", "wrap"])
def test_move_integrity_matrix(kind: str) -> None:
    """C1: in a vault of 50 rows no ciphertext opens in the place of another row, column, version or key id."""
    ring = Keyring([NEW, OLD])
    close, opener = (ring.seal, ring.open) if kind == "seal" else (ring.wrap, ring.unwrap)
    places = [
        Context(
            purpose=("credential", "webhook secret")[number % 2],
            connection=f"c{number // 2 % 5}",
            user=f"u{number // 10}",
            provider="acme",
            account="default",
            token_version=number % 3,
        )
        for number in range(50)
    ]
    assert len(set(places)) == 50
    rows = [(place, close(place, b"token")) for place in places]
    opened = 0
    for (place, _), (_, sealed) in itertools.permutations(rows, 2):
        opened += _opens(opener, place, sealed)
    for place, sealed in rows:
        assert opener(place, sealed) == b"token"
        for moved in _neighbours(place):
            opened += _opens(opener, moved, sealed)
        older = Sealed(key_id=ring.ids[1], blob=sealed.blob)
        opened += _opens(opener, place, older)
    assert opened == 0


def _neighbours(place: Context) -> list[Context]:
    """Every place that differs in one field, or has the values of two fields swapped."""
    texts = ["purpose", "connection", "user", "provider", "account"]
    moved = [msgspec.structs.replace(place, **{name: getattr(place, name) + "x"}) for name in texts]
    moved += [msgspec.structs.replace(place, token_version=version) for version in range(5) if version != place.token_version]
    for a, b in itertools.combinations(texts, 2):
        moved.append(msgspec.structs.replace(place, **{a: getattr(place, b), b: getattr(place, a)}))
    return moved


def _opens(opener, place: Context, sealed: Sealed) -> int:  # type: ignore[no-untyped-def]  # open or unwrap
    try:
        opener(place, sealed)
    except Tampered:
        return 0
    return 1


@given(st.lists(st.text(max_size=4), min_size=5, max_size=5), st.lists(st.text(max_size=4), min_size=5, max_size=5))
def test_context_is_unambiguous(one: list[str], other: list[str]) -> None:
    """Different places never encode alike, however the characters are spread over the fields."""

    def encoded(fields: list[str]) -> bytes:
        purpose, connection, user, provider, account = fields
        return Context(purpose=purpose, connection=connection, user=user, provider=provider, account=account).encode("k")

    if "".join(one) != "".join(other):
        other = [*other[:4], other[4] + "".join(one)]
    assert (encoded(one) == encoded(other)) == (one == other)


def test_golden_encoding() -> None:
    """The encoding of a context is fixed: rows sealed by an older version stay readable."""
    place = Context(purpose="p", connection="c", user="ü", provider="", account="a", token_version=258)
    assert place.encode("k1").hex() == ("01000000026b310000000170000000016300000002c3bc000000000000000161000000080000000000000102")


def test_golden_blob() -> None:
    """A row sealed and one wrapped by the first version open, so a change of keys or format is seen here."""
    ring = Keyring([OLD])
    assert ring.ids == ("fd0de83c",)
    assert ring.log_tag("c1") == "3a95a61b50e4"
    sealed = Sealed(
        key_id="fd0de83c",
        blob=bytes.fromhex(
            "01a501e18a504fa517341af74713020c82d7d0e4b453697a0bf5b8fb5f81addd4ac8cea8845851b11798afa1b6154d18ad25cb546dd022e4084fd8bf5f0ff5b0037a5d4e651f7422eed4361f29f38bf5437934b1d93c"
        ),
    )
    assert ring.open(PLACE, sealed) == b"token"
    wrapped = Sealed(
        key_id="fd0de83c",
        blob=bytes.fromhex("015a960ddeed48452a851d53e072ef495a4bf6c007e43e3b29c7feb95e46ea2bef369c4330e476042009ea1c7033"),
    )
    assert ring.unwrap(PLACE, wrapped) == b"token"


@pytest.mark.rows("C2")
def test_forgery_with_the_public_key() -> None:
    """C2: who has the public key and can write the table, and even old rows, gets no row accepted."""
    ring = Keyring([OLD])
    real = ring.seal(PLACE, b"token")
    box = ring.newest._sealing.encrypt(b"token of the attacker")  # all it takes is the public key
    mac = real.blob[1:33]
    for blob in (box, b"\x01" + box, b"\x01" + mac + box, b"\x01" + bytes(32) + box, b"\x01" + mac[:31] + box):
        with pytest.raises(Tampered):
            ring.open(PLACE, Sealed(key_id=real.key_id, blob=blob))


@pytest.mark.rows("C2")
@pytest.mark.parametrize("kind", ["seal", "wrap"])
def test_every_flipped_bit_is_seen(kind: str) -> None:
    """A ciphertext with one bit changed, or cut anywhere, does not open."""
    ring = Keyring([OLD])
    close, opener = (ring.seal, ring.open) if kind == "seal" else (ring.wrap, ring.unwrap)
    sealed = close(PLACE, b"token")
    opened = 0
    for place in range(len(sealed.blob)):
        opened += _opens(opener, PLACE, dataclasses.replace(sealed, blob=sealed.blob[:place]))
        for bit in range(8):
            flipped = bytearray(sealed.blob)
            flipped[place] ^= 1 << bit
            opened += _opens(opener, PLACE, dataclasses.replace(sealed, blob=bytes(flipped)))
    assert opened == 0


def test_newest_seals_and_all_open() -> None:
    """After a new key was added, old rows open and new rows carry the new key's id."""
    old = Keyring([OLD]).seal(PLACE, b"old")
    ring = Keyring([NEW, OLD])
    new = ring.seal(PLACE, b"new")
    assert new.key_id == ring.newest.key_id == ring.ids[0]
    assert old.key_id == ring.ids[1]
    assert ring.open(PLACE, old) == b"old"
    with pytest.raises(KeyUnknown, match=new.key_id):
        Keyring([OLD]).open(PLACE, new)


@pytest.mark.rows("C6")
def test_wrong_key_is_refused() -> None:
    """C6: the known answer opens with its own key, newest or not, and with no other."""
    known = Keyring([OLD]).known_answer()
    Keyring([OLD]).check(known)
    Keyring([NEW, OLD]).check(known)
    with pytest.raises(WrongKey, match=f"{known.key_id}.*do not open it.*recovery key"):
        Keyring([NEW, OTHER]).check(known)
    with pytest.raises(WrongKey):
        Keyring([OLD]).check(dataclasses.replace(known, blob=known.blob[:-1]))


def test_a_ring_has_a_key_and_none_twice() -> None:
    """A ring without keys, or with one key twice, is refused."""
    with pytest.raises(ValueError, match="at least one"):
        Keyring([])
    with pytest.raises(KeyMistyped, match="twice"):
        Keyring([OLD, NEW, OLD])
    with pytest.raises(ValueError, match="32 bytes"):
        Keyring([b"short"])


def test_rings_do_not_print_or_travel() -> None:
    """A ring shows its key ids, and cannot be pickled."""
    ring = Keyring([NEW, OLD])
    assert repr(ring) == f"Keyring({ring.ids[0]}, {ring.ids[1]})"
    assert repr(ring.newest) == f"RootKey({ring.ids[0]})"
    with pytest.raises(TypeError):
        pickle.dumps(ring)
    assert "blob" not in repr(ring.known_answer())


def test_log_tag() -> None:
    """A log tag is short, stable for one key, and different under another."""
    assert Keyring([OLD]).log_tag("c1") == Keyring([OLD]).log_tag("c1")
    assert Keyring([OLD]).log_tag("c1") != Keyring([NEW]).log_tag("c1")
    assert Keyring([OLD]).log_tag("c1") != Keyring([OLD]).log_tag("c2")


def test_one_key_per_use() -> None:
    """The keys derived from a root key differ from each other and from it."""
    key = Keyring([OLD]).newest
    assert isinstance(key, RootKey)
    derived = {key._opening._private_key, key._mac, bytes(key._ingress), key._log, OLD}
    assert len(derived) == 5


@pytest.mark.rows("C1")
def test_an_ingress_process_stores_and_cannot_read(tmp_path: Path) -> None:
    """With the bundle alone it seals what the keys open, wraps and unwraps, and knows the known answer; it opens nothing."""
    ring, path = Keyring([NEW, OLD]), tmp_path / "bundle"
    write_bundle(path, ring)
    write_bundle(path, ring)  # in the place of the one before
    assert path.stat().st_mode & 0o777 == 0o400
    ingress = read_bundle_file(path)
    assert (ingress.ids, ingress.only_seals, ring.only_seals) == (ring.ids, True, False)
    place = Context(purpose="credential", connection="c1")
    sealed = ingress.seal(place, b"canary")
    assert ring.open(place, sealed) == b"canary"
    for mine in (sealed, ring.seal(place, b"canary"), Keyring([OLD]).seal(place, b"canary")):
        with pytest.raises(BundleOnly):
            ingress.open(place, mine)
    assert ingress.unwrap(place, ring.wrap(place, b"hook")) == ring.unwrap(place, ingress.wrap(place, b"hook")) == b"hook"
    assert ingress.log_tag("c1") == ring.log_tag("c1")
    ingress.check(ring.known_answer())
    with pytest.raises(WrongKey):
        ingress.check(Keyring([OTHER]).known_answer())
    key = ingress.newest
    with pytest.raises(OnlySeals):
        key.link(b"")
    with pytest.raises(OnlySeals):
        key.seal_stream(b"", [])
    with pytest.raises(OnlySeals):
        key.open_stream(b"", b"", [])
    assert ingress.bundles == ()


@pytest.mark.rows("C1")
def test_a_bundle_holds_no_private_key(tmp_path: Path) -> None:
    """Neither the root key nor what opens a sealed box is in its bytes, and a key file is no bundle, nor a bundle a key file."""
    key = RootKey(OLD)
    assert key._opening._private_key is not None
    for secret in (OLD, bytes(key._opening._private_key), key._audit, key._backup):
        assert secret not in key.bundle
    with pytest.raises(KeyFileRefused, match="is not a bundle: A bundle begins with oob1-"):
        read_bundle_file(_file(tmp_path, "keys", key_text(OLD)))
    with pytest.raises(KeyFileRefused, match="is not a key: A key begins with oo1-"):
        read_key_file(_file(tmp_path, "bundle", bundle_text(key.bundle)))


def _file(folder: Path, name: str, line: str) -> Path:
    path = folder / name
    path.write_text(line)
    path.chmod(0o400)
    return path
