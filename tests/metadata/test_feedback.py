"""Outcomes, feedback, and standing campaigns about predictions."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from sqlalchemy import select

from perdure.keys import digest
from perdure.labeling.ports import Incoming, NewTask
from perdure.messages.common import Json
from perdure.messages.labeling import AnnotationStatus, CampaignState
from perdure.metadata import tables as t
from perdure.metadata.database import Database
from perdure.metadata.repository import CampaignRows, LabelRows, OutcomeRows
from perdure.metadata.repository.asking import AskRows
from perdure.metadata.repository.feedback import FeedbackRows, NewFeedback, NewOutcome
from perdure.metadata.repository.inference_log import InferenceLogRows
from perdure.outcomes import Told
from perdure.predictions import new_request, prediction_id
from tests.metadata.world import SPEC, World

AT = datetime(2026, 11, 1, 12, tzinfo=UTC)
ASK = {**SPEC, "ask": {"question": "Is it spam?"}, "log": {"sample": 0.5}, "owner": "ann"}


def new_id() -> str:
    return prediction_id("moderation", 1, new_request())


def released(world: World) -> None:
    """A released version, and the specification that was applied since."""
    world.released("1")
    world.runs.apply(ASK, digest(ASK), None, "a1b2c3", "ann")


def outcomes(database: Database, model: str = "moderation") -> list[Json]:
    o = t.Outcome
    query = select(o.sequence, o.prediction_id, o.source, o.value, o.observed_at, o.received_at)
    with database.transaction() as session:
        found = session.execute(query.where(o.tenant == database.tenant, o.model == model).order_by(o.sequence))
        return [dict(row._mapping) for row in found]


def test_an_outcome_is_kept_once_and_a_correction_is_another_row(world: World) -> None:
    world.model(world.run())
    rows, id = FeedbackRows(world.database), new_id()

    def tell(value: Any, at: datetime | None = None, source: str = "api:app", prediction: str = id) -> Any:
        return rows.outcomes([NewOutcome(prediction_id=prediction, value=value, source=source, observed_at=at)])[0]

    first = tell("spam", AT)
    assert first.id
    assert not first.duplicate
    assert (again := tell("spam", AT)).id == first.id
    assert again.duplicate
    assert "another value" in (tell("ham", AT).error or "")
    assert not tell("ham", AT + timedelta(hours=1)).duplicate
    assert not tell("spam", source="api:other").duplicate
    assert tell("spam", source="api:other").duplicate  # without a time: what a source says again changes nothing
    assert not tell("ham", source="api:other").duplicate
    assert not tell("spam", source="api:other").duplicate
    assert "future" in (tell("spam", datetime.now(UTC) + timedelta(hours=1)).error or "")
    assert "no prediction's id" in (tell("spam", prediction="moderation.1.abc").error or "")
    assert "no version 7" in (tell("spam", prediction=prediction_id("moderation", 7, new_request())).error or "")
    assert "no version 1" in (tell("spam", prediction=prediction_id("other", 1, new_request())).error or "")
    found = outcomes(world.database)
    assert [(each["source"], each["value"]["value"]) for each in found] == [
        *[("api:app", "spam"), ("api:app", "ham")],
        *[("api:other", value) for value in ("spam", "ham", "spam")],
    ]
    numbers = rows.outcomes([NewOutcome(prediction_id=new_id(), value=value, source="s") for value in (1, 1.5, True)])
    assert all(each.id for each in numbers)


def test_outcomes_are_committed_in_the_order_in_which_they_were_received(world: World) -> None:
    """A reader that takes all from the last time on that it has seen misses none, however many write."""
    world.model(world.run())
    rows, read, seen = FeedbackRows(world.database), OutcomeRows(world.database), list[Told]()

    def write(_: int) -> None:
        for _ in range(5):
            rows.outcomes([NewOutcome(prediction_id=new_id(), value=1, source="s") for _ in range(3)])

    with ThreadPoolExecutor(4) as pool:
        writers = [pool.submit(write, number) for number in range(4)]
        while len(seen) < 60:
            done = all(each.done() for each in writers)
            after = seen[-1].received_at + timedelta(microseconds=1) if seen else AT
            seen += [each for page in read.received("moderation", after, datetime.now(UTC) + timedelta(days=1)) for each in page]
            assert len(seen) == 60 or not done
    assert [each.prediction_id for each in seen] == [each["prediction_id"] for each in outcomes(world.database)]


def test_the_last_word_of_a_person_counts_and_each_is_kept(world: World) -> None:
    world.model(world.run())
    rows, id = FeedbackRows(world.database), new_id()

    def say(verdict: t.Verdict, comment: str = "", principal: str = "ada") -> Any:
        return rows.feedback([NewFeedback(prediction_id=id, verdict=verdict, principal=principal, comment=comment)])[0]

    first = say(t.Verdict.WRONG, "a greeting\x00")
    assert say(t.Verdict.WRONG, "a greeting\x00").duplicate
    assert not say(t.Verdict.RIGHT).duplicate
    assert not say(t.Verdict.WRONG, "a greeting\x00").duplicate
    assert not say(t.Verdict.WRONG, principal="bob").duplicate
    with world.database.transaction() as session:
        found = session.scalars(select(t.Feedback).where(t.Feedback.prediction_id == id).order_by(t.Feedback.created_at)).all()
        assert [(each.principal, each.verdict, each.version) for each in found] == [
            *[("ada", t.Verdict.WRONG, 1), ("ada", t.Verdict.RIGHT, 1), ("ada", t.Verdict.WRONG, 1)],
            ("bob", t.Verdict.WRONG, 1),
        ]
        assert found[0].id == first.id
    assert "no prediction" in rows.feedback([NewFeedback(prediction_id="x", verdict=t.Verdict.RIGHT, principal="ada")])[0].error


def answer(database: Database, campaign: Any, key: str, value: str, labeler: str = "ada", number: int = 0, **more: Any) -> AnnotationStatus:
    incoming = Incoming(
        task=key, labeler=labeler, source="api", source_key=f"{key}/{labeler}/{number}", event_time=datetime.now(UTC), value=value, **more
    )
    result = LabelRows(database).accept(campaign, [incoming])[0]
    assert result.error is None
    return result.status


def test_a_decision_about_a_prediction_is_its_outcome_in_the_same_transaction(world: World) -> None:
    released(world)
    asks, campaigns = AskRows(world.database), CampaignRows(world.database)
    [wanted] = asks.wanted()
    assert (wanted.model, wanted.log.sample, wanted.classes, wanted.owner) == ("moderation", 0.5, ["ham", "spam"], "ann")
    ids = [new_id() for _ in range(4)]
    tasks = [NewTask(key=id, payload={"text": "hello"}, prediction={"label": "spam", "confidence": 0.5}) for id in ids]
    assert asks.ask(wanted.model, wanted.campaign, tasks, most_open=3) == 3
    assert asks.ask(wanted.model, wanted.campaign, tasks, most_open=3) == 0  # as many wait as may
    assert asks.ask(wanted.model, wanted.campaign, tasks) == 1  # a flagged one is always asked about
    campaign = asks.campaign(wanted.model, wanted.campaign)
    assert campaign.name == "moderation-predictions"
    assert [row.id for row in asks.standing()] == [campaign.id]
    for id, value in zip(ids[:2], ("spam", "ham"), strict=True):
        answer(world.database, campaign.id, id, value)
    assert outcomes(world.database) == []
    campaigns.tick(campaign.id)
    campaigns.tick(campaign.id)
    told = {each["prediction_id"]: (each["source"], each["value"]["value"]) for each in outcomes(world.database)}
    assert told == {ids[0]: ("campaign/moderation-predictions", "spam"), ids[1]: ("campaign/moderation-predictions", "ham")}
    assert len(outcomes(world.database)) == 2

    answer(world.database, campaign.id, ids[0], "spam", deleted=True)  # taken back, so it is decided anew, and told anew
    answer(world.database, campaign.id, ids[0], "ham", number=1)
    campaigns.tick(campaign.id)
    assert [each["value"]["value"] for each in outcomes(world.database) if each["prediction_id"] == ids[0]] == ["spam", "ham"]
    labels = {line["key"]: line["label"] for line in campaigns.export(campaign.id)}
    assert labels == {ids[0]: "ham", ids[1]: "ham"}


def test_a_disputed_prediction_gets_its_outcome_from_who_decides_it(world: World) -> None:
    released(world)
    asks, campaigns, id = AskRows(world.database), CampaignRows(world.database), new_id()
    spec = asks.wanted()[0].campaign
    assert spec is not None
    asks.ask("moderation", spec, [NewTask(key=id, payload={"text": "hello"})])
    campaign = asks.campaign("moderation", spec).id
    for labeler in ("ada", "bob"):
        incoming = Incoming(task=id, labeler=labeler, source="api", source_key=labeler, event_time=datetime.now(UTC), skip=True)
        LabelRows(world.database).accept(campaign, [incoming])
    campaigns.adjudicate(campaign, id, "cyd", "ham", "a greeting")
    campaigns.adjudicate(campaign, id, "cyd", "ham", "a greeting")
    assert [each["value"] for each in outcomes(world.database)] == [{"value": "ham"}]


def test_another_question_is_another_campaign_and_the_one_before_is_told_to_close(world: World) -> None:
    released(world)
    asks = AskRows(world.database)
    spec = asks.wanted()[0].campaign
    assert spec is not None
    first, changed = asks.campaign("moderation", spec), {**spec, "question": "Is it really spam?"}
    second = asks.campaign("moderation", changed)
    assert second.name.startswith("moderation-predictions-")
    assert asks.campaign("moderation", changed).id == second.id
    over = CampaignRows(world.database).tick(first.id)
    assert over.over == "another question is asked now"
    CampaignRows(world.database).close(first.id, over.over)
    assert [row.id for row in asks.standing()] == [second.id]
    assert asks.campaign("moderation", spec).state is CampaignState.OPEN  # asked again: one more, as a closed one stays closed


def test_flagged_predictions_are_those_last_called_wrong_that_nobody_is_asked_about(world: World) -> None:
    released(world)
    asks, rows = AskRows(world.database), FeedbackRows(world.database)
    [wanted] = asks.wanted()
    ids = [new_id() for _ in range(4)]
    said = [(0, t.Verdict.WRONG), (1, t.Verdict.WRONG), (1, t.Verdict.RIGHT), (2, t.Verdict.UNSURE), (3, t.Verdict.WRONG)]
    for number, verdict in said:
        rows.feedback([NewFeedback(prediction_id=ids[number], verdict=verdict, principal="ada")])
    assert asks.flagged(wanted) == [ids[0], ids[3]]
    asks.ask(wanted.model, wanted.campaign, [NewTask(key=ids[0], payload={})])
    assert asks.flagged(wanted) == [ids[3]]


def test_of_several_processes_one_looks_after_the_files(database: Database) -> None:
    rows = InferenceLogRows(database)
    with rows.alone("compact/m") as mine, ThreadPoolExecutor(1) as pool:

        def other(name: str) -> bool:
            with rows.alone(name) as also:
                return also

        assert mine
        assert [pool.submit(other, name).result() for name in ("compact/m", "compact/n")] == [False, True]
    with rows.alone("compact/m") as mine:
        assert mine


def test_what_is_known_of_a_dead_process_is_exact(database: Database) -> None:
    id = uuid4()
    with database.transaction() as session:
        session.add(t.ServingInstance(tenant=database.tenant, id=id, address="a", loaded=[], failed={}, predictions=90, logged=80))
    InferenceLogRows(database).ended(id, 100, 97)
    with database.transaction() as session:
        row = session.get_one(t.ServingInstance, id)
        assert (row.predictions, row.logged) == (100, 97)
