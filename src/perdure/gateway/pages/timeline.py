"""A model's life as rows of a picture: who served when, when something drifted, and what was decided. Pure: positions, no markup."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from perdure.messages.common import Json
from perdure.metadata.queries import ModelHistory

WIDTH, HEIGHT = 1000, 24
THIN = 6  # the least width, so that a moment is seen on a phone
MOST_VERSIONS = 12
_SHOWN = {"release": "released", "canary": "canary", "arm": "arm of an experiment", "shadow": "shadow", "standby": "standby"}


@dataclass(frozen=True, kw_only=True)
class Bar:
    """An interval or a moment: where it is, what it is (a class of the style sheet), and what it says when it is pointed at."""

    x: int
    width: int
    height: int
    kind: str
    title: str


@dataclass(frozen=True, kw_only=True)
class Lane:
    """One row: its name, and its bars from left to right."""

    name: str
    bars: list[Bar]


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """All rows over one interval."""

    start: datetime
    end: datetime
    lanes: list[Lane]

    @property
    def middle(self) -> datetime:
        """The time at half its width."""
        return self.start + (self.end - self.start) / 2


def timeline(history: ModelHistory) -> Timeline | None:
    """From the first version that served until the time that is looked at; None where none ever did."""
    if not history.serving:
        return None
    start = min(row["since"] for row in history.serving)
    end = max(history.at, start + timedelta(minutes=1))

    def at(moment: datetime) -> float:
        share: float = (max(start, min(moment, end)) - start) / (end - start)
        return WIDTH * share

    newest = sorted({row["version"] for row in history.serving}, reverse=True)[:MOST_VERSIONS]
    lanes = [Lane(name=f"v{number}", bars=_intervals(history.serving, number, at, end)) for number in newest]
    drifted = [row for row in history.drift if row["drifted"]]
    lanes.append(Lane(name="drift", bars=_moments(drifted, at, "received_at", lambda row: "drift", _drift)))
    lanes.append(Lane(name="decisions", bars=_moments(history.decisions, at, "created_at", lambda row: str(row["outcome"]), _decision)))
    return Timeline(start=start, end=end, lanes=[lane for lane in lanes if lane.bars])


def _intervals(rows: Iterable[Json], version: int, at: Callable[[datetime], float], end: datetime) -> list[Bar]:
    mine = sorted((row for row in rows if row["version"] == version), key=lambda row: row["since"])
    return [_bar(at(row["since"]), at(row["until"] or end), row["share"], row["role"], _served(row)) for row in mine]


def _moments(
    rows: Iterable[Json], at: Callable[[datetime], float], name: str, kind: Callable[[Json], str], title: Callable[[Json], str]
) -> list[Bar]:
    """Oldest first; what falls on one place is one bar."""
    places = {round(at(row[name]) / THIN): row for row in rows}
    return [_bar(place * THIN, place * THIN, None, kind(row), title(row)) for place, row in sorted(places.items())]


def _bar(left: float, right: float, share: float | None, kind: str, title: str) -> Bar:
    width = max(THIN, round(right - left))
    height = HEIGHT if share is None else max(5, round(HEIGHT * share / 100))
    return Bar(x=min(round(left), WIDTH - width), width=width, height=height, kind=kind, title=title)


def _served(row: Json) -> str:
    share = f", {row['share']:g} %" if row["share"] is not None else ""
    until = f"{row['until']:%Y-%m-%d %H:%M}" if row["until"] else "now"
    return f"version {row['version']}, {_SHOWN[row['role']]}{share}: {row['since']:%Y-%m-%d %H:%M} to {until}"


def _drift(row: Json) -> str:
    return f"{row['kind']} drift by {row['monitor']}, {row['received_at']:%Y-%m-%d %H:%M}"


def _decision(row: Json) -> str:
    return f"{row['outcome']}, {row['created_at']:%Y-%m-%d %H:%M}: {row['reason']}"
