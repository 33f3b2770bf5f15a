"""The owner's code, looked at without running it: where a module lies, what it defines, what it imports."""

from __future__ import annotations

import ast
import importlib.util
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from perdure.spec.mistakes import meant, show

_INSTALLED = tuple(dict.fromkeys(sysconfig.get_paths()[kind] for kind in ("purelib", "platlib")))


@dataclass(frozen=True)
class Project:
    """The folders that jobs will have on their path: beside the specification, and ``src`` there."""

    folder: Path

    @property
    def roots(self) -> tuple[Path, ...]:
        """Where top-level modules are looked for, in this order."""
        return (self.folder, self.folder / "src")

    def root_of(self, top: str) -> Path | None:
        """The root that holds the top-level package or module *top*."""
        for root in self.roots:
            package = root / top
            if (root / f"{top}.py").is_file() or (package.is_dir() and next(package.rglob("*.py"), None)):
                return root
        return None

    def module(self, name: str) -> Module | None:
        """The module *name*, or None where no file of the project is it."""
        root = self.root_of(name.partition(".")[0])
        if root is None:
            return None
        path = root.joinpath(*name.split("."))
        for file in (path / "__init__.py", path.with_suffix(".py")):
            if file.is_file():
                return Module(name, file)
        return None

    def modules(self, top: str) -> Iterator[Module]:
        """Every module below the top-level name *top*."""
        root = self.root_of(top)
        if root is None:
            return
        single = root / f"{top}.py"
        for file in [single] if single.is_file() else sorted((root / top).rglob("*.py")):
            yield Module(".".join(file.relative_to(root).with_suffix("").parts), file)

    def complaint(self, reference: str) -> str | None:
        """What is wrong with ``package.module:attribute``, or None. Nothing is imported."""
        name, _, attribute = reference.partition(":")
        top = name.partition(".")[0]
        if self.root_of(top) is None:
            return self._elsewhere(top)
        if (module := self.module(name)) is None:
            known = [each.name for each in self.modules(top)]
            return f"{show(name)} is no module of the project{meant(name, known)}"
        if module.tree is None:
            return f"{module.path.relative_to(self.folder)}: {module.broken}"
        if not module.is_open and attribute not in module.defines:
            return f"{name} does not define {show(attribute)}{meant(attribute, sorted(n for n in module.defines if n[0] != '_'))}"
        return None

    def _elsewhere(self, top: str) -> str | None:
        """Nothing, if *top* is an installed library: jobs find it there, and its version is part of every step's key."""
        try:
            spec = importlib.util.find_spec(top) if top not in sys.stdlib_module_names else None
        except (ImportError, ValueError):  # a name that only the running program has
            spec = None
        places = [spec.origin or "", *(spec.submodule_search_locations or [])] if spec else []
        if any(place.startswith(_INSTALLED) for place in places):
            return None
        beside = {path.stem for root in self.roots for path in root.glob("*.py")}
        beside |= {path.parent.name for root in self.roots for path in root.glob("*/*.py")}
        return f"there is no package or module {show(top)} in {self.folder}, beside the specification{meant(top, sorted(beside))}"


@dataclass(frozen=True)
class Module:
    """One source file."""

    name: str
    path: Path

    @cached_property
    def _parsed(self) -> ast.Module | str:
        try:
            return ast.parse(self.path.read_bytes(), str(self.path))
        except SyntaxError as err:
            return f"line {err.lineno}: {err.msg}"
        except (OSError, ValueError, RecursionError) as err:
            return f"cannot be read: {err}"

    @property
    def tree(self) -> ast.Module | None:
        """The syntax tree; None where the file is `broken`."""
        return self._parsed if isinstance(self._parsed, ast.Module) else None

    @property
    def broken(self) -> str:
        """Why the file is no Python, with its line; empty if it is."""
        return self._parsed if isinstance(self._parsed, str) else ""

    @cached_property
    def defines(self) -> frozenset[str]:
        """The names that the module's body binds."""
        return frozenset(_bound(self.tree.body)) if self.tree else frozenset()

    @cached_property
    def is_open(self) -> bool:
        """Whether it may define names that cannot be seen: by a star import, ``__getattr__`` or ``globals()``."""
        return "__getattr__" in self.defines or any(
            (isinstance(node, ast.ImportFrom) and node.names[0].name == "*") or (isinstance(node, ast.Name) and node.id == "globals")
            for node in (ast.walk(self.tree) if self.tree else ())
        )

    @cached_property
    def imports(self) -> frozenset[str]:
        """The top-level names that it imports, anywhere, but for relative imports."""
        found = set()
        for node in ast.walk(self.tree) if self.tree else ():
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                found.add(node.module.partition(".")[0])
        return frozenset(found)


def _bound(body: Sequence[ast.stmt]) -> Iterator[str]:
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from (alias.asname or alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name))
        else:  # if, try, with, for, match: what they bind, the module binds
            for field in ("body", "orelse", "finalbody"):
                yield from _bound(getattr(node, field, []))
            for part in (*getattr(node, "handlers", []), *getattr(node, "cases", [])):
                yield from _bound(part.body)
