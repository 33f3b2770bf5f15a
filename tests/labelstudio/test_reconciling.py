"""Tasks out and answers in, on a real Postgres: whatever is lost, done twice or cut off on the way counts once."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from perdure.activities import labelstudio as activities
from perdure.adapters.labelstudio import LabelStudioServer
from perdure.errors import AccessDenied, Conflict, InvalidInput, LabelStudioUnavailable
from perdure.labeling.labelstudio import projects
from perdure.messages.labeling import CampaignCommand, DeliveryState, Reconciled, TasksSent
from perdure.metadata.repository import AccessRows
from tests.labelstudio.conftest import Place
from tests.labelstudio.fake import Fake


def requests(fake: Fake, start: str) -> int:
    return sum(asked.startswith(start) for asked in fake.asked)


# --- out ---------------------------------------------------------------------------------------------------------------


def test_a_campaign_is_made_there_once(place: Place) -> None:
    place.open(overlap={"labels": 2, "most": 3}, instructions="Look twice.")
    place.add("t3", gold="pos", prediction={"label": "neg"})
    assert place.push() == TasksSent(sent=4)
    assert place.push() == TasksSent()
    [project] = place.fake.projects.values()
    assert (project["title"], project["maximum_annotations"], project["expert_instruction"]) == (place.name, 2, "Look twice.")
    assert {task["meta"]["task_key"] for task in place.fake.tasks.values()} == {"t0", "t1", "t2", "t3"}
    assert all("gold" not in task["data"] and not task["predictions"] for task in place.fake.tasks.values())
    [hook] = place.fake.hooks.values()
    assert hook["url"] == f"http://gateway:8400/v1/hooks/ls-{place.id.hex}"
    place.add("t4")
    assert place.push() == TasksSent(sent=1)
    assert len(place.fake.projects) == 1


def test_two_projects_that_are_made_at_once_are_one_campaigns(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a task that was answered in the other one would seem to have lost its answer."""
    place.open()
    create, raced = LabelStudioServer.create_project, list[int]()

    def both(self: LabelStudioServer, *what: Any) -> int:
        raced.append(create(self, *what))  # another attempt, which then goes on with its own
        return create(self, *what)

    monkeypatch.setattr(LabelStudioServer, "create_project", both)
    assert place.push() == TasksSent(sent=3)
    assert len(place.fake.projects) == 2
    assert {task["project"] for task in place.fake.tasks.values()} == set(raced)
    place.by_hook(place.fake.annotate("t0", "pos"))
    assert place.reconcile(whole=True) == Reconciled()
    assert place.statuses() == {"t0": ["valid"]}


def test_what_a_model_answers_is_shown_to_nobody(place: Place) -> None:
    place.open(tasks=1, model={"accept_above": 0.9, "audit": 0})
    place.add("sure", prediction={"label": "pos", "score": 0.95})
    place.add("unsure", prediction={"label": "pos", "score": 0.5})
    assert place.push() == TasksSent(sent=2)
    assert {task["meta"]["task_key"] for task in place.fake.tasks.values()} == {"t0", "unsure"}


def test_a_project_whose_making_was_not_heard_of_is_found_again(place: Place) -> None:
    place.open()
    place.fake.deaf_after = "/api/projects/"
    with pytest.raises(LabelStudioUnavailable):
        place.push()  # what is not heard is that there is none yet
    place.fake.asked.clear()
    place.fake.deaf_after = None
    answer = place.fake.answer

    def deaf(method: str, path: str, *more: Any) -> Any:
        said = answer(method, path, *more)
        if (method, path) == ("POST", "/api/projects/"):
            place.fake.down = True
            place.fake.deaf_after = "/api/projects/"
        return said

    place.fake.answer = deaf  # type: ignore[method-assign]
    with pytest.raises(LabelStudioUnavailable):
        place.push()
    place.fake.answer, place.fake.down = answer, False  # type: ignore[method-assign]
    assert place.push() == TasksSent(sent=3)
    assert len(place.fake.projects) == 1


def test_an_import_that_was_not_heard_of_is_not_repeated(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activities, "PAGE", 2)
    place.open(tasks=5)
    place.push()
    place.add("a", "b", "c")
    place.fake.deaf_after = "/import"
    with pytest.raises(LabelStudioUnavailable):
        place.push()
    assert place.push() == TasksSent(sent=3)
    assert sorted(task["meta"]["task_key"] for task in place.fake.tasks.values()) == ["a", "b", "c", "t0", "t1", "t2", "t3", "t4"]


