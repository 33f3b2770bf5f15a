"""The trainer contract inside a job: shards from S3, checkpoints under the fence, progress for people."""

from __future__ import annotations

import io
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from perdure.adapters.s3 import ObjectStore
from perdure.jobs.latest import Paused, RunState
from perdure.jobs.status import StatusWriter
from perdure.jobs.trainer import Restored, checkpoint_due
from perdure.messages.common import ArtifactRef
from perdure.messages.jobs import Checkpoint, ControlCommand

if TYPE_CHECKING:  # a worker that is waited for does not import what it does not need
    import polars as pl

    from perdure.spec.pipeline import Train

_HISTORY = 500  # rounds; those since the last checkpoint are always among them
_CONTROL_AGE = 2.0  # seconds between looks at ``control`` outside of checkpoints


@dataclass(frozen=True)
class TrainPlan:
    """What all workers of a training are told alike."""

    trainer: str
    params: dict[str, Any]
    every_rounds: int
    keep: int
    threads: int
    features: list[str]
    classes: list[str]
    files: dict[str, list[ArtifactRef]]
    device: str = "cpu"

    @classmethod
    def of(cls, train: Train, manifest: Mapping[str, Any]) -> TrainPlan:
        """The plan that a dataset's *manifest* makes of the specification's training section."""
        features = manifest["features"]
        splits = {"train": features["files"], "validation": features.get("validation", [])}
        return cls(
            trainer=train.trainer,
            params={"rounds": 100, **train.params},
            every_rounds=train.checkpoint.every_rounds,
            keep=train.checkpoint.keep,
            threads=max(1, int(train.scaling.cpus_per_worker)),
            features=features["names"],
            classes=manifest["classes"],
            files={name: [ArtifactRef.from_json(file) for file in listed] for name, listed in splits.items() if listed},
        )


@dataclass(frozen=True)
class Trained:
    """What the process that finished a training knows: its last status, and its seconds until the first round and from there on."""

    status: dict[str, Any]
    seconds: dict[str, float]


class JobTraining:
    """`TrainContext` of one worker. *run* carries the epoch of the group; rank 0 writes its checkpoints and status, the others nothing."""

    def __init__(
        self,
        plan: TrainPlan,
        objects: ObjectStore,
        run: RunState,
        status: StatusWriter,
        scratch: Path,
        *,
        checkpoint: Checkpoint | None,
        rank: int = 0,
        world_size: int = 1,
        rendezvous: Mapping[str, Any] | None = None,
    ) -> None:
        self._plan, self._objects, self._run, self._status, self._scratch = plan, objects, run, status, scratch
        self._checkpoint, self._asked, self._looked = checkpoint, ControlCommand.RUN, 0.0
        self._history: list[tuple[int, dict[str, float]]] = []
        self._uncommitted = 0  # rounds since the last checkpoint
        self._started, self._loaded, self._ended = time.monotonic(), 0.0, 0.0
        self.rank, self.world_size, self.rendezvous = rank, world_size, rendezvous
        self.params: Mapping[str, Any] = plan.params
        self.features, self.classes, self.splits = plan.features, plan.classes, list(plan.files)
        self.seed = int(plan.params.get("seed", plan.params.get("random_state", 0)))
        self.threads, self.device = plan.threads, plan.device

    def shards(self, name: str = "train") -> Sequence[pl.DataFrame]:
        """This rank's shards, in the manifest's order, verified as they are read."""
        return _Shards(self._objects, self._plan.files[name][self.rank :: self.world_size])

    def restore(self) -> Restored | None:
        """The checkpoint that the group's epoch began with."""
        if (point := self._checkpoint) is None:
            return None
        folder = self._scratch / f"restored-{point.round}"
        folder.mkdir(exist_ok=True)
        self._run.load_checkpoint(point, folder)
        return Restored(folder, point.round, point.metrics)

    def checkpoint_due(self, round: int) -> bool:
        """Every ``train.checkpoint.every_rounds``, and the last one."""
        return checkpoint_due(round, self._plan.every_rounds, int(self.params["rounds"]))

    def report(self, round: int, metrics: Mapping[str, float], checkpoint: Path | None = None) -> None:
        """Progress, and a checkpoint that is committed when this returns. Raises Fenced, Paused."""
        if self.rank != 0:
            return
        self._ended = time.monotonic()
        self._loaded = self._loaded or self._ended
        self._uncommitted += 1
        finite = {name: float(value) for name, value in metrics.items() if math.isfinite(value)}  # JSON knows no others
        self._history = [*self._history, (round, finite)][-max(_HISTORY, self._uncommitted) :]
        self._status.update(round=round, metrics=finite, history=self._history, phase="training")
        if checkpoint is not None:
            self._run.save_checkpoint(round, finite, checkpoint, keep=self._plan.keep)
            self._uncommitted = 0
            obey(self._run, round)

    @property
    def should_stop(self) -> bool:
        """Whether ``control`` asks for a pause; looked up every two seconds at most."""
        if time.monotonic() - self._looked > _CONTROL_AGE:
            self._asked, self._looked = self._run.control(), time.monotonic()
        return self._asked is not ControlCommand.RUN

    def phase(self, name: str) -> None:
        """Show *name* in the status; ``training`` ends the time that counts as loading."""
        if name == "training":
            self._loaded = time.monotonic()
        if self.rank == 0:
            self._status.update(phase=name)

    def trained(self) -> Trained:
        """What is known at the end."""
        seconds = {"load": self._loaded - self._started, "fit": self._ended - self._loaded}
        return Trained(self._status.current, {name: round(max(0.0, value), 3) for name, value in seconds.items()})


def obey(run: RunState, round: int) -> None:
    """Leave by `Paused` where ``control`` asks for it; *round* is that of the last committed checkpoint."""
    if run.control() is not ControlCommand.RUN:
        run.publish_pause(round)
        raise Paused(f"at round {round}, as asked")


class _Shards(Sequence["pl.DataFrame"]):
    def __init__(self, objects: ObjectStore, files: list[ArtifactRef]) -> None:
        self._objects, self._files = objects, files

    def __len__(self) -> int:
        return len(self._files)

    @overload
    def __getitem__(self, index: int) -> pl.DataFrame: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[pl.DataFrame]: ...
    def __getitem__(self, index: int | slice) -> pl.DataFrame | Sequence[pl.DataFrame]:
        if isinstance(index, slice):
            return _Shards(self._objects, self._files[index])
        import polars as pl

        return pl.read_parquet(io.BytesIO(self._objects.get(self._files[index])))
