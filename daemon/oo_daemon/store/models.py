"""The tables as peewee models, unbound: queries are executed on the database they are given. Rows leave this folder only as values."""

from __future__ import annotations

from peewee import BlobField, IntegerField, Model, TextField


class Table(Model):
    """What all tables share."""

    class Meta:
        """Index names come from the table's name, so that two tables cannot claim one."""

        legacy_table_names = False


class VaultKey(Table):
    """A key that this database was sealed with, and its known answer."""

    key_id = TextField(primary_key=True)
    known_answer = BlobField()
    created_at = IntegerField()
    rotating_since = IntegerField(null=True)

    class Meta:
        """Peewee's settings."""

        table_name = "vault_key"


class RegistrationRow(Table):
    """Our OAuth client at a provider."""

    id = TextField(primary_key=True)
    provider = TextField()
    client_id = TextField()
    key_id = TextField()
    secrets = BlobField()
    secret_count = IntegerField()
    created_at = IntegerField()

    class Meta:
        """Peewee's settings."""

        table_name = "registration"


class ConnectionRow(Table):
    """One user's link to one provider."""

    number = IntegerField(primary_key=True)
    id = TextField()
    user = TextField()
    provider = TextField()
    account = TextField()
    registration = TextField(null=True)
    state = TextField()
    reason = TextField()
    provider_account = TextField()
    label = TextField()
    scopes = TextField()
    meta = TextField()
    created_at = IntegerField()
    signed_in_at = IntegerField(default=0)
    changed_at = IntegerField()
    version = IntegerField()

    class Meta:
        """Peewee's settings."""

        table_name = "connection"


class CredentialTable(Table):
    """What a provider gave us, sealed."""

    connection = IntegerField(primary_key=True)
    key_id = TextField()
    sealed = BlobField()
    token_version = IntegerField()
    expires_at = IntegerField(null=True)
    state = TextField()
    intent_digest = TextField(null=True)
    intent_at = IntegerField(null=True)
    intent_tries = IntegerField()
    reserve = BlobField(null=True)
    lease_owner = TextField(null=True)
    lease_until = IntegerField(null=True)
    fence = IntegerField()

    class Meta:
        """Peewee's settings."""

        table_name = "credential"


class FlowRow(Table):
    """One sign-in under way."""

    id = TextField(primary_key=True)
    link_hash = BlobField(null=True)
    state_hash = BlobField(null=True)
    browser_hash = BlobField(null=True)
    registration = TextField(null=True)
    provider = TextField()
    user = TextField()
    account = TextField()
    key_id = TextField()
    sealed = BlobField(null=True)
    redirect_uri = TextField()
    scopes = TextField()
    asked = TextField()
    return_to = TextField()
    account_found = TextField()
    status = TextField()
    reason = TextField()
    connection = TextField(null=True)
    proved = TextField(default="")
    device = IntegerField(default=0)
    poll_at = IntegerField(null=True)
    created_at = IntegerField()
    expires_at = IntegerField()

    class Meta:
        """Peewee's settings."""

        table_name = "flow"


class OutboxRow(Table):
    """One event at its position."""

    position = IntegerField(primary_key=True)
    stream = IntegerField()
    connection = IntegerField()
    user = TextField()
    type = TextField()
    key = TextField(null=True)
    body = BlobField()
    accepted_at = IntegerField()

    class Meta:
        """Peewee's settings."""

        table_name = "outbox"
