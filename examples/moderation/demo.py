"""`make demo`: from messages of which 500 are labeled to a released model on this machine.

A training worker and the Temporal worker are killed on the way. People, played by `labeler.py`, are asked about the most useful messages.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
from labeler import TRUTH, Labeler

from perdure import packaging, predictor
from perdure.adapters.s3 import ObjectStore
from perdure.config import Settings, find_home
from perdure.errors import PerdureError
from perdure.jobs.metrics import classification
from perdure.jobs.preparation.rows import TEST, membership
from perdure.local import stack
from perdure.messages.common import ArtifactRef
from perdure.metadata.database import Database
from perdure.metadata.queries import RunDetail, StepDetail, show_model, show_run
from perdure.spec.pipeline import load_file
from perdure.temporal import connect

HERE = Path(__file__).parent
PIPELINE = HERE / "loop.yaml"
METRICS = ("f1", "pr_auc", "roc_auc", "accuracy")
ROUNDS = 600
MESSAGES = [
    {"text": "Hey, are we still meeting for lunch at noon? I'm bringing the notes you asked for."},
    {"text": "URGENT! You have won a 1 week FREE membership in our £100,000 prize draw! Text WIN to 81010 now. T&Cs apply"},
]
POLL = 0.3  # seconds
LIMIT = 900.0  # seconds for the whole run, on a very slow machine


def say(text: str = "") -> None:
    """One line of the story, with the time of day."""
    print(f"{time.strftime('%H:%M:%S')}  {text}" if text else "", flush=True)


@dataclass
class Story:
    """What has been told and done so far."""

    settings: Settings
    home: Path
    told: set[str] = field(default_factory=set)
    killed_at: dict[str, tuple[float, int]] = field(default_factory=dict)
    back_after: dict[str, float] = field(default_factory=dict)
    redone: int = 0
    victim: int = 0  # pid of the killed training worker, until the group goes on without it
    last_round: int = 0  # the last round that the killed group reported
    people: Labeler = field(default_factory=lambda: Labeler(say=say))
    asked: set[str] = field(default_factory=set)  # campaigns

    def once(self, key: str, text: str) -> None:
        """Say *text* the first time that *key* comes up."""
        if key not in self.told:
            self.told.add(key)
            say(text)

    def look(self, detail: RunDetail) -> None:
        """Tell what is new, and kill what is due."""
        for step in detail.steps:
            title = f"{step.step}, round {step.round}" if step.round else str(step.step)
            self.once(title, f"{title}: started")
            if step.state == "succeeded":
                took = (step.finished_at - step.started_at).total_seconds() if step.finished_at else 0
                self.once(f"{title}:done", f"{title}: done in {took:.1f} s{_came_to(step)}")
                if step.step == "train":
                    self._notice(ROUNDS + 1)  # training itself never stopped; that its end was recorded takes a worker
            elif step.step == "train" and step.round == 0:
                self._training(step.detail, step.checkpoints)
            elif step.step == "label" and step.campaign and step.campaign["total"]:
                self._people(title, step.campaign)

    def _people(self, title: str, campaign: dict[str, Any]) -> None:
        """Have each campaign answered once, and tell how far it is."""
        if campaign["name"] not in self.asked:
            self.asked.add(campaign["name"])
            say(f"{title}: waits for people: {campaign['total']} messages in campaign {campaign['name']}")
            threading.Thread(target=self.people.answer, args=(campaign["name"],), daemon=True).start()
        share = campaign["decided"] * 4 // campaign["total"]
        if 0 < share < 4:
            self.once(f"{campaign['name']}:{share}", f"{title}: {campaign['decided']} of {campaign['total']} answered")

    def _training(self, detail: dict[str, Any], checkpoints: list[dict[str, Any]]) -> None:
        committed = int(checkpoints[-1]["round"]) if checkpoints else 0
        round, phase = max(int(detail.get("round") or 0), committed), detail.get("phase", "")
        if phase:
            self.once(f"phase:{phase}:{len(self.killed_at)}", f"train: {phase}")
        if round >= 100:
            told = [f"train: round {round} of {ROUNDS}", f"last checkpoint {committed}", _figures(detail.get("metrics") or {})]
            self.once(f"round:{round // 100}", ", ".join(filter(None, told)))  # a trainer that just began again has no figures yet
        if self.victim and self.victim in (detail.get("workers") or []):
            self.last_round = max(self.last_round, round)  # what it reported before it died comes in a little late
        elif self.victim and phase == "training":
            self.redone, self.victim = max(0, self.last_round - committed), 0
        if not self.victim:
            self._notice(round)
        workers = detail.get("workers") or []
        if "training worker" not in self.killed_at and committed >= 40 and workers:
            self.victim, self.last_round = int(workers[-1]), round
            self._kill("training worker", self.victim, round)
        elif "training worker" in self.back_after and "Temporal worker" not in self.killed_at and round > 300:
            service = next(service for service in stack.status(self.home) if service.name == "worker")
            if service.pid is not None:
                self._kill("Temporal worker", service.pid, round)

    def _notice(self, round: int) -> None:
        """Tell which killed part is back: its work goes on past the round of the kill."""
        for name, (at, killed_round) in self.killed_at.items():
            if name not in self.back_after and round > killed_round:
                self.back_after[name] = time.monotonic() - at
                say(f"       {name}: progress again {self.back_after[name]:.1f} s after the kill, at round {min(round, ROUNDS)}")

    def _kill(self, name: str, pid: int, round: int) -> None:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return  # just restarted: the next look names another
        self.killed_at[name] = (time.monotonic(), round)
        say(f"       kill -9 {pid}: the {name}, at round {round}")


def _came_to(step: StepDetail) -> str:
    """What a step came to, where that is worth a word."""
    result = step.result or {}
    if step.step == "label":
        return f": {result['tasks']} of {result['asked']} answered" if result["asked"] else f": {result['reason']}"
    if step.step == "prepare":
        return ": {train} rows to learn from, {test} to test on, {pool} without a label".format(**result["rows"])
    return ""


def _figures(metrics: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in metrics.items())


async def _start(settings: Settings) -> str:
    client = await connect(settings)
    handle = await client.start_workflow(
        "TrainingPipeline",
        {"pipeline": "moderation-loop", "params": {"rounds": ROUNDS}, "cache": False, "requested_by": os.environ.get("USER", "demo")},
        id=f"run/moderation-loop/demo-{time.strftime('%Y%m%d-%H%M%S')}",
        task_queue="perdure",
    )
    await asyncio.sleep(0.1)  # the SDK may crash a process that exits right after a call
    return handle.id


def _follow(story: Story, database: Database, workflow_id: str) -> RunDetail:
    deadline = time.monotonic() + LIMIT
    while time.monotonic() < deadline:
        with suppress(PerdureError):  # not yet opened, or Postgres restarts: look again
            detail = show_run(database, workflow_id)
            story.look(detail)
            if not detail.run.state.is_live:
                return detail
        time.sleep(POLL)
    raise SystemExit(f"{workflow_id} did not end within {LIMIT:.0f} s; `perdure show {workflow_id}` says where it stands")


def _predict() -> list[dict[str, Any]]:
    """Score the two messages with the released model, as a user does."""
    command = [str(Path(sys.executable).parent / "perdure"), "predict", "moderation-loop", "-", "--json"]
    answer = subprocess.run(command, input=json.dumps(MESSAGES), capture_output=True, text=True, check=True)
    found: list[dict[str, Any]] = json.loads(answer.stdout)["predictions"]
    return found


def _judge(settings: Settings, database: Database, detail: RunDetail) -> list[tuple[str, dict[str, float]]]:
    """Each round's model on the whole test side of the split, by the truth: no version has learned from these messages."""
    spec = load_file(PIPELINE).data
    rows = [line.split("\t", 1) for line in TRUTH.read_text().splitlines()]
    truth = pl.DataFrame(rows, schema=["label", "text"], orient="row").unique("text", maintain_order=True)
    unseen = truth.filter(membership(truth, spec.split, spec.target.column, None) == TEST)
    versions = {version.number: version for version in show_model(database, detail.model).versions}
    objects, found = ObjectStore(settings.s3), []
    for each in detail.rounds:
        assert each.version is not None
        version = versions[each.version]
        model = predictor.load(objects.get(ArtifactRef(uri=version.predictor_uri, sha256=version.predictor_sha256)))
        scores = model.predict(unseen).select([f"p_{name}" for name in model.classes]).to_numpy()
        positions = unseen["label"].replace_strict(model.classes, list(range(len(model.classes)))).to_numpy()
        figures, _ = classification(METRICS, positions, scores)
        after = f"after {each.labeled} answers" if each.labeled else "before"
        title = f"{after:<18} version {each.version}, {each.rows} rows, by the truth about {unseen.height:,} messages"
        found.append((title, {name: value for name, value in figures.items() if value is not None}))
    return found


