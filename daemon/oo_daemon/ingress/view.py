"""What the API answers: values of the hub as JSON, in the shapes that openapi.yaml declares."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from typing import Any

import msgspec

from oo_daemon.connections.budgets import Left
from oo_daemon.connections.keys import Vault
from oo_daemon.connections.sources import Given, OpenSource
from oo_daemon.ports import SECOND, moment
from oo_daemon.registry import Plugin
from oo_daemon.store.api_tokens import ApiToken
from oo_daemon.store.connections import Connection
from oo_daemon.store.flows import SignIn
from oo_daemon.store.inbox import Entry
from oo_daemon.store.jobs import Job
from oo_daemon.store.registrations import Registration
from oo_daemon.store.runs import Logged
from oo_daemon.store.schedule import Schedule
from oo_daemon.store.subscriptions import SubscriptionRow
from oo_daemon.store.uses import Use
from oo_sdk import Connector, NoScheme, Scope


def time(micros: int | None) -> str | None:
    """RFC 3339 in UTC."""
    return None if micros is None else moment(micros).isoformat().replace("+00:00", "Z")


def plugin(found: Plugin, sinks: list[dict[str, Any]], *, strikes: int, released: bool) -> list[dict[str, Any]]:
    """One entry for each connector of a plugin, or one for a plugin that brings none; its sinks stand with the first."""
    reason = "it was released: the next start of the daemon loads it" if released else found.reason
    common = {
        "name": found.name,
        "distribution": found.distribution,
        "version": found.version,
        "state": found.state,
        "reason": reason,
        "strikes": strikes,
    }
    entries = [{"id": connector.id, "title": connector.title, **common, **_declared(connector)} for connector in found.connectors]
    first, *others = entries or [{"id": found.name, "title": "", **common, "scopes": [], "stores": [], "hosts": [], "actions": []}]
    return [first | {"sinks": sinks}, *(other | {"sinks": []} for other in others)]


def _declared(connector: Connector) -> dict[str, Any]:
    scopes = [scope(each) for each in connector.scopes]
    actions = [
        {"name": kind.name, "sentence": kind.sentence, "scope": kind.scope, "arguments": msgspec.json.schema(kind.arguments)}
        for kind in connector.actions
    ]
    stores = [
        {"name": stored.name, "what": stored.what, "purpose": stored.purpose, "fields": list(stored.fields)} for stored in connector.stores
    ]
    return {"scopes": scopes, "stores": stores, "hosts": list(connector.hosts), "actions": actions}


def scope(known: Scope) -> dict[str, Any]:
    """One scope of a connector."""
    return {"id": known.id, "sentence": known.sentence, "access": known.access, "required": known.required}


def budget(known: Left) -> dict[str, Any]:
    """How much of one limit is left."""
    limit = known.limit
    shown = {"of": limit.of, "calls": limit.calls, "seconds": limit.seconds}
    return shown | {"left": known.left, "at_once": known.burst, "closed_until": time(known.closed_until)}


def subscription(row: SubscriptionRow) -> dict[str, Any]:
    """One subscription, without what it is known by at the provider."""
    return {"topic": row.topic, "state": row.state, "renew_at": time(row.renew_at), "expires_at": time(row.expires_at)}


def registration(known: Registration, redirect_uri: str, source: OpenSource | None) -> dict[str, Any]:
    """Our client at a provider, and where its webhooks are posted to; secrets are only counted."""
    return {
        "id": known.id,
        "provider": known.provider,
        "client_id": known.client_id,
        "redirect_uri": redirect_uri,
        "secrets": known.secret_count,
        "webhook_url": source.url if source else None,
        "webhook_secrets": source.secret_count if source else 0,
        "webhook_reason": source.closed if source else "",
        "created_at": time(known.created_at),
    }


def source(known: OpenSource) -> dict[str, Any]:
    """One address, with its secrets only counted."""
    return {
        "id": known.id,
        "provider": known.provider,
        "connection": known.connection,
        "scheme": known.scheme_name,
        "verified": not isinstance(known.scheme, NoScheme),
        "state": "waiting" if known.awaits_secret else "closed" if known.closed else "open",
        "reason": known.closed,
        "url": known.url,
        "secrets": [{"role": each.role, "until": time(each.until)} for each in known.roles],
        "created_at": time(known.created_at),
    }


def given_source(given: Given) -> dict[str, Any]:
    """One address, with the secret that its sender is to be told."""
    return {**source(given.source), "secret": given.secret.reveal() if given.secret else None}


def delivery(entry: Entry, now: int) -> dict[str, Any]:
    """One delivery, without its body."""
    return {
        "id": str(entry.number),
        "source": entry.source,
        "provider": entry.provider,
        "delivery_id": entry.delivery_id,
        "weak": entry.weak,
        "state": entry.state,
        "reason": entry.reason,
        "tries": entry.tries,
        "received_at": time(entry.received_at),
        "done_at": time(entry.done_at),
        "next_try_at": None if entry.next_try_at is None else time(max(entry.next_try_at, entry.received_at)),
        "age": max(now - entry.received_at, 0) / SECOND,
    }


def whole_delivery(entry: Entry, headers: Mapping[str, str], body: bytes | None, now: int) -> dict[str, Any]:
    """One delivery with its body, in base64 since it may be no text."""
    return {**delivery(entry, now), "headers": dict(headers), "body": None if body is None else b64encode(body).decode()}


def token(known: ApiToken) -> dict[str, Any]:
    """What is known of a token."""
    return {
        "name": known.name,
        "scopes": list(known.scopes),
        "created_at": time(known.created_at),
        "expires_at": time(known.expires_at),
        "last_used_at": time(known.last_used_at),
    }


def vault(found: Vault) -> dict[str, Any]:
    """The keys by their ids, never what they are, and how far the rotation has come."""
    return {
        "source": found.source,
        "keys": [{"id": key.id, "state": key.state, "sealed": key.sealed, "since": time(key.since)} for key in found.keys],
        "rotation": {
            "running": found.rotation.running,
            "since": time(found.rotation.since),
            "done": found.rotation.done,
            "total": found.rotation.total,
            "rate": round(found.rotation.rate, 1),
            "refused": found.rotation.refused,
        },
    }


def sign_in(flow: SignIn, now: int) -> dict[str, Any]:
    """How a sign-in stands."""
    expired = flow.status in {"open", "begun", "pending", "confirmed"} and flow.expires_at <= now
    return {
        "id": flow.id,
        "status": "expired" if expired else "begun" if flow.status in {"exchanging", "confirmed"} else flow.status,
        "reason": flow.reason,
        "label": (flow.found.label or flow.found.account_id) if flow.status == "pending" and flow.found else "",
        "connection": flow.connection,
    }


def connection(known: Connection, schedule: Schedule | None, revoking: Job | None) -> dict[str, Any]:
    """One connection, with its cursor, its last sync and, once it is being disconnected, what became of its grant."""
    planned = schedule.next_run_at if schedule and known.state == "active" else None
    return {
        "id": known.id,
        "user": known.user,
        "provider": known.provider,
        "account": known.account,
        "label": known.label,
        "state": known.state,
        "reason": known.reason,
        "scopes": list(known.scopes),
        "meta": {**known.meta, "cursor": schedule.cursor if schedule else None},
        "timetable": msgspec.json.decode(schedule.timetable) if schedule and schedule.timetable else None,
        "next_sync_at": time(planned),
        "last_sync": sync(schedule) if schedule and schedule.started_at is not None else None,
        "revocation": revocation(revoking) if revoking else None,
        "created_at": time(known.created_at),
    }


def revocation(job: Job) -> dict[str, Any]:
    """How giving a grant back stands, or ended."""
    result = job.result or {"revoked": "pending" if job.state == "queued" else "failed", "remains": "", "manual_url": ""}
    return {**result, "reason": job.reason, "at": time(job.finished_at)}


def action(job: Job) -> dict[str, Any]:
    """One action, without its arguments."""
    return {
        "id": job.id,
        "key": job.key,
        "name": job.body["name"],
        "connection": job.connection_id,
        "state": job.state,
        "result": job.result,
        "reason": job.reason,
        "tries": job.tries,
        "created_at": time(job.created_at),
        "finished_at": time(job.finished_at),
    }


def sync(schedule: Schedule) -> dict[str, Any]:
    """The newest sync: the one that runs, or the last that ended."""
    if schedule.running or schedule.finished_at is None:
        return {"outcome": "running", "detail": "", "events": 0, "started_at": time(schedule.started_at), "finished_at": None}
    return {
        "outcome": schedule.outcome,
        "detail": schedule.detail or "",
        "events": schedule.events,
        "started_at": time(schedule.started_at),
        "finished_at": time(schedule.finished_at),
    }


def run(logged: Logged) -> dict[str, Any]:
    """One sync, as the run log has it."""
    return {
        "connection": logged.connection,
        "outcome": logged.outcome,
        "detail": logged.detail,
        "calls": logged.tally.calls,
        "bytes": logged.tally.bytes,
        "pages": logged.tally.pages,
        "events": logged.tally.events,
        "unreadable": logged.tally.unreadable,
        "started_at": time(logged.started_at),
        "finished_at": time(logged.finished_at),
        "next_sync_at": time(logged.next_run_at),
    }


def use(counted: Use) -> dict[str, Any]:
    """How often a credential went to one host within one hour."""
    return {"hour": time(counted.hour), "host": counted.host, "uses": counted.uses}
