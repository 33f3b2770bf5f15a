"""All opinions of a campaign, read for an estimate, and the decisions that follow from it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby, islice
from uuid import UUID

from sqlalchemy import text

from perdure.keys import digest
from perdure.labeling.consensus import ADJUDICATED, BY_MODEL
from perdure.labeling.ports import Asked, Estimated
from perdure.metadata.jsonb import dumps
from perdure.metadata.repository.rows import Rows

_PAGE = 2_000  # tasks read, or decisions written, at once

# The status in these words, as the index has it: a parameter would not find it. Row by row (offset 0): a join would read all answers of
# all campaigns for each page.
_OPINIONS = text(
    """
    select task.id, task.key, given.id as annotation, given.revision, given.value, labeler.principal,
           task.gold is not null as gold, coalesce(task.gold, case when decided.method = :adjudicated then decided.label end) as known
      from (select id, key, gold from task where campaign_id = :campaign and key > :after order by key limit :page) as task
      left join lateral (select method, label from decision where task_id = task.id offset 0) as decided on true
      left join lateral (select id, revision, value, labeler_id from annotation
                          where task_id = task.id and status in ('valid', 'skipped') and status = 'valid' offset 0) as given
             on decided.method is distinct from :by_model
      left join labeler on labeler.id = given.labeler_id
     order by task.key, given.id
    """
)
_RECONSIDERED = text(
    """
    update decision set label = rows.label::jsonb, posterior = rows.posterior, method = :method, weights = null
      from unnest(cast(:tasks as uuid[]), cast(:labels as text[]), cast(:posteriors as float8[]), cast(:inputs as text[]))
        as rows (task, label, posterior, inputs)
     where decision.task_id = rows.task and decision.inputs_sha256 = rows.inputs and decision.method not in (:adjudicated, :by_model)
       and (decision.label, decision.posterior, decision.method) is distinct from (rows.label::jsonb, rows.posterior, :method)
    """
)


class EstimateRows(Rows):
    """What `perdure.labeling.ports.Campaigns` needs for estimates, on Postgres."""

    def asked(self, campaign: UUID) -> Iterator[Asked]:
        """Each task that has opinions of people, in the same order every time; not those that a model decides."""
        after = ""
        while True:
            query = {"campaign": campaign, "after": after, "page": _PAGE, "adjudicated": ADJUDICATED, "by_model": BY_MODEL}
            with self._database.transaction() as session:
                rows = session.execute(_OPINIONS, query).all()
            for _, found in groupby(rows, key=lambda row: row.id):
                opinions = [row for row in found if row.annotation is not None]
                if opinions:
                    yield Asked(
                        id=opinions[0].id,
                        known=opinions[0].known,
                        gold=opinions[0].gold,
                        inputs_sha256=digest(sorted(f"{row.annotation}/{row.revision}" for row in opinions)),
                        votes=[(row.principal, row.value) for row in opinions],
                    )
            if not rows:
                return
            after = rows[-1].key

    def reconsider(self, campaign: UUID, method: str, estimates: Iterable[Estimated]) -> None:
        """The labels of decided tasks are these, if the opinions are still the same. What was decided by hand stays."""
        for page in _pages(estimates):
            with self._database.transaction() as session:
                session.execute(
                    _RECONSIDERED,
                    {
                        "tasks": [each.task for each in page],
                        "labels": [dumps(each.label) for each in page],
                        "posteriors": [each.posterior for each in page],
                        "inputs": [each.inputs_sha256 for each in page],
                        "method": method,
                        "adjudicated": ADJUDICATED,
                        "by_model": BY_MODEL,
                    },
                )


def _pages(estimates: Iterable[Estimated]) -> Iterator[list[Estimated]]:
    remaining = iter(estimates)
    while page := sorted(islice(remaining, _PAGE), key=lambda each: each.task):  # in one order, as two snapshots may be taken at once
        yield page
