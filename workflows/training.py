"""`DistributedTraining`: runs the training activity; a paused training waits here, at no compute, and goes on from its checkpoint."""

from __future__ import annotations

from dataclasses import replace

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from perdure.activities.training import TrainingActivities
    from perdure.errors import PatienceExhausted
    from perdure.messages.training import TrainRequest, TrainResult
    from perdure.workflows.failures import stop_if_cancelled
    from perdure.workflows.policies import LOOK_AGAIN, TRAINING


@workflow.defn(name="DistributedTraining")
class DistributedTraining:
    """One training of one run."""

    @workflow.init
    def __init__(self, request: TrainRequest) -> None:
        self._poked = False
        self._paused_since = request.paused_since

    @workflow.run
    async def run(self, request: TrainRequest) -> TrainResult:
        """The model version. The request's pause limit bounds the waiting."""
        while True:
            self._poked = False
            result = await workflow.execute_activity_method(TrainingActivities.run, request, **TRAINING)
            if not result.paused:
                return result
            stop_if_cancelled()
            if self._poked:
                continue  # what this look saw may be older than the poke
            self._check_limit(request)
            try:
                await workflow.wait_condition(lambda: self._poked, timeout=LOOK_AGAIN)
            except TimeoutError:
                workflow.logger.debug("still paused")
            if workflow.info().is_continue_as_new_suggested():
                await workflow.wait_condition(workflow.all_handlers_finished)
                workflow.continue_as_new(replace(request, paused_since=self._paused_since))

    def _check_limit(self, request: TrainRequest) -> None:
        self._paused_since = self._paused_since or workflow.now()
        if workflow.now() - self._paused_since > request.pause_limit:
            raise PatienceExhausted(
                f"the run stayed paused for longer than {request.pause_limit}",
                field="pause_limit",
                remedy="run again: what was committed is reused",
            )

    @workflow.signal
    def poke(self) -> None:
        """Something changed: look at the rows again."""
        self._poked = True

    @workflow.signal
    def resumed(self) -> None:
        """The pause is over: go on. The next one has the whole limit again."""
        self._poked, self._paused_since = True, None
