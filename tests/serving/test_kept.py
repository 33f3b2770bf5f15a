"""What is answered over HTTP is in the inference log, by request, row and version."""

from __future__ import annotations

import asyncio

import polars as pl

from perdure.adapters.delta_log import DeltaLog
from perdure.adapters.s3 import ObjectStore
from perdure.config import Settings
from perdure.messages.rollout import TrafficKind
from tests.serving.conftest import Asking
from tests.serving.world import ROW, Served, trained


async def test_an_answer_is_a_row_of_the_log_and_its_shadow_another(client: Asking, served: Served, migrated: Settings) -> None:
    served.release(served.version("kept", trained(served.folder, 11)))
    served.traffic(served.version("kept", trained(served.folder, 12)), TrafficKind.SHADOW, 100)
    await client.look()
    trace = "0af7651916cd43dd8448eb211c80319c"
    headers = {"traceparent": f"00-{trace}-b7ad6b7169203331-01", "X-Perdure-Unit": "u1"}
    body = {"rows": [ROW, {**ROW, "age": None}]}
    answer = (await client.post("/v1/models/kept/predict", json=body, headers=headers)).json()
    ids = answer["prediction_ids"]
    objects = ObjectStore(migrated.s3)
    table = DeltaLog(objects, objects.uri("inference/kept"))
    for _ in range(600):
        log = await asyncio.to_thread(table.scan)
        if log is not None and (rows := log.collect()).height == 4:
            break
        await asyncio.sleep(0.05)
    mine = {row["id"]: row for row in rows.filter(role="release").to_dicts()}
    assert set(mine) == set(ids)
    first, second = (mine[id] for id in ids)
    assert (first["trace"], first["unit"], first["version"], first["input.age"], first["prediction"]) == (
        *(trace, "u1", 1, 40),
        answer["predictions"][0],
    )
    assert second["input.age"] is None
    assert {"cat": first["p.cat"], "dog": first["p.dog"]} == answer["scores"][0]
    shadows = rows.filter(role="shadow")
    assert set(shadows["version"]) == {2}
    assert set(shadows["id"].str.tail(32)) == {id[-32:] for id in ids}
    assert rows.select(pl.col("latency_ms").min()).item() > 0
    served.end_traffic("kept")
