"""The schema level: every mistake once, at its place, in our words; every short form in its long form."""

from __future__ import annotations

from typing import Any

import pytest

from specs.language.check import check_schema
from specs.language.errors import Problem
from specs.language.experiment import (
    Condition,
    Controls,
    Each,
    Edit,
    Experiment,
    Negatives,
    NeuronSet,
    PlaceholderFile,
    Range,
    Source,
    Times,
)
from specs.language.origins import Origins
from specs.language.text import parse_yaml

HEAD = "version: 1\nname: a\nmodel: m\n"


def check(text: str) -> tuple[Experiment | None, list[Problem]]:
    root = parse_yaml(text, "a.yaml")
    return check_schema(root, Origins(root))


def accepted(text: str) -> Experiment:
    """Read a spec that has nothing wrong with it."""
    experiment, problems = check(HEAD + text)
    assert not problems, "\n".join(map(str, problems))
    assert experiment is not None
    return experiment


def refused(text: str) -> list[tuple[str, str, str]]:
    """Give (path, what is underlined, message) of every problem."""
    experiment, problems = check(HEAD + text)
    assert experiment is None
    found = []
    for p in problems:
        assert p.origin is not None
        start = p.origin.column - 1
        found.append((p.path, p.origin.text[start : start + p.origin.length], p.message))
    return found


def edit(text: str) -> str:
    return f"interventions: {{amnesia: {{edit: {{{text}}}}}}}"


def intervention(text: str) -> str:
    return f"interventions: {{amnesia: {{edit: {{scale: -1, neurons: cell}}, {text}}}}}"


def ranking(text: str) -> str:
    return f"localize: {{cell: {text}}}"


