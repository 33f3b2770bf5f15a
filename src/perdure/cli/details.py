"""One run, told in full; and in one line."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from perdure.cli.failures import explain
from perdure.cli.output import fields, figures, lasting, table, when
from perdure.cli.progress import Pace, Snapshot, Step, progress_line, restart_line, vote_line
from perdure.cli.snapshots import snapshot

if TYPE_CHECKING:
    from perdure.metadata.queries import RunDetail, RunSummary


def run_row(run: RunSummary) -> tuple[object, ...]:
    """A line of ``perdure runs``."""
    took = (run.finished_at or datetime.now(UTC)) - run.started_at
    if run.error:
        about = f"{run.error.get('type')}: {str(run.error.get('message')).splitlines()[0][:80]}"
    elif run.finished_at is None:
        waits = f", waiting for {run.waiting_for}" if run.waiting_for else ""
        about = f"{run.step or 'beginning'}{waits}"
    else:
        about = ""
    return run.workflow_id, str(run.state), when(run.started_at), lasting(took), run.requested_by, about


def print_run(detail: RunDetail) -> None:
    """Everything about a run on stdout; its error, if it has one, as errors are told."""
    run, now = snapshot(detail), datetime.now(UTC)
    params: dict[str, Any] = detail.request.get("params") or {}
    fields(
        {
            "run": run.workflow_id,
            "id": run.id,
            "state": run.state,
            "pipeline": f"{run.pipeline} version {run.pipeline_version} ({detail.pipeline_sha256[:12]})",
            "code": _code(detail),
            "params": ", ".join(f"{name}={value}" for name, value in params.items()),
            "started": f"{when(run.started)} by {run.requested_by}" if run.started else "",
            "took": lasting((run.finished or now) - run.started) if run.started else "",
            "model": f"{run.model} version {run.model_version}" if run.model_version is not None else "",
            "predictor": detail.predictor_sha256,
            "metrics": figures(run.metrics, limit=20),
            "release": _release(run, detail),
        }
    )
    print()
    table(
        ("step", "state", "took", "", "cache"),
        [(step.title, _state(step), _took(step, now), _about(step), step.reason if step.name != "promote" else "") for step in run.steps],
    )
    _print_rounds(detail)
    _print_jobs(run)
    _print_gates(detail.verdicts)
    _print_stages(detail)
    _print_people(run, detail)
    if run.error:
        print()
        explain(run.error, print)


def _took(step: Step, now: datetime) -> str:
    if step.started is None or step.reused:
        return ""
    return lasting((step.finished or now) - step.started)


def _about(step: Step) -> str:
    if step.state != "running":
        return step.outcome
    waits = f"waiting for {step.waiting_for} since {when(step.waiting_since)}" if step.waiting_for else ""
    return "; ".join(part for part in (waits, progress_line(step, Pace())) if part)


def _state(step: Step) -> str:
    return "reused" if step.reused and step.state == "succeeded" else step.state


def _code(detail: RunDetail) -> str:
    commit = f"commit {detail.git_commit}" if detail.git_commit else "no commit"
    return f"{detail.code_sha256[:12]} ({commit})" if detail.code_sha256 else ""


def _release(run: Snapshot, detail: RunDetail) -> str:
    if run.released is None:
        return ""
    if not run.released:
        return f"none: {run.reason}"
    release = detail.release
    until = f" until {when(release['until'])}" if release and release["until"] else ""
    return f"since {when(release['since'])}{until} by {release['actor']}: {run.reason}" if release else run.reason


def _print_rounds(detail: RunDetail) -> None:
    """What each round came to, where people were asked."""
    learned = [each for each in detail.rounds if each.rows is not None]  # not the round in which people only compare
    if not learned or not detail.spec.get("label"):
        return
    print()
    table(
        ("round", "learned from", "by people", "tested on", "version", "metrics"),
        [(each.round, each.rows, each.labeled, each.test_rows, each.version, figures(each.metrics, limit=5)) for each in learned],
        right=("round", "learned from", "by people", "tested on", "version"),
    )


def _print_jobs(run: Snapshot) -> None:
    lines = [(step.name, restart_line(step, job)) for step in run.steps for job in step.restarted]
    if lines:
        print()
        table(("step", "restarts"), lines)


def _print_gates(verdicts: list[dict[str, Any]]) -> None:
    if verdicts:
        print()
        table(("gate", "", ""), [("passed" if v["passed"] else "FAILED", _judged(v), v["reason"]) for v in verdicts])


def _judged(verdict: dict[str, Any]) -> str:
    """What a gate looks at."""
    return "people" if "rubric" in verdict["gate"] else verdict.get("slice") or "all rows"


def _print_stages(detail: RunDetail) -> None:
    """What the version went through before its release."""
    if detail.promotion and detail.promotion.stages:
        stages = [
            (f"{s['kind']} {s['share']:g} %", when(s["since"]), when(s["until"]) or "now", s["outcome"]) for s in detail.promotion.stages
        ]
        print()
        table(("stage", "since", "until", "outcome"), stages)


def _print_people(run: Snapshot, detail: RunDetail) -> None:
    if run.votes:
        print(f"\n{vote_line(run.votes)}")
        print(f"  perdure approve {run.workflow_id}    or    perdure reject {run.workflow_id} -m 'why'")
    said = [(when(c["at"]), c["actor"], c["action"], c["reason"]) for c in detail.commands]
    if said:
        print()
        table(("when", "who", "what", "why"), said)
