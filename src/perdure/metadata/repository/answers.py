"""The one transaction in which an answer becomes an annotation: statuses, counters of its task, and the poke of its campaign."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

from sqlalchemy import func, select, text, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Session

from perdure.errors import NotFound
from perdure.keys import digest, identity
from perdure.labeling.acceptance import TOMBSTONE, Arrival, Earlier, Outcome, accept
from perdure.labeling.consensus import ADJUDICATED
from perdure.labeling.fields import answer_bytes
from perdure.labeling.ports import LEASE_LOST, Incoming
from perdure.labeling.spec import Campaign, Gold
from perdure.labeling.spec import load as load_campaign
from perdure.messages.common import Json
from perdure.messages.labeling import AnnotationStatus, AnswerResult, AssignmentState, CampaignState, LabelerStatus, TaskState
from perdure.metadata import tables as t
from perdure.metadata.database import Database, again, ask
from perdure.metadata.jsonb import dumps, plain
from perdure.metadata.repository.messages import tell
from perdure.metadata.repository.rows import Rows

S = AnnotationStatus
STANDING = (S.VALID, S.SKIPPED)
TOLD = {LabelerStatus.WARNED: "labeler_warned", LabelerStatus.BLOCKED: "labeler_blocked"}
"""What a campaign's owner is told, where answers to gold have led to this."""
_SPECS = 1_000  # kept at most

# one statement for any number of rows, and none that is made anew for each number of them
_COLUMNS = {
    "id": "uuid",
    "task": "uuid",
    "labeler": "uuid",
    "assignment": "uuid",
    "source": "text",
    "source_key": "text",
    "revision": "text",
    "value": "text",
    "reason": "text",
    "duration_ms": "integer",
    "status": "text",
    "event_time": "timestamptz",
}
_WRITE = f"""
    with added as (
      insert into annotation (tenant, campaign_id, id, task_id, labeler_id, assignment_id, source, source_key, revision, value, reason,
                              duration_ms, prediction_shown, status, event_time)
      select %(tenant)s, %(campaign)s, id, task, labeler, assignment, source, source_key, revision, value::jsonb, reason, duration_ms,
             coalesce((select a.prediction_shown from assignment a where a.id = rows.assignment), false), status, event_time
        from unnest({", ".join(f"cast(%({name})s as {kind}[])" for name, kind in _COLUMNS.items())}) as rows ({", ".join(_COLUMNS)})
    ), counted as (
      update task set n_valid = rows.valid, n_skip = rows.skips, state = rows.state
        from unnest(cast(%(tasks)s as uuid[]), cast(%(valid)s as integer[]), cast(%(skips)s as integer[]), cast(%(states)s as text[]))
          as rows (id, valid, skips, state)
       where task.id = rows.id
    ), ended as (
      -- one by one (offset 0): a join would read all leases where there are no statistics yet, as after an import
      update assignment set state = rows.state, ended_at = now()
        from unnest(cast(%(ended_tasks)s as uuid[]), cast(%(ended_labelers)s as uuid[]), cast(%(ended_states)s as text[]))
          as rows (task, labeler, state)
        cross join lateral (select a.id from assignment a
                             where a.task_id = rows.task and a.labeler_id = rows.labeler
                               and a.state = case rows.state when 'expired' then 'submitted' else 'leased' end offset 0) as held
       where assignment.id = held.id
    ), poked as (
      insert into outbox (tenant, topic, target, payload)
      select %(tenant)s, 'poke', target, '{{}}' from unnest(cast(%(workflows)s as text[])) as rows (target) returning id
    )
    select pg_notify('perdure_outbox', '') from poked
"""
_CHANGE = """
    update annotation set status = rows.status
      from unnest(cast(%(ids)s as uuid[]), cast(%(statuses)s as text[])) as rows (id, status) where annotation.id = rows.id
    returning annotation.id
"""
_LOCK = "select pg_advisory_xact_lock_shared(%(lock)s)"
_CAMPAIGN = "select name, spec, spec_sha256, state, workflow_id from campaign where id = %(campaign)s and tenant = %(tenant)s"
# in one order, as two bulk senders would wait for each other
_TASKS = """
    select id, key, state, overlap, gold, n_valid, n_skip from task
     where campaign_id = %(campaign)s and key = any(cast(%(keys)s as text[])) order by id for update
"""
_LABELERS = "select id, principal, status, gold_right, gold_wrong from labeler where id = any(cast(%(ids)s as uuid[]))"
# others may name these labelers meanwhile: who leases does, and may hold what is written next
_LABELERS_HELD = f"{_LABELERS} order by id for no key update"
_JUDGED = """
    select task_id, labeler_id from annotation
     where task_id = any(cast(%(tasks)s as uuid[])) and labeler_id = any(cast(%(labelers)s as uuid[])) and judged
"""
_HELD = "select id, lease_token from assignment where id = any(cast(%(leases)s as uuid[])) and state <> 'released'"
# Two index scans: an OR of both would be neither. Statuses in these words, as the index has them: a parameter would not find it.
# Sources and keys are not paired: that would be a filter over all answers of the campaign; what is found beyond is left out.
_GIVEN = """
    select id, task_id, labeler_id, source, source_key, revision, event_time, status from annotation
     where task_id = any(cast(%(tasks)s as uuid[])) and labeler_id = any(cast(%(labelers)s as uuid[])) and status in ('valid', 'skipped')
    union
    select id, task_id, labeler_id, source, source_key, revision, event_time, status from annotation
     where campaign_id = %(campaign)s and source = any(cast(%(sources)s as text[])) and source_key = any(cast(%(keys)s as text[]))
"""


