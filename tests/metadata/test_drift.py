"""Drift events: each once, whoever sends it how often, and the poke that goes with a new one."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

import pytest
from sqlalchemy import text

from perdure.errors import NotFound
from perdure.messages.retraining import DriftEvent, DriftKind
from perdure.metadata.database import Database
from perdure.metadata.queries.drift import last_said
from perdure.metadata.repository import DriftRows
from tests.metadata.together import together
from tests.metadata.world import World

EVENT = DriftEvent(
    source="https://monitors/a",
    event_id="1",
    type="ai.perdure.drift.data.v1",
    model="moderation",
    kind=DriftKind.DATA,
    monitor="psi",
    drifted=True,
    window_start=datetime(2026, 11, 1, tzinfo=UTC),
    window_end=datetime(2026, 11, 2, tzinfo=UTC),
    n=4_000,
    severity=0.4,
    metrics=[{"feature": "length", "method": "psi", "statistic": 0.31, "drifted": True}],
)


@pytest.fixture
def rows(world: World) -> DriftRows:
    world.model(world.run())
    return DriftRows(world.database)


def kept(database: Database) -> tuple[int, int]:
    """How many events, and how many pokes."""
    with database.transaction() as session:
        count = "select count(*) from {} where tenant = :tenant"
        own = {"tenant": database.tenant}
        events = session.scalar(text(count.format("drift_event")), own)
        return events, session.scalar(text(count.format("outbox") + " and topic = 'poke' and target = 'retrain/moderation'"), own)


def test_each_event_once_and_a_poke_for_what_is_new(rows: DriftRows, database: Database) -> None:
    other = replace(EVENT, event_id="2")
    assert rows.record([EVENT, other, EVENT]) == [True, True, False]
    assert kept(database) == (2, 1)
    assert rows.record([other, EVENT]) == [False, False]
    assert rows.record([]) == []
    assert kept(database) == (2, 1)


def test_an_alert_that_fires_again_under_its_old_start_counts_again(rows: DriftRows, database: Database) -> None:
    fires = replace(EVENT, type="alertmanager.v4", event_id="ab/2026-11-01T00:00:00+00:00/firing", window_end=None, level=True)
    over = replace(fires, event_id="ab/2026-11-01T00:00:00+00:00/resolved", drifted=False)
    other = replace(fires, event_id="cd/2026-11-01T00:00:00+00:00/firing")
    for _ in range(3):
        assert rows.record([fires, other])[0]
        assert rows.record([fires, other]) == [False, False]
        assert rows.record([over]) == [True]
        assert rows.record([over]) == [False]
    assert kept(database)[0] == 7


def test_a_source_with_slashes_is_not_another_ones_event(rows: DriftRows) -> None:
    one, other = replace(EVENT, source="a/b", event_id="c"), replace(EVENT, source="a", event_id="b/c")
    assert rows.record([one, other]) == [True, True]


def test_one_unknown_model_and_nothing_is_kept(rows: DriftRows, database: Database) -> None:
    with pytest.raises(NotFound, match="no version of nobody\\x00s"):
        rows.record([EVENT, replace(EVENT, event_id="2", model="nobody\x00s")])
    assert kept(database) == (0, 0)


def test_what_each_monitor_said_last(rows: DriftRows, world: World, database: Database) -> None:
    world.model(world.run("second"), "other.zip", "another")
    told = [("moderation", "psi", 0.1), ("moderation", "psi", 0.2), ("moderation", "error", 0.3), ("another", "psi", 0.4)]
    for number, (model, monitor, severity) in enumerate(told):
        rows.record([replace(EVENT, event_id=str(number), model=model, monitor=monitor, severity=severity)])
    found = [(each.model, each.monitor, each.kind, each.severity) for each in last_said(database)]
    assert found == [("another", "psi", "data", 0.4), ("moderation", "error", "data", 0.3), ("moderation", "psi", "data", 0.2)]
    assert [each.severity for each in last_said(database, "moderation")] == [0.3, 0.2]
    with pytest.raises(NotFound):
        last_said(database, "nobody")


def test_the_same_events_from_many_sides_at_once(rows: DriftRows, database: Database) -> None:
    events = [replace(EVENT, event_id=str(number)) for number in range(50)]
    results = together([partial(rows.record, events[::step]) for step in (1, -1) * 3])
    assert sum(new for result in results for new in result) == 50
    assert kept(database)[0] == 50
