"""The reference pages say what the code does."""

from __future__ import annotations

import re
from pathlib import Path

from perdure.cli.exits import BY_ERROR, MEANINGS, Exit, exit_code
from perdure.cli.reference import render
from perdure.errors import PerdureError, subclasses

DOCS = Path(__file__).parent.parent.parent / "docs"
CLASSES = {kind.__name__ for kind in subclasses(PerdureError)} - {"PerdureError"}
PARTS = ("**What happened.**", "**Typical message.**", "**What to do.**")


def sections() -> dict[str, str]:
    text = (DOCS / "errors.md").read_text()
    parts = re.split(r"^### (\w+)\n", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_every_error_has_a_section_and_none_is_stale() -> None:
    assert set(sections()) == CLASSES


def test_every_section_says_what_happened_and_what_to_do() -> None:
    for name, text in sections().items():
        assert all(part in text for part in PARTS), name
        told = re.search(r"Exit\s+code (\d+)\.", text.partition(PARTS[2])[2])
        assert told, f"{name} tells no exit code"
        assert int(told[1]) == exit_code(name), name


def test_every_error_has_an_exit_code() -> None:
    assert set(BY_ERROR) == CLASSES | {"PerdureError"}
    assert set(MEANINGS) == set(Exit)
    assert exit_code("OfANewerVersion") is Exit.FAILED


def test_reference_of_commands_is_current() -> None:
    """`python -m perdure.cli.reference > docs/cli.md` renews it."""
    assert (DOCS / "cli.md").read_text() == render()


def test_links_between_the_pages_lead_somewhere() -> None:
    text = (DOCS / "errors.md").read_text()
    anchors = {re.sub(r"[^\w -]", "", line.lstrip("# ")).lower().replace(" ", "-") for line in text.splitlines() if line.startswith("#")}
    assert set(re.findall(r"\(#([\w-]+)\)", text)) <= anchors
    assert "## Exit codes" in (DOCS / "cli.md").read_text()