EDIT = "interventions.amnesia.edit"
REFUSED = [
    # keys
    (
        edit("scal: -1, neurons: cell"),
        f"{EDIT}.scal",
        "scal",
        "'scal' is not a key here; did you mean 'scale'?",
    ),
    (
        edit("zero: true, neurons: cell"),
        f"{EDIT}.zero",
        "zero",
        "'zero' is not a key here; zero ablation is `set: 0`",
    ),
    (
        edit("op: scale, value: -1, neurons: cell"),
        f"{EDIT}.op",
        "op",
        "'op' is not a key here; the verb itself is the key: `{scale: -1, neurons: ...}`",
    ),
    (
        intervention("compare: x"),
        "interventions.amnesia.compare",
        "compare",
        "'compare' is not a key here; targets follow from the neurons; use `target:` or `others:` to change them",
    ),
    (
        edit("scale: {linspace: [1, -3, 21]}, neurons: cell"),
        f"{EDIT}.scale.linspace",
        "linspace",
        "'linspace' is not a key here; a range is `{first: 1, last: -3, count: 21}`",
    ),
    (
        edit("scale: {start: 1, stop: -3, num: 21}, neurons: cell"),
        f"{EDIT}.scale.start",
        "start",
        "'start', 'stop' and 'num' are not keys here; a range is `{first: 1, last: -3, count: 21}`",
    ),
    (
        "interventions: {amnesia: {scale: -1, neurons: cell}}",
        "interventions.amnesia.scale",
        "scale",
        "'scale' and 'neurons' are not keys here; they belong to `edit:`",
    ),
    (
        ranking("{metrc: stability}"),
        "localize.cell.metrc",
        "metrc",
        "'metrc' is not a key here; did you mean 'metric'?",
    ),
    (
        edit("set: {mena: dummies}, neurons: cell"),
        f"{EDIT}.set.mena",
        "mena",
        "'mena' is not a key here; did you mean 'mean'?",
    ),
    ("localise: {}", "localise", "localise", "'localise' is not a key here; did you mean 'localize'?"),
    ("data: {a: {from_: x}}", "data.a.from_", "from_", "'from_' is not a key here; did you mean 'from'?"),
    (
        "expect: [{a: b}]",
        "expect.0.a",
        "a",
        "'a' is not a key here; the keys of an expectation are source, when, claims",
    ),
    # words
    (
        ranking("stabilty"),
        "localize.cell",
        "stabilty",
        "'stabilty' is not a metric; did you mean 'stability'?",
    ),
    (
        ranking("{metric: stability, position: entity.lst}"),
        "localize.cell.position",
        "entity.lst",
        "'entity.lst' is not a position; did you mean 'entity.last'? Positions: entity.first, entity.last, "
        "entity.all, first, last, all, or a token's index such as -1",
    ),
    (
        ranking("{metric: stability, site: [mlp.neurons, mlp.nuerons]}"),
        "localize.cell.site.1",
        "mlp.nuerons",
        "'mlp.nuerons' is not a site; did you mean 'mlp.neurons'?",
    ),
    (
        intervention("measure: answer_probabilty"),
        "interventions.amnesia.measure",
        "answer_probabilty",
        "'answer_probabilty' is not a measure; did you mean 'answer_probability'?",
    ),
    (
        intervention("measure: [pass]"),
        "interventions.amnesia.measure.0",
        "pass",
        "'pass' needs a number: `pass@5`",
    ),
    (
        intervention("measure: answer_rank@5"),
        "interventions.amnesia.measure",
        "answer_rank@5",
        "'answer_rank' takes no number; write `answer_rank`",
    ),
    (
        intervention("measure: text@0"),
        "interventions.amnesia.measure",
        "text@0",
        "'text@0': what follows @ is a whole number of at least 1, such as `text@5`",
    ),
    (
        edit("set: claen, neurons: cell"),
        f"{EDIT}.set",
        "claen",
        "'claen' is not a value; did you mean 'clean'?",
    ),
    (
        edit("set: zero, neurons: cell"),
        f"{EDIT}.set",
        "zero",
        "'zero' is not a value; zero ablation is `set: 0`",
    ),
    (
        ranking("{metric: relp, objective: top_logits}"),
        "localize.cell.objective",
        "top_logits",
        "'top_logits' needs a number: `top_logits@5`",
    ),
    (
        ranking("{metric: stability, layers: 9-4}"),
        "localize.cell.layers",
        "9-4",
        "layers 9-4 run backwards; write 4-9",
    ),
    (
        ranking("{metric: stability, layers: -1}"),
        "localize.cell.layers",
        "-1",
        "'-1' are not layers; write 4, 4-9, 80%-100%, or a set of neurons, whose layers are meant",
    ),
    # exactly one of
    (
        edit("scale: 1, set: 0, neurons: cell"),
        f"{EDIT}.set",
        "set",
        "an edit does exactly one of scale, set, add; this does scale and set",
    ),
    (
        "prompts: {p: {templates: a, texts: b}}",
        "prompts.p.texts",
        "texts",
        "a prompt set has exactly one of relations, templates, texts, pairs, of; this has templates and texts",
    ),
    (
        "neurons: {n: {of: cell, top: 3, rank: 2}}",
        "neurons.n.rank",
        "rank",
        "a neuron set has one cut; this has top and rank",
    ),
    (
        "neurons: {n: {random: 3000}}",
        "neurons.n.random",
        "random",
        "`random: 3000` needs `like:`, the set whose layers and sites it copies",
    ),
    (
        "analyses: {a: {overlap: x, profile: y}}",
        "analyses.a.profile",
        "profile",
        "an analysis has exactly one of overlap, agreement, profile, correlation, pivot, cumulativity, "
        "difference, errors; this has overlap and profile",
    ),
    (
        edit("scale: -1"),
        f"{EDIT}.scale",
        "scale",
        "`scale` needs `neurons:`, what it acts on (or `outside:`, everything but these)",
    ),
    # what belongs together
    (
        ranking("{metric: stability, rules: [norm]}"),
        "localize.cell.rules",
        "rules",
        "`rules` belongs to relp; the metric here is stability",
    ),
    (
        ranking("relp"),
        "localize.cell",
        "relp",
        "relp needs `objective:`, the number it takes the gradient of "
        "(answer_logit, answer_probability, logit_difference, top_logits)",
    ),
    (
        ranking("average_precision"),
        "localize.cell",
        "average_precision",
        "average_precision needs `top:`, the number of neurons that make the set (the paper takes 3000)",
    ),
    (
        ranking("{metric: stability, min_prompts: 4}"),
        "localize.cell.min_prompts",
        "min_prompts",
        "stability over fewer than 8 prompts picks near-constant neurons; the least is 8",
    ),
    ("analyses: {a: {agreement: cell}}", "analyses.a.agreement", "agreement", "agreement needs `across:`"),
    # numbers, texts, shapes
    (edit("scale: [0, x], neurons: cell"), f"{EDIT}.scale.1", "x", "'x' is not a number"),
    (edit("scale: 1_000, neurons: cell"), f"{EDIT}.scale", "1_000", "'1_000' is not a number; write 1000"),
    (edit("scale: .inf, neurons: cell"), f"{EDIT}.scale", ".inf", "'.inf' is not a finite number"),
    (edit("scale: 1e999, neurons: cell"), f"{EDIT}.scale", "1e999", "'1e999' is too large a number"),
    (edit("scale: [], neurons: cell"), f"{EDIT}.scale", "[]", "the list is empty"),
    (ranking("{metric: stability, top: 1.5}"), "localize.cell.top", "1.5", "'1.5' is not a whole number"),
    (ranking("{metric: stability, top: 0}"), "localize.cell.top", "0", "`top` is at least 1"),
    ("seed: one", "seed", "one", "'one' is not a whole number"),
    (
        edit("scale: {first: 1, last: 2}, neurons: cell"),
        f"{EDIT}.scale",
        "{first: 1, last: 2}",
        "a range needs `count:` (how many numbers, ends included)",
    ),
    (
        "relations: {wife: {prompt: x, answers: {trump: null}}}",
        "relations.wife.answers.trump",
        "null",
        'null is no answer; to mean the word, write "null"',
    ),
    (
        "relations: {wife: {prompt: {Fact: the name}}}",
        "relations.wife.prompt",
        "{Fact: the name}",
        "this text holds ': ' and must be quoted",
    ),
    (
        "entities: {trump: [a]}",
        "entities.trump",
        "[a]",
        "an entity is a block of keys (name, variants, attributes), and this is a list",
    ),
    (
        "entities: {trump: {variants: {a: b}}}",
        "entities.trump",
        "{variants: {a: b}}",
        "an entity needs `name:` (the name as it stands in prompts)",
    ),
    ("entities: Donald", "entities", "Donald", "`entities` is a block of keys, and this is 'Donald'"),
    (
        intervention("controls: 5"),
        "interventions.amnesia.controls",
        "5",
        "controls is a block of keys (random_neurons, wrong_cell, no_edit) or `none`, and this is '5'",
    ),
    (
        "prompts: {p: {of: q, split: {into: {a: x}}}}",
        "prompts.p.split.into.a",
        "x",
        "'x' is not a part; write a number of prompts, a fraction such as 0.5, or rest",
    ),
    (
        intervention("others: {a: b}"),
        "interventions.amnesia.others",
        "{a: b}",
        "this text holds ': ' and must be quoted",
    ),
    (
        "expect: [dominance at least 10]",
        "expect.0",
        "dominance at least 10",
        "'dominance at least 10' is not a condition; write `quantity op value` with op one of "
        "= != < <= > >= in within, for example `dominance >= 10`",
    ),
]


