"""The bars of false actions and of power, in short; in full: `python -m benchmarks.false_actions`."""

from __future__ import annotations

from benchmarks.false_actions import DAY, PLANTED, confirmed, quiet


def test_weeks_without_drift_lead_to_nothing_and_planted_drift_is_seen() -> None:
    controller = quiet(seed=3, hours=42 * DAY)
    assert controller.actions == []
    assert controller.looks > 41 * DAY
    assert all(confirmed(10_000, monitor, planted) for monitor, planted in PLANTED.values())
