"""What activities need from the outside, as protocols with plain values; adapters and the repository implement them.

Every method is idempotent under its key: a repeated or late call changes nothing and returns what was committed first. Methods raise
`StoreUnavailable`, `ObjectsUnavailable` or `ClusterUnavailable` where their server does not answer, never a library's own error.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol
from uuid import UUID

from perdure.messages.common import ArtifactRef, Json
from perdure.messages.controller import Look
from perdure.messages.jobs import Checkpoint, ControlCommand, JobRequest, JobState, Latest, Submission
from perdure.messages.pipeline import RunState, StepKind
from perdure.messages.promotion import ApprovalState, VoteDecision
from perdure.messages.retraining import DriftEvent, Force, Snooze, TriggerKind

# --- rows --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class PipelineVersion:
    """A specification under its content hash, with the package of the owner's code."""

    id: UUID
    name: str
    number: int
    sha256: str
    spec: Json
    code: ArtifactRef | None = None


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run's row. ``spec`` is the version's specification with the request's parameters applied."""

    id: UUID
    workflow_id: str
    pipeline: PipelineVersion
    spec: Json
    state: RunState
    cache: bool = True
    recompute_from: StepKind | None = None
    requested_by: str = "unknown"
    paused: bool = False
    error: Json | None = None


@dataclass(frozen=True, kw_only=True)
class StepRun:
    """One step of one run. ``result``, once it succeeded, is the job's result and the ids of the rows that were made of it.

    Those are ``dataset_version``, ``model_version`` or ``evaluation``, and ``version`` where versions are numbered.
    """

    id: UUID
    run_id: UUID
    round: int
    step: StepKind
    state: str  # running | succeeded | failed | cancelled | lost
    key: str | None = None
    reason: str = ""
    result: Json | None = None


@dataclass(frozen=True, kw_only=True)
class Claim:
    """Answer to `Steps.claim`. Exactly one of: ``mine`` (compute it), ``hit`` (use it), ``busy`` (that step run computes it now)."""

    mine: bool = False
    hit: StepRun | None = None
    busy: UUID | None = None
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class SubmissionRow:
    """One start of a step's job. ``round`` is the last committed checkpoint when it ended."""

    step_run: UUID
    name: str
    number: int
    job_id: str
    started_at: datetime
    state: str = "open"  # open | succeeded | failed | stalled | lost | stopped
    exit_code: int | None = None
    round: int | None = None


@dataclass(frozen=True, kw_only=True)
class DatasetVersion:
    """A committed dataset version."""

    id: UUID
    dataset: str
    number: int
    manifest: ArtifactRef
    train_rows: int
    test_rows: int
    quarantined_rows: int
    pool_rows: int = 0
    labeled_rows: int = 0
    scored_rows: int = 0


@dataclass(frozen=True, kw_only=True)
class ModelVersion:
    """A trained version of a model."""

    id: UUID
    model: str
    number: int
    predictor: ArtifactRef
    dataset_version: UUID
    run_id: UUID
    rounds: int
    metrics: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Batch:
    """A run that scores: its request, the version that scores, the data set that is scored (if it is one), and where the scores go to."""

    run_id: UUID
    request: Json
    version: ModelVersion
    source: DatasetVersion | None
    dataset: str


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """One gate's outcome on one group of rows."""

    gate: Json
    passed: bool
    reason: str
    value: float | None = None
    champion_value: float | None = None
    slice: str | None = None


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """A committed evaluation; ``evidence_sha256`` covers model, data, figures and verdicts."""

    id: UUID
    model_version: UUID
    champion_version: UUID | None
    passed: bool
    verdicts: list[Verdict]
    metrics: dict[str, float]
    evidence_sha256: str


@dataclass(frozen=True, kw_only=True)
class Promotion:
    """A promotion's row, with what its evaluation and its pipeline's policy say."""

    id: UUID
    model: str
    model_version: UUID
    evaluation: Evaluation
    requested_by: str
    state: str  # open | released | refused
    reason: str = ""
    until: datetime | None = None  # votes are taken; None where nobody is asked
    undone: str = ""  # who rolled the version back, where that ended its last release


