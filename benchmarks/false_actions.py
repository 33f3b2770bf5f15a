"""``python -m benchmarks.false_actions [YEARS] [TRIALS]``: what monitors and policy do in years without drift, and how soon they see one.

Each year is a world of its own (`benchmarks.drift_world`): 50 features, hourly looks, a day, a week, and weather that lasts. What a
look says goes through `perdure.retraining.look`, which decides as the controller does, by the default policy with actions. An action
without drift is a false one. The power is that of the same code: drift is planted, and counts as seen if an action follows within four
windows.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from benchmarks.common import record
from benchmarks.drift_world import DAY, MONITORS, YEAR, Drift, Simulation
from perdure.keys import identity
from perdure.messages.retraining import DriftKind, EpisodeState, Outcome
from perdure.retraining.episodes import Episode, Statement
from perdure.retraining.look import look
from perdure.retraining.policy import Past, Situation
from perdure.spec.retrain import Act, Policy

START = datetime(2026, 1, 1, tzinfo=UTC)
KINDS = dict(zip(MONITORS, (DriftKind.DATA, DriftKind.LABEL, DriftKind.CONCEPT, DriftKind.QUALITY), strict=True))
POLICY = Policy(act=Act())
PLANTED = {
    "0.5 standard deviations in 3 of 50 features": ("requests", Drift(start=0, features=3, shift=0.5)),
    "5 points of error": ("quality", Drift(start=0, error=0.05)),
}


class Controller:
    """A model's controller without servers: what it knows between two looks."""

    def __init__(self, policy: Policy = POLICY) -> None:
        self.policy, self.actions, self.looks, self.opened = policy, list[tuple[int, str]](), 0, 0
        self._open: list[Episode] = []
        self._history: list[Past] = []

    def take(self, hour: int, said: dict[str, tuple[bool, float]]) -> None:
        """What each monitor says of the window that ends at *hour*: whether it has drifted, and how severely.

        What is quiet without an episode is left out: it changes nothing.
        """
        self.looks += 1
        known = {episode.monitor for episode in self._open}
        told = {name: each for name, each in said.items() if each[0] or name in known}
        if not told:
            return
        at = START + timedelta(hours=hour)
        statements = [
            Statement(
                id=identity(name, hour),
                monitor=name,
                kind=KINDS[name],
                drifted=drifted,
                severity=severity,
                start=at - timedelta(hours=DAY),
                end=at,
                received_at=at,
            )
            for name, (drifted, severity) in told.items()
        ]
        situation = Situation(now=at, policy=self.policy, episodes=self._open, history=self._history, asks=True)
        heard = dict.fromkeys(MONITORS, at - timedelta(hours=1))
        found = look(situation, statements, window=timedelta(hours=DAY), heard=heard)
        self.opened += len(set(found.episodes) - {episode.id for episode in self._open})
        self._open = [each for each in found.episodes.values() if each.state is not EpisodeState.CLOSED]
        for answer in found.decisions.values():
            if answer.outcome is not Outcome.NOTHING:
                self.actions.append((hour, answer.reason))
                self._history.insert(0, Past(at=at, automatic=True, helped=False, finished_at=at))
                self._open = [each for each in self._open if each.id not in answer.episodes]  # an action that does not help ends them


def said(simulation: Simulation, hours: int, planted: Drift | None = None) -> Iterator[tuple[int, dict[str, tuple[bool, float]]]]:
    """By hour, what the monitors say."""
    for looks in simulation.looks(hours, planted):
        for number, end in enumerate(looks.ends):
            yield int(end), {name: (bool(looks.drifted[name][number]), float(looks.severity[name][number])) for name in MONITORS}


def quiet(seed: int, hours: int = YEAR) -> Controller:
    """A year without drift."""
    controller = Controller()
    for hour, each in said(Simulation(seed), hours):
        controller.take(hour, each)
    return controller


def confirmed(seed: int, monitor: str, planted: Drift, windows: int = 4) -> bool:
    """Whether an action answers the planted drift by *monitor* within so many windows."""
    before = 3 * DAY
    controller = Controller()
    for hour, each in said(Simulation(seed), before + windows * DAY, replace(planted, start=before)):
        controller.take(hour, each)
    return any(hour > before and f"drift by {monitor}" in reason for hour, reason in controller.actions)


def main(years: int = 30, trials: int = 200) -> None:
    """Count, and keep the result."""
    began, controllers = time.process_time(), list[Controller]()
    for seed in range(years):
        controllers.append(controller := quiet(seed))
        print(f"year {seed + 1}: {controller.opened} episodes, {len(controller.actions)} actions", flush=True)
    power = {}
    for name, (monitor, planted) in PLANTED.items():
        seen = sum(confirmed(10_000 + seed, monitor, planted) for seed in range(trials))
        power[name] = {"trials": trials, "seen": seen, "share": seen / trials}
        print(f"{name}: {seen} of {trials}", flush=True)
    record(
        "false_actions",
        {
            "years": years,
            "false_actions": sum(len(each.actions) for each in controllers),
            "episodes": sum(each.opened for each in controllers),
            "looks": sum(each.looks for each in controllers),
            "power_within_4_windows": power,
            "cpu_seconds": time.process_time() - began,
            "actions": [{"year": number + 1, "of": each.actions} for number, each in enumerate(controllers) if each.actions],
        },
    )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
