"""What can go wrong with secrets, named after what the caller does next.

Every message is one sentence and the remedy. No message holds a secret, nor a line of a key file.
"""


class VaultError(Exception):
    """A sentence and its remedy; `str()` gives both."""

    def __init__(self, sentence: str, remedy: str) -> None:
        super().__init__(sentence, remedy)
        self.sentence = sentence
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.sentence} {self.remedy}"


class KeyMistyped(VaultError):
    """A text is not a root key: type it again."""


class KeyFileRefused(VaultError):
    """The key file is missing, open to others or unreadable: put it right, then start again."""


class KeyFileExists(VaultError):
    """There is a key file already: keep it; nothing was written."""


class KeysUnreachable(VaultError):
    """What keeps the keys cannot be asked: a daemon that runs goes on, one that starts does not."""


class WrongKey(VaultError):
    """The keys given are not the keys of this database: find the right one; never make a new one."""


class KeyUnknown(VaultError):
    """One row was sealed with a key that is not in the ring: add that key."""


class Tampered(VaultError):
    """A sealed row was moved, changed or forged: trust nothing in it."""


class BundleOnly(VaultError):
    """The keys are those of an ingress process: they seal, and cannot open what is sealed."""

    def __init__(self) -> None:
        super().__init__("This process holds an ingress bundle, which opens no credential.", "Ask a daemon of the role worker or all.")


class FormatUnknown(VaultError):
    """What was sealed is in no format of this version: run a newer one."""


class SignInNeeded(VaultError):
    """The grant is gone: pause the connection and ask its owner."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"The grant no longer works: {reason}.", "Ask the owner of the connection to connect again.")
        self.reason = reason


class TryLater(VaultError):
    """Nothing is wrong for long: call again in `after` seconds."""

    def __init__(self, reason: str, after: float) -> None:
        super().__init__(f"The grant could not be renewed now: {reason}.", f"Try again in {after:.0f} s.")
        self.reason = reason
        self.after = after


class ClientBroken(VaultError):
    """The provider refuses our registration: stop its refreshes and tell the operator; grants are untouched."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"The provider refuses this registration: {reason}.", "Check its client id and client secret.")
        self.reason = reason


class LeaseLost(VaultError):
    """Somebody else holds the lease now: stop, they go on."""

    def __init__(self, connection: str) -> None:
        super().__init__(f"The lease on the credential of {connection} has passed to another owner.", "Read it again.")


class VersionMoved(VaultError):
    """The credential was replaced meanwhile: read it again and use the new one."""

    def __init__(self, connection: str) -> None:
        super().__init__(f"The credential of {connection} was replaced meanwhile.", "Read it again.")


class CredentialGone(VaultError):
    """There is no credential for this connection, or no longer: stop using it."""

    def __init__(self, connection: str) -> None:
        super().__init__(f"Connection {connection} has no credential.", "Connect it first.")
