"""The stack's secrets are in no file, history, log, row, object, job record or command line, packed or not."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from pathlib import Path

from tests.chaos.cells import PROJECT, World
from tests.e2e.places import places

MESSAGES = PROJECT.parents[3] / "examples" / "moderation" / "data" / "sms-spam.tsv"
TOLD = MESSAGES.read_bytes().splitlines()[0].partition(b"\t")[2]  # a message of the training data
THERE = {
    "logs": (b"worker ready", 5),
    "ray": (b"training.train", 20),
    "s3": (b'"epoch"', 50),
    "pg": (b"", 200),
    "temporal.db": (b"", 1),
    "zip member": (b"SIGNS = [", 10),  # the owner's code
    "parquet column": (TOLD, 50),
    "row": (b"run/chaos/", 100),
    "event": (b'"pipeline":"chaos"', 100),
    "job record": (b"training.train", 2),
    "command line": (b"perdure.workers", 5),
}
"""For each kind of place: what is known to be in one of them, and the least number of them. A search that sees nothing fails by it."""


def secrets(home: Path) -> dict[str, bytes]:
    found = {path.name: path.read_bytes().strip() for path in (home / "secrets").iterdir() if path.is_file()}
    assert found.keys() >= {"postgres", "ray", "s3_access_key", "s3_secret_key"}
    assert all(len(value) >= 12 for value in found.values())
    return found


def test_a_planted_secret_is_found_nowhere(world: World) -> None:
    planted = secrets(world.home)
    if world.undisturbed is None:  # no other test has let a run pass here
        assert world.run({}, random.Random(0)).state == "succeeded"
    looked, size, seen, endings, nested = Counter[str](), Counter[str](), set[str](), defaultdict[str, set[str]](set), 0
    for kind, place, body in places(world):
        for name, value in planted.items():
            assert value not in body, f"the secret {name} is in the {kind} {place}"
        looked[kind] += 1
        size[kind] += len(body)
        endings[kind].add(Path(place).suffix)
        nested += "predictor.zip!code.zip!" in place
        if kind in THERE and THERE[kind][0] in body:
            seen.add(kind)
    print(*(f"{kind}: {number} places, {size[kind]} bytes" for kind, number in looked.most_common()), sep="\n")
    assert not {kind: looked[kind] for kind, (_, least) in THERE.items() if looked[kind] < least}
    assert not {kind: size[kind] for kind in THERE if size[kind] < 1_000}
    assert THERE.keys() == seen, "what is known to be there was not found"
    assert endings["ray"] >= {".log", ".out", ".err"}
    assert nested, "no zip in a zip was opened"
