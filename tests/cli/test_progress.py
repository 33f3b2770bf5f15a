"""What people are told between two looks at a run, in a log and on a terminal."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.console import Console

from perdure.cli import output
from perdure.cli.progress import Changes, Event, Job, Pace, People, Snapshot, Step, Votes, end_line, progress_line, result_line
from perdure.cli.screen import draw, screen
from perdure.cli.watching import View

START = datetime(2026, 11, 22, 16, 0, tzinfo=UTC)


class Clock:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def a_run(*steps: Step, state: str = "running", **more: Any) -> Snapshot:
    known = {step.name: step for step in steps}
    names = ("prepare", "train", "evaluate", "promote")
    return Snapshot(
        id="1",
        workflow_id="run/m/k",
        state=state,
        pipeline="m",
        pipeline_version=3,
        requested_by="ada",
        started=START,
        steps=tuple(known.get(name) or Step(name=name) for name in names),
        **more,
    )


def training(done: int | None = None, **more: Any) -> Step:
    return Step(name="train", state=more.pop("state", "running"), started=START, done=done, total=200, **more)


class Teller:
    """Feeds snapshots and returns what is told of each."""

    def __init__(self, clock: Clock) -> None:
        self.pace, self.changes = Pace(clock), Changes(every=10, clock=clock)

    def __call__(self, run: Snapshot) -> list[str]:
        for step in run.steps:
            self.pace.note(step)
        return [event.text for event in self.changes.of(run, self.pace)]


def test_a_story_is_told_once(clock: Clock) -> None:
    tell = Teller(clock)
    at = START + timedelta(seconds=6)
    prepared = Step(name="prepare", state="succeeded", started=START, finished=at, outcome="80 rows to learn from, 20 to test on")
    assert tell(a_run()) == ["run/m/k, version 3 of m, started by ada"]
    assert tell(a_run(Step(name="prepare", state="running", started=START, reason="miss: code changed since run/m/j"))) == [
        "prepare: started (miss: code changed since run/m/j)"
    ]
    assert tell(a_run(prepared)) == ["prepare: succeeded in 6.0 s: 80 rows to learn from, 20 to test on"]
    assert tell(a_run(prepared)) == []
    assert tell(a_run(prepared, training(0))) == ["train: started", "train: 0/200 rounds"]
    clock.now = 5
    assert tell(a_run(prepared, training(40, checkpoint=40))) == [], "steady progress is told every ten seconds"
    clock.now = 10
    assert tell(a_run(prepared, training(80, checkpoint=80, metrics={"logloss": 0.25}))) == [
        "train: 80/200 rounds, 8.0/s, about 15 s left, checkpoint at 80, logloss 0.25"
    ]
    clock.now = 11
    assert tell(a_run(prepared, training(200))) == ["train: 200/200 rounds, 18.2/s"], "the end of it is told at once"


def test_a_reused_step_has_no_beginning(clock: Clock) -> None:
    reused = Step(name="prepare", state="succeeded", started=START, finished=START, reused=True, reason="hit: same as run/m/j")
    assert Teller(clock)(a_run(reused))[1:] == ["prepare: reused: hit: same as run/m/j"]


def test_waiting_and_answering_again(clock: Clock) -> None:
    tell = Teller(clock)
    tell(a_run(training()))
    assert tell(a_run(training(waiting_for="Ray", waiting_since=START))) == ["train: waiting for Ray"]
    assert tell(a_run(training(waiting_for="Ray", waiting_since=START))) == []
    assert tell(a_run(training())) == ["train: no longer waiting for Ray"]


def test_a_queue_is_told_only_when_it_lasts(clock: Clock) -> None:
    tell = Teller(clock)
    assert tell(a_run(training(phase="pending")))[1:] == ["train: started"]
    clock.now = 2
    assert tell(a_run(training(phase="pending"))) == []
    clock.now = 4
    assert tell(a_run(training(phase="pending"))) == ["train: waiting for a place to run"]
    assert tell(a_run(training(phase="loading"))) == ["train: loading"]


@pytest.mark.parametrize(
    ("first", "told"),
    [
        (
            Job(name="train", number=1, state="failed", round=80, exit_code=-9),
            "the job died after round 80 (exit code -9); started again, number 2",
        ),
        (Job(name="train", number=1, state="lost"), "the job was lost; started again, number 2"),
        (Job(name="train", number=1, state="stalled", round=80), "the job stood still after round 80; started again, number 2"),
        (Job(name="train", number=1, state="stopped", round=60, message="paused"), "went on where it was paused after round 60"),
    ],
)
def test_restarts_say_why(clock: Clock, first: Job, told: str) -> None:
    tell = Teller(clock)
    tell(a_run(training(jobs=(first,))))
    again = Job(name="train", number=2, state="open")
    assert tell(a_run(training(jobs=(first, again)))) == [f"train: {told}"]
    assert tell(a_run(training(jobs=(first, again)))) == []


def test_pause_and_resume(clock: Clock) -> None:
    tell = Teller(clock)
    tell(a_run(training()))
    assert tell(a_run(training(), state="paused")) == ["the run is paused: jobs stop at their next checkpoint"]
    assert tell(a_run(training())) == ["the run goes on"]


def test_people_are_asked(clock: Clock) -> None:
    tell = Teller(clock)
    votes = Votes(approvals=0, rejections=0, required=2, deadline=None, evidence="0123456789abcdef")
    assert tell(a_run(votes=votes))[1:] == ["promote: waiting for people: 0 of 2 approvals (evidence 0123456789ab)"]
    assert tell(a_run(votes=replace(votes, approvals=1))) == ["promote: waiting for people: 1 of 2 approvals (evidence 0123456789ab)"]


def test_the_past_keeps_its_time(clock: Clock) -> None:
    ended = Step(name="prepare", state="failed", started=START, finished=START + timedelta(minutes=2), outcome="SourceMissing: gone")
    events = list(Changes(clock=clock).of(a_run(ended, state="failed"), Pace(clock)))
    assert events == [
        Event("run/m/k, version 3 of m, started by ada", START),
        Event("prepare: started", START),
        Event("prepare: failed in 2 min 00 s: SourceMissing: gone", START + timedelta(minutes=2)),
    ]


def test_pace_forgets_what_is_old_and_what_was_undone(clock: Clock) -> None:
    pace = Pace(clock)
    for second, done in enumerate(range(0, 1000, 10)):
        clock.now = second
        pace.note(training(done))
    assert pace.rate(training(990)) == pytest.approx(10)
    clock.now = 100
    pace.note(training(900))
    assert pace.rate(training(900)) is None, "a restart from a checkpoint begins anew"
    clock.now = 102
    pace.note(training(910))
    assert pace.rate(training(910)) == pytest.approx(5)
    clock.now = 120
    pace.note(training(910))
    assert pace.rate(training(910)) == pytest.approx(0.5), "standing still makes it slower"
    assert pace.rate(training(910, waiting_for="Ray")) is None


def test_results() -> None:
    done = {"finished": START + timedelta(minutes=1), "model": "m", "model_version": 4, "metrics": {"f1": 0.5}}
    released = a_run(state="succeeded", released=True, reason="all gates passed", **done)
    assert released.is_good
    assert result_line(released) == "run/m/k succeeded in 1 min 00 s: m version 4 is released: all gates passed (f1 0.5)"
    refused = a_run(state="succeeded", released=False, reason="gates failed: f1 0.5 < 0.9", **done)
    assert not refused.is_good
    assert "is not released: gates failed" in result_line(refused)
    assert result_line(a_run(state="failed", finished=START)) == "run/m/k failed in 0.0 s"
    assert not a_run(state="paused").ended
    assert a_run(state="terminated").ended


def test_lines_without_figures(clock: Clock) -> None:
    assert progress_line(training(), Pace(clock)) == ""
    assert progress_line(Step(name="prepare", state="running", phase="fit"), Pace(clock)) == "fitting the transform"
    asking = Step(name="evaluate", state="running", phase="people", done=3, total=50)
    assert progress_line(asking, Pace(clock)) == "3/50 pairs"
    assert end_line(Step(name="train", state="cancelled")) == "cancelled"


class FakeWatcher:
    """What the screen needs of a watcher."""

    def __init__(self, run: Snapshot | None, clock: Clock) -> None:
        self.name, self.run, self.pace, self.silent = "run/m/k", run, Pace(clock), {"Postgres": 0.0}


def shown(watcher: Any, news: list[str]) -> str:
    console = Console(file=io.StringIO(), width=120, force_terminal=False)
    console.print(draw(watcher, news, now=START + timedelta(seconds=90)))
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_the_picture(clock: Clock) -> None:
    lost = Job(name="train", number=1, state="lost", round=80)
    step = training(100, checkpoint=100, jobs=(lost, Job(name="train", number=2, state="open")))
    prepared = Step(name="prepare", state="succeeded", started=START, finished=START + timedelta(seconds=6), outcome="80 rows")
    text = shown(FakeWatcher(a_run(prepared, step), clock), ["16:01:00  something happened"])
    assert "run/m/k  running  1 min 30 s  version 3, by ada" in text
    assert "✓ prepare   6.0 s" in text
    assert "━━━━━━━━━━━━────────────  100/200 rounds, checkpoint at 100" in text
    assert "train: the job was lost after round 80; started again, number 2" in text
    assert "Postgres does not answer" in text
    assert "something happened" in text
    assert "○ promote" in text


def test_the_picture_before_the_first_row(clock: Clock) -> None:
    assert "waiting for its first row" in shown(FakeWatcher(None, clock), [])


def test_the_picture_of_waiting(clock: Clock) -> None:
    votes = Votes(approvals=0, rejections=0, required=1, deadline=None, evidence="e" * 64)
    text = shown(FakeWatcher(a_run(training(5, waiting_for="Ray", waiting_since=START), votes=votes), clock), [])
    assert "waiting for Ray since" in text
    assert "perdure approve run/m/k" in text


def test_a_log_has_one_line_a_change_and_no_control_characters(clock: Clock) -> None:
    stream = io.StringIO()
    with screen(FakeWatcher(None, clock), stream) as say:  # type: ignore[arg-type]
        say(View(run=None, news=[Event("first", START), Event("of two\nlines")]))
        say(View(run=None, news=[]))
    first, second = stream.getvalue().splitlines()
    assert first == "2026-11-22T16:00:00Z first"
    assert second.endswith("Z of two lines")
    assert all(character.isprintable() for line in (first, second) for character in line)


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_terminal_is_drawn_in_place(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    with screen(FakeWatcher(a_run(training(5)), clock), stream) as say:  # type: ignore[arg-type]
        say(View(run=None, news=[Event("it began")]))
    assert "\x1b[" in stream.getvalue()
    assert "it began" in stream.getvalue()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (60, "1 min 00 s"),
        (3599, "59 min 59 s"),
        (7800, "2 h 10 min"),
        (270000, "3 d 3 h"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert output.lasting(seconds) == text
    assert output.lasting(timedelta(seconds=seconds)) == text


def test_moments_name_the_day_only_where_it_is_another() -> None:
    assert output.when(START, now=START) == f"{START.astimezone():%H:%M:%S}"
    assert output.when(START, now=START + timedelta(days=2)) == f"{START.astimezone():%Y-%m-%d %H:%M:%S}"
    assert output.when(None) == ""


def test_tables_in_a_file_are_not_cut(capsys: pytest.CaptureFixture[str]) -> None:
    output.table(("name", "n"), [("x" * 150, 1), ("[bold]y[/bold]", None)], right=("n",))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["name", "n"]
    assert lines[1] == f"{'x' * 150}  1"
    assert lines[2] == "[bold]y[/bold]", "what comes from outside is no markup"
    output.table(("name",), [], empty="none here")
    assert capsys.readouterr().err == "none here\n"


def test_json_of_everything(capsys: pytest.CaptureFixture[str]) -> None:
    output.emit({"step": training(1), "at": START, "left": timedelta(minutes=1), "names": {"b", "a"}})
    text = capsys.readouterr().out
    assert '"at": "2026-11-22T16:00:00+00:00"' in text
    assert '"left": 60.0' in text
    assert '"done": 1' in text
    output.emit_rows([{"a": 1}, {"a": 2}])
    assert capsys.readouterr().out == '[\n{"a": 1},\n{"a": 2}\n]\n'
    output.emit_rows([])
    assert capsys.readouterr().out == "[]\n"


def test_rounds_are_told_apart_and_people_are_waited_for(clock: Clock) -> None:
    tell = Teller(clock)
    asked = People(campaign="m-k-r0-1f", decided=0, total=100, deadline=datetime(2026, 12, 6, 12, tzinfo=UTC))
    label = Step(name="label", state="running", started=START, people=asked, done=0, total=100)
    steps = [training(200, state="succeeded", outcome="m version 1, 200 rounds"), label]
    run = a_run()
    told = tell(replace(run, steps=tuple(steps)))
    until = asked.deadline.astimezone().strftime("%Y-%m-%d %H:%M") if asked.deadline else ""
    waits = f"label: waiting for people until {until}: {{}} of 100 answered; perdure campaigns show m-k-r0-1f"
    assert told[-2:] == ["label: started", waits.format(0)]
    clock.now += 11
    steps[1] = replace(label, people=replace(asked, decided=37), done=37)
    assert tell(replace(run, steps=tuple(steps))) == [waits.format(37)]
    steps[1] = replace(label, state="succeeded", people=None, done=None, outcome="100 of 100 answered: every task has its label")
    again = replace(training(), round=1)
    assert tell(replace(run, steps=(*steps, again))) == [
        "label: succeeded: 100 of 100 answered: every task has its label",
        "train (round 1): started",
    ]
