"""One artifact scores: evaluation, the command line, batches, serving and a stock MLflow client give the same rows the same bits."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from sqlalchemy import select

from perdure.metadata import tables as t
from perdure.metadata.database import Database
from perdure.registry import CHAMPION, GONE
from tests.chaos.cells import World
from tests.e2e.running import run
from tests.e2e.scoring import NUMBER, Places, project

pytestmark = pytest.mark.long


def test_ten_thousand_rows_score_alike_everywhere(world: World, tmp_path: Path) -> None:
    detail, failure = run(world.settings, project(tmp_path), "scores")
    assert failure is None
    assert detail.release is not None
    places = Places(world.settings, detail, tmp_path)
    assert places.raw.is_unique().sum() >= NUMBER
    assert all(count > 500 for count in places.raw.null_count().row(0))
    assert len(set(places.raw["city"]) - set(places.train["city"])) > 500

    expected = places.evaluation()
    assert len(set(expected)) > NUMBER / 2
    for name, scores in places.all().items():
        assert scores() == expected, name


def test_what_a_foreign_hand_changes_in_the_registry_is_put_right_and_told(world: World) -> None:
    """By the reconciler's own process, on the model of the test above."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=world.settings.mlflow.url, registry_uri=world.settings.mlflow.url)
    before = client.get_model_version_by_alias("scores", CHAMPION)
    client.delete_registered_model_alias("scores", CHAMPION)
    client.set_model_version_tag("scores", before.version, "perdure.version", "7")
    client.set_model_version_tag("scores", before.version, "theirs", "kept")
    said = repairs(world, 1)
    assert said == ["the alias champion names no version, not version 1; the tag perdure.version of version 1 is '7', not '1'"]
    after = client.get_model_version_by_alias("scores", CHAMPION)
    assert (after.version, after.tags) == (before.version, {**before.tags, "theirs": "kept"})

    client.delete_registered_model("scores")
    assert repairs(world, 2) == [*said, GONE]
    deadline = time.monotonic() + 30
    while not client.search_model_versions("name = 'scores'") or CHAMPION not in client.get_registered_model("scores").aliases:
        assert time.monotonic() < deadline, "it was not registered again"
        time.sleep(0.2)
    assert client.get_model_version_by_alias("scores", CHAMPION).tags == before.tags


def repairs(world: World, number: int) -> list[str]:
    """What the reconciler said it repaired, once it has said so *number* times."""
    query = select(t.Audit.reason).where(t.Audit.action == "registry.repair").order_by(t.Audit.id)
    deadline = time.monotonic() + 30
    while True:
        with Database.open(world.settings) as database, database.transaction() as session:
            said = list(session.scalars(query))
        if len(said) >= number:
            return said
        assert time.monotonic() < deadline, "nothing was repaired"
        time.sleep(0.2)
