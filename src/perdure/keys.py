"""Keys that everybody derives in the same way: canonical JSON, digests, and identities that survive a retry."""

from __future__ import annotations

import hashlib
import json
from typing import Any
from uuid import UUID, uuid5

NAMESPACE = UUID("6f0b4d1e-5f0c-5a3e-9d61-70657264757a")


_ASKED = (
    "question",
    "choices",
    "instructions",
    "shows",
    "payload",
    "batch",
    "strategy",
    "diverse",
    "random",
    "overlap",
    "consensus",
    "predictions",
)
"""What decides which rows people are asked about, and how; how long they are waited for does not."""


def canonical(value: Any) -> bytes:
    """*value* as JSON bytes that do not depend on key order or spacing. Raises ValueError for NaN and infinity."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False, default=str).encode()


def digest(value: Any) -> str:
    """The sha256 (hex) of *value*'s canonical JSON."""
    return hashlib.sha256(canonical(value)).hexdigest()


def identity(*parts: object) -> UUID:
    """A uuid that is the same for the same *parts*, on every attempt and machine."""
    return uuid5(NAMESPACE, "/".join(str(part) for part in parts))


def step_key(step: str, code: str | None, params: Any, inputs: list[str], environment: str) -> str:
    """A step's cache key: what it does, with which code, parameters, inputs (digests) and environment (`design`, section 7)."""
    return digest({"step": step, "code": code, "params": params, "inputs": inputs, "environment": environment})


def step_params(step: str, spec: dict[str, Any], model: str) -> dict[str, Any]:
    """What of a specification enters the key of *step*: activities make keys of it, a dry run foretells them.

    A source counts by its bytes (an input), not by where it lies. How long a job may stand still changes no result.
    """
    data, target = spec["data"], spec["data"]["target"]
    match step:
        case "prepare":
            asked = {"asked": True} if spec.get("label") else {}  # then rows without a label are no bad rows
            return {**_counting(data), "source": {**data["source"], "uri": ""}, **asked}
        case "train":
            return {"train": _counting(spec["train"]), "target": target, "model": model}
        case "evaluate":
            return {"evaluate": _counting(spec["evaluate"]), "target": target}
        case "label":
            return {"label": {name: spec["label"].get(name) for name in _ASKED}, "target": target}
        case _:
            raise ValueError(f"the step {step!r} is not cached")


def _counting(part: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in part.items() if name != "stall"}
