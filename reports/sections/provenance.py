"""What the run rests on: model, versions, files, and the spec as it was resolved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from reports import formats
from reports.sections.section import Section
from specs.language.results import Results


def build(results: Results) -> Section:
    """List the model's facts and every entry of the provenance, with the resolved spec."""
    model = {
        name.replace("_", " "): _text(value)
        for name, value in results.model.model_dump().items()
        if value not in (None, "")
    }
    return Section(
        "provenance",
        "Provenance",
        {
            "model": model,
            "entries": list(flat(results.provenance)),
            "spec": results.spec,
            "hash": results.hash,
        },
    )


def flat(entries: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Give nested entries as dotted names with their values as text."""
    for name, value in entries.items():
        path = f"{prefix}{name}"
        if isinstance(value, Mapping):
            yield from flat(value, f"{path}.")
        else:
            yield formats.visible(path), _text(value)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(_text(item) for item in value)
    if isinstance(value, int):
        return formats.whole(value) if abs(value) >= 10_000 else str(value)
    return formats.MISSING if value is None else formats.visible(str(value))
