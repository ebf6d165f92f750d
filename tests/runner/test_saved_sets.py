"""Saved sets: written by a run, read by another spec, refused for another model and where the file is none."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from runner.store import load
from specs.language.saved import SavedModel, differs, read_saved
from tests.runner.conftest import Answer
from tests.runner.test_extraction import BEFORE, extraction

Command = Callable[..., Answer]
WriteSpec = Callable[..., Path]

AGAIN = """\
neurons:
  kept: {from: FILE}
interventions:
  again:
    edit: {scale: [0, -1], neurons: kept}
    ask: questions
    unknown: nobody
    measure: [answer_probability]
    controls: {random_neurons: 2}
"""


@pytest.fixture
def saved(command: Command, write_spec: WriteSpec, workplace: Path) -> Path:
    """The file of the set that a run verified."""
    answer = command(write_spec(extraction()), "--no-track", "--out", "first")
    assert answer.code == 0, answer.all
    (folder,) = (workplace / "first").glob("tiny-*")
    return folder / "neurons" / "verified.json"


def test_a_run_writes_its_sets_with_the_model_they_belong_to(saved: Path) -> None:
    results = load(saved.parent.parent)
    found = read_saved(str(saved))
    assert found.owners == {owner: c.neurons for owner, c in results.neurons["verified"].owners.items()}
    assert found.position == "entity.last"
    assert found.model.id == results.model.id and found.model.n_layers == 3 and len(found.model.weights) == 64
    cell = read_saved(str(saved.with_name("cell.json")))
    assert cell.owners == {owner: g.chosen for owner, g in results.rankings["cell"].groups.items()}
    assert {p.name for p in saved.parent.iterdir()} == {"cell.json", "verified.json"}


def test_a_saved_set_is_edited_as_it_was_where_it_was_found(
    saved: Path, command: Command, write_spec: WriteSpec, workplace: Path
) -> None:
    answer = command(write_spec((BEFORE, AGAIN.replace("FILE", str(saved)))), "--no-track", "--out", "second")
    assert answer.code == 0, answer.all
    first = load(saved.parent.parent)
    (folder,) = (workplace / "second").glob("tiny-*")
    second = load(folder)
    assert second.interventions["again"].neurons == first.interventions["later"].neurons

    def means(results: object, name: str) -> list[object]:
        done = results.interventions[name]  # type: ignore[attr-defined]
        return [(s.edited, s.role, s.axes, s.mean) for s in done.summaries if s.condition in ("edit", "wrong_cell")]

    # Random neurons are drawn by the name of the intervention; all else is what it was.
    assert means(second, "again") == means(first, "later")


def test_the_set_of_another_model_is_refused_before_anything_is_run(
    saved: Path, command: Command, write_spec: WriteSpec, workplace: Path
) -> None:
    document = json.loads(saved.read_text())
    document["model"] |= {"n_layers": 28, "weights": "0" * 64}
    other = saved.with_name("other.json")
    other.write_text(json.dumps(document))
    answer = command(write_spec((BEFORE, AGAIN.replace("FILE", str(other)))), "--no-track", "--out", "second")
    assert answer.code == 2
    words = " ".join(answer.all.split())
    assert "neurons.kept.from: this set was saved for another model: it has 28 layers, here 3" in words
    assert not (workplace / "second").exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "there is no file"),
        ("[1, 2]", "is no saved set of neurons"),
        ('{"name": "a"}', "is no saved set of neurons: model: Field required"),
        (
            '{"name": "a", "model": {"id": "m", "family": "f", "n_layers": 1, "d_model": 1, "d_mlp": 1}, '
            '"owners": {"trump": ["L1.11"]}}',
            "'L1.11' of trump is no address",
        ),
    ],
)
def test_a_file_that_is_no_set_is_refused_at_its_place(
    content: str | None, words: str, command: Command, write_spec: WriteSpec, workplace: Path
) -> None:
    path = workplace / "set.json"
    if content is not None:
        path.write_text(content)
    answer = command("validate", write_spec((BEFORE, AGAIN.replace("FILE", "set.json"))))
    assert answer.code == 2
    assert "neurons.kept.from" in answer.all and words in " ".join(answer.all.split())


def test_the_same_weights_are_the_same_model_by_any_name() -> None:
    one = SavedModel(id="a/b", family="llama", n_layers=2, d_model=4, d_mlp=8, weights="x")
    assert differs(one, one.model_copy(update={"id": "/somewhere"})) == ""
    assert differs(one, one.model_copy(update={"weights": "y"})) == ""
    moved = one.model_copy(update={"id": "/somewhere", "weights": "y"})
    assert differs(one, moved) == "it is a/b, this is /somewhere"
    assert differs(one, one.model_copy(update={"d_mlp": 9, "weights": "y"})) == "its layers have 8 neurons, here 9"
