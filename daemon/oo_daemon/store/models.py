"""The tables as peewee models, unbound: queries are executed on the database they are given. Rows leave this folder only as values."""

from __future__ import annotations

from oo_daemon.store.orm import peewee


class Table(peewee.Model):
    """What all tables share."""

    class Meta:
        """Index names come from the table's name, so that two tables cannot claim one."""

        legacy_table_names = False


class VaultKey(Table):
    """A key that this database was sealed with, and its known answer."""

    key_id = peewee.TextField(primary_key=True)
    known_answer = peewee.BlobField()
    created_at = peewee.IntegerField()
    rotating_since = peewee.IntegerField(null=True)

    class Meta:
        """Peewee's settings."""

        table_name = "vault_key"


class RegistrationRow(Table):
    """Our OAuth client at a provider."""

    id = peewee.TextField(primary_key=True)
    provider = peewee.TextField()
    client_id = peewee.TextField()
    key_id = peewee.TextField()
    secrets = peewee.BlobField()
    secret_count = peewee.IntegerField()
    created_at = peewee.IntegerField()

    class Meta:
        """Peewee's settings."""

        table_name = "registration"


class ConnectionRow(Table):
    """One user's link to one provider."""

    number = peewee.IntegerField(primary_key=True)
    id = peewee.TextField()
    user = peewee.TextField()
    provider = peewee.TextField()
    account = peewee.TextField()
    registration = peewee.TextField(null=True)
    state = peewee.TextField()
    reason = peewee.TextField()
    provider_account = peewee.TextField()
    label = peewee.TextField()
    scopes = peewee.TextField()
    meta = peewee.TextField()
    created_at = peewee.IntegerField()
    signed_in_at = peewee.IntegerField(default=0)
    changed_at = peewee.IntegerField()
    version = peewee.IntegerField()

    class Meta:
        """Peewee's settings."""

        table_name = "connection"


class CredentialTable(Table):
    """What a provider gave us, sealed."""

    connection = peewee.IntegerField(primary_key=True)
    key_id = peewee.TextField()
    sealed = peewee.BlobField()
    token_version = peewee.IntegerField()
    expires_at = peewee.IntegerField(null=True)
    state = peewee.TextField()
    intent_digest = peewee.TextField(null=True)
    intent_at = peewee.IntegerField(null=True)
    intent_tries = peewee.IntegerField()
    reserve = peewee.BlobField(null=True)
    lease_owner = peewee.TextField(null=True)
    lease_until = peewee.IntegerField(null=True)
    fence = peewee.IntegerField()

    class Meta:
        """Peewee's settings."""

        table_name = "credential"


class FlowRow(Table):
    """One sign-in under way."""

    id = peewee.TextField(primary_key=True)
    link_hash = peewee.BlobField(null=True)
    state_hash = peewee.BlobField(null=True)
    browser_hash = peewee.BlobField(null=True)
    registration = peewee.TextField(null=True)
    provider = peewee.TextField()
    user = peewee.TextField()
    account = peewee.TextField()
    key_id = peewee.TextField()
    sealed = peewee.BlobField(null=True)
    redirect_uri = peewee.TextField()
    scopes = peewee.TextField()
    asked = peewee.TextField()
    return_to = peewee.TextField()
    account_found = peewee.TextField()
    status = peewee.TextField()
    reason = peewee.TextField()
    connection = peewee.TextField(null=True)
    proved = peewee.TextField(default="")
    device = peewee.IntegerField(default=0)
    poll_at = peewee.IntegerField(null=True)
    created_at = peewee.IntegerField()
    expires_at = peewee.IntegerField()

    class Meta:
        """Peewee's settings."""

        table_name = "flow"


class OutboxRow(Table):
    """One event at its position."""

    position = peewee.IntegerField(primary_key=True)
    stream = peewee.IntegerField()
    connection = peewee.IntegerField()
    user = peewee.TextField()
    type = peewee.TextField()
    key = peewee.TextField(null=True)
    body = peewee.BlobField()
    accepted_at = peewee.IntegerField()

    class Meta:
        """Peewee's settings."""

        table_name = "outbox"