def test_a_push_that_was_killed_between_pages_is_gone_on_with(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activities, "PAGE", 2)
    place.open(tasks=7)
    answer, imports = place.fake.answer, []

    def dying(method: str, path: str, *more: Any) -> Any:
        if path.endswith("/import"):
            imports.append(path)
            if len(imports) == 3:
                raise KeyboardInterrupt  # before anything was done; the handler dies, and the client hears nothing
        return answer(method, path, *more)

    place.fake.answer = dying  # type: ignore[method-assign]
    monkeypatch.setattr("threading.excepthook", lambda *_: None)
    with pytest.raises(LabelStudioUnavailable):
        place.push()
    assert len(place.fake.tasks) == 4
    assert place.push() == TasksSent(sent=3)
    assert len(imports) == 5  # two pages, the one that was lost, that one again, the rest
    assert sorted(task["meta"]["task_key"] for task in place.fake.tasks.values()) == [f"t{n}" for n in range(7)]


def test_what_cannot_be_shown_holds_up_nothing(place: Place) -> None:
    place.open(tasks=2)
    place.add("empty", payload={"other": 1})
    place.add("odd", payload={"text": "poison"})  # which Label Studio refuses, and all that came with it
    assert place.push() == TasksSent(sent=2, refused=2)
    assert place.push() == TasksSent()
    rows = dict(place.senders.rows("select t.key, problem from external_ref join task t on t.id = task_id where problem is not null"))
    assert "no text `text`" in rows["empty"]
    assert "too bad" in rows["odd"]


def test_more_people_are_asked_where_more_opinions_are_wanted(place: Place) -> None:
    place.open(tasks=2, overlap={"labels": 2, "most": 3, "agreement": 0.9})
    place.push()
    for user, value in ((1, "pos"), (2, "neg")):
        place.by_hook(place.fake.annotate("t0", value, user))
    place.campaigns.tick(place.id)
    place.push()
    assert (place.fake.task("t0")["overlap"], place.fake.task("t0")["is_labeled"], place.fake.task("t1")["overlap"]) == (3, False, 2)
    place.push()
    assert requests(place.fake, "PATCH /api/tasks") == 1
    for user, value in ((1, "pos"), (2, "neg")):
        place.by_hook(place.fake.annotate("t1", value, user))
    del place.fake.tasks[place.fake.task("t1")["id"]]  # somebody tidied up
    place.campaigns.tick(place.id)
    place.push()
    place.push()
    assert requests(place.fake, "PATCH /api/tasks") == 2


def test_another_is_asked_for_an_opinion_that_does_not_count(place: Place) -> None:
    """A labeler who failed on gold: Label Studio has their opinion, and would ask nobody else."""
    place.open(tasks=1, gold={"rate": 0, "least": 1, "warn": 1, "block": 1})
    place.add("known", gold="pos")
    place.push()
    place.by_hook(place.fake.annotate("t0", "neg"))
    place.by_hook(place.fake.annotate("known", "neg"))
    place.campaigns.tick(place.id)
    assert place.statuses()["t0"] == ["blocked"]
    place.push()
    assert place.fake.task("t0")["overlap"] == 2


def test_a_hook_that_may_not_be_keeps_no_task_back(place: Place) -> None:
    place.open()
    place.fake.closed_to_private = True
    for _ in range(2):
        with pytest.raises(AccessDenied, match="reserved network address"):
            place.push()
    place.fake.annotate("t0", "pos")
    assert place.reconcile() == Reconciled(found=1)
    sending, reading = place.problems()
    assert "reserved network address" in str(sending)
    assert reading is None
    told = place.senders.rows(
        "select target, payload->>'problem' from outbox where topic = 'notify' and payload->>'campaign' = :n", n=place.name
    )
    assert [target for target, _ in told] == ["ann"], "once, and not at each attempt"
    place.fake.closed_to_private = False
    place.push()
    assert place.problems() == (None, None)


def test_no_secret_no_hook(place: Place) -> None:
    place.settings = place.settings.model_copy(update={"secret": None})
    place.open()
    place.push()
    assert place.fake.hooks == {}
    place.fake.annotate("t0", "pos")
    assert place.reconcile() == Reconciled(found=1)


def test_a_secret_that_is_rotated_is_told_and_a_retired_hook_is_not(place: Place) -> None:
    place.open()
    place.push()
    access, hook = AccessRows(place.database), f"ls-{place.id.hex}"
    access.rotate_hook(hook, str(place.settings.token), place.fake.now)
    place.push()
    [registered] = place.fake.hooks.values()
    assert registered["headers"]["Authorization"].startswith("Bearer 0123456789abcdef")
    access.retire_hook(hook)
    place.fake.hooks.clear()
    place.push()
    assert place.fake.hooks == {}


