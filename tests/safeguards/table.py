"""The safeguards: where each stands, how it is switched off, and the tests that must notice."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Change:
    """A text that is in a file exactly once, and what stands in its place when the safeguard is off."""

    file: str
    text: str
    instead: str


@dataclass(frozen=True)
class Safeguard:
    """One safeguard."""

    name: str
    row: str  #: the requirement it serves
    off: tuple[Change, ...]
    tests: tuple[str, ...]


STORE = "daemon/oo_daemon/store"
CONNECTIONS = "daemon/oo_daemon/connections"
INGRESS = "daemon/oo_daemon/ingress"
SYNC = "daemon/oo_daemon/sync"
APP = "daemon/oo_daemon/app.py"
VAULT = "vault/oo_vault"

T_STORE = "tests/daemon/store"
T_CONNECTIONS = "tests/daemon/connections"
T_INGRESS = "tests/daemon/ingress"
T_SYNC = "tests/daemon/sync"
T_INLINE = f"{T_STORE}/test_contract.py::TestInline"


def _(name: str, row: str, file: str, text: str, instead: str, *tests: str) -> Safeguard:
    """A safeguard that stands in one place."""
    return Safeguard(name, row, (Change(file, text, instead),), tests)


SAFEGUARDS: tuple[Safeguard, ...] = (
    # --- the store ---------------------------------------------------------------------------------------------------
    _(
        "a commit reaches the disk (synchronous=FULL)",
        "A3",
        f"{STORE}/database.py",
        '"synchronous": 2,',
        '"synchronous": 1,',
        "tests/faults/test_crash.py::test_power_cuts_lose_nothing",
    ),
    _(
        "what is deleted is overwritten (secure_delete)",
        "B2",
        f"{STORE}/database.py",
        '"secure_delete": 1,',
        '"secure_delete": 0,',
        f"{T_STORE}/test_storage.py::test_what_is_deleted_is_overwritten",
    ),
    _(
        "a transaction that writes begins IMMEDIATE",
        "B3",
        f"{STORE}/storage.py",
        'connection.execute("BEGIN IMMEDIATE")',
        'connection.execute("BEGIN DEFERRED")',
        f"{T_STORE}/test_storage.py::test_two_writers_wait_for_each_other",
    ),
    _(
        "a caller is told after the COMMIT",
        "A1",
        f"{STORE}/storage.py",
        "                    item.result = item.work(self.database)\n                else:\n",
        "                    item.result = item.work(self.database)\n"
        "                    item.loop.call_soon_threadsafe(item.resolve)\n                else:\n",
        f"{T_STORE}/test_storage.py::test_who_waits_is_told_after_the_commit",
    ),
    _(
        "a transaction that a full disk has ended is seen to be gone",
        "B12",
        f"{STORE}/storage.py",
        "                raise  # a full disk inside a savepoint ends the whole transaction\n",
        "                item.error = explain(error)\n                return\n",
        f"{T_STORE}/test_storage.py::test_a_disk_that_fills_up_within_a_commit_fails_only_what_does_not_fit",
    ),
    _(
        "tokens are replaced by compare-and-swap on their version",
        "C11",
        f"{STORE}/credentials.py",
        "WHERE {_OF} AND token_version = ? RETURNING fence",
        "WHERE {_OF} AND ? > 0 RETURNING fence",
        f"{T_INLINE}::test_a_commit_compares_the_version_alone",
    ),
    _(
        "one owner refreshes at a time (lease of the credential)",
        "C10",
        f"{STORE}/credentials.py",
        "AND (lease_owner IS NULL OR lease_owner = ? OR lease_until <= ? OR lease_until > ?) RETURNING fence",
        "AND (1 = 1 OR lease_owner = ? OR lease_until <= ? OR lease_until > ?) RETURNING fence",
        f"{T_INLINE}::test_one_owner_refreshes_at_a_time",
        f"{T_INLINE}::test_many_lease_at_once_and_one_gets_it",
    ),
    _(
        "the fence of a refresh",
        "C10",
        f"{STORE}/credentials.py",
        "WHERE {_OF} AND fence = ? AND lease_owner IS NOT NULL RETURNING fence",
        "WHERE {_OF} AND ? > 0 RETURNING fence",
        f"{T_INLINE}::test_a_refresh_without_its_lease_is_refused",
    ),
    _(
        "one run of a connection at a time (lease of the schedule)",
        "E4",
        f"{STORE}/schedule.py",
        "(s.lease_until IS NULL OR s.lease_until <= ? OR s.lease_until > ?)",
        "(1 = 1 OR s.lease_until <= ? OR s.lease_until > ?)",
        f"{T_STORE}/test_storage.py::test_two_dispatchers_never_own_one_connection",
    ),
    _(
        "the fence of a run, on its cursor",
        "E2",
        f"{STORE}/schedule.py",
        "UPDATE schedule SET cursor = ?, shape = ? WHERE connection = ? AND fence = ? AND lease_owner IS NOT NULL",
        "UPDATE schedule SET cursor = ?, shape = ? WHERE connection = ? AND ? > 0",
        f"{T_STORE}/test_accept.py::test_a_lost_lease_writes_nothing",
    ),
    _(
        "the fence of a run, on its events",
        "E2",
        f"{STORE}/schedule.py",
        "SELECT connection FROM schedule WHERE connection = ? AND fence = ? AND lease_owner IS NOT NULL",
        "SELECT connection FROM schedule WHERE connection = ? AND ? > 0",
        f"{T_STORE}/test_accept.py::test_a_lost_lease_writes_nothing",
        "tests/faults/test_processes.py::test_a_process_that_was_stopped_past_its_lease_writes_nothing",
    ),
    _(
        "tries of a run are counted when it is claimed",
        "H10",
        f"{STORE}/schedule.py",
        "fence = fence + 1, tries = tries + 1, started_at = ?",
        "fence = fence + 1, started_at = ?",
        f"{T_INLINE}::test_tries_count_up_until_a_run_ends_well",
    ),
    _(
        "an id that was delivered before is no new delivery",
        "A4",
        f"{STORE}/inbox.py",
        "ON CONFLICT (source, delivery_id) DO NOTHING RETURNING number",
        "RETURNING number",
        f"{T_INLINE}::test_a_delivery_is_kept_once",
    ),
    Safeguard(
        "the unique index over source and delivery id",
        "A4",
        (
            Change(f"{STORE}/inbox.py", "ON CONFLICT (source, delivery_id) DO NOTHING RETURNING number", "RETURNING number"),
            Change(f"{STORE}/migrations/m0001_first.py", "done_at {int},\n        UNIQUE (source, delivery_id))", "done_at {int})"),
        ),
        (f"{T_INLINE}::test_a_delivery_is_kept_once",),
    ),
    _(
        "the fence of a delivery",
        "E2",
        f"{STORE}/inbox.py",
        "WHERE number = ? AND fence = ? AND lease_owner IS NOT NULL RETURNING number",
        "WHERE number = ? AND ? > 0 RETURNING number",
        f"{T_INLINE}::test_whoever_lost_the_claim_changes_nothing",
    ),
    _(
        "tries of a delivery are counted when it is claimed",
        "H10",
        f"{STORE}/inbox.py",
        "lease_until = ?, fence = fence + 1, tries = tries + 1 ",
        "lease_until = ?, fence = fence + 1 ",
        f"{T_SYNC}/test_intake.py::test_what_ends_the_process_each_time_takes_nothing_with_it",
    ),
    _(
        "ids of deliveries are kept for 35 days",
        "A5",
        f"{STORE}/inbox.py",
        "KEEP_IDS = 35 * DAY",
        "KEEP_IDS = 3 * DAY",
        f"{T_INLINE}::test_bodies_go_after_a_week_and_ids_after_five",
    ),
    _(
        "the fence of a job",
        "E2",
        f"{STORE}/jobs.py",
        "WHERE number = ? AND fence = ? AND state = 'queued' RETURNING number",
        "WHERE number = ? AND ? > 0 RETURNING number",
        f"{T_STORE}/test_jobs.py::test_who_lost_the_lease_ends_nothing",
    ),
    _(
        "jobs of one connection keep their order",
        "A21",
        f"{STORE}/jobs.py",
        "o.next_try_at IS NOT NULL AND o.number < j.number)",
        "o.next_try_at IS NOT NULL AND o.number < 0)",
        f"{T_STORE}/test_jobs.py::test_jobs_of_a_connection_keep_their_order",
    ),
    _(
        "a consumer moves on by compare-and-swap, and never back",
        "B7",
        f"{STORE}/consumers.py",
        "WHERE name = ? AND position = ? AND position < ? ",
        "WHERE name = ? AND ? >= 0 AND position < ? ",
        f"{T_STORE}/test_consumers.py::test_only_who_knows_the_place_moves_it",
    ),
    _(
        "a dead consumer is not waited for without end",
        "B9",
        "daemon/oo_daemon/outbox/retention.py",
        "keep.unread if waited_for else keep.read",
        "1e12 if waited_for else keep.read",
        "tests/daemon/outbox/test_retention.py::test_a_consumer_is_waited_for_but_not_for_ever",
    ),
    _(
        "what is still to be read is not let go of early",
        "B9",
        "daemon/oo_daemon/outbox/retention.py",
        "waited_for = event.dead or event.position > read",
        "waited_for = False",
        "tests/daemon/outbox/test_retention.py::test_when_an_event_goes",
    ),
    _(
        "what a thing is now outlives its history",
        "B9",
        "daemon/oo_daemon/outbox/retention.py",
        "if event.still_so:",
        "if event.still_so and not event.size:",
        "tests/daemon/outbox/test_retention.py::test_the_present_state_outlives_its_history",
    ),
    # --- the waist ---------------------------------------------------------------------------------------------------
    _(
        "a position is never used twice",
        "B5",
        f"{STORE}/accept.py",
        "UPDATE stream SET position = position + ?, events",
        "UPDATE stream SET position = (SELECT COALESCE(max(position), 0) FROM outbox) + ?, events",
        f"{T_STORE}/test_accept.py::test_positions_are_never_used_twice",
    ),
    _(
        "a lower order is dropped",
        "A21",
        f"{STORE}/accept.py",
        "before.order is not None and draft.order < before.order:",
        "before.order is not None and draft.order < 0:",
        f"{T_STORE}/test_accept.py::test_a_lower_order_is_dropped",
        f"{T_STORE}/test_accept.py::test_eight_deliveries_end_in_one_state_whatever_their_order",
    ),
    _(
        "a lower order is dropped after a tombstone, too",
        "A21",
        f"{STORE}/accept.py",
        "before.order is not None and draft.order < before.order:",
        "before.order is not None and before.change != DELETED and draft.order < before.order:",
        f"{T_STORE}/test_accept.py::test_a_lower_order_is_dropped_after_a_tombstone_too",
    ),
    _(
        "an equal digest is no change",
        "B6",
        f"{STORE}/accept.py",
        "draft.digest == before.digest or (",
        "draft.change != before.change or (",
        f"{T_STORE}/test_accept.py::test_the_same_again_is_nothing",
    ),
    _(
        "what occurred is told once",
        "B6",
        f"{STORE}/accept.py",
        "            if key not in met:\n                met.add(key)\n                outcome.occurrences",
        "            if key not in met or outcome.events is not None:\n                met.add(key)\n                outcome.occurrences",
        f"{T_STORE}/test_accept.py::test_what_occurred_is_told_once",
    ),
    _(
        "a cursor moves with its events, in their transaction",
        "B4",
        f"{SYNC}/taken.py",
        "        await self._commit(CursorMoved(run=self.run, cursor=place, shape=self.connector.cursor_shape))\n",
        "        mark = CursorMoved(run=self.run, cursor=place, shape=self.connector.cursor_shape)\n"
        "        await self.storage.write(lambda database: mark.apply(database))\n"
        "        await self.keep()\n",
        f"{T_SYNC}/test_run.py::test_a_crash_at_every_write",
    ),
    _(
        "an ended connection takes no events",
        "F2",
        f"{SYNC}/intake.py",
        "marks: list[Mark] = [StillActive(number=connection.number)]",
        "marks: list[Mark] = []",
        f"{T_SYNC}/test_intake.py::test_a_connection_that_ends_in_the_middle_hears_nothing",
    ),
    # --- the start ---------------------------------------------------------------------------------------------------
    _(
        "a key that does not fit refuses the start",
        "C6",
        f"{CONNECTIONS}/keys.py",
        "        keyring.check(answer)\n",
        "        answer.key_id.strip()\n",
        "tests/journeys/test_processes.py::test_keys_that_do_not_fit",
    ),
    _(
        "one daemon at a time on a file",
        "B2",
        APP,
        "        stack.enter_context(lock.held(settings.places.database))\n",
        "        settings.places.database.resolve()\n",
        "tests/journeys/test_processes.py::test_a_second_daemon",
    ),
    _(
        "runs of the dead are freed at the start",
        "E3",
        APP,
        "if rescued := await storage.write(schedule.rescue, clock.now()):",
        "if rescued := 0:",
        "tests/faults/test_processes.py::test_what_the_dead_held_is_free",
    ),
    _(
        "deliveries of the dead are freed at the start",
        "E3",
        APP,
        "if rescued := await storage.write(inbox.rescue):",
        "if rescued := 0:",
        "tests/faults/test_processes.py::test_what_the_dead_held_is_free",
    ),
    _(
        "jobs of the dead are freed at the start",
        "E3",
        APP,
        "if rescued := await storage.write(jobs.rescue):",
        "if rescued := 0:",
        "tests/faults/test_processes.py::test_what_the_dead_held_is_free",
    ),
    _(
        "refreshes of the dead are freed at the start",
        "E3",
        APP,
        "    await storage.write(credentials.rescue)\n",
        "    await storage.read(inbox.depth)\n",
        "tests/faults/test_processes.py::test_what_the_dead_held_is_free",
    ),
    _(
        "a stranger's plugin is loaded only when it is enabled",
        "C8",
        "daemon/oo_daemon/registry.py",
        "allowed = {_normal(name) for name in enabled} | {OURS}",
        "allowed = {_normal(found.metadata['Name']) for found in metadata.distributions()} | {OURS}",
        "tests/daemon/test_registry.py::test_a_stranger_is_not_loaded",
    ),
    # --- the vault ---------------------------------------------------------------------------------------------------
    _(
        "the MAC of a credential is checked",
        "C2",
        f"{VAULT}/box.py",
        "if blob[:1] != _FORMAT or not hmac.compare_digest(mac, self._authenticate(context, box)):",
        "if blob[:1] != _FORMAT or len(mac) != _MAC_SIZE:",
        "tests/vault/test_keyring.py::test_move_integrity_matrix",
        "tests/vault/test_keyring.py::test_forgery_with_the_public_key",
    ),
    _(
        "the MAC of a credential covers where it belongs",
        "C1",
        f"{VAULT}/box.py",
        "for part in (context, box):",
        "for part in (b'', box):",
        "tests/vault/test_keyring.py::test_move_integrity_matrix",
    ),
    _(
        "what the ingress key encrypts is bound to where it belongs",
        "C1",
        f"{CONNECTIONS}/connect.py",
        'return Context(purpose=f"pkce verifier of {sign_in.id}"',
        'return Context(purpose="pkce verifier"',
        f"{T_CONNECTIONS}/test_connect.py::test_a_verifier_moved_to_another_sign_in_is_refused",
    ),
    _(
        "a key file that others can read is refused",
        "C4",
        f"{VAULT}/sources.py",
        "if found.st_mode & (stat.S_IRWXG | stat.S_IRWXO):",
        "if found.st_mode & stat.S_ISVTX:",
        "tests/vault/test_sources.py::test_refused_when_open_to_others",
    ),
    _(
        "the intent is durable before a refresh token is used",
        "C11",
        f"{VAULT}/refresh.py",
        "                await self._rows.intend(connection, fence, intent)\n",
        "",
        "tests/vault/test_refresh.py::test_a_crash_at_any_step_loses_nothing_in_silence",
    ),
    _(
        "room for the new tokens is probed before a refresh",
        "C11",
        f"{VAULT}/refresh.py",
        "                await self._rows.probe(connection, fence, 2 * len(row.sealed.blob) + _ROOM)\n",
        "",
        "tests/vault/test_refresh.py::test_a_full_disk_is_found_before_the_provider_rotates",
    ),
    _(
        "a token that may be spent is not used while there is something to lose",
        "C11",
        f"{VAULT}/refresh.py",
        '    if not rotation.reuse_kills or (intent is None and state != "verify"):\n',
        "    if not rotation.reuse_kills or now >= 0:\n",
        "tests/vault/test_refresh.py::test_a_token_that_may_be_spent_waits_while_there_is_something_to_lose",
    ),
    _(
        "new tokens are offered to a failing disk again",
        "C11",
        f"{VAULT}/refresh.py",
        "_COMMIT_TRIES = 4",
        "_COMMIT_TRIES = 1",
        "tests/vault/test_refresh.py::test_new_tokens_are_offered_to_a_failing_disk_again",
    ),
    _(
        "a dead answer to an old version of the tokens is no death",
        "C12",
        f"{VAULT}/refresh.py",
        "                    row = await self._rows.read(connection)\n                    if row.token_version != version:\n",
        "                    if row.token_version != version:\n",
        "tests/vault/test_refresh.py::test_a_dead_answer_to_an_old_version_is_no_death",
    ),
    _(
        "a clock that is set back revives no token",
        "C15",
        f"{VAULT}/refresh.py",
        "return min((grant.expires_at - self._clock.now()) / SECOND, known.ends - self._clock.monotonic())",
        "return (grant.expires_at - self._clock.now()) / SECOND",
        "tests/vault/test_refresh.py::test_a_clock_set_back_does_not_revive_a_token",
    ),
    _(
        "one refresh at a time in a process",
        "C10",
        f"{VAULT}/refresh.py",
        "        if flight is None:\n",
        "        if flight is None or forced is not None:\n",
        "tests/vault/test_refresh.py::test_twenty_callers_make_one_call",
    ),
    # --- signing in --------------------------------------------------------------------------------------------------
    _(
        "an OAuth state is used once",
        "D1",
        f"{STORE}/flows.py",
        "\"UPDATE flow SET state_hash = NULL, link_hash = NULL, status = 'exchanging' \"",
        '"UPDATE flow SET reason = reason "',
        f"{T_CONNECTIONS}/test_connect.py::test_a_hundred_callbacks_give_one_exchange",
    ),
    _(
        "an OAuth state runs out",
        "D1",
        f"{STORE}/flows.py",
        "\"WHERE state_hash = ? AND status = 'begun' AND expires_at > ? RETURNING id\"",
        "\"WHERE state_hash = ? AND status = 'begun' AND ? > 0 RETURNING id\"",
        f"{T_CONNECTIONS}/test_connect.py::test_a_state_runs_out",
    ),
    _(
        "a callback comes from the browser that began",
        "D2",
        f"{CONNECTIONS}/connect.py",
        "if sign_in.registration != registration or not _is_browser_of(sign_in, browser):",
        "if sign_in.registration != registration:",
        f"{T_CONNECTIONS}/test_connect.py::test_another_browser_is_refused",
    ),
    _(
        "a callback comes to its own registration",
        "D5",
        f"{CONNECTIONS}/connect.py",
        "if sign_in.registration != registration or not _is_browser_of(sign_in, browser):",
        "if not _is_browser_of(sign_in, browser):",
        f"{T_CONNECTIONS}/test_connect.py::test_an_answer_from_elsewhere_is_refused",
    ),
    _(
        "a callback comes from the issuer",
        "D6",
        f"{CONNECTIONS}/connect.py",
        "if auth.issuer is not None and iss != auth.issuer and (iss is not None or auth.issuer_sent):",
        "if iss == '':",
        f"{T_CONNECTIONS}/test_connect.py::test_an_answer_from_elsewhere_is_refused",
    ),
    _(
        "the exchange proves the PKCE verifier",
        "D6",
        f"{CONNECTIONS}/connect.py",
        '            form["code_verifier"] = self._verifier\n',
        '            form["code_verifier"] = ""\n',
        f"{T_CONNECTIONS}/test_connect.py::test_what_is_sent",
    ),
    _(
        "a code is exchanged once",
        "D14",
        f"{CONNECTIONS}/connect.py",
        "        if self._begun:\n",
        '        if code == "":\n',
        f"{T_CONNECTIONS}/test_connect.py::test_an_exchange_that_fails",
    ),
    _(
        "a connect link is one browser's, once",
        "D3",
        f"{STORE}/flows.py",
        "(status = 'open' OR (status = 'begun' AND browser_hash = ?)) RETURNING id",
        "(status IN ('open', 'begun') OR browser_hash = ?) RETURNING id",
        f"{T_INLINE}::test_a_link_is_one_browsers",
    ),
    _(
        "another account takes no connection over",
        "C14",
        f"{CONNECTIONS}/connect.py",
        "return bool(known.provider_account and found.account_id and known.provider_account != found.account_id)",
        "return bool(known.provider_account and found.account_id and known.provider_account == '')",
        f"{T_CONNECTIONS}/test_connect.py::test_another_account_needs_a_yes",
    ),
    _(
        "nothing is connected before the person has seen the account",
        "D4",
        f"{CONNECTIONS}/connect.py",
        "        await self.storage.write(flows.hold, sign_in.id, sealed, found, now + int(self.flow_life * SECOND))\n",
        "        await self.storage.write(flows.hold, sign_in.id, sealed, found, now + int(self.flow_life * SECOND))\n"
        '        await self.storage.accept(self._made(sign_in, found, grant, "0" * 32, now), Lane.INGEST)\n',
        f"{T_CONNECTIONS}/test_connect.py::test_nothing_is_connected_before_the_yes",
    ),
    _(
        "a link leads back to the addresses on the list only",
        "D7",
        f"{CONNECTIONS}/connect.py",
        "if return_to and return_to not in self.return_to:",
        "if return_to and not self.return_to:",
        f"{T_CONNECTIONS}/test_connect.py::test_only_the_list_leads_away",
    ),
    _(
        "the cookie is no script's and no other site's",
        "D2",
        f"{INGRESS}/connect.py",
        'httponly=True, samesite="Lax"',
        'httponly=False, samesite="None"',
        f"{T_INGRESS}/test_connect.py::test_the_cookie_is_bound_to_host_and_browser",
    ),
    # --- the session -------------------------------------------------------------------------------------------------
    _(
        "a credential goes to declared hosts only",
        "C8",
        f"{CONNECTIONS}/session.py",
        "        bounds.check(asked.url, self._hosts(asked))\n",
        "",
        f"{T_CONNECTIONS}/test_session.py::test_nothing_leaves_for_elsewhere",
    ),
    _(
        "no redirect is followed",
        "C8",
        f"{CONNECTIONS}/transport.py",
        "allow_redirects=False,\n            ) as answer:",
        "allow_redirects=True,\n            ) as answer:",
        f"{T_CONNECTIONS}/test_transport.py::test_a_redirect_is_an_answer",
    ),
    _(
        "an answer has a largest size",
        "C8",
        f"{CONNECTIONS}/transport.py",
        "            if len(body) > self._limit:\n",
        "            if len(body) < 0:\n",
        f"{T_CONNECTIONS}/test_transport.py::test_a_bomb_is_cut_short",
        f"{T_CONNECTIONS}/test_transport.py::test_what_does_not_arrive_whole_is_no_answer",
    ),
    _(
        "no proxy comes from the environment",
        "C8",
        f"{CONNECTIONS}/transport.py",
        "trust_env=False",
        "trust_env=True",
        f"{T_CONNECTIONS}/test_transport.py::test_no_proxy_comes_from_the_environment",
    ),
    _(
        "an error that leaves the session brings nothing along",
        "C9",
        f"{CONNECTIONS}/session.py",
        "        fault.__cause__ = fault.__context__ = None\n        raise fault.with_traceback(None)\n",
        "        raise fault\n",
        f"{T_CONNECTIONS}/test_session.py::test_no_error_carries_a_secret",
    ),
    _(
        "the library's error is not quoted",
        "C9",
        f"{CONNECTIONS}/transport.py",
        "did not arrive whole ({type(error).__name__})",
        "did not arrive whole ({error!r} {request.headers})",
        f"{T_CONNECTIONS}/test_session.py::test_real_faults_carry_and_log_no_secret",
    ),
    _(
        "an echo of a secret is blotted out",
        "C7",
        f"{CONNECTIONS}/session.py",
        '            body = body.replace(encoded, b"...")\n',
        "            body = bytes(body)\n",
        f"{T_CONNECTIONS}/test_session.py::test_an_echo_shows_no_secret",
    ),
    _(
        "a guest's own exception is not quoted",
        "C9",
        f"{CONNECTIONS}/guest.py",
        "    if not isinstance(error, ConnectorError | CannotStore | VaultError):\n",
        "    if not isinstance(error, Exception):\n",
        f"{T_SYNC}/test_run.py::test_what_an_error_means",
    ),
    _(
        "what looks like a credential is not logged",
        "C9",
        "daemon/oo_daemon/ops/log.py",
        "        text = pattern.sub(becomes, text)\n",
        "        text = text.removeprefix(becomes)\n",
        "tests/daemon/ops/test_log.py::test_what_looks_like_a_credential",
    ),
    _(
        "of an exception only kind and place are logged",
        "C9",
        "daemon/oo_daemon/ops/log.py",
        'chain.append(f"{type(cause).__name__} at {place}" if place else type(cause).__name__)',
        'chain.append(f"{cause!r} at {place}" if place else repr(cause))',
        "tests/daemon/ops/test_log.py::test_an_exception",
    ),
    # --- webhooks ----------------------------------------------------------------------------------------------------
    _(
        "a delivery's signature is checked",
        "A7",
        f"{INGRESS}/webhooks.py",
        "if source.closed or verdict is not Verdict.GOOD or body.plain is None:",
        "if source.closed or body.plain is None:",
        f"{T_INGRESS}/test_webhooks.py::test_all_refusals_are_the_same_bytes",
    ),
    _(
        "a source that is closed takes nothing",
        "A9",
        f"{INGRESS}/webhooks.py",
        "if source.closed or verdict is not Verdict.GOOD or body.plain is None:",
        "if verdict is not Verdict.GOOD or body.plain is None:",
        f"{T_INGRESS}/test_webhooks.py::test_all_refusals_are_the_same_bytes",
    ),
    _(
        "signatures are compared in constant time",
        "A7",
        f"{CONNECTIONS}/verify.py",
        "return hmac.compare_digest(one, other)",
        "return one == other",
        "tests/design/test_secrets.py::test_where_secrets_are_compared",
    ),
    _(
        "a signed time that is not ours is refused",
        "A11",
        f"{CONNECTIONS}/verify.py",
        "return Verdict.GOOD if away <= stamp.within * SECOND else Verdict.OUT_OF_TIME",
        "return Verdict.GOOD if away >= 0 else Verdict.OUT_OF_TIME",
        f"{T_CONNECTIONS}/test_verify.py::test_what_is_out_of_time_is_refused",
    ),
    _(
        "a delivery is answered after its commit",
        "A1",
        f"{INGRESS}/webhooks.py",
        "return await self.storage.write(inbox.put, arrival)",
        "return bool(asyncio.ensure_future(self.storage.write(inbox.put, arrival)))",
        f"{T_INGRESS}/test_webhooks.py::test_the_answer_comes_after_the_commit",
    ),
    _(
        "a body has a largest size",
        "A15",
        f"{INGRESS}/webhooks.py",
        "        if max(len(sent), len(plain)) > limit:\n",
        "        if max(len(sent), len(plain)) < 0:\n",
        f"{T_INGRESS}/test_webhooks.py::test_an_unannounced_flood_is_cut_off",
        f"{T_INGRESS}/test_webhooks.py::test_a_bomb_is_not_unpacked",
    ),
    Safeguard(
        "too many deliveries at once are turned away",
        "A18",
        (
            Change(f"{INGRESS}/webhooks.py", "if self._waiting >= WAITING or self._held >= HELD:", "if self._held >= HELD:"),
            Change(f"{INGRESS}/webhooks.py", "        if self._waiting >= WAITING:\n", "        if self._waiting < 0:\n"),
        ),
        (
            f"{T_INGRESS}/test_webhooks.py::test_what_cannot_be_stored_is_asked_for_again",
            f"{T_INGRESS}/test_webhooks.py::test_room_is_given_back",
        ),
    ),
    # --- the private door --------------------------------------------------------------------------------------------
    _(
        "an API token is kept as a hash",
        "C7",
        f"{INGRESS}/tokens.py",
        "return hashlib.blake2b(token.encode(), digest_size=32).digest()",
        "return token.encode()",
        f"{T_INGRESS}/test_tokens.py::test_a_token_is_kept_as_a_hash",
    ),
    _(
        "a token opens what its scope names",
        "D3",
        f"{INGRESS}/tokens.py",
        '        if not {scope, "admin"} & asks.scopes:\n',
        "        if not asks.scopes:\n",
        f"{T_INGRESS}/test_tokens.py::test_a_token_opens_what_its_scope_names",
    ),
    _(
        "the door on TCP answers to names of this machine only",
        "D3",
        f"{INGRESS}/tokens.py",
        "return len(hosts) == 1 and _HOSTS.fullmatch(hosts[0]) is not None",
        "return len(hosts) == 1",
        f"{T_INGRESS}/test_tokens.py::test_only_names_of_this_machine",
    ),
    _(
        "the Unix socket is ours",
        "H4",
        f"{INGRESS}/server.py",
        "admits=lambda sock: peer(sock) in admins | {0, os.getuid()})",
        "admits=lambda sock: peer(sock) is not None)",
        f"{T_INGRESS}/test_server.py::test_only_admins_are_let_in",
    ),
)
