"""`perdure retrain` and `perdure backfill`: what is told, and which mistakes are found before a server is asked."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from perdure.cli.retraining import _cutoffs, _tell
from perdure.errors import InvalidInput
from perdure.keys import identity
from perdure.messages.retraining import DriftKind, EpisodeState, Outcome, TriggerKind
from perdure.metadata.queries.retraining import DecisionDetail, EpisodeDetail, Waiting, Why

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


def test_cutoffs_go_from_the_first_to_the_last() -> None:
    assert _cutoffs("2026-01-01", "2026-01-20", "7d") == [datetime(2026, 1, day, tzinfo=UTC) for day in (1, 8, 15)]
    assert _cutoffs("2026-01-01T02:00:00+02:00", "2026-01-01", "1d") == [datetime(2026, 1, 1, tzinfo=UTC)]


@pytest.mark.parametrize(
    ("begin", "end", "every", "field"),
    [
        ("soon", "2026-01-02", "1d", "--from"),
        ("2026-01-01", "later", "1d", "--to"),
        ("2026-01-02", "2026-01-01", "1d", "--to"),
        ("2026-01-01", "2026-01-02", "often", "--every"),
        ("2026-01-01", "2026-01-02", "1s", "--every"),
        ("2000-01-01", "2026-01-01", "1m", "--every"),
    ],
)
def test_cutoffs_that_are_none(begin: str, end: str, every: str, field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        _cutoffs(begin, end, every)
    assert refused.value.field == field


def test_why_tells_decisions_episodes_and_what_waits(capsys: pytest.CaptureFixture[str]) -> None:
    decision = DecisionDetail(
        id=identity("d"),
        at=NOW,
        outcome=Outcome.NOTHING,
        reason="quality drift by error is confirmed, but cooldown until 2026-11-23 09:00",
        detail={},
        policy=1,
        actor="perdure",
        events=7,
    )
    episode = EpisodeDetail(
        id=identity("e"), monitor="error", kind=DriftKind.QUALITY, state=EpisodeState.CONFIRMED, hits=3, misses=0, opened_at=NOW
    )
    waiting = Waiting(kind=TriggerKind.LABELS, text="212 labels are new", at=NOW, actor="perdure")
    _tell(
        Why(
            model="m",
            pipeline="p",
            policy={},
            decisions=[decision],
            episodes=[episode],
            waiting=[waiting],
            undecided=2,
            snoozed_until=datetime.now(UTC) + timedelta(days=1),
        )
    )
    told = capsys.readouterr().out
    for part in ("212 labels are new", "2 drift events", "confirmed", "cooldown until", "snoozed until", "7"):
        assert part in told
