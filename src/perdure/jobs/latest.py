"""A job's state on S3, which a stale writer cannot change: the fence.

``latest`` is the only mutable object and is changed by compare-and-swap only. A writer takes the next epoch when it starts and writes below
``e{epoch}/``; each later change needs that epoch still to be the newest (`perdure.messages.jobs` has the layout).
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from perdure.adapters.s3 import ObjectStore
from perdure.errors import Conflict, CorruptArtifact, PerdureError
from perdure.messages.common import ArtifactRef
from perdure.messages.jobs import Checkpoint, ControlCommand, JobRequest, Latest

_LATEST = TypeAdapter(Latest)
_REQUEST = TypeAdapter(JobRequest)
_PAUSES = (0.0, 0.1, 0.3, 1.0, 3.0)


class Leave(BaseException):
    """The job must end now. Not an `Exception`, so that a trainer's ``except Exception`` does not swallow it."""


class Fenced(Leave):
    """A newer epoch owns the job, or it has ended: touch nothing."""


class Paused(Leave):
    """Stopped at a committed checkpoint, as ``control`` asked."""


class Stopped(Leave):
    """``control`` asked for the end."""


class RunState:
    """The state of *job*. A writer calls `acquire` first, or is given the *epoch* by the one who did; readers need neither."""

    def __init__(self, objects: ObjectStore, job: str, epoch: int = 0) -> None:
        self.objects, self.job, self.epoch = objects, job, epoch
        self._saved: set[str] = set()

    def key(self, name: str) -> str:
        """The S3 key of *name* in the job's directory."""
        return f"jobs/{self.job}/{name}"

    # --- the fence ---------------------------------------------------------------------------------------------------

    def latest(self) -> Latest:
        """The state; empty before the first writer."""
        return self._read()[0]

    def acquire(self, owner: str) -> Latest:
        """Take the next epoch and clear ``paused``. *owner* must be unique: it makes a repeated call harmless.

        Where the job has ended already, the state is returned as it is and no epoch is taken.
        """

        def change(state: Latest) -> Latest:
            if state.owner == owner or ended(state):
                return state
            return replace(state, epoch=state.epoch + 1, owner=owner, paused=None)

        state = self._swap(change)
        self.epoch = state.epoch
        return state

    def renew(self, owner: str) -> Latest:
        """Take another epoch: for a group that is restarted, so that a worker which was given up is fenced as well.

        *owner* is unique, as in `acquire`. Raises Fenced where somebody else has taken over meanwhile.
        """

        def change(state: Latest) -> Latest:
            if state.owner == owner:
                return state
            self._guard(state)
            return replace(state, epoch=state.epoch + 1, owner=owner)

        state = self._swap(change)
        self.epoch = state.epoch
        return state

    def commit(self, change: Callable[[Latest], Latest]) -> Latest:
        """Write what *change* makes of the state. Raises Fenced once the epoch has moved or the job has ended."""

        def guarded(state: Latest) -> Latest:
            new = change(state)
            self._guard(state, ending=new == state)
            return new

        return self._swap(guarded)

    def _guard(self, state: Latest, *, ending: bool = False) -> None:
        """Raise Fenced unless this writer's epoch is the newest, and the job goes on (or this very change ended it)."""
        if state.epoch != self.epoch:
            raise Fenced(f"epoch {self.epoch} of job {self.job} was superseded by {state.epoch} ({state.owner})")
        if ended(state) and not ending:
            raise Fenced(f"job {self.job} has ended already")

    def publish_result(self, result: dict[str, Any]) -> Latest:
        """End the job with *result* (JSON); once only. Raises Fenced."""
        plain = json.loads(json.dumps(result))
        return self.commit(lambda state: replace(state, result=plain))

    def publish_error(self, error: PerdureError) -> Latest:
        """End the job with *error*; once only. Raises Fenced."""
        return self.commit(lambda state: replace(state, error=error.as_dict()))

    def publish_pause(self, round: int) -> Latest:
        """Say that this writer stops at *round*, whose checkpoint is committed, because it was asked to. Raises Fenced."""
        return self.commit(lambda state: replace(state, paused=round))

    def reopen(self) -> Latest:
        """Clear a published error or pause, so that the job may be tried again; its old writers are fenced. No-op where there is none."""

        def change(state: Latest) -> Latest:
            if state.error is None and state.paused is None:
                return state
            return replace(state, error=None, paused=None, epoch=state.epoch + 1, owner=None)

        return self._swap(change)

    def _read(self) -> tuple[Latest, str | None]:
        found = self.objects.read(self.key("latest"))
        return (_LATEST.validate_json(found[0]), found[1]) if found else (Latest(), None)

    def _swap(self, change: Callable[[Latest], Latest]) -> Latest:
        """Read, change, write if unchanged. After a conflict it reads again: a repeated PUT may be refused because of its own first try."""
        for pause in _PAUSES:
            time.sleep(pause)
            old, etag = self._read()
            new = change(old)
            if new == old:
                return old
            try:
                self.objects.write(self.key("latest"), json.dumps(asdict(new)).encode(), if_match=etag, if_none_match=etag is None)
            except Conflict:
                continue
            return new
        raise Fenced(f"lost the race for the state of job {self.job} {len(_PAUSES)} times")

    # --- checkpoints -------------------------------------------------------------------------------------------------

    def save_checkpoint(self, round: int, metrics: dict[str, float], directory: Path, keep: int = 2) -> Checkpoint:
        """Upload the files of *directory*, verify them, then name them in ``latest``; returns when that is committed. Raises Fenced."""
        key = f"e{self.epoch:04d}/round-{round:08d}"
        if key in self._saved:  # a round may be saved again, and what `latest` names is never written over
            key += f"-{len(self._saved)}"
        self._saved.add(key)
        files: dict[str, str] = {}
        for path in sorted(p for p in directory.rglob("*") if p.is_file()):
            name = path.relative_to(directory).as_posix()
            files[name] = self._upload(f"{key}/{name}", path)
        point = Checkpoint(key=key, round=round, metrics=metrics, files=files)
        outdated: list[Checkpoint] = []

        def change(state: Latest) -> Latest:
            kept = [*(old for old in state.kept if old.key != key), point]
            outdated.extend(old for old in kept[:-keep] if old not in outdated)  # the first try may have taken, though it seemed refused
            return replace(state, checkpoint=point, kept=kept[-keep:])

        self.commit(change)
        for old in outdated:  # after the commit only: a stale writer never gets here
            self.objects.delete(self.key(f"{old.key}/{name}") for name in old.files)
        return point

    def load_checkpoint(self, point: Checkpoint, directory: Path) -> None:
        """Download the files of *point* into *directory*, verified. Raises CorruptArtifact, NotFound."""
        for name, sha256 in point.files.items():
            path = directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            self.objects.download(ArtifactRef(uri=self.objects.uri(self.key(f"{point.key}/{name}")), sha256=sha256), path)

    def _upload(self, name: str, path: Path) -> str:
        ref = self.objects.upload(lambda _: self.key(name), path)
        if not self.objects.exists(ref):
            raise CorruptArtifact(f"{ref.uri} does not hold what was written", remedy="see the log of the S3 server")
        return ref.sha256

    # --- progress and control ----------------------------------------------------------------------------------------

    def put_status(self, status: dict[str, Any]) -> None:
        """Progress of this epoch; needs no condition, as readers follow ``latest.epoch``."""
        self.objects.write(self.key(f"e{self.epoch:04d}/status.json"), json.dumps(status, default=str).encode())

    def status(self, epoch: int) -> dict[str, Any]:
        """Progress of *epoch*, or empty."""
        found = self.objects.read(self.key(f"e{epoch:04d}/status.json"))
        return dict(json.loads(found[0])) if found else {}

    def control(self) -> ControlCommand:
        """What is asked of the job."""
        found = self.objects.read(self.key("control"))
        return ControlCommand(json.loads(found[0])["command"]) if found else ControlCommand.RUN

    def put_control(self, command: ControlCommand) -> None:
        """Ask the job to go on, pause or stop at its next checkpoint."""
        self.objects.write(self.key("control"), json.dumps({"command": command}).encode())


def ended(state: Latest) -> bool:
    """Whether a result or an error has been published."""
    return state.result is not None or state.error is not None


def put_request(objects: ObjectStore, request: JobRequest) -> ArtifactRef:
    """Store *request* in its job's directory, under its digest."""
    body = _REQUEST.dump_json(request)
    sha256 = hashlib.sha256(body).hexdigest()
    key = f"jobs/{request.job}/request-{sha256}.json"
    objects.write(key, body)
    return ArtifactRef(uri=objects.uri(key), sha256=sha256, size=len(body))


def load_request(objects: ObjectStore, ref: ArtifactRef) -> JobRequest:
    """The request, verified. Raises NotFound, CorruptArtifact."""
    return _REQUEST.validate_json(objects.get(ref))
