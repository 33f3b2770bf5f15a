"""A partition whose bytes, code and settings were prepared before, by whichever run, is not prepared again."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa

from perdure.metadata.database import Database
from perdure.metadata.queries import RunDetail
from tests.chaos.cells import World
from tests.e2e.running import GOOD_ROWS, project, run

pytestmark = pytest.mark.long


def test_a_new_file_beside_old_ones_is_all_that_is_prepared(world: World, tmp_path: Path) -> None:
    file = project(tmp_path, "append")
    file.write_text(file.read_text().replace("uri: rows.tsv", "uri: days"))
    days = tmp_path / "days"
    days.mkdir()
    header, *lines = GOOD_ROWS.splitlines(keepends=True)
    for day in range(2):
        (days / f"{day}.tsv").write_text(header + "".join(lines[day * 50 : day * 50 + 50]))
    before, failure = run(world.settings, file, "append")
    assert failure is None
    (days / "2.tsv").write_text(header + "".join(lines[100:150]))
    file.write_text(file.read_text().replace("partitions: 2", "partitions: 3"))
    after, failure = run(world.settings, file, "append")
    assert failure is None

    assert worked(world, before) == {"partition-0", "partition-1", "features-0", "features-1"}
    assert worked(world, after) == {"partition-2", "features-2"}
    assert rows(after) == rows(before) * 3 // 2


def worked(world: World, detail: RunDetail) -> set[str]:
    """The partitions' jobs that the run's preparation started."""
    named = sa.text("select name from submission join step_run s on s.id = step_run_id where s.run_id = :run and s.step = 'prepare'")
    with Database.open(world.settings) as database, database.transaction() as session:
        names = set(session.scalars(named, {"run": detail.run.id}))
    return {name for name in names if name.startswith(("partition", "features"))}


def rows(detail: RunDetail) -> int:
    prepared = next(step for step in detail.steps if step.step == "prepare").result or {}
    return int(prepared["rows"]["train"]) + int(prepared["rows"]["test"])