@pytest.mark.parametrize(("text", "path", "underlined", "message"), REFUSED)
def test_a_mistake_gives_one_message_at_its_place(text: str, path: str, underlined: str, message: str) -> None:
    assert refused(text) == [(path, underlined, message)]


def test_a_model_that_is_missing_is_asked_for_with_an_example() -> None:
    _, problems = check("version: 1\nname: a\n")
    assert [p.message for p in problems] == [
        "`model:` is missing: the model this is run on, such as `model: qwen2.5-coder-1.5b`"
    ]


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("2", "version 2 of the language is not known here; write `version: 1`"),
        ("one", "'one' is not a whole number"),
    ],
)
def test_another_version_is_refused(written: str, told: str) -> None:
    _, problems = check(f"version: {written}\nname: a\nmodel: m\n")
    assert [p.message for p in problems] == [told]


def test_all_problems_are_told_at_once() -> None:
    text = "seed: x\nlocalize: {a: stabilty, b: {metric: relp}}\nentities: {t: [a]}\nfoo: 1\n"
    assert len(refused(text)) == 5


def test_a_block_on_several_lines_is_shown_by_its_key() -> None:
    assert refused("prompts:\n  q:\n    templates: a\n    limit: 3\n    per: x\n    texts: b\n")[0][:2] == (
        "prompts.q.texts",
        "texts",
    )
    assert refused("interventions:\n  amnesia:\n    ask: facts\n")[0][:2] == (
        "interventions.amnesia",
        "amnesia",
    )


@pytest.mark.parametrize("text", ["NO", "1946", "010", "12:30", "5e-1", "yes", "2020-01-01", "0x1f", "1_000"])
def test_a_text_field_keeps_what_is_written(text: str) -> None:
    experiment = accepted(
        f"entities: {{{text}: {text}}}\nrelations: {{r: {{prompt: x, answers: {{a: {text}}}, given: {text}}}}}"
    )
    assert experiment.entities[text].name == text
    assert experiment.relations["r"].answers == {"a": [text]}
    assert experiment.relations["r"].given == text


