"""People, as a script: answers what a run of `loop.yaml` asks, by web hook, as a labeling tool does.

``python examples/moderation/labeler.py RUN`` follows a run to its end. It takes tasks in hand over HTTP, looks the truth up in a file that
the run does not read, errs now and then, and sends each answer signed (Standard Webhooks).
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import hmac
import json
import random
import secrets
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

TRUTH = Path(__file__).parent / "data" / "sms-spam.tsv"
PEOPLE = ("ada", "ben", "eve")
IN_HAND = 10  # tasks at a time
AGAIN = 0.5  # seconds until something that is not there yet is looked for again


def perdure(*arguments: str) -> Any:
    """What a command of `perdure` says in JSON."""
    command = [str(Path(sys.executable).parent / "perdure"), *arguments, "--json"]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@dataclass
class Labeler:
    """Answers campaigns. *error* is the share of wrong answers, *delay* the seconds that an answer takes."""

    error: float = 0.02
    delay: float = 0.02
    seed: int = 1
    say: Callable[[str], None] = print
    answered: int = 0
    wrong: int = 0
    _truth: dict[str, str] = field(default_factory=dict)
    _key: str = ""

    def __post_init__(self) -> None:
        self._truth = dict(reversed(line.split("\t", 1)) for line in TRUTH.read_text().splitlines())
        self._random = random.Random(self.seed)

    def answer(self, campaign: str) -> None:
        """Answer all that *campaign* asks; returns when it is closed."""
        name = f"tool-{secrets.token_hex(4)}"  # secrets are told once: who begins again needs others
        self._key = self._key or perdure("keys", "create", name, "--scope", "label", "--scope", "campaign:read")["key"]
        hook = perdure("hooks", "create", name, "--campaign", campaign)
        gateway = hook["address"].partition("/v1/")[0]
        with httpx.Client(base_url=gateway, headers={"Authorization": f"Bearer {self._key}"}, timeout=30) as client:
            while client.get(f"/v1/campaigns/{campaign}").raise_for_status().json()["state"] != "closed":
                leased = client.post(f"/v1/campaigns/{campaign}/lease", json={"max": IN_HAND}).raise_for_status()
                if leased.status_code == 204:  # the tasks are not in yet, or all are answered
                    time.sleep(AGAIN)
                    continue
                for lease in leased.json()["leases"]:
                    time.sleep(self.delay)
                    self._send(client, hook, lease["task"], self._opinion(lease["payload"]["text"]))

    def _opinion(self, text: str) -> str:
        truth = self._truth[text]
        self.answered += 1
        if self._random.random() >= self.error:
            return truth
        self.wrong += 1
        return {"ham": "spam", "spam": "ham"}[truth]

    def _send(self, client: httpx.Client, hook: dict[str, Any], task: str, value: str) -> None:
        labeler = self._random.choice(PEOPLE)
        answer = {"task": task, "value": value, "labeler": labeler, "key": f"{task}/{labeler}"}
        body = json.dumps({"type": "answers", "data": {"answers": [answer]}}).encode()
        id, at = f"msg_{hashlib.sha256(body).hexdigest()[:16]}", str(int(time.time()))
        digest = hmac.new(base64.b64decode(hook["secret"].removeprefix("whsec_")), f"{id}.{at}.".encode() + body, hashlib.sha256).digest()
        signed = {"webhook-id": id, "webhook-timestamp": at, "webhook-signature": f"v1,{base64.b64encode(digest).decode()}"}
        client.post(hook["address"], content=body, headers=signed | {"Content-Type": "application/json"}).raise_for_status()

    def follow(self, run: str) -> None:
        """Answer every campaign of *run*, until it has ended."""
        known: set[str] = set()
        while (seen := perdure("show", run))["run"]["finished_at"] is None:
            asked = next(
                (step["detail"].get("campaign") for step in seen["steps"] if step["step"] == "label" and not step["finished_at"]), None
            )
            if asked and asked not in known:
                known.add(asked)
                self.say(f"{asked}: answering")
                self.answer(asked)
                self.say(f"{asked}: {self.answered} answers so far, {self.wrong} of them wrong")
            time.sleep(AGAIN)


def main() -> None:
    """Follow the run that the command line names."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("run", help="a run of moderation-loop")
    parser.add_argument("--error", type=float, default=Labeler.error, help="share of wrong answers")
    parser.add_argument("--delay", type=float, default=Labeler.delay, help="seconds that an answer takes")
    parser.add_argument("--seed", type=int, default=Labeler.seed, help="another seed errs elsewhere")
    given = parser.parse_args()
    Labeler(error=given.error, delay=given.delay, seed=given.seed).follow(given.run)


if __name__ == "__main__":
    main()
