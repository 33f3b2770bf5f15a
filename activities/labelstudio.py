"""Label Studio beside the gateway: tasks out, and in what its web hooks have lost. All that comes in passes through the inbox, as they do.

An answer is named by its annotation and its last change. So it does not matter who tells of it first, or how often.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from hashlib import sha256
from uuid import UUID

from temporalio import activity

from perdure.activities.guard import pulse, stop_if_asked
from perdure.errors import Conflict, InvalidInput, NotFound, PerdureError, Permanent, StoreUnavailable
from perdure.labeling.deliveries import Arrived, Meaning, Unusable
from perdure.labeling.labelstudio import messages, projects
from perdure.labeling.labelstudio.ports import Elsewhere, Inbox, LabelStudio, SentTasks, Unsent, Untaken
from perdure.messages.common import Json
from perdure.messages.labeling import CampaignRef, DeliveryState, Reconcile, Reconciled, TasksSent

PAGE = 500  # tasks of one request
SENDING = 10.0  # seconds after which an attempt that finds more and more to send says what it has
UNSETTLED = timedelta(minutes=10)
"""Longer than any transaction of Label Studio's: what changed before this is there to be read."""


class LabelStudioActivities:
    """What `LabelingCampaign` asks of Label Studio."""

    def __init__(self, sent: SentTasks, inbox: Inbox, server: LabelStudio) -> None:
        self._sent, self._inbox, self._server = sent, inbox, server

    # --- out -----------------------------------------------------------------------------------------------------------

    @activity.defn(name="labeling.push", no_thread_cancel_exception=True)
    def push(self, request: CampaignRef) -> TasksSent:
        """Send tasks that are new, ask for more opinions where they are wanted, have the web hook told.

        Rows say what was sent: an attempt that ends anywhere is gone on with. If two send the same task at once it is there twice, and its
        answers are those of one task all the same.
        """
        with _noted(self._sent.sending, request.campaign):
            place = self._place(request.campaign)
            problem, done = self._register(place), self._look_up(place)
            end = time.monotonic() + SENDING
            while tasks := self._sent.unsent(place.campaign, PAGE):
                done = _sum(done, self._send(place, tasks))
                pulse().ok(sent=done.sent, refused=done.refused)
                stop_if_asked()
                if time.monotonic() > end:
                    return TasksSent(sent=done.sent, refused=done.refused, more=True)
            self._ask_more(place)
            if problem is not None:
                raise problem
            return done

    def _ask_more(self, place: Elsewhere) -> None:
        for task, external, overlap in self._sent.wanting(place.campaign):
            try:
                self._server.ask_more(external, overlap)
            except NotFound:
                self._sent.refused(task, "somebody has deleted it in Label Studio")
            else:
                self._sent.sent(place.campaign, {task: external}, overlap)
            stop_if_asked()

    def _place(self, campaign: UUID) -> Elsewhere:
        """The campaign's place, with its project: found, made, or, after a crash, found again."""
        place, server = self._sent.place(campaign, self._server.address, self._server.secret), self._server
        description = projects.marker(campaign, place.name)
        if place.project is not None:
            if place.address != server.address and server.project(place.project).description != description:
                raise Conflict(
                    f"the campaign's project is at {place.address}, not at {server.address}",
                    field="labelstudio.url",
                    remedy="set the old address, or close the campaign",
                )
            return place if place.address == server.address else self._sent.settle(campaign, server.address, place.project)
        wanted = place.spec.labelstudio
        if wanted is not None and wanted.project is not None:
            if why := projects.misfit(server.project(wanted.project).controls, place.spec):
                fitting = projects.config(place.spec)
                raise InvalidInput(
                    f"the project {wanted.project} does not fit: {why}", field="labelstudio.project", remedy=f"give it this: {fitting}"
                )
            return self._sent.settle(campaign, server.address, wanted.project)
        project = server.find_project(description)
        if project is None:
            spec = place.spec
            config, title = projects.config(spec), projects.title(place.name)
            made = server.create_project(title, description, config, spec.instructions, spec.overlap.labels)
            project = server.find_project(description) or made  # of two that were made at once, both attempts take the older one
        return self._sent.settle(campaign, server.address, project)

    def _register(self, place: Elsewhere) -> PerdureError | None:
        """Why the web hook cannot be registered: no reason to keep tasks back, as answers are found by looking, too."""
        try:
            if place.project is not None and place.secret is not None:
                self._server.register(place.project, place.hook, place.secret)
        except Permanent as err:
            return err
        return None

    def _look_up(self, place: Elsewhere) -> TasksSent:
        """Tasks that an attempt was sending when it ended: those that are there are known again by their keys, the others are sent."""
        unsure = {task.key: task for task in self._sent.unsure(place.campaign)}
        if not unsure or place.project is None:
            return TasksSent()
        found: dict[str, int] = {}
        for number, (id, task) in enumerate(self._server.tasks(place.project)):
            if (key := messages.own_key(place.campaign, task)) in unsure:
                found[str(key)] = id
            if len(found) == len(unsure):
                break
            if number % PAGE == 0:
                _say(looked_at=number)
                stop_if_asked()
        self._sent.sent(place.campaign, {unsure[key].id: id for key, id in found.items()}, place.spec.overlap.labels)
        left, done = [task for key, task in unsure.items() if key not in found], TasksSent(sent=len(found))
        for start in range(0, len(left), PAGE):
            done = _sum(done, self._send(place, left[start : start + PAGE]))
            pulse().ok(sent=done.sent, refused=done.refused)
            stop_if_asked()
        return done

    def _send(self, place: Elsewhere, tasks: Sequence[Unsent]) -> TasksSent:
        lines: list[tuple[Unsent, Json]] = []
        refused = 0
        for task in tasks:
            try:
                lines.append((task, projects.line(place.campaign, task, place.spec)))
            except InvalidInput as err:
                self._sent.refused(task.id, err.problem)
                refused += 1
        return _sum(TasksSent(refused=refused), self._import(place, lines))

    def _import(self, place: Elsewhere, lines: Sequence[tuple[Unsent, Json]]) -> TasksSent:
        """Label Studio refuses lines as a whole: halves of them, until the one that it does not take is alone."""
        if not lines or place.project is None:
            return TasksSent()
        try:
            ids = self._server.import_tasks(place.project, [line for _, line in lines])
        except Untaken as err:
            if len(lines) == 1:
                self._sent.refused(lines[0][0].id, str(err))
                return TasksSent(refused=1)
            middle = len(lines) // 2
            return _sum(self._import(place, lines[:middle]), self._import(place, lines[middle:]))
        self._sent.sent(place.campaign, {task.id: id for (task, _), id in zip(lines, ids, strict=True)}, place.spec.overlap.labels)
        return TasksSent(sent=len(ids))

    # --- in ------------------------------------------------------------------------------------------------------------

    @activity.defn(name="labeling.reconcile", no_thread_cancel_exception=True)
    def reconcile(self, request: Reconcile) -> Reconciled:
        """Take answers that no web hook has told; with ``whole`` deletions, too, by a full export."""
        with _noted(self._sent.reading, request.campaign):
            place = self._place(request.campaign)
            return self._compare(place) if request.whole else self._poll(place)

    def _poll(self, place: Elsewhere) -> Reconciled:
        """Tasks that changed since the last time, by Label Studio's clock. The next page begins where this one ended, not at a number:
        tasks change their places meanwhile.
        """
        since = place.watermark - UNSETTLED if place.watermark else None
        done, began, page = Reconciled(), None, 1
        while place.project is not None:
            changed = self._server.changed(place.project, since, page, PAGE)
            began = began or changed.at
            done = _added(done, self._take(place, changed.tasks))
            _say(found=done.found, quarantined=done.quarantined)
            stop_if_asked()
            if len(changed.tasks) < PAGE:
                self._sent.read_until(place.campaign, began)
                break
            newest = messages.changed_at(changed.tasks[-1])
            if since is None or newest > since:
                self._sent.read_until(place.campaign, newest)
                since, page = newest, 1
            else:
                page += 1  # a page of tasks that changed at the same moment
        return done

    def _compare(self, place: Elsewhere) -> Reconciled:
        """Whatever is there and not here, and here and not there any more.

        What is known here is read first: an answer that comes meanwhile is not taken for a deleted one. Where a task itself is gone, or the
        project, its answers stay: somebody tidied up, and nobody took an answer back.
        """
        done = Reconciled()
        if place.project is None:
            return done
        known = self._sent.standing(place.campaign)
        there, tasks = set[str](), set[str]()
        with self._server.export(place.project) as exported:
            for batch in _batches(exported):
                done = _added(done, self._take(place, batch))
                for task in batch:
                    if key := messages.own_key(place.campaign, task):
                        tasks.add(key)
                        there |= {messages.source_key(place.hook, each["id"]) for each in task.get("annotations") or ()}
                _say(compared=len(tasks))
                stop_if_asked()
        gone = [name for name, task in known.items() if name not in there and task in tasks]
        for name in gone:
            done = _added(done, self._receive(place, messages.gone(messages.annotation_id(name))))
        if left := sum(task not in tasks for task in known.values()):
            activity.logger.warning("answers to tasks that Label Studio has no more; they count", extra={"answers": left})
        return done

    def _take(self, place: Elsewhere, tasks: Iterable[Json]) -> Reconciled:
        """The messages that should have come about these tasks. What is known already makes none."""
        said = [
            messages.seen(annotation, task)
            for task in tasks
            if messages.own_key(place.campaign, task) is not None
            for annotation in task.get("annotations") or ()
        ]
        names = [(message, _names(messages.read(place.hook, place.campaign, message)[1])) for message in said]
        given = self._sent.given(place.campaign, {name for _, named in names for name in named})
        done = Reconciled()
        for message, named in names:
            if not named or not named <= given:
                done = _added(done, self._receive(place, message))
        return done

    def _receive(self, place: Elsewhere, message: Json) -> Reconciled:
        key, meaning = messages.read(place.hook, place.campaign, message)
        body = json.dumps(message).encode()
        arrived = Arrived(
            hook=place.hook,
            campaign=place.campaign,
            key=key,
            body=body,
            body_sha256=sha256(body).hexdigest(),
            headers={"user-agent": "perdure"},
        )
        delivery = self._inbox.receive(arrived, meaning)
        if delivery.duplicate and delivery.state is DeliveryState.QUARANTINED:  # what it is about may have come since
            delivery = self._inbox.replay(place.hook, place.campaign, key, meaning)
            if delivery.state is DeliveryState.QUARANTINED:
                return Reconciled()
        elif delivery.duplicate:
            return Reconciled()
        if delivery.state is DeliveryState.QUARANTINED:
            return Reconciled(quarantined=1)
        return Reconciled(deleted=1) if isinstance(meaning, Meaning) and meaning.withdrawn else Reconciled(found=1)


