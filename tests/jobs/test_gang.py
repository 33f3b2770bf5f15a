"""What the outcomes of a group's workers mean."""

from __future__ import annotations

from typing import Any

import pytest

from perdure.errors import DataRejected, ObjectsUnavailable, UserCodeError
from perdure.jobs.checkpoints import Trained

gang: Any = pytest.importorskip("perdure.jobs.gang")

DONE = gang.Outcome(trained=Trained({}, {}))
PEER = gang.Outcome(error=DataRejected("Broken pipe").as_dict(), doubtful=True)  # what survivors report
OWN = gang.Outcome(error=UserCodeError("the trainer raised ValueError").as_dict())
AWAY = gang.Outcome(error=ObjectsUnavailable("S3 does not answer").as_dict())


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        ([PEER, gang.Outcome(paused="at round 20")], gang.Paused),
        ([PEER, gang.Outcome(fenced="superseded")], gang.Fenced),
        ([gang.Outcome(paused="at round 20"), gang.Outcome(fenced="superseded")], gang.Fenced),
        ([PEER, OWN], UserCodeError),
        ([OWN, AWAY], ObjectsUnavailable),  # the owner's code fails when its peer leaves
        ([PEER, gang.Outcome(unknown="Traceback")], RuntimeError),
        ([DONE, PEER], gang.WorkerLost),
        ([PEER, PEER], gang.WorkerLost),
    ],
)
def test_the_first_cause_counts(outcomes: list[Any], expected: type[BaseException]) -> None:
    for order in (outcomes, outcomes[::-1]):
        with pytest.raises(expected):
            gang._judge(order)


def test_no_failure() -> None:
    gang._judge([DONE, DONE])


def test_a_doubtful_error_is_kept_for_the_case_that_it_comes_again() -> None:
    with pytest.raises(gang.WorkerLost) as lost:
        gang._judge([PEER, DONE])
    assert isinstance(lost.value.error, DataRejected)
