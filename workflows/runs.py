"""What every workflow that is a run does alike: it closes its rows, and records what people command."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from temporalio import workflow
from temporalio.exceptions import FailureError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from perdure.activities.runs import RunActivities
    from perdure.errors import Conflict, caused_by, root
    from perdure.messages.common import Command, Json
    from perdure.messages.pipeline import CloseRun, RunCommand, RunState
    from perdure.workflows.policies import AWAY, FOREVER, ROWS


async def succeeded(run_id: UUID) -> None:
    """Close the rows, however long it takes: what was committed counts by now, so nothing that is away or full makes this a failure."""
    while True:
        try:
            return await _close(CloseRun(run_id=run_id, state=RunState.SUCCEEDED, error=None, patience=FOREVER))
        except FailureError as err:
            if is_cancelled_exception(err) or caused_by(err, Conflict):
                raise
            workflow.logger.error("the end of the run cannot be recorded now", extra={"error": str(root(err))})
        await workflow.sleep(AWAY)


async def ended(run_id: UUID, state: RunState, error: Json, patience: timedelta) -> None:
    """Close the rows, but let no trouble with that hide why the run ends; the reconciler closes them if need be."""
    try:
        await _close(CloseRun(run_id=run_id, state=state, error=error, patience=patience))
    except FailureError as err:
        workflow.logger.error("the end of the run was not recorded", extra={"error": str(root(err))})


async def _close(closing: CloseRun) -> None:
    await workflow.wait_condition(workflow.all_handlers_finished)
    await workflow.execute_activity_method(RunActivities.close, closing, **ROWS)


async def commanded(run_id: UUID, name: str, command: Command, patience: timedelta) -> None:
    """Record *command* once, under the id of the update that carries it. Part of an update's handler."""
    update = workflow.current_update_info()
    await workflow.execute_activity_method(
        RunActivities.command,
        RunCommand(
            run_id=run_id,
            command=name,
            command_id=update.id if update else str(workflow.uuid4()),
            actor=command.actor,
            reason=command.reason,
            patience=patience,
        ),
        **ROWS,
    )
