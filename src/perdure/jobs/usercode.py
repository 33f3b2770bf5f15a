"""The owner's code in a job: fetched by digest, imported, called; whatever goes wrong in it becomes a typed error."""

from __future__ import annotations

import errno
import importlib
import os
import shutil
import sys
import time
import traceback
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from perdure.adapters.s3 import ObjectStore
from perdure.errors import JobCrashed, PerdureError, StorageFull, UserCodeError, UserCodeImport, bounded
from perdure.jobs import scratch
from perdure.messages.common import ArtifactRef

_LEFT_SECONDS = 86_400.0
_FRAMES = 8  # of a traceback, innermost
_OWN = str(Path(__file__).resolve().parents[1])  # frames of Perdure's own files are left out


def install(objects: ObjectStore, code: ArtifactRef) -> Path:
    """The folder with the unpacked *code*, first on ``sys.path``; fetched once per machine and digest."""
    folder = _cache() / code.sha256
    if not folder.is_dir():
        fresh = folder.with_name(f".{folder.name}.{uuid4().hex}")
        try:
            with scratch.folder() as tmp:
                archive = objects.download(code, tmp / "code.zip")
                with zipfile.ZipFile(archive) as package:
                    package.extractall(fresh)
            fresh.rename(folder)
        except zipfile.BadZipFile as err:
            raise UserCodeImport("the code package is not a zip file", remedy="run perdure apply again") from err
        except OSError:
            if not folder.is_dir():  # else another process was faster
                raise
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
        importlib.invalidate_caches()
    return folder


def _cache() -> Path:
    named = os.environ.get("PERDURE_CACHE")
    base = Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "perdure"
    folder = base / "code"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for cut_off in folder.glob(".*"):  # whoever unpacked it was killed
        with suppress(FileNotFoundError):
            if cut_off.stat().st_mtime < time.time() - _LEFT_SECONDS:
                shutil.rmtree(cut_off, ignore_errors=True)
    return folder


def load(reference: str) -> Any:
    """The attribute that ``package.module:attribute`` names. Raises UserCodeImport."""
    module, _, name = reference.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except MemoryError as err:
        raise out_of_memory(f"importing {module}") from err
    except (Exception, SystemExit) as err:
        if isinstance(err, ModuleNotFoundError) and err.name and module.startswith(err.name):
            remedy = f"see that the project holds {module} and was applied from its root folder: perdure apply"
        elif isinstance(err, ModuleNotFoundError):
            remedy = f"install {err.name} where jobs run, or add it to the project"
        elif isinstance(err, AttributeError) and f"'{name}'" in str(err) and not _owner_frames(err):
            remedy = f"define {name} in {module}, or name what it defines"
        else:
            remedy = f"mend {module} and apply it again: perdure apply"
        raise UserCodeImport(f"{reference} cannot be imported: {_last_lines(err)}", remedy=remedy) from err


@contextmanager
def guarded(what: str) -> Iterator[None]:
    """Turn an exception of the owner's code into UserCodeError naming *what*; typed errors pass."""
    try:
        yield
    except PerdureError:
        raise
    except MemoryError as err:
        raise out_of_memory(what) from err
    except (Exception, SystemExit) as err:
        if disk_full(err):
            raise no_room(what) from err
        raise UserCodeError(
            f"{what} raised {_last_lines(err)}", remedy="mend the code (the traceback's last lines are above) and apply it: perdure apply"
        ) from err


def call(what: str, function: Callable[..., Any], *args: Any) -> Any:
    """``function(*args)``, `guarded`."""
    with guarded(what):
        return function(*args)


def out_of_memory(what: str) -> JobCrashed:
    """What a MemoryError becomes."""
    return JobCrashed(f"{what} ran out of memory", remedy="use more partitions or workers, or a machine with more memory")


def no_room(what: str) -> StorageFull:
    """What a full disk becomes."""
    return StorageFull(f"no room on the local disk while {what} ran", remedy="free disk space on the node that ran the job")


def disk_full(err: BaseException | None) -> bool:
    """Whether a full disk caused *err*."""
    seen: set[int] = set()  # the owner's code may have chained errors in a circle
    while err is not None and id(err) not in seen:
        seen.add(id(err))
        # polars reports it as text only
        if (isinstance(err, OSError) and err.errno in (errno.ENOSPC, errno.EDQUOT)) or "(os error 28)" in str(err):
            return True
        err = err.__cause__ or err.__context__
    return False


def _owner_frames(err: BaseException) -> list[traceback.FrameSummary]:
    frames = traceback.extract_tb(err.__traceback__)
    return [f for f in frames if not f.filename.startswith((_OWN, "<frozen importlib", importlib.__file__ or _OWN))]


def _last_lines(err: BaseException) -> str:
    """The exception and the innermost frames of the owner's code, bounded."""
    head = "".join(traceback.format_exception_only(err)).strip()
    frames = "".join(traceback.format_list(_owner_frames(err)[-_FRAMES:])).rstrip()
    return bounded(f"{head}\n{frames}" if frames else head, 2_000)
