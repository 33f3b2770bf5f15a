from __future__ import annotations

from uuid import uuid4

import pytest
from sqlalchemy import select

from perdure.errors import Conflict, CorruptArtifact, NotFound
from perdure.messages.pipeline import RunState, StepKind
from perdure.metadata import tables as t
from tests.metadata.together import together
from tests.metadata.world import World, dataset_result, ref


def test_the_first_result_of_a_partition_stays(world: World) -> None:
    step = world.step(world.run(), StepKind.PREPARE)
    outcomes = together([lambda n=n: world.datasets.record_partition(step.id, "partition", 0, {"rows": n}) for n in range(6)])
    assert len({outcome["rows"] for outcome in outcomes}) == 1
    for index in (2, 1):
        world.datasets.record_partition(step.id, "partition", index, {"index": index})
    world.datasets.record_partition(step.id, "features", 0, {"phase": "another"})
    assert world.datasets.partitions(step.id, "partition") == [outcomes[0], {"index": 1}, {"index": 2}]


def test_a_late_partition_is_refused(world: World) -> None:
    run = world.run()
    step = world.step(run, StepKind.PREPARE)
    world.datasets.record_partition(step.id, "partition", 0, {"rows": 1})
    world.runs.close(run.id, RunState.CANCELLED, None)
    assert world.datasets.record_partition(step.id, "partition", 0, {"rows": 2}) == {"rows": 1}
    with pytest.raises(Conflict, match="has ended as cancelled"):
        world.datasets.record_partition(step.id, "partition", 1, {"rows": 2})


def test_the_same_content_is_the_same_version(world: World) -> None:
    first, second = world.dataset(world.run("1")), world.dataset(world.run("2"))
    changed, elsewhere = world.dataset(world.run("3"), "other.json"), world.dataset(world.run("4"), name="other")
    assert (first, first.number) == (second, 1)
    assert (changed.number, elsewhere.number) == (2, 1)
    assert world.datasets.version(changed.id) == changed
    with pytest.raises(NotFound):
        world.datasets.version(uuid4())


def test_versions_are_numbered_without_gaps_by_many_at_once(world: World) -> None:
    runs = [world.run(str(n)) for n in range(8)]
    versions = together([lambda run=run, n=n: world.dataset(run, f"manifest {n}") for n, run in enumerate(runs)])
    assert sorted(version.number for version in versions) == list(range(1, 9))


def test_a_version_ends_its_step_and_is_described(world: World) -> None:
    run = world.run()
    version = world.dataset(run)
    step = world.step(run, StepKind.PREPARE)
    assert (step.state, step.reason) == ("succeeded", "miss: new")
    assert step.result is not None
    assert (step.result["dataset_version"], step.result["version"], step.result["rows"]["train"]) == (str(version.id), 1, 80)
    with world.database.transaction() as session:
        row = session.get_one(t.DatasetVersion, version.id)
        assert (row.delta_uri, row.delta_version, row.source["bytes"]) == ("s3://perdure/delta/moderation", 3, 477_907)
        assert row.classes == ["ham", "spam"]
        failure = session.get_one(t.ValidationResult, (version.id, 0))
        assert (failure.column, failure.check, failure.count, failure.example) == ("text", "str_length", 2, "NUL � and more")
        profile = session.get_one(t.DatasetProfile, version.id).artifact_id
        assert session.get_one(t.Artifact, profile).sha256 == ref("profile of manifest.json", "datasets").sha256


def test_lineage_leads_to_source_and_code(world: World) -> None:
    world.dataset(world.run())
    query = (
        select(t.ArtifactInput.role, t.Artifact.uri, t.Artifact.kind)
        .join(t.Artifact, t.Artifact.id == t.ArtifactInput.input_id)
        .where(t.ArtifactInput.tenant == world.database.tenant)
    )
    with world.database.transaction() as session:
        assert {tuple(row) for row in session.execute(query)} == {
            ("source", "file:///data/sms.tsv", "source"),
            ("code", ref("code.zip", "code").uri, "code"),
            ("transform_state", ref("state of manifest.json", "datasets").uri, "transform_state"),
        }


def test_a_job_that_left_no_manifest_commits_nothing(world: World) -> None:
    step = world.step(world.run(), StepKind.PREPARE)
    before = world.rows()
    with pytest.raises(CorruptArtifact, match="manifest"):
        world.datasets.commit(step.id, "moderation", {**dataset_result(), "manifest": None}, "")
    with pytest.raises(CorruptArtifact, match="profile"):
        world.datasets.commit(step.id, "moderation", {**dataset_result(), "profile": {"uri": "s3://x"}}, "")
    assert world.rows() == before
