"""How many labels a second one gateway process takes, beside its Postgres and this load generator.

Seven rounds, one after the other, medians: raw commits of the same rows (one statement and one COMMIT a label, on prepared statements,
without any of the gateway's decisions), single submits of leased tasks on the same number of connections, each sending its next one when it
is answered, and the batch route with 100 answers a request. `single_of_raw` is the median of each round's own share.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import httpx
import psycopg
from sqlalchemy import text

from benchmarks.common import ROOT, record
from perdure.config import Settings, resolve_secret
from perdure.keys import identity
from perdure.labeling.ports import NewTask
from perdure.local import stack
from perdure.metadata.database import Database
from perdure.metadata.repository import AccessRows, CampaignRows, LabelRows

ROUNDS, RAW, SINGLE, BATCHES, BATCH = 7, 4_000, 3_000, 80, 100
WARM = 500
CONNECTIONS, SENDERS = 16, 4  # of raw commits as of labelers; of batches
SPEC = {"question": "Is it spam?", "choices": ["ham", "spam"]}
# what a submit that comes alone writes: the answer, its task's counter, a word to the campaign's workflow, the end of its lease
RAW_LABEL = """
with answer as (
  insert into annotation
    (tenant, id, campaign_id, task_id, labeler_id, assignment_id, source, source_key, revision, value, status, event_time)
  values ('default', %(id)s, %(campaign)s, %(task)s, %(labeler)s, %(assignment)s, 'raw', %(key)s, '', '"spam"', 'valid', now())
), counted as (
  update task set n_valid = n_valid + 1, state = 'full' where id = %(task)s
), poked as (
  insert into outbox (topic, target, payload) values ('poke', 'campaign/raw', '{}')
)
update assignment set state = 'submitted', ended_at = now() where id = %(assignment)s
"""


LEASE = """
insert into assignment (id, task_id, labeler_id, state, lease_token, expires_at, prediction_shown)
select id, task, :labeler, 'leased', id, now() + interval '1 hour', false
  from unnest(cast(:id as uuid[]), cast(:task as uuid[])) as rows (id, task)
"""


class Gateway:
    """The process that is measured: its address and the processor's time that it has used."""

    def __init__(self, url: str, pid: int) -> None:
        self.url, self._stat = url, Path(f"/proc/{pid}/stat")

    def cpu_seconds(self) -> float:
        fields = self._stat.read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Work:
    """A campaign with so many tasks, and who answers them."""

    def __init__(self, database: Database, tasks: int) -> None:
        rows, self.name = CampaignRows(database), f"bench-{uuid4().hex[:8]}"
        self.campaign = rows.open(self.name, SPEC, f"campaign/{self.name}", "bench").id
        self._keys = [f"t{number:06}" for number in range(tasks)]
        for start in range(0, tasks, 1_000):
            rows.put_tasks(self.campaign, [NewTask(key=key, payload={"text": "x" * 80}) for key in self._keys[start : start + 1_000]])
        self.secret = AccessRows(database).create_key(self.name, ["label"])[1]
        with database.transaction() as session:
            self.labeler = LabelRows(database).known(session, [self.name])[self.name].id

    def take(self, count: int) -> list[str]:
        """The keys of tasks that nobody has answered."""
        taken, self._keys = self._keys[:count], self._keys[count:]
        return taken

    def lease(self, gateway: Gateway, count: int) -> list[dict[str, str]]:
        """As many tasks in hand, by the route that labelers use."""
        leases: list[dict[str, str]] = []
        while len(leases) < count:
            path, headers = f"{gateway.url}/v1/campaigns/{self.campaign}/lease", {"Authorization": f"Bearer {self.secret}"}
            leases += httpx.post(path, json={"max": 50}, headers=headers, timeout=60).raise_for_status().json()["leases"]
        return leases

    def assign(self, database: Database, keys: Sequence[str]) -> list[tuple[str, UUID]]:
        """Keys with the leases under which raw commits answer them."""
        leases = [(key, uuid4()) for key in keys]
        values = {"task": [identity(self.campaign, key) for key, _ in leases], "id": [id for _, id in leases], "labeler": self.labeler}
        with database.transaction() as session:
            session.execute(text(LEASE), values)
        return leases


