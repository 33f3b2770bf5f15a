"""The inference log of a serving process, put together: what `Service.open` takes as ``keeps``."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from uuid import UUID

from perdure.adapters.delta_log import DeltaLog
from perdure.adapters.s3 import ObjectStore
from perdure.config import Settings, resolve_secret
from perdure.errors import PerdureError, bounded
from perdure.metadata.database import Database
from perdure.metadata.repository.asking import AskRows, Wanted
from perdure.metadata.repository.inference_log import InferenceLogRows
from perdure.serving.asking import Asker
from perdure.serving.log import InferenceLog, Keeping
from perdure.serving.rows import hasher
from perdure.serving.scored import AskPolicy, LogFigures, LogPolicy, Recorder, Scored

FRESH_SECONDS = 10.0
"""How old a policy may be: so long after `perdure apply` the new one counts."""

log = logging.getLogger("perdure.serving.keeping")


class Policies:
    """What the newest specifications say about predictions, read again every few seconds."""

    def __init__(self, rows: AskRows) -> None:
        self._rows = rows
        self._wanted: dict[str, Wanted] = {}
        self._made: dict[tuple[str, tuple[str, ...]], LogPolicy] = {}
        self._stop = threading.Event()
        self._look()
        self._thread = threading.Thread(target=self._run, name="policies", daemon=True)
        self._thread.start()

    def of(self, model: str, personal: Sequence[str]) -> LogPolicy:
        """The policy for a version whose *personal* columns are these. A model that no specification is known of: they are dropped."""
        key = (model, tuple(personal))
        made = self._made.get(key)
        if made is None:
            made = self._made[key] = policy_of(self._wanted.get(model), personal)
        return made

    def close(self) -> None:
        """Read no more."""
        self._stop.set()
        self._thread.join(5)

    def _run(self) -> None:
        while not self._stop.wait(FRESH_SECONDS):
            self._look()

    def _look(self) -> None:
        try:
            wanted = {each.model: each for each in self._rows.wanted()}
        except Exception as err:  # a specification of another version of Perdure, say: what is personal stays dropped or hashed as it was
            told = log.warning if isinstance(err, PerdureError) else log.exception
            told("policies stay as they were", extra={"error": bounded(str(err), 500)})
            return
        if wanted != self._wanted:
            self._wanted, self._made = wanted, {}


def policy_of(wanted: Wanted | None, personal: Sequence[str]) -> LogPolicy:
    """What *wanted* means for predictions of a version with these *personal* columns."""
    if wanted is None:
        return LogPolicy(personal=frozenset(personal))
    ask = None
    if wanted.ask is not None and wanted.campaign is not None:
        ask = AskPolicy(
            random=wanted.ask.random,
            confident_below=wanted.ask.confident_below,
            most_open=wanted.ask.most_open,
            columns=tuple(wanted.ask.payload) if wanted.ask.payload else None,
            campaign=wanted.campaign,
        )
    return LogPolicy(personal=frozenset(personal), treat=wanted.log.personal, sample=wanted.log.sample, ask=ask)


class Kept:
    """The log with its policies and questions: opened and closed together."""

    def __init__(self, settings: Settings, database: Database, instance: UUID) -> None:
        said, rows = settings.inference, AskRows(database)
        self._policies = Policies(rows)
        self._asker = Asker(settings.home / "spool" / "asks", rows)
        objects = ObjectStore(settings.s3, attempts=3)
        keeping = Keeping(
            root=settings.home / "spool" / "predictions",
            most_bytes=said.spool_bytes,
            seconds=said.seconds,
            hashed=hasher(resolve_secret(said.secret) if said.secret else None),
        )
        tables = lambda model: DeltaLog(objects, objects.uri(f"inference/{model}"))  # noqa: E731
        self._log = InferenceLog(instance, keeping, tables, InferenceLogRows(database), self._asker)

    def record(self, scored: Scored) -> None:
        """Keep these."""
        self._log.record(scored)

    def figures(self) -> LogFigures:
        """Counted now."""
        return self._log.figures()

    def policy(self, model: str, personal: Sequence[str]) -> LogPolicy:
        """What is kept of a version's predictions."""
        return self._policies.of(model, personal)

    def close(self, seconds: float = 10.0) -> None:
        """Commit and send what is there, for so long at most."""
        with closing(self._policies):
            self._log.close(seconds)
            self._asker.close()


def keeps(settings: Settings, database: Database, instance: UUID) -> tuple[Recorder, Callable[[str, Sequence[str]], LogPolicy]]:
    """The inference log of the process *instance*, and what it keeps of a model's predictions whose personal columns are told."""
    kept = Kept(settings, database, instance)
    return kept, kept.policy
