"""The owner's code of the tests: a trainer in plain numpy, and one that does what its parameters say. Runs in jobs only."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

LABEL = "__label"


def logistic(context: Any) -> None:
    """Logistic regression by mini-batches; each round draws from a generator of its own, so that a resumed training is exact."""
    frames = list(context.shards("train"))
    x = np.concatenate([frame.select(context.features).to_numpy() for frame in frames]).astype(np.float64)
    y = np.concatenate([frame[LABEL].to_numpy() for frame in frames])
    weights, done = np.zeros(x.shape[1] + 1), 0
    if restored := context.restore():
        weights, done = np.load(restored.path / "weights.npy"), restored.round
    for round in range(done + 1, context.params["rounds"] + 1):
        rows = np.random.default_rng([context.seed, round]).permutation(len(x))[:256]
        scores = 1 / (1 + np.exp(-(x[rows] @ weights[1:] + weights[0])))
        error = scores - y[rows]
        weights -= 0.5 * np.concatenate([[error.mean()], x[rows].T @ error / len(rows)])
        time.sleep(context.params.get("pace", 0))
        if not context.checkpoint_due(round):
            context.report(round, {"error": float(np.abs(error).mean())})
            continue
        with tempfile.TemporaryDirectory() as folder:
            np.save(Path(folder) / "weights.npy", weights)
            context.report(round, {"error": float(np.abs(error).mean())}, Path(folder))


def predict(folder: Path, features: Any) -> Any:
    """The probability of the second class."""
    weights = np.load(folder / "weights.npy")
    return 1 / (1 + np.exp(-(features.astype(np.float64) @ weights[1:] + weights[0])))


def act(context: Any) -> None:
    """Do what ``params.act`` says."""
    match context.params["act"]:
        case "exit":
            os._exit(7)
        case "segfault":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "raise":
            raise ValueError("no luck today")
        case "leave":
            sys.exit("I leave")
        case "memory":
            raise MemoryError
        case "disk":
            raise OSError(28, "No space left on device")
        case "print":
            for line in range(20_000):
                print(f"line {line} of the owner")
        case "hang":
            sleep = f"sleep {context.params['seconds']}"
            subprocess.Popen(sleep.split())
            subprocess.Popen(sleep.split(), start_new_session=True)
            print("hanging", flush=True)
            time.sleep(1000)
    with tempfile.TemporaryDirectory() as folder:
        about = {"pid": os.getpid(), "secrets": sorted(name for name in os.environ if "POSTGRES" in name)}
        (Path(folder) / "about.json").write_text(json.dumps(about))
        context.report(1, {"loss": 0.5}, Path(folder))
