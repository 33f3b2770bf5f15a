"""``python -m tests.flood [--labels N] [--seed S] [--kills K] [--pause P]``: labels by every channel while what takes them is killed.

A fifth of the deliveries are repeats, all are shuffled; some answers are changed or taken back. Gateway, relay, worker and Postgres are
killed with -9 at random moments. At the end every accepted delivery must be there once, in one status, and what counts must be what was
said.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import sys
import time
from pathlib import Path
from typing import Any

from perdure.local import stack
from tests.flood.attack import Attack
from tests.flood.campaign import Flooded
from tests.flood.deliveries import make

ROOT = Path(__file__).parent.parent.parent
NEEDED = {"postgres", "s3", "temporal", "worker", "relay", "gateway"}


def flood(home: Path, labels: int, seed: int, kills: int, pause: float = 1.5) -> dict[str, Any]:
    """One flood on the stack in *home*; its figures. Raises AssertionError where anything is lost or doubled."""
    chosen = random.Random(seed)
    campaign = Flooded.open(home, labels, seed)
    deliveries = make(campaign, labels, chosen)
    with Attack(home, kills, chosen, pause) as attack:
        began = time.monotonic()
        asyncio.run(campaign.send(deliveries, attack))
        seconds = time.monotonic() - began
    figures = campaign.judge(deliveries)
    return {"labels": labels, "deliveries": len(deliveries), "kills": attack.done, "seconds": round(seconds, 1), **figures}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--labels", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--pause", type=float, default=1.5, help="seconds between kills, on average")
    parser.add_argument("--home", type=Path, default=ROOT / ".perdure" / "flood", help="data folder of the stack that is attacked")
    options = parser.parse_args()
    home = options.home.absolute()
    home.mkdir(parents=True, exist_ok=True)
    if not (home / "bin").exists():
        (home / "bin").symlink_to(ROOT / ".perdure" / "bin")
    os.environ["PERDURE_HOME"] = str(home)
    stack.up(home, only=NEEDED, echo=lambda text: print(text, flush=True))
    try:
        figures = flood(home, options.labels, options.seed, options.kills, options.pause)
    finally:
        stack.down(home)
    print(json.dumps(figures, indent=1))
    results = ROOT / "benchmarks" / "results" / "flood.jsonl"
    with results.open("a") as file:
        file.write(json.dumps({"at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "seed": options.seed, **figures}) + "\n")
    return 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # past the SDK's exit crash
