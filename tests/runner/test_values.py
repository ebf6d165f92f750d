"""Where values come from: `clean`, means, samples and `add`, each against plain torch hooks on single prompts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from runner.bind import Binder
from runner.compile import compile_plan
from runner.execute import Engine, Outcome
from runner.localization.columns import Columns
from runner.localization.ranking import GroupData, RankingData
from runner.plan import AskStage, Condition
from runner.program import Mode
from runner.resolve import Resolver
from runner.sources import as_stored, reading_at, stored_values
from specs.language.facts import draw
from specs.language.load import load
from specs.language.shipped import shipped_list
from tests.checkpoint import tiny_tokenizer
from tests.oracle import Edit, run_alone
from tests.runner.conftest import SPEC

LAYER, NEURONS = 1, (3, 17)
WIDTH, N_LAYERS = 48, 3
NAMES = ("Ada Lovelace", "Byron")
PROMPTS = {
    "wife": "Fact: the name of the wife of {}:",
    "home": "Fact: the home of {}:",
}
PEOPLE = {"trump": "Donald Trump", "obama": "Barack Obama"}


@dataclass
class Ran:
    """An intervention ``x`` that was run, its plan, and the model it was run on."""

    stage: AskStage
    outcome: Outcome
    model: Any
    tokenizer: Any

    def scores(self) -> list[tuple[Any, np.ndarray]]:
        """Each row that is edited or a control of the edit, with the log probabilities of its first answer."""
        found = []
        for row in self.stage.rows:
            slot = row.reading.answers[0]
            if row.condition != "clean":
                found.append((row, self.outcome.logps[slot.sequence][slot.start : slot.stop]))
        return found


Run = Callable[..., Ran]


@pytest.fixture(scope="module")
def tiny(tiny_checkpoint: Path) -> tuple[Any, Any]:
    model = AutoModelForCausalLM.from_pretrained(tiny_checkpoint).eval().requires_grad_(False)
    return model, tiny_tokenizer()


@pytest.fixture
def ran(tmp_path: Path, tiny: tuple[Any, Any], tiny_checkpoint: Path) -> Run:
    """Run an intervention ``x`` written in YAML, of which the ranking's best neurons are known."""

    def run(
        body: str,
        *,
        mode: Mode = "trees",
        more: str = "",
        sets: str = "",
        ask: str = "questions",
        measures: str = "answer_probability",
    ) -> Ran:
        text = SPEC.replace("{MODEL}", str(tiny_checkpoint)).replace("prompts:\n", f"prompts:\n{sets}", 1)
        unknown = "" if "unknown:" in body else "    unknown: nobody\n"
        text = text[: text.index("interventions:")] + f"interventions:\n  x:\n    ask: {ask}\n{unknown}"
        text += f"    measure: {measures}\n    {body}\n{more}"
        path = tmp_path / "spec.yaml"
        path.write_text(text, encoding="utf-8")
        experiment = load(path).cells[0].experiment
        model, tokenizer = tiny
        (stage,) = compile_plan(experiment, Binder(tokenizer), N_LAYERS).ask
        score = np.zeros((N_LAYERS, WIDTH), np.float32)
        groups = {}
        for owner, neuron in zip(PEOPLE, NEURONS, strict=True):
            own = score.copy()
            own[LAYER, neuron] = 1.0
            groups[owner] = GroupData.of(own, np.full_like(score, 0.5))
        resolver = Resolver(
            experiment,
            stage,
            {"cell": RankingData("cell", "stability", Columns(("mlp.neurons",), (WIDTH,)), (0, 1, 2), 1, groups)},
            N_LAYERS,
        )
        resolver.widths_of = {("mlp.neurons", layer): WIDTH for layer in range(N_LAYERS)}
        engine = Engine(model, mode=mode)
        conditions = [s.condition for s in stage.job.sequences if isinstance(s.condition, Condition)]
        for index, planned in enumerate(stage.means):
            means = reading_at(planned, resolver.read_at(index, conditions))
            resolver.stored.append(as_stored(means, stored_values(engine, means)[0]))
        return Ran(stage, engine.run(stage.job, resolver), model, tokenizer)

    return run


def ids_of(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text)["input_ids"])


def last_token(tokenizer: Any, text: str, name: str) -> int:
    """The last token of a name, found by decoding ever longer beginnings."""
    ids = ids_of(tokenizer, text)
    end = text.index(name) + len(name)
    return next(n for n in range(len(ids)) if len(tokenizer.decode(ids[: n + 1])) >= end)


