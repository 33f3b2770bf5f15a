"""Browsers that are signed in: a one-time link becomes a cookie, which may do what its key may."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

from sqlalchemy import delete, func, select, update

from perdure.errors import AccessDenied, NotFound
from perdure.metadata import tables as t
from perdure.metadata.repository.access import Key, key_of, sha256
from perdure.metadata.repository.rows import Rows

PREFIX = "pds_"


@dataclass(frozen=True, kw_only=True)
class Link:
    """A one-time link: what it opens, until when, and until when the session lasts that it begins."""

    key: Key
    expires_at: datetime
    session_until: datetime


class SessionRows(Rows):
    """Links and sessions on Postgres."""

    def make_link(self, principal: str, key: UUID | None = None, *, minutes: float = 15, hours: float = 12) -> tuple[Link, str]:
        """A link for *principal* and its secret, which is kept nowhere; for their newest good key, or *key*. Raises NotFound."""
        now, secret = datetime.now(UTC), secrets.token_urlsafe(32)
        with self._database.transaction() as session:
            query = select(t.ApiKey).where(t.ApiKey.tenant == self._tenant, t.ApiKey.principal == principal)
            if key is not None:
                query = query.where(t.ApiKey.id == key)
            good = [found for row in session.scalars(query.order_by(t.ApiKey.created_at.desc())) if (found := key_of(row)).opens(now)]
            if not good:
                raise NotFound(
                    f"{principal!r} has no key that opens", field="principal", remedy=f"perdure keys create {principal} --scope label"
                )
            ends, until = now + timedelta(minutes=minutes), now + timedelta(minutes=minutes, hours=hours)
            self._add(
                session,
                t.BrowserSession,
                id=uuid4(),
                key_id=good[0].id,
                link_sha256=sha256(secret),
                link_expires_at=ends,
                expires_at=until,
            )
            return Link(key=good[0], expires_at=ends, session_until=until), secret

    def link(self, link_sha256: str) -> Link | None:
        """What this link opens; None where it is used, over or unknown. Looking does not use it."""
        b = t.BrowserSession
        query = select(b, t.ApiKey).join(t.ApiKey, t.ApiKey.id == b.key_id).where(b.tenant == self._tenant, b.link_sha256 == link_sha256)
        with self._database.transaction() as session:
            row = session.execute(query.where(b.cookie_sha256.is_(None), b.link_expires_at > func.now())).one_or_none()
            if row is None or not (key := key_of(row[1])).opens(datetime.now(UTC)):
                return None
            return Link(key=key, expires_at=row[0].link_expires_at, session_until=row[0].expires_at)

    def redeem(self, link_sha256: str) -> tuple[Link, str]:
        """Use the link, once: what it opens, and the secret of the session's cookie, which is kept nowhere. Raises AccessDenied."""
        found, cookie = self.link(link_sha256), PREFIX + secrets.token_urlsafe(32)
        b = t.BrowserSession
        with self._database.transaction() as session:
            taken = session.scalar(
                update(b)
                .where(b.tenant == self._tenant, b.link_sha256 == link_sha256, b.cookie_sha256.is_(None), b.link_expires_at > func.now())
                .values(cookie_sha256=sha256(cookie))
                .returning(b.id)
            )
            if found is None or taken is None:
                raise AccessDenied(
                    "this link was used, or its time is over", field="link", remedy="ask for a new one: `perdure keys login NAME` makes it"
                )
            return found, cookie

    def session(self, cookie_sha256: str) -> Key | None:
        """The key of the session with this cookie, which ends no later than the session."""
        b = t.BrowserSession
        query = select(b.expires_at, t.ApiKey).join(t.ApiKey, t.ApiKey.id == b.key_id)
        with self._database.transaction() as session:
            row = session.execute(query.where(b.tenant == self._tenant, b.cookie_sha256 == cookie_sha256)).one_or_none()
            if row is None:
                return None
            key = key_of(row[1])
            return replace(key, expires_at=min(row[0], key.expires_at or row[0]))

    def end(self, cookie_sha256: str) -> None:
        """Sign out; a repeat changes nothing."""
        b = t.BrowserSession
        with self._database.transaction() as session:
            session.execute(delete(b).where(b.tenant == self._tenant, b.cookie_sha256 == cookie_sha256))
