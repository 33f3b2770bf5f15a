"""A run on a terminal: drawn again and again in place. In a file or a pipe: one line a change, with the time, and no control characters."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TextIO

from perdure.cli.output import lasting, when
from perdure.cli.progress import Snapshot, Step, progress_line, restart_line, vote_line

if TYPE_CHECKING:
    from rich.console import Group
    from rich.text import Text

    from perdure.cli.watching import View, Watcher

NEWS = 6  # lines of what happened last
BAR = 24  # characters
COLOURS = {
    "running": "cyan",
    "succeeded": "green",
    "failed": "red",
    "cancelled": "yellow",
    "lost": "yellow",
    "pending": "dim",
    "paused": "yellow",
}
SIGNS = {"running": "●", "succeeded": "✓", "failed": "✗", "cancelled": "■", "lost": "?", "pending": "○"}


@contextmanager
def screen(watcher: Watcher, stream: TextIO) -> Iterator[Callable[[View], None]]:
    """Something that shows each view on *stream* as fits it."""
    if not stream.isatty():
        yield lambda view: _print(view, stream)
        return
    from rich.console import Console
    from rich.live import Live

    news: deque[str] = deque(maxlen=NEWS)

    def note(view: View) -> None:
        news.extend(f"{(event.at or datetime.now(UTC)).astimezone():%H:%M:%S}  {event.text}" for event in view.news)

    console = Console(file=stream, highlight=False, markup=False, emoji=False)
    with Live(console=console, get_renderable=lambda: draw(watcher, list(news)), refresh_per_second=4, transient=False):
        yield note


def _print(view: View, stream: TextIO) -> None:
    for event in view.news:
        at = (event.at or datetime.now(UTC)).astimezone(UTC)
        print(f"{at:%Y-%m-%dT%H:%M:%SZ} {' '.join(event.text.split())}", file=stream, flush=True)


def draw(watcher: Watcher, news: list[str], now: datetime | None = None) -> Group:
    """The whole picture of a run."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    now = now or datetime.now(UTC)
    if watcher.run is None:
        return Group(Text(f"{watcher.name}  waiting for its first row"), *(Text(line, style="dim") for line in news))
    run = watcher.run
    steps = Table.grid(padding=(0, 2, 0, 0))
    for _ in range(4):
        steps.add_column(no_wrap=False)
    for step in run.steps:
        steps.add_row(*_step_row(step, watcher, now))
    parts: list[Text | Table] = [_head(run, now), steps]
    parts += [Text(f"  {step.title}: {restart_line(step, job)}", style="yellow") for step in run.steps for job in step.restarted[-1:]]
    if run.votes:
        parts.append(Text(f"  {vote_line(run.votes)}; answer with: perdure approve {run.workflow_id}", style="bold"))
    for part in watcher.silent:
        parts.append(Text(f"  {part} does not answer", style="yellow"))
    if news:
        parts += [Text(""), *(Text(f"  {line}", style="dim") for line in news)]
    return Group(*parts)


def _head(run: Snapshot, now: datetime) -> Text:
    from rich.text import Text

    took = lasting((run.finished or now) - run.started) if run.started else ""
    head = Text(run.workflow_id, style="bold")
    head.append(f"  {run.state}", style=COLOURS.get(run.state, ""))
    head.append(f"  {took}  version {run.pipeline_version}, by {run.requested_by}", style="dim")
    return head


def _step_row(step: Step, watcher: Watcher, now: datetime) -> tuple[Text, Text, Text, Text]:
    from rich.text import Text

    state = "paused" if step.state == "running" and watcher.run and watcher.run.state == "paused" else step.state
    took = "" if step.started is None or step.reused else lasting((step.finished or now) - step.started)
    sign = Text(f" {SIGNS.get(step.state, '?')} {step.title}", style=COLOURS.get(state, ""))
    if step.state == "pending":
        return sign, Text(""), Text(""), Text("")
    if step.state != "running":
        reused = "reused: " if step.reused and step.state == "succeeded" else ""
        return sign, Text(took), Text(""), Text(f"{reused}{step.outcome}")
    about = Text(progress_line(step, watcher.pace))
    if step.waiting_for:
        since = f" since {when(step.waiting_since)}" if step.waiting_since else ""
        about = Text(f"waiting for {step.waiting_for}{since}", style="yellow")
    return sign, Text(took), _bar(step), about


def _bar(step: Step) -> Text:
    from rich.text import Text

    if not step.total or step.done is None:
        return Text("")
    full = min(BAR, BAR * step.done // step.total)
    bar = Text("━" * full, style="cyan")
    return bar.append("─" * (BAR - full), style="dim")


def target(*, as_json: bool) -> TextIO:
    """Where progress goes: stdout, unless that is kept for JSON."""
    return sys.stderr if as_json else sys.stdout