def neuron_values(ran: Ran, text: str, name: str) -> dict[int, torch.Tensor]:
    """Layer -> what all its neurons have at the last token of a name."""
    seen, _ = run_alone(ran.model, ids_of(ran.tokenizer, text))
    at = last_token(ran.tokenizer, text, name)
    return {layer: values[at] for layer, values in seen.items()}


def expected(ran: Ran, row: Any, edits: Callable[[int], list[Edit]]) -> np.ndarray:
    """The scores of a row by hooks; ``edits`` gives them for the position of the name's last token."""
    text = row.prompt.text.text
    answer = row.question.answers[0]
    ids = ids_of(ran.tokenizer, text)
    at = last_token(ran.tokenizer, text, row.prompt.text.entity_name)
    _, logps = run_alone(ran.model, [*ids, *answer.tokens[:-1]], edits(at))
    return np.array([float(logps[len(ids) - 1 + k, t]) for k, t in enumerate(answer.tokens)])


def check(
    ran: Ran, amount: Callable[[Any, int], float], op: str = "set", conditions: tuple[str, ...] = ("edit",)
) -> None:
    """Compare every row under some conditions with hooks; ``amount`` gives the value for a row and a neuron."""
    compared, moved = 0, 0.0
    for row, scores in ran.scores():
        if row.condition not in conditions:
            continue
        neuron = NEURONS[list(PEOPLE).index(row.edited)]
        wanted = expected(ran, row, lambda at, r=row, n=neuron: [Edit(LAYER, n, op, amount(r, n), at)])
        clean = expected(ran, row, lambda at: [])
        assert abs(scores - wanted).max() < 2e-4
        moved = max(moved, float(abs(wanted - clean).max()))
        compared += 1
    assert compared and moved > 1e-4, "the edit must show, or the comparison could not fail"


def asked_with(row: Any, name: str) -> str:
    return PROMPTS[row.question.text.relation].format(name)


ALL = [PROMPTS[r].format(PEOPLE[e]) for r in PROMPTS for e in PEOPLE]


def mean_at(ran: Ran, pairs: list[tuple[str, str]], neuron: int, layer: int = LAYER) -> float:
    return float(np.mean([float(neuron_values(ran, text, name)[layer][neuron]) for text, name in pairs]))


@pytest.mark.parametrize("mode", ["trees", "one by one"])
def test_a_mean_over_names_is_that_of_the_same_prompt(ran: Run, mode: Mode) -> None:
    done = ran("edit: {set: {mean: nobody}, neurons: cell}", mode=mode)
    check(done, lambda row, n: mean_at(done, [(asked_with(row, name), name) for name in NAMES], n))


def test_a_mean_over_a_prompt_set_is_the_same_for_every_prompt(ran: Run) -> None:
    done = ran("edit: {set: {mean: facts}, neurons: cell}")
    pairs = [(PROMPTS[r].format(name), name) for r in PROMPTS for name in PEOPLE.values()]
    check(done, lambda row, n: mean_at(done, pairs, n))


def test_multiples_of_a_mean_and_adding_them(ran: Run) -> None:
    done = ran("edit: {add: {times: [2, -3], of: {mean: [Byron]}}, neurons: cell}")
    check(
        done,
        lambda row, n: dict(row.axes)["times"] * mean_at(done, [(asked_with(row, "Byron"), "Byron")], n),
        "add",
    )


def test_a_sample_of_names_is_one_of_them_and_the_same_in_every_run(ran: Run) -> None:
    done, again = (ran("edit: {set: {sample: nobody}, neurons: cell}") for _ in range(2))

    def drawn(row: Any) -> str:
        return draw(list(NAMES), 1, 0, "sample", row.prompt.text.text)[0]

    check(done, lambda row, n: mean_at(done, [(asked_with(row, drawn(row)), drawn(row))], n))
    for (_, a), (_, b) in zip(done.scores(), again.scores(), strict=True):
        assert (a == b).all()


def test_a_sample_of_a_prompt_set_is_drawn_for_each_prompt(ran: Run) -> None:
    done = ran("edit: {set: {times: 30, of: {sample: names}}, neurons: cell}")
    templates = ["age", "voice", "house", "job", "city", "wife", "home", "mother"]
    texts = [(f"The {t} of {p}", p) for p in PEOPLE.values() for t in templates]
    drawn = {}
    for row, scores in done.scores():
        if row.condition != "edit":
            continue
        neuron = NEURONS[list(PEOPLE).index(row.edited)]
        fits = []
        for text, name in texts:
            value = 30 * float(neuron_values(done, text, name)[LAYER][neuron])
            wanted = expected(done, row, lambda at, v=value, n=neuron: [Edit(LAYER, n, "set", v, at)])
            if abs(scores - wanted).max() < 3e-5:
                fits.append(text)
        assert len(fits) == 1
        assert drawn.setdefault(row.prompt.text.text, fits[0]) == fits[0], "one draw for all owners and conditions"
    assert len(set(drawn.values())) > 1


