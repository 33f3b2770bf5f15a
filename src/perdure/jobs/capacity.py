"""Whether a cluster can ever hold a worker group."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from perdure.errors import ResourcesUnavailable
from perdure.messages.jobs import Resources

Node = Mapping[str, float]
"""What a node has in all, by Ray's names: CPU, GPU, accelerator_type:… (or as the dashboard spells them: acceleratorType:…)."""


def bundle(resources: Resources) -> dict[str, float]:
    """What one worker needs, by Ray's names."""
    needs = {"CPU": resources.cpus_per_worker}
    if resources.gpus_per_worker:
        needs["GPU"] = resources.gpus_per_worker
        if resources.accelerator:
            needs[f"accelerator_type:{resources.accelerator}"] = 0.001
    return needs


def room(nodes: Iterable[Node], needs: Node) -> int:
    """How many workers with these *needs* the nodes hold when nothing else runs."""
    spelt = [{_plain(name): amount for name, amount in node.items()} for node in nodes]
    return sum(min(int(node.get(_plain(name), 0) / amount + 1e-9) for name, amount in needs.items()) for node in spelt)


def _plain(name: str) -> str:
    return name.replace("_", "").lower()


def check(nodes: list[Node], resources: Resources) -> None:
    """Raise ResourcesUnavailable, naming the field of ``train.scaling`` to change, where the group will never fit."""
    needs = bundle(resources)
    if resources.allow_cpu and room(nodes, needs) == 0:
        needs = {"CPU": needs["CPU"]}
    if room(nodes, needs) >= resources.workers:
        return
    if "GPU" in needs and room(nodes, {"GPU": needs["GPU"]}) == 0:
        raise ResourcesUnavailable(
            f"no node of the Ray cluster has {needs['GPU']:g} GPU{'s' if needs['GPU'] > 1 else ''}",
            field="train.scaling.gpus_per_worker",
            remedy="add GPU nodes, set gpus_per_worker to 0, or allow training without by allow_cpu: true",
        )
    if "GPU" in needs and room(nodes, {name: amount for name, amount in needs.items() if name != "CPU"}) == 0:
        raise ResourcesUnavailable(
            f"no node of the Ray cluster has the accelerator {resources.accelerator!r}",
            field="train.scaling.accelerator",
            remedy="name an accelerator that the cluster has",
        )
    largest = max((node.get("CPU", 0) for node in nodes), default=0)
    if largest < needs["CPU"]:
        raise ResourcesUnavailable(
            f"a worker asks for {needs['CPU']:g} cores, but the largest node of the Ray cluster has {largest:g}",
            field="train.scaling.cpus_per_worker",
            remedy="ask for fewer cores per worker, or add larger nodes",
        )
    raise ResourcesUnavailable(
        f"{resources.workers} workers are asked for, but the Ray cluster has room for {room(nodes, needs)}",
        field="train.scaling.workers",
        remedy="ask for fewer workers, or add nodes",
    )
