"""What the pages tell people to type is typed here, page by page, in its order."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, blocks

LIMIT = 280  # seconds for a page
EXECUTED = [ROOT / "README.md", ROOT / "docs" / "writing-pipelines.md", ROOT / "docs" / "operating.md", ROOT / "docs" / "labeling.md"]


@pytest.mark.long
@pytest.mark.parametrize("page", EXECUTED, ids=lambda page: page.name)
def test_commands_work(page: Path, told: dict[str, str], tmp_path: Path) -> None:
    """In an empty folder with the examples; one shell for the whole page, which ends at the first command that fails."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    script = ["set -euo pipefail"]
    for block in blocks(page.read_text()):
        if block.path is None:
            script += [f"echo '### {page.name}, line {block.line}'", block.text]
        else:
            path = tmp_path / block.path
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text)
    assert len(script) > 1, "nothing is marked"
    with subprocess.Popen(
        ["bash", "-c", "\n".join(script)],
        cwd=tmp_path,
        env=told,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as shell:
        try:
            output, _ = shell.communicate(timeout=LIMIT)
        except subprocess.TimeoutExpired:
            os.killpg(shell.pid, signal.SIGKILL)  # the shell and what it runs
            output = f"{shell.communicate()[0]}\n(no end after {LIMIT} s)"
    assert shell.returncode == 0, output


def test_no_page_is_forgotten() -> None:
    marked = {page for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")] if any(True for _ in blocks(page.read_text()))}
    assert marked == set(EXECUTED)