def test_the_clean_value_is_that_of_the_run_without_any_edit(ran: Run) -> None:
    """A neuron of the last token is set by its clean value while one of an earlier token is turned round."""
    done = ran(
        "edit: [{scale: -40, neurons: cell/trump}, "
        "{set: {times: 5, of: clean}, neurons: L2.N5, position: last}]\n    target: trump"
    )
    compared, moved = 0, 0.0
    for row, scores in done.scores():
        if row.condition != "edit":
            continue
        ids = ids_of(done.tokenizer, row.prompt.text.text)
        first = Edit(LAYER, NEURONS[0], "scale", -40.0, 0)
        end = len(ids) - 1

        def other(at: int, f: Edit = first, v: float = 0.0, end: int = end) -> list[Edit]:
            return [Edit(f.layer, f.neuron, f.op, f.amount, at), Edit(2, 5, "set", v, end)]

        clean, _ = run_alone(done.model, ids)
        at = last_token(done.tokenizer, row.prompt.text.text, row.prompt.text.entity_name)
        edited, _ = run_alone(done.model, ids, [Edit(first.layer, first.neuron, first.op, first.amount, at)])
        own = 5 * float(clean[2][end][5])
        assert abs(scores - expected(done, row, lambda at, v=own, o=other: o(at, v=v))).max() < 2e-5
        wrong = 5 * float(edited[2][end][5])
        moved = max(moved, float(abs(scores - expected(done, row, lambda at, v=wrong, o=other: o(at, v=v))).max()))
        compared += 1
    assert compared and moved > 1e-4, "the clean value and the run's own must differ"


def test_a_multiple_of_the_clean_value_is_a_factor(ran: Run) -> None:
    by_value = ran("edit: {set: {times: [0.5, -2], of: clean}, neurons: cell}")
    by_factor = ran("edit: {scale: [0.5, -2], neurons: cell}")
    added = ran("edit: {add: {times: [-0.5, -3], of: clean}, neurons: cell}")
    assert len(by_value.scores()) == len(by_factor.scores()) == len(added.scores())
    for (row, a), (_, b), (_, c) in zip(by_value.scores(), by_factor.scores(), added.scores(), strict=True):
        if row.condition in ("edit", "wrong_cell"):
            assert abs(a - b).max() < 1e-5 and abs(a - c).max() < 1e-5


def test_adding_a_number_adds_to_the_run_s_own_value(ran: Run) -> None:
    check(ran("edit: {add: [2.5, -1], neurons: cell}"), lambda row, n: dict(row.axes)["add"], "add")


def test_adding_the_own_mean(ran: Run) -> None:
    check(ran("edit: {add: {times: 4, of: own_mean}, neurons: cell}"), lambda row, n: 2.0, "add")


def test_a_random_neuron_is_set_to_its_own_mean_and_not_to_the_cell_s(ran: Run) -> None:
    done = ran("edit: {set: {times: 30, of: {mean: [Byron]}}, neurons: cell}\n    controls: {random_neurons: 1}")
    values = {}
    for row, scores in done.scores():
        if row.condition != "random_neurons":
            continue
        at = neuron_values(done, asked_with(row, "Byron"), "Byron")
        fits = []
        for n in range(WIDTH):
            own = 30 * float(at[LAYER][n])
            wanted = expected(done, row, lambda p, n=n, v=own: [Edit(LAYER, n, "set", v, p)])
            if abs(scores - wanted).max() < 2e-5:
                fits.append(n)
        values.setdefault(row.edited, set(fits)).intersection_update(fits)
    assert all(len(found) == 1 and not found & set(NEURONS) for found in values.values()) and len(values) == 2


# -- freezes ------------------------------------------------------------------------------------------------------


def frozen_at(layers: tuple[int, ...], vectors: dict[int, Any], at: int) -> list[Edit]:
    return [Edit(layer, n, "set", float(vectors[layer][n]), at) for layer in layers for n in range(WIDTH)]


