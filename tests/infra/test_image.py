"""The container image's recipe: pinned by hash, not root, no secret, and made only of what its context holds."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "infra" / "image" / "Containerfile"


def instructions() -> list[tuple[str, str]]:
    """Instruction and argument, continued lines joined."""
    text = re.sub(r"^\s*#.*\n", "", RECIPE.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in text.splitlines() if line.strip()]


def test_it_has_two_stages_and_ends_as_an_ordinary_user() -> None:
    found = instructions()
    assert [name for name, _ in found].count("FROM") == 2
    last = max(i for i, (name, _) in enumerate(found) if name == "FROM")
    users = [argument for name, argument in found[last:] if name == "USER"]
    assert len(users) == 1
    assert int(users[0].split(":")[0]) > 0
    assert not any("pip install" in argument for name, argument in found[last:] if name == "RUN")


def test_everything_installed_is_pinned_by_hash() -> None:
    installs = [step for name, argument in instructions() if name == "RUN" for step in argument.split("&&") if "pip install" in step]
    assert installs
    for step in installs:
        assert "--require-hashes" in step or ("--no-deps" in step and "/wheel/" in step), step
    lock = (ROOT / "requirements.lock").read_text()
    for tool in ("uv", "setuptools"):
        assert re.search(rf"^{tool}==\S+ \\\n    --hash=sha256:", lock, flags=re.MULTILINE)
    assert "://" not in lock, "a lock names no host"


def test_arguments_carry_no_secret() -> None:
    arguments = [argument for name, argument in instructions() if name in ("ARG", "ENV")]
    assert arguments
    assert not any(re.search("PASSWORD|SECRET|TOKEN|CREDENTIAL|_KEY", argument) for argument in arguments)


def test_what_is_copied_exists_and_is_not_ignored() -> None:
    allowed = {line[1:] for line in RECIPE.with_name("Containerfile.dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = [part for name, argument in instructions() if name == "COPY" and "--from" not in argument for part in argument.split()[:-1]]
    assert set(copied) == allowed
    assert all((ROOT / part).exists() for part in copied)
    linked = [path.readlink() for path in (ROOT / "src" / "perdure").iterdir() if path.is_symlink()]
    assert {path.name for path in linked} <= allowed, "the source tree links to what the image needs"


def test_the_version_is_the_packages() -> None:
    version = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), flags=re.MULTILINE)
    assert version is not None
    assert f"perdure:{version[1]} " in RECIPE.read_text()
    assert f"image: perdure:{version[1]}\n" in (ROOT / "infra" / "compose.yaml").read_text()
