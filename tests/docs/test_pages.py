"""Pages link to what is there, tables made from code are current, and nothing names a machine."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
import yaml

from perdure.metadata.views import model_origin, release_history
from perdure.spec.pipeline import load
from tests.docs import settings
from tests.docs.pages import PAGES, ROOT, anchors, blocks, links


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for link in links(page.read_text()):
        if re.match(r"(https?|mailto):", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name} links to {link}"
        assert ROOT in target.parents, f"{link} leaves the repository"
        if anchor:
            assert anchor in anchors(target.read_text()), f"{page.name} links to {link}"


def test_every_page_is_linked_from_another() -> None:
    linked = {(page.parent / link.partition("#")[0]).resolve() for page in PAGES for link in links(page.read_text()) if "://" not in link}
    assert {page for page in PAGES if page != ROOT / "README.md"} <= linked


def test_the_table_of_settings_is_current() -> None:
    """`python -m tests.docs.settings` renews it."""
    text = settings.GUIDE.read_text()
    assert settings.BEGIN in text
    assert text == settings.filled(text)
    assert "| None |" not in settings.table(), "a setting without a description"


def test_paths_in_the_architecture_exist() -> None:
    """The page tells people where to find things."""
    text = (ROOT / "docs" / "architecture.md").read_text()
    table = text.partition("## Where do I find")[2].partition("\n## ")[0]
    named = [name for name in re.findall(r"`([\w./]+)`", table) if "/" in name and "…" not in name]
    roots = (ROOT, ROOT / "src" / "perdure", ROOT / "src" / "perdure" / "jobs")
    assert len(named) > 10
    assert [name for name in named if not any((root / name).exists() for root in roots)] == []


def test_specifications_are_valid() -> None:
    texts = [ROOT / "README.md", ROOT / "docs" / "writing-pipelines.md"]
    found = [each for page in texts for each in re.findall(r"^```yaml.*?\n(name: .*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)]
    assert [load(yaml.safe_load(each)).name for each in found] == ["moderation", "houses"]


def test_queries_ask_for_columns_that_the_views_have() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    asked = dict(re.findall(r"FROM (\w+)\s+WHERE ([^;]+);", text))
    selected = {view: columns for columns, view in re.findall(r"SELECT ([\w, ]+) FROM (\w+)", text)}
    for view in (release_history, model_origin):
        named = re.findall(r"\b\w+\b(?= (?:=|<=|>|IS)|,|$)", f"{selected[view.name]}, {asked[view.name]}")
        assert len(named) > 3
        assert set(named) <= set(view.columns.keys()) | {"then", "3"}, named


def test_the_picture_is_a_picture() -> None:
    root = ElementTree.parse(ROOT / "docs" / "architecture.svg").getroot()
    assert root.tag.endswith("svg")
    assert root.find("{http://www.w3.org/2000/svg}title") is not None
    assert "prefers-color-scheme: dark" in (ROOT / "docs" / "architecture.svg").read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_pages_name_no_machine(page: Path) -> None:
    assert not re.search(r"/(work|root|home)/|pypi\.org|proxy\.golang\.org|ghcr\.io|docker\.io", page.read_text())


def test_marked_blocks_are_found() -> None:
    found = list(blocks("text\n\n```sh run\necho 1\n```\n\n```python file=a/b.py\nx = 1\n```\n```sh\nnot this\n```\n"))
    assert [(block.line, block.text, block.path) for block in found] == [(4, "echo 1\n", None), (8, "x = 1\n", "a/b.py")]
    with pytest.raises(AssertionError, match="marks neither"):
        list(blocks("```sh runn\necho\n```\n"))