@dataclass(frozen=True, kw_only=True)
class Release:
    """The interval in which a model version serves; ``until`` is None while it does."""

    id: UUID
    model: str
    model_version: UUID
    number: int
    since: datetime
    until: datetime | None
    actor: str


@dataclass(frozen=True, kw_only=True)
class PendingRun:
    """A run as MLflow should know it. ``digest`` names this state of it, ``external_id`` is MLflow's id where it has one."""

    id: UUID
    workflow_id: str
    pipeline: str
    model: str
    state: RunState
    params: Json
    tags: dict[str, str]
    started_at: datetime
    finished_at: datetime | None
    digest: str
    external_id: str | None


@dataclass(frozen=True, kw_only=True)
class PendingMetrics:
    """Training metrics of one step run, by round, with the time at which each was recorded."""

    step_run: UUID
    external_run: str
    rounds: list[tuple[int, dict[str, float], datetime]]
    digest: str


@dataclass(frozen=True, kw_only=True)
class PendingVersion:
    """A model version as MLflow should know it; ``metrics`` are those of its newest evaluation, ``events`` what happened to it."""

    version: ModelVersion
    external_run: str
    tags: dict[str, str]
    metrics: dict[str, float]
    events: list[str]
    digest: str
    external_id: str | None


@dataclass(frozen=True, kw_only=True)
class PendingRelease:
    """An open release: the version that ``champion`` should point at."""

    release: Release
    external_version: str
    digest: str


# --- Postgres ------------------------------------------------------------------------------------------------------------


class Runs(Protocol):
    """Pipelines and runs."""

    def apply(self, spec: Json, spec_sha256: str, code: ArtifactRef | None, git_commit: str | None, actor: str) -> PipelineVersion:
        """The version with this content (specification and code digest), made the newest; new numbers only for new content."""

    def pipeline(self, name: str, version: str | None = None) -> PipelineVersion:
        """The newest version of *name*, or the one whose sha256 starts with *version*. Raises NotFound naming what exists."""

    def open(self, *, workflow_id: str, chain: str, pipeline: UUID, spec: Json, request: Json, scheduled: datetime | None = None) -> Run:
        """The run of this workflow chain. Raises Conflict where another chain had this workflow id.

        A run that ended without success is live again: its workflow was reset. Unless that end came after *scheduled*: then Conflict.
        """

    def run(self, run_id: UUID) -> Run:
        """The run. Raises NotFound."""

    def live(self) -> list[tuple[UUID, str, str]]:
        """Id, workflow id and chain of every run that has not ended, oldest first."""

    def close(self, run_id: UUID, state: RunState, error: Json | None) -> None:
        """Move a live run, and its running steps, to their end; ending it again the same way is a no-op."""

    def command(self, run_id: UUID, command: str, command_id: str, actor: str, reason: str) -> Run:
        """Record *command* (``pause``, ``resume``, ``cancel``) once in the run's row and the audit."""


