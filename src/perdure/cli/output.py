"""What commands print: results on stdout, everything else on stderr; with ``--json`` stdout holds one JSON document and nothing else."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

JSON = "json"  # the key in the context's `meta`
PIPE_WIDTH = 400  # columns of a table that goes into a file: nothing is cut


def _remember(ctx: typer.Context, wanted: bool) -> bool:
    ctx.meta[JSON] = wanted or ctx.meta.get(JSON, False)
    return wanted


Json = Annotated[bool, typer.Option("--json", callback=_remember, help="Print the result as one JSON document.")]
"""The option that every command has."""


def console(*, stderr: bool = False) -> Console:
    """A console of its own for stdout or stderr: colours only on a terminal, no wrapping in a file."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    return Console(file=stream, width=None if stream.isatty() else PIPE_WIDTH, highlight=False, markup=False, emoji=False)


def note(text: str) -> None:
    """Something for people on stderr: what happens, what to do next."""
    print(text, file=sys.stderr, flush=True)


def emit(value: Any) -> None:
    """*value* as a JSON document on stdout."""
    print(json.dumps(value, indent=2, ensure_ascii=False, default=plain), flush=True)


def emit_rows(rows: Sequence[Any]) -> None:
    """*rows* as a JSON array on stdout, one of them a line."""
    lines = ",\n".join(json.dumps(row, ensure_ascii=False, default=plain) for row in rows)
    print(f"[\n{lines}\n]" if rows else "[]", flush=True)


def plain(value: Any) -> Any:
    """Dataclasses, times and ids as JSON holds them."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, set | frozenset):
        return sorted(value)
    return str(value)


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, right: Iterable[str] = (), empty: str = "none") -> None:
    """Rows on stdout under their columns; *empty* on stderr where there are none. Columns in *right* are aligned to the right."""
    from rich.table import Table
    from rich.text import Text

    filled = [[cell if isinstance(cell, Text) else Text("" if cell is None else str(cell)) for cell in row] for row in rows]
    if not filled:
        note(empty)
        return
    shown = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        shown.add_column(column, justify="right" if column in set(right) else "left", overflow="fold", no_wrap=not sys.stdout.isatty())
    for row in filled:
        shown.add_row(*row)
    if sys.stdout.isatty():
        console().print(shown)
        return
    screen = console()
    with screen.capture() as capture:
        screen.print(shown)
    print("\n".join(line.rstrip() for line in capture.get().splitlines()))


def fields(values: Mapping[str, object]) -> None:
    """Names and values on stdout, one a line; what is None or empty is left out."""
    shown = {name: str(value) for name, value in values.items() if value not in (None, "", [], {})}
    width = max(map(len, shown), default=0)
    for name, value in shown.items():
        print(f"{name:<{width}}  " + value.replace("\n", "\n" + " " * (width + 2)))


def when(moment: datetime | None, *, now: datetime | None = None) -> str:
    """*moment* in local time: the time of day if it is today, else the date too."""
    if moment is None:
        return ""
    local, today = moment.astimezone(), (now or datetime.now(UTC)).astimezone().date()
    return local.strftime("%H:%M:%S" if local.date() == today else "%Y-%m-%d %H:%M:%S")


def lasting(seconds: float | timedelta | None) -> str:
    """A duration in at most two units: ``4.2 s``, ``3 min 05 s``, ``2 h 10 min``, ``5 d 3 h``."""
    if seconds is None:
        return ""
    total = seconds.total_seconds() if isinstance(seconds, timedelta) else seconds
    if total < 60:
        return f"{total:.1f} s" if total < 9.95 else f"{total:.0f} s"
    whole = round(total)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86_400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86_400} d {whole % 86_400 // 3600} h"


def figures(metrics: Mapping[str, float], limit: int = 6) -> str:
    """``roc_auc 0.987, log_loss 0.0521``."""
    shown = [f"{name} {value:.4g}" for name, value in list(metrics.items())[:limit]]
    return ", ".join(shown) + (", …" if len(metrics) > limit else "")


def size(count: float) -> str:
    """Bytes for people: ``1.4 MiB``."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"
