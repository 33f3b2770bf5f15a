"""Statements of monitors become episodes: what one monitor says over windows that share no data.

Looks each hour at a window of a day share nearly all of it: three in a row are one test. So a window counts only if it begins where the
last one that counted has ended. An episode opens with a drifted window, is confirmed by so many in a row (or by a share of many features
at once, or by a sender that tells how things stand), and ends with quiet. For the same reason not every look may open one, but the first
whose window ends in a new stretch of the windows' length: else twenty-four chances a day would wait for the one that is off.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from uuid import UUID

from perdure.keys import identity
from perdure.messages.retraining import DriftKind, EpisodeState
from perdure.spec.retrain import Policy

EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
MANY = 10  # features: a share of fewer says nothing


@dataclass(frozen=True, kw_only=True)
class Statement:
    """One drift event. ``share`` is that of the features that drifted, where it names at least `MANY`."""

    id: UUID
    monitor: str
    kind: DriftKind
    drifted: bool
    received_at: datetime
    version: int | None = None
    start: datetime | None = None
    end: datetime | None = None
    severity: float = 0.0
    level: bool = False
    share: float | None = None


@dataclass(frozen=True, kw_only=True)
class Episode:
    """Where an episode stands: ``hits`` drifted windows, ``misses`` quiet ones in a row; ``last`` is the end of what counted last."""

    id: UUID
    monitor: str
    kind: DriftKind
    opened_at: datetime
    state: EpisodeState = EpisodeState.WATCH
    hits: int = 0
    misses: int = 0
    last: datetime | None = None


class Meaning(StrEnum):
    """What a statement came to."""

    LATE = "late"  # about data that a later training has learned from, or a version that serves no more
    QUIET = "quiet"
    PART = "part"  # of an episode


@dataclass(frozen=True, kw_only=True)
class Followed:
    """A statement and the episode that it belongs to."""

    statement: Statement
    meaning: Meaning
    episode: UUID | None = None


@dataclass(frozen=True, kw_only=True)
class Course:
    """What statements made of the open episodes: ``episodes`` has each one that was or became open, also those that are closed now."""

    episodes: dict[UUID, Episode]
    followed: list[Followed]


def follow(
    open_episodes: Iterable[Episode],
    statements: Sequence[Statement],
    policy: Policy,
    *,
    window: timedelta,
    trained: datetime | None,
    serves: int | None,
    heard: Mapping[str, datetime] | None = None,
) -> Course:
    """Take *statements* in the order of their windows.

    *window* is how long a window is that does not say so, *trained* the data cut-off of the last training, *serves* the version that
    answers requests now, *heard* the latest end of a window that each monitor has spoken of before.
    """
    known = {episode.id: episode for episode in open_episodes}
    latest = dict(heard or {})
    current = {episode.monitor: episode for episode in known.values()}
    followed: list[Followed] = []
    for statement in sorted(statements, key=lambda each: (_end(each), each.received_at, each.id)):
        episode = current.get(statement.monitor)
        opens = statement.level or _is_first(statement, latest.get(statement.monitor), window)
        latest[statement.monitor] = max(_end(statement), latest.get(statement.monitor, _end(statement)))
        if _is_late(statement, trained, serves):
            followed.append(Followed(statement=statement, meaning=Meaning.LATE))
            continue
        if episode is None and not (opens and _is_hit(statement, policy)):
            followed.append(Followed(statement=statement, meaning=Meaning.QUIET))
            continue
        after = _next(episode or _opened(statement), statement, policy, window)
        known[after.id] = after
        if after.state is EpisodeState.CLOSED:
            current.pop(statement.monitor, None)
        else:
            current[statement.monitor] = after
        followed.append(Followed(statement=statement, meaning=Meaning.PART, episode=after.id))
    return Course(episodes=known, followed=followed)


def _end(statement: Statement) -> datetime:
    return statement.end or statement.received_at


def _is_first(statement: Statement, before: datetime | None, window: timedelta) -> bool:
    """Whether this is the first window of its monitor that ends in its stretch of time; all stretches are as long as a window."""
    end = _end(statement)
    length = end - statement.start if statement.start is not None and statement.start < end else window
    return before is None or (end - EPOCH) // length > (before - EPOCH) // length


def _is_late(statement: Statement, trained: datetime | None, serves: int | None) -> bool:
    if statement.version is not None and serves is not None and statement.version != serves:
        return True
    return trained is not None and statement.end is not None and statement.end <= trained


def _is_hit(statement: Statement, policy: Policy) -> bool:
    return statement.drifted and (statement.level or statement.severity >= policy.enter)


def _opened(statement: Statement) -> Episode:
    return Episode(
        id=identity("episode", statement.id),
        monitor=statement.monitor,
        kind=statement.kind,
        opened_at=statement.received_at,
    )


def _next(episode: Episode, statement: Statement, policy: Policy, window: timedelta) -> Episode:
    """*episode* after *statement*."""
    if statement.level:
        if not statement.drifted:
            return replace(episode, state=EpisodeState.CLOSED)
        return replace(_confirmed(episode), hits=episode.hits + 1, misses=0)
    start = statement.start or _end(statement) - window
    if episode.last is not None and start < episode.last:
        return episode  # it shares data with a window that has counted
    if _is_hit(statement, policy):
        episode = replace(episode, hits=episode.hits + 1, misses=0, last=_end(statement))
        at_once = statement.share is not None and statement.share >= policy.share
        return _confirmed(episode) if at_once or episode.hits >= policy.confirm else episode
    if statement.drifted or statement.severity > policy.exit:
        return episode  # neither drifted nor quiet
    episode = replace(episode, misses=episode.misses + 1, last=_end(statement))
    over = episode.state is EpisodeState.WATCH or episode.misses >= policy.quiet
    return replace(episode, state=EpisodeState.CLOSED) if over else episode


def _confirmed(episode: Episode) -> Episode:
    return replace(episode, state=EpisodeState.CONFIRMED) if episode.state is EpisodeState.WATCH else episode


def share_of(metrics: Sequence[object]) -> float | None:
    """The share of features that drifted by any of an event's *metrics*; None where it names fewer than `MANY`."""
    features: dict[object, bool] = {}
    for metric in metrics:
        if isinstance(metric, dict) and isinstance(metric.get("drifted"), bool) and (name := metric.get("feature")) is not None:
            features[str(name)] = features.get(str(name), False) or metric["drifted"]
    return sum(features.values()) / len(features) if len(features) >= MANY else None
