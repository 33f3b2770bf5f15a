"""The figures of a label snapshot, for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Figures = Mapping[str, Any]


def told(figures: Figures) -> dict[str, str | None]:
    """One line each, none where there is nothing to tell."""
    return {
        "agreement": _agreement(figures),
        "classes": ", ".join(f"{name}: {_class(each)}" for name, each in list(figures.get("classes", {}).items())[:10]) or None,
        "anchoring": _anchoring(figures.get("anchoring")),
        "model": _model(figures.get("model")),
    }


def measured(figures: Figures | None) -> str | None:
    """What was spent, and how much labelers agree, when a rule about it was last looked at."""
    if not figures:
        return None
    alpha = figures.get("alpha", {})
    parts = [f"{figures['labels']} labels, {figures['hours']:.1f} hours"] if "labels" in figures else []
    parts += [f"alpha {_between(alpha)}" if alpha.get("value") is not None else f"{alpha['tasks']} tasks to compare"] if alpha else []
    return "; ".join(parts)


def _agreement(figures: Figures) -> str | None:
    if figures.get("agreement") is None:
        return None
    alpha = figures.get("alpha", {})
    compared = f"; alpha {_between(alpha)}, {alpha['tasks']} tasks" if alpha.get("value") is not None else ""
    return f"{figures['agreement']:.1%} of {figures['pairs']} pairs{compared}"


def _class(each: Figures) -> str:
    agreed = f", {each['agreement']:.1%} agreement" if each["agreement"] is not None else ""
    return f"{each['tasks']} tasks{agreed}"


def _anchoring(found: Figures | None) -> str | None:
    if found is None:
        return None
    parts = [f"{name} {_share(found[name])}" for name in ("shown", "hidden") if found[name]["of"]]
    gap = found["difference"]
    return "people agree with the prediction: " + ", ".join(parts) + (f"; difference {_between(gap)}" if gap else "")


def _model(found: Figures | None) -> str | None:
    if found is None:
        return None
    audit = found["audit"]
    return f"{found['tasks']} tasks by a model; " + (f"people agree in audits: {_share(audit)}" if audit["of"] else "no audits")


def _share(found: Figures) -> str:
    return f"{found['share']:.1%} of {found['of']} ({found['low']:.1%} to {found['high']:.1%})"


def _between(found: Figures) -> str:
    bounds = f" ({found['low']:.3f} to {found['high']:.3f})" if found.get("low") is not None else ""
    return f"{found['value']:.3f}{bounds}"