def test_the_layers_of_a_neuron_set_are_held_at_the_mean_over_a_prompt_set(ran: Run) -> None:
    """The mean entity: at the placeholder the layer of the cell is held, and the cell alone is set."""
    done = ran(
        "edit: {set: 4, neurons: cell}\n    placeholder: [Byron]\n"
        "    freeze: {site: mlp.neurons, layers: cell, position: entity.last, to: {mean: facts}}"
    )
    pairs = [(PROMPTS[r].format(name), name) for r in PROMPTS for name in PEOPLE.values()]
    mean = {LAYER: torch.stack([neuron_values(done, *pair)[LAYER] for pair in pairs]).double().mean(0)}
    seen = set()
    for row, scores in done.scores():
        if row.condition == "random_neurons":
            continue
        neuron = {"edit": row.edited, "wrong_cell": {"trump": "obama", "obama": "trump"}[row.edited]}.get(row.condition)
        own = [] if neuron is None else [(LAYER, NEURONS[list(PEOPLE).index(neuron)], "set", 4.0)]
        wanted = expected(done, row, lambda at, o=own: [*frozen_at((LAYER,), mean, at), *(Edit(*e, at) for e in o)])
        assert abs(scores - wanted).max() < 2e-4
        seen.add(row.condition)
    assert seen == {"edit", "no_edit", "wrong_cell"}
    assert np.nanmax(done.outcome.deviation) == 0


def test_a_freeze_at_a_sample(ran: Run) -> None:
    done = ran(
        "edit: {scale: -3, neurons: cell}\n    controls: none\n"
        "    freeze: {site: mlp.neurons, layers: 2, position: entity.last, to: {sample: nobody}}"
    )
    for row, scores in done.scores():
        (name,) = draw(list(NAMES), 1, 0, "sample", row.prompt.text.text)
        vectors = neuron_values(done, asked_with(row, name), name)
        neuron = NEURONS[list(PEOPLE).index(row.edited)]
        wanted = expected(
            done, row, lambda at, v=vectors, n=neuron: [*frozen_at((2,), v, at), Edit(LAYER, n, "scale", -3.0, at)]
        )
        assert abs(scores - wanted).max() < 2e-4


def test_several_tokens_are_held_at_the_mean_over_all_of_them(ran: Run) -> None:
    done = ran(
        "edit: {scale: -3, neurons: cell}\n    controls: none\n"
        "    freeze: {site: mlp.neurons, layers: 2, position: entity.all, to: {mean: nobody}}"
    )
    for row, scores in done.scores():
        vectors = []
        for name in NAMES:
            text = asked_with(row, name)
            seen, _ = run_alone(done.model, ids_of(done.tokenizer, text))
            last = last_token(done.tokenizer, text, name)
            first = last_token(done.tokenizer, text, text[: text.index(name)].rstrip()) + 1
            vectors += list(seen[2][first : last + 1])
        mean = {2: torch.stack(vectors).double().mean(0)}
        own = row.prompt.text.entity_name
        text = row.prompt.text.text
        start = last_token(done.tokenizer, text, text[: text.index(own)].rstrip()) + 1
        neuron = NEURONS[list(PEOPLE).index(row.edited)]

        def edits(at: int, m: Any = mean, s: int = start, n: int = neuron) -> list[Edit]:
            return [*(e for p in range(s, at + 1) for e in frozen_at((2,), m, p)), Edit(LAYER, n, "scale", -3.0, at)]

        assert abs(scores - expected(done, row, edits)).max() < 2e-4


def test_an_exception_at_a_position_that_the_freeze_does_not_name(ran: Run) -> None:
    """Every token is held at the clean run, but not the last of the question: the same as holding the others."""
    done = ran(
        "edit: {scale: -3, neurons: cell}\n    controls: none\n"
        "    freeze: {site: mlp.neurons, layers: 2, position: all, except: {position: last}}"
    )
    for row, scores in done.scores():
        text = row.prompt.text.text
        ids = ids_of(done.tokenizer, text)
        answer = row.question.answers[0].tokens
        clean, _ = run_alone(done.model, [*ids, *answer[:-1]])
        free = len(ids) - 1
        neuron = NEURONS[list(PEOPLE).index(row.edited)]
        held = [p for p in range(len(ids) + len(answer) - 1) if p != free]
        wanted = expected(
            done,
            row,
            lambda at, h=held, c=clean, n=neuron: [
                *(e for p in h for e in frozen_at((2,), {2: c[2][p]}, p)),
                Edit(LAYER, n, "scale", -3.0, at),
            ],
        )
        assert abs(scores - wanted).max() < 2e-4
    assert np.nanmax(done.outcome.deviation) == 0


def test_the_shipped_dummies_can_be_put_into_questions() -> None:
    assert len(shipped_list("dummies")) > 50