def test_a_project_that_is_there(place: Place) -> None:
    place.open()
    project = place.servers(place.settings).create_project(
        "theirs", "of ours", projects.config(place.campaigns.campaign(place.id).spec), "", 1
    )
    other = Place(place.database, place.senders, place.fake, place.servers, place.settings)
    other.open(labelstudio={"project": project})
    another = Place(place.database, place.senders, place.fake, place.servers, place.settings)
    another.open(choices=["good"], labelstudio={"project": project})
    other.push()
    assert len(place.fake.projects) == 1
    with pytest.raises(InvalidInput, match="lacks good") as refused:
        another.push()
    assert '<Choice value="good"/>' in str(refused.value.remedy)


def test_campaigns_that_share_a_project_keep_their_answers_apart(place: Place) -> None:
    place.open(tasks=1)
    place.push()
    [project] = place.fake.projects
    place.fake.projects[project]["parsed_label_config"] = {"label": {"type": "Choices", "to_name": ["shown"], "labels": ["pos", "neg"]}}
    other = Place(place.database, place.senders, place.fake, place.servers, place.settings)
    other.open(tasks=1, labelstudio={"project": project})
    other.push()
    of_other = next(task for task in place.fake.tasks.values() if task["meta"]["perdure_campaign"] == str(other.id))
    of_other["meta"] = {**of_other["meta"], "task_key": "x"}  # so that the fake annotates the first
    message = place.fake.annotate("t0", "pos")
    of_other["meta"] = {**of_other["meta"], "task_key": "t0"}
    assert other.reconcile(whole=True) == Reconciled()
    assert other.deliveries() == []
    assert other.by_hook(message).state is DeliveryState.PROCESSED  # both hooks hear of both
    assert place.reconcile() == Reconciled(found=1)
    assert (place.statuses(), other.statuses()) == ({"t0": ["valid"]}, {})


def test_another_server_is_not_taken_for_the_same(place: Place) -> None:
    place.open()
    place.push()
    [project] = place.fake.projects.values()
    place.settings = place.settings.model_copy(update={"url": f"{place.settings.url}/"})  # the same
    place.push()
    moved = str(place.settings.url).replace("127.0.0.1", "localhost")
    place.settings = place.settings.model_copy(update={"url": moved})
    description, project["description"] = project["description"], "somebody else's"
    with pytest.raises(Conflict, match="the campaign's project is at"):
        place.reconcile()
    project["description"] = description  # it is the same server under another name
    place.reconcile()
    project["description"] = "changed by its owner"
    place.reconcile()


# --- in ----------------------------------------------------------------------------------------------------------------


def test_a_hook_that_was_lost_is_found(place: Place) -> None:
    place.open()
    place.push()
    place.fake.annotate("t0", "pos", lead_time=2.5)
    place.fake.annotate("t1", None, result=[], was_cancelled=True)
    assert place.reconcile() == Reconciled(found=2)
    assert place.reconcile() == Reconciled()
    assert place.statuses() == {"t0": ["valid"], "t1": ["skipped"]}
    assert place.senders.rows("select duration_ms from annotation where campaign_id = :id order by 1", id=place.id)[0] == (2_500,)
    assert place.deliveries() == [("processed", "")] * 2


@pytest.mark.parametrize("hook_first", [True, False])
def test_by_hook_and_by_looking_counts_once(place: Place, hook_first: bool) -> None:
    """The same names on both ways: a message that comes by the other later is a duplicate."""
    place.open()
    place.push()
    made = place.fake.annotate("t0", "pos")
    if hook_first:
        place.by_hook(made)
    place.reconcile()
    again = place.by_hook(made)
    assert (again.duplicate, len(place.deliveries())) == (True, 1)
    changed = place.fake.change(made["annotation"]["id"], "neg")
    place.reconcile()
    again = place.by_hook(changed)
    assert (again.duplicate, len(place.deliveries())) == (True, 2)
    assert place.statuses() == {"t0": ["superseded", "valid"]}
    assert place.senders.counted(place.name) == {"t0": 1, "t1": 0, "t2": 0}


