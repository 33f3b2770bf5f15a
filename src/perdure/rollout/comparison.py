"""What an experiment's figures say: which arm is better, that neither is, that it cannot be told, or not yet. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from perdure import sequential
from perdure.messages.common import Json
from perdure.messages.experiment import ExperimentState
from perdure.messages.rollout import StageLook, Verdict
from perdure.sequential import Interval
from perdure.spec.experiment import Experiment

_TIGHTEST = 8
"""The interval is tightest at so many times `min_units`: four times the first verdict's units in each arm."""
_UNEVEN = 0.001
"""The chance of ever calling a division by chance uneven that is none."""


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What a look comes to. ``state`` is running while it goes on; ``interval`` is of the gain, where greater is better."""

    state: ExperimentState
    reason: str
    interval: Interval | None = None


def judge(spec: Experiment, figures: Json, *, over: bool) -> Judged:
    """The verdict on the figures of `perdure.jobs.experiment`; *over*: the experiment's time is, so this look decides."""
    one, other = figures["challenger"], figures["champion"]
    if why := _uneven(one["seen"], other["seen"], spec.share):
        return Judged(state=ExperimentState.INCONCLUSIVE, reason=why)
    fewest = min(one["units"], other["units"])
    if fewest < spec.min_units:
        told = f"{one['units']:,} and {other['units']:,} units with an outcome; {spec.min_units:,} are needed in each arm"
        return Judged(state=ExperimentState.INCONCLUSIVE if over else ExperimentState.RUNNING, reason=told)
    arms = [sequential.Arm(units=arm["units"], mean=arm["mean"], variance=arm["variance"]) for arm in (one, other)]
    if spec.metric == "error":  # less is better
        arms.reverse()
    gain = sequential.difference(*arms, alpha=spec.alpha, tightest=_TIGHTEST * spec.min_units)
    told = (
        f"{spec.metric} {one['mean']:.4g} of {one['units']:,} units against {other['mean']:.4g} of {other['units']:,}; {_told(gain, spec)}"
    )
    state, why = _state(spec, gain, over=over)
    return Judged(state=state, reason=f"{why}: {told}", interval=gain)


def _state(spec: Experiment, gain: Interval, *, over: bool) -> tuple[ExperimentState, str]:
    if gain.low > 0:
        return ExperimentState.CHALLENGER, "the candidate is better"
    if gain.high < 0:
        return ExperimentState.CHAMPION, "the candidate is worse"
    if spec.min_effect and max(-gain.low, gain.high) <= spec.min_effect:
        return ExperimentState.INCONCLUSIVE, f"no difference that matters (min_effect {spec.min_effect:g})"
    if over:
        return ExperimentState.INCONCLUSIVE, "time is over and neither is better"
    return ExperimentState.RUNNING, "not decided yet"


def _told(gain: Interval, spec: Experiment) -> str:
    return f"gain {gain.difference:+.4g}, from {gain.low:+.4g} to {gain.high:+.4g} at all looks with {1 - spec.alpha:.3g} confidence"


def _uneven(one: int, other: int, share: float) -> str | None:
    """Why the arms are no fair samples, if they are not: then a difference between them says nothing."""
    if sequential.against_division(one, other, share / 100) <= 1 / _UNEVEN:
        return None
    return (
        f"the arms are no fair samples: {one:,} and {other:,} units came, which chance does not divide {share:g} : {100 - share:g};"
        " does every serving process answer for both versions, and is every prediction logged?"
    )


def stage_look(judged: Judged, spec: Experiment) -> StageLook:
    """What follows for the rollout. Where the arms could not be compared, nothing is released by `on_inconclusive`."""
    match judged.state:
        case ExperimentState.RUNNING:
            verdict = Verdict.GO_ON
        case ExperimentState.CHALLENGER:
            verdict = Verdict.PASSED
        case ExperimentState.INCONCLUSIVE if judged.interval is not None and spec.on_inconclusive == "release":
            verdict = Verdict.PASSED
        case _:
            verdict = Verdict.FAILED
    return StageLook(verdict=verdict, reason=judged.reason)
