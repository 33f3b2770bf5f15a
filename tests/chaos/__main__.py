"""``python -m tests.chaos [--matrix] [--kills N] [--seed S]``: kill runs on a full local stack; resumable; prints a table.

Each cell's outcome is appended to a file as soon as it is known; a cell that is in the file is not run again.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from perdure.local import stack
from tests.chaos.cells import Outcome, World
from tests.chaos.parts import PARTS, STEPS, VOID

ROOT = Path(__file__).parent.parent.parent


def cells(matrix: bool, kills: int, seed: int) -> Iterator[tuple[str, str, str]]:
    """Name, part and step of every cell to run, in order."""
    possible = [(part, step) for part in PARTS for step in STEPS if (part, step) not in VOID]
    if matrix:
        yield from ((f"matrix/{part}/{step}", part, step) for part, step in possible)
    chosen = random.Random(seed)
    for number in range(kills):
        part, step = chosen.choice(possible)
        yield f"random/{seed}/{number}", part, step


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--matrix", action="store_true", help="one cell for every part and step")
    parser.add_argument("--kills", type=int, default=0, help="random cells beside it")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--home", type=Path, default=ROOT / ".perdure" / "chaos", help="data folder of the stack that is attacked")
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results" / "chaos.jsonl")
    options = parser.parse_args()
    home = options.home.absolute()
    home.mkdir(parents=True, exist_ok=True)
    if not (home / "bin").exists():
        (home / "bin").symlink_to(ROOT / ".perdure" / "bin")
    os.environ["PERDURE_HOME"] = str(home)
    known = {row["name"]: row for row in map(json.loads, options.results.read_text().splitlines())} if options.results.exists() else {}
    wanted = [cell for cell in cells(options.matrix, options.kills, options.seed) if cell[0] not in known]
    print(f"{len(wanted)} cells to run, {len(known)} known", flush=True)
    if wanted:
        stack.up(home, echo=lambda text: print(text, flush=True))
        try:
            _run(World(home), wanted, options.results, known)
        finally:
            stack.down(home)
    return _table(list(known.values()))


def _run(world: World, wanted: list[tuple[str, str, str]], results: Path, known: dict[str, dict[str, Any]]) -> None:
    print(_line("undisturbed", world.run({}, random.Random(0))), flush=True)
    for name, part, step in wanted:
        outcome = world.run({step: part}, random.Random(name))
        print(_line(f"{name} {part}/{step}", outcome), flush=True)
        known[name] = {"name": name, **outcome.as_json()}
        with results.open("a") as file:
            file.write(json.dumps(known[name]) + "\n")


def _line(name: str, outcome: Outcome) -> str:
    kills = "; ".join(f"progress after {kill.progress} s, {kill.redone} rounds redone {kill.problem}" for kill in outcome.kills)
    same = "same model" if outcome.same_model else "ANOTHER MODEL"
    ending = f"{outcome.state} in {outcome.seconds} s, {same}, {outcome.versions} version, {outcome.releases} release"
    return f"{'ok  ' if outcome.good else 'FAIL'} {name:<40} {ending}; {kills} {outcome.problem}".rstrip()


def _table(rows: list[dict[str, Any]]) -> int:
    """Seconds from kill to progress by part and step (median), and whether everything is well."""
    print("\nseconds from kill to progress, median (void: only training runs on Ray)")
    print(f"{'':<18}" + "".join(f"{step:>10}" for step in STEPS) + f"{'redone':>10}")
    kills = [kill for row in rows for kill in row["kills"]]
    for part in PARTS:
        figures = []
        for step in STEPS:
            found = [kill["progress"] for kill in kills if (kill["part"], kill["step"]) == (part, step)]
            figures.append(f"{'void' if (part, step) in VOID else f'{statistics.median(found):.1f}' if found else '-':>10}")
        redone = max((kill["redone"] for kill in kills if kill["part"] == part), default=0)
        print(f"{part:<18}{''.join(figures)}{redone:>10}")
    bad = [row["name"] for row in rows if not row["good"]]
    print(f"{len(rows)} runs, {len(rows) - len(bad)} good" + (f"; NOT GOOD: {bad}" if bad else ""))
    return 1 if bad else 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # past the SDK's exit crash