def test_down_for_ten_minutes(place: Place) -> None:
    place.open()
    place.push()
    place.by_hook(place.fake.annotate("t0", "pos"))
    place.reconcile()
    place.fake.down = True
    for _ in range(5):
        with pytest.raises(LabelStudioUnavailable):
            place.reconcile()
        place.fake.tick(minutes=2)
    assert "does not answer" in str(place.problems()[1])
    place.fake.annotate("t1", "pos")  # it was the network only: people went on, and their hooks went nowhere
    place.fake.tick(minutes=3)
    place.fake.annotate("t2", "neg")
    place.fake.down = False
    assert place.reconcile() == Reconciled(found=2)
    assert place.problems() == (None, None)
    assert place.statuses() == {"t0": ["valid"], "t1": ["valid"], "t2": ["valid"]}


def test_a_look_begins_ten_minutes_before_the_last(place: Place) -> None:
    """By Label Studio's clock: what a transaction there had not committed yet."""
    place.open()
    place.push()
    place.fake.tick(hours=1)
    place.reconcile()
    late = [(place.fake.now - timedelta(minutes=minutes)).isoformat().replace("+00:00", "Z") for minutes in (9, 11)]
    for key, at in zip(("t0", "t1"), late, strict=True):
        place.fake.annotate(key, "pos")
        place.fake.task(key)["updated_at"] = at
    place.fake.asked.clear()
    assert place.reconcile() == Reconciled(found=1)
    assert place.statuses() == {"t0": ["valid"]}
    place.fake.tick(hours=1)
    place.fake.annotate("t1", "pos", user=2)
    assert place.reconcile() == Reconciled(found=2)


def test_a_task_that_changes_while_pages_are_read_hides_no_other(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activities, "PAGE", 2)
    place.open(tasks=6)
    place.push()
    for n in range(6):
        place.fake.annotate(f"t{n}", "pos")
    answer, pages = place.fake.answer, []

    def moving(method: str, path: str, *more: Any) -> Any:
        said = answer(method, path, *more)
        if path == "/api/tasks":
            pages.append(said)
            if len(pages) == 1:  # those of the first page come last now, and all others two places earlier
                place.fake.annotate("t0", "neg", user=2)
                place.fake.annotate("t1", "neg", user=2)
        return said

    place.fake.answer = moving  # type: ignore[method-assign]
    place.reconcile()
    assert place.statuses() == {"t0": ["valid"] * 2, "t1": ["valid"] * 2, **{f"t{n}": ["valid"] for n in range(2, 6)}}


def test_pages_go_on_where_a_killed_look_ended(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activities, "PAGE", 3)
    place.open(tasks=12)
    place.push()
    for n in range(12):
        place.fake.annotate(f"t{n}", "pos")
        place.fake.tick(hours=1)
    answer, looks = place.fake.answer, []

    def dying(method: str, path: str, query: dict[str, str], *more: Any) -> Any:
        if path == "/api/tasks":
            looks.append(query["query"])
            place.fake.down = len(looks) == 3
        return answer(method, path, query, *more)

    place.fake.answer = dying  # type: ignore[method-assign]
    with pytest.raises(LabelStudioUnavailable):
        place.reconcile()
    found = len(place.statuses())
    assert found > 3
    place.fake.down = False
    first = len(looks)
    place.reconcile()
    assert "filters" in looks[first], "not from the beginning"
    assert place.statuses() == {f"t{n}": ["valid"] for n in sorted(range(12), key=str)}


def test_tasks_that_changed_at_one_moment_fill_several_pages(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activities, "PAGE", 2)
    place.open(tasks=6)
    place.push()
    for n in range(6):
        place.fake.annotate(f"t{n}", "pos")
    for task in place.fake.tasks.values():
        task["updated_at"] = "2026-11-22T13:00:00.000000Z"
    assert place.reconcile() == Reconciled(found=6)


def test_what_is_no_answer_is_quarantined_once(place: Place) -> None:
    place.open()
    place.push()
    unknown, two = place.fake.annotate("t0", "maybe"), place.fake.annotate("t1", "pos")
    made = place.fake.task("t1")["annotations"][0]
    made["result"] = made["result"] * 2
    assert place.reconcile() == Reconciled(quarantined=2)
    assert place.reconcile() == Reconciled()
    assert place.by_hook(unknown).duplicate
    two["annotation"]["result"] = made["result"]
    assert place.by_hook(two).duplicate
    assert sorted(error for _, error in place.deliveries()) == [
        f"ANNOTATION_CREATED: annotation {made['id']} holds 2 results, one is wanted",
        "t0: the answer must be one of: pos, neg",
    ]


