"""Promotion as rows: open, votes, release or refusal."""

from __future__ import annotations

from uuid import UUID

from temporalio import activity

from perdure.errors import Conflict
from perdure.messages.pipeline import StepKind
from perdure.messages.promotion import (
    ApprovalState,
    ClosePromotion,
    PromoteRequest,
    PromotionPlan,
    PromotionRef,
    PromotionResult,
    RecordVote,
    Remind,
)
from perdure.ports import Models, Promotions, Release, Runs, StepRun, Steps
from perdure.spec.pipeline import load


class PromotionActivities:
    """Opens a promotion, records votes, releases."""

    def __init__(self, runs: Runs, steps: Steps, models: Models, promotions: Promotions) -> None:
        self._runs, self._steps, self._models, self._promotions = runs, steps, models, promotions

    @activity.defn(name="promotion.open", no_thread_cancel_exception=True)
    def open(self, request: PromoteRequest) -> PromotionPlan:
        """The promotion of this step, and what its gates and its policy say, or what was decided before."""
        run = self._runs.run(request.run_id)
        step = self._steps.begin(request.run_id, request.round, StepKind.PROMOTE, activity.info().scheduled_time)
        if step.state == "succeeded":
            return PromotionPlan(promotion=step.id, outcome=_outcome(step))
        promote = load(run.spec).promote
        policy = promote.approval
        champion = self._models.champion(request.model)
        promotion = self._promotions.open(
            step.id,
            request.model_version,
            request.evaluation,
            required=policy.required,
            deadline_seconds=policy.deadline.total_seconds(),
        )
        if promotion.state != "open":
            ended = self._end(promotion.id, release=promotion.state == "released", reason=promotion.reason)
            return PromotionPlan(promotion=promotion.id, outcome=ended)
        return PromotionPlan(
            promotion=promotion.id,
            passed=promotion.evaluation.passed,
            reasons=[v.reason for v in promotion.evaluation.verdicts if not v.passed],
            serves_already=champion is not None and champion.id == request.model_version,
            required=policy.required,
            evidence_sha256=promotion.evaluation.evidence_sha256,
            deadline=policy.deadline,
            until=promotion.until,
            approvers=policy.approvers,
            requested_by=run.requested_by,
            cli_votes_count=policy.cli and policy.required <= 1,
            remind=policy.remind,
            undone=promotion.undone,
            stages=promote.stages if champion is not None else [],  # of the first release: beside whom?
        )

    @activity.defn(name="promotion.vote", no_thread_cancel_exception=True)
    def vote(self, request: RecordVote) -> ApprovalState:
        """Record a vote. Raises EvidenceChanged, VoteRefused."""
        return self._promotions.vote(
            request.promotion, request.decision, request.actor, request.reason, request.evidence_sha256, request.channel
        )

    @activity.defn(name="promotion.approval", no_thread_cancel_exception=True)
    def approval(self, request: PromotionRef) -> ApprovalState:
        """The votes that count so far."""
        return self._promotions.approval(request.promotion)

    @activity.defn(name="promotion.remind", no_thread_cancel_exception=True)
    def remind(self, request: Remind) -> None:
        """Tell those who have not voted yet."""
        self._promotions.remind(request.promotion, request.number)

    @activity.defn(name="promotion.elsewhere", no_thread_cancel_exception=True)
    def elsewhere(self, request: PromoteRequest) -> PromotionResult | None:
        """The end of this step where another run asks people about the same version now: they are not asked twice."""
        asked_by = self._promotions.asked_by(request.model_version, request.run_id)
        if asked_by is None:
            return None
        number = self._models.version(request.model_version).number
        reason = f"version {number} is up for decision in {asked_by}"
        step = self._steps.begin(request.run_id, request.round, StepKind.PROMOTE, activity.info().scheduled_time)
        return self._finish(step, None, reason)

    @activity.defn(name="promotion.close", no_thread_cancel_exception=True)
    def close(self, request: ClosePromotion) -> PromotionResult:
        """Release or refuse; a repeat returns what was decided. Raises Conflict where another version was released meanwhile.

        What a rollback has refused meanwhile stays refused.
        """
        try:
            return self._end(request.promotion, release=request.release, reason=request.reason, actor=request.actor)
        except Conflict:
            refused = self._promotions.approval(request.promotion).refused
            if not refused:
                raise
            return self._end(request.promotion, release=False, reason=refused, actor=request.actor)

    def _end(self, promotion: UUID, *, release: bool, reason: str, actor: str = "perdure") -> PromotionResult:
        released = self._promotions.close(promotion, release=release, reason=reason, actor=actor)
        return self._finish(self._steps.step(promotion), released, reason)

    def _finish(self, step: StepRun, release: Release | None, reason: str) -> PromotionResult:
        """The step's end, once: after a reset another reason may be given for what was decided."""
        if step.state != "succeeded":
            result = {"released": release is not None, "reason": reason, "release": str(release.id) if release else None}
            step = self._steps.finish(step.id, result, reason)
        return _outcome(step)


def _outcome(step: StepRun) -> PromotionResult:
    """What a promotion that has ended came to."""
    result = step.result or {}
    release = result.get("release")
    return PromotionResult(
        promotion=step.id,
        released=bool(result.get("released")),
        reason=str(result.get("reason")),
        release=UUID(release) if release else None,
    )
