"""What the API answers: values of the hub as JSON, in the shapes that openapi.yaml declares."""

from __future__ import annotations

from typing import Any

from oo_daemon.ports import moment
from oo_daemon.registry import Plugin
from oo_daemon.store.connections import Connection
from oo_daemon.store.flows import SignIn
from oo_daemon.store.registrations import Registration
from oo_daemon.store.schedule import Schedule
from oo_sdk import Connector


def time(micros: int | None) -> str | None:
    """RFC 3339 in UTC."""
    return None if micros is None else moment(micros).isoformat().replace("+00:00", "Z")


def plugin(found: Plugin) -> list[dict[str, Any]]:
    """One entry for each connector of a plugin, or one for a plugin that brings none."""
    common = {"distribution": found.distribution, "version": found.version, "state": found.state, "reason": found.reason}
    if not found.connectors:
        return [{"id": found.name, "title": "", **common, "scopes": [], "hosts": []}]
    return [{"id": connector.id, "title": connector.title, **common, **_declared(connector)} for connector in found.connectors]


def _declared(connector: Connector) -> dict[str, Any]:
    scopes = [
        {"id": scope.id, "sentence": scope.sentence, "access": scope.access, "required": scope.required} for scope in connector.scopes
    ]
    return {"scopes": scopes, "hosts": list(connector.hosts)}


def registration(known: Registration, redirect_uri: str) -> dict[str, Any]:
    """Our client at a provider; its secrets are only counted."""
    return {
        "id": known.id,
        "provider": known.provider,
        "client_id": known.client_id,
        "redirect_uri": redirect_uri,
        "secrets": known.secret_count,
        "created_at": time(known.created_at),
    }


def sign_in(flow: SignIn, now: int) -> dict[str, Any]:
    """How a sign-in stands."""
    expired = flow.status in {"open", "begun"} and flow.expires_at <= now
    return {
        "id": flow.id,
        "status": "expired" if expired else "begun" if flow.status == "exchanging" else flow.status,
        "reason": flow.reason,
        "connection": flow.connection,
    }


def connection(known: Connection, schedule: Schedule | None) -> dict[str, Any]:
    """One connection, with its cursor and its last sync."""
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
        "next_sync_at": time(planned),
        "last_sync": sync(schedule) if schedule and schedule.started_at is not None else None,
        "created_at": time(known.created_at),
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
