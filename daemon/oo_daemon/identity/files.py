"""Files of identity's: the secret of our client at the issuer, and the keys of the product's tickets."""

from __future__ import annotations

from pathlib import Path

import msgspec

from oo_config import ConfigError, Problem
from oo_daemon.identity.jose import PublicKeys
from oo_vault import Secret


def secret(path: Path) -> Secret | None:
    """The secret in a file; None where there is no file. Raises `ConfigError`."""
    try:
        if path.stat().st_mode & 0o077:
            raise _wrong("identity.client_secret_file", f"Others can read {path}.", f"Run chmod 400 {path}.")
        text = path.read_text().strip()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError):
        raise _wrong("identity.client_secret_file", f"{path} cannot be read.", "Make it a text file of the daemon's user.") from None
    if not text.isprintable() or not text:
        raise _wrong("identity.client_secret_file", f"{path} holds no secret.", "Write the secret into it, on one line.")
    return Secret(text)


def public_keys(path: Path) -> PublicKeys:
    """The keys in a file (RFC 7517). Raises `ConfigError`."""
    try:
        found = PublicKeys.of(msgspec.json.decode(path.read_bytes(), type=dict))
    except OSError:
        raise _wrong("identity.ticket_keys", f"{path} cannot be read.", "Write the public keys of the product's tickets into it.") from None
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise _wrong("identity.ticket_keys", f"{path} is no key set.", 'It looks like {"keys": [{"kty": "OKP", …}]}.') from None
    if not found.by_id:
        raise _wrong("identity.ticket_keys", f"{path} has no key for signatures.", "RSA (2048 bits and more), EC and OKP keys count.")
    return found


def _wrong(place: str, sentence: str, remedy: str) -> ConfigError:
    return ConfigError((Problem(place=place, sentence=sentence, remedy=remedy),))
