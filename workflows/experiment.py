"""An experiment as a part of a rollout: it is looked at in its times, until a look decides."""

from __future__ import annotations

from datetime import timedelta

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from perdure.activities.experiment import ExperimentActivities
    from perdure.messages.experiment import ExperimentRequest, LookAtExperiment
    from perdure.messages.rollout import StageLook, Verdict
    from perdure.workflows.failures import stop_if_cancelled
    from perdure.workflows.policies import LOOK, ROWS


async def compared(request: ExperimentRequest) -> StageLook:
    """What the experiment of the open stage comes to: passed or failed, and why.

    It runs beside the stage's probes, and is cancelled where they end the stage. Called again, also by another execution, it goes on.
    """
    plan = await workflow.execute_activity_method(ExperimentActivities.plan, request, **ROWS)
    if plan.ended is not None:
        return plan.ended
    assert plan.since is not None, "there is an experiment"
    assert plan.until is not None, "and it has an end"
    number = plan.looks
    while True:
        number = max(number + 1, (workflow.now() - plan.since) // plan.peek)  # what was missed while nothing ran is not made up for
        at = min(plan.since + number * plan.peek, plan.until)
        await workflow.sleep(max(timedelta(0), at - workflow.now()))
        look = await workflow.execute_activity_method(
            ExperimentActivities.look,
            LookAtExperiment(
                run_id=request.run_id,
                promotion=request.promotion,
                traffic=request.traffic,
                patience=request.patience,
                number=number,
                at=at,
                over=at >= plan.until,
            ),
            **LOOK,
        )
        stop_if_cancelled()
        if look.verdict is not Verdict.GO_ON:
            return look
