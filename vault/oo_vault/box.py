"""The cryptography, and the only door to libsodium.

A sealed box alone has no sender and no associated data: who has the public key and can write the table could forge a row,
or move one. So each carries a MAC, keyed with a secret that the writer of a table lacks, over the ciphertext and its context.
What is symmetric (the ingress key) uses XChaCha20-Poly1305, which binds the context by itself.
"""

import hashlib
import hmac
from collections.abc import Iterable, Iterator
from typing import Never

from nacl import bindings
from nacl.exceptions import BadSignatureError, CryptoError
from nacl.public import PrivateKey, PublicKey, SealedBox
from nacl.secret import Aead
from nacl.signing import VerifyKey

ROOT_SIZE = 32  #: bytes of a root key
BUNDLE_SIZE = 4 * 32 + 4  #: bytes of what an ingress process is given: public key, three shared keys, key id

_FORMAT = b"\x01"
_MAC_SIZE = 32
_LAST = bindings.crypto_secretstream_xchacha20poly1305_TAG_FINAL
_AEAD_LEAST = Aead.NONCE_SIZE + Aead.MACBYTES


class Refused(Exception):
    """The ciphertext is not what this key made for this context. Says nothing more, on purpose."""


class OnlySeals(Exception):
    """The key is that of an ingress process, which cannot do this."""


class IngressKey:
    """What an ingress process is given of a root key: it seals, wraps and unwraps. What it has sealed it cannot open, nor make backups."""

    __slots__ = ("_ingress", "_log", "_mac", "_sealing", "key_id")

    def __init__(self, bundle: bytes) -> None:
        if len(bundle) != BUNDLE_SIZE:
            raise ValueError(f"A bundle is {BUNDLE_SIZE} bytes.")
        public, self._mac, ingress, self._log = (bundle[start : start + 32] for start in range(0, 128, 32))
        self._sealing = SealedBox(PublicKey(public))
        self._ingress = Aead(ingress)
        self.key_id = bundle[128:].hex()  #: 8 hex digits; says nothing about the key

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.key_id})"

    def __reduce_ex__(self, _protocol: object) -> Never:
        raise TypeError("A key cannot be pickled.")

    def knows(self, context: bytes, blob: bytes, plain: bytes) -> bool:
        """Say whether this key has sealed the plain text for this context; without the private key, whether it was this key."""
        return blob[:1] == _FORMAT and hmac.compare_digest(blob[1 : 1 + _MAC_SIZE], self._authenticate(context, blob[1 + _MAC_SIZE :]))

    def open(self, context: bytes, blob: bytes) -> bytes:
        """Raises `OnlySeals`."""
        raise OnlySeals

    def seal_stream(self, context: bytes, parts: Iterable[bytes]) -> Iterator[bytes]:
        """Raises `OnlySeals`."""
        raise OnlySeals

    def open_stream(self, context: bytes, header: bytes, blocks: Iterable[bytes]) -> Iterator[bytes]:
        """Raises `OnlySeals`."""
        raise OnlySeals

    def link(self, chain: bytes) -> bytes:
        """Raises `OnlySeals`."""
        raise OnlySeals

    def seal(self, context: bytes, plain: bytes) -> bytes:
        """Seal for the private key: format byte, MAC, sealed box."""
        box = self._sealing.encrypt(plain)
        return _FORMAT + self._authenticate(context, box) + box

    def wrap(self, context: bytes, plain: bytes) -> bytes:
        """Encrypt with the ingress key: format byte, nonce, ciphertext and tag."""
        return _FORMAT + bytes(self._ingress.encrypt(plain, context))

    def unwrap(self, context: bytes, blob: bytes) -> bytes:
        """Decrypt what `wrap` gave, if it was made for this context; else `Refused`."""
        if blob[:1] != _FORMAT or len(blob) < 1 + _AEAD_LEAST:
            raise Refused
        try:
            return self._ingress.decrypt(blob[1:], context)
        except CryptoError:
            raise Refused from None

    def tag(self, text: str) -> str:
        """Give 12 hex digits that stand for a text in logs and cannot be found by trying texts."""
        return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), key=self._log, digest_size=6).hexdigest()

    def _authenticate(self, context: bytes, box: bytes) -> bytes:
        mac = hashlib.blake2b(key=self._mac, digest_size=_MAC_SIZE, person=b"oo credential 1")
        for part in (context, box):
            mac.update(len(part).to_bytes(8, "big"))
            mac.update(part)
        return mac.digest()


