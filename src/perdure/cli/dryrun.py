"""What a run would compute, what it would reuse, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from perdure.keys import digest, step_params
from perdure.messages.pipeline import RunRequest, StepKind

if TYPE_CHECKING:
    from perdure.metadata.database import Database
    from perdure.metadata.queries.cache import Cached
    from perdure.ports import PipelineVersion

CACHED = (StepKind.PREPARE, StepKind.TRAIN, StepKind.EVALUATE)
ASSUMED = "as if neither the source nor what is installed where jobs run had changed"


@dataclass(frozen=True, kw_only=True)
class Foretold:
    """What a run would do with one step."""

    step: str
    computed: bool
    why: str


def foretell(database: Database, version: PipelineVersion, spec: dict[str, Any], request: RunRequest) -> list[Foretold]:
    """Which steps a run of *spec* would compute, and why. Reads rows only: the source is not looked at, so it is taken as unchanged."""
    from perdure.metadata.queries.cache import newest, with_components
    from perdure.metadata.repository import ModelRows
    from perdure.spec.human import without_people

    code = version.code.sha256 if version.code else None
    model = str(spec.get("model") or spec["name"])
    champion = ModelRows(database).champion(model)
    first = without_people(spec) if spec.get("label") else spec  # they compare the last round's model
    told: list[Foretold] = []
    found: list[Cached] = []
    for step in CACHED:
        if why := _forced(step, request):
            told.append(Foretold(step=step, computed=True, why=why))
        elif len(found) < len(told):
            told.append(Foretold(step=step, computed=True, why=f"{told[-1].step} is computed, and may give another result"))
        else:
            params = digest(step_params(step, first, model))
            fits = with_components(
                database, step, code=code, params=params, inputs=_inputs(found, champion.predictor.sha256 if champion else None)
            )
            if fits:
                found.append(fits)
                unless = ", unless people have said more about predictions since" if step is StepKind.PREPARE and _learns(spec) else ""
                told.append(Foretold(step=step, computed=False, why=f"the same code, parameters and inputs as in {fits.run}{unless}"))
            else:
                told.append(Foretold(step=step, computed=True, why=_changed(newest(database, version.name, step), code, params)))
    if label := spec.get("label"):
        often = f"{label['rounds']} time{'s' if label['rounds'] != 1 else ''}"
        told.append(
            Foretold(step=StepKind.LABEL, computed=True, why=f"people are asked, {often} at most; each time the steps above follow")
        )
    return [*told, Foretold(step=StepKind.PROMOTE, computed=True, why="whether a model is released is decided in every run")]


def _learns(spec: dict[str, Any]) -> bool:
    """Whether trainings learn what people say about predictions."""
    return bool(spec.get("ask")) and spec["ask"].get("learn") is not False


def _forced(step: StepKind, request: RunRequest) -> str:
    if not request.cache:
        return "the cache is not to be used"
    order = list(StepKind)
    if request.recompute_from is not None and order.index(step) >= order.index(request.recompute_from):
        return f"everything from {request.recompute_from} on is to be computed again"
    return ""


def _inputs(found: list[Cached], champion: str | None) -> list[str] | None:
    """The inputs of the step after those *found*, as its activity names them; None for the source, whose digest nobody knows yet."""
    if not found:
        return None
    manifest = found[0].result["manifest"]["sha256"]
    return [manifest] if len(found) == 1 else [found[1].result["predictor"]["sha256"], champion or "none", manifest]


def _changed(last: Cached | None, code: str | None, params: str) -> str:
    if last is None:
        return "this pipeline has no earlier result of this step"
    changed = [name for name, now, field in (("code", code, "code"), ("parameters", params, "params")) if last.components.get(field) != now]
    return f"{' and '.join(changed) or 'inputs'} changed since {last.run}"
