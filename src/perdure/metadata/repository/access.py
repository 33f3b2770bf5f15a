"""Who may call the gateway: keys and hooks, by digest and by reference, and the answers that repeated requests get."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import UUID, uuid4

from sqlalchemy import Select, func, select, update
from sqlalchemy.orm import Session

from perdure.errors import Conflict, InvalidInput, NotFound
from perdure.keys import identity
from perdure.messages.common import Json
from perdure.metadata import tables as t
from perdure.metadata.jsonb import plain
from perdure.metadata.repository.rows import Rows

SCOPES = (
    "campaign:write",
    "campaign:read",
    "label",
    "adjudicate",
    "promote:approve",
    "predict",
    "events:write",
    "outcomes:write",
    "model:read",
    "admin",
)
"""What a key may do. ``admin`` may do everything."""
NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"
PRINCIPAL = r"^[A-Za-z0-9][A-Za-z0-9._:@+-]{0,99}$"
"""Without a slash: names of answers are made of these, and two of them must never be the same."""
ANSWERING = (t.HookProvider.STANDARD, t.HookProvider.LABEL_STUDIO)
"""Providers whose messages answer the tasks of a campaign."""
PREFIX = "pdr_"  # keys are found by it where they leaked


@dataclass(frozen=True, kw_only=True)
class Key:
    """An API key without its secret. ``principal`` stands for its holder in every row."""

    id: UUID
    principal: str
    scopes: list[str]
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None

    def opens(self, now: datetime) -> bool:
        """Whether the key is neither revoked nor over."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


@dataclass(frozen=True, kw_only=True)
class SecretRef:
    """Where a hook's secret lies, and until when it is accepted; None: for ever."""

    ref: str
    until: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Hook:
    """An address for web hooks."""

    id: str
    provider: t.HookProvider
    campaign: UUID | None
    created_by: str
    created_at: datetime
    secrets: list[SecretRef] = field(default_factory=list)
    retired_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Answered:
    """What was answered to a request, and to which."""

    route: str
    request_sha256: str
    status: int
    response: Json


