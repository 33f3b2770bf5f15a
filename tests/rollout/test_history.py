"""Which version a rollback leads to."""

from __future__ import annotations

import pytest

from perdure.keys import identity
from perdure.rollout.history import Served, lineup


@pytest.mark.parametrize(
    ("releases", "behind"),
    [
        ("", ""),
        ("1", "1"),
        ("123", "123"),
        ("123<2", "12"),
        ("123<2<1", "1"),
        ("123<1", "1"),
        ("123<24", "124"),
        ("121", "121"),
        ("1213<1", "121"),
        ("12<1<2", "12"),  # forward again, to what was rolled back
    ],
)
def test_what_was_rolled_back_stands_in_nobodys_way(releases: str, behind: str) -> None:
    served, rollback = [], False
    for sign in releases:
        if sign != "<":
            served.append(Served(version=identity(sign), number=int(sign), rollback=rollback))
        rollback = sign == "<"
    assert "".join(str(each.number) for each in lineup(served)) == behind
