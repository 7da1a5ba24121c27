"""Events of oO itself."""

from daemon.outbox.test_wire import CONNECTION, NOW
from msgspec.structs import replace

from oo_daemon.outbox import own, wire
from oo_daemon.store.accept import event_id


def test_an_event_about_a_connection() -> None:
    """What happened to a connection is an event with its id as subject, of a type that no connector can have."""
    draft = own.connection_event(CONNECTION, "needs_sign_in", NOW, reason="gone")
    body = wire.encode(CONNECTION, NOW)(draft, event_id("c-1", draft.type, draft.key, 1), 1)
    told = wire.as_json(body)
    assert (told["type"], told["subject"], told["change"], told["provider"]) == ("connection.needs_sign_in", "c-1", "occurred", "acme")
    assert told["occurred_at"] == told["observed_at"] == "2023-11-14T22:13:20Z"
    assert told["payload"]["fields"] == {"reason": "gone"}


def test_once_for_each_version() -> None:
    """Told twice of the same version of a connection it is the same event; of the next version, another."""
    keys = [
        own.connection_event(connection, "connected", NOW).key for connection in (CONNECTION, CONNECTION, replace(CONNECTION, version=2))
    ]
    assert keys[0] == keys[1] != keys[2]


def test_without_fields() -> None:
    """An event about a connection may have nothing more to say."""
    assert own.connection_event(CONNECTION, "connected", NOW).payload == b""
