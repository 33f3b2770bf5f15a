"""The trainer contract: a trainer is one function ``train(context)``, built in (``perdure.jobs.trainers``) or the owner's own.

It sees its shards, its parameters and the last committed checkpoint, and reports rounds; it knows neither Ray nor S3 nor Temporal. In a
unit test it is given a `PlainContext`:

    context = PlainContext({"train": frame}, params={"rounds": 20}, classes=["ham", "spam"], folder=tmp_path)
    train(context)
    assert context.reports[-1].metrics["accuracy"] > 0.9

A trainer that is killed is started again and must go on from `restore`. To give the same model as an undisturbed run, let each interval
between two checkpoints depend on nothing but the checkpoint, the round and ``seed``: draw random numbers from a generator made of
``(seed, round)``, not from one that lives on.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import polars as pl

LABEL = "__label"
"""The column of the label in every shard: the class's index in ``classes``, or the target of a regression (float32)."""


@dataclass(frozen=True)
class Restored:
    """A committed checkpoint: its files in a local folder, the round after which it was reported, its metrics."""

    path: Path
    round: int
    metrics: Mapping[str, float]


class TrainContext(Protocol):
    """What a trainer sees. With several workers each runs the trainer with its own *rank*; they meet by their library's own means."""

    @property
    def params(self) -> Mapping[str, Any]:
        """``train.params`` of the specification; ``rounds`` is always there."""

    @property
    def rank(self) -> int:
        """This worker's number, from 0."""

    @property
    def world_size(self) -> int:
        """The number of workers."""

    @property
    def seed(self) -> int:
        """``params.seed``, by default 0."""

    @property
    def features(self) -> list[str]:
        """The feature columns of every shard, in order."""

    @property
    def classes(self) -> list[str]:
        """The classes' names, the positive one last; empty for a regression."""

    @property
    def threads(self) -> int:
        """Cores for this worker."""

    @property
    def device(self) -> str:
        """``cuda`` where the worker has a GPU of its own, else ``cpu``."""

    @property
    def rendezvous(self) -> Mapping[str, Any] | None:
        """Where the built-in trainer's ranks find each other: arguments of XGBoost's communicator. None for a single worker."""

    @property
    def splits(self) -> list[str]:
        """The splits that have shards: ``train``, and ``validation`` where the data has one."""

    def shards(self, name: str = "train") -> Sequence[pl.DataFrame]:
        """This rank's shards of a split: the same rows in the same order in every run. Each access reads one, none is kept.

        They hold ``features`` and `LABEL` as float32, missing values as nulls. With several workers a rank may have none of a split.
        """

    def restore(self) -> Restored | None:
        """The last committed checkpoint, the same one on every rank, or None for a fresh start."""

    def checkpoint_due(self, round: int) -> bool:
        """Whether the specification wants a checkpoint after *round*: every ``train.checkpoint.every_rounds``, and the last one."""

    def report(self, round: int, metrics: Mapping[str, float], checkpoint: Path | None = None) -> None:
        """Say that *round* (from 1) is done. Only rank 0's words count.

        *checkpoint* is a folder, given by rank 0; its files are copied before this returns. The last one reported is the model. Where
        somebody asked for a pause, or another process has taken over, this does not return: the trainer is left by a `BaseException`.
        """

    @property
    def should_stop(self) -> bool:
        """Whether somebody asked for a pause: report a checkpoint soon. Ranks may see it at different times."""

    def phase(self, name: str) -> None:
        """Tell people what goes on: ``loading``, ``training``."""


@dataclass(frozen=True)
class Report:
    """One call of `TrainContext.report`; ``checkpoint`` is a copy of the folder."""

    round: int
    metrics: dict[str, float]
    checkpoint: Path | None


@dataclass
class PlainContext:
    """The contract in memory and in a folder: one worker, no Ray, no S3. A second one on the same *folder* goes on from its checkpoint."""

    data: Mapping[str, pl.DataFrame | list[pl.DataFrame]]
    params: Mapping[str, Any] = field(default_factory=dict)
    classes: list[str] = field(default_factory=list)
    folder: Path = Path()
    every_rounds: int = 20
    rank: int = 0
    world_size: int = 1
    threads: int = 1
    device: str = "cpu"
    rendezvous: Mapping[str, Any] | None = None
    should_stop: bool = False
    reports: list[Report] = field(default_factory=list)
    phases: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.params = {"rounds": 100, **self.params}

    @property
    def seed(self) -> int:
        """``params.seed``, by default 0."""
        return int(self.params.get("seed", 0))

    @property
    def features(self) -> list[str]:
        """The columns of the data but the label."""
        return [name for name in self._split("train")[0].columns if name != LABEL]

    @property
    def splits(self) -> list[str]:
        """The keys of the data."""
        return list(self.data)

    def _split(self, name: str) -> list[pl.DataFrame]:
        found = self.data[name]
        return found if isinstance(found, list) else [found]

    def shards(self, name: str = "train") -> list[pl.DataFrame]:
        """This rank's frames of the split."""
        return self._split(name)[self.rank :: self.world_size]

    def restore(self) -> Restored | None:
        """The newest checkpoint in the folder."""
        rounds = sorted(int(path.stem) for path in self.folder.glob("*.json"))
        if not rounds:
            return None
        metrics = json.loads((self.folder / f"{rounds[-1]}.json").read_text())
        return Restored(self.folder / str(rounds[-1]), rounds[-1], metrics)

    def checkpoint_due(self, round: int) -> bool:
        """Every ``every_rounds``, and the last one."""
        return checkpoint_due(round, self.every_rounds, int(self.params["rounds"]))

    def report(self, round: int, metrics: Mapping[str, float], checkpoint: Path | None = None) -> None:
        """Keep the report; a checkpoint is copied to ``folder/{round}``."""
        if checkpoint is not None:
            checkpoint = Path(shutil.copytree(checkpoint, self.folder / str(round), dirs_exist_ok=True))
            (self.folder / f"{round}.json").write_text(json.dumps(dict(metrics)))
        self.reports.append(Report(round, dict(metrics), checkpoint))

    def phase(self, name: str) -> None:
        """Keep the name."""
        self.phases.append(name)


def checkpoint_due(round: int, every: int, rounds: int) -> bool:
    """Whether a checkpoint is due after *round*: at fixed rounds, whatever happened before, as a resumed run must have the same ones."""
    return round % every == 0 or round == rounds
