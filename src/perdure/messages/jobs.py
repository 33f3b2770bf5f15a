"""What an activity hands to a job, and what the job leaves in ``latest``: the protocol between rows and objects.

A job is a directory ``{storage}/jobs/{step_run}[-{name}]/`` on S3 with

* ``request-{sha256}.json``  a `JobRequest`, immutable;
* ``latest``                 a `Latest`, the only mutable object, changed by compare-and-swap only;
* ``control``                a `Control`, written by the activity, obeyed by the job at its next checkpoint;
* ``e{epoch}/…``             what the writer of that epoch wrote; it counts only where ``latest`` names it;
* ``e{epoch}/status.json``   progress for people, at most one write a second.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from perdure.messages.common import ArtifactRef


class JobKind(StrEnum):
    """What a job does; the value is ``{module under perdure.jobs}.{function}``."""

    PLAN = "preparation.plan"
    PARTITION = "preparation.partition"
    FIT = "preparation.fit"
    FEATURES = "preparation.features"
    COMMIT = "preparation.commit"
    REBUILD = "preparation.rebuild"
    TRAIN = "training.train"
    EVALUATE = "evaluation.evaluate"
    SELECT = "selection.select"
    EXPERIMENT = "experiment.figures"
    REFERENCE = "monitoring.reference"
    LOOK = "monitoring.look"
    PLAN_SCORES = "inference.plan"
    SCORE = "inference.score"
    COMMIT_SCORES = "inference.commit"


class Engine(StrEnum):
    """Where a job runs."""

    LOCAL = "local"
    RAY = "ray"


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What a job's worker group asks of the cluster. Units: workers, cores, GPUs per worker.

    ``allow_cpu``: where the cluster has no such GPU, the job may go without. ``driver_cpus`` are the cores of the job's own process: with
    some it runs on whichever node has them, without on the head.
    """

    workers: int = 1
    cpus_per_worker: float = 1
    gpus_per_worker: float = 0
    accelerator: str | None = None
    memory_mb: int | None = None
    allow_cpu: bool = False
    driver_cpus: float = 0


@dataclass(frozen=True, kw_only=True)
class JobRequest:
    """All that a job knows. ``spec`` is the validated specification; ``inputs`` are results of earlier jobs, by name.

    A partition's job has ``index``. ``storage`` is ``s3://bucket``; credentials come from the node.
    """

    job: str
    kind: JobKind
    storage: str
    spec: dict[str, Any]
    inputs: dict[str, Any] = field(default_factory=dict)
    code: ArtifactRef | None = None
    index: int = 0
    resources: Resources = field(default_factory=Resources)


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A committed training state: its directory key below the job, and the sha256 of each of its files."""

    key: str
    round: int
    metrics: dict[str, float] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Latest:
    """The state of a job. ``result`` and ``error`` are published once; ``error`` is `PerdureError.as_dict`-shaped.

    ``paused`` is the round at which the writer of this epoch stopped because ``control`` said so.
    """

    epoch: int = 0
    owner: str | None = None
    checkpoint: Checkpoint | None = None
    kept: list[Checkpoint] = field(default_factory=list)
    result: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    paused: int | None = None


class ControlCommand(StrEnum):
    """What the activity asks of a running job."""

    RUN = "run"
    PAUSE = "pause"
    STOP = "stop"


class JobStatus(StrEnum):
    """What the compute engine knows of a submission. ``UNKNOWN``: it answers, but does not know the id (lost, or never seen)."""

    UNKNOWN = "unknown"
    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    STOPPED = "stopped"

    @property
    def is_active(self) -> bool:
        """Whether it may still write."""
        return self in (JobStatus.PENDING, JobStatus.RUNNING)


@dataclass(frozen=True, kw_only=True)
class JobState:
    """One look at a submission. ``message`` is bounded, for people."""

    status: JobStatus
    exit_code: int | None = None
    message: str = ""


@dataclass(frozen=True, kw_only=True)
class Submission:
    """One start of a job. ``id`` is derived from the step run and a number, never from an attempt."""

    id: str
    request: ArtifactRef
    resources: Resources = field(default_factory=Resources)
    code: str | None = None  # digest of the owner's code: local processes are pooled by it


EXIT_ERROR, EXIT_FENCED, EXIT_PAUSED = 20, 21, 22
"""Exit codes of a job: an error is published in ``latest``; a newer epoch owns the job; stopped at a checkpoint as asked."""
