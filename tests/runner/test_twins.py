"""Patch twins: values taken from them, each against plain torch hooks on single prompts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner.ask import rows_of
from runner.bind import Binder, BoundPrompt
from runner.compile import compile_plan
from runner.program import Mode
from runner.sources import rivals_of, without_twin
from specs.language.facts import PromptText
from specs.language.load import load
from tests.checkpoint import tiny_tokenizer
from tests.oracle import Edit, run_alone
from tests.runner.conftest import SPEC
from tests.runner.test_values import (
    LAYER,
    N_LAYERS,
    NEURONS,
    PEOPLE,
    Ran,
    Run,
    expected,
    frozen_at,
    ids_of,
    last_token,
    ran,
    tiny,
)

__all__ = ["ran", "tiny"]

SWAPPED = "prompts: {swapped: {relations: all, patch: entity}}"
PAIRS = """
  - {clean: The wife of Donald, patch: The home of Donald, answer: Melania, patch_answer: Florida}
  - {clean: The age of the wife, patch: The age of the house, answer: Michelle Chicago, patch_answer: Florida}
  - {clean: The city and the job, patch: The voice of Byron the name, answer: Florida, patch_answer: Chicago}
"""
"""The last has twins of unequal length."""


def twin_of(row: Any) -> str:
    text: str = row.prompt.text.twin.text
    return text


def values_of(done: Ran, text: str) -> dict[int, torch.Tensor]:
    return run_alone(done.model, ids_of(done.tokenizer, text))[0]


def swapped(ran: Run, body: str, mode: Mode = "trees", more: str = "") -> Ran:
    return ran(
        f"{body}\n    controls: {{random_neurons: 1}}{more}",
        mode=mode,
        sets="  swapped: {relations: all, patch: entity}\n",
        ask="swapped",
    )


def paired(ran: Run, body: str) -> Ran:
    return ran(body, sets="  pairs:\n    pairs:" + PAIRS.rstrip().replace("\n", "\n    ") + "\n", ask="pairs")


@pytest.mark.parametrize("mode", ["trees", "one by one"])
@pytest.mark.parametrize(
    ("edit", "factor", "op"), [("set: patch", 1, "set"), ("add: {times: -3, of: patch}", -3, "add")]
)
def test_a_neuron_gets_what_it_has_at_the_name_of_the_twin(
    ran: Run, mode: Mode, edit: str, factor: int, op: str
) -> None:
    done = swapped(ran, f"edit: {{{edit}, neurons: cell}}", mode)
    compared, moved = set(), 0.0
    for row, scores in done.scores():
        assert row.role == "unknown" or twin_of(row) == row.question.text.text.replace(
            PEOPLE[row.question.text.entity], PEOPLE["obama" if row.question.text.entity == "trump" else "trump"]
        )
        if row.condition == "random_neurons":
            continue
        owner = row.edited if row.condition == "edit" else {"trump": "obama", "obama": "trump"}[row.edited]
        neuron = NEURONS[list(PEOPLE).index(owner)]
        at_twin = last_token(done.tokenizer, twin_of(row), row.prompt.text.twin.entity_name)
        value = factor * float(values_of(done, twin_of(row))[LAYER][at_twin][neuron])
        wanted = expected(done, row, lambda at, v=value, n=neuron: [Edit(LAYER, n, op, v, at)])
        assert abs(scores - wanted).max() < 2e-4
        moved = max(moved, float(abs(scores - expected(done, row, lambda at: [])).max()))
        compared.add((row.condition, row.role))
    assert {("edit", "target"), ("edit", "others"), ("edit", "unknown"), ("wrong_cell", "target")} <= compared
    assert moved > 1e-4, "the edit must show, or the comparison could not fail"


@pytest.mark.parametrize("kind", ["mean", "sample"])
def test_a_mean_or_a_sample_of_the_twins(ran: Run, kind: str) -> None:
    done = swapped(ran, f"edit: {{set: {{times: 9, of: {{{kind}: patch}}}}, neurons: cell}}\n    unknown: [Byron]")
    texts = {twin_of(row): row.prompt.text.twin.entity_name for row, _ in done.scores()}
    at = {text: values_of(done, text)[LAYER][last_token(done.tokenizer, text, name)] for text, name in texts.items()}
    assert len(texts) == 4
    fits: dict[str, set[str]] = {}
    for row, scores in done.scores():
        if row.condition != "edit":
            continue
        neuron = NEURONS[list(PEOPLE).index(row.edited)]
        offered = {t: float(v[neuron]) for t, v in at.items()}
        if kind == "mean":
            offered = {"": float(np.mean(list(offered.values())))}
        near = {
            text
            for text, value in offered.items()
            if abs(scores - expected(done, row, lambda p, v=9 * value, n=neuron: [Edit(LAYER, n, "set", v, p)])).max()
            < 5e-5
        }
        assert near
        fits.setdefault(row.prompt.text.text + twin_of(row), near).intersection_update(near)
    assert all(fits.values())
    if kind == "sample":
        assert len({min(f) for f in fits.values() if len(f) == 1}) > 1, "one draw for each prompt"


def test_tokens_are_patched_one_by_one_and_so_is_the_answer(ran: Run) -> None:
    """At `all`, pairs of unequal length are left out and counted; others are patched with the answer behind them."""
    done = paired(ran, "edit: {set: {times: 3, of: patch}, neurons: L1.N3, position: all}\n    controls: none")
    assert [(item.what[:8], item.reason) for item in done.stage.left_out if "tokens" in item.reason] == [
        ("The city", "it has 5 tokens and its patch twin 6; patch values at all need equal lengths")
    ]
    assert done.stage.warnings[0].startswith("'x': 1 of 3 prompts can take no values from a patch twin")
    compared = 0
    for row, scores in done.scores():
        answer = row.question.answers[0].tokens
        ids, twin = (ids_of(done.tokenizer, t) for t in (row.prompt.text.text, twin_of(row)))
        assert row.role == "target" and len(ids) == len(twin) and ids != twin
        first = len(ids) - len(row.prompt.positions("all"))
        seen, _ = run_alone(done.model, [*twin, *answer[:-1]])
        edits = [Edit(LAYER, 3, "set", 3 * float(seen[LAYER][p][3]), p) for p in range(first, len(seen[LAYER]))]
        _, logps = run_alone(done.model, [*ids, *answer[:-1]], edits)
        wanted = np.array([float(logps[len(ids) - 1 + k, t]) for k, t in enumerate(answer)])
        assert abs(scores - wanted).max() < 2e-4
        compared += 1
    assert compared == 2
    assert any(len(row.question.answers[0].tokens) > 1 for row, _ in done.scores()), "an answer of several tokens"


def test_a_mean_over_the_twins_goes_token_by_token_over_those_of_equal_length(ran: Run) -> None:
    done = paired(ran, "edit: {set: {times: 5, of: {mean: patch}}, neurons: L1.N3, position: 1}\n    controls: none")
    by_token = [values_of(done, twin_of(row))[LAYER] for row, _ in done.scores()]
    assert len(by_token) == 3
    mean = 5 * float(np.mean([float(v[1][3]) for v in by_token]))
    for row, scores in done.scores():
        wanted = expected_at(done, row, [Edit(LAYER, 3, "set", mean, 1)])
        assert abs(scores - wanted).max() < 2e-4
    whole = paired(ran, "edit: {set: {mean: patch}, neurons: L1.N3, position: all}\n    controls: none")
    assert {item.reason[:11] for item in whole.stage.left_out} == {"the answer ", "it has 5 to"}


def expected_at(done: Ran, row: Any, edits: list[Edit]) -> np.ndarray:
    ids, answer = ids_of(done.tokenizer, row.prompt.text.text), row.question.answers[0].tokens
    _, logps = run_alone(done.model, [*ids, *answer[:-1]], edits)
    return np.array([float(logps[len(ids) - 1 + k, t]) for k, t in enumerate(answer)])


def test_a_layer_is_held_at_what_it_has_in_the_twin_and_the_proof_says_so(ran: Run) -> None:
    done = swapped(
        ran,
        "edit: {scale: -3, neurons: cell}\n    freeze: {site: mlp.neurons, layers: 2, position: entity.last, "
        "to: patch}",
    )
    for row, scores in done.scores():
        if row.condition not in ("edit", "no_edit"):
            continue
        at_twin = last_token(done.tokenizer, twin_of(row), row.prompt.text.twin.entity_name)
        vectors = {2: values_of(done, twin_of(row))[2][at_twin]}
        neuron = NEURONS[list(PEOPLE).index(row.edited)]
        own = [(LAYER, neuron, "scale", -3.0)] if row.condition == "edit" else []
        wanted = expected(done, row, lambda at, v=vectors, o=own: [*frozen_at((2,), v, at), *(Edit(*e, at) for e in o)])
        assert abs(scores - wanted).max() < 2e-4
    assert np.nanmax(done.outcome.deviation) == 0


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_patching_all_of_the_residual_stream_gives_the_output_of_the_twin(ran: Run, data: Any) -> None:
    """Held at its twin's values at every token in whatever layer, a prompt predicts what its twin does."""
    words = ["The", "age", "voice", "house", "job", "city", "wife", "home", "mother", "name", "fact"]
    length = data.draw(st.integers(2, 5))
    texts = st.lists(st.sampled_from(words), min_size=length, max_size=length).map(" ".join)
    clean = data.draw(texts)
    patch = data.draw(texts.filter(lambda text: text != clean))
    answer, layer = data.draw(st.sampled_from(["Melania", "Chicago"])), data.draw(st.integers(0, N_LAYERS - 1))
    pair = f"{{clean: {clean}, patch: {patch}, answer: {answer}, patch_answer: Florida}}"
    done = ran(
        f"edit: {{scale: 2, neurons: L0.N1, position: last}}\n    freeze: {{site: resid, layers: {layer}, "
        "position: all, to: patch}\n    controls: {random_neurons: 0}",
        sets=f"  pairs: {{pairs: [{pair}]}}\n",
        ask="pairs",
    )
    held = [(row, scores) for row, scores in done.scores() if row.condition == "no_edit"]
    if not held:
        (item,) = done.stage.left_out
        assert "need equal lengths" in item.reason or "change when" in item.reason
        return
    ((row, scores),) = held
    tokens = row.question.answers[0].tokens
    ids = ids_of(done.tokenizer, patch)
    _, logps = run_alone(done.model, [*ids, *tokens[:-1]])
    wanted = np.array([float(logps[len(ids) - 1 + k, t]) for k, t in enumerate(tokens)])
    assert abs(scores - wanted).max() < 2e-4
    assert np.nanmax(done.outcome.deviation) == 0