@dataclass(frozen=True, kw_only=True)
class _Task:
    id: UUID
    key: str
    state: TaskState
    overlap: int
    gold: Any
    valid: int
    skips: int
    adjudicated: bool = False


@dataclass(kw_only=True)
class _Labeler:
    id: UUID
    status: LabelerStatus
    before: LabelerStatus
    right: int
    wrong: int
    changed: bool = False


@dataclass(kw_only=True)
class _Given:
    """Answers that are there, found by their names and by who gave them to what. Names are made of source and key."""

    by_id: dict[UUID, Earlier] = field(default_factory=dict)
    by_name: dict[str, dict[UUID, UUID]] = field(default_factory=dict)  # to their tasks
    by_pair: dict[tuple[UUID, UUID], set[UUID]] = field(default_factory=dict)

    def add(self, task: UUID, labeler: UUID, answer: Earlier) -> None:
        self.by_id[answer.id] = answer
        self.by_name.setdefault(answer.source_key, {})[answer.id] = task
        self.by_pair.setdefault((task, labeler), set()).add(answer.id)

    def relevant(self, name: str, task: UUID, labeler: UUID) -> list[Earlier]:
        """What was answered under the same name, and what this labeler answered to this task."""
        return [self.by_id[id] for id in {*self.by_name.get(name, ()), *self.by_pair.get((task, labeler), ())}]


@dataclass(kw_only=True)
class _Batch:
    """What one transaction has read, and what it is going to write."""

    campaign: UUID
    name: str
    spec: Campaign
    state: CampaignState
    workflow_id: str
    tasks: dict[str, _Task]
    labelers: dict[str, _Labeler]
    given: _Given
    held: set[tuple[UUID, UUID]]
    annotations: dict[UUID, dict[str, Any]] = field(default_factory=dict)
    changes: dict[UUID, AnnotationStatus] = field(default_factory=dict)
    touched: dict[str, _Task] = field(default_factory=dict)
    undecided: set[UUID] = field(default_factory=set)
    judged: set[tuple[UUID, UUID]]  # gold tasks with labelers who answered them before
    judging: set[UUID] = field(default_factory=set)
    ended: dict[tuple[UUID, UUID], AssignmentState] = field(default_factory=dict)