class RootKey(IngressKey):
    """All that one root key gives. The root key itself is not kept."""

    __slots__ = ("_audit", "_backup", "_bundle", "_opening")

    def __init__(self, root: bytes) -> None:
        if len(root) != ROOT_SIZE:
            raise ValueError(f"A root key is {ROOT_SIZE} bytes.")
        private = PrivateKey.from_seed(_derive(root, b"oo sealing 1"))
        shared = (_derive(root, name) for name in (b"oo mac 1", b"oo ingress 1", b"oo log 1"))
        self._bundle = b"".join((bytes(private.public_key), *shared, _derive(root, b"oo key id 1", 4)))
        super().__init__(self._bundle)
        self._opening = SealedBox(private)
        self._audit = _derive(root, b"oo audit 1")
        self._backup = _derive(root, b"oo backup 1")

    @property
    def bundle(self) -> bytes:
        """What an ingress process is given."""
        return self._bundle

    def knows(self, context: bytes, blob: bytes, plain: bytes) -> bool:
        """Say whether this key has sealed the plain text for this context."""
        try:
            return self.open(context, blob) == plain
        except Refused:
            return False

    def open(self, context: bytes, blob: bytes) -> bytes:
        """Open what `seal` gave, if it was made for this context; else `Refused`."""
        mac, box = blob[1 : 1 + _MAC_SIZE], blob[1 + _MAC_SIZE :]
        if blob[:1] != _FORMAT or not hmac.compare_digest(mac, self._authenticate(context, box)):
            raise Refused
        try:
            return self._opening.decrypt(box)
        except CryptoError:
            raise Refused from None

    def seal_stream(self, context: bytes, parts: Iterable[bytes]) -> Iterator[bytes]:
        """Encrypt a long text part by part (libsodium's secretstream); gives a header first, and then one block for each part.

        No block can be changed, left out, doubled or moved, and the last one says that it is the last.
        """
        state = bindings.crypto_secretstream_xchacha20poly1305_state()
        yield bindings.crypto_secretstream_xchacha20poly1305_init_push(state, self._backup)
        held: bytes | None = None
        for part in parts:
            if held is not None:
                yield bindings.crypto_secretstream_xchacha20poly1305_push(state, held, context)
            held = part
        yield bindings.crypto_secretstream_xchacha20poly1305_push(state, held or b"", context, _LAST)

    def open_stream(self, context: bytes, header: bytes, blocks: Iterable[bytes]) -> Iterator[bytes]:
        """Decrypt what `seal_stream` gave. Raises `Refused` where a block is not the next one, and where the last one is missing."""
        state = bindings.crypto_secretstream_xchacha20poly1305_state()
        kind = 0
        try:
            bindings.crypto_secretstream_xchacha20poly1305_init_pull(state, header, self._backup)
            for block in blocks:
                part, kind = bindings.crypto_secretstream_xchacha20poly1305_pull(state, block, context)
                yield part
        except (CryptoError, ValueError, TypeError):
            raise Refused from None
        if kind != _LAST:
            raise Refused

    def link(self, chain: bytes) -> bytes:
        """Give the 32 bytes that vouch for a chain of entries up to here, and that only this key can make."""
        return hashlib.blake2b(chain, key=self._audit, digest_size=_MAC_SIZE, person=b"oo audit 1").digest()


def _derive(root: bytes, name: bytes, size: int = 32) -> bytes:
    # One key per use: keyed BLAKE2b, told apart by the personalisation (at most 16 bytes).
    return hashlib.blake2b(key=root, digest_size=size, person=name).digest()


def signed_by(public: bytes, message: bytes, signature: bytes) -> bool:
    """Say whether an Ed25519 signature over a message is by the private key of this public one. No bytes make it raise."""
    try:
        VerifyKey(public).verify(message, signature)
    except (BadSignatureError, ValueError, TypeError):
        return False
    return True
