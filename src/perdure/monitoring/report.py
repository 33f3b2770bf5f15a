"""The report of a look: one HTML page with plots, complete in itself. The same look gives the same bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from html import escape

from perdure.monitoring.drift import Finding
from perdure.monitoring.statistics import Floats, shares

MOST = 60  # plots, the largest effects first
_WIDTH, _HEIGHT = 480, 120
_STYLE = """
:root { color-scheme: light dark; --usual: #8a8f98; --now: #2563eb; --bad: #b91c1c; --line: #8884; }
@media (prefers-color-scheme: dark) { :root { --now: #7aa5ff; --bad: #ff8a80; } }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 70rem; padding: 1rem; }
table { border-collapse: collapse; margin: 1rem 0; }
th, td { border-bottom: 1px solid var(--line); padding: .25rem .75rem; text-align: left; }
td.n { text-align: right; font-variant-numeric: tabular-nums; } .bad { color: var(--bad); font-weight: 600; }
section { display: grid; grid-template-columns: repeat(auto-fill, minmax(20rem, 1fr)); gap: 1rem; } figure { margin: 0; }
svg { width: 100%; height: auto; } .usual { fill: var(--usual); stroke: var(--usual); } .now { fill: var(--now); stroke: var(--now); }
"""


@dataclass(frozen=True)
class About:
    """What was looked at."""

    model: str
    version: int
    start: datetime
    end: datetime


@dataclass(frozen=True)
class Bars:
    """A feature's shares by bin: now, and as expected."""

    monitor: str
    feature: str
    labels: Sequence[str]
    counts: Floats
    expected: Floats


@dataclass(frozen=True)
class Hours:
    """The mean error of each hour, and the usual one."""

    start: datetime
    sums: Floats
    counts: Floats
    usual: float


Shown = Bars | Hours


def page(about: About, found: Sequence[Finding], shown: Sequence[Shown]) -> str:
    """The whole page."""
    drifted = [each.monitor for each in found if each.drifted]
    verdict = f"Drifted: {', '.join(drifted)}" if drifted else "Nothing has drifted" if found else "Too few rows to say anything"
    title = f"{about.model} version {about.version}: drift"
    tests = {
        (each.monitor, test["feature"]): test for each in found for test in each.metrics if test["method"] not in ("missing", "outside")
    }
    order = sorted((each for each in shown if isinstance(each, Bars)), key=lambda each: _rank(tests.get((each.monitor, each.feature))))
    hours = [each for each in shown if isinstance(each, Hours)]
    left = f"<p>{len(order) - MOST} more, with smaller effects, are not drawn.</p>" if len(order) > MOST else ""
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body><main><h1>{escape(title)}</h1>"
        f"<p>Window: {about.start:%Y-%m-%d %H:%M} to {about.end:%Y-%m-%d %H:%M} UTC</p>"
        f'<p class="{"bad" if drifted else ""}">{escape(verdict)}.</p>{_monitors(found)}{_tests(found)}'
        f"<h2>Distributions</h2><p>Blue: this window. Grey: what is expected, of the same days of the week where days are known.</p>"
        f"<section>{''.join(_errors(each) for each in hours)}{''.join(_bars(each) for each in order[:MOST])}</section>{left}"
        f"</main></body></html>\n"
    )


def _rank(test: dict[str, object] | None) -> tuple[bool, float]:
    return (True, 0.0) if test is None else (not test["drifted"], -float(test["statistic"]))  # type: ignore[arg-type]


def _monitors(found: Sequence[Finding]) -> str:
    rows = "".join(
        f"<tr><th scope=row>{escape(each.monitor)}</th><td>{escape(each.kind)}</td><td class=n>{each.n:,}</td>"
        f"<td{' class=bad' if each.drifted else ''}>{'drifted' if each.drifted else 'quiet'}</td><td class=n>{each.severity:.3f}</td>"
        f"<td>{escape('; '.join(each.notes))}</td></tr>"
        for each in found
    )
    head = "".join(f"<th scope=col>{name}</th>" for name in ("Monitor", "Kind", "Rows", "Verdict", "Severity", "Notes"))
    return f"<h2>Monitors</h2><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _tests(found: Sequence[Finding]) -> str:
    rows = "".join(
        f"<tr><th scope=row>{escape(test['feature'])}</th><td>{escape(each.monitor)}</td><td>{escape(test['method'])}</td>"
        f"<td class=n>{test['statistic']:.4f}</td><td class=n>{test['threshold']:g}</td><td class=n>{test['p_value']:.2g}</td>"
        f"<td{' class=bad' if test['drifted'] else ''}>{'drifted' if test['drifted'] else ''}</td></tr>"
        for each in found
        for test in sorted(each.metrics, key=_rank)
    )
    names = ("Feature", "Monitor", "Test", "Effect", "Counts from", "p, corrected", "")
    head = "".join(f"<th scope=col>{name}</th>" for name in names)
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    return f"<h2>Tests</h2><details open><summary>All tests</summary>{table}</details>"


def _bars(each: Bars) -> str:
    now, expected = shares(each.counts), each.expected
    top = max(float(now.max()), float(expected.max()), 1e-9)
    step = _WIDTH / len(now)
    drawn = []
    for index, (label, one, usual) in enumerate(zip(each.labels, now, expected, strict=True)):
        tip = f"<title>{escape(label)}: {one:.1%}, expected {usual:.1%}</title>"
        for name, value, shift in (("usual", usual, 0.05), ("now", one, 0.5)):
            height = _HEIGHT * float(value) / top
            at = (index + shift) * step
            drawn.append(
                f'<rect class="{name}" x="{at:.1f}" y="{_HEIGHT - height:.1f}" width="{0.42 * step:.1f}" height="{height:.1f}">{tip}</rect>'
            )
    worst = int(abs(now - expected).argmax())
    told = f"Largest change: {each.labels[worst]}, {now[worst]:.1%} instead of {expected[worst]:.1%}"
    return _figure(f"{each.monitor}: {each.feature}", told, "".join(drawn))


def _errors(each: Hours) -> str:
    hours = [(index, each.sums[index] / count) for index, count in enumerate(each.counts) if count]
    top = max([value for _, value in hours] + [each.usual, 1e-9])
    step = _WIDTH / max(1, len(each.counts) - 1)
    points = " ".join(f"{index * step:.1f},{_HEIGHT * (1 - value / top):.1f}" for index, value in hours)
    level = _HEIGHT * (1 - each.usual / top)
    drawn = f'<line class="usual" x1="0" x2="{_WIDTH}" y1="{level:.1f}" y2="{level:.1f}" stroke-dasharray="4"/>'
    drawn += f'<polyline class="now" points="{points}" style="fill: none; stroke-width: 2"/>'
    end = each.start + timedelta(hours=len(each.counts))
    mean = each.sums.sum() / max(each.counts.sum(), 1)
    told = f"Mean error {mean:.4g}, usual {each.usual:.4g}; by hour, {each.start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC"
    return _figure("quality: error", told, drawn)


def _figure(name: str, told: str, drawn: str) -> str:
    return (
        f'<figure><svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(f"{name}. {told}", quote=True)}">{drawn}</svg>'
        f"<figcaption><strong>{escape(name)}</strong><br>{escape(told)}</figcaption></figure>"
    )
