"""One process of `perdure.jobs.pool`, seen from the worker."""

from __future__ import annotations

import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from uuid import uuid4

from perdure.messages.jobs import Submission

_MARK = "PERDURE_PROCESS"  # its scratch folder, in its environment and in that of everything it starts
_MAX_RSS = 1 << 30  # bytes; a process that has grown beyond it is not used again
_LOOK = 0.5  # seconds between looks whether it still lives
_GONE = 5.0  # seconds within which what is killed is gone, unless the kernel holds it


class JobProcess:
    """Runs jobs of one version of the owner's code, one at a time. Started and used by one thread; `kill` may be called by any."""

    def __init__(self, environment: dict[str, str], scratch: Path) -> None:
        self._scratch = scratch / uuid4().hex
        self._scratch.mkdir(parents=True)
        self.code: str | None = None
        with ExitStack() as its, ExitStack() as ours:
            ours.callback(shutil.rmtree, self._scratch, ignore_errors=True)
            self._answers, answers = _pipe(ours, its)
            self._printed, printed = _pipe(ours, its)
            self._popen = subprocess.Popen(
                [sys.executable, "-m", "perdure.jobs.pool", str(os.getpid())],
                stdin=subprocess.PIPE,
                stdout=answers,
                stderr=printed,
                env={**environment, _MARK: str(self._scratch), "TMPDIR": str(self._scratch)},
                cwd=self._scratch,
                start_new_session=True,
            )
            ours.pop_all()  # it has started: `discard` does it
        assert self._popen.stdin is not None
        self._requests = self._popen.stdin
        self._used = False
        os.set_blocking(self._printed, False)

    @property
    def exit_code(self) -> int:
        """Its exit code, or minus the signal that ended it; after `discard`."""
        return self._popen.returncode

    def fits(self, code: str | None) -> bool:
        """Whether a job with this code digest may run here: no other code was imported, and memory has not grown too much."""
        return self._popen.poll() is None and self.code in (None, code) and self._rss() < _MAX_RSS

    def run(self, submission: Submission, output: Callable[[bytes], None]) -> int | None:
        """Run one job, handing what it prints to *output*; its exit code, or None where the process died."""
        line = json.dumps({"uri": submission.request.uri, "sha256": submission.request.sha256})
        if self._used:
            _drain(self._printed, lambda data: None)  # of threads that the last job left behind
        self._used, self.code = True, submission.code or self.code
        with suppress(BrokenPipeError):
            self._requests.write(line.encode() + b"\n")
            self._requests.flush()
        answer = self._answer(output)
        _drain(self._printed, output)  # all of it was written before the answer
        return int(answer) if answer else None

    def _answer(self, output: Callable[[bytes], None]) -> bytes:
        """The next line of answers; empty if the process dies first."""
        line = b""
        with selectors.DefaultSelector() as selector:
            selector.register(self._answers, selectors.EVENT_READ)
            selector.register(self._printed, selectors.EVENT_READ)
            while not line.endswith(b"\n"):
                ready = {key.fd for key, _ in selector.select(_LOOK)}
                if self._printed in ready and not _drain(self._printed, output):
                    selector.unregister(self._printed)
                if self._answers in ready:
                    part = os.read(self._answers, 1 << 16)
                    if not part:
                        return b""
                    line += part
                elif not ready and self._popen.poll() is not None:  # a process that it forked may hold the pipes open
                    return b""
        return line

    def kill(self) -> None:
        """End it at once, with everything in its group."""
        with suppress(ProcessLookupError):
            os.killpg(self._popen.pid, signal.SIGKILL)

    def discard(self) -> None:
        """See it gone, with everything it started and its temporary files."""
        self.kill()
        self._popen.wait()
        kill_below(self._scratch)
        with suppress(BrokenPipeError):
            self._requests.close()
        os.close(self._answers)
        os.close(self._printed)
        shutil.rmtree(self._scratch, ignore_errors=True)

    def _rss(self) -> int:
        try:
            pages = int(Path(f"/proc/{self._popen.pid}/statm").read_text().split()[1])
        except OSError:
            return 0  # not Linux
        return pages * os.sysconf("SC_PAGE_SIZE")


def _pipe(reader: ExitStack, writer: ExitStack) -> tuple[int, int]:
    """A pipe whose ends are closed by these."""
    ends = os.pipe()
    reader.callback(os.close, ends[0])
    writer.callback(os.close, ends[1])
    return ends


def describe_exit(code: int) -> str:
    """An exit code for people."""
    if code >= 0:
        return f"the job's process ended with exit code {code}"
    named = {member.value: member.name for member in signal.Signals}
    hint = " (out of memory, if nobody killed it)" if -code == signal.SIGKILL else ""
    return f"the job's process was killed by {named.get(-code, f'signal {-code}')}{hint}"


def _drain(fd: int, output: Callable[[bytes], None]) -> bool:
    """Read what is there without waiting; False at the end of the file."""
    try:
        while data := os.read(fd, 1 << 16):
            output(data)
    except BlockingIOError:
        return True
    return False


def kill_below(scratch: Path) -> None:
    """Kill what was started by a process with this scratch folder, or one below it, and has left its group; see it gone. Linux only."""
    end = time.monotonic() + _GONE
    while (left := _below(scratch)) and time.monotonic() < end:
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)


def _below(scratch: Path) -> list[int]:
    """Processes that live and were started with this scratch folder, or one below it. One that is ending has no environment any more."""
    mark = f"{_MARK}={scratch}".encode()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if any(entry == mark or entry.startswith(mark + b"/") for entry in (folder / "environ").read_bytes().split(b"\0")):
                found.append(int(folder.name))
        except OSError:
            continue  # gone, or another user's
    return found