def test_an_answer_that_came_before_its_task(place: Place) -> None:
    """The hook's message could not be used then; who looks later finds it there, and tries it again."""
    place.open(tasks=1)
    place.push()
    message = place.fake.annotate("t0", "pos")
    place.fake.task("t0")["meta"]["task_key"] = message["task"]["meta"]["task_key"] = "later"
    assert place.by_hook(message).state is DeliveryState.QUARANTINED
    assert place.reconcile() == Reconciled()
    place.add("later")
    assert place.reconcile() == Reconciled(found=1)
    assert place.statuses() == {"later": ["valid"]}
    assert place.deliveries() == [("processed", "")]


def test_a_deletion_is_found_in_the_export_alone(place: Place) -> None:
    place.open()
    place.push()
    for key in ("t0", "t1", "t2"):
        place.by_hook(place.fake.annotate(key, "pos"))
    gone = place.fake.task("t0")["annotations"][0]["id"]
    place.fake.delete(gone)
    assert place.reconcile() == Reconciled()
    assert place.reconcile(whole=True) == Reconciled(deleted=1)
    assert place.reconcile(whole=True) == Reconciled()
    assert place.senders.counted(place.name) == {"t0": 0, "t1": 1, "t2": 1}
    message = {"action": "ANNOTATIONS_DELETED", "annotations": [{"id": gone}], "project": {"id": 1}}
    assert place.by_hook(message).duplicate


def test_the_export_finds_what_no_look_has_found(place: Place) -> None:
    place.open()
    place.push()
    place.reconcile()
    place.fake.tick(hours=2)
    place.fake.annotate("t0", "pos")
    place.fake.task("t0")["updated_at"] = "2026-11-22T11:00:00.000000Z"  # before all that is looked at
    assert place.reconcile() == Reconciled()
    assert place.reconcile(whole=True) == Reconciled(found=1)


def test_what_comes_while_the_export_is_made_is_not_taken_for_deleted(place: Place) -> None:
    place.open()
    place.push()
    answer = place.fake.answer

    def meanwhile(method: str, path: str, *more: Any) -> Any:
        said = answer(method, path, *more)
        if path.endswith("/export"):
            said = (said[0], [{**task, "annotations": list(task["annotations"])} for task in said[1]])
            place.by_hook(place.fake.annotate("t0", "pos"))
        return said

    place.fake.answer = meanwhile  # type: ignore[method-assign]
    place.reconcile(whole=True)
    assert place.statuses() == {"t0": ["valid"]}


def test_who_deletes_tasks_takes_no_answers_back(place: Place) -> None:
    """The hook is told of no deleted answers then, either."""
    place.open()
    place.push()
    place.by_hook(place.fake.annotate("t0", "pos"))
    del place.fake.tasks[place.fake.task("t0")["id"]]
    assert place.reconcile(whole=True) == Reconciled()
    assert place.statuses() == {"t0": ["valid"]}


def test_a_task_under_a_new_id_is_the_same_task(place: Place) -> None:
    """Label Studio on SQLite gives the id of the newest task again, once that is deleted."""
    place.open(tasks=1)
    place.push()
    place.by_hook(place.fake.annotate("t0", "pos", user=1))
    task = place.fake.tasks.popitem()[1]
    again = {**task, "id": 900, "annotations": [], "meta": dict(task["meta"])}
    place.fake.tasks[900] = again
    place.fake.annotate("t0", "neg", user=1)
    place.reconcile()
    assert place.statuses() == {"t0": ["superseded", "valid"]}


def test_tasks_of_others_in_the_project_are_left_alone(place: Place) -> None:
    place.open(tasks=1)
    place.push()
    template = place.fake.task("t0")
    for id, meta in ((700, None), (701, {}), (702, {"task_key": 3}), (703, {"task_key": "t0", "perdure_campaign": "x"})):
        place.fake.tasks[id] = {**template, "id": id, "meta": meta, "annotations": [dict(place.fake.annotate("t0", "pos")["annotation"])]}
        template["annotations"].clear()
    assert place.reconcile(whole=True) == Reconciled()
    assert place.deliveries() == []


def test_after_the_end_an_answer_is_late(place: Place) -> None:
    place.open(tasks=1)
    place.push()
    place.campaigns.command(place.id, "close", "c1", CampaignCommand(actor="ann"))
    place.campaigns.close(place.id, "enough")
    assert place.by_hook(place.fake.annotate("t0", "pos")).state is DeliveryState.PROCESSED
    assert place.statuses() == {"t0": ["late"]}
