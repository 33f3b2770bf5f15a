"""The figures of a label snapshot, gathered while its lines go by: they can be had from the object alone."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from itertools import combinations

from perdure.labeling.agreement import Level, Reliability
from perdure.labeling.consensus import ADJUDICATED, BY_MODEL
from perdure.labeling.fields import answer_bytes
from perdure.messages.common import Json

CLASSES = 100  # labels that are counted by name: numbers are as many as there are tasks
_NORMAL = 1.959963984540054  # of a 95 % interval


class Tally:
    """Counts tasks, labels and opinions; how labelers agree with each other, with decisions, and with what a model had said."""

    def __init__(self, level: Level = Level.NOMINAL) -> None:
        self.tasks = 0
        self._labels: Counter[str] = Counter()
        self._methods: Counter[str] = Counter()
        self._labelers: Counter[str] = Counter()
        self._level, self._reliability = level, Reliability(level)
        self._pairs_of: Counter[str] = Counter()  # by class: ordered pairs that it is in, and those of them that agree
        self._agreeing_of: Counter[str] = Counter()
        self._opinions_of: Counter[str] = Counter()
        self._checked: Counter[str] = Counter()
        self._agreed: Counter[str] = Counter()
        self._anchored: dict[bool, list[int]] = defaultdict(lambda: [0, 0])  # by whether it was shown: agreed, of how many
        self._audits = [0, 0]
        self._by_model = 0

    def add(self, line: Json) -> None:
        """Take one line of an export into account."""
        self.tasks += 1
        self._methods[line["method"]] += 1
        opinions = line["opinions"]
        self._count(self._labels, line["label"])
        self._labelers.update(opinion["labeler"] for opinion in opinions)
        self._reliability.add([opinion["value"] for opinion in opinions])
        for opinion in opinions:
            self._count(self._opinions_of, opinion["value"])
        for one, other in combinations([opinion["value"] for opinion in opinions], 2):
            for each, versus in ((one, other), (other, one)):
                if self._count(self._pairs_of, each) and each == versus:
                    self._agreeing_of[each] += 1
        if len(opinions) > 1 or line["method"] == ADJUDICATED:  # who was alone agrees with the decision in any case
            for opinion in opinions:
                self._checked[opinion["labeler"]] += 1
                self._agreed[opinion["labeler"]] += answer_bytes(opinion["value"]) == answer_bytes(line["label"])
        self._compare_with_model(line)

    def _compare_with_model(self, line: Json) -> None:
        self._by_model += line["method"] == BY_MODEL
        if (label := line.get("prediction", {}).get("label")) is None:
            return
        said = answer_bytes(label)
        if line.get("audit"):
            self._audits[0] += answer_bytes(line["label"]) == said
            self._audits[1] += 1
            return  # an audit is never shown, and only of what the model is sure of: it says nothing about anchoring
        for opinion in line["opinions"]:
            if opinion["shown"] is not None:
                self._anchored[opinion["shown"]][0] += answer_bytes(opinion["value"]) == said
                self._anchored[opinion["shown"]][1] += 1

    def _count(self, counts: Counter[str], value: object) -> bool:
        """Whether the value is a class that is counted by name."""
        if not isinstance(value, str) or (value not in counts and len(counts) >= CLASSES):
            return False
        counts[value] += 1
        return True

    def figures(self) -> Json:
        """``agreement`` is the share of agreeing pairs, pooled over tasks; none where nobody was asked twice."""
        found = self._reliability.agreement()
        return {
            "tasks": self.tasks,
            "opinions": self._labelers.total(),
            "labels": dict(sorted(self._labels.items())),
            "methods": dict(sorted(self._methods.items())),
            "pairs": self._reliability.pairs,
            "agreement": found.raw,
            "alpha": {"value": found.alpha, "low": found.low, "high": found.high, "tasks": found.units, "level": str(self._level)},
            "classes": {
                label: {
                    "tasks": self._labels[label],
                    "opinions": self._opinions_of[label],
                    "agreement": self._agreeing_of[label] / self._pairs_of[label] if self._pairs_of[label] else None,
                }
                for label in sorted({*self._labels, *self._opinions_of})
            },
            "anchoring": self._anchoring(),
            "model": {"tasks": self._by_model, "audit": share(*self._audits)} if self._by_model or self._audits[1] else None,
            "labelers": dict(sorted(self._labelers.items())),
            "accuracy": {
                labeler: {"checked": self._checked[labeler], "agreed": self._agreed[labeler]} for labeler in sorted(self._checked)
            },
        }

    def _anchoring(self) -> Json | None:
        """How much more people agree with a model when they see what it says. Only leases tell what was seen."""
        shown, hidden = self._anchored[True], self._anchored[False]
        if not shown[1] and not hidden[1]:
            return None
        return {"shown": share(*shown), "hidden": share(*hidden), "difference": difference(shown, hidden)}


def share(part: int, whole: int) -> Json:
    """*part* of *whole* with its 95 % interval (Wilson's score interval)."""
    if not whole:
        return {"agreed": 0, "of": 0, "share": None, "low": None, "high": None}
    p, z = part / whole, _NORMAL
    middle = (p + z * z / (2 * whole)) / (1 + z * z / whole)
    half = z / (1 + z * z / whole) * math.sqrt(p * (1 - p) / whole + z * z / (4 * whole * whole))
    return {"agreed": part, "of": whole, "share": p, "low": max(0.0, middle - half), "high": min(1.0, middle + half)}


def difference(one: list[int], other: list[int]) -> Json | None:
    """One share less the other with its 95 % interval (Newcombe, 1998, method 10: from the two score intervals)."""
    if not one[1] or not other[1]:
        return None
    first, second = share(*one), share(*other)
    gap = first["share"] - second["share"]
    below = math.hypot(first["share"] - first["low"], second["high"] - second["share"])
    above = math.hypot(first["high"] - first["share"], second["share"] - second["low"])
    return {"value": gap, "low": gap - below, "high": gap + above}