class Steps(Protocol):
    """Step runs, their cache, their submissions, their progress."""

    def begin(self, run_id: UUID, round: int, step: StepKind, scheduled: datetime | None = None) -> StepRun:
        """The step run with id ``keys.identity(run_id, round, step)``; opened, or reopened if it had failed.

        That is a reset of the workflow, unless the end came after *scheduled*: then this attempt was overtaken, and Conflict is raised.
        """

    def step(self, step_run: UUID) -> StepRun:
        """The step run. Raises NotFound."""

    def claim(self, step_run: UUID, key: str, *, use_cache: bool, components: Json | None = None) -> Claim:
        """Set the step's key and decide who computes it: one live step run per key; others wait for it or use its result.

        *components* is what the key was made of; a miss names those that changed since the pipeline's last result. A step that has
        succeeded is its own hit. Raises Conflict for a step that ended otherwise.
        """

    def release(self, step_run: UUID) -> None:
        """Give up the claim of a step that pauses, so that others need not wait for it; `claim` asks again."""

    def finish(self, step_run: UUID, result: Json, reason: str = "") -> StepRun:
        """Record the result once; an empty *reason* keeps the claim's. Raises Conflict for a different second result or end."""

    def report(self, step_run: UUID, detail: Json, waiting_for: str | None = None) -> Run:
        """Record progress for people, and read in the same statement what people want of the run (``paused``, ``state``).

        *detail* is merged over what was reported before. The report of a step that has ended changes nothing.
        """

    def submission(self, step_run: UUID, name: str) -> SubmissionRow | None:
        """The newest submission of this job, or None."""

    def submissions(self, step_run: UUID, name: str) -> list[SubmissionRow]:
        """All submissions of this job, oldest first."""

    def next_submission(self, step_run: UUID, name: str, number: int) -> SubmissionRow:
        """Insert submission *number*, or return the one that another attempt inserted. Ids derive from step run, name and number.

        Raises Conflict where the step has ended: a late attempt starts no job.
        """

    def end_submission(
        self, step_run: UUID, name: str, number: int, state: str, exit_code: int | None, message: str, round: int | None
    ) -> None:
        """Record how an open submission ended; no-op if it has ended."""

    def orphans(self, limit: int = 100) -> list[SubmissionRow]:
        """Open submissions of steps that have ended (a terminated run): their jobs are to be stopped."""

    def unwanted(self, job_ids: list[str]) -> list[SubmissionRow]:
        """Those of these submissions that have ended, or whose step has: whoever still runs their jobs is to stop them."""


class Datasets(Protocol):
    """Partitions and dataset versions."""

    def record_partition(self, step_run: UUID, phase: str, index: int, result: Json, key: str | None = None) -> Json:
        """Commit one partition of one phase; returns what was committed first. Raises Conflict where the step has ended without it.

        Under *key* other runs find it.
        """

    def known_partition(self, key: str) -> Json | None:
        """What was committed last under *key*, by whichever run."""

    def partitions(self, step_run: UUID, phase: str) -> list[Json]:
        """What was committed for *phase*, by index."""

    def partition(self, step_run: UUID, phase: str, index: int) -> Json | None:
        """The one of this *index*; None where there is none yet."""

    def commit(self, step_run: UUID, dataset: str, result: Json, reason: str) -> DatasetVersion:
        """Dataset version, profile, validation results, artifacts and lineage from the commit job's result, and the step's end.

        One transaction. *result* also holds the plan's ``source``. The same manifest is the same version, whoever prepared it.
        """

    def version(self, dataset_version: UUID) -> DatasetVersion:
        """The dataset version. Raises NotFound."""

    def newest(self, dataset: str) -> DatasetVersion:
        """The newest version of *dataset*. Raises NotFound."""

    def said_before(self, pipeline: str, run_id: UUID) -> list[ArtifactRef]:
        """The label snapshots of earlier runs of *pipeline*, oldest first."""


class Batches(Protocol):
    """Runs that score."""

    def open(self, run_id: UUID, *, model_version: UUID, source_version: UUID | None, dataset: str) -> None:
        """What this run scores, and where to; the first call decides."""

    def check(self, dataset: str) -> None:
        """Raises Conflict where *dataset* holds what pipelines prepare: nobody should take scores for it."""

    def batch(self, run_id: UUID) -> Batch:
        """What this run scores. Raises NotFound."""

    def dataset(self, name: str, number: int | None = None) -> DatasetVersion:
        """A version of the data set *name*: the newest, or the one with this number. Raises NotFound naming what exists."""


class DriftEvents(Protocol):
    """What monitors said, whoever runs them."""

    def record(self, events: Sequence[DriftEvent]) -> list[bool]:
        """Keep each event once, by source and event id, and have the controllers of their models look: one transaction.

        For each event whether it is new. Raises NotFound where one names a model that has no version; then none is kept.
        """


