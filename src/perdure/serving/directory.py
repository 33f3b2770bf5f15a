"""Which loaded version answers for which model: rows decide, and nothing is switched to before it is loaded."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from uuid import UUID

from perdure.config import ServingSettings
from perdure.errors import ModelUnavailable, NotFound
from perdure.metadata.queries.routing import Candidate, Route, Version
from perdure.serving.shelf import Loaded, Shelf


@dataclass(frozen=True, kw_only=True, eq=False)
class Live:
    """Who answers for a model: the version of release row *release*, and a candidate where one is loaded."""

    release: UUID
    released: Loaded
    candidate: Candidate | None = None
    beside: Loaded | None = None
    previous: Loaded | None = None


class Directory:
    """The routes of this process. Used from the event loop alone; `take` is given what the rows say."""

    def __init__(self, settings: ServingSettings, shelf: Shelf, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings, self._shelf, self._clock = settings, shelf, clock
        self.routes: dict[str, Route] = {}
        self.read_at: float | None = None
        self._live: dict[str, Live] = {}
        self._used: dict[str, float] = {}
        self._sizes: dict[UUID, int] = {}  # of versions that were loaded here
        self._waited: set[asyncio.Task[Loaded | None]] = set()
        self._since: dict[str, tuple[UUID, float]] = {}  # the released version that is not loaded yet, and since when it is wanted

    @property
    def pool(self) -> Executor:
        """Threads that score."""
        return self._shelf.pool

    @property
    def ready(self) -> bool:
        """Whether rows were read, lately enough, and every released version that has its place is loaded or cannot be."""
        if self._stale():
            return False
        known = self._shelf.loaded.keys() | self._shelf.failed.keys()
        released = {route.released.id for route in self.routes.values() if route.released}
        return all(version.id in known for _, version in self._wanted() if version.id in released)

    def take(self, routes: Sequence[Route]) -> None:
        """What the rows say now."""
        self.read_at = self._clock()
        self.routes = {route.model: route for route in routes}
        self.settle()

    async def live(self, model: str) -> Live:
        """Who answers for *model* now. Raises NotFound, ModelUnavailable."""
        live = self._live.get(model)
        if live is None or self._stale():
            live = await self._awaited(model)
        self._used[model] = self._clock()
        return live

    def settle(self) -> None:
        """Switch to what is loaded, and start to load what is wanted and not there."""
        places, now = self._wanted(), self._clock()
        for model, version in places:
            failure = self._shelf.failed.get(version.id)
            if version.id not in self._shelf.loaded and (failure is None or failure.due(now)):
                self._load(model, version)
        kept = {version.id for _, version in places}
        loaded = {id: each for id, each in self._shelf.loaded.items() if id in kept}
        self._live = {model: live for model, route in self.routes.items() if (live := self._switched(route, loaded, now)) is not None}
        self._shelf.keep(kept | {live.released.version.id for live in self._live.values()})

    def _switched(self, route: Route, loaded: Mapping[UUID, Loaded], now: float) -> Live | None:
        before = self._live.get(route.model)
        if route.released is None or route.release is None:
            return None
        candidate, beside = route.candidate, loaded.get(route.candidate.version.id) if route.candidate else None
        if beside is None:
            candidate = None
        if (released := loaded.get(route.released.id)) is not None:
            self._since.pop(route.model, None)
            previous = loaded.get(route.previous.id) if route.previous else None
            return Live(release=route.release, released=released, candidate=candidate, beside=beside, previous=previous)
        if before is not None and before.released.version.id == route.released.id:
            return None  # it has lost its place to others
        if self._since.get(route.model, (None, 0.0))[0] != route.released.id:
            self._since[route.model] = (route.released.id, now)
        failure = self._shelf.failed.get(route.released.id)
        over = now - self._since[route.model][1] > self._settings.overlap
        if before is None or over or (failure is not None and failure.lasting):
            return None
        return Live(release=before.release, released=before.released, candidate=candidate, beside=beside)

    async def _awaited(self, model: str) -> Live:
        """Load the model's version where that was not worth it before, or say why it cannot answer."""
        if self._stale():
            raise ModelUnavailable(
                "this process has not read for too long who serves" if self.read_at else "this process has not read yet who serves",
                remedy="see that Postgres answers; serving.stale is how long it goes on without",
            )
        route = self.routes.get(model)
        if route is None or route.released is None:
            raise NotFound(f"no version of {model!r} is released", field="model", remedy="`perdure models` shows what serves")
        self._used[model] = self._clock()
        failure = self._shelf.failed.get(route.released.id)
        if failure is None:
            self.settle()  # its place is before those that were used less lately
            if any(version.id == route.released.id for _, version in self._wanted()):
                await asyncio.shield(self._load(model, route.released))
                self.settle()
            if (live := self._live.get(model)) is not None:
                return live
            failure = self._shelf.failed.get(route.released.id)
        reason = failure.reason if failure else "it has no place beside others (serving.models, serving.memory), or serves no longer"
        raise ModelUnavailable(
            f"version {route.released.number} of {model!r} cannot be loaded: {reason}",
            field="model",
            remedy="send again in some seconds; `perdure rollback MODEL` lets the version before answer",
        )

    def _load(self, model: str, version: Version) -> asyncio.Task[Loaded | None]:
        task = self._shelf.load(model, version)
        if task not in self._waited:
            self._waited.add(task)
            task.add_done_callback(self._come)
        return task

    def _come(self, task: asyncio.Task[Loaded | None]) -> None:
        self._waited.discard(task)
        if not task.cancelled():
            self.settle()

    def _wanted(self) -> list[tuple[str, Version]]:
        self._sizes |= {id: loaded.size for id, loaded in self._shelf.loaded.items()}
        return wanted([*self.routes.values()], self._used, self._sizes, self._settings.models, self._settings.memory << 20)

    def _stale(self) -> bool:
        return self.read_at is None or self._clock() - self.read_at > self._settings.stale


def wanted(
    routes: Sequence[Route], used: Mapping[str, float], sizes: Mapping[UUID, int], most: int, memory: int
) -> list[tuple[str, Version]]:
    """The versions that are kept loaded, at most *most* and *memory* bytes, in the order in which they get their places.

    Those of rollouts come first, then released ones by last use, then those before them. What is no larger than what is left gets a place;
    the size of one that was never loaded is that of its artifact.
    """
    ranked: list[tuple[tuple[int, float, str], str, Version]] = []
    for route in routes:
        last = -used.get(route.model, 0.0)
        rolling = route.candidate is not None
        for rank, version in ((1, route.released), (0, route.candidate.version if route.candidate else None), (2, route.previous)):
            if version is not None:
                ranked.append(((0 if rolling and rank < 2 else rank, last, route.model), route.model, version))
    kept: dict[UUID, tuple[str, Version]] = {}
    for _, model, version in sorted(ranked, key=lambda each: each[0]):
        size = sizes.get(version.id, version.predictor.size)
        if version.id not in kept and len(kept) < most and size <= memory:
            kept[version.id] = (model, version)
            memory -= size
    return [*kept.values()]
