from __future__ import annotations

from uuid import UUID

import pytest

from perdure.errors import Conflict
from perdure.messages.common import Json
from perdure.messages.pipeline import RunState, StepKind
from perdure.ports import Claim
from tests.metadata.together import together
from tests.metadata.world import SPEC, World, components, key_of


def claim(world: World, step: UUID, parts: Json | None = None, *, use_cache: bool = True) -> Claim:
    parts = parts or components()
    return world.steps.claim(step, key_of(parts), use_cache=use_cache, components=parts)


def computed(world: World, key: str, **changed: object) -> UUID:
    step = world.step(world.run(key))
    assert claim(world, step.id, components(**changed)).mine
    world.steps.finish(step.id, {"model_version": key})
    return step.id


def test_one_computes_while_the_others_wait(world: World) -> None:
    steps = [world.step(world.run(str(n))) for n in range(8)]
    claims = together([lambda step=step: claim(world, step.id) for step in steps])
    [winner] = [step for step, outcome in zip(steps, claims, strict=True) if outcome.mine]
    assert {outcome.busy for outcome in claims if not outcome.mine} == {winner.id}
    assert claim(world, winner.id).mine, "the same step may ask again"
    world.steps.finish(winner.id, {"model_version": "m"})
    others = [claim(world, step.id) for step in steps if step is not winner]
    assert all(outcome.hit is not None and outcome.hit.id == winner.id for outcome in others)


def test_who_waits_goes_on_when_the_other_fails(world: World) -> None:
    first, second, third = (world.step(world.run(key)) for key in "123")
    assert claim(world, first.id).mine
    assert claim(world, second.id).busy == first.id
    world.runs.close(first.run_id, RunState.TERMINATED, None)
    assert claim(world, second.id).mine
    assert claim(world, third.id).busy == second.id
    with pytest.raises(Conflict, match="has ended as cancelled"):
        claim(world, first.id)
    reopened = world.step(world.runs.run(first.run_id))
    assert claim(world, reopened.id).busy == second.id, "a step that begins again has lost its claim"


def test_who_waits_says_for_whom_and_since_when(world: World) -> None:
    first, second = world.step(world.run("1")), world.step(world.run("2"))
    assert claim(world, first.id).mine
    assert claim(world, second.id).reason == "waits: run/moderation/1 computes the same step now"
    since = world.detail(second.id).waiting_since
    assert since is not None
    assert claim(world, second.id).busy == first.id
    assert world.detail(second.id).waiting_for == "run/moderation/1, which computes the same step"
    assert world.detail(second.id).waiting_since == since
    world.steps.finish(first.id, {"model_version": "m"})
    assert claim(world, second.id).hit is not None
    assert (world.detail(second.id).waiting_for, world.detail(second.id).waiting_since) == (None, None)


def test_a_step_that_pauses_gives_its_key_to_who_waits(world: World) -> None:
    first, second = world.step(world.run("1")), world.step(world.run("2"))
    assert claim(world, first.id).mine
    assert claim(world, second.id).busy == first.id
    world.steps.release(first.id)
    assert claim(world, second.id).mine
    assert claim(world, first.id).busy == second.id, "it goes on while the other computes"
    world.steps.finish(second.id, {"model_version": "m"})
    world.steps.release(second.id)
    assert claim(world, first.id).hit is not None, "what has ended is not given up"


def test_a_hit_says_where_it_comes_from(world: World) -> None:
    origin = computed(world, "3")
    user = world.step(world.run("4"))
    outcome = claim(world, user.id)
    assert outcome.hit is not None
    assert (outcome.hit.id, outcome.hit.result) == (origin, {"model_version": "3"})
    assert outcome.reason == "hit: same code, parameters, inputs and environment as run/moderation/3"
    world.steps.finish(user.id, outcome.hit.result or {}, outcome.reason)
    third = world.step(world.run("5"))
    again = claim(world, third.id)
    assert again.hit is not None
    assert again.hit.id == origin, "a result has one origin, however often it was used"


def test_a_step_that_succeeded_is_its_own_hit(world: World) -> None:
    """An activity that lost its answer to Temporal is run again; meanwhile its key may be another."""
    origin = computed(world, "1")
    outcome = claim(world, origin, components(inputs=["another champion"]))
    assert outcome.hit is not None
    assert outcome.hit.result == {"model_version": "1"}


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"params": "other"}, "miss: parameters changed since run/moderation/1"),
        ({"code": "n3w"}, "miss: code changed since run/moderation/1"),
        ({"inputs": ["x"], "environment": "y"}, "miss: inputs and environment changed since run/moderation/1"),
        ({"code": "n", "params": "p", "inputs": ["x"]}, "miss: code, parameters and inputs changed since run/moderation/1"),
    ],
)
def test_a_miss_says_what_changed(world: World, changed: Json, reason: str) -> None:
    computed(world, "1")
    outcome = claim(world, world.step(world.run("2")).id, components(**changed))
    assert (outcome.mine, outcome.reason) == (True, reason)


def test_a_first_result_and_other_pipelines(world: World) -> None:
    computed(world, "1")
    assert claim(world, world.step(world.run("2"), StepKind.EVALUATE).id, components(params="e")).reason == (
        "miss: this pipeline has no earlier result of this step"
    )
    other = world.step(world.run("1", spec={**SPEC, "name": "other"}))
    assert claim(world, other.id).hit is not None, "the same computation is the same in every pipeline"


def test_without_the_cache_it_is_computed_and_becomes_the_newest_result(world: World) -> None:
    computed(world, "1")
    step = world.step(world.run("2"))
    outcome = claim(world, step.id, use_cache=False)
    assert (outcome.mine, outcome.reason) == (True, "computed again: the cache was switched off, or what it names is gone")
    waiting = world.step(world.run("3"))
    assert claim(world, waiting.id, use_cache=False).busy == step.id, "still one at a time"
    world.steps.finish(step.id, {"model_version": "2"})
    hit = claim(world, waiting.id).hit
    assert hit is not None
    assert hit.id == step.id


def test_a_corrupt_hit_is_computed_again(world: World) -> None:
    origin, user = computed(world, "1"), world.step(world.run("2"))
    hit = claim(world, user.id).hit
    assert hit is not None
    assert hit.id == origin
    assert claim(world, user.id, use_cache=False).mine


def test_another_key_of_the_same_step_gives_up_the_first(world: World) -> None:
    first, second = world.step(world.run("1")), world.step(world.run("2"))
    assert claim(world, first.id).mine
    assert claim(world, first.id, components(code="n3w")).mine
    assert claim(world, second.id).mine
