"""Serving processes that are gone: their rows go, once nothing counts any more that they counted."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

from sqlalchemy import select, update

from perdure.metadata import tables as t
from perdure.metadata.repository import SweepRows
from perdure.metadata.repository.serving import ServingRows, WindowRow
from tests.metadata.world import World


def test_processes_go_with_the_last_of_their_counts(world: World) -> None:
    version = world.model(world.run())
    serving, now = ServingRows(world.database), datetime.now(UTC)
    days = {"alive": (0, 40), "counted lately": (40, 29), "gone": (2, 31), "gone without a word": (2, None), "gone today": (0.5, None)}
    named = {name: uuid4() for name in days}
    for name, (seen, counted) in days.items():
        counts = {"requests": 1, "rows": 1, "errors": 0, "latency": [1], "disagreements": 0}
        ago = [timedelta(days=counted)] if counted is not None else []
        windows = [WindowRow(version=version.id, role="release", by=uuid4(), minute=now - each, **counts) for each in ago]
        serving.report(named[name], "127.0.0.1:1", loaded=[version.id], failed={}, predictions=1, logged=1, windows=windows)
        with world.database.transaction() as session:
            i = t.ServingInstance
            session.execute(update(i).where(i.id == named[name]).values(seen_at=now - timedelta(days=seen)))
    assert SweepRows(world.database).sweep() == 4
    with world.database.transaction() as session:
        left = set(session.scalars(select(t.ServingInstance.id)))
        windows_of = set(session.scalars(select(t.ServingWindow.instance_id)))
    assert {name for name, key in named.items() if key in left} == {"alive", "counted lately", "gone today"}
    assert windows_of & set(named.values()) == {named["counted lately"]}
    assert SweepRows(world.database).sweep() == 0
