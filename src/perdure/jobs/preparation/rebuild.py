"""Makes a data set again from its manifest alone, and says whether it came out the same."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from perdure.jobs.context import JobContext
from perdure.jobs.preparation.features import features
from perdure.jobs.preparation.fit import fit
from perdure.jobs.preparation.limits import class_names
from perdure.jobs.preparation.manifest import assemble
from perdure.jobs.preparation.partition import partition
from perdure.jobs.preparation.plan import plan
from perdure.messages.common import ArtifactRef, Json
from perdure.spec import pipeline as spec


def rebuild(job: JobContext) -> Json:
    """Prepare again what the input ``manifest`` describes: {"same", "manifest" (made now), "differences"}.

    Everything comes from the manifest: the source's URI, the data section of the specification, and the digest of the owner's code. What
    differs is named by the manifest's fields: a source that has changed, or files that another version of a library writes differently.
    Raises what the jobs raise.
    """
    old = job.objects.get_json(job.artifact("manifest"))
    code = old["code"] and ArtifactRef(uri=f"{job.request.storage}/code/{old['code']}/code.zip", sha256=old["code"])
    base = replace(job, spec=spec.load({"name": "rebuild", "data": old["data"]}), request=replace(job.request, code=code or None))

    people = {"labels": old["labels"]} if "labels" in old else {}
    predictions = {"predictions": old["predictions"]} if "predictions" in old else {}
    planned = _step(base, plan, {**people, **predictions})
    indexes = range(len(planned["partitions"]))
    partitions = [_step(base, partition, {"plan": planned, **people}, index) for index in indexes]
    state = _step(base, fit, {"plan": planned, "partitions": partitions})["state"] if planned["fits"] else None
    classes = class_names(base.spec.data, partitions)
    made = [
        _step(base, features, {"plan": planned, "partition": partitions[index], "state": state, "classes": classes}, index)
        for index in indexes
    ]
    new = assemble(base, {"plan": planned, "partitions": partitions, "features": made, "state": state, **people})
    return {
        "same": new.ref.sha256 == job.artifact("manifest").sha256,
        "manifest": new.ref.as_json(),
        "differences": sorted(key for key in old.keys() | new.content.keys() if old.get(key) != new.content.get(key)),
    }


def _step(job: JobContext, function: Callable[[JobContext], Json], inputs: dict[str, Any], index: int = 0) -> Json:
    folder = job.scratch / f"{function.__name__}-{index}"
    folder.mkdir()
    try:
        return function(replace(job, scratch=folder, request=replace(job.request, inputs=inputs, index=index)))
    finally:
        shutil.rmtree(folder)
