"""Versions that can answer at once: fetched by digest, verified, loaded and warmed in threads."""

from __future__ import annotations

import asyncio
import json
import logging
import time
import zipfile
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import polars as pl

from perdure import predictor
from perdure.cache import fetched
from perdure.config import Settings
from perdure.errors import CorruptArtifact, InvalidInput, PerdureError, Transient, UserCodeError
from perdure.messages.common import ArtifactRef
from perdure.metadata.queries.routing import Version
from perdure.predictor import Predictor
from perdure.serving.batching import Batch, Batcher
from perdure.serving.isolated import IsolatedPredictor
from perdure.serving.reading import Reader

Download = Callable[[ArtifactRef, Path], object]
Done = Callable[["Loaded", Batch], None]
_LONGEST = 30.0  # seconds between two tries of what cannot be loaded

log = logging.getLogger("perdure.serving")


@dataclass(frozen=True, kw_only=True, eq=False)
class Loaded:
    """A version that answers at once. ``size``: bytes of its unpacked artifact."""

    model: str
    version: Version
    predictor: Predictor | IsolatedPredictor
    reader: Reader
    answers: Batcher
    shadows: Batcher
    size: int


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why a version cannot be loaded; a lasting reason is none that waiting would mend."""

    reason: str
    lasting: bool
    tries: int
    at: float

    def due(self, now: float) -> bool:
        """Whether it is time to try again."""
        return now - self.at > min(_LONGEST, 2.0**self.tries)


class Shelf:
    """Loads, keeps and drops versions. Used from the event loop alone."""

    def __init__(self, settings: Settings, download: Download, answered: Done, shadowed: Done) -> None:
        self._settings, self._download, self._answered, self._shadowed = settings, download, answered, shadowed
        self.loaded: dict[UUID, Loaded] = {}
        self.failed: dict[UUID, Failure] = {}
        self._loading: dict[UUID, asyncio.Task[Loaded | None]] = {}
        self._loaders = ThreadPoolExecutor(2, thread_name_prefix="load")
        self.pool = ThreadPoolExecutor(settings.serving.threads, thread_name_prefix="score")
        self._shadow_pool = ThreadPoolExecutor(1, thread_name_prefix="shadow")

    def load(self, model: str, version: Version) -> asyncio.Task[Loaded | None]:
        """The version, once it is there; None where it cannot be, see ``failed``. Many may ask for the same."""
        task = self._loading.get(version.id)
        if task is None:
            task = self._loading[version.id] = asyncio.create_task(self._load(model, version))
        return task

    def keep(self, versions: Collection[UUID]) -> None:
        """Drop all others. Requests that they are answering are answered."""
        for id in [id for id in self.loaded if id not in versions]:
            dropped = self.loaded.pop(id)
            if isinstance(dropped.predictor, IsolatedPredictor):
                asyncio.get_running_loop().call_later(self._settings.serving.timeout, dropped.predictor.close)
        for id in [id for id in self.failed if id not in versions]:
            del self.failed[id]

    def close(self) -> None:
        """End threads and processes."""
        for task in self._loading.values():
            task.cancel()
        for pool in (self._loaders, self._shadow_pool, self.pool):
            pool.shutdown(wait=True, cancel_futures=True)
        for each in self.loaded.values():
            if isinstance(each.predictor, IsolatedPredictor):
                each.predictor.close()
        self.loaded.clear()

    async def _load(self, model: str, version: Version) -> Loaded | None:
        before = self.failed.get(version.id)
        try:
            made, size = await asyncio.get_running_loop().run_in_executor(self._loaders, self._opened, version)
        except Exception as err:
            reason = err.problem if isinstance(err, PerdureError) else f"{type(err).__name__}: {err}"
            self.failed[version.id] = Failure(
                reason=reason,
                lasting=not isinstance(err, Transient),
                tries=before.tries + 1 if before else 0,
                at=time.monotonic(),
            )
            log.warning("a version cannot be loaded", extra={"model": model, "version": version.number, "error": reason})
            return None
        finally:
            self._loading.pop(version.id, None)
        self.failed.pop(version.id, None)
        loaded = self.loaded[version.id] = self._loaded(model, version, made, size)
        log.info("loaded a version", extra={"model": model, "version": version.number})
        return loaded

    def _loaded(self, model: str, version: Version, made: Predictor | IsolatedPredictor, size: int) -> Loaded:
        serving, reader = self._settings.serving, Reader(made.schema)

        def batcher(pool: ThreadPoolExecutor, done: Done) -> Batcher:
            return Batcher(reader, made, pool, most=serving.batch_rows, waiting=serving.waiting, done=lambda batch: done(loaded, batch))

        loaded = Loaded(
            model=model,
            version=version,
            predictor=made,
            reader=reader,
            answers=batcher(self.pool, self._answered),
            shadows=batcher(self._shadow_pool, self._shadowed),
            size=size,
        )
        return loaded

    def _opened(self, version: Version) -> tuple[Predictor | IsolatedPredictor, int]:
        """Fetch, verify, load and warm; in a thread."""
        used = [each.version.predictor.sha256 for each in [*self.loaded.values()]]
        path = fetched(self._settings.home, version.predictor, self._download, used)
        serving = self._settings.serving
        try:
            with zipfile.ZipFile(path) as archive:
                about, size = json.loads(archive.read("predictor.json")), sum(each.file_size for each in archive.infolist())
            custom = about["format"] == "custom"
            if custom and not serving.custom:
                raise InvalidInput("a model of format custom needs the setting serving.custom", remedy="set it, if its code is trusted")
            apart = custom or (serving.isolate and about["code"])
            made = IsolatedPredictor(path, serving.timeout) if apart else predictor.load(path)
        except predictor.OwnerCodeError as err:
            raise UserCodeError(str(err), remedy="install what the model's code imports, or mend it and train again") from err
        except (predictor.PredictorError, zipfile.BadZipFile, KeyError, ValueError) as err:
            raise CorruptArtifact(f"this is no predictor: {err}", field=version.predictor.uri) from err
        nothing = pl.DataFrame([pl.Series(column["name"], [None], predictor.parse_dtype(column["dtype"])) for column in made.schema])
        with suppress(predictor.PredictorError):  # the first call takes long; a transform may refuse a row of nothing
            made.predict(nothing)
        return made, size
