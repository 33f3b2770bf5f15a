"""Gates: a pure judgement of an evaluation's figures, each verdict with a reason that people can read."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from perdure.labeling.pairwise import INTERVAL, Preference, bound
from perdure.messages.common import Json
from perdure.ports import Verdict
from perdure.spec.human import Human
from perdure.spec.pipeline import Gate

_ALL_TIES = 0.5  # the win rate of two models that answer alike: a tie counts half


def judge(gates: Sequence[Gate], figures: Json, *, champion_number: int | None) -> list[Verdict]:
    """One verdict for each gate, or, for a gate on slices, for each slice of its column; a model passes if all do.

    *figures* is the evaluation job's result, *champion_number* the version that it names champion.
    """
    return [verdict for gate in gates for verdict in _verdicts(gate, figures, champion_number)]


def unasked(human: Human, figures: Json, others: Sequence[Verdict], *, champion_number: int | None) -> Verdict | None:
    """The verdict that needs no people: there is nothing to compare, or nothing that they say could release the model. None: ask them.

    *others* are the verdicts of the other gates.
    """
    champion, pairs = figures["champion"], figures.get("pairs") or {"asked": 0}
    if champion is None:
        return _by_people(human, True, "people are not asked: there is no champion to compare with")
    if champion.get("error"):
        reason = f"people cannot compare: version {champion_number} cannot score these rows: {champion['error']}"
        return _by_people(human, False, reason)
    if not all(verdict.passed for verdict in others):
        return _by_people(human, False, "people are not asked: another gate failed")
    if pairs["asked"]:
        return None
    told = f"people are not asked: the answers of version {champion_number} are the same on all {figures['rows']:,} rows"
    passed = human.min_win_rate <= _ALL_TIES
    return _by_people(human, passed, f"{told}, a win rate of {_ALL_TIES}{'' if passed else f' < {human.min_win_rate:g}'}", _ALL_TIES)


def preferred(human: Human, said: Preference, *, champion_number: int | None, ended: str) -> Verdict:
    """The verdict of people; *ended* is why their campaign closed."""
    rate = said.win_rate
    if rate is None:
        reason = (
            f"people decided none of {said.asked} pairs: {ended}; for another try set a later evaluate.human.deadline, "
            "or run again with `--from evaluate`"
        )
        return _by_people(human, False, reason)
    judged = rate if human.confidence is None else bound(rate, said.decided, human.confidence)
    passed = judged >= human.min_win_rate
    one, other = _told(judged, human.min_win_rate)
    compared = f"{one} {'≥' if passed else '<'} {other}"
    if human.confidence is not None:
        compared = f"{rate:.3g}, with {human.confidence:.0%} confidence at least {compared}"
    counted = f"people preferred it to version {champion_number} in {said.wins} of {said.decided} pairs, with {said.ties} ties"
    partial = "" if said.decided == said.asked else f" ({said.asked} were asked about: {ended})"
    interval = f"{INTERVAL:.0%} interval {said.low:.2f} to {said.high:.2f}"
    agreed = "" if said.agreement is None else f", raw agreement {said.agreement:.2f}"
    return _by_people(human, passed, f"{counted}{partial}: win rate {compared}; {interval}{agreed}", rate)


def _by_people(human: Human, passed: bool, reason: str, value: float | None = None) -> Verdict:
    return Verdict(gate=human.gate(), passed=passed, reason=reason, value=value)


def _verdicts(gate: Gate, figures: Json, number: int | None) -> Iterator[Verdict]:
    challenger, champion = figures["challenger"], figures["champion"]
    if gate.slice is None:
        yield _verdict(gate, challenger, champion, number, champion, None)
        return
    slices = challenger["slices"].get(gate.slice, {})
    if not slices:
        yield _made(gate, True, f"no slice of {gate.slice} has enough rows to be judged", slice=gate.slice)
    for value, group in slices.items():
        theirs = champion["slices"].get(gate.slice, {}).get(value) if champion and not champion.get("error") else None
        yield _verdict(gate, group, theirs, number, champion, f"{gate.slice}={value}")


def _verdict(gate: Gate, ours: Json, theirs: Json | None, number: int | None, champion: Json | None, slice: str | None) -> Verdict:
    """The verdict on one group of rows: *ours* and *theirs* are the challenger's and the champion's figures there."""
    where = f" where {slice}" if slice else ""
    value = ours["metrics"].get(gate.metric)
    if value is None:
        why = ours.get("notes", {}).get(gate.metric, "it was not computed")
        # a slice may lack a class by its nature; all test rows together may not
        return _made(gate, slice is not None, f"{gate.metric}{where} cannot be judged: {why}", slice=slice)
    if gate.versus is None:
        return _bound(gate, value, where, slice)
    if champion is None:
        return _made(gate, True, f"{gate.metric}{where} {value:.4g}: there is no champion to compare with", value, slice=slice)
    if champion.get("error"):
        reason = f"{gate.metric}{where} cannot be compared: version {number} cannot score these rows: {champion['error']}"
        return _made(gate, False, reason, value, slice=slice)
    other = theirs["metrics"].get(gate.metric) if theirs else None
    if other is None:
        return _made(gate, slice is not None, f"{gate.metric}{where} of version {number} cannot be judged", value, slice=slice)
    return _change(gate, value, other, where, number, slice)


def _bound(gate: Gate, value: float, where: str, slice: str | None) -> Verdict:
    bound = gate.min if gate.min is not None else gate.max
    assert bound is not None
    passed = value >= bound if gate.min is not None else value <= bound
    sign = ("≥" if passed else "<") if gate.min is not None else ("≤" if passed else ">")
    one, other = _told(value, bound)
    return _made(gate, passed, f"{gate.metric}{where} {one} {sign} {other}", value, slice=slice)


def _change(gate: Gate, value: float, other: float, where: str, number: int | None, slice: str | None) -> Verdict:
    change = value - other
    bound = gate.min_change if gate.min_change is not None else gate.max_change
    assert bound is not None
    if math.isclose(change, bound, rel_tol=1e-9, abs_tol=1e-12):  # a difference of floats has the noise of both
        change = bound
    passed = change >= bound if gate.min_change is not None else change <= bound
    size, allowed = _told(abs(change), abs(bound))
    moved = "did not change" if change == 0 else f"{'rose' if change > 0 else 'fell'} by {size}"
    bad = "fall" if gate.min_change is not None else "rise"
    if bound == 0:
        rule = f"it may not {bad}"
    elif (bound < 0) == (bad == "fall"):
        rule = f"it may {bad} by {allowed} at most"
    else:
        rule = f"it must {'rise' if bad == 'fall' else 'fall'} by {allowed} at least"
    return _made(gate, passed, f"{gate.metric}{where} {moved} against version {number}, {rule}", value, other, slice)


def _made(
    gate: Gate, passed: bool, reason: str, value: float | None = None, champion: float | None = None, slice: str | None = None
) -> Verdict:
    return Verdict(
        gate=gate.model_dump(mode="json", exclude_none=True),
        passed=passed,
        reason=reason,
        value=value,
        champion_value=champion,
        slice=slice,
    )


def _told(one: float, other: float) -> tuple[str, str]:
    """Both numbers, as short as they can be and still differ."""
    for digits in range(4, 18):
        texts = f"{one:.{digits}g}", f"{other:.{digits}g}"
        if texts[0] != texts[1] or one == other:
            break
    return texts
