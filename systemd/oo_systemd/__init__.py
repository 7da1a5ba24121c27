"""The units, as files beside this one: what `oo systemd install` writes, and packagers take.

Two places in them differ from host to host: the command, and where the root key comes from.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import Final

#: Where each file belongs on a host.
PLACES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "oo-integrations.socket": "etc/systemd/system/oo-integrations.socket",
        "oo-integrations-private.socket": "etc/systemd/system/oo-integrations-private.socket",
        "oo-integrations.service": "etc/systemd/system/oo-integrations.service",
        "oo-integrations-backup.service": "etc/systemd/system/oo-integrations-backup.service",
        "oo-integrations-backup.timer": "etc/systemd/system/oo-integrations-backup.timer",
        "oo-integrations.sysusers": "etc/sysusers.d/oo-integrations.conf",
    }
)
SERVICE: Final = "oo-integrations.service"
SOCKETS: Final = ("oo-integrations.socket", "oo-integrations-private.socket")
TIMER: Final = "oo-integrations-backup.timer"
#: Name of the root key among the unit's credentials; `vault.key_file` looks for it there.
CREDENTIAL: Final = "oo-root-key"
#: As they stand in the files.
COMMAND: Final = "/opt/oo-integrations/bin/oo"
SEALED_KEY: Final = f"LoadCredentialEncrypted={CREDENTIAL}:/etc/oo-integrations/root.cred"


def units(*, command: Path, key: Path, sealed: bool) -> dict[str, str]:
    """Every file, by its name, for this host. `sealed`: the key file was encrypted by systemd-creds."""
    load = f"LoadCredential{'Encrypted' if sealed else ''}={CREDENTIAL}:{key}"
    return {name: files(__name__).joinpath(name).read_text().replace(COMMAND, str(command)).replace(SEALED_KEY, load) for name in PLACES}