class AnswerRows(Rows):
    """`perdure.labeling.ports.Labels.accept` on Postgres."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._specs: dict[str, Campaign] = {}  # by digest: reading one costs more than a batch of answers

    @again
    def accept(self, campaign: UUID, answers: Sequence[Incoming]) -> list[AnswerResult]:
        """Every answer's status, in order. Annotations, counters and outbox are one transaction; what does not fit gets its error."""
        with self._database.transaction() as session:
            return self.accept_within(session, campaign, answers)

    def accept_within(self, session: Session, campaign: UUID, answers: Sequence[Incoming]) -> list[AnswerResult]:
        """`accept` as part of the caller's transaction."""
        batch = self._read(session, campaign, answers)
        results = [self._one(batch, answer) for answer in answers]
        self._write(session, batch)
        return results

    def _read(self, session: Session, campaign: UUID, answers: Sequence[Incoming]) -> _Batch:
        """The campaign's end is held off first, then the tasks are held: what is read after that stays so."""
        keys = sorted({answer.task for answer in answers})
        principals = {identity(self._tenant, "labeler", name): name for name in {answer.labeler for answer in answers}}
        given = {
            "campaign": campaign,
            "tasks": [identity(campaign, key) for key in keys],
            "labelers": list(principals),
            "sources": list({answer.source for answer in answers}),
            "keys": list({answer.source_key for answer in answers}),
        }
        leases = [answer.lease[0] for answer in answers if answer.held and answer.lease]
        _, owner, found, known, earlier, held = ask(
            session,
            (_LOCK, {"lock": _lock_number(campaign)}),
            (_CAMPAIGN, {"campaign": campaign, "tenant": self._tenant}),
            (_TASKS, {"campaign": campaign, "keys": keys}),
            (_LABELERS, {"ids": list(principals)}),
            (_GIVEN, given),
            (_HELD, {"leases": leases}),
        )
        if not owner:
            raise NotFound(f"there is no campaign {campaign}", field="campaign")
        [(name, spec, spec_sha256, campaign_state, workflow_id)] = owner
        tasks = {
            key: _Task(id=id, key=key, state=TaskState(state), overlap=overlap, gold=gold, valid=valid, skips=skips)
            for id, key, state, overlap, gold, valid, skips in found
        }
        if any(answer.deleted for answer in answers):  # nothing else takes back an opinion of a task that is decided
            kept = adjudicated(session, {task.id for task in tasks.values() if task.state is TaskState.DECIDED})
            tasks = {key: replace(task, adjudicated=task.id in kept) for key, task in tasks.items()}
        gold = [task.id for task in tasks.values() if task.gold is not None]
        judged: list[Any] = []
        if len(known) < len(principals):
            self.known(session, principals.values())
            known = ask(session, (_LABELERS, {"ids": list(principals)}))[0]
        if gold:  # held, as two answers at once count both; last, as whoever holds a labeler waits for nobody who adds one
            ids = list(principals)
            known, judged = ask(session, (_LABELERS_HELD, {"ids": ids}), (_JUDGED, {"tasks": gold, "labelers": ids}))
        return _Batch(
            campaign=campaign,
            name=name,
            spec=self._spec(spec_sha256, spec),
            state=CampaignState(campaign_state),
            workflow_id=workflow_id,
            tasks=tasks,
            labelers={
                principal: _Labeler(id=id, status=LabelerStatus(status), before=LabelerStatus(status), right=right, wrong=wrong)
                for id, principal, status, right, wrong in known
            },
            judged=set(judged),
            given=_given(earlier, tasks.values(), answers),
            held=set(held),
        )

    def _spec(self, digest: str, raw: Json) -> Campaign:
        if digest not in self._specs:
            if len(self._specs) >= _SPECS:
                self._specs.clear()
            self._specs[digest] = load_campaign(raw)
        return self._specs[digest]

    def known(self, session: Session, principals: Iterable[str]) -> dict[str, t.Labeler]:
        """The labelers of these names, new ones too."""
        wanted = {identity(self._tenant, "labeler", name): name for name in sorted(set(principals))}
        query = select(t.Labeler).where(t.Labeler.id.in_(wanted))
        found = {row.principal: row for row in session.scalars(query)}
        if missing := {key: name for key, name in wanted.items() if name not in found}:
            self._add_all(session, t.Labeler, [{"id": key, "principal": plain(name)} for key, name in missing.items()])
            found = {row.principal: row for row in session.scalars(query)}
        return found

    # --- one answer ----------------------------------------------------------------------------------------------------

    def _one(self, batch: _Batch, answer: Incoming) -> AnswerResult:
        task = batch.touched.get(answer.task) or batch.tasks.get(answer.task)
        if task is None:
            return AnswerResult(task=answer.task, error="there is no such task in this campaign")
        if answer.held and answer.lease not in batch.held:
            return AnswerResult(task=answer.task, error=LEASE_LOST)
        if not answer.skip and not answer.deleted and (wrong := batch.spec.check(answer.value)):
            return AnswerResult(task=answer.task, error=wrong)
        labeler, name = batch.labelers[answer.labeler], _name(answer.source, answer.source_key)
        if any(of != task.id for of in batch.given.by_name.get(name, {}).values()):
            return AnswerResult(task=answer.task, error=f"the key {answer.source_key!r} names an answer to another task")
        arrival = Arrival(
            source_key=name,
            revision=TOMBSTONE if answer.deleted else answer.revision,
            event_time=answer.event_time,
            skip=answer.skip,
            deleted=answer.deleted,
        )
        outcome = accept(arrival, batch.given.relevant(name, task.id, labeler.id), batch.state, task.state, labeler.status)
        if not outcome.duplicate:
            self._note(batch, task, labeler, answer, arrival, outcome)
        return AnswerResult(task=answer.task, status=outcome.status, duplicate=outcome.duplicate)

    def _note(self, batch: _Batch, task: _Task, labeler: _Labeler, answer: Incoming, arrival: Arrival, outcome: Outcome) -> None:
        # a digest, as each of the parts may hold what separates them
        id = identity(batch.campaign, "annotation", digest([answer.source, answer.source_key, arrival.revision]))
        given = batch.given.by_id
        was = [given[key].status for key in outcome.changes]
        valid = (outcome.status is S.VALID) - was.count(S.VALID)
        skips = (outcome.status is S.SKIPPED) - was.count(S.SKIPPED)
        if outcome.status is S.VALID and task.gold is not None and (task.id, labeler.id) not in batch.judged:
            _judge(labeler, answer_bytes(answer.value) == answer_bytes(task.gold), batch.spec.gold)
            batch.judged.add((task.id, labeler.id))
            batch.judging.add(id)
        for key, status in outcome.changes.items():
            given[key] = replace(given[key], status=status)
            if key in batch.annotations:
                batch.annotations[key]["status"] = status  # it came in this very batch
            else:
                batch.changes[key] = status
        made = Earlier(id=id, status=outcome.status, source_key=arrival.source_key, revision=arrival.revision, event_time=answer.event_time)
        batch.given.add(task.id, labeler.id, made)
        batch.annotations[id] = {
            "id": id,
            "task": task.id,
            "labeler": labeler.id,
            "assignment": answer.lease[0] if answer.lease else None,
            "source": answer.source,
            "source_key": answer.source_key,
            "revision": arrival.revision,
            "value": None if answer.skip or answer.deleted or answer.value is None else dumps(answer.value),
            "reason": plain(answer.reason) if answer.reason else None,
            "duration_ms": answer.duration_ms,
            "status": outcome.status,
            "event_time": answer.event_time,
        }
        if outcome.status in STANDING:
            ended = AssignmentState.SKIPPED if answer.skip else AssignmentState.SUBMITTED
            batch.ended[task.id, labeler.id] = ended
        elif answer.deleted and (valid or skips):  # nothing of theirs stands: they may get the task again
            batch.ended[task.id, labeler.id] = AssignmentState.EXPIRED
        if task.state is TaskState.DECIDED and valid and not task.adjudicated:
            batch.undecided.add(task.id)
        batch.touched[task.key] = _counted(task, valid, skips, batch.spec)

    # --- writing -------------------------------------------------------------------------------------------------------

    def _write(self, session: Session, batch: _Batch) -> None:
        changed = [task for key, task in batch.touched.items() if task != batch.tasks[key]]
        poked = any(task.state is not batch.tasks[task.key].state for task in changed) or any(
            each.changed for each in batch.labelers.values()
        )
        if batch.annotations:
            change = (_CHANGE, {"ids": list(batch.changes), "statuses": list(batch.changes.values())})
            added = {
                "tenant": self._tenant,
                "campaign": batch.campaign,
                **_columns(batch.annotations.values(), _COLUMNS),
                "tasks": [task.id for task in changed],
                "valid": [task.valid for task in changed],
                "skips": [task.skips for task in changed],
                "states": [task.state for task in changed],
                "ended_tasks": [task for task, _ in batch.ended],
                "ended_labelers": [labeler for _, labeler in batch.ended],
                "ended_states": list(batch.ended.values()),
                "workflows": [batch.workflow_id] if poked else [],
            }
            ask(session, *([change] if batch.changes else []), (_WRITE, added))
        self._judged(session, batch)
        if batch.undecided:
            gone = session.execute(text("delete from decision where task_id = any(:ids)"), {"ids": list(batch.undecided)}).rowcount  # type: ignore[attr-defined]
            session.execute(update(t.Campaign).where(t.Campaign.id == batch.campaign).values(decided=t.Campaign.decided - gone))

    def _judged(self, session: Session, batch: _Batch) -> None:
        if batch.judging:
            session.execute(update(t.Annotation).where(t.Annotation.id.in_(batch.judging)).values(judged=True))
        for name, each in batch.labelers.items():
            if not each.changed:
                continue
            values: dict[str, Any] = {"gold_right": each.right, "gold_wrong": each.wrong}
            if each.status is not each.before:
                values |= {"status": each.status, "status_at": func.now(), "requeue_due": each.status is LabelerStatus.BLOCKED}
                if kind := TOLD.get(each.status):
                    seen = each.right + each.wrong
                    told = {"campaign": batch.name, "labeler": plain(name), "right": each.right, "seen": seen}
                    tell(session, self._tenant, batch.spec.owner, kind=kind, **told)
            session.execute(update(t.Labeler).where(t.Labeler.id == each.id).values(**values))


