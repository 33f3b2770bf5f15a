"""From a prediction to what a person says of it, on Postgres and S3: log, questions, decisions, outcomes, and all of it joined."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import polars as pl
import pytest

from perdure.adapters.delta_log import DeltaLog
from perdure.adapters.s3 import ObjectStore
from perdure.asking import Asking
from perdure.config import Settings
from perdure.errors import ObjectsUnavailable, TemporalUnavailable
from perdure.jobs import joining
from perdure.keys import digest
from perdure.labeling.ports import CampaignRow, Incoming
from perdure.metadata import tables as t
from perdure.metadata.database import Database
from perdure.metadata.repository import CampaignRows, LabelRows, OutcomeRows
from perdure.metadata.repository.asking import AskRows
from perdure.metadata.repository.feedback import FeedbackRows, NewFeedback
from perdure.metadata.upgrade import upgrade
from perdure.predictions import new_request, prediction_id
from perdure.serving.keeping import Kept
from perdure.serving.questions import chosen
from perdure.serving.scored import AskPolicy, Scored
from tests.metadata.world import SPEC, World
from tests.servers import Stack

MODEL = "moderation"
ASK = {"question": "Is it spam?", "confident_below": 0.6, "random": 0.0, "payload": ["text"]}


@pytest.fixture(scope="module")
def settings(stack: Stack) -> Settings:
    made = stack.isolated()
    upgrade(made)
    return made


@pytest.fixture(scope="module")
def database(settings: Settings) -> Iterator[Database]:
    with Database.open(settings) as opened:
        world = World(opened)
        world.released("1")
        spec = {**SPEC, "ask": ASK}
        world.runs.apply(spec, digest(spec), None, "a1b2c3", "ann")
        yield opened


@pytest.fixture
def kept(settings: Settings, database: Database, tmp_path: Path) -> Iterator[Kept]:
    inference = settings.inference.model_copy(update={"seconds": 0.1})
    made = Kept(settings.model_copy(update={"home": tmp_path, "inference": inference}), database, uuid4())
    yield made
    made.close()


def scored(kept: Kept, *sure: float) -> list[str]:
    """Predictions with these probabilities of spam."""
    ids = [prediction_id(MODEL, 1, new_request()) for _ in sure]
    made = Scored(
        model=MODEL,
        version=1,
        role="release",
        rows=pl.DataFrame({"text": [f"text {id[-4:]}" for id in ids], "sender": ["ann"] * len(ids), "length": [7] * len(ids)}),
        scores=pl.DataFrame({"p_ham": [1 - each for each in sure], "p_spam": [*sure], "prediction": ["spam"] * len(ids)}),
        ids=ids,
        units=[None] * len(ids),
        traces=[""] * len(ids),
        latencies=[1.0] * len(ids),
        policy=kept.policy(MODEL, ["sender"]),
    )
    kept.record(made)
    return ids


def until(condition: Any, seconds: float = 30) -> Any:
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end
        time.sleep(0.02)
    return found


def log_of(settings: Settings) -> pl.LazyFrame | None:
    objects = ObjectStore(settings.s3)
    return DeltaLog(objects, objects.uri(f"inference/{MODEL}")).scan()


def find(settings: Settings) -> Any:
    def rows(model: str, ids: Any) -> list[dict[str, Any]]:
        log = log_of(settings)
        return [] if log is None else log.filter(pl.col("id").is_in([*ids])).collect().to_dicts()

    return rows


def tasks(database: Database) -> dict[str, t.Task]:
    with database.transaction() as session:
        return {row.key: row for row in session.query(t.Task).all()}


def test_a_prediction_that_is_not_sure_comes_back_as_outcome_and_label(settings: Settings, database: Database, kept: Kept) -> None:
    doubtful, sure = scored(kept, 0.55, 0.99)
    asked = until(lambda: tasks(database).get(doubtful))
    assert asked.payload == {"text": f"text {doubtful[-4:]}"}
    assert asked.prediction == {"label": "spam", "confidence": 0.55, "version": 1, "chosen": "unsure", "shown": ["text"]}
    assert asked.priority == pytest.approx(0.45)
    assert sure not in tasks(database)
    campaign = asked.campaign_id
    said = Incoming(task=doubtful, labeler="ada", source="api", source_key="1", event_time=datetime.now(UTC), value="ham")
    assert LabelRows(database).accept(campaign, [said])[0].error is None
    CampaignRows(database).tick(campaign)
    now, day = datetime.now(UTC), timedelta(days=1)
    [outcome] = [each for page in OutcomeRows(database).received(MODEL, now - day, now + day) for each in page]
    assert (outcome.prediction_id, outcome.value) == (doubtful, "ham")
    assert [line["label"] for line in CampaignRows(database).export(campaign) if line["key"] == doubtful] == ["ham"]

    until(lambda: kept.figures().logged == 2)
    log = log_of(settings)
    assert log is not None
    assert "input.sender" not in log.collect_schema().names()
    told = joining.frame([outcome]).lazy()
    made = joining.joined(log, told, since=now - day, until=now + day, window=day).collect(engine="streaming")
    assert dict(zip(made["id"], made["truth"], strict=True)) == {doubtful: "ham", sure: None}


def test_what_users_call_wrong_is_asked_as_soon_as_it_is_in_the_log(settings: Settings, database: Database, kept: Kept) -> None:
    started: list[CampaignRow] = []
    clock = [0.0]
    away = [True, False]

    def start(row: CampaignRow) -> None:
        if away.pop(0) if away else False:
            raise TemporalUnavailable("away")
        started.append(row)

    passes = Asking(AskRows(database), find(settings), start, lambda: clock[0])
    later = prediction_id(MODEL, 1, new_request())  # its row is not in the log yet
    assert FeedbackRows(database).feedback([NewFeedback(prediction_id=later, verdict=t.Verdict.WRONG, principal="u")])[0].error is None
    first = passes.run_once()
    assert (first.asked, first.failed, first.pause) == (0, 1, 0.25)  # Temporal is away, which holds up nothing else
    assert passes.run_once().failed == 0
    assert [row.name for row in started] == ["moderation-predictions"]
    passes.run_once()
    assert len(started) == 1
    clock[0] = 40.0
    passes.run_once()
    assert len(started) == 2  # it is looked from time to time whether it runs

    [id] = scored(kept, 0.99)
    until(lambda: kept.figures().logged == 1)
    FeedbackRows(database).feedback([NewFeedback(prediction_id=id, verdict=t.Verdict.WRONG, principal="u")])
    assert passes.run_once().asked == 1
    assert tasks(database)[id].priority == 2.0
    assert passes.run_once().asked == 0
    assert later not in tasks(database)


def test_one_model_that_cannot_be_read_holds_up_nothing(database: Database) -> None:
    def gone(model: str, ids: Any) -> list[dict[str, Any]]:
        raise ObjectsUnavailable("away")

    id = prediction_id(MODEL, 1, new_request())
    FeedbackRows(database).feedback([NewFeedback(prediction_id=id, verdict=t.Verdict.WRONG, principal="u")])
    started: list[CampaignRow] = []
    done = Asking(AskRows(database), gone, started.append).run_once()
    assert (done.asked, done.failed, len(started)) == (0, 1, 1)


def test_chance_chooses_its_share_and_hashes_are_not_shown() -> None:
    ids = [prediction_id(MODEL, 1, new_request()) for _ in range(2_000)]
    rows = pl.DataFrame({"id": ids, "version": 1, "input.a": "hmac:1f", "input.b": 2, "prediction": 0.5})
    ask = AskPolicy(random=0.1, confident_below=0.0, most_open=9, columns=None, campaign={})
    found = chosen(rows, ask)
    assert 140 < len(found) < 260
    assert chosen(rows, ask) == found
    assert found[0].payload == {"b": 2}
    assert found[0].prediction == {"label": 0.5, "version": 1, "chosen": "random", "shown": ["b"]}
