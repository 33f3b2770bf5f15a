"""What the reconciler tells MLflow: what is refused holds up nothing."""

from __future__ import annotations

from collections.abc import Collection
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

from perdure import reconciler
from perdure.reconciler import Reconciler


class Rows:
    """Pending runs, of which two are read at a time."""

    def __init__(self, number: int) -> None:
        self.pending = {UUID(int=n): SimpleNamespace(id=UUID(int=n), digest="running") for n in range(number)}

    def runs(self, besides: Collection[UUID]) -> list[Any]:
        return [run for id, run in self.pending.items() if id not in besides][:2]

    def metrics(self, besides: Collection[UUID]) -> list[Any]:
        return []

    versions = releases = metrics

    def pushed(self, kind: str, id: UUID, digest: str, external: str) -> None:
        del self.pending[id]


class MLflow:
    """Refuses some runs."""

    def __init__(self, refused: int) -> None:
        self.refused, self.asked = refused, list[int]()

    def push_run(self, run: Any) -> str:
        self.asked.append(run.id.int)
        if run.id.int < self.refused:
            raise RuntimeError("its experiment was deleted")
        return "external"


def test_what_is_refused_holds_up_nothing_and_is_tried_again_less_and_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(reconciler.time, "monotonic", lambda: now)
    rows, registry = Rows(5), MLflow(refused=3)
    unused: Any = SimpleNamespace()
    made = Reconciler(unused, unused, rows, unused, registry, [])  # type: ignore[arg-type]
    for _ in range(3):
        made._project(registry)  # type: ignore[arg-type]
        now += 1
    assert registry.asked == [0, 1, 2, 3, 4]
    for _ in range(300):
        made._project(registry)  # type: ignore[arg-type]
        now += 1
    assert 5 <= registry.asked.count(0) <= 8
    registry.refused = 0
    for _ in range(600):
        made._project(registry)  # type: ignore[arg-type]
        now += 1
    assert rows.pending == {}
