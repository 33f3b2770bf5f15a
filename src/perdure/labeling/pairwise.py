"""What people said about pairs of answers, as figures: who won how often, and how sure that is."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from itertools import combinations
from statistics import NormalDist

from perdure.messages.common import Json


class Side(StrEnum):
    """Where an answer stood."""

    LEFT = "left"
    RIGHT = "right"


TIE = "tie"
CHOICES = (Side.LEFT.value, Side.RIGHT.value, TIE)
"""What people may say about a pair."""
INTERVAL = 0.95
"""The confidence of the interval that is told."""


@dataclass(frozen=True, kw_only=True)
class Preference:
    """Pairs that the challenger won, lost and drew, of those ``asked``. ``agreement``: share of agreeing pairs of opinions on one pair.

    ``win_rate`` counts a tie half, with its interval from ``low`` to ``high``; there is none where nothing is decided.
    """

    asked: int
    wins: int
    losses: int
    ties: int
    win_rate: float | None
    low: float | None
    high: float | None
    agreement: float | None

    @property
    def decided(self) -> int:
        """Pairs with a label."""
        return self.wins + self.losses + self.ties

    def as_json(self) -> Json:
        """As it is kept."""
        return asdict(self)


def count(labels: Iterable[Json], sides: Mapping[str, str]) -> Preference:
    """The preference in a campaign's snapshot (*labels*); *sides* tells where the challenger's answer stood, by the task's key.

    A task that is not among *sides* was added by somebody else, and does not count.
    """
    said: Counter[str] = Counter()
    opinions: Counter[bool] = Counter()  # pairs of them, by whether they agree
    for line in labels:
        if line["key"] not in sides:
            continue
        label = line["label"]
        said["ties" if label == TIE else "wins" if label == sides[line["key"]] else "losses"] += 1
        opinions.update(one["value"] == other["value"] for one, other in combinations(line["opinions"], 2))
    decided = said.total()
    rate = (said["wins"] + said["ties"] / 2) / decided if decided else None
    tail = (1 - INTERVAL) / 2
    return Preference(
        asked=len(sides),
        wins=said["wins"],
        losses=said["losses"],
        ties=said["ties"],
        win_rate=rate,
        low=None if rate is None else bound(rate, decided, 1 - tail),
        high=None if rate is None else 1 - bound(1 - rate, decided, 1 - tail),
        agreement=opinions[True] / opinions.total() if opinions else None,
    )


def bound(rate: float, decided: int, confidence: float) -> float:
    """The least rate that *decided* pairs speak for with this *confidence*: Wilson's score bound, one-sided.

    Wilson (1927), "Probable Inference, the Law of Succession, and Statistical Inference". With ties, which vary less than wins and
    losses, it is on the safe side.
    """
    z = NormalDist().inv_cdf(confidence)
    middle = rate + z * z / (2 * decided)
    spread = z * math.sqrt(rate * (1 - rate) / decided + z * z / (4 * decided * decided))
    return max(0.0, (middle - spread) / (1 + z * z / decided))
