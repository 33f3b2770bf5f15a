"""From the rows of a run to what people are shown of it."""

from __future__ import annotations

from typing import Any

from perdure.cli.progress import STEPS, Job, Snapshot, Step, Votes
from perdure.metadata.queries import PromotionDetail, RunDetail, StepDetail


def snapshot(detail: RunDetail) -> Snapshot:
    """One look at a run, its four steps in their order; those that have not begun are pending."""
    run, promotion = detail.run, detail.promotion
    begun = {str(step.step): step for step in detail.steps}  # of the last round
    released, reason = _promoted(promotion, begun.get("promote"))
    return Snapshot(
        id=str(run.id),
        workflow_id=run.workflow_id,
        state=str(run.state),
        pipeline=run.pipeline,
        pipeline_version=run.pipeline_version,
        requested_by=run.requested_by,
        started=run.started_at,
        finished=run.finished_at,
        error=run.error,
        steps=tuple(_step(begun[name], detail) if name in begun else Step(name=name) for name in STEPS),
        votes=_votes(promotion) if promotion and promotion.approval == "open" else None,
        model=detail.model,
        model_version=detail.version,
        released=released,
        reason=reason,
        metrics=detail.metrics,
    )


def _step(step: StepDetail, detail: RunDetail) -> Step:
    name = str(step.step)
    done, total = _counted(step, detail)
    return Step(
        name=name,
        state=step.state,
        round=step.round,
        started=step.started_at,
        finished=step.finished_at,
        reused=step.reason.startswith("hit"),
        reason=step.reason,
        phase=str(step.detail.get("phase") or ("pending" if step.detail.get("job") == "pending" else "")),
        done=done,
        total=total,
        checkpoint=step.checkpoints[-1]["round"] if step.checkpoints else None,
        metrics=step.detail.get("metrics") or step.metrics,
        waiting_for=step.waiting_for,
        waiting_since=step.waiting_since,
        jobs=tuple(_job(row) for row in step.submissions),
        outcome=_outcome(step, detail),
    )


def _job(row: dict[str, Any]) -> Job:
    same = {name: row[name] for name in ("name", "number", "round", "exit_code", "message")}
    return Job(**same, state=str(row["state"]), started=row["started_at"])


def _counted(step: StepDetail, detail: RunDetail) -> tuple[int | None, int | None]:
    """How far the step is, in partitions or rounds."""
    if step.step == "prepare":
        total = step.planned if step.planned is not None else None
        if total is None:
            return None, None
        return (step.partitions.get("features") or step.partitions.get("partition", 0)), total
    if step.step == "train":
        rounds = [step.detail.get("round"), step.metrics_round, step.checkpoints[-1]["round"] if step.checkpoints else None]
        done = max((r for r in rounds if r is not None), default=None)  # one of them is always a second behind
        return done, step.detail.get("rounds") or detail.spec["train"]["params"].get("rounds")
    if step.step == "evaluate" and step.campaign is not None:
        return step.campaign["decided"], step.campaign["total"]
    return None, None


def _outcome(step: StepDetail, detail: RunDetail) -> str:
    """What an ended step came to."""
    if step.error:
        return f"{step.error.get('type')}: {str(step.error.get('message')).splitlines()[0]}"
    result = step.result or {}
    if step.step == "prepare" and isinstance(rows := result.get("rows"), dict):
        aside = f", {rows['quarantined']:,} set aside" if rows.get("quarantined") else ""
        return f"{rows['train']:,} rows to learn from, {rows['test']:,} to test on{aside}"
    if step.step == "train" and detail.version is not None:
        return f"{detail.model} version {detail.version}, {result.get('rounds', '?')} rounds"
    if step.step == "evaluate" and step.state == "succeeded":
        failed = [verdict for verdict in detail.verdicts if not verdict["passed"]]
        return "; ".join(str(verdict["reason"]) for verdict in failed) if failed else f"{len(detail.verdicts)} gates passed"
    if step.step == "promote":
        released, reason = _promoted(detail.promotion, step)
        return "" if released is None else f"{'released' if released else 'refused' if detail.promotion else 'not released'}: {reason}"
    return ""


def _promoted(promotion: PromotionDetail | None, step: StepDetail | None) -> tuple[bool | None, str]:
    """Whether the version was released, and why or why not. None while it is open, or ended without a decision."""
    if promotion is not None:
        return (None if promotion.state == "open" else promotion.state == "released"), promotion.reason
    result = (step.result if step else None) or {}  # of a run whose version people were asked about in another run
    return result.get("released"), str(result.get("reason", ""))


def _votes(promotion: PromotionDetail) -> Votes:
    said = [vote["decision"] for vote in promotion.votes]
    return Votes(
        approvals=said.count("approve"),
        rejections=said.count("reject"),
        required=promotion.required,
        deadline=promotion.deadline,
        evidence=promotion.evidence_sha256,
    )
