"""Campaigns as rows: opened, filled with tasks, commanded, closed, exported."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Boolean, ColumnElement, case, func, or_, select, text, true, update
from sqlalchemy.orm import Session

from perdure.errors import Conflict, InvalidInput, NotFound
from perdure.keys import digest, identity
from perdure.labeling.assistance import assist
from perdure.labeling.naming import predictions_name
from perdure.labeling.ports import CampaignRow, NewTask
from perdure.labeling.spec import load
from perdure.messages.common import ArtifactRef, Json
from perdure.messages.labeling import WITHDRAWN, AnnotationStatus, Assist, CampaignCommand, CampaignState
from perdure.metadata import tables as t
from perdure.metadata.database import translated
from perdure.metadata.jsonb import dumps, plain
from perdure.metadata.repository.access import NAME
from perdure.metadata.repository.answers import poke
from perdure.metadata.repository.estimating import EstimateRows

GOLD_OVERLAP = 1_000_000  # a gold task is never full: everybody may be asked
FARTHEST = timedelta(days=3650)  # a deadline; beyond the year 9999 there is none that could be read again
_EXPORTED = 500  # tasks read at once

# One statement for any number of rows: a third of the processor time of SQLAlchemy's bulk insert. COPY would save another quarter, and
# need a second way for few rows.
_INSERT_TASKS = text(
    """
    with added as (
      insert into task (tenant, id, campaign_id, key, payload, priority, gold, prediction, assist, overlap)
      select :tenant, id, :campaign, key, payload::jsonb, priority, gold::jsonb, prediction::jsonb, assist,
             case when gold is not null then :everybody when assist = 'accept' then 1 else :labels end
        from unnest(cast(:ids as uuid[]), cast(:keys as text[]), cast(:payloads as text[]), cast(:priorities as float8[]),
                    cast(:golds as text[]), cast(:predictions as text[]), cast(:assists as text[]))
          as rows (id, key, payload, priority, gold, prediction, assist)
      on conflict do nothing
      returning gold
    )
    select count(*) as rows, count(*) filter (where gold is null) as asked from added
    """
)

# what a command does to the state; a command that is not named for a state is refused there
_COMMANDS: dict[str, dict[CampaignState, CampaignState]] = {
    "pause": {CampaignState.OPEN: CampaignState.PAUSED},
    "resume": {CampaignState.PAUSED: CampaignState.OPEN},
    "extend": {CampaignState.OPEN: CampaignState.OPEN, CampaignState.PAUSED: CampaignState.PAUSED},
    "close": {CampaignState.OPEN: CampaignState.OPEN, CampaignState.PAUSED: CampaignState.PAUSED},  # the workflow closes it
}


class PlainCampaignRows(EstimateRows):
    """`perdure.labeling.ports.Campaigns` on Postgres, but for its tick and its end."""

    def open(self, name: str, spec: Json | None, workflow_id: str, requested_by: str, scheduled: datetime | None = None) -> CampaignRow:
        """The campaign of this name, made where *spec* is given. Raises InvalidInput, NotFound; Conflict for another spec or workflow.

        One that was withdrawn goes on, with the time that it had left; unless that was after *scheduled*.
        """
        if spec is None:
            found = self.named(name)
        else:
            if not re.fullmatch(NAME, name):
                raise InvalidInput(f"{name[:100]!r} is no name of a campaign", field="campaign", remedy=f"write one that matches {NAME}")
            checked = load(spec).model_dump(mode="json")
            values = {"spec": checked, "spec_sha256": digest(checked), "workflow_id": workflow_id, "requested_by": plain(requested_by)}
            deadline = load(spec).deadline
            with self._database.transaction() as session:
                until = datetime.now(UTC) + deadline if deadline else None
                self._add(session, t.Campaign, id=self._key(name), name=name, deadline=until, **values)
                row = session.get_one(t.Campaign, self._key(name))
                if row.spec_sha256 != values["spec_sha256"]:
                    raise Conflict(
                        f"the campaign {name!r} exists with another specification", field="campaign", remedy="give the new one another name"
                    )
                if row.workflow_id == workflow_id:
                    self._reopen(session, row, scheduled)
                found = campaign_row(row)
        if found.workflow_id != workflow_id:
            raise Conflict(f"the campaign {name!r} belongs to the workflow {found.workflow_id}", field="campaign", remedy="use its id")
        return found

    def _reopen(self, session: Session, row: t.Campaign, scheduled: datetime | None) -> None:
        """Take a withdrawal back, if it was none that overtook this call. Its answers are there still."""
        session.refresh(row, with_for_update=True)
        if row.closed_at is None or row.closed_reason != WITHDRAWN or (scheduled is not None and scheduled <= row.closed_at):
            return
        if row.deadline is not None:
            row.deadline += datetime.now(UTC) - row.closed_at
        row.state, row.closed_reason, row.closed_at = CampaignState.OPEN, None, None
        row.version += 1
        self._note(session, row.id, f"reopen/{row.version}", "reopened", "perdure", {})
        session.flush()

    def campaign(self, campaign: UUID) -> CampaignRow:
        """Raises NotFound."""
        return self._found(t.Campaign.id == campaign, str(campaign))

    def named(self, name: str) -> CampaignRow:
        """Raises NotFound."""
        return self._found(t.Campaign.name == name, repr(name))

    def asked_about(self, model: str) -> list[CampaignRow]:
        """The campaigns about predictions of *model*, also those that are closed, oldest first. `asking.AskRows` opens them."""
        c, name = t.Campaign, predictions_name(model)
        mine = or_(c.name == name, c.name.regexp_match(f"^{re.escape(name)}-[0-9a-f]{{8}}$"))
        query = select(c).where(c.tenant == self._tenant, c.name.startswith(name, autoescape=True), mine, c.spec["outcomes"].as_boolean())
        with self._database.transaction() as session:
            return [campaign_row(row) for row in session.scalars(query.order_by(c.opened_at, c.id))]

    def imported(self, campaign: UUID, tasks: ArtifactRef) -> int:
        """How many rows of this manifest are in; opens the import, again where it was refused."""
        key = identity(campaign, "import", tasks.sha256)
        with self._database.transaction() as session:
            self._add(session, t.TaskImport, id=key, campaign_id=campaign, uri=tasks.uri, sha256=tasks.sha256)
            cursor = session.scalars(select(t.TaskImport).where(t.TaskImport.id == key).with_for_update()).one()
            if cursor.error is not None:
                cursor.error = cursor.finished_at = None
            return cursor.rows

    def refuse_import(self, campaign: UUID, tasks: ArtifactRef, error: Json) -> None:
        """End an import that cannot be done; what is in stays."""
        with self._database.transaction() as session:
            session.execute(
                update(t.TaskImport)
                .where(t.TaskImport.id == identity(campaign, "import", tasks.sha256), t.TaskImport.finished_at.is_(None))
                .values(error=error, finished_at=func.now())
            )

    def announce(self, campaign: UUID, tasks: ArtifactRef) -> UUID:
        """Leave a manifest to the campaign's workflow, which imports it; the import's id, the same for the same content."""
        key = identity(campaign, "import", tasks.sha256)
        with self._database.transaction() as session:
            owner = session.scalars(select(t.Campaign).where(t.Campaign.id == campaign).with_for_update(key_share=True)).one()
            if owner.state is CampaignState.CLOSED:
                raise Conflict(f"the campaign {owner.name!r} is closed", field="campaign", remedy="open another one")
            if self._add(session, t.TaskImport, id=key, campaign_id=campaign, uri=tasks.uri, sha256=tasks.sha256):
                poke(session, self._tenant, owner.workflow_id)
        return key

    def add_tasks(self, campaign: UUID, tasks: ArtifactRef, upto: int, rows: Sequence[NewTask], *, last: bool) -> None:
        """Add the rows up to number *upto* of the manifest; a key that is there already keeps its task. No-op where *upto* is behind."""
        key = identity(campaign, "import", tasks.sha256)
        with self._database.transaction() as session:
            cursor = session.scalars(select(t.TaskImport).where(t.TaskImport.id == key).with_for_update()).one()
            if cursor.finished_at is not None or (cursor.rows >= upto and not last):
                return
            self._insert_tasks(session, campaign, rows)
            cursor.rows = upto
            if last:
                cursor.finished_at = func.now()

    @contextmanager
    def arriving(self, campaign: UUID) -> Iterator[Callable[[Sequence[NewTask]], int]]:
        """More tasks come: by what it gives, which is `put_tasks`. The campaign does not end for want of them.

        As long as the block and its connection last: each call is a transaction of that connection, which holds a lock beyond it.
        """
        number = self._number("arriving", str(campaign))
        with translated(), self._database.engine.connect() as connection:
            connection.execute(select(func.pg_advisory_lock_shared(number)))
            connection.commit()

            def put(rows: Sequence[NewTask]) -> int:
                with Session(connection) as session, session.begin():
                    return self._put(session, campaign, rows, quiet=False)

            try:
                yield put
            finally:
                connection.rollback()
                connection.execute(select(func.pg_advisory_unlock_shared(number)))
                connection.commit()

    def _is_arriving(self, session: Session, campaign: UUID) -> bool:
        """Whether somebody is inside `arriving`."""
        number = self._number("arriving", str(campaign))
        held = case((func.pg_try_advisory_lock(number), ~func.pg_advisory_unlock(number, type_=Boolean)), else_=true())
        return bool(session.scalar(select(held)))

    def put_tasks(self, campaign: UUID, rows: Sequence[NewTask], *, quiet: bool = False) -> int:
        """Add tasks by hand; a key that is there already keeps its task. How many were new.

        *quiet*: the workflow need not look, as people alone answer; then it looks the sooner at what they say.
        """
        with self._database.transaction() as session:
            return self._put(session, campaign, rows, quiet=quiet)

    def _put(self, session: Session, campaign: UUID, rows: Sequence[NewTask], *, quiet: bool) -> int:
        added = self._insert_tasks(session, campaign, rows)
        if added and not quiet:
            workflow_id = session.scalars(select(t.Campaign.workflow_id).where(t.Campaign.id == campaign)).one()
            poke(session, self._tenant, workflow_id)
        return added

    def _insert_tasks(self, session: Session, campaign: UUID, rows: Sequence[NewTask]) -> int:
        owner = session.scalars(select(t.Campaign).where(t.Campaign.id == campaign).with_for_update()).one()
        if owner.state is CampaignState.CLOSED:
            raise Conflict(f"the campaign {owner.name!r} is closed", field="campaign", remedy="open another one")
        spec = load(owner.spec)
        first = {row.key: row for row in reversed(rows)}
        ids = {key: identity(campaign, key) for key in first}
        columns = {
            "ids": list(ids.values()),
            "keys": list(first),
            "payloads": [dumps(row.payload) for row in first.values()],
            "priorities": [row.priority for row in first.values()],
            "golds": [None if row.gold is None else dumps(row.gold) for row in first.values()],
            "predictions": [None if row.prediction is None else dumps(row.prediction) for row in first.values()],
            "assists": [assist(ids[key], row.prediction, spec) if row.gold is None else None for key, row in first.items()],
        }
        values = {"tenant": self._tenant, "campaign": campaign, "labels": spec.overlap.labels, "everybody": GOLD_OVERLAP}
        added = session.execute(_INSERT_TASKS, {**values, **columns}).one()
        owner.total += added.asked
        return int(added.rows)

    def command(self, campaign: UUID, kind: str, command_id: str, command: CampaignCommand) -> CampaignRow:
        """Pause, resume, extend or close; once per *command_id*. Raises Conflict for a stale ``expected_version`` or change."""
        with self._database.transaction() as session:
            row = session.scalars(select(t.Campaign).where(t.Campaign.id == campaign).with_for_update()).one()
            key = f"command/{command_id}"
            if session.scalar(select(t.CampaignEvent.id).where(t.CampaignEvent.campaign_id == campaign, t.CampaignEvent.key == key)):
                return campaign_row(row)
            if command.expected_version is not None and command.expected_version != row.version:
                raise Conflict(
                    f"the campaign is at version {row.version}, not {command.expected_version}",
                    field="expected_version",
                    remedy="look at the campaign again, then decide",
                )
            if row.state not in _COMMANDS[kind]:
                raise Conflict(f"a campaign that is {row.state} cannot {kind}", field="campaign")
            row.state = _COMMANDS[kind][row.state]
            row.version += 1
            if kind == "extend":
                row.deadline = _later(command, row.deadline)
            if kind == "close":
                row.closed_reason = plain(command.reason) or f"closed by {plain(command.actor)}"
            self._note(session, campaign, key, kind, command.actor, {"reason": command.reason, "deadline": str(command.deadline or "")})
            poke(session, self._tenant, row.workflow_id)
            session.flush()
            return campaign_row(row)

    def export(self, campaign: UUID) -> Iterator[Json]:
        """Each decided task by its key: label, posterior, opinions with their labelers. The same every time once the campaign is closed.

        Of an open one, a line holds what was so at one time; the next page may be of a later time.
        """
        after = ""
        while True:
            with self._database.transaction() as session:
                session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
                lines = self._lines(session, campaign, after)
            yield from lines
            if len(lines) < _EXPORTED:
                return
            after = lines[-1]["key"]

    def _lines(self, session: Session, campaign: UUID, after: str) -> list[Json]:
        d, task = t.Decision, t.Task
        decided = session.execute(
            select(task.id, task.key, task.payload, task.prediction, task.assist, d)
            .join(d, d.task_id == task.id)
            .where(task.campaign_id == campaign, task.gold.is_(None), task.key > after)
            .order_by(task.key)
            .limit(_EXPORTED)
        ).all()
        a = t.Annotation
        opinions: dict[UUID, list[Json]] = {row.id: [] for row in decided}
        found = session.execute(
            select(a.id, a.task_id, a.revision, a.value, a.source, a.event_time, a.assignment_id, a.prediction_shown, t.Labeler.principal)
            .join(t.Labeler, t.Labeler.id == a.labeler_id)
            .where(a.task_id.in_(opinions), a.status == AnnotationStatus.VALID)
            .order_by(a.task_id, a.id)
        )
        for each in found:
            opinions[each.task_id].append(
                {
                    "id": str(each.id),
                    "revision": each.revision,
                    "labeler": each.principal,
                    "value": each.value,
                    "source": each.source,
                    "at": each.event_time.astimezone(UTC).isoformat(),
                    "shown": each.prediction_shown if each.assignment_id else None,
                }
            )
        return [_line(row, row.Decision, opinions[row.id]) for row in decided]

    def annotations(self, campaign: UUID) -> dict[AnnotationStatus, int]:
        """How many answers are in each status."""
        a = t.Annotation
        with self._database.transaction() as session:
            rows = session.execute(select(a.status, func.count()).where(a.campaign_id == campaign).group_by(a.status).order_by(a.status))
            return {row[0]: row[1] for row in rows}

    def on_gold(self, campaign: UUID) -> dict[str, tuple[int, int]]:
        """How often labelers were right on hidden tasks of this campaign, and how often not."""
        a, right = t.Annotation, func.count().filter(t.Annotation.value == t.Task.gold)
        query = (
            select(t.Labeler.principal, right, func.count() - right)
            .select_from(t.Task)
            .join(a, a.task_id == t.Task.id)
            .join(t.Labeler, t.Labeler.id == a.labeler_id)
            .where(t.Task.campaign_id == campaign, t.Task.gold.is_not(None), a.judged)
        )
        with self._database.transaction() as session:
            return {row[0]: (row[1], row[2]) for row in session.execute(query.group_by(t.Labeler.principal))}

    def snapshot(self, campaign: UUID, artifact: ArtifactRef, tasks: int, statistics: Json) -> int:
        """Record a snapshot; returns its number, the same for the same content."""
        key = identity(campaign, "snapshot", artifact.sha256)
        with self._database.transaction() as session:
            self._lock(session, "snapshot", str(campaign))
            number = session.scalar(
                select(func.coalesce(func.max(t.LabelSnapshot.number), 0) + 1).where(t.LabelSnapshot.campaign_id == campaign)
            )
            kept = self._artifact(session, t.ArtifactKind.LABELS, artifact)
            values: dict[str, Any] = {"artifact_id": kept, "sha256": artifact.sha256, "tasks": tasks, "statistics": statistics}
            self._add(session, t.LabelSnapshot, id=key, campaign_id=campaign, number=number, **values)
            return session.get_one(t.LabelSnapshot, key).number

    def _note(self, session: Session, campaign: UUID, key: str, kind: str, actor: str, detail: Json) -> bool:
        return self._add(
            session, t.CampaignEvent, campaign_id=campaign, key=key, kind=kind, actor=plain(actor), detail=plain_values(detail)
        )

    def _found(self, where: ColumnElement[bool], name: str) -> CampaignRow:
        with self._database.transaction() as session:
            row = session.scalars(select(t.Campaign).where(t.Campaign.tenant == self._tenant, where)).one_or_none()
            if row is None:
                raise NotFound(f"there is no campaign {name}", field="campaign", remedy="`perdure campaigns list` shows all")
            return campaign_row(row)

    def _key(self, name: str) -> UUID:
        return identity(self._tenant, "campaign", name)


def _line(task: Any, decision: t.Decision, opinions: list[Json]) -> Json:
    """``inputs_sha256`` is the digest of the sorted ``id/revision`` of the opinions at the decision; ``weight`` is a vote's accuracy."""
    for each in opinions:
        if decision.weights and each["labeler"] in decision.weights:
            each["weight"] = decision.weights[each["labeler"]]
    line = {
        "key": task.key,
        "payload": task.payload,
        "label": decision.label,
        "posterior": decision.posterior,
        "method": decision.method,
        "decided_by": decision.decided_by,
        "inputs_sha256": decision.inputs_sha256,
        "opinions": opinions,
    }
    if task.prediction is not None:
        line["prediction"] = task.prediction
    if task.assist is Assist.AUDIT:
        line["audit"] = True
    return line


