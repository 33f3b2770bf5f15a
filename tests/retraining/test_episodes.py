"""Statements become episodes: windows that share no data, consecutive hits, hysteresis, levels, what is late."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from perdure.keys import identity
from perdure.messages.retraining import DriftKind, EpisodeState
from perdure.retraining.episodes import Course, Meaning, Statement, follow, share_of
from perdure.spec.retrain import Policy

START = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
POLICY = Policy()


def said(hours: float, *, drifted: bool = True, **more: Any) -> Statement:
    """A window of a day that ends so many hours after the start."""
    end = START + timedelta(hours=hours)
    values = {"id": identity(hours, drifted, sorted(more.items())), "monitor": "m", "kind": DriftKind.DATA, "severity": 0.5 * drifted}
    return Statement(**(values | {"drifted": drifted, "start": end - DAY, "end": end, "received_at": end} | more))


def course(*statements: Statement, policy: Policy = POLICY, **more: Any) -> Course:
    return follow([], statements, policy, **({"window": DAY, "trained": None, "serves": None} | more))


def stands(found: Course) -> tuple[EpisodeState, int, int]:
    [episode] = found.episodes.values()
    return episode.state, episode.hits, episode.misses


def test_looks_each_hour_at_a_day_are_one_window_a_day() -> None:
    assert stands(course(*(said(24 + hour) for hour in range(24)))) == (EpisodeState.WATCH, 1, 0)
    assert stands(course(*(said(24 + hour) for hour in range(48)))) == (EpisodeState.WATCH, 2, 0)
    assert stands(course(*(said(24 + hour) for hour in range(49)))) == (EpisodeState.CONFIRMED, 3, 0)


def test_order_of_arrival_does_not_count() -> None:
    statements = [said(24 * day) for day in (1, 2, 3)]
    assert course(*reversed(statements)).episodes == course(*statements).episodes


def test_only_the_first_window_of_a_stretch_opens_an_episode() -> None:
    assert not course(said(24, drifted=False), said(30), said(47)).episodes
    assert course(said(24, drifted=False), said(48)).episodes
    assert not course(said(30), heard={"m": START + timedelta(hours=25)}).episodes
    assert course(said(30), heard={"other": START + timedelta(hours=25)}).episodes


def test_a_quiet_window_ends_what_is_only_watched() -> None:
    assert stands(course(said(24), said(48), said(72, drifted=False))) == (EpisodeState.CLOSED, 2, 1)


def test_believed_drift_ends_with_quiet_windows_in_a_row() -> None:
    believed = [said(24 * day) for day in (1, 2, 3)]
    assert stands(course(*believed, said(96, drifted=False))) == (EpisodeState.CONFIRMED, 3, 1)
    again = [*believed, said(96, drifted=False), said(120), said(144, drifted=False)]
    assert stands(course(*again)) == (EpisodeState.CONFIRMED, 4, 1)
    assert stands(course(*again, said(168, drifted=False)))[0] is EpisodeState.CLOSED


def test_between_entry_and_exit_nothing_changes() -> None:
    policy = Policy(enter=0.2, exit=0.1)
    assert not course(said(24, severity=0.15), policy=policy).episodes
    believed = [said(24 * day) for day in (1, 2, 3)]
    between = [said(24 * day, drifted=False, severity=0.15) for day in (4, 5, 6)]
    assert stands(course(*believed, *between, policy=policy)) == (EpisodeState.CONFIRMED, 3, 0)


def test_many_features_at_once_are_believed_at_once() -> None:
    assert stands(course(said(24, share=0.3)))[0] is EpisodeState.CONFIRMED
    assert stands(course(said(24, share=0.29)))[0] is EpisodeState.WATCH
    metrics = [{"feature": str(n % 10), "method": str(n), "drifted": n in (0, 10, 13)} for n in range(20)]
    assert share_of(metrics) == 0.2
    assert share_of(metrics[:9]) is None
    assert share_of(["nonsense", {"feature": "x"}]) is None


def test_a_level_confirms_and_ends_by_itself() -> None:
    fires = said(24, level=True, severity=0.0, start=None)
    assert stands(course(fires))[0] is EpisodeState.CONFIRMED
    resolved = replace(fires, id=identity("resolved"), drifted=False, end=fires.received_at + timedelta(minutes=1))
    assert stands(course(fires, resolved))[0] is EpisodeState.CLOSED


def test_what_was_trained_on_since_or_serves_no_more_is_late() -> None:
    meanings = [each.meaning for each in course(said(24), said(48), trained=START + DAY).followed]
    assert meanings == [Meaning.LATE, Meaning.PART]
    assert course(said(24, version=1), serves=2).followed[0].meaning is Meaning.LATE
    assert course(said(24, version=2), serves=2).followed[0].meaning is Meaning.PART


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 400), st.booleans(), st.sampled_from("ab")), max_size=40), st.integers(0, 40))
def test_taken_at_once_or_one_after_the_other(windows: list[tuple[int, bool, str]], cut: int) -> None:
    """Two looks see what one look sees, if they see it in order; and every statement is answered by exactly one meaning."""
    each = {(hours, monitor): said(hours, drifted=drifted, monitor=monitor) for hours, drifted, monitor in windows}
    statements = [each[key] for key in sorted(each)]
    whole = course(*statements)
    first = course(*statements[:cut])
    heard: dict[str, datetime] = {}
    for statement in statements[:cut]:
        heard[statement.monitor] = statement.received_at
    still = [episode for episode in first.episodes.values() if episode.state is not EpisodeState.CLOSED]
    then = follow(still, statements[cut:], POLICY, window=DAY, trained=None, serves=None, heard=heard)
    assert first.episodes | then.episodes == whole.episodes
    assert len(whole.followed) == len(statements)
    for episode in whole.episodes.values():
        counted = [f for f in whole.followed if f.episode == episode.id]
        spans = [f.statement for f in counted if f.statement.drifted]
        assert episode.hits <= len(spans)
        assert episode.hits <= 1 + (max(s.received_at for s in spans) - min(s.received_at for s in spans)) // DAY
