"""One request, from raw rows to scores: who answers it, what is counted and kept of it, and what a shadow makes of it."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any
from uuid import UUID

from perdure.config import ServingSettings
from perdure.errors import CorruptArtifact, InvalidInput, ModelUnavailable, NotFound, PerdureError, UserCodeError
from perdure.messages.rollout import TrafficKind
from perdure.metadata.queries.routing import Candidate
from perdure.predictions import new_request, prediction_id
from perdure.predictor import InfiniteFeature, InputMismatch, NotExplainable, OwnerCodeError, PredictorError
from perdure.serving.batching import Batch, Entry
from perdure.serving.choosing import takes
from perdure.serving.counting import By, Counts
from perdure.serving.directory import Directory, Live
from perdure.serving.reading import Column, Reader
from perdure.serving.scored import LogPolicy, Recorder, Scored
from perdure.serving.shelf import Loaded

RELEASE, SHADOW = "release", "shadow"
CLOSE = 0.01
"""Two predicted numbers agree where they differ by no more than this share."""
Read = Callable[[Reader], tuple[list[Column], int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What a caller says beside the rows. ``unit_in`` tells the value that all rows have in a column, None where they differ.

    ``at`` is when the rows were, in seconds since 1970; None: now.
    """

    model: str
    unit: str | None = None
    unit_in: Callable[[str], str | None] = lambda column: None
    trace: str = ""
    version: int | None = None
    explain: bool = False
    at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Scores of a request's rows. ``row`` is the open row by which the version may answer: of a release, or of the traffic."""

    version: Loaded
    role: str
    row: UUID
    ids: list[str]
    scores: dict[str, list[Any]]
    contributions: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Told:
    """What is known of a request when its batch is done."""

    call: Call
    role: str
    row: UUID
    requests: list[str]
    read: Read
    shadow: tuple[Loaded, UUID] | None = None  # with its row of traffic
    answered: list[Any] | None = None  # of a shadow: what the caller was told
    unit_column: str | None = None  # the raw column that an experiment takes as the unit
    columns: list[Column] | None = None


