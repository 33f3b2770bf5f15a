"""Foreign changes of MLflow's registry: what is one, and when is looked. The real registry: tests/e2e/test_scores.py."""

from __future__ import annotations

from uuid import uuid4

from perdure.messages.common import Json
from perdure.registry import AT_ONCE, EVERY, GONE, Expected, Looks, Seen, differences


def test_what_differs_is_told_in_words() -> None:
    ours = Expected(model="m", release=uuid4(), external="3", tags={"perdure.version": "2", "run": "run/m/1"})
    assert differences(ours, Seen(there=True, champion="3", tags={**ours.tags, "theirs": "kept"})) == []
    assert differences(ours, Seen(there=True, champion="4", tags={"perdure.version": "9"})) == [
        "the alias champion names version 4, not version 3",
        "the tag perdure.version of version 3 is '9', not '2'",
        "the tag run of version 3 is None, not 'run/m/1'",
    ]
    assert differences(ours, Seen(there=False)) == [GONE]
    unreleased = Expected(model="m")
    assert differences(unreleased, Seen(there=True, champion="1")) == ["the alias champion names version 1, not none"]
    assert differences(unreleased, Seen(there=True)) == differences(unreleased, Seen(there=False)) == []


class Scripted:
    """Rows and a registry that say what a test wants."""

    def __init__(self, models: int) -> None:
        self.rows = [Expected(model=f"m{i:02}", external="1") for i in range(models)]
        self.looked: list[str] = []
        self.mended: list[str] = []
        self.champion = "1"
        self.release_meanwhile = False

    def models(self) -> list[str]:
        return [each.model for each in self.rows]

    def expected(self, models: list[str]) -> list[Expected]:
        if len(models) == 1 and self.release_meanwhile:  # it is read again, as something differs
            return [Expected(model=name, external="2") for name in models]
        assert len(models) <= AT_ONCE
        return [each for each in self.rows if each.model in models]

    def look(self, model: str, external: str | None) -> Seen:
        self.looked.append(model)
        return Seen(there=True, champion=self.champion)

    def mend(self, model: str, external: str | None, tags: Json) -> None:
        self.mended.append(model)

    def repaired(self, expected: Expected, found: list[str]) -> None:
        assert found == ["the alias champion names version 2, not version 1"]

    def forget(self, model: str) -> None:
        raise AssertionError(model)


def test_models_are_looked_at_in_turn_and_a_release_meanwhile_is_no_mistake() -> None:
    now = 0.0
    world = Scripted(models=25)
    looks = Looks(world, world, clock=lambda: now)
    for _ in range(4):
        assert looks.run_once() == 0
    assert world.looked == [f"m{i:02}" for i in range(25)], "each once, then none before its time"
    now, world.champion, world.release_meanwhile = EVERY, "2", True
    assert looks.run_once() == 0
    assert not world.mended
    now, world.release_meanwhile = 2 * EVERY, False
    assert looks.run_once() == 10
    assert world.mended == [f"m{i:02}" for i in range(10, 20)]
