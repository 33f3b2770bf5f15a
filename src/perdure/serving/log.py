"""The inference log: predictions become rows of a Delta table for each model, without an answer ever waiting for it.

``record`` puts them into a queue; a thread writes the queue into the spool (`perdure.serving.spool`) every 50 ms; another commits what lies
there every second, or more seldom where commits take long. A ``kill -9`` costs what was in the queue, so the answers of the last 50 ms; how
many that were is counted by who comes after. A segment of the spool is one batch of its process in the table's log, so committing it again
changes nothing.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from uuid import UUID

import polars as pl
from prometheus_client import Counter, Gauge

from perdure.adapters.delta_log import DeltaLog
from perdure.errors import PerdureError, bounded
from perdure.serving.rows import Hash, frame, sampled
from perdure.serving.scored import LogFigures, LogPolicy, Scored
from perdure.serving.spool import Spool, number_of, read

SPOOL_SECONDS = 0.05
"""How long a prediction may lie in memory alone: what a kill can cost."""
MOST_QUEUED = 50_000  # rows in memory; more are dropped
MOST_ROWS = 100_000  # of one commit
ADOPT_SECONDS = 60.0  # between looks for what dead processes left
COMPACT_SECONDS = 900.0
_LONGEST = 30.0  # seconds between tries while S3 is away
_REST = 4.0  # rounds of commits take a fifth of the time at most: so many times as long as one took is waited
_REST_MOST = 15.0

log = logging.getLogger("perdure.serving.log")
rows_total = Counter("perdure_inference_log_rows", "Predictions by what became of them in the log", ["became"])  # logged | dropped | lost
waiting = Gauge("perdure_inference_log_spool_bytes", "Bytes in the local spool of the inference log")


class Ledger(Protocol):
    """Rows about the log."""

    def ended(self, instance: UUID, taken: int, logged: int) -> None:
        """A process that is dead answered so many predictions, of which so many are in the log."""

    def alone(self, name: str) -> AbstractContextManager[bool]:
        """Whether this process is the one that does *name* now."""


class Asks(Protocol):
    """Questions to people about predictions."""

    def choose(self, model: str, policy: LogPolicy, rows: pl.DataFrame) -> None:
        """Ask about some of these *rows* of the log. Never waits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Keeping:
    """How predictions are kept: where the spool is and how large it gets, seconds between commits, what hashes personal values."""

    root: Path
    most_bytes: int = 1 << 30
    seconds: float = 1.0
    hashed: Hash | None = None


