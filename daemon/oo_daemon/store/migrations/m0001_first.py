"""The first schema: connections and their schedule and credential, sign-ins, the object index, the outbox.

Times are microseconds since 1970, UTC. `connection.number` is internal and small; `connection.id` is the random id that others see.
"""

STATEMENTS = (
    # Which keys this database was ever sealed with, each with a known answer: a wrong key is noticed at the start. And since when all
    # of it is being sealed with one, until it is.
    """CREATE TABLE vault_key (
        key_id TEXT NOT NULL PRIMARY KEY, known_answer {blob} NOT NULL, created_at {int} NOT NULL, rotating_since {int})""",
    # Written to see whether writing works.
    'CREATE TABLE probe (one {int} NOT NULL PRIMARY KEY, "at" {int} NOT NULL)',
    """CREATE TABLE registration (
        id TEXT NOT NULL PRIMARY KEY, provider TEXT NOT NULL, client_id TEXT NOT NULL,
        key_id TEXT NOT NULL, secrets {blob} NOT NULL, secret_count {int} NOT NULL, created_at {int} NOT NULL)""",
    """CREATE TABLE connection (
        number {serial}, id TEXT NOT NULL UNIQUE,
        "user" TEXT NOT NULL, provider TEXT NOT NULL, account TEXT NOT NULL,
        registration TEXT REFERENCES registration (id),
        state TEXT NOT NULL, reason TEXT NOT NULL,
        provider_account TEXT NOT NULL, label TEXT NOT NULL, scopes TEXT NOT NULL, meta TEXT NOT NULL,
        created_at {int} NOT NULL, signed_in_at {int} NOT NULL DEFAULT 0, changed_at {int} NOT NULL, version {int} NOT NULL,
        UNIQUE ("user", provider, account))""",
    "CREATE INDEX connection_by_state ON connection (state, number)",
    "CREATE INDEX connection_by_provider_account ON connection (provider, provider_account)",
    # So that all of them are counted, every few seconds, without a look at any.
    "CREATE INDEX connection_by_provider ON connection (provider, state, created_at)",
    # Truth of the schedule: when a connection is due, and who has the run in progress. What a claim changes is in no index.
    """CREATE TABLE schedule (
        connection {int} NOT NULL PRIMARY KEY REFERENCES connection (number) ON DELETE CASCADE,
        next_run_at {int}, cursor TEXT, generation {int} NOT NULL, tries {int} NOT NULL,
        lease_owner TEXT, lease_until {int}, fence {int} NOT NULL,
        started_at {int}, finished_at {int}, finished_fence {int} NOT NULL, outcome TEXT, detail TEXT, events {int} NOT NULL,
        failed {int} NOT NULL DEFAULT 0,
        not_before {int} NOT NULL DEFAULT 0, shape {int} NOT NULL DEFAULT 1, unmoved {int} NOT NULL DEFAULT 0,
        nudged_at {int}, traceparent TEXT NOT NULL DEFAULT '', pushed_at {int}, stretch {int} NOT NULL DEFAULT 1, timetable TEXT,
        moved_at {int}, trail TEXT, listing_at {int}, listed TEXT) {roomy}""",
    "CREATE INDEX schedule_due ON schedule (next_run_at, connection) WHERE next_run_at IS NOT NULL",
    "CREATE INDEX schedule_failing ON schedule (failed) WHERE failed >= 3",
    # The last runs of each connection, in a ring of slots; the index allows one that has not ended, whatever a program believes.
    """CREATE TABLE run (
        connection {int} NOT NULL REFERENCES connection (number) ON DELETE CASCADE, slot {int} NOT NULL, fence {int} NOT NULL,
        started_at {int} NOT NULL, finished_at {int}, outcome TEXT NOT NULL, detail TEXT NOT NULL, next_run_at {int},
        calls {int} NOT NULL, bytes {int} NOT NULL, pages {int} NOT NULL, events {int} NOT NULL, unreadable {int} NOT NULL,
        PRIMARY KEY (connection, slot)) {compact}""",
    "CREATE UNIQUE INDEX run_live ON run (connection) WHERE finished_at IS NULL",
    # How many calls may still be made to a provider; see store/budgets.py.
    """CREATE TABLE budget (
        id TEXT NOT NULL PRIMARY KEY, tokens {int} NOT NULL, filled_at {int} NOT NULL, closed_until {int} NOT NULL) {compact}""",
    """CREATE TABLE credential (
        connection {int} NOT NULL PRIMARY KEY REFERENCES connection (number) ON DELETE CASCADE,
        key_id TEXT NOT NULL, sealed {blob} NOT NULL, token_version {int} NOT NULL, expires_at {int}, state TEXT NOT NULL,
        intent_digest TEXT, intent_at {int}, intent_tries {int} NOT NULL, reserve {blob},
        lease_owner TEXT, lease_until {int}, fence {int} NOT NULL)""",
    # How often each was used, and where.
    """CREATE TABLE credential_use (
        connection {int} NOT NULL REFERENCES connection (number) ON DELETE CASCADE, hour {int} NOT NULL, host TEXT NOT NULL,
        uses {int} NOT NULL,
        PRIMARY KEY (connection, hour, host)) {compact}""",
    "CREATE INDEX credential_by_key ON credential (key_id)",
    # A sign-in under way; rows outlive it a little, so that its result can be shown.
    """CREATE TABLE flow (
        id TEXT NOT NULL PRIMARY KEY, link_hash {blob} UNIQUE, state_hash {blob} UNIQUE, browser_hash {blob},
        registration TEXT REFERENCES registration (id), provider TEXT NOT NULL, "user" TEXT NOT NULL, account TEXT NOT NULL,
        key_id TEXT NOT NULL, sealed {blob}, redirect_uri TEXT NOT NULL, scopes TEXT NOT NULL, asked TEXT NOT NULL,
        return_to TEXT NOT NULL, account_found TEXT NOT NULL, status TEXT NOT NULL, reason TEXT NOT NULL, connection TEXT,
        proved TEXT NOT NULL DEFAULT '', device {int} NOT NULL DEFAULT 0, poll_at {int},
        created_at {int} NOT NULL, expires_at {int} NOT NULL)""",
    "CREATE INDEX flow_confirmed ON flow (expires_at) WHERE status = 'confirmed'",
    "CREATE INDEX flow_to_poll ON flow (poll_at) WHERE poll_at IS NOT NULL",
    # A person's time on their own page, in one browser, from a one-use link on.
    """CREATE TABLE visit (
        id TEXT NOT NULL PRIMARY KEY, link_hash {blob} UNIQUE, browser_hash {blob}, cookie_hash {blob} UNIQUE, "user" TEXT,
        proved TEXT NOT NULL, erasure TEXT, created_at {int} NOT NULL, expires_at {int} NOT NULL)""",
    # What is promised to be done at a provider, until it is done: actions, and giving grants back.
    """CREATE TABLE job (
        number {serial}, id TEXT NOT NULL UNIQUE, kind TEXT NOT NULL,
        connection {int} NOT NULL REFERENCES connection (number) ON DELETE CASCADE, "key" TEXT NOT NULL,
        body TEXT NOT NULL, state TEXT NOT NULL, result TEXT, reason TEXT NOT NULL, tries {int} NOT NULL, next_try_at {int}, tried_at {int},
        lease_owner TEXT, lease_until {int}, fence {int} NOT NULL, created_at {int} NOT NULL, finished_at {int},
        UNIQUE (kind, connection, "key"))""",
    "CREATE INDEX job_due ON job (next_try_at) WHERE next_try_at IS NOT NULL",
    "CREATE INDEX job_waiting ON job (connection, number) WHERE next_try_at IS NOT NULL",
    # Identity of what can change: the last revision of each object that was ever emitted.
    """CREATE TABLE object (
        connection {int} NOT NULL REFERENCES connection (number) ON DELETE CASCADE, type TEXT NOT NULL, "key" TEXT NOT NULL,
        revision {int} NOT NULL, change {int} NOT NULL, digest {blob} NOT NULL, version TEXT NOT NULL, ordinal {int},
        position {int} NOT NULL, generation {int} NOT NULL,
        PRIMARY KEY (connection, type, "key")) {compact}""",
    # Identity of what merely took place: keys outlive the events.
    """CREATE TABLE occurrence (
        connection {int} NOT NULL REFERENCES connection (number) ON DELETE CASCADE, "key" {blob} NOT NULL, keep_until {int},
        PRIMARY KEY (connection, "key")) {compact}""",
    # The same for occurrences by the million: one row holds the keys of a type and a day, eight bytes each, so that a batch of neighbours
    # reads and writes a few rows in order instead of one random place for each key.
    """CREATE TABLE occurrence_day (
        connection {int} NOT NULL REFERENCES connection (number) ON DELETE CASCADE, type TEXT NOT NULL, day {int} NOT NULL,
        "keys" {blob} NOT NULL, PRIMARY KEY (connection, type, day)) {compact}""",
    # Where webhooks are posted to: the token in the address is known by its hash, and kept sealed to be shown again.
    """CREATE TABLE source (
        id TEXT NOT NULL PRIMARY KEY, provider TEXT NOT NULL,
        registration TEXT UNIQUE REFERENCES registration (id), connection {int} UNIQUE REFERENCES connection (number) ON DELETE CASCADE,
        token_hash {blob} NOT NULL UNIQUE, key_id TEXT NOT NULL, sealed {blob} NOT NULL, secret_count {int} NOT NULL,
        scheme TEXT NOT NULL, enabled {int} NOT NULL, created_at {int} NOT NULL)""",
    # What providers were asked to push, for a while only; and when the subscriptions of a connection are looked at next.
    """CREATE TABLE subscription (
        id TEXT NOT NULL PRIMARY KEY, connection {int} NOT NULL REFERENCES connection (number) ON DELETE CASCADE,
        topic TEXT NOT NULL, handle TEXT NOT NULL, state TEXT NOT NULL,
        changed_at {int} NOT NULL, renew_at {int}, expires_at {int})""",
    "CREATE INDEX subscription_by_connection ON subscription (connection)",
    """CREATE TABLE subscriber (
        connection {int} NOT NULL PRIMARY KEY REFERENCES connection (number) ON DELETE CASCADE,
        look_at {int} NOT NULL, tries {int} NOT NULL, reason TEXT NOT NULL)""",
    "CREATE INDEX subscriber_failing ON subscriber (connection) WHERE tries > 0",
    # The inbox. Its ids outlive its bodies.
    """CREATE TABLE delivery (
        number {serial}, source TEXT NOT NULL REFERENCES source (id) ON DELETE CASCADE, delivery_id TEXT NOT NULL, weak {int} NOT NULL,
        state TEXT NOT NULL, reason TEXT NOT NULL, tries {int} NOT NULL, waiting {int} NOT NULL, next_try_at {int},
        lease_owner TEXT, lease_until {int}, fence {int} NOT NULL,
        headers TEXT NOT NULL, body {blob}, received_at {int} NOT NULL, done_at {int}, replayed_at {int},
        traceparent TEXT NOT NULL DEFAULT '',
        UNIQUE (source, delivery_id))""",
    "CREATE INDEX delivery_due ON delivery (next_try_at, number) WHERE state = 'received'",
    "CREATE INDEX delivery_dead ON delivery (number) WHERE state = 'dead'",
    "CREATE INDEX delivery_by_age ON delivery (received_at) WHERE state <> 'received'",  # so that what arrives has one less to write
    "CREATE INDEX delivery_replayed ON delivery (replayed_at, state) WHERE replayed_at IS NOT NULL",
    "CREATE INDEX delivery_to_forget ON delivery (done_at) WHERE body IS NOT NULL AND state = 'done'",
    # How long deliveries took to become events, counted by hour in stretches of time; see store/latency.py.
    """CREATE TABLE latency (
        hour {int} NOT NULL, stretch {int} NOT NULL, deliveries {int} NOT NULL, PRIMARY KEY (hour, stretch)) {compact}""",
    # Positions are counted in a row that every writer of a stream updates first: they become visible in order, and none is used twice.
    # How many events are kept, and their bytes, are counted along, since counting a long log would take long.
    """CREATE TABLE stream (
        id {int} NOT NULL PRIMARY KEY, epoch {int} NOT NULL, position {int} NOT NULL,
        events {int} NOT NULL DEFAULT 0, bytes {int} NOT NULL DEFAULT 0)""",
    "INSERT INTO stream (id, epoch, position) VALUES (0, 1, 0)",
    # What one of several daemons does for all, and who that is for a while.
    "CREATE TABLE duty (name TEXT NOT NULL PRIMARY KEY, owner TEXT NOT NULL, until {int} NOT NULL)",
    """CREATE TABLE outbox (
        position {int} NOT NULL PRIMARY KEY, stream {int} NOT NULL, connection {int} NOT NULL, "user" TEXT NOT NULL, type TEXT NOT NULL,
        "key" TEXT, body {blob} NOT NULL, accepted_at {int} NOT NULL)""",
    "CREATE INDEX outbox_by_connection ON outbox (connection)",
    # Who reads the outbox by name, what of it, and up to where each is done. Up to `present_until` it reads only what is still so.
    """CREATE TABLE consumer (
        name TEXT NOT NULL PRIMARY KEY, epoch {int} NOT NULL, position {int} NOT NULL, present_until {int} NOT NULL DEFAULT 0,
        "user" TEXT, provider TEXT, type TEXT, most_tries {int} NOT NULL DEFAULT 10,
        tries {int} NOT NULL, reason TEXT NOT NULL, held_until {int} NOT NULL DEFAULT 0,
        token TEXT, leased_to {int}, leased_until {int}, created_at {int} NOT NULL, moved_at {int},
        paused {int} NOT NULL DEFAULT 0)""",
    # Events that a consumer was given too often.
    """CREATE TABLE dead_letter (
        consumer TEXT NOT NULL REFERENCES consumer (name) ON DELETE CASCADE, position {int} NOT NULL,
        tries {int} NOT NULL, reason TEXT NOT NULL, "at" {int} NOT NULL, again {int} NOT NULL DEFAULT 0,
        PRIMARY KEY (consumer, position)) {compact}""",
    "CREATE INDEX dead_letter_by_position ON dead_letter (position)",
    # Where lately, in its own words, a sink put what it took: from there on it can be given again what was lost there.
    """CREATE TABLE track (
        consumer TEXT NOT NULL REFERENCES consumer (name) ON DELETE CASCADE, position {int} NOT NULL,
        taken_at {int} NOT NULL, found_at TEXT NOT NULL,
        PRIMARY KEY (consumer, position)) {compact}""",
    # Who may call the private API over TCP.
    """CREATE TABLE api_token (
        name TEXT NOT NULL PRIMARY KEY, hash {blob} NOT NULL UNIQUE, scopes TEXT NOT NULL,
        created_at {int} NOT NULL, expires_at {int}, last_used_at {int})""",
    # Files that people hand in, from the ticket to the summary; the bytes lie in a folder.
    """CREATE TABLE upload (
        id TEXT NOT NULL PRIMARY KEY, connection {int} NOT NULL REFERENCES connection (number) ON DELETE CASCADE,
        ticket_hash {blob} NOT NULL UNIQUE, expires_at {int} NOT NULL,
        state TEXT NOT NULL, reason TEXT NOT NULL, name TEXT NOT NULL, size {int}, received {int} NOT NULL, place TEXT NOT NULL DEFAULT '',
        "cursor" TEXT, done {int} NOT NULL, summary TEXT NOT NULL, events {int} NOT NULL, after_position {int}, tries {int} NOT NULL,
        created_at {int} NOT NULL, began_at {int}, finished_at {int})""",
    "CREATE INDEX upload_by_connection ON upload (connection, created_at)",
    "CREATE INDEX upload_waiting ON upload (created_at) WHERE state IN ('queued', 'running')",
    # What was asked to be forgotten, how far that is, and the receipt.
    """CREATE TABLE erasure (
        id TEXT NOT NULL PRIMARY KEY, kind TEXT NOT NULL, cause TEXT NOT NULL, "user" TEXT, counts TEXT NOT NULL,
        tombstone {int}, acks TEXT NOT NULL, created_at {int} NOT NULL, erased_at {int}, physical_at {int}, finished_at {int})""",
    """CREATE TABLE erasure_part (
        erasure TEXT NOT NULL REFERENCES erasure (id) ON DELETE CASCADE, connection {int} NOT NULL, id TEXT NOT NULL,
        provider TEXT NOT NULL, revocation TEXT NOT NULL, told_at {int}, ended {int} NOT NULL, PRIMARY KEY (erasure, connection))""",
    "CREATE INDEX erasure_part_by_connection ON erasure_part (connection)",
    # What administrators did, each entry chained to the one before it and vouched for by a key; whom it was about is said by a random id.
    """CREATE TABLE audit (
        number {serial}, "at" {int} NOT NULL, who TEXT NOT NULL, act TEXT NOT NULL, subject TEXT NOT NULL, status {int} NOT NULL,
        chain {blob} NOT NULL, key_id TEXT NOT NULL, link {blob} NOT NULL)""",
    "CREATE TABLE audit_subject (name TEXT NOT NULL PRIMARY KEY, id TEXT NOT NULL UNIQUE)",
)