def test_a_prompt_without_a_twin_that_can_be_run_says_why(tiny: tuple[Any, Any]) -> None:
    binder = Binder(tiny[1])

    def why(twin: PromptText | None, word: str) -> str | None:
        prompt = binder.bind(PromptText("The wife", twin=twin))
        assert isinstance(prompt, BoundPrompt)
        return without_twin(prompt, {word: True}, binder)

    assert why(None, "last") == "it has no patch twin"
    assert why(PromptText(""), "last") == 'its patch twin "" cannot be run: the tokenizer makes no tokens of this text'
    assert why(PromptText("The"), "1") == "its patch twin: position 1 is outside a prompt of 1 tokens"
    assert why(PromptText("The"), "last") is None


def test_an_answer_that_is_right_for_the_prompt_is_no_rival_of_it(tiny: tuple[Any, Any]) -> None:
    binder = Binder(tiny[1])

    def rivals(*answers: str) -> list[str]:
        bound = binder.bind(PromptText("The home", answers=("Florida",), twin=PromptText("The job", answers=answers)))
        assert isinstance(bound, BoundPrompt)
        return [answer.text for answer in rivals_of(bound, {}, binder)]

    assert rivals("Chicago") == ["Chicago"]
    assert rivals("Florida", "Chicago") == ["Chicago"]
    assert rivals("Florida") == []


