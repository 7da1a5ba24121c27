"""What an event is made of: expressions over a delivery, and those that suit known senders.

An expression sees `body` (decoded), `headers` (names with small letters; those that the scheme keeps) and `id`.
"""

from __future__ import annotations

from collections.abc import Mapping as Named
from types import MappingProxyType
from typing import Final

from oo_sdk import Struct
from oo_webhook import expression


class Mapping(Struct):
    """Expressions in JMESPath; an empty one leaves it to the known sender's, or to the default."""

    type: str = ""  #: the event's name; the default is `received`
    subject: str = ""  #: what it is about; the default is the delivery's id
    at: str = ""  #: when it happened: RFC 3339, or seconds or milliseconds since 1970; the default is unknown
    id: str = ""  #: what tells two events apart; the default is the delivery's id
    fields: dict[str, str] = {}  # noqa: RUF012 - a Struct copies it  #: what is kept, by name; the default is the whole body

    def __post_init__(self) -> None:
        for each in (self.type, self.subject, self.at, self.id, *self.fields.values()):
            if each:
                expression.check(each)


_STANDARD: Final = Mapping(type="body.type", subject="body.data.id", at="body.timestamp")
_GITLAB: Final = Mapping(
    type="join('.', ['gitlab', body.object_kind || body.event_name, body.object_attributes.action][?@])",
    subject="body.project.path_with_namespace || body.path_with_namespace",
    at="body.object_attributes.updated_at || body.updated_at",
)

#: By the name of the scheme.
KNOWN: Final[Named[str, Mapping]] = MappingProxyType(
    {
        "standard": _STANDARD,
        "standard-ed25519": _STANDARD,
        "svix": _STANDARD,
        "github": Mapping(
            type="join('.', ['github', headers.\"x-github-event\", body.action][?@])",
            subject="body.repository.full_name || body.organization.login || body.sender.login || body.installation.account.login",
            at=(
                "body.comment.updated_at || body.review.submitted_at || body.pull_request.updated_at || body.issue.updated_at"
                " || body.release.published_at || body.head_commit.timestamp || body.workflow_run.updated_at || body.check_run.completed_at"
            ),
        ),
        "stripe": Mapping(type="join('.', ['stripe', body.type][?@])", subject="body.data.object.id", at="body.created"),
        "slack": Mapping(
            type="join('.', ['slack', body.event.type || body.type || body.command && 'command'][?@])",
            subject="body.event.channel || body.channel_id || body.team_id",
            at="body.event_time",
        ),
        "shopify": Mapping(
            type="join('.', ['shopify', headers.\"x-shopify-topic\"][?@])",
            subject='body.id || headers."x-shopify-shop-domain"',
            at='headers."x-shopify-triggered-at" || body.updated_at',
        ),
        "linear": Mapping(type="join('.', ['linear', body.type, body.action][?@])", subject="body.data.id", at="body.createdAt"),
        "gitlab": _GITLAB,
        "gitlab-token": _GITLAB,
        "notion": Mapping(type="join('.', ['notion', body.type][?@])", subject="body.entity.id", at="body.timestamp"),
        "dropbox": Mapping(type="'dropbox.changed'", subject="body.list_folder.accounts[0]"),
        "meta": Mapping(
            type="join('.', [body.object, body.entry[0].changes[0].field][?@])", subject="body.entry[0].id", at="body.entry[0].time"
        ),
        "zoom": Mapping(type="join('.', ['zoom', body.event][?@])", subject="body.payload.object.id", at="body.event_ts"),
        "todoist": Mapping(type="join('.', ['todoist', body.event_name][?@])", subject="body.event_data.id", at="body.triggered_at"),
        "google-channel": Mapping(
            type="join('.', ['google', headers.\"x-goog-resource-state\"][?@])", subject='headers."x-goog-resource-id"'
        ),
    }
)
