"""Loading: light, complete, and with the place of every value."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from specs.language.errors import SpecError
from specs.language.load import load

SPEC = """\
version: 1
model: qwen2.5-coder-1.5b
entities: {trump: Donald Trump, obama: Barack Obama}
relations:
  wife:
    prompt: "Fact: the name of the wife of {{ entity }}:"
    answers: {trump: Melania, obama: Michelle}
localize:
  cell: stability
interventions:
  amnesia:
    edit: {scale: [0, -1, -3], neurons: cell}
"""


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "first.yaml"
    path.write_text(SPEC, encoding="utf-8")
    return path


def test_twelve_lines_are_a_whole_spec(spec: Path) -> None:
    loaded = load(spec)
    (cell,) = loaded.cells
    assert (loaded.name, cell.label, dict(cell.axes), loaded.sets) == ("first", "", {}, ())
    assert loaded.sources == (spec,)
    assert cell.experiment.localize["cell"].against == "generic"
    assert cell.experiment.interventions["amnesia"].controls.random_neurons == 5
    assert len(cell.hash) == 12


def test_loading_needs_no_heavy_library(spec: Path) -> None:
    heavy = (
        "torch",
        "transformers",
        "nnsight",
        "mlflow",
        "pandas",
        "altair",
        "numpy",
        "scipy",
        "pyarrow",
        "typer",
    )
    code = (
        f"import sys; from specs.language.load import load; load({str(spec)!r}); "
        f"print([m for m in {heavy!r} if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_origins_give_the_place_of_values_keys_and_ancestors(spec: Path) -> None:
    origins = load(spec).cells[0].origins

    def place(*path: str | int) -> tuple[int, str]:
        origin = origins.at(*path)
        assert origin is not None
        return origin.line, origin.text[origin.column - 1 : origin.column - 1 + origin.length]

    assert place("localize", "cell", "metric") == (9, "stability"), "a short form holds its long form's path"
    assert place("localize", "cell", "prompts") == (9, "stability"), "a default is at what it belongs to"
    assert place("interventions", "amnesia", "edit", 0, "scale", 1) == (12, "-1"), "one value for a list"
    assert place("interventions", "amnesia", "edit", 0, "in_") == (12, "{scale: [0, -1, -3], neurons: cell}")
    assert place("interventions", "amnesia", "measure", 0) == (11, "amnesia")
    assert place("relations", "wife") == (5, "wife")
    assert place("entities", "nobody") == (3, "{trump: Donald Trump, obama: Barack Obama}")
    key = origins.key("entities", "obama")
    assert key is not None and key.column == 33


def test_paths_are_spelled_as_they_are_written(spec: Path) -> None:
    origins = load(spec).cells[0].origins
    assert origins.written("interventions", "amnesia", "edit", 0, "scale", 1) == "interventions.amnesia.edit.scale.1"
    assert origins.written("localize", "cell", "metric") == "localize.cell"
    assert origins.written("data", "Dr. X", "from_") == 'data."Dr. X".from'


def test_a_level_is_checked_when_the_one_before_has_nothing_wrong(spec: Path) -> None:
    spec.write_text(SPEC.replace("neurons: cell", "neurons: cel").replace("stability", "stabilty"), encoding="utf-8")
    with pytest.raises(SpecError) as caught:
        load(spec)
    assert [p.level for p in caught.value.problems] == ["schema"]
    spec.write_text(SPEC.replace("neurons: cell", "neurons: cel"), encoding="utf-8")
    with pytest.raises(SpecError) as caught:
        load(spec)
    assert [p.level for p in caught.value.problems] == ["meaning"]


def test_warnings_do_not_stop_a_load(spec: Path) -> None:
    loaded = load(spec)
    assert [w.severity for w in loaded.warnings] == ["warning"] * len(loaded.warnings)


def test_a_spec_that_is_a_list_or_a_text_is_refused(tmp_path: Path) -> None:
    for text, what in (("- a\n", "a list"), ("just text\n", "one text")):
        path = tmp_path / "a.yaml"
        path.write_text(text, encoding="utf-8")
        with pytest.raises(SpecError) as caught:
            load(path)
        assert caught.value.problems[0].message == (
            f"a spec is a block of keys, such as `version: 1`, and this file is {what}"
        )
