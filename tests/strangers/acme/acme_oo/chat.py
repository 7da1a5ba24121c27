"""Acme Chat: messages as they are pushed to us."""

from collections.abc import Sequence
from datetime import datetime

from acme_oo.message_pb2 import Message
from oo_sdk import (
    Change,
    Connector,
    Delivery,
    Event,
    Flow,
    HmacScheme,
    News,
    OAuth2,
    Scope,
    Stored,
    StoredCredential,
    Struct,
    Withdrawn,
    decode,
    hookimpl,
)

API = "https://api.acme.example/v1"


class Me(Struct):
    id: str
    email: str


class Pushed(Struct):
    account: str
    message: str
    text: str
    sent_at: datetime


class AcmeChat(Connector):
    id = "acme_chat"
    title = "Acme Chat"
    auth = OAuth2(
        authorize="https://acme.example/oauth/authorize",
        token="https://acme.example/oauth/token",
        revoke="https://acme.example/oauth/revoke",
    )
    scopes = [Scope("chat.read", "Read the messages that you are sent.")]
    stores = [Stored("message", "the messages that you are sent", "show them where you read", ["text"])]
    hosts = ["api.acme.example"]
    webhooks = HmacScheme(header="X-Acme-Signature", prefix="sha256=", id_header="X-Acme-Delivery")

    async def finish_oauth(self, flow: Flow, code: str) -> StoredCredential:
        stored = await flow.exchange(code)
        me = await flow.http.get(f"{API}/me", into=Me)
        return stored.of(me.id, label=me.email)

    async def route(self, delivery: Delivery) -> Sequence[str]:
        return [decode(delivery.body, Pushed).account]

    async def read(self, delivery: Delivery) -> Sequence[News]:
        pushed = decode(delivery.body, Pushed)
        if pushed.message == "app_removed":
            return [Withdrawn(at=pushed.sent_at)]
        return [Event("message", pushed.message, Change.OCCURRED, at=pushed.sent_at, payload=Message(text=pushed.text))]


@hookimpl
def oo_connectors() -> list[Connector]:
    return [AcmeChat()]
