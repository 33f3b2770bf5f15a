"""How a run stands, as values; and what changed between two looks at it, as lines for people."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from perdure.cli.output import figures, lasting

UNITS = {"prepare": "partitions", "train": "rounds", "evaluate": "pairs", "label": "answered", "predict": "shards"}
QUEUED = 3.0  # seconds in a queue that are worth no word
STEPS = ("prepare", "train", "evaluate", "label", "promote", "predict")
PHASES = {
    "plan": "looking at the source",
    "partition": "reading and checking",
    "fit": "fitting the transform",
    "features": "making features",
    "commit": "committing",
    "pending": "waiting for a place to run",
    "evaluate": "scoring",
    "select": "choosing whom to ask about",
    "people": "people compare",
    "experiment": "comparing versions by their outcomes; perdure experiments show MODEL",
    "score": "scoring",
}


@dataclass(frozen=True, kw_only=True)
class Job:
    """One start of a step's job; ``round`` is the last committed checkpoint when it ended."""

    name: str
    number: int
    state: str
    round: int | None = None
    exit_code: int | None = None
    message: str = ""
    started: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class People:
    """A campaign that a step waits for: how many of its tasks are decided, and until when it waits."""

    campaign: str
    decided: int
    total: int
    deadline: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step. ``done`` of ``total`` counts partitions, rounds of training, or what people have answered."""

    name: str
    state: str = "pending"  # pending | running | succeeded | failed | cancelled | lost
    round: int = 0
    started: datetime | None = None
    finished: datetime | None = None
    reused: bool = False
    reason: str = ""
    phase: str = ""
    done: int | None = None
    total: int | None = None
    checkpoint: int | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    waiting_for: str | None = None
    waiting_since: datetime | None = None
    jobs: tuple[Job, ...] = ()
    outcome: str = ""  # what it came to, in a few words
    people: People | None = None

    @property
    def title(self) -> str:
        """Its name; with the round, after the first."""
        return f"{self.name} (round {self.round})" if self.round else self.name

    @property
    def seconds(self) -> float | None:
        """How long it took."""
        return (self.finished - self.started).total_seconds() if self.started and self.finished else None

    @property
    def restarted(self) -> list[Job]:
        """Starts of jobs after the first."""
        return [job for job in self.jobs if job.number > 1]


@dataclass(frozen=True, kw_only=True)
class Votes:
    """People are asked: how many have said what, until when, and the evidence that they decide on."""

    approvals: int
    rejections: int
    required: int
    deadline: datetime | None
    evidence: str


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """One look at a run."""

    id: str
    workflow_id: str
    state: str
    pipeline: str
    pipeline_version: int
    requested_by: str = ""
    started: datetime | None = None
    finished: datetime | None = None
    error: Mapping[str, str | None] | None = None
    steps: tuple[Step, ...] = ()
    votes: Votes | None = None
    model: str = ""
    model_version: int | None = None
    released: bool | None = None
    reason: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    scores: str = ""  # of a batch inference: its data set and version

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen."""
        return self.state not in ("running", "paused")

    @property
    def is_good(self) -> bool:
        """Whether the run succeeded and its model serves."""
        return self.state == "succeeded" and self.released is not False


class Pace:
    """Speed of what is counted, over the last half minute; restarts and jumps back begin anew."""

    WINDOW = 30.0  # seconds

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: dict[str, deque[tuple[float, int]]] = {}

    def note(self, step: Step) -> None:
        """Take in how far *step* is."""
        if step.done is None or step.state != "running":
            self._seen.pop(step.title, None)
            return
        seen = self._seen.setdefault(step.title, deque())
        if seen and step.done < seen[-1][1]:
            seen.clear()
        if not seen or step.done != seen[-1][1]:
            seen.append((self._clock(), step.done))
        while len(seen) > 2 and seen[0][0] < self._clock() - self.WINDOW:
            seen.popleft()

    def rate(self, step: Step) -> float | None:
        """Units a second, or None while nobody can know."""
        seen = self._seen.get(step.title)
        if not seen or len(seen) < 2 or step.waiting_for:
            return None
        (then, before), (_, now) = seen[0], seen[-1]
        elapsed = self._clock() - then
        return (now - before) / elapsed if elapsed > 0 else None

    def left(self, step: Step) -> float | None:
        """Seconds until all is done, or None."""
        rate = self.rate(step)
        left = step.total - step.done if step.total and step.done is not None else 0
        return left / rate if rate and left > 0 else None


@dataclass(frozen=True)
class Event:
    """Something that happened; ``at`` is None for what is seen now."""

    text: str
    at: datetime | None = None


