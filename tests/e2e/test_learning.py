"""The way of a prediction: asked about, labeled by people, learned from, on the real stack."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import text

from perdure.metadata.database import Database
from perdure.metadata.queries import RunDetail, lineage
from perdure.metadata.repository import AccessRows, CampaignRows
from tests.chaos.cells import World
from tests.e2e.by_hand import until
from tests.e2e.running import project, run, run_applied

ASK = 'ask: {question: "Cat or dog?", random: 1.0}\n'
SIZES = range(100, 140)


def test_what_people_say_about_predictions_is_learned_by_the_next_run(world: World, tmp_path: Path) -> None:
    settings = world.settings
    file = project(tmp_path, "learns")
    file.write_text(file.read_text() + ASK)
    before, failure = run(settings, file, "learns")
    assert failure is None
    with Database.open(settings) as database:
        campaigns = CampaignRows(database)
        key = AccessRows(database).create_key("ada", ["label", "predict"])[1]
        headers = {"Authorization": f"Bearer {key}"}
        with httpx.Client(base_url=f"http://127.0.0.1:{settings.serving.port}", headers=headers, timeout=30) as serving:

            def asked() -> Any:
                """Serving hears of a new model, and what to ask about it, within seconds."""
                serving.post("/v1/models/learns/predict", json={"rows": [{"size": size} for size in SIZES]})
                return next((each for each in campaigns.asked_about("learns") if each.total), None)

            campaign = until(asked, every=1.0)
        with database.transaction() as session:
            tasks = session.scalars(text("select key from task where campaign_id = :id limit 40"), {"id": campaign.id}).all()
        assert len(tasks) == len(SIZES)
        said = [{"task": id, "value": "dog", "key": id} for id in tasks]
        with httpx.Client(base_url=f"http://127.0.0.1:{settings.gateway.port}", headers=headers, timeout=30) as gateway:
            taken = gateway.post(f"/v1/campaigns/{campaign.name}/answers", json={"answers": said}).raise_for_status().json()
        assert {each["status"] for each in taken["results"]} == {"valid"}
        until(lambda: campaigns.campaign(campaign.id).decided == len(SIZES))
        after, failure = run_applied(settings, "learns")
        assert failure is None
        assert after.version is not None
        assert _rows(after) == _rows(before) + len(SIZES)
        labels = [edge for edge in lineage(database, "learns", after.version).artifacts if edge["kind"] == "labels"]
        with database.transaction() as session:
            query = text("select sha256, tasks from label_snapshot where campaign_id = :id")
            snapshots = {row.sha256: row.tasks for row in session.execute(query, {"id": campaign.id})}
    [made] = labels
    assert snapshots[made["sha256"]] == len(SIZES)


def _rows(detail: RunDetail) -> int:
    [each] = detail.rounds
    return (each.rows or 0) + (each.test_rows or 0)