@pytest.mark.parametrize(
    ("written", "number"),
    [
        ("1", 1),
        ("-3", -3),
        ("+2", 2),
        (".5", 0.5),
        ("5.", 5),
        ("1e-5", 1e-5),
        ("010", 10),
        ("0x10", 16),
        ("0o17", 15),
        ("'4'", 4),
    ],
)
def test_a_number_field_reads_numbers_of_yaml_1_2(written: str, number: float) -> None:
    experiment = accepted(edit(f"scale: {written}, neurons: cell"))
    assert experiment.interventions["amnesia"].edit[0].scale == number


@pytest.mark.parametrize(("written", "flag"), [("true", True), ("False", False)])
def test_a_flag_is_true_or_false(written: str, flag: bool) -> None:
    root = f"version: 1\nname: a\nmodel: {{id: m, chat: {written}}}\n"
    experiment, _ = check(root)
    assert experiment is not None and experiment.model.chat is flag


def test_yes_is_a_word() -> None:
    _, problems = check("version: 1\nname: a\nmodel: {id: m, chat: yes}\n")
    assert problems[0].message == "'yes' is neither true nor false; write true"


def test_an_attribute_is_a_number_unless_it_is_quoted_or_a_word() -> None:
    text = "entities: {a: {name: A, attributes: {n: 3, quoted: '3', word: NO}}}"
    assert accepted(text).entities["a"].attributes == {"n": 3.0, "quoted": "3", "word": "NO"}


def test_quoted_null_is_the_word() -> None:
    text = 'relations: {r: {prompt: x, answers: {a: "null"}}}'
    assert accepted(text).relations["r"].answers == {"a": ["null"]}


def test_an_absent_field_may_be_written_empty() -> None:
    experiment = accepted("description:\nlocalize: {cell: {metric: stability, top: null, layers: ~}}")
    assert experiment.description is None
    assert experiment.localize["cell"].layers is None


