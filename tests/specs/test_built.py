"""What the runner cannot do yet is refused at validate, at its place, and never accepted and ignored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from specs.language.built import NOT_BUILT, not_built
from specs.language.check import check_schema
from specs.language.defaults import with_defaults
from specs.language.errors import SpecError
from specs.language.load import load
from specs.language.needs import needed
from specs.language.origins import Origins
from specs.language.text import parse_yaml

HEAD = """\
version: 1
name: a
model: m
entities: {trump: Donald Trump, obama: Barack Obama}
relations: {wife: {prompt: "The wife of {{ entity }} is", answers: {trump: Melania, obama: Michelle}}}
"""


def told(text: str) -> list[tuple[str, str]]:
    root = parse_yaml(text, "a.yaml")
    origins = Origins(root)
    experiment, problems = check_schema(root, origins)
    assert experiment is not None, "\n".join(map(str, problems))
    return [(p.path, p.message) for p in not_built(with_defaults(experiment), origins)]


def intervention(text: str) -> str:
    return f"localize: {{cell: stability}}\ninterventions: {{i: {{{text}}}}}\n"


CELL = "edit: {scale: -1, neurons: cell}"
BUILT = [
    intervention(CELL),
    intervention("edit: {scale: {first: 1, last: -3, count: 21}, neurons: cell}"),
    intervention("edit: {set: 0, neurons: [cell/trump, L2.N4]}"),
    intervention("edit: {set: [0, 120], neurons: cell, position: entity.last}"),
    intervention("edit: {set: own_mean, neurons: cell}, placeholder: [X]"),
    intervention("edit: {set: {times: [1, 2], of: own_mean}, neurons: cell}"),
    intervention("edit: {scale: -1, neurons: {of: cell, rank: [1, 2, 11-50]}}"),
    intervention("edit: {scale: -1, neurons: {of: cell, top: [1, 10]}}"),
    intervention("edit: {scale: -1, neurons: {of: cell, bottom: 3}}"),
    intervention("edit: {scale: -1, neurons: {random: 10, like: cell}}"),
    intervention("edit: {scale: -1, neurons: {of: cell, mass: [0.1, 0.5]}}"),
    intervention("edit: {scale: -1, neurons: good}") + "neurons: {good: {of: cell, where: dominance >= 10}}\n",
    intervention("edit: {scale: -1, neurons: {of: cell, top: 9, minus: others, common: [L1.N5]}}"),
    intervention(f"{CELL}, freeze: {{site: attn.out, position: last}}"),
    intervention(f"{CELL}, freeze: {{site: attn.out, position: last, to: {{mean: dummies}}}}"),
    intervention(f"{CELL}, freeze: {{site: attn.out, position: last, to: {{mean: [X]}}}}"),
    intervention("edit: {scale: -1, neurons: cell/trump, in: weights}, save_model: x"),
    intervention("edit: {set: {mean: facts}, neurons: cell}"),
    intervention("edit: {add: v}") + "vectors: {v: {site: mlp.out, layers: 2, position: last, mean: facts}}\n",
    intervention("edit: {set: {sample: dummies}, neurons: cell}"),
    intervention("edit: {set: {times: 2, of: clean}, neurons: cell}"),
    intervention("edit: {add: 3, neurons: cell}"),
    intervention("edit: {add: {times: [1, 2], of: {mean: [X]}}, neurons: cell}"),
    intervention(f"{CELL}, freeze: {{site: attn.out, position: entity.all, layers: [3, cell], to: {{mean: facts}}}}"),
    intervention(f"{CELL}, freeze: {{site: attn.out, position: all, except: {{position: last, layers: cell}}}}"),
    intervention(f"{CELL}, ask: [facts, wife, p]") + "prompts: {p: {relations: wife, limit: 3}}\n",
    intervention(f"{CELL}, ask: p/a") + "prompts: {p: {relations: all, split: {into: {a: 0.5, b: rest}}}}\n",
    intervention(f"{CELL}, controls: none, others: none, unknown: [X]"),
    intervention(f"{CELL}, ask: [facts, neutral], measure: [pass@5, perplexity, relative_perplexity]"),
    intervention(f"{CELL}, ask: q, measure: text@5") + "prompts: {p: {templates: attributes}, q: {of: p, limit: 3}}\n",
    intervention(f"{CELL}, target: wife/trump, others: wife"),
    intervention("edit: {scale: [0, -1], neurons: cell}, tune: {on: facts, maximize: pass@5}"),
    intervention(f"{CELL}, target: wife"),
    intervention(f"{CELL}, target: relation = wife, others: entity != trump"),
    intervention(
        f"{CELL}, measure: [answer_probability, relative_probability, knowledge_score, knowledge_loss, "
        "knowledge_loss_clipped, answer_rank, pass@5, accuracy, accuracy@2, text@12]"
    ),
    "localize: {a: stability, b: z_score, c: mean_activation, d: random,\n"
    "  e: {metric: stability, by: [entity, variant]}}\n"
    "analyses: {s: {agreement: e, across: variant}, p: {profile: a}, o: {overlap: a}, q: {overlap: [a, b]},\n"
    "  c: {correlation: [a/layer, popularity]}}\n",
    intervention(CELL) + "analyses: {p: {pivot: i, rows: edited, columns: entity, value: knowledge_score}}\n",
    intervention(f"{CELL}, measure: [accuracy@2, text@9]")
    + "analyses: {p: {pivot: i, rows: asked, columns: edited, value: accuracy_drop@2}, e: {errors: i},\n"
    "  d: {difference: popularity, between: [sensitive, resilient], of: i, per: relation}}\n",
    "prompts: {p: {relations: all, known: accuracy@2}, q: {of: p, known: any},\n"
    "  t: {templates: attributes, variants: all}}\n",
    "localize: {cell: {metric: stability, layers: [4-9, 80%-100%], top: 3, site: mlp.out, position: last}}\n",
    "localize: {cell: {metric: stability, position: [entity.all, last], pool: max, controls: {random_names: 20}}}\n",
    "localize: {c: {metric: stability, site: [mlp.up, mlp.gate, attn.q]}}\n",
    "localize: {c: {metric: average_precision, top: 9, controls: {shuffled_labels: 3}},\n"
    "  d: {metric: average_precision, top: 9, against: others, pool: max, by: state}}\n",
    "localize: {c: {metric: stability, by: state}, d: {metric: random, prompts: facts, by: [entity, relation]}}\n",
    intervention("edit: {set: 0, neurons: {site: [mlp.gate, mlp.up], layers: 1-2}, position: all}, target: wife"),
    "localize: {layer: layer_stability,\n"
    "  a: {metric: gradient_x_activation, objective: answer_logit, position: entity.last, by: entity},\n"
    "  b: {metric: gradient_x_activation, objective: answer_probability},\n"
    "  c: {metric: gradient_x_activation, objective: top_logits@5, prompts: attributes}}\n",
]
TWINS = "prompts: {p: {relations: all, patch: entity}, q: {pairs: [{clean: a, patch: b, answer: c}]}}\n"
BUILT += [
    TWINS + intervention(f"ask: [p, q], {edit}")
    for edit in (
        "edit: {set: patch, neurons: cell}",
        "edit: {set: {times: [1, 2], of: {mean: patch}}, neurons: cell}",
        "edit: {add: {sample: patch}, neurons: cell, position: all}",
        f"{CELL}, freeze: {{site: attn.out, position: last, to: patch}}",
        f"{CELL}, freeze: {{site: attn.out, position: last, to: {{sample: patch}}}}",
    )
]
REFUSED = [
    (
        "prompts: {p: {relations: all, known: knowledge_score >= 0.5}}\n",
        "prompts.p.known",
        "`known: knowledge_score >= 0.5` is not built yet; write any, pass@n or accuracy",
    ),
    (
        "prompts: {p: {relations: all, known: pass@5}}\n"
        "vectors: {v: {site: mlp.out, layers: 2, position: last, mean: p}}\n",
        "vectors.v.mean",
        "`mean: p` is not built yet for what the model knows of a set (`known:`); write known: any",
    ),
    (
        "localize: {c: {metric: relp, objective: answer_logit}}\n",
        "localize.c.metric",
        "the metric relp is not built yet",
    ),
    (
        "localize: {c: {metric: stability, against: others}}\n",
        "localize.c.against",
        "contrasting with others is not built yet for stability; it is for average_precision",
    ),
    (
        "localize: {c: {metric: stability, position: entity.all, pool: each}}\n",
        "localize.c.pool",
        "a ranking of each token by itself (`pool: each`) is not built yet",
    ),
    (
        "localize: {c: {metric: gradient_x_activation, objective: logit_difference, minus: patch}}\n",
        "localize.c.minus",
        "the difference from a patch twin (`minus: patch`) is not built yet",
    ),
    (
        "localize: {c: {metric: stability, mass: 0.9}}\n",
        "localize.c.mass",
        "`mass:` (a cut by share) is not built yet; cut with `top:`",
    ),
    (
        "localize: {c: {metric: stability, controls: {shuffled_labels: 3}}}\n",
        "localize.c.controls.shuffled_labels",
        "`shuffled_labels:` is not built yet for stability; it is for average_precision",
    ),
    (
        "localize: {c: {metric: gradient_x_activation, objective: answer_logit}}\n"
        "neurons: {n: {of: c, top: 9}, m: {of: n, threshold: 0.1}}\n",
        "neurons.m.threshold",
        "`threshold:` as a share of the objective of c is not built yet; cut with `top:` or `mass:`",
    ),
    (
        intervention("edit: {scale: -1, neurons: cell, in: weights}, freeze: {site: attn.out, position: last}"),
        "interventions.i.freeze",
        "a freeze beside an edit in the weights is not built yet",
    ),
    (
        intervention("edit: [{scale: -1, neurons: cell, in: weights}, {set: 0, neurons: cell}]"),
        "interventions.i.edit.1",
        "an edit of activations beside one in the weights is not built yet",
    ),
    (
        intervention("edit: {scale: -1, neurons: cell, position: {each: [last]}}"),
        "interventions.i.edit.position.each",
        "a sweep of places (`each:`) is not built yet",
    ),
    (
        intervention(f"{CELL}, measure: [pass@5, faithfulness]"),
        "interventions.i.measure.1",
        "the measure faithfulness is not built yet",
    ),
    (
        intervention("edit: {set: clean, neurons: cell, position: all}, measure: text@3"),
        "interventions.i.edit.position",
        "text under an edit at every token to values of other runs (clean) is not built yet",
    ),
    (
        intervention(f"{CELL}, freeze: {{site: attn.out, position: all}}, measure: text@3"),
        "interventions.i.freeze.position",
        "text under a freeze of every position is not built yet: what is generated would not be held",
    ),
    (
        "localize: {c: stability}\nanalyses: {o: {agreement: c, across: entity}}\n",
        "analyses.o.across",
        "agreement across entity is not built yet; write `across: variant`, or an axis of the matrix",
    ),
]


@pytest.mark.parametrize("text", BUILT)
def test_what_is_built_is_accepted(text: str) -> None:
    assert told(HEAD + text) == []


@pytest.mark.parametrize(("text", "path", "message"), REFUSED)
def test_what_is_not_built_is_refused_at_its_place(text: str, path: str, message: str) -> None:
    found = told(HEAD + text)
    assert (path, message) in found
    assert len(found) == (2 if "minus: patch" in text else 1)


def test_chat_templates_are_built() -> None:
    text = HEAD.replace("model: m", "model: {id: m, chat: {prefill: 'Answer:'}}")
    assert told(text + "prompts: {p: {relations: all, chat: false}}\n") == []


def test_questions_in_other_languages_are_built() -> None:
    german = 'translations: {de: {prompt: "{{ entity }} heiratete", answers: {trump: Melania}}}, prompt:'
    text = HEAD.replace("prompt:", german)
    assert text != HEAD and told(text + "prompts: {p: {relations: all, language: [en, de]}}\n") == []


def test_what_only_leaves_out_may_be_unbuilt() -> None:
    text = (
        HEAD
        + intervention(CELL)
        + "prompts: {v: {relations: all, known: perplexity < 9}}\nanalyses: {o: {agreement: cell, across: entity}}\n"
    )
    assert len(told(text)) == 2
    assert told(text.replace("prompts: {v: {relations: all, known: perplexity < 9}}\n", "") + "only: i\n") == []


def test_what_is_run_needs_what_it_mentions() -> None:
    text = HEAD + (
        "localize: {cell: {metric: stability, prompts: forms}, other: random}\n"
        "prompts: {forms: {templates: attributes}, unused: {relations: all}}\n"
        "neurons: {both: [cell/trump, L1.N5]}\n"
        "interventions: {i: {edit: {scale: -1, neurons: both}}}\n"
        "only: i\n"
    )
    root = parse_yaml(text, "a.yaml")
    experiment, _ = check_schema(root, Origins(root))
    assert experiment is not None
    assert needed(experiment) == {
        ("interventions", "i"),
        ("neurons", "both"),
        ("localize", "cell"),
        ("prompts", "forms"),
    }


def test_every_row_names_a_field_of_its_block() -> None:
    for part in NOT_BUILT:
        assert part.field in part.block.model_fields


def test_load_refuses_and_a_draft_may_be_checked_without(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(HEAD + intervention("edit: {set: 0, outside: cell}"), encoding="utf-8")
    with pytest.raises(SpecError) as caught:
        load(path)
    assert "is not built yet" in str(caught.value)
    with_it: Any = load(path, check_built=False)
    assert len(with_it.cells) == 1
