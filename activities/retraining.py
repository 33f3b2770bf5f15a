"""Retraining as rows: looks, people's commands, dates and new data. What is decided is in `perdure.retraining`."""

from __future__ import annotations

from datetime import datetime

from temporalio import activity

from perdure.events.signals import SignalInbox, receive
from perdure.messages.common import Json
from perdure.messages.controller import Look, LookAtModel, RecordForce, RecordSignal, RecordSnooze, RunNotOpened, TriggerRequest
from perdure.messages.retraining import TriggerKind
from perdure.ports import Retraining, Runs, SourceFiles
from perdure.spec.pipeline import load
from perdure.spec.triggers import Trigger


class RetrainingActivities:
    """Looks at models, and writes down what somebody wants of them."""

    def __init__(self, retraining: Retraining, inbox: SignalInbox, runs: Runs, sources: SourceFiles) -> None:
        self._retraining, self._inbox, self._runs, self._sources = retraining, inbox, runs, sources

    @activity.defn(name="retraining.look", no_thread_cancel_exception=True)
    def look(self, request: LookAtModel) -> Look:
        """Decide what is undecided, and tell what is to be started. A repeat decides nothing twice."""
        return self._retraining.look(request.model)

    @activity.defn(name="retraining.drift", no_thread_cancel_exception=True)
    def drift(self, request: RecordSignal) -> None:
        """What signal ``drift`` carried, into the inbox; what cannot be used is quarantined there."""
        receive(self._inbox, request.event)

    @activity.defn(name="retraining.force", no_thread_cancel_exception=True)
    def force(self, request: RecordForce) -> None:
        """A person wants a training. Raises NotFound."""
        self._retraining.force(request.model, request.force)

    @activity.defn(name="retraining.snooze", no_thread_cancel_exception=True)
    def snooze(self, request: RecordSnooze) -> None:
        """A person wants no action for a while. Raises NotFound."""
        self._retraining.snooze(request.model, request.snooze, request.command_id)

    @activity.defn(name="retraining.failed", no_thread_cancel_exception=True)
    def failed(self, request: RunNotOpened) -> None:
        """The run of a decision has failed before it had a row."""
        self._retraining.failed(request.decision, dict(request.error), request.after)

    @activity.defn(name="retraining.trigger", no_thread_cancel_exception=True)
    def trigger(self, request: TriggerRequest) -> bool:
        """A date has come, or it is time to look at the source. Whether there is a reason to train that was not known before.

        A trigger that the specification has no more is none. Raises NotFound, SourceMissing.
        """
        spec = load(self._runs.pipeline(request.pipeline).spec)
        wanted = [each for each in spec.triggers if each.kind is request.kind]
        if request.number >= len(wanted):
            return False
        trigger = wanted[request.number]
        if request.kind is TriggerKind.DATA:
            return self._retraining.source(spec.name, self._sources.fingerprint(spec.data.source.uri))
        assert request.at is not None, "the workflow tells the time"
        key = f"schedule/{spec.name}/{request.number}/{request.at.isoformat()}"
        return self._retraining.trigger(spec.name, request.kind, key, _date(trigger, request.at))


def _date(trigger: Trigger, at: datetime) -> Json:
    return {"text": f"{trigger.schedule} ({trigger.timezone})", "cutoff": at.isoformat(), "overlap": trigger.overlap}
