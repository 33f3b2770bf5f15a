"""Snapshots of campaigns: their decisions as one object, named by its content, and its row."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar
from uuid import UUID

from perdure.activities.guard import pulse, stop_if_asked
from perdure.keys import canonical
from perdure.labeling.agreement import Level
from perdure.labeling.ports import Campaigns, Consolidation, Lines
from perdure.labeling.spec import Campaign, Method
from perdure.labeling.statistics import Tally
from perdure.messages.common import ArtifactRef, Json
from perdure.messages.labeling import SnapshotTaken

MANY = 5_000  # items after which an activity says that it goes on
OF_LABELERS = {"labelers", "accuracy", "gold", "confusion"}  # figures that are in the row only: they may be many, a message is small
Item = TypeVar("Item")


class Snapshots:
    """Takes them, inside an activity."""

    def __init__(self, campaigns: Campaigns, lines: Lines, consolidation: Consolidation) -> None:
        self._campaigns, self._lines, self._consolidation = campaigns, lines, consolidation

    def about(self, model: str) -> list[ArtifactRef]:
        """What people have said about predictions of *model* until now, by campaign, oldest first."""
        taken = [self.take(row.id) for row in self._campaigns.asked_about(model) if row.decided]
        return [each.snapshot for each in taken if each.tasks]

    def take(self, campaign: UUID) -> SnapshotTaken:
        """The decisions as they are now. Where all opinions decide, they do so first."""
        spec = self._campaigns.campaign(campaign).spec
        tally = Tally(Level.NOMINAL if spec.choices else Level.INTERVAL)
        estimate = self._estimate(campaign, spec) if spec.consensus is Method.DAWID_SKENE else None
        artifact = self._lines.write("labels", "labels.ndjson", self._exported(campaign, tally))
        figures = {
            **tally.figures(),
            "annotations": self._campaigns.annotations(campaign),
            "gold": {who: {"right": right, "wrong": wrong} for who, (right, wrong) in self._campaigns.on_gold(campaign).items()},
            "estimate": {name: value for name, value in estimate.items() if name != "confusion"} if estimate else None,
            "confusion": estimate.get("confusion", {}) if estimate else {},
        }
        number = self._campaigns.snapshot(campaign, artifact, tally.tasks, figures)
        told = {name: value for name, value in figures.items() if name not in OF_LABELERS}
        return SnapshotTaken(snapshot=artifact, number=number, tasks=tally.tasks, statistics=told)

    def _estimate(self, campaign: UUID, spec: Campaign) -> Json:
        """Decide tasks anew, by all opinions of the campaign; the rows are the truth from here on."""
        found = self._consolidation.consolidate(_watched(self._campaigns.asked(campaign)), spec.choices)
        self._campaigns.reconsider(campaign, found.method, _watched(found.decisions))
        return found.figures

    def _exported(self, campaign: UUID, tally: Tally) -> Iterator[bytes]:
        for line in _watched(self._campaigns.export(campaign)):
            tally.add(line)
            yield canonical(line) + b"\n"


def _watched(items: Iterable[Item]) -> Iterator[Item]:
    for number, item in enumerate(items, 1):
        if number % MANY == 0:
            pulse().ok(items=number)
            stop_if_asked()
        yield item
