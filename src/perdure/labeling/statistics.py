"""The figures of a label snapshot, gathered while its lines go by."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

from perdure.keys import canonical
from perdure.messages.common import Json

CLASSES = 100  # labels that are counted by name: numbers are as many as there are tasks


class Tally:
    """Counts tasks, labels, opinions by labeler, and how often two opinions on the same task agree."""

    def __init__(self) -> None:
        self.tasks = 0
        self._labels: Counter[str] = Counter()
        self._labelers: Counter[str] = Counter()
        self._pairs = self._agreeing = 0

    def add(self, line: Json) -> None:
        """Take one line of an export into account."""
        self.tasks += 1
        if isinstance(line["label"], str) and (len(self._labels) < CLASSES or line["label"] in self._labels):
            self._labels[line["label"]] += 1
        self._labelers.update(opinion["labeler"] for opinion in line["opinions"])
        values = [canonical(opinion["value"]) for opinion in line["opinions"]]
        self._pairs += len(values) * (len(values) - 1) // 2
        self._agreeing += sum(one == other for one, other in combinations(values, 2))

    def figures(self) -> Json:
        """``agreement`` is the share of agreeing pairs, pooled over tasks; none where nobody was asked twice."""
        return {
            "tasks": self.tasks,
            "opinions": self._labelers.total(),
            "labels": dict(sorted(self._labels.items())),
            "pairs": self._pairs,
            "agreement": self._agreeing / self._pairs if self._pairs else None,
            "labelers": dict(sorted(self._labelers.items())),
        }
