"""Promotions, votes and releases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import exists, func, or_, select, update
from sqlalchemy.orm import Session, aliased

from perdure.errors import AccessDenied, Conflict, EvidenceChanged, InvalidInput, NotFound, VoteRefused
from perdure.keys import identity
from perdure.messages.promotion import ApprovalState, VoteDecision
from perdure.metadata import tables as t
from perdure.metadata.jsonb import plain
from perdure.metadata.repository import records, serves
from perdure.metadata.repository.answers import poke
from perdure.metadata.repository.lifecycle import LIVE, lock_step, running
from perdure.metadata.repository.messages import tell
from perdure.metadata.repository.rows import Rows
from perdure.ports import Promotion, Release

SLACK = "slack"
UNPROVEN = ("temporal", "cli")
"""Channels on which the actor is a claim: whoever may reach Temporal may write any name."""


class PromotionRows(Rows):
    """`perdure.ports.Promotions` on Postgres."""

    def open(self, step_run: UUID, model_version: UUID, evaluation: UUID, *, required: int, deadline_seconds: float) -> Promotion:
        """The promotion of this step run, with its approval where people are asked; the first one stays.

        People are asked again where the run had ended meanwhile. Raises Conflict where the step has ended without a decision.
        """
        with self._database.transaction() as session:
            step = lock_step(session, self._tenant, step_run)
            before = session.get(t.Promotion, step_run)
            deadline = serves.now(session) + timedelta(seconds=deadline_seconds)
            if before is None:
                self._begin(session, running(step), model_version, evaluation, required, deadline)
            elif before.state is t.PromotionState.OPEN:
                closed = (t.Approval.promotion_id == running(step).id, t.Approval.status == t.ApprovalStatus.CLOSED)
                session.execute(update(t.Approval).where(*closed).values(status=t.ApprovalStatus.OPEN, deadline=deadline))
            return self._promotion(session, step_run)

    def _begin(self, session: Session, step: t.StepRun, model_version: UUID, evaluation: UUID, required: int, deadline: datetime) -> None:
        run = records.load_run(session, self._tenant, step.run_id)
        evidence = records.load_evaluation(session, evaluation)
        if evidence.model_version != model_version:
            raise InvalidInput(f"evaluation {evaluation} is of model version {evidence.model_version}", field="evaluation")
        model = session.scalars(select(t.ModelVersion.model).where(t.ModelVersion.id == model_version)).one()
        self._add(
            session,
            t.Promotion,
            id=step.id,
            model=model,
            model_version_id=model_version,
            evaluation_id=evaluation,
            requested_by=run.requested_by,
        )
        if required:
            policy = (run.spec.get("promote") or {}).get("approval") or {}
            self._add(
                session,
                t.Approval,
                id=identity(step.id, "approval"),
                promotion_id=step.id,
                evidence_sha256=evidence.evidence_sha256,
                required=required,
                approvers=policy.get("approvers") or [],
                unauthenticated_counts=bool(policy.get("cli", True)) and required == 1,
                deadline=deadline,
            )
            approvers = policy.get("approvers") or []
            wanted = {"run": run.workflow_id, "model": model, "approval": str(identity(step.id, "approval")), "deadline": str(deadline)}
            wanted |= _in_slack(approvers)
            for target in approvers or [run.spec.get("owner")]:
                tell(session, self._tenant, target, kind="approval_wanted", evidence_sha256=evidence.evidence_sha256, **wanted)

    def asked_by(self, model_version: UUID, besides: UUID) -> str | None:
        """The workflow id of the live run, other than *besides*, that asks people about this version now, or rolls it out."""
        asks = exists().where(t.Approval.promotion_id == t.Promotion.id, t.Approval.status == t.ApprovalStatus.OPEN)
        stages = exists().where(t.Traffic.promotion_id == t.Promotion.id, t.Traffic.until.is_(None))
        query = (
            select(t.Run.workflow_id)
            .join(t.StepRun, t.StepRun.run_id == t.Run.id)
            .join(t.Promotion, t.Promotion.id == t.StepRun.id)
            .where(t.Promotion.tenant == self._tenant, t.Promotion.model_version_id == model_version)
            .where(or_(asks, stages), t.Run.id != besides, t.Run.state.in_(LIVE))
        )
        with self._database.transaction() as session:
            return session.scalar(query.limit(1))

    def vote(self, promotion: UUID, decision: VoteDecision, actor: str, reason: str, evidence_sha256: str, channel: str) -> ApprovalState:
        """Record the vote. Raises EvidenceChanged; VoteRefused for a stranger, a mere claim, a changed mind, or too late."""
        with self._database.transaction() as session:
            return self._vote(session, self._approval(session, promotion), decision, actor, reason, evidence_sha256, channel)

    def vote_on(self, approval: UUID, decision: VoteDecision, actor: str, reason: str, evidence_sha256: str, channel: str) -> ApprovalState:
        """The same from outside the workflow, which is poked to look at the votes. *actor* is proven on such a channel.

        Raises NotFound, too, and AccessDenied for who asked for the release: somebody else has to look at it.
        """
        with self._database.transaction() as session:
            return self.vote_within(session, approval, decision, actor, reason, evidence_sha256, channel)

    def vote_within(
        self, session: Session, approval: UUID, decision: VoteDecision, actor: str, reason: str, evidence_sha256: str, channel: str
    ) -> ApprovalState:
        """`vote_on` as part of the caller's transaction."""
        found = session.execute(
            select(t.Promotion.id, t.Promotion.model, t.Promotion.requested_by, t.ModelVersion.number)
            .join(t.Approval, t.Approval.promotion_id == t.Promotion.id)
            .join(t.ModelVersion, t.ModelVersion.id == t.Promotion.model_version_id)
            .where(t.Approval.id == approval, t.Approval.tenant == self._tenant)
        ).one_or_none()
        if found is None:
            raise NotFound(f"there is no approval {approval}", field="approval", remedy="look at the open ones again")
        if actor == found.requested_by:
            raise AccessDenied(f"{actor!r} asked for this release", field="actor", remedy="let somebody else decide")
        state = self._vote(session, self._approval(session, found.id), decision, actor, reason, evidence_sha256, channel)
        poke(session, self._tenant, f"promote/{found.model}/{found.number}")
        return state

    def _vote(
        self, session: Session, approval: t.Approval, decision: VoteDecision, actor: str, reason: str, evidence_sha256: str, channel: str
    ) -> ApprovalState:
        if evidence_sha256 != approval.evidence_sha256:
            raise EvidenceChanged(
                "the vote is about other evidence than what is up for decision",
                field="evidence_sha256",
                remedy="look at the evaluation again (`perdure show`), then vote on it",
            )
        before = session.get(t.ApprovalVote, (approval.id, actor))
        if before is None:
            self._cast(session, approval, decision, actor, reason, channel)
        elif before.decision is not decision:
            raise VoteRefused(
                f"{actor!r} has already said {before.decision}", field="actor", remedy="a vote is final; ask another approver"
            )
        return self._count(session, approval)

    def approval(self, promotion: UUID) -> ApprovalState:
        """The votes that count so far."""
        with self._database.transaction() as session:
            row = session.get(t.Promotion, promotion)
            if row is None:
                raise NotFound(f"there is no promotion {promotion}")
            refused = row.reason if row.state is t.PromotionState.REFUSED else ""
            if session.get(t.Approval, identity(promotion, "approval")) is None:
                return ApprovalState(approvals=0, rejections=0, required=0, refused=refused)
            return replace(self._count(session, self._approval(session, promotion)), refused=refused)

    def remind(self, promotion: UUID, number: int) -> None:
        """Tell those who have not voted yet, once per *number*; nobody, where votes are not taken any more."""
        with self._database.transaction() as session:
            approval = self._approval(session, promotion)
            if approval.status is not t.ApprovalStatus.OPEN:
                return
            if not self._audit(session, "promotion.remind", approval.id, "perdure", command_id=f"reminder {number}"):
                return
            step = session.get_one(t.StepRun, promotion)
            run = records.load_run(session, self._tenant, step.run_id)
            voted = set(session.scalars(select(t.ApprovalVote.actor).where(t.ApprovalVote.approval_id == approval.id)))
            model = session.get_one(t.Promotion, promotion).model
            wanted = {"run": run.workflow_id, "model": model, "approval": str(approval.id), "deadline": str(approval.deadline)}
            wanted |= _in_slack(approval.approvers)
            for target in approval.approvers or [run.spec.get("owner")]:
                if target not in voted:
                    tell(session, self._tenant, target, kind="approval_reminder", evidence_sha256=approval.evidence_sha256, **wanted)

    def close(self, promotion: UUID, *, release: bool, reason: str, actor: str) -> Release | None:
        """Refuse, or release by compare-and-set against the champion that was evaluated. A repeat returns the first outcome.

        The promotion's candidate takes part no longer, in the same transaction.
        """
        mine = (t.Promotion.id == promotion, t.Promotion.tenant == self._tenant)
        with self._database.transaction() as session:
            model = session.scalar(select(t.Promotion.model).where(*mine))
            if model is None:
                raise NotFound(f"there is no promotion {promotion}")
            self._lock(session, "model", model)  # who changes what serves of one model does so one by one
            step = lock_step(session, self._tenant, promotion)
            row = session.scalars(select(t.Promotion).where(*mine).with_for_update(key_share=True)).one()
            if row.state is not t.PromotionState.OPEN:
                if release != (row.state is t.PromotionState.RELEASED):
                    raise Conflict(f"promotion {promotion} was {row.state} before: {row.reason}")
                return self._outcome(session, row)
            if release:
                running(step)  # a run that was terminated releases nothing any more
            outcome = self._release(session, row, actor, reason) if release else None
            self._end(session, row, outcome, actor, reason)
            return outcome

    def refuse_within(self, session: Session, row: t.Promotion, actor: str, reason: str) -> None:
        """Refuse an open promotion in the caller's transaction, which holds the model's lock."""
        self._end(session, row, None, actor, reason)

    def _cast(self, session: Session, approval: t.Approval, decision: VoteDecision, actor: str, reason: str, channel: str) -> None:
        if approval.status is not t.ApprovalStatus.OPEN:
            raise VoteRefused(f"this was decided before: {approval.status}", remedy="start a run for a new decision")
        if serves.now(session) > approval.deadline:
            raise VoteRefused(f"the time to decide was over at {approval.deadline:%F %T %Z}", remedy="start a run for a new decision")
        if approval.approvers and actor not in approval.approvers:
            raise VoteRefused(
                f"{actor!r} may not decide here", field="actor", remedy=f"ask one of {', '.join(map(str, approval.approvers))}"
            )
        if channel == SLACK and not approval.approvers:  # who asked for it may have an account there too, by another name
            raise VoteRefused(
                "an account of Slack proves nobody's name here, and this pipeline names no approvers",
                field="promote.approval.approvers",
                remedy=f"name who may decide, {actor!r} among them, or vote by another channel",
            )
        if channel in UNPROVEN and not approval.unauthenticated_counts:  # nor recorded: it would stand in the way of the real one
            raise VoteRefused(
                "a vote at a bare terminal is a claim, not a proof: this pipeline does not count it",
                field="promote.approval",
                remedy="vote by an authenticated channel, or allow `cli: true` with `required: 1`",
            )
        self._add(
            session,
            t.ApprovalVote,
            approval_id=approval.id,
            actor=actor,
            decision=decision,
            reason=plain(reason),
            channel=channel,
        )
        detail = {"evidence_sha256": approval.evidence_sha256, "channel": channel}
        self._audit(session, f"promotion.{decision}", approval.promotion_id, actor, reason=reason, after=detail)
        state = self._count(session, approval)
        if state.rejections or state.approvals >= state.required:  # one rejection decides, as a quorum of approvals does
            status = t.ApprovalStatus.REJECTED if state.rejections else t.ApprovalStatus.APPROVED
            session.execute(update(t.Approval).where(t.Approval.id == approval.id).values(status=status))

    def _count(self, session: Session, approval: t.Approval) -> ApprovalState:
        """The votes so far, oldest first."""
        query = select(t.ApprovalVote.decision, t.ApprovalVote.actor).where(t.ApprovalVote.approval_id == approval.id)
        votes = session.execute(query.order_by(t.ApprovalVote.at, t.ApprovalVote.actor)).all()
        approved_by = [vote.actor for vote in votes if vote.decision is VoteDecision.APPROVE]
        rejected_by = [vote.actor for vote in votes if vote.decision is VoteDecision.REJECT]
        return ApprovalState(
            approvals=len(approved_by),
            rejections=len(rejected_by),
            required=approval.required,
            approved_by=approved_by,
            rejected_by=rejected_by,
        )

    def _approval(self, session: Session, promotion: UUID) -> t.Approval:
        """The approval, locked: votes are counted one by one."""
        query = select(t.Approval).where(t.Approval.promotion_id == promotion, t.Approval.tenant == self._tenant)
        row = session.scalar(query.with_for_update(key_share=True))
        if row is None:
            raise NotFound(f"nobody is asked about promotion {promotion}", remedy="`perdure show` tells where the run stands")
        return row

    def _release(self, session: Session, row: t.Promotion, actor: str, reason: str) -> Release:
        """Close the open release and open the new one. The partial unique index is what makes two at once impossible."""
        serving = self._serving(session, row.model)
        if serving is not None and serving.model_version == row.model_version_id:
            return serving
        evaluation = records.load_evaluation(session, row.evaluation_id)
        if not evaluation.passed:
            raise Conflict(f"evaluation {evaluation.id} did not pass its gates", remedy="a model that misses a gate is not released")
        status = session.scalar(select(t.Approval.status).where(t.Approval.promotion_id == row.id).with_for_update(key_share=True))
        if status not in (None, t.ApprovalStatus.APPROVED):
            raise Conflict(f"people were asked about promotion {row.id}, and it is not approved but {status}")
        if (other := serves.other_champion(session, self._tenant, row)) is not None:
            raise Conflict(
                f"{other} serves now, but this version was compared with another",
                remedy="run again: it will be compared with the version that serves",
            )
        # Not before the last release began, whatever the clock says: intervals neither overlap nor turn round.
        at = serves.now(session)
        if serving is not None:
            at = max(at, serving.since + timedelta(microseconds=1))
            session.execute(update(t.Release).where(t.Release.id == serving.id).values(until=at))
            self._event(session, serving.model_version, t.ModelEventKind.RETIRED, row.id, {"actor": actor, "reason": reason})
        key = identity(row.id, "release")
        self._add(
            session,
            t.Release,
            id=key,
            model=row.model,
            model_version_id=row.model_version_id,
            promotion_id=row.id,
            since=at,
            actor=plain(actor),
            reason=plain(reason),
        )
        self._event(session, row.model_version_id, t.ModelEventKind.RELEASED, row.id, {"actor": actor, "reason": reason})
        opened = self._serving(session, row.model)
        if opened is None or opened.id != key:  # the unique index refused it: somebody released without this lock
            raise Conflict(f"another version of {row.model!r} was released meanwhile")
        others = (t.Traffic.tenant == self._tenant, t.Traffic.model == row.model, t.Traffic.promotion_id != row.id)
        serves.withdraw(session, f"version {opened.number} was released meanwhile", *others)
        serves.changed(session, row.model)
        return opened

    def _end(self, session: Session, row: t.Promotion, outcome: Release | None, actor: str, reason: str) -> None:
        state = t.PromotionState.RELEASED if outcome else t.PromotionState.REFUSED
        session.execute(
            update(t.Promotion)
            .where(t.Promotion.id == row.id)
            .values(state=state, reason=plain(reason), closed_by=plain(actor), closed_at=func.clock_timestamp())
        )
        open_approval = (t.Approval.promotion_id == row.id, t.Approval.status == t.ApprovalStatus.OPEN)
        session.execute(update(t.Approval).where(*open_approval).values(status=t.ApprovalStatus.CLOSED))
        staged = session.scalar(select(t.Traffic.id).where(t.Traffic.promotion_id == row.id).limit(1)) is not None
        serves.withdraw(session, serves.PASSED if outcome else reason, t.Traffic.promotion_id == row.id)
        if outcome is None:
            detail = {"actor": actor, "reason": reason}
            if staged:
                self._event(session, row.model_version_id, t.ModelEventKind.ROLLED_BACK, row.id, detail)
                self._tell_owner(session, row, "rollout_failed", actor, reason)
            self._event(session, row.model_version_id, t.ModelEventKind.REFUSED, row.id, detail)
        action = "promotion.release" if outcome else "promotion.refuse"
        self._audit(session, action, row.id, actor, reason=reason, after={"release": str(outcome.id)} if outcome else None)

    def _tell_owner(self, session: Session, row: t.Promotion, kind: str, actor: str, reason: str) -> None:
        """Have the owner of the promotion's pipeline told of its end."""
        step = session.get_one(t.StepRun, row.id)
        run = records.load_run(session, self._tenant, step.run_id)
        number = session.scalars(select(t.ModelVersion.number).where(t.ModelVersion.id == row.model_version_id)).one()
        about = {"run": run.workflow_id, "model": row.model, "version": number, "actor": actor, "reason": reason}
        tell(session, self._tenant, run.spec.get("owner"), kind=kind, **about)

    def _serving(self, session: Session, model: str) -> Release | None:
        query = (
            select(t.Release, t.ModelVersion.number)
            .join(t.ModelVersion, t.ModelVersion.id == t.Release.model_version_id)
            .where(t.Release.tenant == self._tenant, t.Release.model == model, t.Release.until.is_(None))
        )
        found = session.execute(query.with_for_update(of=t.Release, key_share=True)).one_or_none()
        return records.release(*found) if found is not None else None

    def _outcome(self, session: Session, row: t.Promotion) -> Release | None:
        """The release that a closed promotion led to: its own, or the one in which its version served already."""
        if row.state is t.PromotionState.REFUSED:
            return None
        query = (
            select(t.Release, t.ModelVersion.number)
            .join(t.ModelVersion, t.ModelVersion.id == t.Release.model_version_id)
            .where(t.Release.model_version_id == row.model_version_id, t.Release.since <= row.closed_at)
            .order_by(t.Release.since.desc())
            .limit(1)
        )
        return records.release(*session.execute(query).one())

    def _promotion(self, session: Session, key: UUID) -> Promotion:
        row = session.get_one(t.Promotion, key)
        until = session.scalar(select(t.Approval.deadline).where(t.Approval.promotion_id == key))
        return Promotion(
            id=row.id,
            model=row.model,
            model_version=row.model_version_id,
            evaluation=records.load_evaluation(session, row.evaluation_id),
            requested_by=row.requested_by,
            state=row.state,
            reason=row.reason,
            until=until,
            undone=_undone(session, row.model_version_id),
        )


def _in_slack(approvers: Sequence[str]) -> dict[str, str]:
    """Part of a message: whose button in Slack counts, if anybody's does."""
    there = ", ".join(each for each in approvers if each.startswith(f"{SLACK}:"))
    return {"slack": there} if there else {}


def _undone(session: Session, version: UUID) -> str:
    """Who rolled *version* back, and why, where that ended its last release; empty where nobody did."""
    undoing = aliased(t.Release)
    query = (
        select(t.ModelVersion.number, undoing.actor, undoing.reason)
        .select_from(t.Release)
        .join(t.ModelVersion, t.ModelVersion.id == t.Release.model_version_id)
        .outerjoin(undoing, undoing.rolled_back_id == t.Release.id)
        .where(t.Release.model_version_id == version)
        .order_by(t.Release.since.desc())
        .limit(1)
    )
    found = session.execute(query).one_or_none()
    if found is None or found.actor is None:
        return ""
    return (
        f"version {found.number} was rolled back by {found.actor}: {found.reason}; nobody but people releases it again,"
        f" by an approval or by `perdure rollback MODEL --to {found.number}`"
    )
