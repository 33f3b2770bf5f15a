"""Rows of runs that score."""

from __future__ import annotations

import pytest

from perdure.errors import Conflict, NotFound
from perdure.messages.pipeline import RunState, StepKind
from perdure.metadata.queries import list_runs, show_dataset, show_run
from perdure.metadata.repository import BatchRows
from tests.metadata.world import World, as_json, ref


def test_a_run_that_scores_and_its_data_set(world: World) -> None:
    batches, trained = BatchRows(world.database), world.run()
    version = world.model(trained)
    source = batches.dataset("moderation")
    assert source.id == version.dataset_version
    with pytest.raises(NotFound, match="no version 7"):
        batches.dataset("moderation", 7)
    with pytest.raises(NotFound, match=r"no data set 'mod'(?s:.*)one of moderation"):
        batches.dataset("mod")
    with pytest.raises(Conflict, match="what a pipeline prepares"):
        batches.check("moderation")
    batches.check("scored")

    run = world.runs.open(workflow_id="score/june", chain="c", pipeline=trained.pipeline.id, spec=trained.spec, request={"keep": ["id"]})
    batches.open(run.id, model_version=version.id, source_version=source.id, dataset="scored")
    batches.open(run.id, model_version=version.id, source_version=None, dataset="another")
    batch = batches.batch(run.id)
    assert (batch.version, batch.source, batch.dataset, batch.request) == (version, source, "scored", {"keep": ["id"]})
    with pytest.raises(NotFound, match="no batch inference"):
        batches.batch(trained.id)
    assert [each.workflow_id for each in list_runs(world.database, batches=False)] == [trained.workflow_id]
    assert [each.workflow_id for each in world.projections.runs()] == [trained.workflow_id], "MLflow is not told of it"

    step = world.step(run, StepKind.PREDICT)
    result = {
        "manifest": as_json(ref("scores.json", "predictions")),
        "rows": {"train": 0, "test": 0, "scored": 90, "quarantined": 10},
        "schema": [{"name": "prediction", "dtype": "String"}],
        "predictor": as_json(version.predictor),
        "dataset": as_json(source.manifest),
    }
    made = world.datasets.commit(step.id, "scored", result, "")
    assert (made.number, made.scored_rows, made.quarantined_rows) == (1, 90, 10)
    batches.check("scored")
    world.runs.close(run.id, RunState.SUCCEEDED, None)
    [detail] = show_dataset(world.database, "scored")
    assert (detail.run, detail.scored_by, detail.scored_rows) == ("score/june", "moderation version 1", 90)
    shown = show_run(world.database, "score/june")
    assert (shown.model, shown.version, shown.scores_to, shown.release) == ("moderation", 1, "scored", None)
