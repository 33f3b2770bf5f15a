"""What a cluster can never hold."""

from __future__ import annotations

import pytest

from perdure.errors import ResourcesUnavailable
from perdure.jobs import capacity
from perdure.messages.jobs import Resources

SMALL = {"CPU": 2.0, "memory": 1e9}
GPU = {"CPU": 8.0, "GPU": 2.0, "accelerator_type:A100": 1.0}
SPELT = {"CPU": 8.0, "GPU": 2.0, "acceleratorType:A100": 1.0}  # by the dashboard


@pytest.mark.parametrize(
    ("nodes", "resources"),
    [
        ([SMALL], Resources(workers=2)),
        ([SMALL], Resources(workers=4, cpus_per_worker=0.5)),
        ([SMALL, GPU], Resources(workers=2, gpus_per_worker=1)),
        ([SMALL, GPU], Resources(workers=4, gpus_per_worker=0.5, accelerator="A100")),
        ([SPELT], Resources(gpus_per_worker=2, accelerator="A100")),
        ([SMALL], Resources(workers=2, gpus_per_worker=1, allow_cpu=True)),
    ],
)
def test_what_fits(nodes: list[capacity.Node], resources: Resources) -> None:
    capacity.check(nodes, resources)


@pytest.mark.parametrize(
    ("nodes", "resources", "field"),
    [
        ([SMALL], Resources(gpus_per_worker=1), "gpus_per_worker"),
        ([GPU], Resources(gpus_per_worker=3), "gpus_per_worker"),
        ([GPU], Resources(gpus_per_worker=1, accelerator="H100"), "accelerator"),
        ([SMALL, SMALL], Resources(cpus_per_worker=3), "cpus_per_worker"),
        ([SMALL, SMALL], Resources(workers=5), "workers"),
        ([GPU], Resources(workers=3, gpus_per_worker=1), "workers"),
        ([SMALL], Resources(workers=3, gpus_per_worker=1, allow_cpu=True), "workers"),
        ([], Resources(), "cpus_per_worker"),
    ],
)
def test_what_never_will(nodes: list[capacity.Node], resources: Resources, field: str) -> None:
    with pytest.raises(ResourcesUnavailable) as raised:
        capacity.check(nodes, resources)
    assert raised.value.field == f"train.scaling.{field}"
    assert raised.value.remedy
