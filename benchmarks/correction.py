"""How long it takes from a prediction to its correction by a person, joined with the prediction; the person takes no time.

Everything runs as it does elsewhere: the inference log commits, the campaign's workflow decides, the relay pokes, and the gateway takes
feedback and answers. One prediction after the other, at times that fit no rhythm, on two ways: the model was not sure, so that
a person is asked at once; or the model was sure, and a user says by HTTP that it is wrong.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import httpx
import polars as pl

from benchmarks.common import record, running_stack
from perdure.adapters.delta_log import DeltaLog
from perdure.adapters.s3 import ObjectStore
from perdure.config import Settings
from perdure.jobs.joining import frame, joined
from perdure.messages.pipeline import StepKind
from perdure.metadata.database import Database
from perdure.metadata.repository import AccessRows, OutcomeRows
from perdure.outcomes import Told
from perdure.predictions import new_request, prediction_id
from perdure.serving.keeping import Kept
from perdure.serving.scored import Scored
from tests.metadata.world import SPEC, World

PREDICTIONS = 40
SERVICES = ("postgres", "s3", "temporal", "worker", "relay", "gateway", "reconciler")
DAY = timedelta(days=1)


class Person:
    """Answers whatever is asked, at once."""

    def __init__(self, settings: Settings, database: Database, model: str) -> None:
        _, secret = AccessRows(database).create_key("ada", ["label", "outcomes:write"])
        url = f"http://{settings.gateway.host}:{settings.gateway.port}/v1"
        self._http = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {secret}"}, timeout=30)
        self._campaign = f"/campaigns/{model}-predictions"

    def says_wrong(self, id: str) -> None:
        self._http.post("/feedback", json={"prediction_id": id, "verdict": "wrong"}).raise_for_status()

    def answers(self, id: str) -> bool:
        response = self._http.post(f"{self._campaign}/lease", json={"max": 1})
        if response.status_code in (204, 404):  # nothing is asked yet
            return False
        [task] = response.raise_for_status().json()["leases"]
        submit = {"lease_token": task["lease_token"], "value": "ham"}
        self._http.post(f"/assignments/{task['assignment_id']}/submit", json=submit).raise_for_status()
        return bool(task["task"] == id)


class Way:
    """One prediction after the other, on one of the two ways."""

    def __init__(self, settings: Settings, database: Database, kept: Kept, model: str) -> None:
        self.rows, self.kept, self.model = OutcomeRows(database), kept, model
        self.person = Person(settings, database, model)
        objects = ObjectStore(settings.s3)
        self.log = DeltaLog(objects, objects.uri(f"inference/{model}"))
        self._seen = datetime.now(UTC) - DAY

    def corrected(self, *, sure: bool) -> dict[str, float]:
        """Seconds after the prediction until each thing had happened."""
        id, began = self._predict(0.99 if sure else 0.55), time.perf_counter()
        times: dict[str, float] = {}

        def wait(what: str, done: Callable[[], bool], every: float) -> None:
            while not done():
                if time.perf_counter() - began > 60:
                    raise RuntimeError(f"{id}: not {what}")
                time.sleep(every)
            times[what] = time.perf_counter() - began

        if sure:
            self.person.says_wrong(id)
        wait("answered", lambda: self.person.answers(id), 0.02)
        wait("outcome", lambda: self._outcome(id) is not None, 0.02)
        wait("joined", lambda: self._joined(id), 0.02)
        return times

    def _predict(self, spam: float) -> str:
        id = prediction_id(self.model, 1, new_request())
        self.kept.record(
            Scored(
                model=self.model,
                version=1,
                role="release",
                rows=pl.DataFrame({"text": ["URGENT! You have won"]}),
                scores=pl.DataFrame({"p_ham": [1 - spam], "p_spam": [spam], "prediction": ["spam"]}),
                ids=[id],
                units=[None],
                traces=[""],
                latencies=[1.0],
                policy=self.kept.policy(self.model, []),
            )
        )
        return id

    def _outcome(self, id: str) -> Told | None:
        found = [each for page in self.rows.received(self.model, self._seen, datetime.now(UTC) + DAY) for each in page]
        return next((each for each in reversed(found) if each.prediction_id == id), None)

    def _joined(self, id: str) -> bool:
        outcome, log, now = self._outcome(id), self.log.scan(), datetime.now(UTC)
        assert outcome is not None
        if log is None:
            return False
        made = (
            joined(log, frame([outcome]).lazy(), since=now - DAY, until=now + DAY, window=DAY)
            .filter(pl.col("id") == id)
            .select("truth")
            .collect()
        )
        if made.height and made.item() == "ham":
            self._seen = outcome.received_at
            return True
        return False


def quantiles(times: list[dict[str, float]]) -> dict[str, dict[str, float]]:
    """p50 and p95 of each thing, in seconds."""
    return {
        name: {
            "p50": round(statistics.median(each[name] for each in times), 3),
            "p95": round(statistics.quantiles([each[name] for each in times], n=20)[-1], 3),
        }
        for name in times[0]
    }


def main() -> None:
    """Both ways."""
    model = f"m{uuid4().hex[:8]}"
    with running_stack(SERVICES) as settings, Database.open(settings) as database:
        world = World(database)
        spec = {**SPEC, "name": model, "ask": {"question": "Is it spam?", "confident_below": 0.6, "random": 0.0}}
        run = world.run("1", spec=spec)
        version = world.model(run, model=model)
        step = world.step(run, StepKind.PROMOTE)
        promotion = world.promotions.open(step.id, version.id, world.evaluation(run, version).id, required=0, deadline_seconds=3600)
        world.promotions.close(promotion.id, release=True, reason="all gates passed", actor="bench")
        kept = Kept(settings, database, uuid4())
        try:
            way = Way(settings, database, kept, model)
            times: dict[bool, list[dict[str, float]]] = {False: [], True: []}
            for number in range(2 * PREDICTIONS + 2):
                sure = bool(number % 2)
                took = way.corrected(sure=sure)
                if number > 1:  # the first ones open the campaign and make the table
                    times[sure].append(took)
                time.sleep(random.uniform(0.5, 2.5))
        finally:
            kept.close()
    result = {"predictions": PREDICTIONS, "not_sure": quantiles(times[False]), "called_wrong": quantiles(times[True])}
    record("correction", {**result, "log_seconds": settings.inference.seconds, "bar": "joined p50 < 2 s"})


if __name__ == "__main__":
    main()
