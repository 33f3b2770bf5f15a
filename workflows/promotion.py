"""`ModelPromotion`: gates, then people where the specification asks them, then the stages of a rollout, then the release row."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import FailureError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from perdure.activities.promotion import PromotionActivities
    from perdure.errors import Conflict, EvidenceChanged, VoteRefused, root
    from perdure.messages.common import Command
    from perdure.messages.promotion import (
        ApprovalState,
        ClosePromotion,
        PromoteRequest,
        PromotionPlan,
        PromotionRef,
        PromotionResult,
        RecordVote,
        Remind,
        Vote,
        VoteDecision,
    )
    from perdure.workflows.failures import stop_if_cancelled
    from perdure.workflows.policies import QUIET, ROWS, VOTES_AGAIN
    from perdure.workflows.rollout import Rollout, withdraw


@workflow.defn(name="ModelPromotion")
class ModelPromotion:
    """One version on its way to a release. A refusal is a result with its reason."""

    @workflow.init
    def __init__(self, request: PromoteRequest) -> None:
        self._request = request
        self._plan: PromotionPlan | None = None
        self._poked = False
        self._closed = False
        self._rollout: Rollout | None = None

    @workflow.run
    async def run(self, request: PromoteRequest) -> PromotionResult:
        """Released or refused, and why."""
        plan = self._plan = await workflow.execute_activity_method(PromotionActivities.open, request, **ROWS)
        if plan.outcome is not None:
            return plan.outcome
        try:
            stop_if_cancelled()
            return await self._decided(plan)
        except (FailureError, asyncio.CancelledError) as err:
            if plan.stages:  # also before this execution has come to its rollout: the one before it may have opened a stage
                await withdraw(request, plan, "cancelled" if is_cancelled_exception(err) else f"the promotion failed: {root(err)}")
            raise

    async def _decided(self, plan: PromotionPlan) -> PromotionResult:
        release, reason = await self._decide(plan)
        if release and plan.stages and not plan.serves_already:
            rollout = self._rollout = Rollout(self._request, plan, self._renew)
            refused = await rollout.run()
            release, reason = (False, refused) if refused else (True, f"{reason}; {rollout.passed}")
        self._closed = True
        await workflow.wait_condition(workflow.all_handlers_finished)
        closing = ClosePromotion(promotion=plan.promotion, release=release, reason=reason, patience=self._request.patience)
        return await workflow.execute_activity_method(PromotionActivities.close, closing, **ROWS)

    async def _decide(self, plan: PromotionPlan) -> tuple[bool, str]:
        if plan.serves_already:
            return True, "this version serves already"
        if not plan.passed:
            return False, "gates failed: " + "; ".join(plan.reasons)
        if plan.required == 0:
            return (False, plan.undone) if plan.undone else (True, "all gates passed")
        return await self._ask(plan)

    async def _ask(self, plan: PromotionPlan) -> tuple[bool, str]:
        """Wait for votes; each look reads the rows, so a lost poke or a vote by another channel cannot be missed for long."""
        assert plan.until is not None, "there is a deadline where people are asked"
        quiet = 0  # looks in a row that nobody asked for
        reminders = 0
        while True:
            self._poked = False
            left = plan.until - workflow.now()  # before the look: a vote that was in time is seen
            state = await workflow.execute_activity_method(
                PromotionActivities.approval, PromotionRef(promotion=plan.promotion, patience=self._request.patience), **ROWS
            )
            stop_if_cancelled()
            if state.refused:
                return False, state.refused
            if state.rejections:
                return False, f"rejected by {', '.join(state.rejected_by)}"
            if state.approvals >= plan.required:
                return True, f"approved by {', '.join(state.approved_by)}"
            if left <= timedelta(0):
                return False, f"nobody decided within {plan.deadline}: {state.approvals} of {plan.required} approvals"
            await self._renew()
            longest = min(left, QUIET, VOTES_AGAIN * (1 << min(quiet, 10)))
            if plan.remind is not None:
                reminders = await self._remind(plan, reminders)
                longest = min(longest, plan.until - plan.deadline + (reminders + 1) * plan.remind - workflow.now())
            try:
                await workflow.wait_condition(lambda: self._poked, timeout=longest)
                quiet = 0
            except TimeoutError:
                quiet += 1

    async def _remind(self, plan: PromotionPlan, told: int) -> int:
        """Remind people where it is time, and how often that has been due; rows know what was told before a new execution."""
        assert plan.until is not None
        assert plan.remind is not None
        due = (workflow.now() - (plan.until - plan.deadline)) // plan.remind
        if due > told:
            reminding = Remind(promotion=plan.promotion, number=due, patience=self._request.patience)
            await workflow.execute_activity_method(PromotionActivities.remind, reminding, **ROWS)
        return max(due, told)

    async def _renew(self) -> None:
        """Go on in a new execution where this one's history is long; it opens the same promotion, and finds the same rows."""
        if workflow.info().is_continue_as_new_suggested():
            self._closed = True  # to votes and commands, for the moment until the next execution takes them
            await workflow.wait_condition(workflow.all_handlers_finished)
            if self._rollout is None or not self._rollout.skipped:  # else a command came in that only this execution knows
                workflow.continue_as_new(self._request)
            self._closed = False

    @workflow.signal
    def poke(self) -> None:
        """Rows were changed elsewhere: look at them again."""
        self._poked = True
        if self._rollout is not None:
            self._rollout.poke()

    @workflow.update
    async def advance(self, command: Command) -> str:
        """Skip the rest of the stage that is open; returns its name when the row about it is committed."""
        assert self._rollout is not None, "the validator refuses it before"
        return await self._rollout.advance(command)

    @workflow.update
    async def abort(self, command: Command) -> str:
        """End the rollout, and refuse the release; returns the stage in which it was when that is committed."""
        assert self._rollout is not None, "the validator refuses it before"
        return await self._rollout.abort(command)

    @advance.validator
    def _may_advance(self, command: Command) -> None:
        self._may_command()

    @abort.validator
    def _may_abort(self, command: Command) -> None:
        self._may_command()

    def _may_command(self) -> None:
        if self._closed or self._rollout is None or not self._rollout.stage:
            raise Conflict("no stage of a rollout is open here now", remedy="`perdure show RUN` says where the promotion stands")

    @workflow.update
    async def approve(self, vote: Vote) -> ApprovalState:
        """Vote for the release; returns when the vote's row is committed."""
        return await self._vote(vote, VoteDecision.APPROVE)

    @workflow.update
    async def reject(self, vote: Vote) -> ApprovalState:
        """Vote against the release; one rejection refuses it."""
        return await self._vote(vote, VoteDecision.REJECT)

    async def _vote(self, vote: Vote, decision: VoteDecision) -> ApprovalState:
        plan = self._plan
        assert plan is not None, "the validator refuses votes before"
        state = await workflow.execute_activity_method(
            PromotionActivities.vote,
            RecordVote(
                promotion=plan.promotion,
                decision=decision,
                actor=vote.actor,
                reason=vote.reason,
                evidence_sha256=vote.evidence_sha256 or plan.evidence_sha256,
                patience=self._request.patience,
            ),
            **ROWS,
        )
        self._poked = True
        return state

    @approve.validator
    def _may_approve(self, vote: Vote) -> None:
        self._may_vote(vote)

    @reject.validator
    def _may_reject(self, vote: Vote) -> None:
        self._may_vote(vote)

    def _may_vote(self, vote: Vote) -> None:
        """Refused before it is stored: no history event remains."""
        plan = self._plan
        if plan is None or self._closed or plan.outcome is not None or not plan.passed or plan.required == 0:
            raise VoteRefused("nothing is up for decision here now", remedy="`perdure show RUN` says what the promotion waits for")
        check_vote(vote, plan)


def check_vote(vote: Vote, plan: PromotionPlan) -> None:
    """Who may vote, and on what. Raises EvidenceChanged, VoteRefused."""
    if vote.evidence_sha256 is not None and vote.evidence_sha256 != plan.evidence_sha256:
        raise EvidenceChanged(
            f"the evidence up for decision is {plan.evidence_sha256[:12]}, not {vote.evidence_sha256[:12]}",
            field="evidence_sha256",
            remedy="look at the evaluation again (`perdure show RUN`), then vote on it",
        )
    if plan.approvers and vote.actor not in plan.approvers:
        raise VoteRefused(
            f"{vote.actor!r} is not among the approvers: {', '.join(plan.approvers)}",
            field="actor",
            remedy="let one of them vote, or change promote.approval.approvers",
        )
    if not plan.cli_votes_count:
        raise VoteRefused(
            "a vote at a bare terminal is a claim, not a proof: this pipeline does not count it",
            field="promote.approval",
            remedy="vote by an authenticated channel, or allow `cli: true` with `required: 1`",
        )