def test_the_logit_difference_is_that_of_plain_logits(ran: Run) -> None:
    """Of answers of one token: their logits under the edit, one minus the other; of several, whole answers."""
    done = ran(
        "edit: {set: {times: 3, of: patch}, neurons: L1.N3, position: last}\n    controls: none",
        sets="  pairs:\n    pairs:" + PAIRS.rstrip().replace("\n", "\n    ") + "\n",
        ask="pairs",
        measures="[answer_probability, logit_difference]",
    )
    rows = rows_of(done.stage, done.outcome, done.tokenizer, None)
    assert len(rows) == 6
    seen = 0
    for row, planned in zip(rows, done.stage.rows, strict=True):
        ids = ids_of(done.tokenizer, planned.prompt.text.text)
        edits = []
        if planned.condition == "edit":
            value = 3 * float(values_of(done, twin_of(planned))[LAYER][-1][3])
            edits = [Edit(LAYER, 3, "set", value, len(ids) - 1)]
        twin = planned.prompt.text.twin
        assert twin is not None

        def whole(text: str, ids: list[int] = ids, edits: list[Edit] = edits) -> float:
            tokens = ids_of(done.tokenizer, " " + text)[-len(text.split()) :]
            _, logps = run_alone(done.model, [*ids, *tokens[:-1]], edits)
            return sum(float(logps[len(ids) - 1 + k, t]) for k, t in enumerate(tokens))

        wanted = whole(planned.question.text.answers[0]) - whole(twin.answers[0])
        assert row.values["logit_difference"] == pytest.approx(wanted, abs=2e-4) and abs(wanted) > 1e-3
        seen += planned.condition == "edit"
    assert seen == 3


def test_where_a_text_begins_with_a_special_token_it_is_paired_too(tmp_path: Path) -> None:
    """An edit at `all` acts on it: the k-th token that is edited takes from the k-th token of the twin."""
    text = SPEC.replace("{MODEL}", "smollm2-135m")
    pair = "{clean: The wife, patch: The home, answer: Melania, patch_answer: Florida}"
    text = text.replace("prompts:\n", f"prompts:\n  pairs: {{pairs: [{pair}]}}\n", 1)
    text = text[: text.index("interventions:")] + (
        "interventions:\n  x: {ask: pairs, measure: answer_probability, controls: none,\n"
        "    edit: {set: patch, neurons: L1.N3, position: all}}\n"
    )
    path = tmp_path / "spec.yaml"
    path.write_text(text, encoding="utf-8")
    (stage,) = compile_plan(load(path).cells[0].experiment, Binder(tiny_tokenizer("bytes", bos=True)), N_LAYERS).ask
    (values,) = stage.means
    checked = 0
    for sequence in stage.job.sequences:
        if sequence.condition is None:
            continue
        (at,) = sequence.edits
        assert at == tuple(range(len(sequence.ids)))
        for number, position in enumerate(at):
            places = [place for place, keys in values.members.items() if (sequence.source, "all", number) in keys]
            assert [p for _, p in places] == [position], "one place, and the same as in the prompt"
            checked += 1
    assert checked
