"""`python -m perdure.workers.relay`: pokes workflows and tells people as soon as rows say so, until SIGTERM."""

from __future__ import annotations

import contextlib
import logging
import signal
import threading

from prometheus_client import Counter, Gauge, start_http_server

from perdure.adapters.notify import Notifier
from perdure.adapters.temporal import TemporalExecutions
from perdure.config import Settings
from perdure.errors import PerdureError, StoreUnavailable
from perdure.metadata.database import Database
from perdure.metadata.listening import OUTBOX, Listener
from perdure.metadata.repository import MessageRows, OutboxRows, SweepRows
from perdure.relay import Pass, Relay
from perdure.telemetry import configure_logs
from perdure.teller import Teller

BREATH = 0.02  # seconds between two passes: what is notified meanwhile is one pass

log = logging.getLogger("perdure.workers.relay")
poked = Counter("perdure_relayed_pokes", "Workflows that were told to look at their rows")
told = Counter("perdure_messages", "Messages to people that were sent, or tried")
failing = Gauge("perdure_relay_failing_targets", "Workflows that could not be told in the last pass, or 1 where a server was away")
waiting = Gauge("perdure_outbox_unsent_rows", "Pokes that wait")
oldest = Gauge("perdure_outbox_oldest_seconds", "How long the oldest poke has been waiting")


def main(settings: Settings) -> None:
    """Relay until asked to stop; every part may be away meanwhile."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    if settings.worker.metrics_port:
        start_http_server(settings.worker.metrics_port, addr=settings.worker.metrics_host)
    with contextlib.ExitStack() as stack:
        database = stack.enter_context(Database.open(settings))
        outbox = OutboxRows(database)
        listener = stack.enter_context(Listener.open(settings.postgres, OUTBOX))
        relay = Relay(outbox, stack.enter_context(TemporalExecutions.open(settings)), SweepRows(database))
        teller = threading.Thread(target=_tell, args=(Teller(MessageRows(database), Notifier(settings.notify)), stop), name="teller")
        teller.start()
        stack.callback(teller.join)
        log.info("relay ready")
        while not stop.is_set():
            done = _pass(relay)
            poked.inc(done.poked)
            failing.set(1 if done.away else done.failed)
            if done.pause >= 1.0:  # nothing is urgent
                _measure(outbox)
            if done.away:
                stop.wait(done.pause)
            elif not stop.wait(min(BREATH, done.pause)):
                listener.wait(done.pause)


def _pass(relay: Relay) -> Pass:
    try:
        return relay.run_once()
    except PerdureError as err:
        log.error("cannot relay", extra={"error": err.problem, "remedy": err.remedy})
    except Exception:
        log.exception("cannot relay")
    return Pass(away="the relay")


def _tell(teller: Teller, stop: threading.Event) -> None:
    """Messages are rare, and people are slow: a look a second is enough."""
    while not stop.is_set():
        try:
            told.inc(another := teller.run_once())
        except StoreUnavailable:
            another = False
        except Exception:
            log.exception("cannot tell")
            another = False
        if not another:
            stop.wait(1.0)


def _measure(outbox: OutboxRows) -> None:
    with contextlib.suppress(StoreUnavailable):
        backlog = outbox.unsent("poke")
        waiting.set(backlog.rows)
        oldest.set(backlog.oldest.total_seconds())


if __name__ == "__main__":
    settings = Settings()
    configure_logs(settings.log_level)
    main(settings)