class InferenceLog:
    """`perdure.serving.scored.Recorder` on a spool and Delta tables. *tables* opens the table of a model."""

    def __init__(
        self, instance: UUID, keeping: Keeping, tables: Callable[[str], DeltaLog], ledger: Ledger, asks: Asks | None = None
    ) -> None:
        self._keeping, self._open_table, self._ledger, self._asks = keeping, tables, ledger, asks
        self._spool = Spool(keeping.root, instance, keeping.most_bytes)
        self._tables: dict[str, DeltaLog] = {}
        self._lock = threading.Lock()  # of the queue and the counters
        self._files = threading.Lock()  # of the spool's open segments
        self._queue: list[tuple[int, Scored]] = []
        self._queued = self._refused = self._logged = 0
        self._due, self._stop = threading.Event(), threading.Event()
        self._compacted = time.monotonic()
        self._threads = [threading.Thread(target=work, name=work.__name__, daemon=True) for work in (self._spooling, self._committing)]
        for thread in self._threads:
            thread.start()

    def record(self, scored: Scored) -> None:
        """Keep these. Takes microseconds, never waits and never raises: what cannot be kept is counted as dropped."""
        part = sampled(scored)
        if part is None:
            return
        rows, counters = len(part.ids), self._spool.counters
        with self._lock:
            first = counters.taken + 1
            counters.taken += rows
            counters.save()
            if self._queued + rows > MOST_QUEUED:
                self._refused += rows
            else:
                self._queue.append((first, part))
                self._queued += rows
        self._due.set()

    def figures(self) -> LogFigures:
        """Counted now."""
        with self._lock:
            taken, dropped = self._spool.counters.taken, self._spool.counters.dropped + self._refused
            return LogFigures(
                taken=taken, logged=self._logged, dropped=dropped, waiting=taken - dropped - self._logged, spool_bytes=self._spool.bytes
            )

    def close(self, seconds: float = 10.0) -> None:
        """Commit what is there, for so long at most; what is left is found by the next process on this machine."""
        until = time.monotonic() + seconds
        self._stop.set()
        self._due.set()
        for thread in self._threads:
            thread.join(max(0.1, until - time.monotonic()))
        if not any(thread.is_alive() for thread in self._threads):
            self._spool.close()

    # --- from the queue into the spool -----------------------------------------------------------------------------------

    def _spooling(self) -> None:
        while not self._stop.is_set():
            self._due.wait()
            self._stop.wait(SPOOL_SECONDS)
            self._due.clear()
            self._drain()
        self._drain()

    def _drain(self) -> None:
        counters = self._spool.counters
        with self._lock:
            queue, self._queue, self._queued = self._queue, [], 0
            refused, self._refused, upto = self._refused, 0, counters.taken
        groups: dict[tuple[str, int, str, int], list[tuple[int, Scored]]] = defaultdict(list)
        for first, each in queue:
            groups[each.model, each.version, each.role, id(each.policy)].append((first, each))
        asked: list[tuple[Scored, pl.DataFrame]] = []
        with self._files:  # nothing is committed before it counts as settled
            for parts in groups.values():
                try:
                    rows = frame(parts, self._spool.instance, self._keeping.hashed)
                    if self._spool.write(parts[0][1].model, rows):
                        asked.append((parts[0][1], rows))
                        continue
                except Exception:
                    log.exception("predictions could not be kept", extra={"model": parts[0][1].model})
                refused += sum(len(each.ids) for _, each in parts)
            with self._lock:
                counters.dropped += refused
                counters.settled = upto
                counters.save()
        for scored, rows in asked:
            self._ask(scored, rows)
        if refused:
            rows_total.labels("dropped").inc(refused)
        waiting.set(self._spool.bytes)

    def _ask(self, scored: Scored, rows: pl.DataFrame) -> None:
        """Let people be asked about some of these *rows*, which are kept whatever comes of it."""
        if self._asks is None or scored.policy.ask is None or scored.role == "shadow":
            return
        try:
            self._asks.choose(scored.model, scored.policy, rows)
        except Exception:
            log.exception("nobody is asked about some predictions", extra={"model": scored.model})

    # --- from the spool into the table -----------------------------------------------------------------------------------

    def _committing(self) -> None:
        pause, adopt_at = 0.0, time.monotonic()
        while not self._stop.wait(pause):
            pause = self._attempt(self._flush, pause)
            if time.monotonic() >= adopt_at:
                adopt_at = time.monotonic() + ADOPT_SECONDS
                self._attempt(self._adopt, 0)
            if time.monotonic() - self._compacted >= COMPACT_SECONDS:
                self._compacted = time.monotonic()
                self._attempt(self._compact, 0)
        self._threads[0].join()
        self._attempt(self._flush, 0)

    def _attempt(self, work: Callable[[], None], pause: float) -> float:
        """Seconds until the next attempt: longer each time while a part is away."""
        began = time.monotonic()
        try:
            work()
        except Exception as err:
            told = log.warning if isinstance(err, PerdureError) else log.exception
            told("the inference log waits", extra={"error": bounded(str(err), 500)})
            return min(_LONGEST, max(self._keeping.seconds, pause) * 2)
        return max(self._keeping.seconds, min(_REST_MOST, _REST * (time.monotonic() - began)))

    def _flush(self) -> None:
        with self._files:
            self._spool.seal()
            segments = self._spool.segments()
        for done in self._commit_all(self._spool, segments):
            self._logged += done

    def _commit_all(self, spool: Spool, segments: dict[str, list[Path]]) -> Iterator[int]:
        """Commit the segments of each model; the rows of each. What fails for one model is raised after the others are done."""
        failed: Exception | None = None
        for model, paths in segments.items():
            try:
                yield from self._commit(spool, model, paths)
            except Exception as err:
                log.warning("a model's predictions wait", extra={"model": model, "error": bounded(str(err), 500)})
                failed = failed or err
        if failed is not None:
            raise failed

    def _commit(self, spool: Spool, model: str, paths: list[Path]) -> Iterator[int]:
        """Append the segments to the model's table, each once; the rows of each, once they are in."""
        if model not in self._tables:
            self._tables[model] = self._open_table(model)
        table, writer, batch = self._tables[model], str(spool.instance), _Batch()
        known = table.committed(writer)
        for path in paths:
            chunks = read(path)
            batch.paths.append((path, sum(chunk.height for chunk in chunks)))
            batch.chunks += chunks if number_of(path) > known else []
            if batch.rows >= MOST_ROWS or path is paths[-1]:
                if batch.rows:
                    table.append(batch.chunks, writer, number_of(path))
                for each, rows in batch.paths:
                    spool.remove(each)
                    rows_total.labels("logged").inc(rows)
                    yield rows
                batch = _Batch()

    def _adopt(self) -> None:
        """Commit what processes that are dead left on this disk, and tell what was lost with them."""
        failed: Exception | None = None
        for spool in Spool.dead(self._keeping.root):
            try:
                self._take_over(spool)
            except Exception as err:
                failed = failed or err
            finally:
                spool.close()
        if failed is not None:
            raise failed

    def _take_over(self, spool: Spool) -> None:
        counters, segments = spool.counters, spool.segments()
        if counters.lost < 0:  # before anything is removed that it is counted by
            late = sum(
                chunk.filter(pl.col("sequence") > counters.settled).height
                for paths in segments.values()
                for path in paths
                for chunk in read(path)
            )
            counters.lost = counters.taken - counters.settled - late
            counters.save()
            rows_total.labels("lost").inc(counters.lost)
        for _ in self._commit_all(spool, segments):
            ...
        self._ledger.ended(spool.instance, counters.taken, counters.taken - counters.dropped - counters.lost)
        told = {"instance": str(spool.instance), "taken": counters.taken, "dropped": counters.dropped, "lost": counters.lost}
        log.info("committed what a process had left", extra=told)

    def _compact(self) -> None:
        """Put small files together, in one process at a time."""
        for model, table in self._tables.items():
            try:
                with self._ledger.alone(f"compact/{model}") as mine:
                    if mine and (days := table.crowded()):
                        done = table.compact(days)
                        log.info("put files of the inference log together", extra={"model": model, "files": done})
            except PerdureError as err:
                log.warning("files of the inference log stay as they are", extra={"model": model, "error": err.problem})


class _Batch:
    """Segments that are committed together: each with its rows, and the chunks that are not in yet."""

    def __init__(self) -> None:
        self.paths: list[tuple[Path, int]] = []
        self.chunks: list[pl.DataFrame] = []

    @property
    def rows(self) -> int:
        return sum(chunk.height for chunk in self.chunks)
