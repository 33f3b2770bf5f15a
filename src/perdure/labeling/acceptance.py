"""What becomes of an answer: its status, and what it changes of earlier ones. A pure function of what the rows say."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from perdure.messages.labeling import AnnotationStatus, CampaignState, LabelerStatus, TaskState

S = AnnotationStatus
TOMBSTONE = "deleted"  # the revision of a deletion: its sender may know no other, and there is one a key


@dataclass(frozen=True, kw_only=True)
class Earlier:
    """An annotation that is there already: under the same source key, or valid by the same labeler on the same task."""

    id: UUID
    status: AnnotationStatus
    source_key: str
    revision: str
    event_time: datetime


@dataclass(frozen=True, kw_only=True)
class Arrival:
    """An answer as it comes in. ``revision`` orders the answers of one key (a deletion's is `TOMBSTONE`), ``event_time`` others."""

    source_key: str
    revision: str
    event_time: datetime
    skip: bool = False
    deleted: bool = False


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The status that an answer gets, and the status that earlier ones change to. A ``duplicate`` changes nothing."""

    status: AnnotationStatus
    duplicate: bool = False
    changes: dict[UUID, AnnotationStatus] = field(default_factory=dict)


def accept(arrival: Arrival, earlier: list[Earlier], campaign: CampaignState, task: TaskState, labeler: LabelerStatus) -> Outcome:
    """The outcome of one answer. Whatever the order in which answers arrive, the newest one of each labeler to a task counts.

    A deletion is kept as a tombstone, so that one which overtakes its own answer still deletes it. After the campaign's end it changes
    no earlier answer: what was exported stays so.
    """
    same_key = [each for each in earlier if each.source_key == arrival.source_key]
    for each in same_key:
        if each.revision == arrival.revision:
            return Outcome(status=each.status, duplicate=True)
    if arrival.deleted:
        over = campaign is CampaignState.CLOSED
        gone = {each.id: S.DELETED for each in same_key if not over and each.status is not S.DELETED}
        return Outcome(status=S.DELETED, changes=gone)
    if any(each.status is S.DELETED for each in same_key):
        return Outcome(status=S.DELETED)
    if any(_order(each, arrival) for each in earlier if each.status in (S.VALID, S.SKIPPED)):
        return Outcome(status=S.SUPERSEDED)
    if labeler is LabelerStatus.BLOCKED:
        return Outcome(status=S.BLOCKED)
    if campaign is CampaignState.CLOSED or task in (TaskState.DECIDED, TaskState.REJECTED):
        return Outcome(status=S.LATE)
    older = {each.id: S.SUPERSEDED for each in earlier if each.status in (S.VALID, S.SKIPPED)}
    return Outcome(status=S.SKIPPED if arrival.skip else S.VALID, changes=older)


def _order(earlier: Earlier, arrival: Arrival) -> bool:
    """Whether what is there already is newer than what arrives."""
    if earlier.source_key == arrival.source_key:
        return earlier.revision > arrival.revision
    return earlier.event_time > arrival.event_time
