"""One look at a campaign: what can be decided is decided, the ladder is climbed, and it is said whether the campaign is over.

Every change is guarded by the state that it starts from: two ticks at once (an attempt that slept, and its successor) do no more than one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import case, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from perdure.errors import Conflict, InvalidInput, NotFound
from perdure.keys import digest
from perdure.labeling.assistance import Guess, guess
from perdure.labeling.consensus import ADJUDICATED, BY_MODEL, Consensus, Opinion, Verdict, decide
from perdure.labeling.ports import CampaignRow
from perdure.labeling.spec import Campaign, Rung, load
from perdure.messages.common import ArtifactRef
from perdure.messages.labeling import AnnotationStatus, Assist, CampaignState, TaskState, Tick
from perdure.metadata import tables as t
from perdure.metadata.jsonb import plain
from perdure.metadata.repository.answers import own_campaign, poke, share_campaign
from perdure.metadata.repository.assisting import assist_campaign, failing_models
from perdure.metadata.repository.campaigns import PlainCampaignRows, campaign_row
from perdure.metadata.repository.changes import AFTER, LOWERED, change, unfinished
from perdure.metadata.repository.feedback import decided_outcomes
from perdure.metadata.repository.measuring import ended, measure
from perdure.metadata.repository.messages import tell
from perdure.metadata.repository.requeue import requeue_blocked

# Between looks that nobody asked for: what happens pokes the campaign, so they are for what was poked and not done.
IDLE = timedelta(minutes=1)  # something was decided just now
WAITING = timedelta(minutes=10)  # tasks wait for people, or an import for its manifest
ASLEEP = timedelta(hours=6)  # nothing waits


class CampaignRows(PlainCampaignRows):
    """`perdure.labeling.ports.Campaigns` on Postgres."""

    def tick(self, campaign: UUID, limit: int = 500) -> Tick:
        """Decide up to *limit* tasks, climb the ladder, say whether the campaign is over."""
        requeue_blocked(self._database, self._tenant)
        assisted = assist_campaign(self._database, self._tenant, campaign, limit)
        changing = change(self._database, self._tenant, campaign)
        unmeasured = measure(self._database, campaign)
        with self._database.transaction() as session:
            share_campaign(session, campaign)
            query = select(t.Campaign).where(t.Campaign.id == campaign, t.Campaign.tenant == self._tenant)
            row = session.scalars(query).one()
            spec = load(row.spec)
            decided = self._decide(session, row, spec, limit)
            left = row.total - row.decided - row.rejected - decided.ended
            # only what changes the campaign waits for its row: whoever answers holds tasks before it
            lowered = self._climb(session, row, spec, left, closing=False)
            # its key stays: two looks that have each decided tasks of it would wait for each other else
            row = session.scalars(query.with_for_update(key_share=True).execution_options(populate_existing=True)).one()
            row.decided += decided.ended
            session.flush()
            imports = self._imports(session, campaign)
            coming = bool(imports) or self._is_arriving(session, campaign)
            self._climb(session, row, spec, row.total - row.decided - row.rejected, closing=True)
            over = self._over(session, row, spec, coming=coming)
            held = row.state is not CampaignState.CLOSED and (over is not None or decided.looked > 0) and self._is_held(session, row, spec)
            ahead = (self._until_due(row, spec, self._now(session)), unmeasured)
            waiting = row.total - row.decided - row.rejected
        return Tick(
            total=row.total,
            decided=row.decided,
            rejected=row.rejected,
            open=waiting,
            state=row.state,
            over=None if held else over,
            next_look=IDLE if decided.looked or coming else WAITING if waiting or imports else ASLEEP,
            due=min((each for each in ahead if each is not None), default=None),
            more=decided.looked >= limit or lowered or assisted or changing or held,
            imports=imports if row.state is not CampaignState.CLOSED else [],
        )

    def close(self, campaign: UUID, reason: str, *, only_if_over: bool = False) -> CampaignRow:
        """No answer is valid from here on. Waits for answers that are being committed.

        *only_if_over* leaves a campaign open that has got more to do since it was found to be over: the row's state tells.
        """
        with self._database.transaction() as session:
            own_campaign(session, campaign)
            row = session.scalars(select(t.Campaign).where(t.Campaign.id == campaign).with_for_update()).one()
            spec = load(row.spec)
            coming = bool(self._imports(session, campaign)) or self._is_arriving(session, campaign)
            if only_if_over and (self._over(session, row, spec, coming=coming) is None or self._is_held(session, row, spec)):
                return campaign_row(row)
            if row.state is not CampaignState.CLOSED:
                row.state, row.closed_reason, row.closed_at = CampaignState.CLOSED, row.closed_reason or reason, datetime.now(UTC)
                row.version += 1
                self._note(session, campaign, f"close/{row.version}", "closed", "perdure", {"reason": row.closed_reason})
                session.flush()
            return campaign_row(row)

    # --- decisions -----------------------------------------------------------------------------------------------------

    def _decide(self, session: Session, row: t.Campaign, spec: Campaign, limit: int) -> _Looked:
        campaign = row.id
        # after the end a task may be held by an answer that is late: none is left out, as this may be the last look
        skip = row.state is not CampaignState.CLOSED
        accepted = case((t.Task.assist == Assist.ACCEPT, t.Task.prediction))
        found = session.execute(  # no payloads: they may be large
            select(t.Task.id, accepted)
            .where(t.Task.campaign_id == campaign, t.Task.state == TaskState.FULL)
            .order_by(t.Task.id)
            .limit(limit)
            .with_for_update(skip_locked=skip)
        ).all()
        full = {row[0]: guess(row[1]) for row in found}
        opinions = self._opinions(session, list(full))
        rows: list[dict[str, Any]] = []
        changes: dict[tuple[TaskState, int | None], list[UUID]] = defaultdict(list)
        for task, said in full.items():
            given = opinions.get(task, [])
            if not given:
                changes[TaskState.OPEN, None].append(task)  # what made it full has been taken back
                continue
            verdict = _verdict(given, said, spec)
            if verdict.verdict is Verdict.DECIDED:
                changes[TaskState.DECIDED, None].append(task)
                rows.append(_decision(self._tenant, task, campaign, verdict, given))
            elif verdict.verdict is Verdict.MORE:
                changes[TaskState.OPEN, len(given) + 1].append(task)
            else:
                changes[TaskState.DISPUTED, None].append(task)
        for (state, overlap), tasks in changes.items():
            values = {"state": state} if overlap is None else {"state": state, "overlap": overlap, "assist": None}
            session.execute(update(t.Task).where(t.Task.id.in_(tasks)).values(values))
        if rows:
            statement = insert(t.Decision).on_conflict_do_nothing().returning(t.Decision.task_id)
            made = {row[0] for row in session.execute(statement, rows)}
            if spec.outcomes:
                self._conclude(session, row, {each["task_id"]: each["label"] for each in rows if each["task_id"] in made})
            return _Looked(len(full), len(made))
        return _Looked(len(full), 0)

    def _conclude(self, session: Session, row: t.Campaign, labels: dict[UUID, Any]) -> None:
        """The labels of these tasks are the outcomes of the predictions that they are about."""
        keys = session.execute(select(t.Task.id, t.Task.key).where(t.Task.id.in_(labels))).all()
        decided_outcomes(session, self._tenant, row.name, [(key, labels[id]) for id, key in keys])

    def _opinions(self, session: Session, tasks: Sequence[UUID]) -> dict[UUID, list[tuple[str, Opinion]]]:
        a, labeler = t.Annotation, t.Labeler
        found = session.execute(
            select(a.id, a.revision, a.task_id, a.value, labeler.principal, labeler.gold_right, labeler.gold_wrong)
            .join(labeler, labeler.id == a.labeler_id)
            .where(a.task_id.in_(tasks), a.status == AnnotationStatus.VALID)
            .order_by(a.task_id, a.id)
        )
        opinions: dict[UUID, list[tuple[str, Opinion]]] = {}
        for row in found:
            opinion = Opinion(value=row.value, labeler=row.principal, right=row.gold_right, wrong=row.gold_wrong)
            opinions.setdefault(row.task_id, []).append((f"{row.id}/{row.revision}", opinion))
        return opinions

    def adjudicate(self, campaign: UUID, task: str, actor: str, value: Any, reason: str) -> None:
        """Decide a disputed task by hand. Raises NotFound, InvalidInput; Conflict for one of its own labelers, or one not disputed."""
        with self._database.transaction() as session:
            share_campaign(session, campaign)
            found = session.scalars(
                select(t.Task).where(t.Task.campaign_id == campaign, t.Task.key == task).with_for_update()
            ).one_or_none()
            if found is None:
                raise NotFound(f"there is no task {task!r} in this campaign", field="task")
            row = session.get_one(t.Campaign, campaign)
            if wrong := load(row.spec).check(value):
                raise InvalidInput(wrong, field="value")
            known = session.get(t.Decision, found.id)
            if known is not None:
                if known.decided_by == plain(actor) and known.label == value:
                    return
                raise Conflict(f"the task {task!r} is decided already", field="task")
            if row.state is CampaignState.CLOSED:
                raise Conflict(f"the campaign {row.name!r} is closed", field="campaign")
            if found.state is not TaskState.DISPUTED or found.gold is not None:
                raise Conflict(f"the task {task!r} is not disputed", field="task", remedy="leave it to its labelers")
            given = self._opinions(session, [found.id]).get(found.id, [])
            if any(opinion.labeler == actor for _, opinion in given):
                raise Conflict("who answered a task does not adjudicate it", field="actor", remedy="let somebody else decide")
            verdict = Consensus(verdict=Verdict.DECIDED, label=value, posterior=1.0, method=ADJUDICATED)
            session.execute(
                insert(t.Decision),
                [{**_decision(self._tenant, found.id, campaign, verdict, given), "decided_by": plain(actor), "reason": plain(reason)}],
            )
            found.state = TaskState.DECIDED
            session.flush()
            if load(row.spec).outcomes:
                self._conclude(session, row, {found.id: value})
            session.execute(update(t.Campaign).where(t.Campaign.id == campaign).values(decided=t.Campaign.decided + 1))
            poke(session, self._tenant, row.workflow_id)

    # --- time ----------------------------------------------------------------------------------------------------------

    def _imports(self, session: Session, campaign: UUID) -> list[ArtifactRef]:
        """Manifests that are not in yet."""
        cursors = select(t.TaskImport).where(t.TaskImport.campaign_id == campaign, t.TaskImport.finished_at.is_(None))
        return [ArtifactRef(uri=row.uri, sha256=row.sha256) for row in session.scalars(cursors.order_by(t.TaskImport.created_at))]

    def _is_held(self, session: Session, row: t.Campaign, spec: Campaign) -> bool:
        """Whether an end has to wait: for the answers of a model that failed its audit, or for another change of all tasks."""
        return unfinished(session, row.id) or bool(failing_models(session, row.id, spec))

    def _over(self, session: Session, row: t.Campaign, spec: Campaign, *, coming: bool) -> str | None:
        """Why it is over. *coming*: more tasks are on their way."""
        if row.closed_reason is not None or row.state is CampaignState.CLOSED:
            return row.closed_reason
        if spec.standing:
            return None
        if spec.quota is not None and row.decided >= spec.quota:
            return f"the quota of {spec.quota} is reached"
        if (reason := ended(row.measured, spec)) is not None:
            return reason
        if row.deadline is not None and self._now(session) >= row.deadline:
            return "the deadline is over"
        if row.total and row.decided + row.rejected >= row.total and not coming:
            return "every task has its label"
        return None

    def _now(self, session: Session) -> datetime:
        return session.scalars(select(func.now())).one()

    def _climb(self, session: Session, row: t.Campaign, spec: Campaign, left: int, *, closing: bool) -> bool:
        """Every rung that is due, once: those that close the campaign, or the others. Whether a change of all tasks has begun."""
        due = [each for each in _due(row, spec, self._now(session)) if (each[1].then == "close") == closing]
        climbed = [self._step(session, row, spec, number, rung, left) for number, rung in due]
        return any(climbed)

    def _step(self, session: Session, row: t.Campaign, spec: Campaign, number: int, rung: Rung, left: int) -> bool:
        """One rung: an event, a message to people, and what the rung does. Whether that is a change of all tasks."""
        lowers = rung.then == LOWERED
        detail = {"after": rung.after, "left": left, "tell": rung.tell or spec.owner} | ({AFTER: ""} if lowers else {})
        if not self._note(session, row.id, f"rung/{number}/{row.deadline}", rung.then, "perdure", detail):
            return False
        told = {"kind": rung.then, "campaign": row.name, "left": left, "deadline": str(row.deadline)}
        tell(session, self._tenant, rung.tell or spec.owner, **told)
        if rung.then == "close":
            row.closed_reason = f"closed at {rung.after:.0%} of its time, with {left} tasks left"
        return lowers

    def _until_due(self, row: t.Campaign, spec: Campaign, now: datetime) -> timedelta | None:
        """The time to the next rung or the deadline; none where nothing is ahead."""
        if row.deadline is None:
            return None
        whole = row.deadline - row.opened_at
        ahead = [at - now for at in (row.deadline, *(row.opened_at + rung.after * whole for rung in spec.ladder)) if at > now]
        return min(ahead, default=None)


def _verdict(given: list[tuple[str, Opinion]], said: Guess | None, spec: Campaign) -> Consensus:
    """What the opinions come to; a model that is accepted and alone decides with its own confidence."""
    opinions = [opinion for _, opinion in given]
    if said is not None and [each.labeler for each in opinions] == [said.labeler]:
        return Consensus(verdict=Verdict.DECIDED, label=said.label, posterior=said.confidence, method=BY_MODEL)
    return decide(opinions, spec.choices, spec.overlap, spec.consensus)


class _Looked:
    """How many tasks were looked at, and how many of them have a label now."""

    def __init__(self, looked: int, ended: int) -> None:
        self.looked, self.ended = looked, ended


def _due(row: t.Campaign, spec: Campaign, now: datetime) -> Iterator[tuple[int, Rung]]:
    if row.deadline is None or row.state is CampaignState.CLOSED:
        return
    whole = row.deadline - row.opened_at
    for number, rung in enumerate(spec.ladder):
        if now >= row.opened_at + rung.after * whole:
            yield number, rung


def _decision(tenant: str, task: UUID, campaign: UUID, verdict: Consensus, given: list[tuple[str, Opinion]]) -> dict[str, Any]:
    return {
        "tenant": tenant,
        "task_id": task,
        "campaign_id": campaign,
        "label": verdict.label,
        "posterior": verdict.posterior,
        "method": verdict.method,
        "inputs_sha256": digest(sorted(name for name, _ in given)),
        "weights": verdict.weights or None,
        "decided_by": given[0][1].labeler if verdict.method == BY_MODEL else "perdure",
    }