def _ending(story: Story, detail: RunDetail, seconds: float, before_and_after: list[tuple[str, dict[str, float]]]) -> None:
    say()
    print("What happened")
    print(f"  {seconds:.0f} s from 'stack ready' to the end, both kills included; {story.redone} rounds were trained twice")
    for name, after in story.back_after.items():
        print(f"  {name} killed: progress again after {after:.1f} s")
    print(f"  model {detail.model} version {detail.version}, predictor sha256 {(detail.predictor_sha256 or '')[:16]}…")
    print(f"  {_figures(detail.metrics)}")
    for verdict in detail.verdicts:
        print(f"  gate {'passed' if verdict['passed'] else 'FAILED'}: {verdict['reason']}")
    last = detail.rounds[-1]
    print(f"  trained on {last.rows} rows, judged on {last.test_rows}; code {(detail.code_sha256 or '')[:12]}")
    print(f"  run {detail.run.workflow_id}")
    print()
    print(f"What people changed: {story.people.answered} answers by signed web hooks, {story.people.wrong} of them wrong")
    for title, figures in before_and_after:
        print(f"  {title}: {_figures(figures)}")
    print()
    print("Where to look")
    print(f"  Temporal UI   {story.settings.temporal.ui}/namespaces/default/workflows")
    print(f"  MLflow        {story.settings.mlflow.url}  (starts last; it shows the run once it is up)")
    print(f"  this run      .venv/bin/perdure show {detail.run.workflow_id}")
    print("  be asked      .venv/bin/perdure run moderation-loop, and label in the browser:")
    print("                .venv/bin/perdure keys create ME --scope label; .venv/bin/perdure keys login ME")
    print("  the stack goes on: `make down` stops it, `make clean` removes it")


