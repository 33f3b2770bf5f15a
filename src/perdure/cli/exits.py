"""What an exit code means, and which error ends with which: scripts may rely on it (``docs/cli.md``)."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes of every command."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    UNREACHABLE = 4
    CONFLICT = 5
    DENIED = 6
    MISFIT = 7
    UNFINISHED = 8
    DEFECT = 70
    INTERRUPTED = 130

    @property
    def meaning(self) -> str:
        """One line for people."""
        return MEANINGS[self]


MEANINGS = {
    Exit.OK: "done; of `run` and `watch`: the run succeeded and its model was released",
    Exit.FAILED: "the run failed, was cancelled, or its model was refused; or an error without a code of its own",
    Exit.USAGE: "the command, the specification or a value in it is wrong; nothing was changed",
    Exit.NOT_FOUND: "what the command names does not exist",
    Exit.UNREACHABLE: "Postgres, S3, Temporal, Ray, MLflow or every worker does not answer; the same command may succeed later",
    Exit.CONFLICT: "the command contradicts what was committed before: a run has ended, a key is taken, a vote does not count",
    Exit.DENIED: "a server refused the credentials",
    Exit.MISFIT: "the database schema and this version of Perdure do not fit; see `perdure db check`",
    Exit.UNFINISHED: "`watch --timeout`: the run still goes on",
    Exit.DEFECT: "an unexpected error: a defect of Perdure",
    Exit.INTERRUPTED: "Ctrl-C; a run that was being watched goes on",
}

# By name, as errors cross processes by name and as importing them would slow every `--help` down. A test compares this with the classes.
BY_ERROR = {
    "PerdureError": Exit.FAILED,
    "Transient": Exit.UNREACHABLE,
    "StoreUnavailable": Exit.UNREACHABLE,
    "ObjectsUnavailable": Exit.UNREACHABLE,
    "ClusterUnavailable": Exit.UNREACHABLE,
    "TrackingUnavailable": Exit.UNREACHABLE,
    "LabelStudioUnavailable": Exit.UNREACHABLE,
    "TemporalUnavailable": Exit.UNREACHABLE,
    "RateLimited": Exit.UNREACHABLE,
    "ModelUnavailable": Exit.UNREACHABLE,
    "Permanent": Exit.FAILED,
    "InvalidInput": Exit.USAGE,
    "UnknownTrainer": Exit.USAGE,
    "NotFound": Exit.NOT_FOUND,
    "Conflict": Exit.CONFLICT,
    "SourceMissing": Exit.FAILED,
    "SourceChanged": Exit.FAILED,
    "SchemaBroken": Exit.FAILED,
    "DataRejected": Exit.FAILED,
    "UserCodeImport": Exit.FAILED,
    "UserCodeError": Exit.FAILED,
    "JobCrashed": Exit.FAILED,
    "JobStalled": Exit.FAILED,
    "ResourcesUnavailable": Exit.FAILED,
    "AccessDenied": Exit.DENIED,
    "StorageFull": Exit.FAILED,
    "CorruptArtifact": Exit.FAILED,
    "SchemaTooNew": Exit.MISFIT,
    "SchemaTooOld": Exit.MISFIT,
    "PatienceExhausted": Exit.UNREACHABLE,
    "Defect": Exit.DEFECT,
    "EvidenceChanged": Exit.CONFLICT,
    "VoteRefused": Exit.CONFLICT,
    "LeaseLost": Exit.CONFLICT,
}


def exit_code(error: str) -> Exit:
    """The code for the error class named *error*; a newer one that is not known here just fails."""
    return BY_ERROR.get(error, Exit.FAILED)
