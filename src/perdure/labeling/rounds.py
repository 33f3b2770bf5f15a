"""Whether a run asks people again: pure, from what its rounds came to."""

from __future__ import annotations

from perdure.messages.common import Json
from perdure.messages.selection import RoundDone
from perdure.spec.label import Label
from perdure.spec.pipeline import LOWER_IS_BETTER


def worth_more(metrics: list[tuple[int, float]], least_gain: float) -> bool:
    """Whether more labels are worth asking for: the last round gained at least *least_gain* of the metric per 100 labels.

    *metrics* holds (labels so far, metric, higher is better) by round. With one round nothing is known yet.
    """
    if len(metrics) < 2:
        return True
    (before, was), (now, score) = metrics[-2:]
    return now > before and (score - was) * 100 / (now - before) >= least_gain


def enough(label: Label, metric: str, rounds: list[RoundDone], pool: int) -> str:
    """Why nobody is asked after these *rounds*; empty where there is something to ask."""
    done = len(rounds) - 1
    if done >= label.rounds:
        return f"{done} round{'s' if done != 1 else ''} of questions {'are' if done != 1 else 'is'} the most"
    if pool == 0:
        return "every row has a label"
    if label.min_gain is None:
        return ""
    sign = -1 if metric in LOWER_IS_BETTER else 1
    known = [(each.labeled, sign * each.metrics[metric]) for each in rounds if metric in each.metrics]
    if worth_more(known, label.min_gain):
        return ""
    (before, was), (now, score) = known[-2:]
    return f"{metric} went from {sign * was:.4f} to {sign * score:.4f} with {now - before} more labels, which gains too little"


def confident(label: Label, figures: Json) -> str:
    """Why nobody is asked about this pool, of which *figures* tell how sure the model is; empty where people are asked."""
    if label.when is None or figures["confident"] < label.when.confident_below:
        return ""
    share, bound = figures["confident"], label.when.confident_below
    return f"the model is confident about {share:.1%} of the pool; people are asked below {bound:.1%}"