def _given(rows: Iterable[Any], tasks: Iterable[_Task], answers: Sequence[Incoming]) -> _Given:
    """Of what was found: what is about these tasks, or bears one of the answers' names."""
    stood = {task.id for task in tasks}
    wanted = {_name(answer.source, answer.source_key) for answer in answers}
    given = _Given()
    for id, task, labeler, source, source_key, revision, event_time, status in rows:
        name = _name(source, source_key)
        if task in stood or name in wanted:
            answer = Earlier(id=id, status=S(status), source_key=name, revision=revision, event_time=event_time)
            given.add(task, labeler, answer)
    return given


def _columns(rows: Iterable[dict[str, Any]], names: Iterable[str]) -> dict[str, list[Any]]:
    """The values of each name."""
    kept = list(rows)
    return {name: [row[name] for row in kept] for name in names}


def share_campaign(session: Session, campaign: UUID) -> None:
    """Hold off the campaign's end until this transaction is over. Not a row lock: that would be written by every label."""
    session.execute(select(func.pg_advisory_xact_lock_shared(_lock_number(campaign))))


def own_campaign(session: Session, campaign: UUID) -> None:
    """Wait for every answer that is being committed, and let none begin until this transaction is over."""
    session.execute(select(func.pg_advisory_xact_lock(_lock_number(campaign))))


