"""What follows from confirmed drift and from triggers: train, ask people, or nothing, and why.

Everything that may start a training is decided here, so that two reasons at once start one. At most one action answers an episode.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from perdure.keys import digest
from perdure.messages.retraining import EpisodeState, Outcome, TriggerKind
from perdure.retraining.episodes import Episode
from perdure.spec.retrain import Policy

DAY, MONTH = timedelta(days=1), timedelta(days=30)
WORST = 5  # cooldowns are doubled so often at most
_STRENGTH = (Outcome.NOTHING, Outcome.LABEL, Outcome.TRAIN)


@dataclass(frozen=True, kw_only=True)
class Wish:
    """A trigger that is not answered yet.

    ``waits``: a date that waits for a training that goes on; others are skipped then. ``known``: no reason, only what later looks at the
    source are compared with.
    """

    id: UUID
    kind: TriggerKind
    key: str
    actor: str
    at: datetime
    text: str = ""  # what it says, as a part of a sentence
    cutoff: datetime | None = None
    waits: bool = True
    known: bool = False


@dataclass(frozen=True, kw_only=True)
class Past:
    """An action of before. ``automatic``: neither a date nor a person asked for it. ``helped`` is unknown while it goes on."""

    at: datetime
    automatic: bool
    helped: bool | None = None
    finished_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Situation:
    """All that is decided by. ``history`` is newest first; ``running`` the workflow that an action started and that goes on."""

    now: datetime
    policy: Policy
    episodes: Sequence[Episode] = ()
    wishes: Sequence[Wish] = ()
    history: Sequence[Past] = ()
    running: str | None = None
    snoozed_until: datetime | None = None
    new_labels: int = 0
    asks: bool = False  # whether the pipeline can ask people


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One decision. ``key`` names what it is about: the same again is the same decision. ``wishes`` are answered by it."""

    key: str
    outcome: Outcome
    reason: str
    detail: dict[str, Any] = field(default_factory=dict)
    episodes: tuple[UUID, ...] = ()
    wishes: tuple[UUID, ...] = ()
    actor: str = "perdure"
    cutoff: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Answers, the time at which to look again at the latest, and what is waited for, as sentences."""

    answers: list[Answer]
    due: datetime | None = None
    waits: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class _Hold:
    """Why nothing is done now, and until when."""

    code: str
    reason: str
    until: datetime | None = None


def decide(now: Situation) -> Verdict:
    """At most one answer acts; the others say why nothing is done."""
    known = [wish for wish in now.wishes if wish.known]
    verdict = _decide(replace(now, wishes=[wish for wish in now.wishes if not wish.known]))
    return replace(verdict, answers=[*verdict.answers, *map(_noted, known)])


def _decide(now: Situation) -> Verdict:
    confirmed = sorted((e for e in now.episodes if e.state is EpisodeState.CONFIRMED), key=lambda e: (e.opened_at, e.id))
    forced = [wish for wish in now.wishes if wish.kind is TriggerKind.FORCE]
    dates = [wish for wish in now.wishes if wish.kind is TriggerKind.SCHEDULE]
    others = [wish for wish in now.wishes if wish.kind not in (TriggerKind.FORCE, TriggerKind.SCHEDULE)]
    if now.running is None and forced:
        first = forced[0]
        return _act(now, Outcome.TRAIN, f"{first.actor} asked for it: {first.text or 'no reason given'}", confirmed, actor=first.actor)
    busy = _busy(now)
    if busy is not None:
        skipped = [_skip(wish, busy) for wish in dates if not wish.waits or busy.code == "snoozed"]
        held = _hold(busy, confirmed, [])
        waits = [f"{_named(wish)} waits: {busy.reason}" for wish in (*forced, *others)]
        return Verdict(answers=[*skipped, *held], due=busy.until, waits=[busy.reason, *waits])
    if dates:
        return _act(now, Outcome.TRAIN, f"it is time: {dates[0].text}", confirmed)
    return _by_itself(now, confirmed, others)


def _by_itself(now: Situation, confirmed: list[Episode], wishes: list[Wish]) -> Verdict:
    """What neither a person nor a date asks for has to pass cooldown and budget."""
    outcome, refused = _of_drift(now, confirmed)
    answers = _hold(refused, confirmed, []) if refused is not None else []
    waits = [refused.reason] if refused is not None else []
    if refused is None and confirmed:
        reason = " and ".join(f"{e.kind} drift by {e.monitor} is confirmed ({_windows(e)})" for e in confirmed)
    elif wishes:
        outcome, reason = Outcome.TRAIN, " and ".join(dict.fromkeys(wish.text for wish in wishes))
    else:
        return Verdict(answers=answers, waits=waits)
    acting = confirmed if refused is None else []
    rest = _resting(now) or _spent(now)
    if rest is not None:
        return Verdict(answers=[*answers, *_hold(rest, acting, wishes)], due=rest.until, waits=[*waits, rest.reason])
    verdict = _act(now, outcome, reason, acting)
    return Verdict(answers=[*answers, *verdict.answers], waits=waits)


def _of_drift(now: Situation, confirmed: list[Episode]) -> tuple[Outcome, _Hold | None]:
    """What the confirmed episodes lead to, or why nothing."""
    policy = now.policy
    if not confirmed:
        return Outcome.NOTHING, None
    monitors = {e.monitor for e in now.episodes if e.state in (EpisodeState.CONFIRMED, EpisodeState.ACTED)}
    if len(monitors) < policy.quorum:
        return Outcome.NOTHING, _Hold(
            code="quorum", reason=f"{len(monitors)} of {policy.quorum} monitors that must agree have confirmed drift"
        )
    wanted = max((policy.outcome(e.kind) for e in confirmed), key=_STRENGTH.index)
    if wanted is Outcome.NOTHING:
        kinds = " and ".join(sorted({e.kind.value for e in confirmed}))
        return wanted, _Hold(code="policy", reason=f"{kinds} drift leads to nothing, as monitor.act says")
    if wanted is Outcome.TRAIN and now.new_labels < policy.min_new_labels:
        few = f"{now.new_labels} of {policy.min_new_labels} labels that a training needs are new"
        if not now.asks:
            return wanted, _Hold(code="labels", reason=few)
        wanted = Outcome.LABEL
    if wanted is Outcome.LABEL and not now.asks:
        return wanted, _Hold(code="nobody", reason="people should be asked, but the pipeline has no part `label`: its owner is told")
    if policy.observes:
        return wanted, _Hold(code="observe", reason=f"monitors only observe; by `monitor.act` this would {_verb(wanted)}")
    return wanted, None


def _busy(now: Situation) -> _Hold | None:
    if now.running is not None:
        return _Hold(code=f"running/{now.running}", reason=f"{now.running} goes on")
    if now.snoozed_until is not None and now.snoozed_until > now.now:
        return _Hold(code="snoozed", reason=f"snoozed until {_time(now.snoozed_until)}", until=now.snoozed_until)
    return None


def _resting(now: Situation) -> _Hold | None:
    """The cooldown after the last action, doubled for each of the last automatic ones that did not help."""
    if not now.history:
        return None
    failures = 0
    for past in now.history:
        if past.automatic and past.helped is not None:
            if past.helped:
                break
            failures += 1
    factor = 2 ** min(failures, WORST)
    last = max(past.finished_at or past.at for past in now.history)
    until = last + now.policy.cooldown * factor
    if until <= now.now:
        return None
    why = f", {factor} times as long since {failures} in a row did not help" if failures else ""
    return _Hold(code=f"cooldown/{_time(until)}", reason=f"cooldown until {_time(until)}{why}", until=until)


def _spent(now: Situation) -> _Hold | None:
    """The budget of automatic actions."""
    for span, most, words in ((DAY, now.policy.max_per_day, "24 hours"), (MONTH, now.policy.max_per_30d, "30 days")):
        recent = sorted(past.at for past in now.history if past.automatic and past.at > now.now - span)
        if len(recent) >= most:
            until = recent[-most] + span if most else None
            return _Hold(
                code=f"budget/{words}",
                reason=f"the budget of {most} automatic actions in {words} is spent; `perdure retrain force` is a person's way round it",
                until=until,
            )
    return None


def _act(now: Situation, outcome: Outcome, reason: str, episodes: list[Episode], actor: str = "perdure") -> Verdict:
    """The one action answers everything that waits."""
    wishes = tuple(now.wishes)
    about = sorted([*(str(e.id) for e in episodes), *(wish.key for wish in wishes)])
    ends = [wish.cutoff for wish in wishes if wish.cutoff is not None] or [e.last for e in episodes if e.last is not None]
    asked = bool({wish.kind for wish in wishes} & {TriggerKind.FORCE, TriggerKind.SCHEDULE})
    detail = {
        "automatic": not asked,
        "episodes": [{"monitor": e.monitor, "kind": e.kind, "hits": e.hits} for e in episodes],
        "triggers": [{"kind": wish.kind, "key": wish.key, "text": wish.text} for wish in wishes],
        "new_labels": now.new_labels,
    }
    answer = Answer(
        key=f"act/{digest(about)[:32]}",
        outcome=outcome,
        reason=f"{_verb(outcome)}: {reason}",
        detail=detail,
        episodes=tuple(e.id for e in episodes),
        wishes=tuple(wish.id for wish in wishes),
        actor=actor,
        cutoff=max(ends, default=None),
    )
    return Verdict(answers=[answer])


def _hold(hold: _Hold, episodes: list[Episode], wishes: list[Wish]) -> list[Answer]:
    """One decision not to act, however often it is looked at; triggers wait on."""
    if not episodes and not wishes:
        return []
    about = sorted([*(str(e.id) for e in episodes), *(wish.key for wish in wishes)])
    drift = " and ".join(f"{e.kind} drift by {e.monitor} is confirmed" for e in episodes)
    subject = " and ".join(part for part in (drift, *(_named(wish) for wish in wishes)) if part)
    return [
        Answer(
            key=f"hold/{digest([about, hold.code])[:32]}",
            outcome=Outcome.NOTHING,
            reason=f"{subject}, but {hold.reason}",
            detail={"held_by": hold.code.partition("/")[0], "until": _time(hold.until) if hold.until else None},
            episodes=tuple(e.id for e in episodes),
        )
    ]


def _skip(wish: Wish, hold: _Hold) -> Answer:
    return Answer(key=f"skip/{wish.key}", outcome=Outcome.NOTHING, reason=f"{_named(wish)} is skipped: {hold.reason}", wishes=(wish.id,))


def _noted(wish: Wish) -> Answer:
    reason = "the source was looked at for the first time: what it holds now is taken as known"
    return Answer(key=f"known/{wish.key}", outcome=Outcome.NOTHING, reason=reason, wishes=(wish.id,))


def _named(wish: Wish) -> str:
    return f"trigger {wish.kind} ({wish.text})" if wish.text else f"trigger {wish.kind}"


def _verb(outcome: Outcome) -> str:
    return {Outcome.TRAIN: "train", Outcome.LABEL: "ask people, then train", Outcome.NOTHING: "do nothing"}[outcome]


def _windows(episode: Episode) -> str:
    return f"{episode.hits} drifted window{'s' if episode.hits != 1 else ''}"


def _time(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
