"""The vault: secrets that do not print, sealing bound to a place, keys, and the refresh protocol.

A leaf: it imports nothing else of ours, knows no database and no HTTP, and has its time and chance handed in.
"""

from oo_vault.backup import PART, read_backup, write_backup
from oo_vault.box import signed_by
from oo_vault.context import CREDENTIAL, Context
from oo_vault.credential import CredentialRow, Intent, Rows, State, digest
from oo_vault.errors import (
    BundleOnly,
    ClientBroken,
    CredentialGone,
    FormatUnknown,
    KeyFileExists,
    KeyFileRefused,
    KeyMistyped,
    KeysUnreachable,
    KeyUnknown,
    LeaseLost,
    SignInNeeded,
    Tampered,
    TryLater,
    VaultError,
    VersionMoved,
    WrongKey,
)
from oo_vault.exchange import Answer, ClientRefused, Exchange, GrantDead, NotSent, Renewed, Rotation, Unclear
from oo_vault.grant import Grant
from oo_vault.keyring import Keyring, Sealed
from oo_vault.recovery import key_text, parse_key
from oo_vault.refresh import Chance, Clock, Refresher
from oo_vault.secret import Secret, watch_secrets
from oo_vault.sources import add_key, create_key_file, parse_key_lines, read_bundle_file, read_key_file, write_bundle
from oo_vault.wrapped import Wraps, create_wrapped_key, key_context, read_wrapped_keys

__all__ = [
    "CREDENTIAL",
    "PART",
    "Answer",
    "BundleOnly",
    "Chance",
    "ClientBroken",
    "ClientRefused",
    "Clock",
    "Context",
    "CredentialGone",
    "CredentialRow",
    "Exchange",
    "FormatUnknown",
    "Grant",
    "GrantDead",
    "Intent",
    "KeyFileExists",
    "KeyFileRefused",
    "KeyMistyped",
    "KeyUnknown",
    "Keyring",
    "KeysUnreachable",
    "LeaseLost",
    "NotSent",
    "Refresher",
    "Renewed",
    "Rotation",
    "Rows",
    "Sealed",
    "Secret",
    "SignInNeeded",
    "State",
    "Tampered",
    "TryLater",
    "Unclear",
    "VaultError",
    "VersionMoved",
    "Wraps",
    "WrongKey",
    "add_key",
    "create_key_file",
    "create_wrapped_key",
    "digest",
    "key_context",
    "key_text",
    "parse_key",
    "parse_key_lines",
    "read_backup",
    "read_bundle_file",
    "read_key_file",
    "read_wrapped_keys",
    "signed_by",
    "watch_secrets",
    "write_backup",
    "write_bundle",
]
