"""Which version a rollback leads to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID


@dataclass(frozen=True, kw_only=True)
class Served:
    """A release, as far as a rollback cares."""

    version: UUID
    number: int
    rollback: bool


def lineup(releases: Iterable[Served]) -> list[Served]:
    """The versions behind the one that serves, which is the last: what was rolled back stands in nobody's way any more.

    *releases* are all releases of a model, the oldest first. So a second rollback goes a version further back, not to the one just undone.
    """
    behind: list[Served] = []
    for release in releases:
        if release.rollback:
            earlier = [index for index, each in enumerate(behind) if each.version == release.version]
            del behind[earlier[-1] if earlier else len(behind) :]
        behind.append(release)
    return behind
