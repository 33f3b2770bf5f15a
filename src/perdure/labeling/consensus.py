"""The label of one task from the opinions on it, or the wish for another opinion."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from perdure.keys import canonical
from perdure.labeling.spec import Method, Overlap

PRIOR = (4.0, 1.0)  # gold answers, right and wrong, that every labeler is credited with: 0.8 before anything is known
_LEAST, _MOST = 0.51, 0.99

ADJUDICATED = "adjudicated"
"""The method of a decision by hand: no change of opinions takes it back, no estimate overrules it."""
BY_ESTIMATE = "dawid-skene/1"
"""The method of a decision that was estimated from all opinions of the campaign."""
BY_MODEL = "model/1"
"""The method of a decision that is a model's own answer, which the campaign accepts."""


@dataclass(frozen=True, kw_only=True)
class Opinion:
    """What one labeler says, and how they did on gold tasks."""

    value: Any
    labeler: str
    right: int = 0
    wrong: int = 0

    @property
    def accuracy(self) -> float:
        """The mean of a Beta posterior, within bounds that keep one labeler from deciding alone against many."""
        mean = (self.right + PRIOR[0]) / (self.right + self.wrong + sum(PRIOR))
        return min(_MOST, max(_LEAST, mean))


class Verdict(StrEnum):
    """What is to become of the task."""

    DECIDED = "decided"
    MORE = "more"
    DISPUTED = "disputed"


@dataclass(frozen=True, kw_only=True)
class Consensus:
    """The winning label with its posterior probability; ``method`` says how it was found, and by which version of it.

    ``weights`` are the accuracies that votes were weighed by, so that the same opinions give the same posterior again.
    """

    verdict: Verdict
    label: Any = None
    posterior: float = 0.0
    method: str = "weighted-majority/1"
    weights: dict[str, float] = field(default_factory=dict)


def decide(opinions: Sequence[Opinion], choices: Sequence[str], overlap: Overlap, method: Method = Method.WEIGHTED) -> Consensus:
    """The label of one task from all opinions on it, which must not be none. Numbers are decided by their median."""
    if not choices:
        return Consensus(verdict=Verdict.DECIDED, label=_median(opinions), posterior=1.0, method="median/1")
    found = _majority(opinions) if method is Method.MAJORITY else _weighted(opinions, choices)
    if found.posterior >= overlap.agreement and found.verdict is Verdict.DECIDED:
        return found
    return replace(found, verdict=Verdict.MORE if len(opinions) < overlap.most else Verdict.DISPUTED)


def _median(opinions: Sequence[Opinion]) -> float:
    values = sorted(float(each.value) for each in opinions)
    middle = len(values) // 2
    if len(values) % 2:
        return values[middle]
    both = values[middle - 1] + values[middle]
    return both / 2 if math.isfinite(both) else values[middle - 1] / 2 + values[middle] / 2


def _majority(opinions: Sequence[Opinion]) -> Consensus:
    """The most frequent value; its share stands for a posterior. A tie is no decision."""
    votes = Counter(canonical(each.value) for each in opinions)
    named = {canonical(each.value): each.value for each in opinions}
    best, *others = sorted(votes, key=lambda value: (-votes[value], value))
    tied = bool(others) and votes[others[0]] == votes[best]
    verdict = Verdict.MORE if tied else Verdict.DECIDED
    return Consensus(verdict=verdict, label=named[best], posterior=votes[best] / len(opinions), method="majority/1")


def _weighted(opinions: Sequence[Opinion], choices: Sequence[str]) -> Consensus:
    """Each opinion is a vote with the log odds of its labeler's accuracy; errors are spread evenly over the other choices.

    (The one-coin model of Dawid and Skene, 1979, with accuracies from gold instead of EM.)
    """
    scores: dict[bytes, float] = defaultdict(float)
    named = {canonical(each.value): each.value for each in opinions}
    for each in opinions:
        scores[canonical(each.value)] += math.log(each.accuracy * max(1, len(choices) - 1) / (1 - each.accuracy))
    best = max(sorted(scores), key=lambda value: scores[value])  # sorted: a tie falls the same way in every attempt
    unseen = max(0, len(choices) - len(scores))
    total = sum(math.exp(score - scores[best]) for score in scores.values()) + unseen * math.exp(-scores[best])
    weights = {each.labeler: each.accuracy for each in opinions}
    return Consensus(verdict=Verdict.DECIDED, label=named[best], posterior=1 / total, weights=weights)
