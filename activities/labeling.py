"""Labeling as rows: a campaign's beginning, its tasks, its ticks, what people say, its end and its snapshots."""

from __future__ import annotations

import time
from datetime import datetime
from uuid import UUID

from temporalio import activity

from perdure.activities.guard import pulse, stop_if_asked
from perdure.activities.snapshots import Snapshots
from perdure.errors import InvalidInput, Permanent, Transient
from perdure.labeling import manifest
from perdure.labeling.acceptance import TOMBSTONE
from perdure.labeling.ports import Campaigns, Consolidation, Incoming, Labels, Lines, NewTask
from perdure.labeling.spec import Method
from perdure.messages.labeling import (
    Answer,
    AnswerResults,
    CampaignPlan,
    CampaignRef,
    CampaignStanding,
    CloseCampaign,
    ImportTasks,
    OpenCampaign,
    RecordAnswers,
    RecordCommand,
    SnapshotTaken,
    TasksImported,
    Tick,
)

BATCH = 5_000  # tasks a transaction
BATCH_BYTES = 8 << 20  # of their lines: what is in memory at once
TICKING = 10.0  # seconds after which a look that finds more and more to decide says what it has


class LabelingActivities:
    """What `LabelingCampaign` asks of rows and objects. Labels themselves never come here but by ``answer``."""

    def __init__(self, campaigns: Campaigns, labels: Labels, lines: Lines, consolidation: Consolidation) -> None:
        self._campaigns, self._labels, self._lines, self._consolidation = campaigns, labels, lines, consolidation
        self._snapshots = Snapshots(campaigns, lines, consolidation)

    @activity.defn(name="labeling.open", no_thread_cancel_exception=True)
    def open(self, request: OpenCampaign) -> CampaignPlan:
        """The campaign of this workflow, made where the request brings a specification. Raises InvalidInput, NotFound, Conflict."""
        asked = request.request
        scheduled = activity.info().scheduled_time
        found = self._campaigns.open(asked.campaign, asked.spec, request.workflow_id, asked.requested_by, scheduled)
        if found.spec.consensus is Method.DAWID_SKENE:
            self._consolidation.ready()  # told now, and not after weeks
        return CampaignPlan(
            campaign=found.id,
            name=found.name,
            standing=found.spec.standing,
            snapshot_every=found.spec.snapshot_every,
            patience=asked.patience,
            labelstudio=found.spec.labelstudio is not None,
            look=self._first(found.id) if asked.tasks is None else None,
        )

    def _first(self, campaign: UUID) -> Tick | None:
        """The first look. None where it fails for a reason that lasts: the campaign is open, and its workflow looks again and again."""
        try:
            return self._campaigns.tick(campaign)
        except Transient:
            raise
        except Exception:
            activity.logger.exception("a campaign could not be looked at when it was opened", extra={"campaign": str(campaign)})
            return None

    @activity.defn(name="labeling.import_tasks", no_thread_cancel_exception=True)
    def import_tasks(self, request: ImportTasks) -> TasksImported:
        """Bring a manifest into rows, from where an earlier attempt stopped. An error that is the manifest's own ends its import."""
        try:
            return TasksImported(rows=self._import(request))
        except Permanent as err:
            self._campaigns.refuse_import(request.campaign, request.tasks, err.as_dict())
            raise

    def _import(self, request: ImportTasks) -> int:
        spec = self._campaigns.campaign(request.campaign).spec
        done = self._campaigns.imported(request.campaign, request.tasks)
        number, size, batch = 0, 0, list[NewTask]()
        with self._lines.read(request.tasks) as lines:
            for number, line in enumerate(lines, 1):
                if number <= done or line.isspace():
                    continue
                batch.append(manifest.task(line, number, spec))
                size += len(line)
                if len(batch) == BATCH or size > BATCH_BYTES:
                    self._campaigns.add_tasks(request.campaign, request.tasks, number, batch, last=False)
                    batch, size = [], 0
                    pulse().ok(rows=number)
                    stop_if_asked()
        self._campaigns.add_tasks(request.campaign, request.tasks, number, batch, last=True)
        return number

    @activity.defn(name="labeling.tick", no_thread_cancel_exception=True)
    def tick(self, request: CampaignRef) -> Tick:
        """Decide what can be decided, climb the ladder, say how far the campaign is."""
        end = time.monotonic() + TICKING
        while True:
            tick = self._campaigns.tick(request.campaign)
            pulse().ok(decided=tick.decided, left=tick.left)
            if not tick.more or time.monotonic() > end:
                return tick
            stop_if_asked()

    @activity.defn(name="labeling.command", no_thread_cancel_exception=True)
    def command(self, request: RecordCommand) -> CampaignStanding:
        """Record a person's command, once per ``command_id``. Raises InvalidInput, Conflict."""
        row = self._campaigns.command(request.campaign, request.kind, request.command_id, request.command)
        return CampaignStanding(state=row.state, version=row.version, deadline=row.deadline)

    @activity.defn(name="labeling.answer", no_thread_cancel_exception=True)
    def answer(self, request: RecordAnswers) -> AnswerResults:
        """Take answers that were given at a terminal, by the same transaction as all others."""
        actor = request.answers.actor
        return AnswerResults(
            items=self._labels.accept(request.campaign, [_incoming(item, actor, request.at) for item in request.answers.items])
        )

    @activity.defn(name="labeling.close", no_thread_cancel_exception=True)
    def close(self, request: CloseCampaign) -> CampaignStanding:
        """No answer counts from here on, if it is over still (or anyway); a repeat is a no-op."""
        row = self._campaigns.close(request.campaign, request.reason, only_if_over=not request.anyway)
        return CampaignStanding(state=row.state, version=row.version, deadline=row.deadline)

    @activity.defn(name="labeling.snapshot", no_thread_cancel_exception=True)
    def snapshot(self, request: CampaignRef) -> SnapshotTaken:
        """The decisions as one object, named by its content, and its row. Where all opinions decide, they do so first."""
        return self._snapshots.take(request.campaign)


def _incoming(item: Answer, actor: str, at: datetime) -> Incoming:
    """An answer without a key has its task's name, and its time as revision: the newest one counts. Raises InvalidInput."""
    if item.revision == TOMBSTONE:
        raise InvalidInput(f"{TOMBSTONE!r} names no revision", field="items.revision", remedy='say so by "deleted": true')
    return Incoming(
        task=item.task,
        labeler=actor,
        source=f"temporal:{actor}",
        source_key=item.task if item.key is None else item.key,
        revision=at.isoformat() if item.key is None and not item.revision else item.revision,
        event_time=at,
        value=item.value,
        skip=item.skip,
        deleted=item.deleted,
        reason=item.reason,
        duration_ms=item.duration_ms,
    )
