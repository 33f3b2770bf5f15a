"""Temporary folders of jobs, also of killed ones."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from perdure.jobs import scratch


def test_a_folder_goes_with_its_job_or_with_the_next_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    hold = (
        "import sys, tempfile, time\n"
        "tempfile.tempdir = sys.argv[1]\n"
        "from perdure.jobs import scratch\n"
        "with scratch.folder() as folder:\n"
        "    (folder / 'large').write_text('x')\n"
        "    print('holding', flush=True)\n"
        "    time.sleep(100)\n"
    )
    other = subprocess.Popen([sys.executable, "-c", hold, str(tmp_path)], stdout=subprocess.PIPE)
    assert other.stdout
    assert other.stdout.readline() == b"holding\n"
    with scratch.folder() as folder:
        assert [*folder.iterdir()] == []
        assert len([*tmp_path.iterdir()]) == 2  # the living job's folder is left alone
    assert len([*tmp_path.iterdir()]) == 1
    other.send_signal(signal.SIGKILL)
    other.wait()
    other.stdout.close()
    with scratch.folder():
        assert len([*tmp_path.iterdir()]) == 1  # its own
    assert [*tmp_path.iterdir()] == []