class Retraining(Protocol):
    """Whether a model is trained again. Each method is one transaction."""

    def look(self, model: str) -> Look:
        """Decide what is undecided about *model*; what is to be started, and what goes on. A repeat writes nothing new."""

    def force(self, model: str, force: Force) -> None:
        """A person's wish to train, once per command id. Raises NotFound where no pipeline trains *model*."""

    def snooze(self, model: str, snooze: Snooze, command_id: str) -> None:
        """No action before ``until``, once per *command_id*. Raises NotFound where no pipeline trains *model*."""

    def trigger(self, pipeline: str, kind: TriggerKind, key: str, detail: Json) -> bool:
        """A reason to train, once per *key*; whether it is new. Raises NotFound where there is no such pipeline."""

    def source(self, pipeline: str, fingerprint: str) -> bool:
        """Whether the source has changed since it was looked at last, which is a reason to train. Raises NotFound as `trigger` does."""

    def failed(self, decision: UUID, error: Json, after: timedelta = timedelta(0)) -> None:
        """The run of this decision has failed before it had a row; says nothing about a decision that is younger than *after*."""


class SourceFiles(Protocol):
    """The files that a specification names as its source."""

    def fingerprint(self, uri: str) -> str:
        """What changes when the files do, without reading them. Raises SourceMissing, ObjectsUnavailable."""


class Selections(Protocol):
    """What people were asked, and what they said."""

    def commit(
        self,
        step_run: UUID,
        *,
        model_version: UUID,
        dataset_version: UUID,
        tasks: ArtifactRef,
        snapshot: ArtifactRef,
        result: Json,
        reason: str,
    ) -> StepRun:
        """Artifacts, lineage (who was asked comes of the model and the data, the labels come of that) and the step's end, in one
        transaction.
        """


class Models(Protocol):
    """Checkpoints, metrics, model versions, evaluations."""

    def record_checkpoint(self, step_run: UUID, epoch: int, checkpoint: Checkpoint) -> None:
        """Copy a committed checkpoint into a row."""

    def record_metrics(self, step_run: UUID, rounds: list[tuple[int, dict[str, float]]]) -> None:
        """Copy metrics by round into rows; a repeated round is a no-op."""

    def commit(self, step_run: UUID, model: str, dataset_version: UUID, result: Json, reason: str) -> ModelVersion:
        """Model version (the next number of *model*, once per step run), artifacts, lineage and the step's end, in one transaction."""

    def version(self, model_version: UUID) -> ModelVersion:
        """The model version. Raises NotFound."""

    def find(self, model: str, number: int | None = None) -> ModelVersion:
        """A version by number; None means the released one. Raises NotFound naming what exists."""

    def champion(self, model: str) -> ModelVersion | None:
        """The version with the open release."""

    def commit_evaluation(
        self,
        step_run: UUID,
        *,
        model_version: UUID,
        dataset_version: UUID,
        champion: UUID | None,
        verdicts: list[Verdict],
        evidence_sha256: str,
        result: Json,
        reason: str,
    ) -> Evaluation:
        """Evaluation, metrics, slices and gate verdicts, and the step's end, in one transaction.

        ``result["figures"]`` is the evaluation job's result, ``result["human"]`` what people said, with the ``snapshot``.
        """


