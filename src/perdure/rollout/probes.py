"""What figures say about a candidate: whether it goes on, has passed, or is rolled back. Pure, so that every limit is tested by itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta

from perdure.messages.rollout import StageLook, Verdict
from perdure.rollout.ports import Counts, ServingProcess
from perdure.spec.rollout import Probes

QUANTILE = 0.95


def probed(probes: Probes, counts: Counts, bounds: Sequence[float], *, over: bool, late: timedelta = timedelta(0)) -> StageLook:
    """What follows from *counts*; *bounds* are the upper ends of the latency buckets in milliseconds.

    *over*: the stage's time is, and has been for *late*.

    A limit is judged once enough requests came, and once no more are waited for by those that did.
    """
    candidate = counts.candidate
    enough = candidate.requests >= probes.min_requests
    waits = not enough and (not over or (probes.too_few == "wait" and late < probes.wait))
    broken = list(_broken(probes, counts, bounds)) if candidate.requests and not waits else []
    seen = f"{candidate.requests:,} requests, {candidate.errors:,} failed"
    if broken:
        return StageLook(verdict=Verdict.FAILED, reason=f"{'; '.join(broken)} ({seen})")
    if not over:
        return StageLook(verdict=Verdict.GO_ON, reason=seen)
    if enough:
        return StageLook(verdict=Verdict.PASSED, reason=seen)
    needed = f"{candidate.requests:,} requests came, {probes.min_requests:,} are needed"
    if waits:
        return StageLook(verdict=Verdict.GO_ON, reason=needed)
    if probes.too_few == "go_on":
        return StageLook(verdict=Verdict.PASSED, reason=f"{seen}: too few to judge by, and promote.probes.too_few is go_on")
    waited = ", and promote.probes.wait is over" if probes.too_few == "wait" else ""
    return StageLook(verdict=Verdict.FAILED, reason=needed + waited)


def _broken(probes: Probes, counts: Counts, bounds: Sequence[float]) -> Iterator[str]:
    """The limits that the candidate breaks, in words."""
    candidate = counts.candidate
    rate = candidate.errors / candidate.requests
    if probes.max_error_rate is not None and rate > probes.max_error_rate:
        yield f"{rate:.2%} of the requests failed, {probes.max_error_rate:.2%} may"
    time, released = quantile(candidate.latency, bounds), quantile(counts.released.latency, bounds)
    if time is not None and probes.max_latency_ms is not None and time > probes.max_latency_ms:
        yield f"95 % of the requests took up to {time:.1f} ms, {probes.max_latency_ms:g} ms are allowed"
    if time is not None and released and counts.released.requests >= probes.min_requests:
        ratio = time / released
        if probes.max_latency_ratio is not None and ratio > probes.max_latency_ratio:
            yield f"95 % of the requests took up to {time:.1f} ms, {ratio:.2f} times the released version's {released:.1f} ms"
    if probes.max_disagreement is not None and candidate.rows:
        share = candidate.disagreements / candidate.rows
        if share > probes.max_disagreement:
            yield f"{share:.2%} of the rows were predicted otherwise, {probes.max_disagreement:.2%} may be"


def quantile(latency: Sequence[int], bounds: Sequence[float], share: float = QUANTILE) -> float | None:
    """The time within which *share* of the requests were answered, linear within its bucket; the last bucket has no end but its beginning.

    None without a request.
    """
    total = sum(latency)
    if total == 0:
        return None
    wanted, before = share * total, 0
    for index, count in enumerate(latency):
        if count and before + count >= wanted:
            low = bounds[index - 1] if index else 0.0
            if index >= len(bounds):
                return float(low)
            return float(low + (bounds[index] - low) * (wanted - before) / count)
        before += count
    return float(bounds[-1])


def unloadable(processes: Sequence[ServingProcess]) -> str | None:
    """Which process cannot load the candidate, and why; None where all can. Its release would leave nobody to answer there."""
    return next((f"{each.address} cannot load it: {each.failed}" for each in processes if each.failed is not None), None)


def loaded(processes: Sequence[ServingProcess], *, over: bool) -> StageLook:
    """Whether a candidate may take part: every process that serves has loaded it, or none does serve."""
    waiting = [each.address for each in processes if not each.loaded]
    if not waiting:
        told = f"loaded by {len(processes)} serving processes" if processes else "nobody serves now"
        return StageLook(verdict=Verdict.PASSED, reason=told)
    reason = f"{len(waiting)} of {len(processes)} serving processes have not loaded it yet: {', '.join(waiting[:5])}"
    return StageLook(verdict=Verdict.FAILED if over else Verdict.GO_ON, reason=reason)
