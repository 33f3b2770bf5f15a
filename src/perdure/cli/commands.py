"""``pause``, ``resume``, ``cancel``, ``approve``, ``reject``: what people say to a run, as updates of its workflow."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any
from uuid import uuid4

import typer

from perdure.cli.output import Json, emit, note
from perdure.cli.people import Actor, person

if TYPE_CHECKING:
    from perdure.metadata.database import Database
    from perdure.metadata.queries import RunDetail

PANEL = "Runs"
ANSWER_SECONDS = 10.0
TRIES = 3

Run = Annotated[str, typer.Argument(help="Workflow id, pipeline/key or run id, or its beginning; or a pipeline, for its newest run.")]
Reason = Annotated[str, typer.Option("--reason", "-m", help="Why; recorded with the command.", show_default=False)]
Evidence = Annotated[str | None, typer.Option(help="Vote only if the evidence up for decision has this sha256 (or beginning).")]


def pause(run: Run, reason: Reason = "", actor: Actor = None, as_json: Json = False) -> None:
    """Stop a run at its next checkpoint or step.

    While it is paused it costs nothing. In its last step, the promotion, a run cannot be paused: nothing computes any more.
    """
    _command("pause", run, reason, actor, as_json=as_json, told="pauses at its next checkpoint or step")


def resume(run: Run, reason: Reason = "", actor: Actor = None, as_json: Json = False) -> None:
    """Let a paused run go on from where it stopped."""
    _command("resume", run, reason, actor, as_json=as_json, told="goes on")


def cancel(run: Run, reason: Reason = "", actor: Actor = None, as_json: Json = False) -> None:
    """End a run.

    Its jobs are stopped; what was committed stays, and the next run reuses it.
    """
    _command("cancel", run, reason, actor, as_json=as_json, told="is being cancelled")


def approve(run: Run, reason: Reason = "", evidence: Evidence = None, actor: Actor = None, as_json: Json = False) -> None:
    """Vote for the release of a run's model.

    The vote is bound to the evidence (figures, data and model) that `perdure show` tells.
    """
    _vote("approve", run, reason, evidence, actor, as_json=as_json)


def reject(run: Run, reason: Reason = "", evidence: Evidence = None, actor: Actor = None, as_json: Json = False) -> None:
    """Vote against the release of a run's model.

    One vote against it is enough.
    """
    _vote("reject", run, reason, evidence, actor, as_json=as_json)


def _command(name: str, run: str, reason: str, actor: str | None, *, as_json: bool, told: str) -> None:
    from perdure.errors import Conflict
    from perdure.messages.common import Command

    detail = _found(run)
    workflow_id = detail.run.workflow_id
    if not detail.run.state.is_live:
        raise Conflict(f"{workflow_id} has ended as {detail.run.state}", remedy="start a new run: what was committed is reused")
    answer = update(workflow_id, name, Command(actor=person(actor), reason=reason))
    if as_json:
        emit({"run": workflow_id, "command": name, "progress": answer})
    else:
        note(f"{workflow_id} {told}")


def _vote(name: str, run: str, reason: str, evidence: str | None, actor: str | None, *, as_json: bool) -> None:
    from perdure.errors import EvidenceChanged, VoteRefused
    from perdure.messages.promotion import Vote

    detail = _found(run)
    workflow_id, promotion = detail.run.workflow_id, detail.promotion
    if promotion is None or promotion.approval != "open":
        raise VoteRefused(f"nothing is up for decision in {workflow_id}", remedy=f"`perdure show {workflow_id}` tells how the run stands")
    current = promotion.evidence_sha256
    if evidence and not current.startswith(evidence):
        raise EvidenceChanged(
            f"the evidence up for decision is {current[:12]}, not {evidence[:12]}",
            field="evidence",
            remedy=f"look at it with `perdure show {workflow_id}`, then vote",
        )
    # Bound to what was up for decision a moment ago: if that changes before the vote arrives, the vote is refused, not misunderstood.
    state = update(workflow_id, name, Vote(actor=person(actor), reason=reason, evidence_sha256=current))
    if as_json:
        emit({"run": workflow_id, "vote": name, "state": state})
    else:
        note(f"{workflow_id}: {state['approvals']} of {state['required']} approvals, {state['rejections']} rejections")


def named_run(database: Database, reference: str, *, state: str | None = None) -> str:
    """*reference*, but for the name of a pipeline that of its newest run; with a *state*, of its only run in that state."""
    from perdure.metadata.queries import list_runs

    found = list_runs(database, pipeline=reference, state=state, batches=False, limit=2) if "/" not in reference else []
    return found[0].workflow_id if len(found) == 1 or (found and state is None) else reference


def _found(run: str) -> RunDetail:
    """The run that is meant."""
    from perdure.cli.clients import read_settings
    from perdure.metadata.database import Database
    from perdure.metadata.queries import show_run

    with Database.open(read_settings()) as database:
        return show_run(database, named_run(database, run, state="live"))


def update(workflow_id: str, name: str, argument: object, *, what: str = "run") -> Any:
    """The workflow's answer; *what* it is, in errors.

    The update has one id over all tries, so that it counts once whatever is lost on the way.
    """
    import asyncio

    from temporalio.client import WorkflowUpdateRPCTimeoutOrCancelledError

    from perdure.cli.clients import read_settings, temporal, wait_for
    from perdure.errors import TemporalUnavailable

    update_id = f"{name}:{uuid4()}"

    async def ask() -> Any | None:
        """The answer, or None where the server answers, but no worker."""
        async with temporal(read_settings(), f"{what} {workflow_id}") as client:
            asked = client.get_workflow_handle(workflow_id).execute_update(name, argument, id=update_id)
            try:
                return await asyncio.wait_for(asked, ANSWER_SECONDS)
            except (TimeoutError, WorkflowUpdateRPCTimeoutOrCancelledError):  # the client says it in either way
                return None

    for attempt in range(1, TRIES + 1):
        try:
            answer = wait_for(ask())
            break
        except TemporalUnavailable as err:
            if attempt == TRIES:
                raise
            note(f"{err.problem}; asking again")
            time.sleep(attempt)
    if answer is None:
        raise TemporalUnavailable(
            f"no worker answered for {workflow_id} within {ANSWER_SECONDS:.0f} s; the command may still arrive",
            remedy="see that a worker runs (`perdure status`); saying it again does no harm",
        )
    return answer


def add(app: typer.Typer) -> None:
    """Add these commands."""
    for command in (pause, resume, cancel, approve, reject):
        app.command(rich_help_panel=PANEL)(command)