class Answering:
    """Answers requests. Used from the event loop alone."""

    def __init__(
        self,
        settings: ServingSettings,
        directory: Directory,
        counts: Counts,
        recorder: Recorder | None,
        policy: Callable[[str, Sequence[str]], LogPolicy],
    ) -> None:
        self._settings, self._directory, self._counts, self._recorder, self._policy = settings, directory, counts, recorder, policy

    async def answer(self, call: Call, read: Read) -> Answer:
        """The answer to *call*, whose rows *read* makes of a version's `Reader`. Raises NotFound, InvalidInput, ModelUnavailable, …"""
        started = time.perf_counter()
        live = await self._directory.live(call.model)
        request = new_request(call.at)
        if live.candidate is not None and live.candidate.kind is TrafficKind.ARM:
            call = replace(call, unit=party(live.candidate, call, request) if live.beside is not None else None)
        version, role, row = self._chosen(live, call, request)
        columns, number = read(version.reader)
        requests = [request, *(new_request(call.at) for _ in range(number - 1))]
        told = _Told(
            call=call,
            role=role,
            row=row,
            requests=requests,
            read=read,
            shadow=self._shadow_of(live, call, request),
            columns=columns,
            unit_column=live.candidate.unit if live.candidate is not None else None,
        )
        try:
            async with asyncio.timeout(self._settings.timeout):
                batch, at = await version.answers.add(columns, number, told)
                scores = {name: values[at : at + number] for name, values in batch.lists.items()}
                made = await self._explained(version, columns) if call.explain else None
        except Exception as err:
            told_error = _translated(err, self._settings.timeout)
            if not isinstance(told_error, InvalidInput):
                self._counts.failed(_by(version, role, row), time.perf_counter() - started)
            raise told_error from err
        ids = [prediction_id(call.model, version.version.number, each) for each in requests]
        return Answer(version=version, role=role, row=row, ids=ids, scores=scores, contributions=made)

    def _chosen(self, live: Live, call: Call, request: str) -> tuple[Loaded, str, UUID]:
        """Which version answers, as what, and by which row. Raises NotFound for a version that may not."""
        released = live.released, RELEASE, live.release
        candidate, beside = live.candidate, live.beside
        if candidate is None or beside is None or not candidate.answers:
            if call.version in (None, live.released.version.number):
                return released
        elif call.version is None:
            if candidate.unit is not None and call.unit is None:
                return released  # rows of several units, or of none: no part of the experiment
            return (beside, candidate.kind, candidate.traffic) if takes(call.model, candidate, call.unit or request) else released
        elif call.version == live.released.version.number:
            return released
        elif call.version == candidate.version.number:
            return beside, candidate.kind, candidate.traffic
        raise NotFound(f"version {call.version} of {call.model!r} may not answer", field="version", remedy="leave it out: rows decide")

    @staticmethod
    def _shadow_of(live: Live, call: Call, request: str) -> tuple[Loaded, UUID] | None:
        candidate = live.candidate
        if candidate is None or live.beside is None or candidate.kind is not TrafficKind.SHADOW:
            return None
        return (live.beside, candidate.traffic) if takes(call.model, candidate, call.unit or request) else None

    async def _explained(self, version: Loaded, columns: list[Column]) -> Any:
        frame = version.reader.frame([columns])
        return await asyncio.get_running_loop().run_in_executor(self._directory.pool, version.predictor.explain, frame)

    # --- after the answer ----------------------------------------------------------------------------------------------

    def answered(self, version: Loaded, batch: Batch) -> None:
        """Count and keep what was just answered, then let shadows score it."""
        at, predicted = 0, batch.lists["prediction"]
        named = bool(version.predictor.classes)
        loop = asyncio.get_running_loop()
        for entry in batch.entries:
            mine = predicted[at : at + entry.rows]
            at += entry.rows
            if entry.answer.cancelled():
                continue  # it came too late, and is counted as failed
            told: _Told = entry.told
            self._counts.answered(_by(version, told.role, told.row), entry.rows, batch.ended - entry.started, mine if named else None)
            if told.shadow is not None:
                loop.call_soon(self._shadow, version, entry, mine)
        self._record(version, batch)

    def shadowed(self, version: Loaded, batch: Batch) -> None:
        """Count and keep what a shadow says, and where it disagrees."""
        at, predicted = 0, batch.lists["prediction"]
        named = bool(version.predictor.classes)
        for entry in batch.entries:
            mine = predicted[at : at + entry.rows]
            at += entry.rows
            if entry.answer.cancelled():
                continue
            by = _by(version, SHADOW, entry.told.row)
            self._counts.answered(by, entry.rows, batch.ended - entry.started, mine if named else None)
            if different := sum(not _agree(one, other) for one, other in zip(mine, entry.told.answered, strict=True)):
                self._counts.disagreed(by, different)
        self._record(version, batch)

    def _shadow(self, version: Loaded, entry: Entry, answered: list[Any]) -> None:
        told: _Told = entry.told
        assert told.shadow is not None
        shadow, row = told.shadow
        if shadow.shadows.full:
            self._counts.dropped += 1
            return
        started = time.perf_counter()
        try:
            same = shadow.predictor.schema == version.predictor.schema
            columns = told.columns if same and told.columns is not None else told.read(shadow.reader)[0]
        except PerdureError:  # it wants other columns than callers send
            self._counts.failed(_by(shadow, SHADOW, row), time.perf_counter() - started)
            return
        after = _Told(call=told.call, role=SHADOW, row=row, requests=told.requests, read=told.read, answered=answered)
        scored = shadow.shadows.add(columns, entry.rows, after)
        late = asyncio.get_running_loop().call_later(self._settings.timeout, scored.cancel)  # a caller would wait no longer

        def ended(future: asyncio.Future[tuple[Batch, int]]) -> None:
            late.cancel()
            if future.cancelled() or future.exception() is not None:
                self._counts.failed(_by(shadow, SHADOW, row), time.perf_counter() - started)

        scored.add_done_callback(ended)

    def _record(self, version: Loaded, batch: Batch) -> None:
        if self._recorder is None:
            return
        roles = {entry.told.role for entry in batch.entries}
        at = 0
        for entries in [batch.entries] if len(roles) == 1 else [[entry] for entry in batch.entries]:
            number = sum(entry.rows for entry in entries)
            told = [entry.told for entry in entries]
            self._recorder.record(
                Scored(
                    model=version.model,
                    version=version.version.number,
                    role=told[0].role,
                    rows=batch.rows if len(roles) == 1 else batch.rows.slice(at, number),
                    scores=batch.scores if len(roles) == 1 else batch.scores.slice(at, number),
                    ids=[
                        prediction_id(version.model, version.version.number, each)
                        for each in chain.from_iterable(each.requests for each in told)
                    ],
                    units=[each.call.unit for each in told for _ in each.requests],
                    traces=[each.call.trace for each in told for _ in each.requests],
                    latencies=[1000 * (batch.ended - entry.started) for entry in entries for _ in range(entry.rows)],
                    policy=self._policy(version.model, version.predictor.about.get("personal", ())),
                    unit_column=next((each.unit_column for each in told if each.unit_column is not None), None),
                )
            )
            at += number


def _by(version: Loaded, role: str, row: UUID) -> By:
    return (version.model, version.version.number, version.version.id, role), row


def _agree(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=CLOSE)
    return bool(one == other)


def party(experiment: Candidate, call: Call, request: str) -> str | None:
    """The unit as which an experiment counts *call*; None: it is no part of it, as it names its version, or its rows are of several units.

    Who names no unit, where no column does either, is one for this call alone.
    """
    if call.version is not None:
        return None
    if call.unit is None and experiment.unit is not None:
        return call.unit_in(experiment.unit)
    return call.unit or request


def _translated(error: Exception, seconds: float) -> Exception:
    match error:
        case NotExplainable():
            return InvalidInput(str(error), field="explain", remedy="ask without explain")
        case InputMismatch():
            return InvalidInput(str(error), field="rows", remedy="GET /v2/models/MODEL tells the columns")
        case InfiniteFeature():
            return InvalidInput(str(error), field="rows", remedy="send numbers of which the transform makes finite 32-bit ones")
        case OwnerCodeError():
            return UserCodeError(str(error), remedy="mend the transform and train again; `perdure rollback MODEL` helps at once")
        case PredictorError():
            return CorruptArtifact(str(error), remedy="see how the model was trained; `perdure rollback MODEL` helps at once")
        case TimeoutError():
            return ModelUnavailable(f"no scores within {seconds:g} s", remedy="send fewer rows, or raise serving.timeout")
        case _:
            return error