SHORT = [
    ("localize: {cell: stability}", "localize.cell.metric", "stability"),
    ("entities: {obama: Barack Obama}", "entities.obama.name", "Barack Obama"),
    ("entities: {o: {name: O, variants: {typo: Bo}}}", "entities.o.variants", {"typo": ["Bo"]}),
    ("data: {lre: a.csv}", "data.lre.from_", "a.csv"),
    ("placeholders: {x: names.yaml}", "placeholders.x", PlaceholderFile(from_="names.yaml")),
    ("placeholders: {x: [X, Y]}", "placeholders.x", ["X", "Y"]),
    ("prompts: {p: {relations: all}}", "prompts.p.relations", "all"),
    ("prompts: {p: {relations: wife}}", "prompts.p.relations", ["wife"]),
    ("prompts: {p: {templates: attributes}}", "prompts.p.templates", "attributes"),
    ("prompts: {p: {templates: [a]}}", "prompts.p.templates", ["a"]),
    ("prompts: {p: {of: q, entities: trump}}", "prompts.p.entities", ["trump"]),
    ("prompts: {p: {of: q, variants: all}}", "prompts.p.variants", "all"),
    ("prompts: {p: {of: q, known: any}}", "prompts.p.known", "any"),
    (
        "prompts: {p: {of: q, known: accuracy@2}}",
        "prompts.p.known",
        Condition(quantity="accuracy@2", op="=", value=1),
    ),
    (
        "prompts: {p: {of: q, split: {into: {a: 50, b: rest}}}}",
        "prompts.p.split.into",
        {"a": 50, "b": "rest"},
    ),
    ("localize: {c: {metric: stability, by: entity}}", "localize.c.by", ["entity"]),
    ("localize: {c: {metric: stability, by: []}}", "localize.c.by", []),
    ("localize: {c: {metric: stability, layers: 4}}", "localize.c.layers", ["4"]),
    (
        "localize: {c: {metric: stability, layers: [22, 4-9, 80%-100%, cell]}}",
        "localize.c.layers",
        ["22", "4-9", "80%-100%", "cell"],
    ),
    (
        "localize: {c: {metric: stability, position: [-1, entity.last]}}",
        "localize.c.position",
        ["-1", "entity.last"],
    ),
    (
        "localize: {c: {metric: stability, site: path:model.layers.3.mlp}}",
        "localize.c.site",
        ["path:model.layers.3.mlp"],
    ),
    ("localize: {c: {metric: stability, against: {others: 4}}}", "localize.c.against", Negatives(others=4)),
    ("localize: {c: {metric: stability, against: others}}", "localize.c.against", "others"),
    ("localize: {c: {metric: stability, against: [X]}}", "localize.c.against", ["X"]),
    ("neurons: {n: L1.N11948}", "neurons.n", "L1.N11948"),
    (
        "neurons: {n: [cell/trump, {of: cell, top: 3}]}",
        "neurons.n",
        ["cell/trump", NeuronSet(of="cell", top=3)],
    ),
    ("neurons: {n: {of: cell, rank: [1, 11-50]}}", "neurons.n.rank", ["1", "11-50"]),
    (
        "neurons: {n: {of: cell, where: layer in 1-6}}",
        "neurons.n.where",
        [Condition(quantity="layer", op="in", value=("1-6",))],
    ),
    (
        edit("scale: [0, -1], neurons: cell"),
        "interventions.amnesia.edit",
        [Edit(scale=[0, -1], neurons="cell")],
    ),
    (
        edit("set: {first: 1, last: -3, count: 21}, neurons: c"),
        f"{EDIT}.0.set",
        Range(first=1, last=-3, count=21),
    ),
    (edit("set: own_mean, neurons: c"), f"{EDIT}.0.set", "own_mean"),
    (edit("set: {mean: dummies}, neurons: c"), f"{EDIT}.0.set", Source(mean="dummies")),
    (edit("set: {sample: [X]}, neurons: c"), f"{EDIT}.0.set", Source(sample=["X"])),
    (
        edit("set: {times: [1, 2], of: own_mean}, neurons: c"),
        f"{EDIT}.0.set",
        Times(times=[1, 2], of="own_mean"),
    ),
    (edit("add: elizabeth"), f"{EDIT}.0.add", "elizabeth"),
    (edit("scale: -1, neurons: {each: [a, b]}"), f"{EDIT}.0.neurons.each", ["a", "b"]),
    (
        edit("scale: -1, neurons: c, position: {each: [last, entity.last]}"),
        f"{EDIT}.0.position.each",
        ["last", "entity.last"],
    ),
    (
        intervention("controls: none"),
        "interventions.amnesia.controls",
        Controls(random_neurons=0, wrong_cell=0, no_edit=0),
    ),
    (
        intervention("controls: {random_neurons: 10}"),
        "interventions.amnesia.controls",
        Controls(random_neurons=10),
    ),
    (intervention("others: none"), "interventions.amnesia.others", "none"),
    (intervention("others: 3"), "interventions.amnesia.others", 3),
    (intervention("others: [obama, 3]"), "interventions.amnesia.others", ["obama", "3"]),
    (
        intervention("others: state = Texas"),
        "interventions.amnesia.others",
        [Condition(quantity="state", op="=", value="Texas")],
    ),
    (intervention("target: wife/obama"), "interventions.amnesia.target", "wife/obama"),
    (
        intervention("target: state = Texas"),
        "interventions.amnesia.target",
        [Condition(quantity="state", op="=", value="Texas")],
    ),
    (intervention("placeholder: X"), "interventions.amnesia.placeholder", "X"),
    (intervention("placeholder: [X]"), "interventions.amnesia.placeholder", ["X"]),
    (intervention("measure: accuracy@02"), "interventions.amnesia.measure", ["accuracy@2"]),
    (
        intervention("freeze: {site: attn.out, position: last, except: {layers: 22}}"),
        "interventions.amnesia.freeze.except_.0.layers",
        ["22"],
    ),
    (
        "expect: cell/trump = L1.N5",
        "expect.0.claims",
        [Condition(quantity="cell/trump", op="=", value="L1.N5")],
    ),
]


@pytest.mark.parametrize(("text", "path", "value"), SHORT)
def test_short_forms_mean_their_long_forms(text: str, path: str, value: Any) -> None:
    found: Any = accepted(text)
    for step in path.split("."):
        if isinstance(found, dict):
            found = found[step]
        else:
            found = found[int(step)] if step.isdecimal() else getattr(found, step)
    assert found == value
    assert type(found) is type(value)


def test_a_sweep_of_places_is_an_each() -> None:
    where = accepted(edit("scale: -1, neurons: {each: [a]}")).interventions["amnesia"].edit[0].neurons
    assert isinstance(where, Each)


def test_a_range_meets_its_ends_and_zero_exactly() -> None:
    values = Range(first=1, last=-3, count=21).values()
    assert (values[0], values[5], values[-1], len(values)) == (1, 0, -3, 21)
    assert Range(first=1, last=100, count=3, log=True).values() == [1, 10, 100]


def test_a_logarithmic_range_over_zero_is_refused() -> None:
    told = refused(edit("scale: {first: -1, last: 1, count: 3, log: true}, neurons: c"))
    assert told[0][2] == "a logarithmic range has two ends of the same sign, neither of them 0"
