"""A rollout as rows: stages are entered, looked at, and withdrawn."""

from __future__ import annotations

from temporalio import activity

from perdure.messages.promotion import PromotionRef
from perdure.messages.rollout import LookAtStage, OpenStage, StageCommand, StageLook, Standing, TrafficKind, Verdict, Withdraw
from perdure.ports import Runs
from perdure.rollout.ports import Traffic, TrafficRow
from perdure.rollout.probes import loaded, probed, unloadable
from perdure.serving.counting import BUCKETS
from perdure.spec.pipeline import load

PASSED = "passed"
MILLISECONDS = [1000 * bound for bound in BUCKETS]


class RolloutActivities:
    """Opens the stages of a rollout, and probes them by what the serving processes say."""

    def __init__(self, runs: Runs, traffic: Traffic) -> None:
        self._runs, self._traffic = runs, traffic

    @activity.defn(name="rollout.open", no_thread_cancel_exception=True)
    def open(self, request: OpenStage) -> Standing:
        """Enter a stage; a repeat finds it open."""
        return self._traffic.open(request.promotion, request.position, request.stages, request.reason)

    @activity.defn(name="rollout.look", no_thread_cancel_exception=True)
    def look(self, request: LookAtStage) -> StageLook:
        """What the figures of an open stage say; of one that was ended, why it was."""
        row = self._traffic.row(request.traffic)
        if row.until is not None:
            return ended(row)
        processes = self._traffic.processes(row.model, row.model_version)
        if (why := unloadable(processes)) is not None:
            return StageLook(verdict=Verdict.FAILED, reason=why)
        if row.kind is TrafficKind.STANDBY:
            return loaded(processes, over=request.over)
        probes = load(self._runs.run(request.run_id).spec).promote.probes
        return probed(probes, self._traffic.counts(request.traffic), MILLISECONDS, over=request.over, late=request.late)

    @activity.defn(name="rollout.staged", no_thread_cancel_exception=True)
    def staged(self, request: PromotionRef) -> bool:
        """Whether a candidate of this promotion takes part now."""
        return self._traffic.staged(request.promotion)

    @activity.defn(name="rollout.withdraw", no_thread_cancel_exception=True)
    def withdraw(self, request: Withdraw) -> None:
        """The compensation: the candidate takes part no longer."""
        self._traffic.withdraw(request.promotion, request.reason)

    @activity.defn(name="rollout.command", no_thread_cancel_exception=True)
    def command(self, request: StageCommand) -> None:
        """Record what somebody said. Raises Conflict where the stage has ended."""
        self._traffic.command(request.promotion, request.traffic, request.command, request.command_id, request.actor, request.reason)


def ended(row: TrafficRow) -> StageLook:
    """What follows from a stage that somebody else ended."""
    return StageLook(verdict=Verdict.PASSED if row.outcome == PASSED else Verdict.FAILED, reason=row.outcome)
