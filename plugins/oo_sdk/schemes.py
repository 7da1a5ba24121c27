"""The schemes of known senders, by name: how each of them proves that a body is its own.

A connector names one as its `webhooks`; an address of one connection's own is given one by its name. Where a sender signs neither a
time nor an id, a body that is recorded and sent again cannot be told from a new one: only its hash can be remembered.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from oo_sdk.webhooks import (
    BodyChallenge,
    Ed25519Scheme,
    FirstSecret,
    HmacScheme,
    NoScheme,
    QueryChallenge,
    Scheme,
    Stamp,
    TokenScheme,
)

MIB: Final = 1024 * 1024

#: Standard Webhooks 1.0, symmetric. The signature covers the id, so a recorded delivery is known again.
STANDARD: Final = HmacScheme(
    header="webhook-signature",
    encoding="base64",
    prefix="v1,",
    separator=" ",
    signed="{id}.{timestamp}.{body}",
    stamp=Stamp(header="webhook-timestamp"),
    secret=("base64",),
    secret_prefix="whsec_",  # noqa: S106 - what a secret begins with
    id_header="webhook-id",
    ours=True,
)

SCHEMES: Final[Mapping[str, Scheme]] = MappingProxyType(
    {
        "standard": STANDARD,
        "standard-ed25519": Ed25519Scheme(
            header="webhook-signature",
            encoding="base64",
            prefix="v1a,",
            separator=" ",
            signed="{id}.{timestamp}.{body}",
            stamp=Stamp(header="webhook-timestamp"),
            secret=("base64",),
            secret_prefix="whpk_",  # noqa: S106 - what a public key begins with
            id_header="webhook-id",
        ),
        "svix": replace(STANDARD, header="svix-signature", stamp=Stamp(header="svix-timestamp"), id_header="svix-id", ours=False),
        "github": HmacScheme(
            header="X-Hub-Signature-256",
            prefix="sha256=",
            id_header="X-GitHub-Delivery",
            keep=("X-GitHub-Event",),
            limit=25 * MIB,
            ours=True,
        ),
        "stripe": HmacScheme(
            header="Stripe-Signature",
            prefix="v1=",
            separator=",",
            signed="{timestamp}.{body}",
            stamp=Stamp(header="Stripe-Signature", prefix="t=", separator=","),
            id_member="id",
        ),
        "slack": HmacScheme(
            header="X-Slack-Signature",
            prefix="v0=",
            signed="v0:{timestamp}:{body}",
            stamp=Stamp(header="X-Slack-Request-Timestamp"),
            id_member="event_id",
            handshake=BodyChallenge(member="challenge", when=("type", "url_verification")),
        ),
        "shopify": HmacScheme(
            header="X-Shopify-Hmac-Sha256",
            encoding="base64",
            id_header="X-Shopify-Webhook-Id",
            keep=("X-Shopify-Topic", "X-Shopify-Shop-Domain", "X-Shopify-Triggered-At"),
        ),
        "linear": HmacScheme(
            header="Linear-Signature",
            stamp=Stamp(member="webhookTimestamp", unit="ms", within=60),
            id_header="Linear-Delivery",
            keep=("Linear-Event",),
        ),
        # GitLab does not say how its signing token becomes a key, so both readings are tried.
        "gitlab": replace(STANDARD, secret=("base64", "text"), keep=("X-Gitlab-Event",), ours=False),
        "gitlab-token": TokenScheme(header="X-Gitlab-Token", id_header="Idempotency-Key", keep=("X-Gitlab-Event",), ours=True),
        "notion": HmacScheme(
            header="X-Notion-Signature", prefix="sha256=", id_member="id", handshake=FirstSecret(member="verification_token")
        ),
        # Its bodies only name accounts, so that two equal ones are two things.
        "dropbox": HmacScheme(header="X-Dropbox-Signature", repeats=True, handshake=QueryChallenge(parameter="challenge")),
        "meta": HmacScheme(
            header="X-Hub-Signature-256",
            prefix="sha256=",
            handshake=QueryChallenge(parameter="hub.challenge", when=(("hub.mode", "subscribe"),), token="hub.verify_token"),  # noqa: S106
        ),
        "zoom": HmacScheme(
            header="x-zm-signature",
            prefix="v0=",
            signed="v0:{timestamp}:{body}",
            stamp=Stamp(header="x-zm-request-timestamp"),
            handshake=BodyChallenge(member="payload.plainToken", when=("event", "endpoint.url_validation"), hashed="encryptedToken"),
        ),
        "todoist": HmacScheme(header="X-Todoist-Hmac-SHA256", encoding="base64", id_header="X-Todoist-Delivery-ID"),
        # A channel's messages are numbered, and the number is no secret: equal ones are one message come twice.
        "google-channel": TokenScheme(
            header="X-Goog-Channel-Token",
            keep=(
                "X-Goog-Channel-ID",
                "X-Goog-Message-Number",
                "X-Goog-Resource-ID",
                "X-Goog-Resource-State",
                "X-Goog-Channel-Expiration",
            ),
            ours=True,
        ),
        # For senders that are not named here: each of their fields can be set when the address is made.
        "hmac": HmacScheme(header="X-Signature", repeats=True, ours=True),
        "basic": TokenScheme(header="Authorization", prefix="Basic ", encoding="base64", repeats=True, ours=True),
        "bearer": TokenScheme(header="Authorization", prefix="Bearer ", repeats=True, ours=True),
        "none": NoScheme(repeats=True),
    }
)