def plain_values(detail: Json) -> Json:
    """*detail* with texts that Postgres can hold."""
    return {key: plain(value) if isinstance(value, str) else value for key, value in detail.items()}


def campaign_row(row: t.Campaign) -> CampaignRow:
    """The row as a plain value."""
    return CampaignRow(
        id=row.id,
        name=row.name,
        spec=load(row.spec),
        state=row.state,
        version=row.version,
        workflow_id=row.workflow_id,
        requested_by=row.requested_by,
        total=row.total,
        decided=row.decided,
        rejected=row.rejected,
        opened_at=row.opened_at,
        deadline=row.deadline,
        closed_at=row.closed_at,
        closed_reason=row.closed_reason,
        measured=row.measured,
    )


def _later(command: CampaignCommand, known: datetime | None) -> datetime:
    if command.deadline is None or command.deadline.tzinfo is None:
        raise InvalidInput("a deadline with its time zone is needed", field="deadline", remedy='write {"deadline": "2027-01-31T12:00:00Z"}')
    try:
        deadline = command.deadline.astimezone(UTC)
    except OverflowError:  # at an end of the calendar
        deadline = None
    last = datetime.now(UTC) + FARTHEST
    if deadline is None or deadline > last:
        raise InvalidInput("the deadline is out of reach", field="deadline", remedy=f"name one before {last.date().isoformat()}")
    if known is not None and deadline <= known:
        raise InvalidInput(f"the deadline is {known.isoformat()} already", field="deadline", remedy="name a later one")
    return deadline
