"""``python benchmarks/clients/http.py '[port, path, body, connections, seconds]'``: keeps connections busy, and prints what came of it."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any


async def load(port: int, path: str, body: bytes, connections: int, seconds: float) -> dict[str, Any]:
    """Keep so many connections busy; latencies in milliseconds, and what was answered other than 200."""
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    request, latencies, failed, versions = head.encode() + body, list[float](), list[str](), dict[str, int]()
    until = time.perf_counter() + seconds

    async def one() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while (started := time.perf_counter()) < until:
            writer.write(request)
            answer = await reader.readuntil(b"\r\n\r\n")
            length = next(int(line.partition(b":")[2]) for line in answer.lower().split(b"\r\n") if line.startswith(b"content-length"))
            content = await reader.readexactly(length)
            latencies.append(1000 * (time.perf_counter() - started))
            if not answer.startswith(b"HTTP/1.1 200"):
                failed.append(content[:200].decode())
            elif b'"version":' in content:
                version = content.partition(b'"version":')[2].partition(b",")[0].decode()
                versions[version] = versions.get(version, 0) + 1
        writer.close()

    await asyncio.gather(*(one() for _ in range(connections)))
    ordered = sorted(latencies)
    return {
        "per_second": round(len(latencies) / seconds, 1),
        **{f"p{share}_ms": round(ordered[min(len(ordered) - 1, int(len(ordered) * share / 100))], 2) for share in (50, 95, 99)},
        "requests": len(latencies),
        "failed": len(failed),
        "why": failed[:1],
        "versions": versions,
    }


if __name__ == "__main__":
    port, path, body, connections, seconds = json.loads(sys.argv[1])
    print(json.dumps(asyncio.run(load(port, path, body.encode(), connections, seconds))))