class Changes:
    """Tells what is new in each snapshot, one event a change. Steady progress is told every *every* seconds only."""

    def __init__(self, every: float = 10.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._every, self._clock = every, clock
        self._before: Snapshot | None = None
        self._told: dict[str, tuple[float, int | None]] = {}
        self._phases: dict[tuple[str, str], float | None] = {}  # since when; None: told

    def of(self, now: Snapshot, pace: Pace) -> Iterator[Event]:
        """What happened until *now*, which is taken as seen afterwards."""
        before, self._before = self._before, now
        if before is None:
            yield Event(f"{now.workflow_id}, version {now.pipeline_version} of {now.pipeline}, started by {now.requested_by}", now.started)
        known = {step.title: step for step in before.steps} if before else {}
        for step in now.steps:
            yield from self._step(known.get(step.title) or Step(name=step.name, round=step.round), step, pace)
        was = before.state if before else "running"
        if was != now.state and not now.ended:
            yield Event("the run is paused: jobs stop at their next checkpoint" if now.state == "paused" else "the run goes on")
        if now.votes and (before is None or before.votes != now.votes):
            yield Event(f"promote: {vote_line(now.votes)}")

    def _step(self, before: Step, step: Step, pace: Pace) -> Iterator[Event]:
        if step.state == "pending":
            return
        if before.state == "pending" and not step.reused:
            why = f" ({step.reason})" if step.reason.startswith("miss") else ""
            yield Event(f"{step.title}: started{why}", step.started)
        seen = {(job.name, job.number) for job in before.jobs}
        for job in step.restarted:
            if (job.name, job.number) not in seen:
                yield Event(f"{step.title}: {restart_line(step, job)}", job.started)
        if step.waiting_for and step.waiting_for != before.waiting_for:
            yield Event(f"{step.title}: waiting for {step.waiting_for}", step.waiting_since)
        if before.waiting_for and not step.waiting_for and step.state == "running":
            yield Event(f"{step.title}: no longer waiting for {before.waiting_for}")
        if step.state == "running":
            yield from self._steady(step, pace)
        elif before.state != step.state:
            yield Event(f"{step.title}: {end_line(step)}", step.finished)

    def _steady(self, step: Step, pace: Pace) -> Iterator[Event]:
        if step.done is None:
            since = self._phases.setdefault((step.title, step.phase), self._clock())
            if step.phase and since is not None and self._clock() - since >= (QUEUED if step.phase == "pending" else 0):
                self._phases[step.title, step.phase] = None
                yield Event(f"{step.title}: {phase_words(step.phase)}")
            return
        at, done = self._told.get(step.title, (float("-inf"), None))
        if step.done == done or (self._clock() - at < self._every and step.done != step.total):
            return
        self._told[step.title] = (self._clock(), step.done)
        yield Event(f"{step.title}: {progress_line(step, pace)}")


def progress_line(step: Step, pace: Pace) -> str:
    """``120/200 rounds, 8.1/s, about 10 s left, checkpoint at 120, logloss 0.05``."""
    if step.people:
        return people_line(step.people)
    unit = UNITS.get(step.name, "")
    counted = f"{step.done}/{step.total} {unit}" if step.total else f"{step.done} {unit}"
    parts = [counted.strip()] if step.done is not None else []
    if step.phase and (step.name in ("prepare", "predict") or step.done is None):
        parts.insert(0, phase_words(step.phase))
    if (rate := pace.rate(step)) is not None and rate > 0:
        parts.append(f"{rate:.1f}/s")
    if (left := pace.left(step)) is not None:
        parts.append(f"about {lasting(left)} left")
    if step.checkpoint is not None:
        parts.append(f"checkpoint at {step.checkpoint}")
    if step.metrics:
        parts.append(figures(step.metrics, limit=2))
    return ", ".join(parts)


def people_line(people: People) -> str:
    """Who is waited for, until when, and where to see more."""
    until = f" until {people.deadline.astimezone():%Y-%m-%d %H:%M}" if people.deadline else ""
    return f"waiting for people{until}: {people.decided} of {people.total} answered; perdure campaigns show {people.campaign}"


def phase_words(phase: str) -> str:
    """What a job is at, in words for people."""
    return PHASES.get(phase, phase)


def end_line(step: Step) -> str:
    """How a step ended."""
    took = f" in {lasting(step.seconds)}" if step.seconds is not None and not step.reused else ""
    words = "reused" if step.reused and step.state == "succeeded" else step.state
    about = step.outcome or (step.reason if step.reused else "")
    return f"{words}{took}{f': {about}' if about else ''}"


def restart_line(step: Step, job: Job) -> str:
    """Why a job was started again."""
    earlier = next((j for j in step.jobs if (j.name, j.number) == (job.name, job.number - 1)), None)
    after = f" after round {earlier.round}" if earlier and earlier.round is not None else ""
    if earlier and earlier.message == "paused":
        return f"went on where it was paused{after}"
    how = {"failed": "died", "stalled": "stood still", "lost": "was lost", "stopped": "was stopped"}.get(
        earlier.state if earlier else "", "ended"
    )
    code = f" (exit code {earlier.exit_code})" if earlier and earlier.exit_code else ""
    which = f" {job.name}" if step.name in ("prepare", "predict") else ""
    return f"the job{which} {how}{after}{code}; started again, number {job.number}"


def vote_line(votes: Votes) -> str:
    """Who is asked, and how to answer."""
    until = f" until {votes.deadline.astimezone():%Y-%m-%d %H:%M}" if votes.deadline else ""
    return f"waiting for people: {votes.approvals} of {votes.required} approvals{until} (evidence {votes.evidence[:12]})"


def result_line(run: Snapshot) -> str:
    """What an ended run came to."""
    took = f" in {lasting(run.finished - run.started)}" if run.started and run.finished else ""
    if run.state != "succeeded":
        return f"{run.workflow_id} {run.state}{took}"
    version = f"{run.model} version {run.model_version}" if run.model_version is not None else run.model
    if run.scores:
        return f"{run.workflow_id} succeeded{took}: {version} made {run.scores}"
    fate = "is released" if run.released else "is not released"
    shown = f" ({figures(run.metrics)})" if run.metrics else ""
    return f"{run.workflow_id} succeeded{took}: {version} {fate}{f': {run.reason}' if run.reason else ''}{shown}"