def main() -> int:
    """Run the demo; 0 when the model is released and both killed parts came back."""
    home = find_home()
    os.environ["PERDURE_HOME"] = str(home)
    stack.up(home, echo=say)
    settings = Settings()
    say("stack ready")
    began = time.monotonic()
    version = packaging.apply(PIPELINE, settings, actor=os.environ.get("USER", "demo"))
    say(f"applied pipeline {version.name}, version {version.number}")
    workflow_id = asyncio.run(_start(settings))
    say(f"started {workflow_id}")
    story = Story(settings, home)
    with Database.open(settings) as database:
        detail = _follow(story, database, workflow_id)
        judged = _judge(settings, database, detail) if detail.release is not None else []
    seconds = time.monotonic() - began
    if detail.run.state != "succeeded" or detail.release is None:
        error = detail.run.error or {}
        say(f"the run ended as {detail.run.state}: {error.get('message', 'the model was not released')}")
        return 1
    say(f"released: {detail.release['reason']}")
    for message, scores in zip(MESSAGES, _predict(), strict=True):
        say(f"predict: {scores['prediction']:>4}  (spam {scores['p_spam']:.3f})  {message['text'][:60]}…")
    _ending(story, detail, seconds, judged)
    return 0 if len(story.back_after) == 2 else 1


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # past the SDK's exit crash
