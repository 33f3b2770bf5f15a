"""From the rows of a run to what people are shown of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from perdure.cli.progress import STEPS, Job, People, Snapshot, Step, Votes
from perdure.metadata.queries import PromotionDetail, RoundDetail, RunDetail, StepDetail


def snapshot(detail: RunDetail) -> Snapshot:
    """One look at a run, its steps in their order, round by round; those that have not begun in the last one are pending."""
    run, promotion = detail.run, detail.promotion
    begun = {str(step.step): step for step in detail.steps}  # of the last round in which it was
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
        steps=tuple(_steps(detail)),
        votes=_votes(promotion) if promotion and promotion.approval == "open" else None,
        model=detail.model,
        model_version=detail.version,
        released=released,
        reason=reason,
        metrics=detail.metrics,
        scores=_scores(detail, begun.get("predict")),
    )


def _steps(detail: RunDetail) -> Iterator[Step]:
    if detail.scores_to is not None:
        predict = next(iter(detail.steps), None)
        yield _step(predict, detail) if predict else Step(name="predict")
        return
    begun = {(step.round, str(step.step)): step for step in detail.steps}
    last = max((step.round for step in detail.steps), default=0)
    ahead = STEPS if (last, "evaluate") not in begun or (last, "prepare") in begun else ("evaluate", "promote")  # people compare last
    for number in range(last + 1):
        for name in STEPS:
            if (number, name) in begun:
                yield _step(begun[number, name], detail)
            elif number == last and name in ahead and name != "predict" and (name != "label" or detail.spec.get("label")):
                yield Step(name=name, round=number)


def _step(step: StepDetail, detail: RunDetail) -> Step:
    name = str(step.step)
    done, total = _counted(step, detail)
    people = _people(step.campaign) if step.campaign and step.state == "running" and step.waiting_for else None
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
        waiting_for=None if people else step.waiting_for,
        waiting_since=step.waiting_since,
        jobs=tuple(_job(row) for row in step.submissions),
        outcome=_outcome(step, detail),
        people=people,
    )


def _people(campaign: dict[str, Any]) -> People:
    return People(campaign=campaign["name"], decided=campaign["decided"], total=campaign["total"], deadline=campaign.get("deadline"))


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
    if step.step == "predict":
        return (step.partitions.get("score", 0), step.planned) if step.planned is not None else (None, None)
    if step.step == "train":
        rounds = [step.detail.get("round"), step.metrics_round, step.checkpoints[-1]["round"] if step.checkpoints else None]
        done = max((r for r in rounds if r is not None), default=None)  # one of them is always a second behind
        return done, step.detail.get("rounds") or detail.spec["train"]["params"].get("rounds")
    if step.campaign is not None:
        return step.campaign["decided"], step.campaign["total"]
    return None, None


def _outcome(step: StepDetail, detail: RunDetail) -> str:
    """What an ended step came to."""
    if step.error:
        return f"{step.error.get('type')}: {str(step.error.get('message')).splitlines()[0]}"
    result = step.result or {}
    if step.step == "prepare" and isinstance(rows := result.get("rows"), dict):
        aside = f", {rows['quarantined']:,} set aside" if rows.get("quarantined") else ""
        pool = f", {rows['pool']:,} without a label" if rows.get("pool") else ""
        return f"{rows['train']:,} rows to learn from, {rows['test']:,} to test on{aside}{pool}"
    if step.step == "train" and "version" in result:
        return f"{detail.model} version {result['version']}, {result.get('rounds', '?')} rounds"
    if step.step == "evaluate" and step.state == "succeeded":
        return _judged(next(each for each in detail.rounds if each.round == step.round))
    if step.step == "label" and step.state == "succeeded":
        if not result.get("asked"):
            return f"nobody was asked: {result.get('reason')}"
        return f"{result['tasks']:,} of {result['asked']:,} answered: {result.get('reason')}"
    if step.step == "predict" and step.state == "succeeded":
        rows = result["rows"]
        aside = f", {rows['quarantined']:,} set aside" if rows["quarantined"] else ""
        return f"{rows['scored']:,} rows scored{aside}: {detail.scores_to}/{result['version']}"
    if step.step == "promote":
        released, reason = _promoted(detail.promotion, step)
        return "" if released is None else f"{'released' if released else 'refused' if detail.promotion else 'not released'}: {reason}"
    return ""


def _scores(detail: RunDetail, step: StepDetail | None) -> str:
    """The data set that a batch inference made, and its version."""
    result = (step.result if step else None) or {}
    return f"data set {detail.scores_to}/{result['version']}" if result else ""


def _judged(made: RoundDetail) -> str:
    failed = [verdict for verdict in made.verdicts if not verdict["passed"]]
    return "; ".join(str(verdict["reason"]) for verdict in failed) if failed else f"{len(made.verdicts)} gates passed"


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
