"""What figures say about a candidate."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from perdure.messages.rollout import Verdict
from perdure.rollout.ports import Counted, Counts, ServingProcess
from perdure.rollout.probes import loaded, probed, quantile, unloadable
from perdure.spec.rollout import Probes

BOUNDS = (10.0, 20.0, 50.0)


def seen(requests: int = 100, *, errors: int = 0, slow: int = 0, disagreements: int = 0) -> Counted:
    """So many requests of one row each, of which *slow* took up to 50 ms, the others up to 10."""
    return Counted(requests=requests, rows=requests, errors=errors, disagreements=disagreements, latency=[requests - slow, 0, slow, 0])


@pytest.mark.parametrize(
    ("probes", "candidate", "broken"),
    [
        ({}, seen(errors=1), None),
        ({}, seen(errors=2), "2.00% of the requests failed, 1.00% may (100 requests, 2 failed)"),
        ({"max_error_rate": None}, seen(errors=100), None),
        ({"max_latency_ms": 40}, seen(slow=5), None),
        ({"max_latency_ms": 40}, seen(slow=15), None),
        ({"max_latency_ms": 39.9}, seen(slow=15), "95 % of the requests took up to 40.0 ms, 39.9 ms are allowed"),
        ({"max_latency_ratio": 1.1}, seen(slow=1), None),
        ({"max_latency_ratio": 2}, seen(slow=15), "4.21 times the released version's 9.5 ms"),
        ({"max_disagreement": 0.1}, seen(disagreements=10), None),
        ({"max_disagreement": 0.1}, seen(disagreements=11), "11.00% of the rows were predicted otherwise, 10.00% may be"),
    ],
)
@pytest.mark.parametrize("over", [False, True])
def test_a_limit_that_is_broken_ends_the_stage(probes: dict[str, Any], candidate: Counted, broken: str | None, over: bool) -> None:
    look = probed(Probes(**probes), Counts(candidate=candidate, released=seen()), BOUNDS, over=over)
    if broken is None:
        assert look.verdict is (Verdict.PASSED if over else Verdict.GO_ON), look.reason
    else:
        assert look.verdict is Verdict.FAILED
        assert broken in look.reason


def test_a_few_requests_end_nothing_while_more_are_waited_for() -> None:
    few = Counts(candidate=seen(19, errors=19), released=seen())
    assert probed(Probes(), few, BOUNDS, over=False).verdict is Verdict.GO_ON
    assert probed(Probes(), few, BOUNDS, over=True, late=timedelta(hours=23)).verdict is Verdict.GO_ON  # more are waited for
    assert "100.00% of the requests failed" in probed(Probes(), few, BOUNDS, over=True, late=timedelta(days=1)).reason
    assert "100.00% of the requests failed" in probed(Probes(too_few="refuse"), few, BOUNDS, over=True).reason


@pytest.mark.parametrize("requests", [0, 19])
def test_too_few_requests_are_what_the_specification_says(requests: int) -> None:
    few = Counts(candidate=seen(requests), released=seen())
    assert probed(Probes(too_few="go_on"), few, BOUNDS, over=True).verdict is Verdict.PASSED
    told = f"{requests} requests came, 20 are needed"
    refused = probed(Probes(too_few="refuse"), few, BOUNDS, over=True)
    assert (refused.verdict, refused.reason) == (Verdict.FAILED, told)
    waits = probed(Probes(), few, BOUNDS, over=True, late=timedelta(hours=23))
    assert (waits.verdict, waits.reason) == (Verdict.GO_ON, told)
    waited = probed(Probes(), few, BOUNDS, over=True, late=timedelta(hours=24))
    assert (waited.verdict, waited.reason) == (Verdict.FAILED, f"{told}, and promote.probes.wait is over")


def test_a_released_version_with_few_requests_is_no_measure() -> None:
    counts = Counts(candidate=seen(slow=100), released=seen(19))
    assert probed(Probes(max_latency_ratio=1.0), counts, BOUNDS, over=True).verdict is Verdict.PASSED


def test_a_quantile_lies_within_its_bucket() -> None:
    assert quantile([], BOUNDS) is None
    assert quantile([0, 0, 0, 0], BOUNDS) is None
    assert quantile([0, 100, 0, 0], BOUNDS) == pytest.approx(19.5)
    assert quantile([90, 10, 0, 0], BOUNDS) == pytest.approx(15.0)
    assert quantile([1, 0, 0, 99], BOUNDS) == 50.0, "of the last bucket only its beginning is known"


def process(name: str, *, loaded: bool = True, failed: str | None = None) -> ServingProcess:
    return ServingProcess(address=name, loaded=loaded, failed=failed)


def test_a_candidate_takes_part_once_everybody_has_loaded_it() -> None:
    assert loaded([process("a"), process("b")], over=False).verdict is Verdict.PASSED
    waiting = [process("a"), process("b", loaded=False)]
    assert loaded(waiting, over=False).verdict is Verdict.GO_ON
    late = loaded(waiting, over=True)
    assert (late.verdict, late.reason) == (Verdict.FAILED, "1 of 2 serving processes have not loaded it yet: b")
    assert unloadable(waiting) is None
    assert unloadable([*waiting, process("c", loaded=False, failed="its digest differs")]) == "c cannot load it: its digest differs"
    assert loaded([], over=False) == loaded([], over=True)
    assert loaded([], over=False).verdict is Verdict.PASSED