def raw(settings: Settings, database: Database, work: Work, count: int) -> float:
    """Raw commits a second."""
    address = settings.postgres.url.replace("postgresql+psycopg://", "postgresql://")
    password = resolve_secret(settings.postgres.password or "")
    shares = _shares(work.assign(database, work.take(count)), CONNECTIONS)
    opened = [psycopg.connect(address, password=password, autocommit=True) for _ in shares]

    def send(connection: psycopg.Connection[Any], share: Sequence[tuple[str, UUID]]) -> None:
        for key, assignment in share:
            values = {"id": uuid4(), "campaign": work.campaign, "task": identity(work.campaign, key), "labeler": work.labeler}
            connection.execute(RAW_LABEL, {**values, "assignment": assignment, "key": key}, prepare=True)

    threads = [threading.Thread(target=send, args=pair) for pair in zip(opened, shares, strict=True)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - began
    for connection in opened:
        connection.close()
    return count / seconds


def single(gateway: Gateway, work: Work, count: int) -> dict[str, float]:
    """Submits a second, and how long one takes."""
    requests = []
    for lease in work.lease(gateway, count)[:count]:
        body = {"lease_token": lease["lease_token"], "value": "spam"}
        requests.append(_request(gateway.url, f"/v1/assignments/{lease['assignment_id']}/submit", work.secret, body))
    return _measured(gateway, requests, CONNECTIONS, b" 201 ", count)


def batch(gateway: Gateway, work: Work, count: int) -> dict[str, float]:
    """Labels a second by the batch route, and how long a request takes."""
    path, bodies = f"/v1/campaigns/{work.campaign}/answers", []
    for _ in range(count):
        bodies.append({"answers": [{"task": key, "value": "spam", "key": f"b/{key}"} for key in work.take(BATCH)]})
    return _measured(gateway, [_request(gateway.url, path, work.secret, body) for body in bodies], SENDERS, b" 200 ", count * BATCH)


def _measured(gateway: Gateway, requests: Sequence[bytes], connections: int, wanted: bytes, labels: int) -> dict[str, float]:
    used = gateway.cpu_seconds()
    seconds, took = asyncio.run(_send(gateway.url, requests, connections, wanted))
    used = gateway.cpu_seconds() - used
    return {"labels_per_second": labels / seconds, **_quantiles(took), "gateway_cpu_ms_per_label": used / labels * 1_000}


def _request(url: str, path: str, secret: str, body: Any) -> bytes:
    content = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: {urlsplit(url).netloc}\r\nAuthorization: Bearer {secret}\r\n"
    return f"{head}Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n".encode() + content


async def _send(url: str, requests: Sequence[bytes], connections: int, wanted: bytes) -> tuple[float, list[float]]:
    """Seconds in all and of each request. A client library would cost more than the gateway."""
    took: list[float] = []

    async def work(share: Sequence[bytes]) -> None:
        reader, writer = await asyncio.open_connection(urlsplit(url).hostname, urlsplit(url).port)
        for request in share:
            began = time.perf_counter()
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            body = await reader.readexactly(length)
            took.append(time.perf_counter() - began)
            if wanted not in head.partition(b"\r\n")[0]:
                raise RuntimeError(f"{head!r} {body!r}")
        writer.close()

    began = time.perf_counter()
    await asyncio.gather(*(work(share) for share in _shares(requests, connections)))
    return time.perf_counter() - began, took


def _shares(items: Sequence[Any], parts: int) -> list[Sequence[Any]]:
    return [items[number::parts] for number in range(parts)]


def _quantiles(took: list[float]) -> dict[str, float]:
    cut = statistics.quantiles(took, n=100)
    return {"p50_ms": cut[49] * 1_000, "p99_ms": cut[98] * 1_000}


def _medians(rounds: Sequence[dict[str, float]]) -> dict[str, float]:
    return {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}


def _serving() -> Iterator[tuple[Settings, Gateway]]:
    home = ROOT / ".perdure" / "bench-ingest"
    home.mkdir(parents=True, exist_ok=True)
    if not (home / "bin").exists():
        (home / "bin").symlink_to(ROOT / ".perdure" / "bin")
    stack.up(home, only={"gateway"}, echo=lambda text: print(text, flush=True))
    try:
        found = next(each for each in stack.status(home) if each.name == "gateway")
        yield Settings(home=home), Gateway(str(found.url), int(found.pid or 0))
    finally:
        stack.down(home)


def main() -> None:
    for settings, gateway in _serving():
        with Database.open(settings) as database:
            plain, leased, sent = (Work(database, ROUNDS * each) for each in (RAW, SINGLE + WARM, (BATCHES + 1) * BATCH))
            batch(gateway, sent, 2)
            single(gateway, leased, WARM)
            rounds = [
                {
                    "raw": raw(settings, database, plain, RAW),
                    "single": single(gateway, leased, SINGLE),
                    "batch": batch(gateway, sent, BATCHES),
                }
                for _ in range(ROUNDS)
            ]
        commits = statistics.median(each["raw"] for each in rounds)
        shares = [each["single"]["labels_per_second"] / each["raw"] for each in rounds]
        one, many = _medians([each["single"] for each in rounds]), _medians([each["batch"] for each in rounds])
        result = {"raw_commits_per_second": commits, "single": one, "batch": many, "single_of_raw": statistics.median(shares)}
        record("ingest", {**result, "connections": CONNECTIONS, "rounds": rounds})


if __name__ == "__main__":
    main()
