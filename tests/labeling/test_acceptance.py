"""What counts of several answers does not depend on the order in which they arrive."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import permutations
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.labeling.acceptance import TOMBSTONE, Arrival, Earlier, accept
from perdure.messages.labeling import AnnotationStatus, CampaignState, LabelerStatus, TaskState

S = AnnotationStatus
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


def arrival(key: str, at: int, *, skip: bool = False, deleted: bool = False) -> Arrival:
    return Arrival(
        source_key=key,
        revision=TOMBSTONE if deleted else f"{at:04}",
        event_time=BEGAN + timedelta(seconds=at),
        skip=skip,
        deleted=deleted,
    )


def after(arrivals: list[Arrival], labeler: LabelerStatus = LabelerStatus.ACTIVE) -> dict[tuple[str, str], AnnotationStatus]:
    """The status of each answer, by key and revision, once all have arrived in this order."""
    rows: list[Earlier] = []
    for each in arrivals:
        outcome = accept(each, rows, CampaignState.OPEN, TaskState.OPEN, labeler)
        rows = [Earlier(**{**vars(row), "status": outcome.changes.get(row.id, row.status)}) for row in rows]
        if not outcome.duplicate:
            rows.append(
                Earlier(id=uuid4(), status=outcome.status, source_key=each.source_key, revision=each.revision, event_time=each.event_time)
            )
    return {(row.source_key, row.revision): row.status for row in rows}


answers = st.builds(arrival, st.sampled_from(["a", "b"]), st.integers(0, 3), skip=st.booleans(), deleted=st.booleans())


@given(st.lists(answers, max_size=6), st.randoms())
def test_duplicates_change_nothing_and_at_most_one_counts(arrivals: list[Arrival], random: object) -> None:
    shuffled = arrivals * 2
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    found = after(shuffled)
    assert set(found) == {(each.source_key, each.revision) for each in arrivals}
    assert sum(status in (S.VALID, S.SKIPPED) for status in found.values()) <= 1


@pytest.mark.parametrize(
    ("arrivals", "counts"),
    [
        ([arrival("a", 1), arrival("a", 2), arrival("a", 3)], ("a", "0003")),
        ([arrival("a", 1), arrival("b", 2), arrival("a", 3)], ("a", "0003")),
        ([arrival("a", 1), arrival("b", 3), arrival("a", 2)], ("b", "0003")),
        ([arrival("a", 1), arrival("a", 9, deleted=True)], None),
        ([arrival("a", 1), arrival("a", 2), arrival("a", 9, deleted=True), arrival("b", 3)], ("b", "0003")),
    ],
)
def test_the_newest_counts_in_every_order(arrivals: list[Arrival], counts: tuple[str, str] | None) -> None:
    for order in permutations(arrivals):
        found = after(list(order))
        assert [name for name, status in found.items() if status is S.VALID] == ([counts] if counts else [])


def test_blocked_and_late() -> None:
    one = arrival("a", 1)
    assert accept(one, [], CampaignState.OPEN, TaskState.OPEN, LabelerStatus.BLOCKED).status is S.BLOCKED
    assert accept(one, [], CampaignState.CLOSED, TaskState.OPEN, LabelerStatus.ACTIVE).status is S.LATE
    assert accept(one, [], CampaignState.OPEN, TaskState.DECIDED, LabelerStatus.ACTIVE).status is S.LATE
    assert accept(one, [], CampaignState.PAUSED, TaskState.OPEN, LabelerStatus.ACTIVE).status is S.VALID