def _lock_number(campaign: UUID) -> int:
    return int.from_bytes(campaign.bytes[:8], "big", signed=True)


def poke(session: Session, tenant: str, workflow_id: str) -> None:
    """Have the workflow look at the rows again, once this transaction has committed."""
    session.execute(upsert(t.Outbox).values(tenant=tenant, topic="poke", target=workflow_id, payload={}))
    session.execute(select(func.pg_notify("perdure_outbox", "")))


def _name(source: str, key: str) -> str:
    """What names an answer within its campaign."""
    return f"{source}\n{key}"


def _counted(task: _Task, valid: int, skips: int, spec: Campaign) -> _Task:
    """The task with so many more opinions and skips, in the state that follows."""
    task = replace(task, valid=task.valid + valid, skips=task.skips + skips)
    if task.state is TaskState.REJECTED or task.gold is not None or task.adjudicated or (task.state is TaskState.DECIDED and not valid):
        return task
    return replace(task, state=state_of(task.state, task.valid, task.overlap, task.skips, spec.skips))


def state_of(state: TaskState, valid: int, overlap: int, skips: int, allowed: int) -> TaskState:
    """The state of a task that was in *state*, once so many opinions and skips are left."""
    if valid >= overlap:
        return TaskState.DISPUTED if state is TaskState.DISPUTED else TaskState.FULL
    return TaskState.DISPUTED if skips >= allowed else TaskState.OPEN


def adjudicated(session: Session, tasks: set[UUID]) -> set[UUID]:
    """Those of the *tasks*, held by the caller, that were decided by hand."""
    if not tasks:
        return set()
    d = t.Decision
    return set(session.scalars(select(d.task_id).where(d.task_id.in_(tasks), d.method == ADJUDICATED)))


def _judge(labeler: _Labeler, right: bool, gold: Gold) -> None:
    """Count an answer to a gold task, and what follows for its labeler."""
    labeler.changed = True
    labeler.right += right
    labeler.wrong += not right
    seen = labeler.right + labeler.wrong
    if seen < gold.least or labeler.status is LabelerStatus.BLOCKED:
        return
    share = labeler.right / seen
    labeler.status = LabelerStatus.BLOCKED if share < gold.block else LabelerStatus.WARNED if share < gold.warn else LabelerStatus.ACTIVE
