"""Promotion as rows: open, votes, release or refusal."""

from __future__ import annotations

from temporalio import activity

from perdure.messages.pipeline import StepKind
from perdure.messages.promotion import (
    ApprovalState,
    ClosePromotion,
    PromoteRequest,
    PromotionPlan,
    PromotionRef,
    PromotionResult,
    RecordVote,
)
from perdure.ports import Models, Promotions, Runs, Steps
from perdure.spec import load


class PromotionActivities:
    """Opens a promotion, records votes, releases."""

    def __init__(self, runs: Runs, steps: Steps, models: Models, promotions: Promotions) -> None:
        self._runs, self._steps, self._models, self._promotions = runs, steps, models, promotions

    @activity.defn(name="promotion.open", no_thread_cancel_exception=True)
    def open(self, request: PromoteRequest) -> PromotionPlan:
        """The promotion of this step, and what its gates and its policy say."""
        run = self._runs.run(request.run_id)
        step = self._steps.begin(request.run_id, request.round, StepKind.PROMOTE, activity.info().scheduled_time)
        policy = load(run.spec).promote.approval
        champion = self._models.champion(request.model)
        promotion = self._promotions.open(
            step.id,
            request.model_version,
            request.evaluation,
            required=policy.required,
            deadline_seconds=policy.deadline.total_seconds(),
        )
        return PromotionPlan(
            promotion=promotion.id,
            passed=promotion.evaluation.passed,
            reasons=[v.reason for v in promotion.evaluation.verdicts if not v.passed],
            serves_already=champion is not None and champion.id == request.model_version,
            required=policy.required,
            evidence_sha256=promotion.evaluation.evidence_sha256,
            deadline=policy.deadline,
            approvers=policy.approvers,
            requested_by=run.requested_by,
            cli_votes_count=policy.cli and policy.required <= 1,
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

    @activity.defn(name="promotion.close", no_thread_cancel_exception=True)
    def close(self, request: ClosePromotion) -> PromotionResult:
        """Release or refuse; a repeat returns what was decided. Raises Conflict where another version was released meanwhile."""
        release = self._promotions.close(request.promotion, release=request.release, reason=request.reason, actor=request.actor)
        step = self._steps.step(request.promotion)
        if step.state == "succeeded":  # the workflow was reset after the decision, and may give another reason now
            return PromotionResult(
                promotion=step.id,
                released=release is not None,
                reason=(step.result or {}).get("reason", request.reason),
                release=release.id if release else None,
            )
        result = PromotionResult(
            promotion=request.promotion, released=release is not None, reason=request.reason, release=release.id if release else None
        )
        self._steps.finish(
            request.promotion, {"released": result.released, "reason": result.reason, "release": str(result.release)}, request.reason
        )
        return result
