"""`TrainingPipeline`: one run, from raw rows to a released model."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

from temporalio import workflow
from temporalio.common import SearchAttributeKey
from temporalio.exceptions import FailureError, WorkflowAlreadyStartedError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from perdure.activities.promotion import PromotionActivities
    from perdure.activities.rollout import RolloutActivities
    from perdure.activities.runs import RunActivities
    from perdure.activities.selection import SelectionActivities
    from perdure.errors import Conflict, PatienceExhausted
    from perdure.keys import identity
    from perdure.messages.common import ArtifactRef, Command
    from perdure.messages.evaluation import EvaluateRequest, EvaluateResult
    from perdure.messages.labeling import CampaignRequest, CampaignResult
    from perdure.messages.pipeline import OpenRun, RunPlan, RunProgress, RunRequest, RunResult, RunState, StepKind
    from perdure.messages.preparation import DatasetRef, PrepareRequest
    from perdure.messages.promotion import ApprovalState, PromoteRequest, PromotionRef, PromotionResult, RecordVote, Vote, VoteDecision
    from perdure.messages.selection import LabelResult, RecordLabels, RoundDone, Selected, SelectRequest
    from perdure.messages.training import TrainRequest, TrainResult
    from perdure.workflows import runs
    from perdure.workflows.children import started
    from perdure.workflows.evaluation import ModelEvaluation
    from perdure.workflows.failures import describe, readable, stop_if_cancelled
    from perdure.workflows.labeling import LabelingCampaign
    from perdure.workflows.policies import CHILD, JOB, ROWS
    from perdure.workflows.preparation import DataPreparation
    from perdure.workflows.promotion import ModelPromotion
    from perdure.workflows.training import DistributedTraining

PIPELINE = SearchAttributeKey.for_keyword("PerdurePipeline")
MODEL = SearchAttributeKey.for_keyword("PerdureModel")
STAGE = SearchAttributeKey.for_keyword("PerdureStage")
PAUSABLE = ("opening", StepKind.PREPARE, StepKind.TRAIN, StepKind.EVALUATE, StepKind.LABEL, "paused")
"""Stages after which there is something to hold."""


@workflow.defn(name="TrainingPipeline")
class TrainingPipeline:
    """One run: prepare, train, evaluate; where people are asked about rows without a label, the same again; promote."""

    @workflow.init
    def __init__(self, request: RunRequest) -> None:
        self._request = request
        self._plan: RunPlan | None = None
        self._stage = "opening"
        self._paused = False
        self._cancelled = False
        self._commands = asyncio.Lock()  # they take effect in the order in which people gave them
        self._work: asyncio.Task[RunResult] | None = None
        self._training: workflow.ChildWorkflowHandle[DistributedTraining, TrainResult] | None = None
        self._promoting: workflow.ChildWorkflowHandle[ModelPromotion, PromotionResult] | None = None
        self._dataset: DatasetRef | None = None
        self._trained: TrainResult | None = None
        self._evidence = ""
        self._round = 0
        self._campaign: str | None = None  # the workflow in which people are asked now

    @workflow.run
    async def run(self, request: RunRequest) -> RunResult:
        """The run's outcome. A model that fails its gates is a succeeded run without a release."""
        try:
            plan = self._plan = await self._open(request)
        except FailureError as err:
            if is_cancelled_exception(err):
                raise  # the execution ends as Canceled; if its row is there after all, the reconciler closes it
            raise readable(err) from err
        self._work = asyncio.create_task(self._steps(plan))
        try:
            result = await self._work
        except (FailureError, asyncio.CancelledError) as err:
            return await self._failed(plan, err)
        self._enter(RunState.SUCCEEDED.value)
        await runs.succeeded(plan.run_id)
        return result

    async def _open(self, request: RunRequest) -> RunPlan:
        info = workflow.info()
        plan = await workflow.execute_activity_method(
            RunActivities.open, OpenRun(workflow_id=info.workflow_id, chain=info.first_execution_run_id, request=request), **ROWS
        )
        workflow.upsert_search_attributes([PIPELINE.value_set(plan.pipeline), MODEL.value_set(plan.model)])
        return plan

    async def _steps(self, plan: RunPlan) -> RunResult:
        done: list[RoundDone] = []
        said: list[ArtifactRef] = []
        while True:
            dataset = self._dataset = await self._prepare(plan, said)
            trained = self._trained = await self._train(plan, dataset)
            evaluated = await self._evaluate(plan, dataset, trained, people=not plan.labels)
            if not plan.labels:
                break
            done.append(_figures(self._round, dataset, trained, evaluated))
            asked = await self._ask(plan, dataset, trained, done)
            if asked.snapshot is None:
                break
            said.append(asked.snapshot)
            self._round += 1
        if plan.labels and plan.compares and evaluated.passed:
            self._round += 1  # people compare once: the model that nothing more is learned for
            evaluated = await self._evaluate(plan, dataset, trained)
        promoted = await self._promote(plan, trained, evaluated)
        return RunResult(
            run_id=plan.run_id,
            state=RunState.SUCCEEDED,
            model=plan.model,
            version=trained.version,
            predictor=trained.predictor.sha256 if trained.predictor else None,
            released=promoted.released,
            reason=promoted.reason,
            metrics=evaluated.metrics,
            rounds=done,
            asked_until=asked.reason if plan.labels else "",
        )

    async def _prepare(self, plan: RunPlan, said: list[ArtifactRef]) -> DatasetRef:
        await self._begin(StepKind.PREPARE)
        request = PrepareRequest(run_id=plan.run_id, round=self._round, patience=plan.patience, window=plan.window, labels=said)
        preparing = await started(
            plan.patience,
            lambda: workflow.start_child_workflow(DataPreparation.run, request, id=self._child(StepKind.PREPARE), **CHILD),
        )
        return await preparing

    async def _evaluate(self, plan: RunPlan, dataset: DatasetRef, trained: TrainResult, *, people: bool = True) -> EvaluateResult:
        await self._begin(StepKind.EVALUATE)
        assert trained.model_version is not None, "a training that is not paused has a version"
        request = EvaluateRequest(
            run_id=plan.run_id,
            round=self._round,
            patience=plan.patience,
            model_version=trained.model_version,
            dataset_version=dataset.dataset_version,
            people=people,
        )
        evaluating = await started(
            plan.patience, lambda: workflow.start_child_workflow(ModelEvaluation.run, request, id=self._child(StepKind.EVALUATE), **CHILD)
        )
        return await evaluating

    async def _ask(self, plan: RunPlan, dataset: DatasetRef, trained: TrainResult, done: list[RoundDone]) -> LabelResult:
        """What people said in this round; without a snapshot there is nothing more to learn. While they are asked, nothing runs."""
        await self._begin(StepKind.LABEL)
        assert trained.model_version is not None
        request = SelectRequest(
            run_id=plan.run_id,
            round=self._round,
            patience=plan.patience,
            dataset=dataset,
            model_version=trained.model_version,
            rounds=done,
        )
        selected = await workflow.execute_activity_method(SelectionActivities.select, request, **JOB)
        self._stop_if_cancelled()
        if selected.ended is not None:
            return selected.ended
        said = await self._campaign_of(plan, selected)
        self._stop_if_cancelled()
        assert selected.tasks is not None
        recording = RecordLabels(
            run_id=plan.run_id,
            round=self._round,
            patience=plan.patience,
            dataset_version=dataset.dataset_version,
            model_version=trained.model_version,
            campaign=selected.campaign,
            chosen=selected.tasks,
            asked=selected.asked,
            figures=selected.figures,
            snapshot=said.snapshot,
            tasks=said.tasks,
            complete=said.complete,
            reason=said.reason,
        )
        return await workflow.execute_activity_method(SelectionActivities.record, recording, **ROWS)

    async def _campaign_of(self, plan: RunPlan, selected: Selected) -> CampaignResult:
        opening = CampaignRequest(
            campaign=selected.campaign,
            spec=selected.spec,
            tasks=selected.tasks,
            requested_by=selected.requested_by,
            patience=plan.patience,
        )
        name = f"campaign/{selected.campaign}"
        waiting = await started(plan.patience, lambda: workflow.start_child_workflow(LabelingCampaign.run, opening, id=name, **CHILD))
        self._campaign = name
        try:
            return await waiting
        finally:
            self._campaign = None

    async def _begin(self, step: StepKind) -> None:
        """Enter *step*, but only while nobody wants the run paused, and not at all if it was cancelled meanwhile."""
        await self._while_paused()
        self._stop_if_cancelled()
        self._enter(step.value)

    def _stop_if_cancelled(self) -> None:
        """Raise where the run was cancelled, by whom and how ever."""
        stop_if_cancelled()
        if self._cancelled:
            raise asyncio.CancelledError("cancelled")

    async def _train(self, plan: RunPlan, dataset: DatasetRef) -> TrainResult:
        await self._begin(StepKind.TRAIN)
        request = TrainRequest(
            run_id=plan.run_id,
            round=self._round,
            patience=plan.patience,
            dataset=dataset,
            model=plan.model,
            pause_limit=self._request.pause_limit,
        )
        self._training = await started(
            plan.patience,
            lambda: workflow.start_child_workflow(DistributedTraining.run, request, id=self._child(StepKind.TRAIN), **CHILD),
        )
        try:
            return await self._training
        finally:
            self._training = None

    async def _promote(self, plan: RunPlan, trained: TrainResult, evaluated: EvaluateResult) -> PromotionResult:
        await self._begin(StepKind.PROMOTE)
        assert trained.model_version is not None
        self._evidence = evaluated.evidence_sha256
        request = PromoteRequest(
            run_id=plan.run_id,
            round=self._round,
            patience=plan.patience,
            model=plan.model,
            model_version=trained.model_version,
            evaluation=evaluated.evaluation,
        )
        promoting = await started(plan.patience, lambda: _promotion(request, f"promote/{plan.model}/{trained.version}"), own=False)
        if isinstance(promoting, PromotionResult):
            return promoting
        self._promoting = promoting
        try:
            return await self._promoting
        finally:
            self._promoting = None

    async def _while_paused(self) -> None:
        if not self._paused:
            return
        self._enter("paused")
        try:
            await workflow.wait_condition(lambda: not self._paused, timeout=self._request.pause_limit)
        except TimeoutError:
            raise PatienceExhausted(
                f"the run stayed paused for longer than {self._request.pause_limit}",
                field="pause_limit",
                remedy="run again: what was committed is reused",
            ) from None

    async def _failed(self, plan: RunPlan, err: BaseException) -> RunResult:
        """Close the rows, then end as people and tools expect: cancelled, or failed with the one readable error."""
        if is_cancelled_exception(err):
            reason = {"type": "Cancelled", "message": "cancelled on request", "field": None, "remedy": None}
            self._enter(RunState.CANCELLED.value)
            await runs.ended(plan.run_id, RunState.CANCELLED, reason, plan.patience)
            if not self._cancelled:
                raise err  # asked of Temporal itself: the execution ends as Canceled
            return RunResult(run_id=plan.run_id, state=RunState.CANCELLED, model=plan.model, reason="cancelled on request")
        self._enter(RunState.FAILED.value)
        await runs.ended(plan.run_id, RunState.FAILED, describe(err), plan.patience)
        assert isinstance(err, FailureError)
        raise readable(err) from err

    def _child(self, step: StepKind) -> str:
        return f"{workflow.info().workflow_id}/r{self._round}/{step}"

    def _enter(self, stage: str) -> None:
        self._stage = stage
        workflow.upsert_search_attributes([STAGE.value_set(stage)])

    # --- what people say -------------------------------------------------------------------------------------------------

    @workflow.query
    def progress(self) -> RunProgress:
        """The workflow's own view; `perdure show` reads the rows, which know more."""
        return RunProgress(
            stage=self._stage,
            paused=self._paused,
            run_id=self._plan.run_id if self._plan else None,
            dataset_version=self._dataset.dataset_version if self._dataset else None,
            model_version=self._trained.model_version if self._trained else None,
            waiting_for=self._campaign,
            round=self._round,
        )

    @workflow.update
    async def pause(self, command: Command) -> RunProgress:
        """Stop at the next checkpoint or step boundary. Refused once the last step has begun: nothing is left to hold."""
        async with self._commands:
            if self._stage not in PAUSABLE:
                raise Conflict(
                    "the run is past its last pause: nothing computes any more",
                    remedy="let it end, reject the release where people are asked, or cancel the run",
                )
            before, self._paused = self._paused, True  # at once: no step begins while the command is recorded
            try:
                await self._command("pause", command)
            except FailureError:
                self._paused = before
                raise
        return self.progress()

    @workflow.update
    async def resume(self, command: Command) -> RunProgress:
        """Go on from where the pause stopped."""
        async with self._commands:
            await self._command("resume", command)
            self._paused = False
        await _poke(self._training, DistributedTraining.resumed)
        return self.progress()

    @workflow.update
    async def cancel(self, command: Command) -> RunProgress:
        """End the run: jobs are stopped, what was committed stays."""
        async with self._commands:
            await self._command("cancel", command)
        self._cancelled = True
        if self._work is not None:
            self._work.cancel()
        return self.progress()

    @workflow.update
    async def approve(self, vote: Vote) -> ApprovalState:
        """Vote for the release of this run's model."""
        return await self._vote(vote, VoteDecision.APPROVE)

    @workflow.update
    async def reject(self, vote: Vote) -> ApprovalState:
        """Vote against the release of this run's model."""
        return await self._vote(vote, VoteDecision.REJECT)

    async def _command(self, name: str, command: Command) -> None:
        plan = await self._opened()
        await runs.commanded(plan.run_id, name, command, plan.patience)

    async def _vote(self, vote: Vote, decision: VoteDecision) -> ApprovalState:
        """The vote counts when its row commits; the promotion is poked to look at the rows."""
        plan = await self._opened()
        if self._promoting is None:
            raise Conflict("nothing is up for decision in this run now", remedy="`perdure show RUN` says what it waits for")
        state = await workflow.execute_activity_method(
            PromotionActivities.vote,
            RecordVote(
                promotion=identity(plan.run_id, self._round, StepKind.PROMOTE),
                decision=decision,
                actor=vote.actor,
                reason=vote.reason,
                evidence_sha256=vote.evidence_sha256 or self._evidence,
                patience=plan.patience,
            ),
            **ROWS,
        )
        await _poke(self._promoting, ModelPromotion.poke)
        return state

    async def _opened(self) -> RunPlan:
        await workflow.wait_condition(lambda: self._plan is not None)
        assert self._plan is not None
        return self._plan