class AccessRows(Rows):
    """Keys, hooks and idempotent requests on Postgres."""

    # --- keys ----------------------------------------------------------------------------------------------------------

    def create_key(self, principal: str, scopes: list[str], expires_at: datetime | None = None) -> tuple[Key, str]:
        """A new key and its secret, which is kept nowhere. Raises InvalidInput for an unknown scope."""
        if unknown := sorted(set(scopes) - set(SCOPES)):
            raise InvalidInput(f"unknown scopes: {', '.join(unknown)}", field="scopes", remedy=f"choose from {', '.join(SCOPES)}")
        if not scopes:
            raise InvalidInput("a key needs a scope", field="scopes", remedy=f"choose from {', '.join(SCOPES)}")
        if not re.fullmatch(PRINCIPAL, principal):
            raise InvalidInput(f"{principal!r} is no name of a person or tool", field="principal", remedy="use letters, digits and .:@+-_")
        secret, key = PREFIX + secrets.token_urlsafe(32), uuid4()
        with self._database.transaction() as session:
            self._add(
                session,
                t.ApiKey,
                id=key,
                principal=plain(principal),
                key_sha256=sha256(secret),
                scopes=sorted(set(scopes)),
                expires_at=expires_at,
            )
            return key_of(session.get_one(t.ApiKey, key)), secret

    def key(self, key_sha256: str) -> Key | None:
        """The key with this digest, whether it is still good or not."""
        with self._database.transaction() as session:
            row = session.scalars(select(t.ApiKey).where(t.ApiKey.key_sha256 == key_sha256, t.ApiKey.tenant == self._tenant)).one_or_none()
            return key_of(row) if row is not None else None

    def keys(self) -> list[Key]:
        """All keys, the newest first."""
        with self._database.transaction() as session:
            query = select(t.ApiKey).where(t.ApiKey.tenant == self._tenant).order_by(t.ApiKey.created_at.desc(), t.ApiKey.id)
            return [key_of(row) for row in session.scalars(query)]

    def revoke_key(self, key: UUID) -> Key:
        """The key opens nothing any more; a repeat changes nothing. Raises NotFound."""
        with self._database.transaction() as session:
            mine = (t.ApiKey.id == key, t.ApiKey.tenant == self._tenant)
            session.execute(update(t.ApiKey).where(*mine, t.ApiKey.revoked_at.is_(None)).values(revoked_at=func.now()))
            row = session.scalars(select(t.ApiKey).where(*mine)).one_or_none()
            if row is None:
                raise NotFound(f"there is no key {key}", field="key", remedy="`perdure keys list` shows all")
            return key_of(row)

    # --- hooks ---------------------------------------------------------------------------------------------------------

    def create_hook(self, id: str, provider: t.HookProvider, campaign: UUID | None, secret: str, created_by: str) -> Hook:
        """A new hook whose secret lies at the reference *secret*. Raises InvalidInput for a campaign that does not fit the provider."""
        if not re.fullmatch(NAME, id):
            raise InvalidInput(f"{id!r} is no name of a hook", field="hook", remedy="use letters, digits and .-_")
        if provider is t.HookProvider.SIGNAL:
            raise InvalidInput("signals need no hook", field="provider", remedy="see docs/events.md")
        if (campaign is not None) != (provider in ANSWERING):
            wanted = "no campaign" if campaign else "a campaign"
            raise InvalidInput(f"a {provider} hook needs {wanted}", field="campaign", remedy=f"{' and '.join(ANSWERING)} answer tasks")
        with self._database.transaction() as session:
            if not self._add(
                session,
                t.Hook,
                id=id,
                provider=provider,
                campaign_id=campaign,
                secrets=[{"ref": secret, "until": None}],
                created_by=plain(created_by),
            ):
                raise Conflict(f"there is a hook {id!r} already", field="hook", remedy="choose another name")
            return _hook(session.get_one(t.Hook, id))

    def hook(self, id: str) -> Hook:
        """Raises NotFound."""
        with self._database.transaction() as session:
            return _hook(self._owned_hook(session, select(t.Hook), id))

    def hooks(self) -> list[Hook]:
        """All hooks, the newest first."""
        with self._database.transaction() as session:
            query = select(t.Hook).where(t.Hook.tenant == self._tenant).order_by(t.Hook.created_at.desc(), t.Hook.id)
            return [_hook(row) for row in session.scalars(query)]

    def rotate_hook(self, id: str, secret: str, until: datetime) -> Hook:
        """The hook takes the secret at the reference *secret*, and those before it only *until* then. Raises NotFound."""
        with self._database.transaction() as session:
            row = self._owned_hook(session, select(t.Hook).with_for_update(), id)
            now = datetime.now(UTC)
            kept = [old for old in _hook(row).secrets if old.until is None or old.until > now]
            ends = [{"ref": old.ref, "until": min(old.until or until, until).isoformat()} for old in kept if old.ref != secret]
            row.secrets = [*ends, {"ref": secret, "until": None}]
            session.flush()
            return _hook(row)

    def retire_hook(self, id: str) -> Hook:
        """The hook takes nothing any more; a repeat changes nothing. Raises NotFound."""
        with self._database.transaction() as session:
            row = self._owned_hook(session, select(t.Hook).with_for_update(), id)
            row.retired_at = row.retired_at or datetime.now(UTC)
            session.flush()
            return _hook(row)

    def _owned_hook(self, session: Session, hooks: Select[t.Hook], id: str) -> t.Hook:
        """One of *hooks*. What can be no hook's name is not asked for: Postgres takes no NUL."""
        mine = hooks.where(t.Hook.id == id, t.Hook.tenant == self._tenant)
        row = session.scalars(mine).one_or_none() if re.fullmatch(NAME, id) else None
        if row is None:
            raise NotFound(f"there is no hook {id!r}", field="hook", remedy="`perdure hooks list` shows all")
        return row

    # --- repeated requests ---------------------------------------------------------------------------------------------

    def once(
        self, principal: str, key: str, route: str, request_sha256: str, work: Callable[[], tuple[int, Json]]
    ) -> tuple[Answered, bool]:
        """What this caller was answered under this key, and whether that is new: else *work* is done, in one transaction with its answer.

        The same key at the same time waits for the first. Where *work* raises, nothing is kept. What was answered before may be to another
        request: the caller compares.
        """
        with self._database.joined() as session:
            self._lock(session, "request", principal, key)
            row = session.get(t.IdempotentRequest, self._request(principal, key))
            if row is not None:
                return _answered(row), False
            status, response = work()
            values = {"route": route, "request_sha256": request_sha256, "status": status, "response": response}
            named = {"id": self._request(principal, key), "principal": plain(principal), "key": plain(key)}
            self._add(session, t.IdempotentRequest, **named, **values)
            return Answered(route=route, request_sha256=request_sha256, status=status, response=response), True

    def answered(self, principal: str, key: str) -> Answered | None:
        """What this caller was answered under this key."""
        with self._database.transaction() as session:
            row = session.get(t.IdempotentRequest, self._request(principal, key))
            return _answered(row) if row is not None else None

    def _request(self, principal: str, key: str) -> UUID:
        return identity(self._tenant, "request", principal, key)


def sha256(secret: str) -> str:
    """The digest under which a key is kept. A key is 256 random bits: no salt and no slow hash would add anything."""
    return hashlib.sha256(secret.encode()).hexdigest()


def key_of(row: t.ApiKey) -> Key:
    """The row as a plain value."""
    return Key(
        id=row.id,
        principal=row.principal,
        scopes=row.scopes,
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
    )


def _answered(row: t.IdempotentRequest) -> Answered:
    return Answered(route=row.route, request_sha256=row.request_sha256, status=row.status, response=row.response)


def _hook(row: t.Hook) -> Hook:
    return Hook(
        id=row.id,
        provider=row.provider,
        campaign=row.campaign_id,
        created_by=row.created_by,
        created_at=row.created_at,
        secrets=[
            SecretRef(ref=each["ref"], until=datetime.fromisoformat(each["until"]) if each["until"] else None) for each in row.secrets
        ],
        retired_at=row.retired_at,
    )
