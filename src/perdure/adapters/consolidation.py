"""Port `Consolidation` by Dawid and Skene's method, with numpy, which is loaded when it is needed: most campaigns never do.

What is in memory: an id and a digest of each task, three integers of each opinion, and of floats, some four times tasks x choices and
opinions x choices. 100,000 tasks with two choices and three opinions each are 100 MB for some seconds.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from perdure.errors import InvalidInput
from perdure.labeling.consensus import BY_ESTIMATE
from perdure.labeling.ports import Asked, Consolidated, Estimated
from perdure.messages.common import Json

if TYPE_CHECKING:
    from perdure.labeling.dawid_skene import DawidSkene

MOST_FIGURES = 10_000  # numbers of confusion matrices that are told, those of the busiest labelers


class DawidSkeneConsolidation:
    """Labels and labelers' errors from all opinions at once."""

    def ready(self) -> None:
        """Raises InvalidInput where numpy is missing."""
        try:
            import numpy  # noqa: F401
        except ImportError:
            raise InvalidInput(
                "this worker cannot estimate labels: numpy is not installed",
                field="consensus",
                remedy="install perdure[data] where workers run, or choose `weighted` or `majority`; what was answered is kept",
            ) from None

    def consolidate(self, tasks: Iterable[Asked], choices: Sequence[str]) -> Consolidated:
        """The most likely label of each task. A known label stays; it tells how good labelers are. A tie falls to the first choice."""
        self.ready()
        import numpy as np

        from perdure.labeling.dawid_skene import dawid_skene

        code = {choice: number for number, choice in enumerate(choices)}
        labelers: dict[str, int] = {}
        decided: list[Asked] = []
        of, by, said, known, gold = (array("q") for _ in range(5))
        for number, task in enumerate(tasks):
            decided.append(replace(task, votes=[]))
            known.append(-1 if task.known is None else code[task.known])
            gold.append(task.gold)
            for labeler, value in task.votes:
                of.append(number)
                by.append(labelers.setdefault(labeler, len(labelers)))
                said.append(code[value])
        if not of:
            return Consolidated(method=BY_ESTIMATE, decisions=iter(()), figures={})
        about, labeler_of, labels, truth, chosen = (np.frombuffer(column, dtype=np.int64) for column in (of, by, said, known, gold))
        found = dawid_skene(about, labeler_of, labels, len(choices), known=truth, chosen=chosen.astype(bool))
        times = np.bincount(labeler_of, minlength=len(labelers))
        return Consolidated(
            method=BY_ESTIMATE, decisions=_decisions(decided, found, choices), figures=_figures(found, choices, list(labelers), list(times))
        )


def _decisions(tasks: list[Asked], found: DawidSkene, choices: Sequence[str]) -> Iterator[Estimated]:
    best = found.posterior.argmax(axis=1)
    for number, task in enumerate(tasks):
        if task.known is None:
            label = int(best[number])
            yield Estimated(
                task=task.id, label=choices[label], posterior=float(found.posterior[number, label]), inputs_sha256=task.inputs_sha256
            )


def _figures(found: DawidSkene, choices: Sequence[str], labelers: list[str], times: list[int]) -> Json:
    """How it went, and of labelers how often each says what of which true label; ``accuracy`` is over the labels as they are frequent."""
    told = MOST_FIGURES // len(choices) ** 2 or 1
    busiest = sorted(range(len(labelers)), key=lambda number: (-times[number], labelers[number]))[:told]
    return {
        "iterations": found.iterations,
        "converged": found.converged,
        "prior": dict(zip(choices, map(float, found.prior), strict=True)),
        "confusion": {
            labelers[number]: {
                "accuracy": float(found.confusion[number].diagonal() @ found.prior),
                "said": {
                    truth: dict(zip(choices, map(float, row), strict=True))
                    for truth, row in zip(choices, found.confusion[number], strict=True)
                },
            }
            for number in sorted(busiest, key=lambda number: labelers[number])
        },
    }