async def _promotion(request: PromoteRequest, id: str) -> workflow.ChildWorkflowHandle[ModelPromotion, PromotionResult] | PromotionResult:
    """The promotion, started; or the end of this run's, where another run asks people about the same version now."""
    try:
        return await workflow.start_child_workflow(ModelPromotion.run, request, id=id, **CHILD)
    except WorkflowAlreadyStartedError:
        elsewhere = await workflow.execute_activity_method(PromotionActivities.elsewhere, request, **ROWS)
        if elsewhere is not None:
            return elsewhere
        with contextlib.suppress(FailureError):  # this run has asked nobody: another's promotion begins or ends now
            own = PromotionRef(promotion=identity(request.run_id, request.round, StepKind.PROMOTE), patience=request.patience)
            asked = await workflow.execute_activity_method(PromotionActivities.approval, own, **ROWS)
            if asked.required or await workflow.execute_activity_method(RolloutActivities.staged, own, **ROWS):
                await workflow.get_external_workflow_handle(id).cancel()  # of before a reset: the vote is opened again
        raise


async def _poke(child: workflow.ChildWorkflowHandle[Any, Any] | None, signal: Callable[[Any], None]) -> None:
    """Tell *child* to look at the rows. It may have ended meanwhile, and a lost poke costs it minutes at most."""
    if child is not None:
        with contextlib.suppress(FailureError):
            await child.signal(signal)


def _figures(round: int, dataset: DatasetRef, trained: TrainResult, evaluated: EvaluateResult) -> RoundDone:
    assert trained.version is not None
    return RoundDone(
        round=round,
        rows=dataset.train_rows,
        labeled=dataset.labeled_rows,
        version=trained.version,
        metrics=evaluated.metrics,
    )
