"""`make demo-drift`: a model trained on 2010 answers the hours after it, as they came; it is watched, and trained again when it errs more.

The clock is that of the data: each fortnight is asked hour by hour over HTTP, what was measured comes back as outcomes, and one look is
taken at it. What the look says goes the way that it always goes: an event, an episode, a decision, a run, gates, a release. At the end the
error over time is drawn, with the loop and without it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import sys
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import fortnights
import httpx
import numpy as np
import plot
import polars as pl

from perdure import packaging, predictor
from perdure.adapters.s3 import ObjectStore
from perdure.config import Settings, find_home
from perdure.errors import NotFound
from perdure.local import stack
from perdure.messages.common import ArtifactRef
from perdure.metadata.database import Database
from perdure.metadata.queries import show_model, show_run
from perdure.metadata.queries.retraining import Why, why
from perdure.metadata.repository import AccessRows
from perdure.temporal import connect

HERE = Path(__file__).parent
PIPELINE = HERE / "pipeline.yaml"
HOURS = HERE / "hours"
MODEL = "air-quality"
START = fortnights.end_of(datetime(2010, 12, 31))  # what is before is learned from at first
POLL = 0.2  # seconds
LIMIT = 900.0  # seconds for one run, on a very slow machine


def say(text: str = "") -> None:
    """One line of the story, with the time of day."""
    print(f"{time.strftime('%H:%M:%S')}  {text}" if text else "", flush=True)


@dataclass
class Replay:
    """The hours as they came. ``errors`` are the absolute errors of what was answered, by hour; ``decided`` what was decided, by date."""

    settings: Settings
    database: Database
    since: str  # names the runs of this replay
    errors: list[tuple[datetime, float]] = field(default_factory=list)
    released: list[tuple[datetime, int]] = field(default_factory=list)
    trained: int = 0
    _known: set[str] = field(default_factory=set)

    async def train(self) -> int:
        """The first version, of the hours before `START`."""
        client = await connect(self.settings)
        request = {"pipeline": MODEL, "cutoff": START.replace(tzinfo=UTC).isoformat(), "requested_by": "demo"}
        run = f"run/{MODEL}/{self.since}"
        await client.start_workflow("TrainingPipeline", request, id=run, task_queue="perdure")
        return self._ended(run)

    async def fortnight(self, end: datetime, hours: pl.DataFrame, client: httpx.AsyncClient, gateway: httpx.AsyncClient) -> None:
        """Ask hour by hour; tell what was measured; look; let what follows from it happen."""
        told = []
        for row in hours.iter_rows(named=True):
            at = row["time"].replace(tzinfo=UTC)
            asked = {name: value for name, value in row.items() if name != "pm25"} | {"time": f"{row['time']:%F %T}"}
            answer = await client.post(f"/v1/models/{MODEL}/predict", json={"rows": [asked], "time": at.isoformat()})
            said = answer.raise_for_status().json()
            self.errors.append((row["time"], abs(said["predictions"][0] - row["pm25"])))
            known = (at + timedelta(hours=1)).isoformat()
            told.append({"prediction_id": said["prediction_ids"][0], "value": row["pm25"], "observed_at": known})
        for start in range(0, len(told), 500):
            (await gateway.post("/v1/outcomes", json={"outcomes": told[start : start + 500]})).raise_for_status()
        fortnights.write(HOURS, end, hours)
        await self._look(end.replace(tzinfo=UTC))

    async def _look(self, end: datetime) -> None:
        await asyncio.sleep(2.5)  # the inference log is committed every two seconds
        client = await connect(self.settings)
        look = {"model": MODEL, "at": end.isoformat()}
        found = await client.execute_workflow("DriftMonitor", look, id=f"monitor/{MODEL}/{self.since}/{end:%F}", task_queue="perdure")
        drifted = ", ".join(found["drifted"]) or "nothing"
        mean = np.mean([error for at, error in self.errors if at.replace(tzinfo=UTC) >= end - fortnights.LENGTH])
        say(f"{end:%F}  off by {mean:5.1f} µg/m³ on average, drifted: {drifted}")
        for decision in (await self._decided()).decisions:
            if decision.workflow_id is None or decision.workflow_id in self._known:
                continue
            self._known.add(decision.workflow_id)
            self.trained += 1
            say(f"            {decision.reason}")
            before = self.released[-1][1]
            number = self._ended(decision.workflow_id)
            if number != before:
                self.released.append((end.replace(tzinfo=None), number))

    async def _decided(self) -> Why:
        """Why, once every event has its decision and its run was started."""
        deadline = time.monotonic() + LIMIT
        while time.monotonic() < deadline:
            found = await asyncio.to_thread(why, self.database, MODEL)
            if found.undecided == 0:
                return found
            await asyncio.sleep(POLL)
        raise SystemExit("nothing was decided; `perdure status` tells whether a worker and the relay are there")

    def _ended(self, run: str) -> int:
        """Wait for the run; the number of the version that serves then."""
        deadline = time.monotonic() + LIMIT
        while time.monotonic() < deadline:
            try:
                detail = show_run(self.database, run)
            except NotFound:
                time.sleep(POLL)
                continue
            if not detail.run.state.is_live:
                if detail.run.state != "succeeded":
                    raise SystemExit(f"{run} ended as {detail.run.state}: {(detail.run.error or {}).get('message')}")
                reason = detail.release["reason"] if detail.release else "; ".join(v["reason"] for v in detail.verdicts if not v["passed"])
                say(f"            version {detail.version} {'released' if detail.release else 'refused'}: {reason}")
                return next(each.number for each in show_model(self.database, MODEL).versions if each.serves)
            time.sleep(POLL)
        raise SystemExit(f"{run} did not end within {LIMIT:.0f} s; `perdure show {run}` says where it stands")


def _without(settings: Settings, database: Database, hours: pl.DataFrame) -> list[tuple[datetime, float]]:
    """The errors of the first version, had it gone on for ever."""
    first = next(each for each in show_model(database, MODEL).versions if each.number == 1)
    model = predictor.load(ObjectStore(settings.s3).get(ArtifactRef(uri=first.predictor_uri, sha256=first.predictor_sha256)))
    errors = (model.predict(hours)["prediction"] - hours["pm25"]).abs()
    return list(zip(hours["time"], errors, strict=True))


def _by_fortnight(errors: list[tuple[datetime, float]]) -> list[tuple[datetime, float]]:
    frame = pl.DataFrame(errors, schema=["time", "error"], orient="row")
    ends = frame.with_columns(end=pl.Series([fortnights.end_of(at) for at, _ in errors]))
    means = ends.group_by("end", maintain_order=True).agg(pl.col("error").mean())
    return [(end - fortnights.LENGTH / 2, error) for end, error in means.iter_rows()]


async def replay(settings: Settings, database: Database, until: datetime) -> Replay:
    """Everything from the first training to the last fortnight before *until*."""
    known = fortnights.hours()
    shutil.rmtree(HOURS, ignore_errors=True)
    for end, part in fortnights.split(known, datetime(2010, 1, 1), START):
        fortnights.write(HOURS, end, part)
    version = packaging.apply(PIPELINE, settings, actor="demo")
    say(f"applied pipeline {version.name}, version {version.number}")
    told = Replay(settings, database, time.strftime("%Y%m%d-%H%M%S"))
    say(f"{START:%F}  training on what is known")
    told.released.append((START, await told.train()))
    _, key = AccessRows(database).create_key(f"air-{told.since}", ["outcomes:write", "predict"])
    headers = {"Authorization": f"Bearer {key}"}
    addresses = (f"http://{each.host}:{each.port}" for each in (settings.serving, settings.gateway))
    serving, gateway = (httpx.AsyncClient(base_url=address, headers=headers, timeout=30) for address in addresses)
    async with serving, gateway:
        for end, part in fortnights.split(known, START, until):
            await told.fortnight(end, part, serving, gateway)
    return told


def main() -> int:
    """Run the demo; 0 when the loop made the error smaller than it would have been without it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--until", type=datetime.fromisoformat, default=datetime(2013, 1, 1), help="replay until this day")
    until = parser.parse_args().until
    home = find_home()
    os.environ["PERDURE_HOME"] = str(home)
    stack.up(home, echo=say)
    settings = Settings()
    began = time.monotonic()
    with Database.open(settings) as database:
        told = asyncio.run(replay(settings, database, until))
        hours = fortnights.hours().filter(pl.col("time").is_in([at for at, _ in told.errors]))
        without = _without(settings, database, hours)
    with_loop, alone = (float(np.mean([error for _, error in each])) for each in (told.errors, without))
    marks = [(at, f"version {number}") for at, number in told.released[1:]]
    drawn = plot.lines(
        "Fine dust in Beijing: how far predictions are off",
        "mean absolute error by fortnight, µg/m³",
        {"with the loop": _by_fortnight(told.errors), "the first version for ever": _by_fortnight(without)},
        marks,
    )
    path = home / "air-quality.svg"
    path.write_text(drawn)
    print()
    print("What happened")
    print(f"  {len(told.errors):,} hours answered, one by one, in {time.monotonic() - began:.0f} s")
    print(f"  off by {with_loop:.2f} µg/m³ on average with the loop, {alone:.2f} without it")
    print(f"  {told.trained} trainings that drift asked for, {len(told.released) - 1} of them released")
    print()
    print("Where to look")
    print(f"  error over time    {path}")
    print(f"  every decision     .venv/bin/perdure retrain why {MODEL}")
    print(f"  what drifted       .venv/bin/perdure drift {MODEL}")
    print(f"  releases           http://{settings.gateway.host}:{settings.gateway.port}/models/{MODEL}")
    return 0 if with_loop < alone else 1


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # past the SDK's exit crash
