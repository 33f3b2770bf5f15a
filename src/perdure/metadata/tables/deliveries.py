"""What comes in by web hooks and what goes out: inbox, outbox, and who may send."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, Index, LargeBinary, text
from sqlalchemy.orm import Mapped, mapped_column

from perdure.messages.labeling import DeliveryState
from perdure.metadata.tables.base import Base, Created, Key, Serial, owned_by


class HookProvider(StrEnum):
    """How a sender proves who it is, and what its bodies look like."""

    STANDARD = "standard"  # Standard Webhooks: webhook-id, webhook-timestamp, webhook-signature
    LABEL_STUDIO = "labelstudio"  # a bearer header; Label Studio signs nothing
    SLACK = "slack"  # X-Slack-Signature
    EVENTS = "events"  # Standard Webhooks around CloudEvents
    ALERTMANAGER = "alertmanager"  # a bearer header
    SIGNAL = "signal"  # signals of the bare Temporal CLI: nothing comes here by HTTP


class ApiKey(Base):
    """Who may call: the sha256 of a 256-bit random key, its scopes, and the name that stands for its holder in every row."""

    __tablename__ = "api_key"

    id: Mapped[Key]
    principal: Mapped[str] = mapped_column(index=True)
    key_sha256: Mapped[str] = mapped_column(unique=True)
    scopes: Mapped[list[Any]]
    created_at: Mapped[Created]
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


class BrowserSession(Base):
    """A browser that came by a one-time link. It may do what its key may, for as long. Only the sha256 of link and cookie is kept."""

    __tablename__ = "browser_session"

    id: Mapped[Key]
    key_id: Mapped[UUID] = mapped_column(owned_by("api_key"), index=True)
    link_sha256: Mapped[str] = mapped_column(unique=True)
    link_expires_at: Mapped[datetime]
    cookie_sha256: Mapped[str | None] = mapped_column(unique=True)  # set when the link was used
    expires_at: Mapped[datetime]
    created_at: Mapped[Created]


class Hook(Base):
    """An address for web hooks. ``secrets`` are references with an end of validity, so that one may be rotated: never a secret itself."""

    __tablename__ = "hook"

    id: Mapped[str] = mapped_column(primary_key=True)
    provider: Mapped[HookProvider]
    campaign_id: Mapped[UUID | None] = mapped_column(owned_by("campaign"))
    secrets: Mapped[list[Any]]  # [{"ref": "file:...", "until": null}]
    created_by: Mapped[str]
    created_at: Mapped[Created]
    retired_at: Mapped[datetime | None]


class Delivery(Base):
    """One message to a hook. The key is the sender's (or made of the body): the same message twice is one row."""

    __tablename__ = "delivery"
    __table_args__ = (
        Index(None, "received_at"),
        Index("ix_delivery_unprocessed", "received_at", postgresql_where=text("state <> 'processed'")),
        CheckConstraint("(state = 'processed') = (processed_at is not null)", name="processed"),
    )

    hook_id: Mapped[str] = mapped_column(owned_by("hook"), primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    body_sha256: Mapped[str]
    headers: Mapped[dict[str, Any]]
    body: Mapped[bytes | None] = mapped_column(LargeBinary)  # goes with its row, when that is old
    state: Mapped[DeliveryState]
    attempts: Mapped[int] = mapped_column(server_default="1")
    error: Mapped[str | None]
    received_at: Mapped[Created]
    processed_at: Mapped[datetime | None]


class Withdrawal(Base):
    """An answer that its sender deleted before it came, and without naming its task: when it comes, it is deleted at once."""

    __tablename__ = "withdrawal"

    campaign_id: Mapped[UUID] = mapped_column(owned_by("campaign"), primary_key=True)
    source: Mapped[str] = mapped_column(primary_key=True)
    source_key: Mapped[str] = mapped_column(primary_key=True)
    at: Mapped[Created]


class Outbox(Base):
    """What is to be told outside after a commit: a poke of a workflow, a message to people. Sent at least once."""

    __tablename__ = "outbox"
    __table_args__ = (
        Index("ix_outbox_unsent", "due_at", "id", postgresql_where=text("sent_at is null")),
        Index("ix_outbox_sent", "sent_at", postgresql_where=text("sent_at is not null")),
    )

    id: Mapped[Serial]
    topic: Mapped[str]  # poke | notify
    target: Mapped[str]  # a workflow id, or a recipient
    payload: Mapped[dict[str, Any]]
    attempts: Mapped[int] = mapped_column(server_default="0")
    error: Mapped[str | None]
    created_at: Mapped[Created]
    due_at: Mapped[Created]
    sent_at: Mapped[datetime | None]


class IdempotentRequest(Base):
    """A request that was answered, by its caller's key: the same again is answered the same, another body under it is refused."""

    __tablename__ = "idempotent_request"
    __table_args__ = (Index(None, "created_at"),)

    id: Mapped[Key]  # of tenant, principal and key
    principal: Mapped[str]
    key: Mapped[str]
    route: Mapped[str]
    request_sha256: Mapped[str]
    status: Mapped[int]
    response: Mapped[dict[str, Any]]
    created_at: Mapped[Created]
