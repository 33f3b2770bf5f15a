"""The manifest: everything that a dataset version is, and nothing that differs between two identical preparations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from perdure.errors import UserCodeError
from perdure.jobs.context import JobContext
from perdure.jobs.preparation import profile
from perdure.jobs.preparation.limits import check, class_names, failures
from perdure.jobs.preparation.pool import POOL
from perdure.jobs.preparation.rows import TEST, TRAIN
from perdure.jobs.preparation.tables import KIND
from perdure.keys import canonical
from perdure.messages.common import ArtifactRef, Json

VERSION = 1
_FAILURES = 50


@dataclass(frozen=True)
class Assembled:
    """A stored manifest and its content."""

    ref: ArtifactRef
    content: Json


def assemble(job: JobContext, inputs: Json) -> Assembled:
    """Check the limits, merge what the partitions found, and store the manifest. Raises DataRejected, InvalidInput, UserCodeError."""
    data, plan, partitions = job.spec.data, inputs["plan"], inputs["partitions"]
    check(data, partitions)
    names = _feature_names(inputs["features"])
    content: Json = {
        "version": VERSION,
        "source": plan["source"],
        "code": job.request.code.sha256 if job.request.code else None,
        "data": data.model_dump(mode="json", by_alias=True),
        "schema": plan["columns"],
        "target": data.target.model_dump(),
        "classes": class_names(data, partitions),
        "splits": {split: _files(partitions, split) for split in (TRAIN, TEST)},
        "features": {"names": names, **_files(inputs["features"], TRAIN)},
        "transform": data.transform and {"reference": data.transform, "state": inputs["state"]},
        "quarantine": _files(partitions, "quarantine"),
        "profile": _profile(job, partitions).as_json(),
        "failures": failures(partitions)[:_FAILURES],
        **({"personal": plan["personal"]} if plan["personal"] else {}),
        **_people(inputs),
        **_predictions(inputs),
    }
    return Assembled(job.objects.put(KIND, "manifest.json", canonical(content)), content)


def _files(parts: list[Json], name: str) -> Json:
    files = [part["files"][name] for part in parts if part["files"][name]]
    return {"rows": sum(file["rows"] for file in files), "files": files}


def _people(inputs: Json) -> Json:
    """Where people are asked: the rows that wait for a label, and the snapshots of which others got theirs."""
    if inputs.get("labels") is None:
        return {}
    partitions = inputs["partitions"]
    labeled = sum(part["labeled"] for part in partitions)
    return {POOL: _files(partitions, POOL), "labels": inputs["labels"], "labeled": labeled}


def _predictions(inputs: Json) -> Json:
    """The snapshots of labeled predictions, and how many rows came of them."""
    if not inputs["plan"].get("predictions"):
        return {}
    return {"predictions": inputs["plan"]["predictions"], "answered": sum(part.get("answered", 0) for part in inputs["partitions"])}


def _feature_names(features: list[Json]) -> list[str]:
    """The features' names, which are the same in every partition that has training rows."""
    made = [part for part in features if part["rows"]]
    first = made[0]
    for part in made[1:]:
        if part["features"] != first["features"]:
            odd = sorted(set(part["features"]) ^ set(first["features"])) or ["their order"]
            raise UserCodeError(
                f"the transform made other columns of partition {part['index']} than of partition {first['index']}: {', '.join(odd[:10])}",
                field="data.transform",
                remedy="return the same columns in the same order for any rows; what depends on all rows belongs into fit()",
            )
    names: list[str] = first["features"]
    return names


def _profile(job: JobContext, partitions: list[Json]) -> ArtifactRef:
    parts: list[Any] = [job.objects.get_json(ArtifactRef.from_json(part["profile"])) for part in partitions]
    splits = {split: profile.summary(profile.merge(part[split] for part in parts if split in part)) for split in (TRAIN, TEST)}
    return job.objects.put(KIND, "profile.json", canonical({"version": 1, "splits": splits}))
