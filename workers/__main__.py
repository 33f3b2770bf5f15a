"""`python -m perdure.workers`: polls the configured queues until SIGTERM, then drains."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor

from temporalio.client import Client
from temporalio.service import RPCError

from perdure.config import Settings
from perdure.telemetry import configure_logs
from perdure.temporal import connect, ensure_search_attributes, metered_runtime
from perdure.workers.bootstrap import build_worker, open_activities
from perdure.workers.registry import fleet

log = logging.getLogger("perdure.workers")


async def main(settings: Settings) -> None:
    """Run until asked to stop; Temporal itself may be away meanwhile."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    client = await _connected(settings, stop)
    if client is None:
        return
    with contextlib.ExitStack() as stack:
        activities = stack.enter_context(open_activities(settings))
        pool = stack.enter_context(ThreadPoolExecutor(settings.worker.threads * 3, thread_name_prefix="activity"))
        async with contextlib.AsyncExitStack() as workers:
            for spec in fleet(activities):
                if spec.queue in settings.worker.queues:
                    await workers.enter_async_context(build_worker(client, spec, settings, pool))
            log.info("worker ready", extra={"queues": settings.worker.queues, "pid": os.getpid()})
            await stop.wait()
            log.info("worker draining")


async def _connected(settings: Settings, stop: asyncio.Event) -> Client | None:
    """A client as soon as Temporal answers; None if asked to stop before."""
    runtime = metered_runtime(settings.worker.metrics_port, settings.worker.metrics_host)
    while not stop.is_set():
        try:
            client = await connect(settings, runtime=runtime)
            await ensure_search_attributes(client)
        except (RuntimeError, RPCError) as err:  # no answer, or a server that is still coming up
            log.warning("waiting for Temporal", extra={"address": settings.temporal.address, "error": str(err)[:300]})
            await asyncio.sleep(0.5)
        else:
            return client
    return None


if __name__ == "__main__":
    settings = Settings()
    configure_logs(settings.log_level)
    asyncio.run(main(settings))
    sys.stderr.flush()