@contextmanager
def _noted(note: Callable[[UUID, PerdureError | None], None], campaign: UUID) -> Iterator[None]:
    """How it ended stands in the campaign's row."""
    try:
        yield
    except PerdureError as err:
        with suppress(StoreUnavailable):
            note(campaign, err)
        raise
    note(campaign, None)


def _say(**detail: object) -> None:
    """Tell people how far it is. No reason to be patient for longer: another attempt begins anew, and may end at the same place."""
    pulse().detail = detail


def _names(meaning: Meaning | Unusable) -> set[tuple[str, str]]:
    return {(each.source_key, each.revision) for each in meaning.answers} if isinstance(meaning, Meaning) else set()


def _batches(tasks: Iterator[Json]) -> Iterator[list[Json]]:
    batch: list[Json] = []
    for task in tasks:
        batch.append(task)
        if len(batch) == PAGE:
            yield batch
            batch = []
    yield batch


def _sum(one: TasksSent, other: TasksSent) -> TasksSent:
    return TasksSent(sent=one.sent + other.sent, refused=one.refused + other.refused)


def _added(one: Reconciled, other: Reconciled) -> Reconciled:
    return Reconciled(found=one.found + other.found, deleted=one.deleted + other.deleted, quarantined=one.quarantined + other.quarantined)