class Promotions(Protocol):
    """Promotions, votes and releases."""

    def open(self, step_run: UUID, model_version: UUID, evaluation: UUID, *, required: int, deadline_seconds: float) -> Promotion:
        """The promotion of this step run (it has the step run's id), with its approval where people are asked.

        People are asked again where the run had ended meanwhile. Raises Conflict where the step has ended without a decision.
        """

    def asked_by(self, model_version: UUID, besides: UUID) -> str | None:
        """The workflow id of the live run, other than *besides*, that asks people about this version now, or rolls it out."""

    def vote(self, promotion: UUID, decision: VoteDecision, actor: str, reason: str, evidence_sha256: str, channel: str) -> ApprovalState:
        """Record the vote (unique per approval and actor). Raises EvidenceChanged; VoteRefused on a different second vote.

        Also refused: a vote after the deadline, and one by a channel that proves nothing about the actor, unless the policy takes it (a
        quorum above one never does).
        """

    def approval(self, promotion: UUID) -> ApprovalState:
        """The votes that count so far."""

    def remind(self, promotion: UUID, number: int) -> None:
        """Tell those who have not voted yet, once per *number*; nobody, where votes are not taken any more."""

    def close(self, promotion: UUID, *, release: bool, reason: str, actor: str) -> Release | None:
        """Refuse, or release by compare-and-set: the open release must be of the champion that was evaluated (or none), else Conflict.

        Where this very version serves already, its open release is returned. Conflict also where gates or votes do not allow a release. The
        promotion's candidate takes part no longer, in the same transaction.
        """


class Projections(Protocol):
    """Rows that MLflow has not been told about: read, push, then `pushed`. A push that is repeated says the same again.

    *besides* are ids that are left out for now: of runs, step runs, model versions, releases.
    """

    def runs(self, limit: int = 100, besides: Collection[UUID] = ()) -> list[PendingRun]:
        """Runs whose state was not pushed yet, oldest first."""

    def metrics(self, limit: int = 1000, besides: Collection[UUID] = ()) -> list[PendingMetrics]:
        """Training metrics by round that were not pushed yet, of runs that MLflow knows."""

    def versions(self, limit: int = 100, besides: Collection[UUID] = ()) -> list[PendingVersion]:
        """Model versions that are new or to which something happened since, oldest first, of runs that MLflow knows."""

    def releases(self, limit: int = 100, besides: Collection[UUID] = ()) -> list[PendingRelease]:
        """Open releases that were not pushed yet, of versions that MLflow knows."""

    def pushed(self, kind: str, object_id: UUID, digest: str, external_id: str | None = None) -> None:
        """Record what was pushed: ``kind`` is ``run``, ``metric``, ``model_version`` or ``release``; None keeps the known external id."""


# --- objects and compute ---------------------------------------------------------------------------------------------------


class JobFiles(Protocol):
    """The activity's side of a job's directory on S3 (`perdure.messages.jobs`)."""

    def put_request(self, request: JobRequest) -> ArtifactRef:
        """Write the request under its digest."""

    def latest(self, job: str) -> Latest:
        """The job's state; empty before its first writer."""

    def status(self, job: str, epoch: int) -> Json:
        """Progress of this epoch, for people; empty if there is none.

        Holds ``round``, ``metrics``, ``time`` and ``history``: ``[[round, metrics], ...]`` since the last checkpoint.
        """

    def control(self, job: str, command: ControlCommand) -> None:
        """Ask the job to go on, pause or stop at its next checkpoint."""

    def reopen(self, job: str) -> None:
        """Clear a published error or pause, so that the job can be submitted again; no-op where there is none."""

    def exists(self, artifact: ArtifactRef) -> bool:
        """Whether the object is there and agrees: full hash below 1 GiB, size above. Raises NotFound where the whole bucket is missing."""

    def all_there(self, artifacts: list[ArtifactRef]) -> bool:
        """Whether every object is there in its size. Raises NotFound where the whole bucket is missing."""

    def get_json(self, artifact: ArtifactRef) -> Any:
        """The object's JSON, verified. Raises CorruptArtifact."""


class Compute(Protocol):
    """Where jobs run. A submission id names one start for ever; the job itself is safe against being started twice by its epoch."""

    def submit(self, submission: Submission) -> None:
        """Start; a known id is a no-op. Raises ClusterUnavailable, ResourcesUnavailable."""

    def state(self, submission_id: str) -> JobState:
        """One look. Raises ClusterUnavailable."""

    def stop(self, submission_id: str) -> None:
        """End it and see it gone, with every process that it started; unknown ids are a no-op. Raises ClusterUnavailable."""

    def logs(self, submission_id: str) -> str:
        """The last lines of its output, bounded; empty if none are kept."""
