"""One look at a model: statements become episodes, episodes and triggers become decisions, and every statement gets its answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

from perdure.messages.retraining import EpisodeState, Outcome
from perdure.retraining.episodes import Course, Episode, Followed, Meaning, Statement, follow
from perdure.retraining.policy import Answer, Situation, Verdict, decide


@dataclass(frozen=True, kw_only=True)
class Looked:
    """What is to be written: decisions by key, the episodes as they are now, and the answer of each statement.

    ``answers`` of a statement is the key of a decision, or the id of one of before that has answered its episode.
    """

    decisions: dict[str, Answer]
    episodes: dict[UUID, Episode]
    followed: list[Followed]
    answers: dict[UUID, str | UUID]
    verdict: Verdict


def look(
    situation: Situation,
    statements: Sequence[Statement],
    *,
    window: timedelta,
    trained: datetime | None = None,
    serves: int | None = None,
    acted: Mapping[UUID, UUID] | None = None,
    heard: Mapping[str, datetime] | None = None,
) -> Looked:
    """Take *statements* into *situation*, whose episodes are those that were open. *acted* names the decision that answered an episode.

    For *window*, *trained*, *serves* and *heard* see `perdure.retraining.episodes.follow`.
    """
    course = follow(situation.episodes, statements, situation.policy, window=window, trained=trained, serves=serves, heard=heard)
    still_open = [episode for episode in course.episodes.values() if episode.state is not EpisodeState.CLOSED]
    verdict = decide(replace(situation, episodes=still_open))
    decisions = {answer.key: answer for answer in verdict.answers}
    by_episode = {id: answer.key for answer in verdict.answers for id in answer.episodes}
    episodes = dict(course.episodes)
    for answer in verdict.answers:
        if answer.outcome is not Outcome.NOTHING:
            episodes |= {id: replace(episodes[id], state=EpisodeState.ACTED) for id in answer.episodes}
    answers: dict[UUID, str | UUID] = {}
    for each in course.followed:
        known = (acted or {}).get(each.episode) if each.episode else None
        key: str | UUID | None = known or (by_episode.get(each.episode) if each.episode else None)
        if key is None:
            plain = _plain(each, course, situation)
            key = plain.key
            decisions.setdefault(plain.key, plain)
        answers[each.statement.id] = key
    return Looked(decisions=decisions, episodes=episodes, followed=course.followed, answers=answers, verdict=verdict)


def _plain(followed: Followed, course: Course, situation: Situation) -> Answer:
    """The decision about a statement that nothing follows from: one a day where nothing is the matter, one for each step of an episode."""
    day = f"{situation.now:%Y-%m-%d}"
    if followed.meaning is Meaning.LATE:
        reason = "late: about data that was trained on since, or a version that serves no more"
        return Answer(key=f"late/{day}", outcome=Outcome.NOTHING, reason=reason)
    if followed.episode is None:
        return Answer(key=f"quiet/{day}", outcome=Outcome.NOTHING, reason="quiet: nothing has drifted")
    episode, need = course.episodes[followed.episode], situation.policy.confirm
    if episode.state is EpisodeState.CLOSED:
        reason = f"{episode.kind} drift by {episode.monitor} is over after {episode.hits} drifted windows"
        return Answer(key=f"over/{episode.id}", outcome=Outcome.NOTHING, reason=reason, episodes=(episode.id,))
    reason = f"{episode.kind} drift by {episode.monitor}: {episode.hits} of {need} windows that share no data"
    return Answer(key=f"watch/{episode.id}/{episode.hits}", outcome=Outcome.NOTHING, reason=reason, episodes=(episode.id,))
