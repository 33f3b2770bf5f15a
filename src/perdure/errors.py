"""Every error that Perdure raises on purpose: callers ask by class, people read the remedy.

The type name is what survives the wire (Temporal, S3, Postgres), so it is stable: each has its section in ``docs/errors.md``.

    PerdureError(ApplicationError)
    ├─ Transient              an unreachable part: waited for until `patience`, then PatienceExhausted
    │  ├─ StoreUnavailable    Postgres
    │  ├─ ObjectsUnavailable  S3
    │  ├─ ClusterUnavailable  Ray
    │  ├─ TrackingUnavailable MLflow
    │  ├─ LabelStudioUnavailable
    │  ├─ TemporalUnavailable Temporal
    │  ├─ ModelUnavailable    a serving process that cannot answer with a model now
    │  └─ RateLimited         whoever sends too much
    └─ Permanent              trying again would change nothing
       ├─ InvalidInput        a request, specification or argument is wrong
       │  └─ UnknownTrainer
       ├─ NotFound, Conflict
       ├─ SourceMissing, SourceChanged, SchemaBroken, DataRejected      the data
       ├─ UserCodeImport, UserCodeError, JobCrashed, JobStalled         the owner's code
       ├─ ResourcesUnavailable, AccessDenied, StorageFull, CorruptArtifact, SchemaTooNew, SchemaTooOld, PatienceExhausted
       ├─ Defect              Perdure itself
       └─ EvidenceChanged, VoteRefused, LeaseLost                       people
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from temporalio.exceptions import ApplicationError, FailureError

MAX_MESSAGE = 4_000  # characters; a payload above 2 MiB would fail the workflow task instead of the run


class PerdureError(ApplicationError):
    """An error with a cause, the field that it is about and a remedy.

    *field* is the path in the request or specification (``data.source.uri``); *remedy* is one imperative sentence.
    """

    retryable: ClassVar[bool] = True

    def __init__(self, message: str, *, field: str | None = None, remedy: str | None = None) -> None:
        self.problem, self.field, self.remedy = bounded(message), field, remedy
        text = f"{field}: {self.problem}" if field else self.problem
        super().__init__(
            f"{text}\n  remedy: {remedy}" if remedy else text,
            self.as_dict(),
            type=type(self).__name__,
            non_retryable=not self.retryable,
        )

    def as_dict(self) -> dict[str, str | None]:
        """The error as plain data, for rows, objects and ``--json``; `from_dict` rebuilds it."""
        return {"type": type(self).__name__, "message": self.problem, "field": self.field, "remedy": self.remedy}


class Transient(PerdureError):
    """A part that Perdure needs does not answer. ``part`` names it for people."""

    part: ClassVar[str] = "a service"


class StoreUnavailable(Transient):
    """Postgres does not answer."""

    part = "Postgres"


class ObjectsUnavailable(Transient):
    """The S3 endpoint does not answer."""

    part = "S3"


class ClusterUnavailable(Transient):
    """The Ray cluster does not answer."""

    part = "Ray"


class TrackingUnavailable(Transient):
    """MLflow does not answer (never on a run's critical path)."""

    part = "MLflow"


class LabelStudioUnavailable(Transient):
    """Label Studio does not answer (no campaign ends by that)."""

    part = "Label Studio"


class TemporalUnavailable(Transient):
    """The Temporal server, or every worker behind it, does not answer."""

    part = "Temporal"


class ModelUnavailable(Transient):
    """A serving process cannot answer with a released version at this moment."""

    part = "serving"


class RateLimited(Transient):
    """More was sent than is taken in such a time."""


class Permanent(PerdureError):
    """Trying again would change nothing."""

    retryable = False


class InvalidInput(Permanent):
    """A request, a specification or an argument is wrong."""


class UnknownTrainer(InvalidInput):
    """``train.trainer`` names neither a built-in trainer nor an importable function."""


class NotFound(Permanent):
    """What a request names does not exist."""


class Conflict(Permanent):
    """The request contradicts what has already been committed."""


class SourceMissing(Permanent):
    """``data.source`` names no file or object that can be read."""


class SourceChanged(Permanent):
    """The source no longer holds the bytes that the plan saw."""


class SchemaBroken(Permanent):
    """The source cannot be read as the declared format, columns or schema."""


class DataRejected(Permanent):
    """The data can be read, but not learned from: too many bad rows, labels missing, one class only, an empty split."""


class UserCodeImport(Permanent):
    """The owner's code cannot be imported in a job."""


class UserCodeError(Permanent):
    """The owner's code raised an exception."""


class JobCrashed(Permanent):
    """A job died again and again without progress (``os._exit``, out of memory, a native crash)."""


class JobStalled(Permanent):
    """A job stood still again and again for longer than its ``stall`` allows."""


class ResourcesUnavailable(Permanent):
    """The cluster can never satisfy what ``train.scaling`` asks for."""


class AccessDenied(Permanent):
    """A server refused the credentials."""


class StorageFull(Permanent):
    """A disk or bucket has no room left."""


class CorruptArtifact(Permanent):
    """An object does not have the sha256 under which a row names it."""


class SchemaTooNew(Permanent):
    """The database schema is newer than this code."""


class SchemaTooOld(Permanent):
    """The database schema is older than this code, or not there at all."""


class PatienceExhausted(Permanent):
    """A part stayed unreachable for longer than the specification's ``patience``."""


class Defect(Permanent):
    """An activity ended again and again with an exception that nobody foresaw: a mistake in Perdure itself."""


class EvidenceChanged(Permanent):
    """A vote was cast on evidence other than what is up for decision."""


class VoteRefused(Permanent):
    """The voter may not decide here, or has decided differently before."""


class LeaseLost(Permanent):
    """A task is no longer in the hands of the labeler who answers it: the lease ran out, or was given back."""


def bounded(text: str, limit: int = MAX_MESSAGE) -> str:
    """*text* cut in its middle to at most *limit* characters: first and last lines say most."""
    if len(text) <= limit:
        return text
    half = (limit - 5) // 2
    return f"{text[:half]}\n...\n{text[-half:]}"


def subclasses(kind: type[PerdureError]) -> Iterator[type[PerdureError]]:
    """*kind* and every class below it."""
    yield kind
    for child in kind.__subclasses__():
        yield from subclasses(child)


def from_dict(data: dict[str, Any]) -> PerdureError:
    """The error that `PerdureError.as_dict` described; an unknown type (a newer job's) becomes `Permanent`."""
    known = {kind.__name__: kind for kind in subclasses(PerdureError)}
    kind = known.get(str(data.get("type")), Permanent)
    return kind(str(data.get("message", "")), field=data.get("field"), remedy=data.get("remedy"))


def root(failure: BaseException) -> BaseException:
    """The failure that people want to read: below the activity and child-workflow wrappers of Temporal."""
    cause: BaseException = failure
    while isinstance(cause, FailureError) and not isinstance(cause, ApplicationError) and cause.cause is not None:
        cause = cause.cause
    return cause


def caused_by(failure: BaseException, kind: type[PerdureError]) -> bool:
    """Whether *failure* was caused by *kind* or one of its subclasses."""
    cause = root(failure)
    return isinstance(cause, ApplicationError) and cause.type in {k.__name__ for k in subclasses(kind)}
