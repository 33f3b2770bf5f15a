"""`DriftMonitor`: one look at a served model, started by a schedule or by hand."""

from __future__ import annotations

from temporalio import workflow
from temporalio.exceptions import FailureError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from perdure.activities.monitoring import MonitoringActivities
    from perdure.messages.monitoring import LookRequest, LookResult, MonitorRequest
    from perdure.workflows.failures import readable
    from perdure.workflows.policies import JOB
    from perdure.workflows.triggers import SCHEDULED


@workflow.defn(name="DriftMonitor")
class DriftMonitor:
    """One look. What it finds is a result, whatever it says."""

    @workflow.run
    async def run(self, request: MonitorRequest) -> LookResult:
        """What has drifted in the windows that end when the look was planned, however late it runs."""
        at = request.at or workflow.info().typed_search_attributes.get(SCHEDULED) or workflow.info().start_time
        look = LookRequest(model=request.model, at=at, patience=request.patience)
        try:
            return await workflow.execute_activity_method(MonitoringActivities.look, look, **JOB)
        except FailureError as err:
            raise err if is_cancelled_exception(err) else readable(err) from err
