"""The keyring: the newest root key seals, every one opens."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from oo_vault.box import IngressKey, OnlySeals, Refused, RootKey
from oo_vault.context import Context
from oo_vault.errors import BundleOnly, KeyMistyped, KeyUnknown, Tampered, WrongKey

_KNOWN_CONTEXT = Context(purpose="known answer")
_KNOWN_PLAIN = b"oO: the key fits"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """A ciphertext and the id of the key that made it."""

    key_id: str
    blob: bytes = field(repr=False)


class _Ring(msgspec.Struct, frozen=True):
    """Keys by id, and the one that seals. Replaced as a whole, so that no thread sees half of a change."""

    keys: Mapping[str, IngressKey]
    newest: IngressKey


class Keyring:
    """Root keys, newest first.

    `seal` and `open` are for credentials (sealed box and MAC); `wrap` and `unwrap` for what an ingress process must read
    itself: webhook secrets, PKCE verifiers, client secrets (symmetric).
    """

    def __init__(self, roots: Sequence[bytes]) -> None:
        self._hold([RootKey(root) for root in roots])

    @classmethod
    def of_bundles(cls, bundles: Sequence[bytes]) -> "Keyring":
        """The ring of an ingress process: it seals credentials and cannot open them."""
        ring = cls.__new__(cls)
        ring._hold([IngressKey(bundle) for bundle in bundles])
        return ring

    def _hold(self, keys: Sequence[IngressKey]) -> None:
        if not keys:
            raise ValueError("A keyring holds at least one key.")
        by_id = {key.key_id: key for key in keys}
        if len(by_id) != len(keys):
            raise KeyMistyped("The same key is in the ring twice.", "Give each key once, newest first.")
        self._ring = _Ring(by_id, keys[0])

    def __repr__(self) -> str:
        return f"Keyring({', '.join(self.ids)})"

    @property
    def newest(self) -> IngressKey:
        """The key that seals."""
        return self._ring.newest

    @property
    def only_seals(self) -> bool:
        """Whether it is that of an ingress process."""
        return not isinstance(self.newest, RootKey)

    @property
    def bundles(self) -> tuple[bytes, ...]:
        """What an ingress process is given, newest key first."""
        return tuple(key.bundle for key in self._ring.keys.values() if isinstance(key, RootKey))

    @property
    def ids(self) -> tuple[str, ...]:
        """The key ids, newest first."""
        return tuple(self._ring.keys)

    def take(self, other: "Keyring") -> None:
        """Go on with the keys of another ring: whoever seals next does it with the newest of those."""
        self._ring = other._ring

    def drop(self, key_id: str) -> None:
        """Open nothing more with an older key."""
        ring = self._ring
        if key_id == ring.newest.key_id:
            raise ValueError("The newest key seals; it cannot be dropped.")
        self._ring = _Ring({id_: key for id_, key in ring.keys.items() if id_ != key_id}, ring.newest)

    def seal(self, context: Context, plain: bytes) -> Sealed:
        """Seal a credential for this place with the newest key."""
        key = self.newest
        return Sealed(key_id=key.key_id, blob=key.seal(context.encode(key.key_id), plain))

    def open(self, context: Context, sealed: Sealed) -> bytes:
        """Open a credential.

        `KeyUnknown` if its key is not in the ring; `Tampered` if it was not sealed for this place; `BundleOnly` in an ingress process.
        """
        return self._opened(self._key(sealed).open, context, sealed)

    def wrap(self, context: Context, plain: bytes) -> Sealed:
        """Encrypt for this place with the newest ingress key."""
        key = self.newest
        return Sealed(key_id=key.key_id, blob=key.wrap(context.encode(key.key_id), plain))

    def unwrap(self, context: Context, sealed: Sealed) -> bytes:
        """Decrypt what `wrap` gave. Raises as `open` does."""
        return self._opened(self._key(sealed).unwrap, context, sealed)

    def key(self, key_id: str) -> IngressKey | None:
        """The key with this id, if it is in the ring."""
        return self._ring.keys.get(key_id)

    def log_tag(self, text: str) -> str:
        """Give a short keyed hash that stands for an id in logs; another after a new key."""
        return self.newest.tag(text)

    def known_answer(self) -> Sealed:
        """Give a value to keep in the database, by which a later start knows that it has the right keys."""
        return self.seal(_KNOWN_CONTEXT, _KNOWN_PLAIN)

    def check(self, known_answer: Sealed) -> None:
        """Raise `WrongKey` unless this ring knows the known answer."""
        key = self.key(known_answer.key_id)
        if key is None or not key.knows(_KNOWN_CONTEXT.encode(key.key_id), known_answer.blob, _KNOWN_PLAIN):
            raise WrongKey(
                f"The database was sealed with key {known_answer.key_id}, and the keys given ({', '.join(self.ids)}) do not open it.",
                "Give the key file or the recovery key of this database; a new key cannot open it.",
            )

    def _key(self, sealed: Sealed) -> IngressKey:
        try:
            return self._ring.keys[sealed.key_id]
        except KeyError:
            raise KeyUnknown(
                f"A row was sealed with key {sealed.key_id}, which is not among the keys given ({', '.join(self.ids)}).",
                "Add that key below the newest one in the key file.",
            ) from None

    @staticmethod
    def _opened(opener: Callable[[bytes, bytes], bytes], context: Context, sealed: Sealed) -> bytes:
        try:
            return opener(context.encode(sealed.key_id), sealed.blob)
        except OnlySeals:
            raise BundleOnly from None
        except Refused:
            raise Tampered(
                f"The {context.purpose} of connection {context.connection or '(none)'} was not sealed for this place: "
                "it was moved, changed or forged.",
                "Find out who wrote to the database; then restore the row or ask its owner to connect again.",
            ) from None
