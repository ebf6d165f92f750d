"""Every message of the meaning level, from a spec that makes one mistake."""

from __future__ import annotations

from pathlib import Path

import pytest

from specs.language.errors import Problem, SpecError
from specs.language.load import load

BASE = """
version: 1
model: m
entities:
  ada: {name: Ada Lovelace, variants: {surname: Lovelace}, attributes: {fame: 2}}
  bach: {name: Johann Bach, attributes: {fame: 5}}
relations:
  town:
    prompt: ["{{ entity }} was born in the town of", "The birthplace of {{ entity }} is"]
    answers: {ada: London, bach: Eisenach}
    phrasings: {short: ["{{ entity }}, born in"]}
  craft:
    prompt: ["{{ entity }} is known for work in", "The field of {{ entity }} is"]
    answers: {ada: mathematics, bach: music}
prompts:
  quiet: {texts: ["The rain fell.", "A door stood open."]}
  halves: {relations: all, split: {into: {dev: 0.5, test: rest}}}
localize:
  cell: stability
interventions:
  silence:
    edit: {scale: [0, -1, -3], neurons: cell}
"""


def told(folder: Path, fragment: str, base: str = BASE) -> list[Problem]:
    """Load a spec that extends the base, and give everything that is told about it."""
    (folder / "base.yaml").write_text(base, encoding="utf-8")
    (folder / "spec.yaml").write_text(f"version: 1\nextends: base.yaml\n{fragment}", encoding="utf-8")
    try:
        return list(load(folder / "spec.yaml", check_built=False).warnings)
    except SpecError as error:
        return list(error.problems)


def test_the_base_of_these_tests_has_no_problem(tmp_path: Path) -> None:
    assert told(tmp_path, "") == []


def one(problems: list[Problem]) -> tuple[str, str, str]:
    """Give path, severity and message of the only problem there is."""
    assert len(problems) == 1, [p.headline() for p in problems]
    (problem,) = problems
    assert problem.level == "meaning"
    assert problem.origin is not None and problem.origin.line > 0
    return problem.path, problem.severity, problem.message


NAMES = [
    (
        "interventions: {silence: {edit: {scale: 0, neurons: cel}}}",
        "interventions.silence.edit.neurons",
        "'cel' names no neurons; did you mean 'cell'? (cell)",
    ),
    (
        "interventions: {silence: {edit: {scale: 0, neurons: quartz}}}",
        "interventions.silence.edit.neurons",
        "'quartz' names no neurons; choose from cell",
    ),
    (
        "interventions: {silence: {edit: {scale: 0, neurons: cell/bahc}}}",
        "interventions.silence.edit.neurons",
        "'cell' has no 'bahc'; did you mean 'bach'? It is ranked by entity: ada, bach",
    ),
    (
        "interventions: {silence: {edit: {scale: 0, neurons: [cell/ada, ada]}}}",
        "interventions.silence.edit.neurons.1",
        "'ada' is an entity, not a set of neurons; its neurons are 'cell/ada'",
    ),
    (
        "interventions: {silence: {edit: {scale: 0, neurons: town}}}",
        "interventions.silence.edit.neurons",
        "'town' is a relation, not a set of neurons",
    ),
    (
        "interventions: {silence: {edit: {scale: 0, neurons: L1.11948}}}",
        "interventions.silence.edit.neurons",
        "'L1.11948' is not a neuron address; write L1.N11948, or gate:L1.N5 for another site",
    ),
    (
        "neurons: {town: cell/ada}",
        "neurons.town",
        "'town' already names a relation; every name is used once in a spec",
    ),
    (
        "interventions: {target: {edit: {scale: 0, neurons: cell}}}",
        "interventions.target",
        "'target' is a reserved word and cannot be the name of an intervention",
    ),
    (
        "prompts: {facts: {relations: all}}",
        "prompts.facts",
        "'facts' is a reserved word and cannot be the name of a prompt set",
    ),
    (
        "entities: {AC/DC: AC/DC}",
        "entities.AC/DC",
        "the id 'AC/DC' holds '/', which separates the parts of a reference; "
        "give it an id such as 'ac_dc' and put the text under `name:`",
    ),
    (
        "neurons: {a=b: cell/ada}",
        'neurons."a=b"',
        "the id 'a=b' holds '=', which separates a sweep from its value; give it an id such as 'a_b'",
    ),
    (
        "neurons: {L1.N5: cell/ada}",
        'neurons."L1.N5"',
        "the id 'L1.N5' reads as a neuron's address; give it another",
    ),
    (
        "entities: {king: Ada Lovelace}",
        "entities.king",
        "'Ada Lovelace' is a name of both 'ada' and 'king'",
    ),
    (
        "entities: {king: {name: Ada King, variants: {other: Lovelace}}}",
        "entities.king.variants.other",
        "'Lovelace' is a name of both 'ada' and 'king'",
    ),
    ('entities: {nobody: ""}', "entities.nobody", "this name is empty"),
    (
        'entities: {king: " Ada King"}',
        "entities.king",
        "the name ' Ada King' begins or ends with a space; the prompt has its own spaces",
    ),
    (
        "interventions: {silence: {others: [bahc]}}",
        "interventions.silence.others.0",
        "'bahc' is not an entity; did you mean 'bach'?",
    ),
    (
        "relations: {craft: {answers: {ada: mathematics, bahc: music}}}",
        "relations.craft.answers.bahc",
        "'bahc' is not an entity; did you mean 'bach'?",
    ),
    (
        "prompts: {some: {relations: all, entities: [adda]}}",
        "prompts.some.entities.0",
        "'adda' is not an entity; did you mean 'ada'?",
    ),
    (
        "interventions: {silence: {target: adda}}",
        "interventions.silence.target",
        "'adda' is not an entity; did you mean 'ada'?",
    ),
    (
        "interventions: {silence: {target: tonw}}",
        "interventions.silence.target",
        "'tonw' is not a relation; did you mean 'town'?",
    ),
    (
        "interventions: {silence: {placeholder: X}}",
        "interventions.silence.placeholder",
        "'X' is not a list of placeholders; to use the text itself write [X]",
    ),
    (
        "interventions: {silence: {unknown: stranger}}",
        "interventions.silence.unknown",
        "'stranger' is not a list of placeholders; did you mean 'strangers'? To use the text itself write [stranger]",
    ),
    (
        "localize: {cell: {metric: stability, against: dumies}}",
        "localize.cell.against",
        "'dumies' is neither a prompt set nor a list of placeholders; did you mean 'dummies'?",
    ),
    (
        "interventions: {silence: {edit: {set: {mean: genric}, neurons: cell, position: last}}}",
        "interventions.silence.edit.set.mean",
        "'genric' is neither a prompt set nor a list of placeholders; did you mean 'generic'?",
    ),
    (
        "interventions: {silence: {ask: haves}}",
        "interventions.silence.ask",
        "'haves' is not a prompt set; did you mean 'halves'?",
    ),
    (
        "interventions: {silence: {ask: cell}}",
        "interventions.silence.ask",
        "'cell' is not a prompt set; it is a ranking",
    ),
    (
        "interventions: {silence: {ask: halves/tune}}",
        "interventions.silence.ask",
        "prompt set 'halves' has no part 'tune'. Its parts: dev, test",
    ),
    (
        "interventions: {silence: {ask: town/dev}}",
        "interventions.silence.ask",
        "prompt set 'town' has no part 'dev'. It is not split",
    ),
    (
        "interventions: {silence: {target: ada/town}}",
        "interventions.silence.target",
        "'ada/town' is not a fact; write relation/entity, for example town/ada",
    ),
    (
        "vectors: {v: {site: mlp.out, layers: 2, position: last, "
        "learn: {fact: ada, becomes: x, keep: facts, weights: {attack: 1}}}}",
        "vectors.v.learn.fact",
        "'ada' is not a fact; write relation/entity, for example town/ada",
    ),
    (
        "neurons: {a: {of: b, top: 1}, b: {of: a, top: 1}}",
        "neurons.a",
        "neuron set 'a' is defined by itself",
    ),
    (
        "neurons: {good: {of: cell, where: verify/knowledge_score <= 0.1}}\n"
        "interventions: {verify: {edit: {scale: -1, neurons: good}}}",
        "neurons.good",
        "neuron set 'good' is defined by itself",
    ),
    (
        "prompts: {a: {of: b}, b: {of: a}}",
        "prompts.a.of",
        "prompt set 'a' is derived from itself",
    ),
    (
        "only: [silense]",
        "only.0",
        "'silense' is not something to run; did you mean 'silence'? Choose from cell, silence",
    ),
    (
        "prompts: {some: {relations: [tonw]}}",
        "prompts.some.relations.0",
        "'tonw' is not a relation; did you mean 'town'?",
    ),
    (
        "prompts: {some: {relations: all, phrasing: shrot}}",
        "prompts.some.phrasing",
        "no relation has a phrasing 'shrot'; did you mean 'short'?",
    ),
    (
        "prompts: {some: {relations: all, variants: [typo]}}",
        "prompts.some.variants.0",
        "no entity has a variant 'typo'; choose from surname",
    ),
    (
        "prompts: {some: {relations: all, where: fam >= 3}}",
        "prompts.some.where",
        "'fam' is not a column; did you mean 'fame'?",
    ),
    (
        "prompts: {some: {relations: all, entities: {order: -fane}}}",
        "prompts.some.entities.order",
        "'fane' is not a column; did you mean 'fame'?",
    ),
    (
        "localize: {cell: {metric: stability, by: entty}}",
        "localize.cell.by",
        "'entty' is not a column; did you mean 'entity'?",
    ),
    (
        "localize: {cell: {metric: stability, layers: cel}}",
        "localize.cell.layers",
        "'cel' names no layers; did you mean 'cell'?",
    ),
    (
        "interventions: {silence: {edit: {add: polite}}}",
        "interventions.silence.edit.add",
        "'polite' is not a vector; there are none",
    ),
    (
        "analyses: {errors_of: {errors: silense}}",
        "analyses.errors_of.errors",
        "'silense' is not an intervention; did you mean 'silence'?",
    ),
    (
        "analyses: {table: {pivot: silence, rows: edited, columns: relatoin, value: knowledge_score}}",
        "analyses.table.columns",
        "'relatoin' is not a column; did you mean 'relation'?",
    ),
    (
        "analyses: {depth: {correlation: [cell/layre, fame]}}",
        "analyses.depth.correlation.0",
        "'layre' is not a property of a neuron; did you mean 'layer'?",
    ),
]

PROMPTS = [
    (
        'relations: {town: {prompt: "{{ entitty }} was born in"}}',
        "relations.town.prompt",
        "'entitty' is not defined here; a template knows {{ entity }}; did you mean 'entity'?",
    ),
    (
        """relations: {town: {prompt: "{{ ''.__class__ }} {{ entity }} was born in"}}""",
        "relations.town.prompt",
        "only {{ entity }} may stand in a template",
    ),
    (
        'prompts: {some: {templates: ["The age of {{ entity }}", "The weather"]}}',
        "prompts.some.templates.1",
        "no {{ entity }} in this template: a text about nobody goes under `texts:`",
    ),
    (
        "relations: {town: {phrasings: {short: Born where}}}",
        "relations.town.phrasings.short",
        "no {{ entity }} in this template: the same question would be asked about everybody",
    ),
    (
        'prompts: {some: {texts: ["The age of {{ entity }}"]}}',
        "prompts.some.texts.0",
        "{{ entity }} in a text about nobody: a text about an entity goes under `templates:`",
    ),
    (
        'prompts: {some: {relations: all, wrap: "{{ promt }}?"}}',
        "prompts.some.wrap",
        "'promt' is not defined here; a frame knows {{ prompt }}; did you mean 'prompt'?",
    ),
    (
        "prompts: {some: {relations: all, wrap: Question}}",
        "prompts.some.wrap",
        "no {{ prompt }} in this frame, so every prompt would be the same text",
    ),
    (
        'relations: {town: {prompt: "Was {{ entity }} of London born in"}}',
        "relations.town.answers.ada",
        "the answer 'London' stands in the prompt itself",
    ),
    (
        'relations: {town: {answers: {ada: "", bach: Eisenach}}}',
        "relations.town.answers.ada",
        "the answer for 'ada' is empty",
    ),
    (
        'relations: {town: {answers: {ada: " London", bach: Eisenach}}}',
        "relations.town.answers.ada",
        "the answer ' London' begins or ends with a space; the joining space is the runner's business",
    ),
    (
        "relations: {town: {given: Lon}}",
        "relations.town.answers.bach",
        "the answer 'Eisenach' does not begin with the given 'Lon'",
    ),
    (
        "relations: {town: {given: London, answers: {ada: London}}}",
        "relations.town.answers.ada",
        "nothing of the answer 'London' is left to score after the given 'London'",
    ),
    (
        "prompts: {some: {relations: all, split: {into: {a: 0.5, b: 0.8}}}}",
        "prompts.some.split.into",
        "the parts add up to 1.3 of the set",
    ),
    (
        "prompts: {some: {templates: attributes, known: pass@5}}",
        "prompts.some.known",
        "these prompts have no answers, so nothing can be known",
    ),
    (
        "relations: {town: {answers: {ada: [London, Wendell Praskovich], bach: Eisenach}}}",
        "interventions.silence.unknown",
        "'Wendell Praskovich' is among the strangers and also an answer of 'town'; leave it out of `unknown`",
    ),
    (
        "interventions: {silence: {unknown: [Jo London, Kim]}}",
        "interventions.silence.unknown",
        "'Jo London' is among the names and holds the answer 'London' of 'town'; leave it out of `unknown`",
    ),
]

SCIENCE = [
    (
        "interventions: {silence: {ask: halves/test, tune: {on: halves/test, maximize: answer_probability}}}",
        "interventions.silence.tune.on",
        "the value would be chosen on the questions it is scored on ('halves/test'); "
        "split the set and tune on another part",
    ),
    (
        "prompts: {same: {of: halves/test, variants: all}}\n"
        "interventions: {silence: {ask: halves/test, tune: {on: same, maximize: answer_probability}}}",
        "interventions.silence.tune.on",
        "the value would be chosen on the questions it is scored on ('halves/test'); "
        "split the set and tune on another part",
    ),
    (
        "interventions: {silence: {ask: halves/test, edit: {scale: 0, neurons: cell}, "
        "tune: {on: halves/dev, maximize: pass@5}}}",
        "interventions.silence.tune",
        "there is nothing to choose: the edit is made at one value; give a list, such as `scale: [0, -1, -3]`",
    ),
    (
        "interventions: {silence: {ask: halves/test, tune: {on: quiet, maximize: pass@5}}}",
        "interventions.silence.tune.on",
        "'quiet' have no answers to choose a value by; tune on questions",
    ),
    (
        "interventions: {silence: {ask: halves/test, tune: {on: halves/dev, maximize: text@3}}}",
        "interventions.silence.tune.maximize",
        "a value is chosen by what becomes of answers, and text@3 is none; choose by answer_probability, pass@5 or "
        "another measure of answers",
    ),
    (
        "interventions: {silence: {tune: {on: town, maximize: answer_probability}}}",
        "interventions.silence.tune.on",
        "the value would be chosen on the questions it is scored on ('facts'); split the set and tune on another part",
    ),
    (
        "interventions: {silence: {edit: {set: own_mean, neurons: L1.N5, position: last}, target: ada}}",
        "interventions.silence.edit.set",
        "own_mean is the mean over the prompts a neuron was localised on; "
        "neurons given by address have none. Give a number, or `{mean: PROMPTS}`",
    ),
    (
        "interventions: {silence: {edit: {scale: 0, neurons: L1.N5, position: last}}}",
        "interventions.silence.edit.neurons",
        "neurons given by address belong to nobody, so `target` must say whose answers should change",
    ),
    (
        "interventions: {silence: {edit: {scale: 0, neurons: [L1.N5@-1, L1.N6]}, target: ada}}",
        "interventions.silence.edit.neurons",
        "neurons given by address were read at no position, so `position` must be given",
    ),
    (
        "interventions: {silence: {edit: {set: 0, neurons: {site: mlp.out, layers: 3}}, target: ada}}",
        "interventions.silence.edit.neurons",
        "whole layers were read at no position, so `position` must be given",
    ),
    (
        "interventions: {silence: {edit: {scale: 0, neurons: cell, position: entity.last}, ask: [facts, quiet], "
        "measure: [accuracy, perplexity]}}",
        "interventions.silence.edit.position",
        "position entity.last needs prompts about an entity; 'quiet' are texts about nobody; without `position` "
        "the edit acts there at every token",
    ),
    (
        "interventions: {silence: {ask: [facts, quiet]}}",
        "interventions.silence.ask.1",
        "'quiet' have no answers, and nothing is measured that needs none; "
        "add relative_perplexity, perplexity, kl or text@12 to `measure`",
    ),
    (
        "interventions: {silence: {ask: [facts, quiet], placeholder: [X], measure: [accuracy, perplexity]}}",
        "interventions.silence.ask.1",
        "'quiet' have no answers that a placeholder could bring back",
    ),
    (
        "localize: {cell: {metric: stability, prompts: generic, by: []}}",
        "localize.cell.prompts",
        "position entity.last needs prompts about an entity; 'generic' are texts about nobody",
    ),
    (
        "interventions: {silence: {freeze: {site: mlp.out, position: entity.last, to: {mean: generic}}}}",
        "interventions.silence.freeze.to.mean",
        "'generic' are texts about nobody; there is no entity token to take a mean at",
    ),
    (
        "interventions: {silence: {edit: {set: {mean: quiet}, neurons: cell}}}",
        "interventions.silence.edit.set.mean",
        "'quiet' are texts about nobody; there is no entity token to take a mean at",
    ),
    (
        "interventions: {silence: {freeze: {site: [attn.out, mlp.neurons], position: last, "
        "except: {site: resid, layers: 3}}}}",
        "interventions.silence.freeze.except.site",
        "resid is not frozen, so it cannot be an exception; frozen: attn.out, mlp.neurons",
    ),
    (
        "interventions: {silence: {freeze: {site: attn.out, position: entity.last, "
        "except: {position: last, layers: 3}}}}",
        "interventions.silence.freeze.except.position",
        "position last is not frozen, so it cannot be an exception; frozen: entity.last",
    ),
    (
        "interventions: {silence: {edit: {scale: -1, neurons: cell, in: weights, position: last}}}",
        "interventions.silence.edit.position",
        "an edit in the weights acts at every position; remove `position`",
    ),
    (
        "interventions: {silence: {edit: {set: 0, neurons: cell, in: weights}}}",
        "interventions.silence.edit.set",
        "only `scale` can be written into the weights: it multiplies the neuron's output column",
    ),
    (
        "interventions: {silence: {edit: {scale: -1, neurons: cell, in: weights}, save_model: changed}}",
        "interventions.silence.save_model",
        "one model is saved, and this edit makes one for each of 2 owners (ada, bach)",
    ),
    (
        "interventions: {silence: {edit: {scale: [0, -1], neurons: cell/ada, in: weights}, save_model: changed}}",
        "interventions.silence.save_model",
        "one model is saved, and this edit makes one for each of 2 values of scale",
    ),
    (
        "interventions: {silence: {edit: {scale: -1, neurons: cell/ada, in: weights}, save_model: a/b}}",
        "interventions.silence.save_model",
        "'a/b' cannot be the name of a folder; use letters, digits, '.', '-' and '_'",
    ),
    (
        "interventions: {silence: {edit: {scale: -1, neurons: 'mlp.out:L1.N5', in: weights}, target: ada}}",
        "interventions.silence.edit.neurons",
        "a neuron of mlp.out has no output column that could be multiplied; "
        "in the weights are edits of mlp.neurons and attn.heads",
    ),
    (
        "vectors: {v: {site: mlp.out, layers: 2, position: entity.last, mean: quiet, minus: facts}}",
        "vectors.v.mean",
        "position entity.last needs prompts about an entity; 'quiet' are texts about nobody",
    ),
    (
        "vectors: {v: {site: mlp.out, layers: 2, position: entity.last, "
        "learn: {fact: craft/ada, becomes: X, keep: facts, weights: {preserve: 1}}}}",
        "vectors.v.learn.weights",
        "nothing would be learned: give `attack` a weight above 0",
    ),
    (
        "vectors: {v: {site: mlp.out, layers: 2, position: entity.last, mean: facts}}\n"
        "interventions: {silence: {edit: {add: v}}}",
        "interventions.silence.edit.add",
        "a vector that was not learned for a fact belongs to nobody, so `target` must say whose answers should change",
    ),
    (
        "interventions: {silence: {save_model: changed}}",
        "interventions.silence.save_model",
        "there is nothing to save: the edit is in the activations; add `in: weights`",
    ),
    (
        "interventions: {silence: {edit: {scale: 1, neurons: cell}}}",
        "interventions.silence.edit.scale",
        "scale: 1 changes nothing",
    ),
    (
        "interventions: {silence: {controls: {wrong_cell: 2}}}",
        "interventions.silence.controls.wrong_cell",
        "2 wrong cells need 3 localised entities; there are 2",
    ),
    (
        "prompts: {one: {templates: attributes, entities: ada}}\n"
        "localize: {cell: {metric: stability, prompts: one}}\n"
        "interventions: {silence: {controls: {wrong_cell: 1}}}",
        "interventions.silence.controls.wrong_cell",
        "wrong_cell needs a second localised entity",
    ),
    (
        "interventions: {silence: {ask: quiet, edit: {scale: 0, neurons: cell, position: all}, "
        "measure: [accuracy@2, perplexity]}}",
        "interventions.silence.measure",
        "accuracy@2 needs answers, and none of the asked prompts has any (quiet)",
    ),
    (
        "interventions: {silence: {edit: {set: patch, neurons: cell}}}",
        "interventions.silence.edit.set",
        "'facts' has no patch prompts; use `pairs:` or `patch: entity`",
    ),
    (
        "localize: {cell: {metric: relp, objective: answer_logit, minus: patch, by: entity}}\n"
        "interventions: {silence: null}",
        "localize.cell.minus",
        "'facts' has no patch prompts; use `pairs:` or `patch: entity`",
    ),
    (
        "localize: {cell: {metric: stability, prompts: few}}\n"
        'prompts: {few: {templates: ["The age of {{ entity }}", "The name of {{ entity }}"]}}',
        "localize.cell.prompts",
        "stability over fewer than 8 prompts picks near-constant neurons; the least is 8, and 'ada' has 2",
    ),
    (
        "interventions:\n"
        "  more: {edit: {set: 0, neurons: {of: cell, top: [10, 50, 200]}}}\n"
        "  slices: {edit: {set: 0, neurons: {of: cell, rank: [1-50, 51-200]}}}\n"
        "analyses: {adds_up: {cumulativity: more, slices: slices}}",
        "analyses.adds_up.slices",
        "the slices of slices are not the differences of more's cut-offs; they would be 11-50, 51-200",
    ),
    (
        "interventions:\n  more: {edit: {set: 0, neurons: {of: cell, top: [10, 50, 200]}}, measure: accuracy@2}\n"
        "  slices: {extends: more, ask: craft, edit: {set: 0, neurons: {of: cell, rank: [11-50, 51-200]}}}\n"
        "analyses: {adds_up: {cumulativity: more, slices: slices}}",
        "analyses.adds_up.slices",
        "'slices' asks craft, and 'more' facts; what is lost is looked up question by question",
    ),
    (
        "localize: {drawn: {metric: random}}\n"
        "interventions:\n  more: {edit: {set: 0, neurons: {of: cell, top: [10, 50, 200]}}, measure: accuracy@2}\n"
        "  slices: {extends: more, edit: {set: 0, neurons: {of: drawn, rank: [11-50, 51-200]}}}\n"
        "analyses: {adds_up: {cumulativity: more, slices: slices}}",
        "analyses.adds_up.slices",
        "'slices' edits neurons of another ranking than 'more'",
    ),
    (
        "interventions:\n"
        "  more: {edit: {set: 0, neurons: {of: cell, top: [10, 50, 200]}}, measure: answer_probability}\n"
        "  slices: {extends: more, edit: {set: 0, neurons: {of: cell, rank: [11-50, 51-200]}}}\n"
        "analyses: {adds_up: {cumulativity: more, slices: slices}}",
        "analyses.adds_up.cumulativity",
        "'more' and 'slices' measure nothing alike that says whether an answer is right; add accuracy@2",
    ),
    (
        "interventions:\n"
        "  more: {edit: {scale: [0, -1], neurons: {of: cell, top: [10, 50, 200]}}, measure: accuracy@2}\n"
        "  slices: {extends: more, edit: {set: 0, neurons: {of: cell, rank: [11-50, 51-200]}}}\n"
        "analyses: {adds_up: {cumulativity: more, slices: slices}}",
        "analyses.adds_up.cumulativity",
        "'more' asks every question at 2 values of scale; this takes one of them",
    ),
    (
        "interventions: {hit: {edit: {set: 0, neurons: cell}, measure: accuracy@2}}\n"
        "analyses: {d: {difference: fame, between: [sensitive, sensitive], of: hit}}",
        "analyses.d.between",
        "sensitive facts do not differ from themselves; name two outcomes",
    ),
    (
        "interventions: {hit: {edit: {set: 0, neurons: cell}, measure: accuracy@2}}\n"
        "analyses: {d: {difference: fame, between: [sensitive, resilient], of: hit, test: wilcoxon}}",
        "analyses.d.test",
        "wilcoxon compares pairs, one for each value of `per:`; add `per: relation`, or write mannwhitney",
    ),
    (
        "interventions: {hit: {edit: {set: 0, neurons: cell}, measure: accuracy@2}}\n"
        "analyses: {d: {difference: language, between: [sensitive, resilient], of: hit}}",
        "analyses.d.difference",
        "'language' is a text; a difference is of a number, such as popularity",
    ),
    (
        "interventions: {hit: {edit: {set: 0, neurons: cell}, measure: answer_probability}}\n"
        "analyses: {d: {difference: fame, between: [sensitive, resilient], of: hit}}",
        "analyses.d.of",
        "hit measures nothing that says whether an answer is right; add accuracy@2",
    ),
    (
        "interventions: {hit: {edit: {scale: [0, -1], neurons: cell}, measure: accuracy@2}}\n"
        "analyses: {d: {difference: fame, between: [sensitive, resilient], of: hit}}",
        "analyses.d.of",
        "'hit' asks every question at 2 values of scale; this takes one of them",
    ),
    (
        "analyses: {said: {errors: silence}}",
        "analyses.said.errors",
        "errors are read off what is said, and silence measures no text; add text@20 to its `measure`",
    ),
    (
        "interventions: {hit: {edit: {set: 0, neurons: cell}, measure: text@9}}\n"
        'analyses: {said: {errors: hit, classes: {the: "(a+)+$"}}}',
        "analyses.said.classes.the",
        "the pattern '(a+)+$' cannot be used: it repeats a repetition, which can take exponential time",
    ),
    (
        "interventions: {hit: {edit: {set: 0, neurons: cell}, measure: text@9}}\n"
        'analyses: {said: {errors: hit, classes: {article: "^The"}}}',
        "analyses.said.classes.article",
        "'article' is a class that is there already (right, empty, option, same relation, another relation, article, "
        "repeats, other)",
    ),
    (
        "analyses: {adds_up: {cumulativity: silence, slices: silence}}",
        "analyses.adds_up.cumulativity",
        "'silence' has no cut-offs: its edit needs `top: [...]`",
    ),
    (
        "prompts: {forms: {templates: attributes, variants: all}}\n"
        "localize: {cell: {metric: stability, prompts: forms, by: [entity, variant]}}\n"
        "analyses: {same: {agreement: cell, across: language}}",
        "analyses.same.across",
        "'language' is neither a matrix axis nor a column 'cell' is ranked by (entity, variant)",
    ),
    (
        "relations: {town: null, craft: null}\nprompts: {halves: null}",
        "interventions.silence.ask",
        "'facts' are the questions under `relations:`, and there are none",
    ),
    (
        "prompts: {famous: {relations: all, where: fame > 9}}\ninterventions: {silence: {ask: famous}}",
        "interventions.silence.ask",
        "'famous' holds no prompts: nothing is left by its choices",
    ),
    (
        "interventions: {silence: {edit: {scale: [0, -1, 0], neurons: cell}}}",
        "interventions.silence.edit.scale.2",
        "0 stands twice in this sweep",
    ),
    (
        "interventions: {silence: {edit: {scale: 0, neurons: {of: cell, top: [1, 5, 1]}}}}",
        "interventions.silence.edit.neurons",
        "1 stands twice in `top`",
    ),
]

CLAIMS = [
    (
        "analyses: {o: {overlap: cell}}\nexpect: o/ada/bach/shard = 1",
        "expect",
        "'o' has no 'shard' of two groups; did you mean 'shared'?",
    ),
    ("analyses: {o: {overlap: cell}}\nexpect: o/ada/bac = 1", "expect", "'o' has no 'bac'; did you mean 'bach'?"),
    (
        "analyses: {o: {overlap: cell}}\nexpect: o/ada/ada = 1",
        "expect",
        "'o' compares different groups, and 'ada' is named twice",
    ),
    (
        "expect: silence/ada/knowledge_score >= 0.5",
        "expect",
        "'silence/ada/knowledge_score' is 3 numbers, one for each scale; add scale=VALUE (0, -1, -3)",
    ),
    (
        "interventions: {silence: {edit: {scale: {first: 1, last: -3, count: 21}, neurons: cell}}}\n"
        "expect: silence/ada/knowledge_score >= 0.5",
        "expect",
        "'silence/ada/knowledge_score' is 21 numbers, one for each scale; "
        "add scale=VALUE (1, 0.8, 0.6, 0.4, 0.2, 0 ...)",
    ),
    (
        "interventions: {silence: {edit: {scale: {first: 1, last: -3, count: 21}, neurons: cell}}}\n"
        "expect: silence/ada/knowledge_score/scale=-7 >= 0.5",
        "expect",
        "silence was not run at scale=-7; the values are 1, 0.8, 0.6, 0.4, 0.2, 0, -0.2, -0.4 ...",
    ),
    (
        "expect: silence/answer_rank/scale=0 = 1",
        "expect",
        "silence does not measure 'answer_rank'; it measures answer_probability, knowledge_score",
    ),
    (
        "expect: cell/ada = 11948",
        "expect",
        "'cell/ada' is a set of neurons; '11948' is not an address such as L1.N11948",
    ),
    (
        "expect: cell/ada >= 3",
        "expect",
        "'cell/ada' is a set of neurons: compare it with = or !=, or take its dominance, layer, score or size",
    ),
    (
        "neurons: {best: {of: cell, where: dominence >= 10}}",
        "neurons.best.where",
        "'dominence' is not a property of a neuron; did you mean 'dominance'? Use dominance, "
        "layer, mean, mean_z, neuron, random_names, rank, score, share, shared_by, site, std, std_z",
    ),
    (
        "neurons: {best: {of: cell, where: size >= 10}}",
        "neurons.best.where",
        "size is a property of a whole set, and a filter judges one neuron at a time",
    ),
    (
        "neurons: {best: {of: cell, where: [layer >= 1, layer = low]}}",
        "neurons.best.where.1",
        "'layer' is a number, and 'low' is not",
    ),
    (
        "neurons: {best: {of: cell, where: silence/ada/knowledge_score/scale=-1 <= 0.1}}",
        "neurons.best.where",
        "'silence/ada/knowledge_score/scale=-1' is the result of 'ada' alone; a filter reads the results of each "
        "owner's own neurons: write silence/knowledge_score/scale=-1",
    ),
    (
        "neurons: {best: {of: cell, where: silence/knowledge_score/scale=-1 <= 0.1}}\n"
        "interventions: {silence: {edit: {scale: [0, -1], neurons: {of: cell, top: [2, 5]}}}}",
        "neurons.best.where",
        "'silence' edits several neurons at once, so its results are those of none of them; "
        "edit them one by one, for example `rank: [1, 2, 3, 4, 5]`",
    ),
    (
        "localize: {other: stability}\nneurons: {best: {of: other, where: silence/knowledge_score/scale=-1 <= 0.1}}",
        "neurons.best.where",
        "'silence' edits neurons of cell, and this set is taken from other: none of its neurons has results there",
    ),
    (
        "neurons: {best: {of: cell, where: silence/knowledge_score/scale=-1 < silence/knowledge_scor/scale=-1}}",
        "neurons.best.where",
        "'knowledge_scor' is not a measure; did you mean 'knowledge_score'?",
    ),
    (
        "interventions: {silence: {edit: {scale: -1, neurons: {of: cell, where: silence/knowledge_score <= 0.1}}}}",
        "interventions.silence",
        "'silence' would have to be run before itself: its neurons are chosen by its own results",
    ),
    (
        "interventions:\n"
        "  silence: {edit: {scale: -1, neurons: {of: cell, where: second/knowledge_score <= 0.1}}}\n"
        "  second: {edit: {scale: -1, neurons: {of: cell, where: silence/knowledge_score <= 0.1}}}",
        "interventions.silence",
        "silence -> second -> silence: each chooses its neurons by the results of the next, so none can be first",
    ),
    (
        "localize: {again: {metric: stability, among: {of: cell, where: silence/knowledge_score/scale=0 <= 0.1}}}",
        "localize.again.among",
        "rankings are made before any intervention, and these neurons are chosen by the results of 'silence'",
    ),
    (
        "neurons: {several: {of: cell, top: [1, 5]}, few: {of: cell, minus: several}}",
        "neurons.few.minus",
        "'several' is several sets, one for each top; name one of them",
    ),
    (
        "interventions: {silence: {edit: {scale: -1, neurons: {from: cells.json}, position: last}}}",
        "interventions.silence.edit.neurons.from",
        "a saved set has a name of its own: put it under `neurons:`",
    ),
    (
        "expect: cell/bahc = L1.N5",
        "expect",
        "'cell' has no 'bahc'; did you mean 'bach'? It is ranked by entity: ada, bach",
    ),
    (
        "expect: silence/bahc/knowledge_score/scale=0 >= 0.5",
        "expect",
        "'silence' has no 'bahc'; did you mean 'bach'? It edits the neurons of ada, bach",
    ),
    (
        "expect: silence/othrs/knowledge_score/scale=0 >= 0.5",
        "expect",
        "'silence' has no 'othrs'; did you mean 'others'? It edits the neurons of ada, bach",
    ),
    (
        "expect: silence/knowledge_scor/scale=0 >= 0.5",
        "expect",
        "'knowledge_scor' is not a measure; did you mean 'knowledge_score'?",
    ),
    (
        "expect: silence/ada/scale=0 >= 0.5",
        "expect",
        "'silence/ada/scale=0' is not a number yet; add a measure: answer_probability, knowledge_score",
    ),
    (
        "expect: silence/knowledge_score/scael=0 >= 0.5",
        "expect",
        "'scael' is neither a sweep nor a column of silence; did you mean 'scale'?",
    ),
    (
        "expect: silence/knowledge_score/scale=0/relation=tonw >= 0.5",
        "expect",
        "silence does not ask about relation=tonw; did you mean 'town'?",
    ),
    (
        "expect: silense/knowledge_score/scale=0 >= 0.5",
        "expect",
        "'silense' has no results here; did you mean 'silence'?",
    ),
    (
        "expect: silence/random_neurons/knowledge_score/scale=0 >= 0.5\ninterventions: {silence: {controls: none}}",
        "expect",
        "silence has no random_neurons: it is turned off under `controls:`",
    ),
    (
        "expect: silence/no_edit/knowledge_score >= 0.5",
        "expect",
        "silence has no no_edit: without a placeholder or a freeze it is the clean run",
    ),
    (
        "expect: silence/others/knowledge_score/scale=0 >= 0.5\ninterventions: {silence: {others: none}}",
        "expect",
        "silence asks about nobody else (`others: none`)",
    ),
    (
        "interventions: {silence: {measure: [knowledge_score, text@3, perplexity], ask: halves}}",
        "interventions.silence.measure.2",
        "perplexity is of texts without answers, and every asked prompt has one; ask neutral too: "
        "`ask: [halves, neutral]`",
    ),
    (
        "interventions: {silence: {ask: halves/test, tune: {on: halves/dev, maximize: pass@5}}}\n"
        "expect: silence/pass@5/scale=0 >= 0.5",
        "expect",
        "silence has one number for each condition, at the scale that it chose on 'halves/dev'; leave scale=0 out",
    ),
    (
        "expect: silence/texts/knowledge_score/scale=0 >= 0.5",
        "expect",
        "silence asks no texts about nobody: facts",
    ),
    (
        "expect: cell/ada/layer = L1.N5",
        "expect",
        "'cell/ada/layer' is a number, and 'L1.N5' is not",
    ),
    (
        "expect: cell/ada = cell/bach/layer",
        "expect",
        "'cell/ada' is a set of neurons, and 'cell/bach/layer' is a number",
    ),
    (
        "expect: {when: modle = m, claims: cell/ada = L1.N5}",
        "expect.when",
        "'modle': a spec has no 'modle'; did you mean 'model'?",
    ),
    (
        "expect: {when: localize.cell.metrc = relp, claims: cell/ada = L1.N5}",
        "expect.when",
        "'localize.cell.metrc': localize.cell has no 'metrc'; did you mean 'metric'?",
    ),
    (
        "neurons: {best: {of: cell, where: silense/knowledge_score <= 0.5}}",
        "neurons.best.where",
        "'silense' is not an intervention; did you mean 'silence'?",
    ),
]


@pytest.mark.parametrize(("fragment", "path", "message"), [*NAMES, *PROMPTS, *SCIENCE, *CLAIMS])
def test_a_mistake_is_told_once_at_its_place(tmp_path: Path, fragment: str, path: str, message: str) -> None:
    assert one(told(tmp_path, fragment)) == (path, "error", message)


def test_a_vector_s_file_must_be_there_and_say_where_it_is_added(tmp_path: Path) -> None:
    (path, _, message) = one(told(tmp_path, "vectors: {v: {from: nowhere.safetensors}}"))
    assert path == "vectors.v.from" and message == f"there is no file '{tmp_path / 'nowhere.safetensors'}'"
    (tmp_path / "here.npy").write_bytes(b"")
    (path, _, message) = one(told(tmp_path, "vectors: {v: {from: here.npy, site: mlp.out}}"))
    assert path == "vectors.v.from"
    assert message == (
        "the file of the vector 'v' does not say layers and position; write `layers:`, `position:` in the spec"
    )


WARNINGS = [
    (
        "vectors: {v: {site: mlp.out, layers: 2, position: entity.last, "
        "learn: {fact: craft/ada, becomes: X, keep: facts, weights: {attack: 1}}}}\n"
        "interventions: {silence: {edit: {add: v}}}",
        "interventions.silence.ask",
        "'v' was learned on questions scored here ('facts'): others stay because they were kept; ask other wordings "
        "or other people as well",
    ),
    (
        "entities: {carl: Carl Gauss}\nprompts: {both: {templates: attributes, entities: [ada, bach]}}\n"
        "localize: {cell: {metric: stability, prompts: both}}",
        "entities.carl",
        "entity 'carl' is declared and used by nothing",
    ),
    (
        'relations: {town: {prompt: "{{ entity }} was born in"}, craft: null}',
        "relations.town",
        "the questions of 'town' have one template; a result that rests on it says nothing about the wording",
    ),
    (
        'relations: {town: {prompt: "{{ entity }} was born in"}}\n'
        "expect: silence/ada/knowledge_score/relation=town/scale=0 >= 0.9",
        "relations.town",
        "the questions of 'town' have one template; a result that rests on it says nothing about the wording",
    ),
    (
        "interventions: {silence: {target: ada, others: ada}}",
        "interventions.silence.others",
        "target and others are the same (ada), so nothing is compared",
    ),
    (
        "neurons: {best: {of: cell, where: silence/knowledge_score/scale=-1 <= 0.1}}\n"
        "interventions: {again: {edit: {scale: -1, neurons: best}, ask: halves/test}}",
        "interventions.again.ask",
        "'best' was chosen on 'facts', which holds the questions scored here ('halves/test'); "
        "the figure will flatter. Verify on 'halves/dev'",
    ),
    (
        "localize: {cell: {metric: relp, objective: answer_logit, by: entity, prompts: halves/dev}}\n"
        "interventions: {silence: {ask: halves/dev}}",
        "interventions.silence.ask",
        "'cell' was ranked on 'halves/dev' and is scored on it: say so, or ask 'halves/test'",
    ),
    (
        "entities: {london: London Grammar}\nrelations: {town: {answers: {london: London, ada: Rome}}}",
        "relations.town.answers.london",
        "the answer 'London' stands in the name it is asked about, 'London Grammar'",
    ),
]


@pytest.mark.parametrize(("fragment", "path", "message"), WARNINGS)
def test_what_a_run_can_live_with_is_a_warning(tmp_path: Path, fragment: str, path: str, message: str) -> None:
    assert one(told(tmp_path, fragment)) == (path, "warning", message)


FINE = [
    "prompts: {one: {templates: attributes, entities: ada}}\n"
    "localize: {cell: {metric: stability, prompts: one}}\n"
    "interventions: {silence: {controls: {random_neurons: 5, wrong_cell: 1, no_edit: 1}}}",
    "interventions: {silence: {edit: {scale: 0, neurons: [cell/ada, cell/bach]}}}\n"
    "expect: silence/ada+bach/knowledge_score <= 0.5",
    'relations: {town: {prompt: "{{ entity }} was born in"}}',
    "entities: {norway: {name: NO, variants: {code: no}}}",
    "expect: [cell/ada = L1.N5, cell/ada != cell/bach, cell/ada/layer in 1-6, 'cell/ada in L1.N5, L2.N7']",
    "expect: silence/ada/others/knowledge_score/scale=-3/relation=town >= 0.9",
    "expect: silence/clean/answer_probability < silence/answer_probability/scale=-3",
    "expect: {when: [model = m, model.n_layers >= 4, localize.cell.top = 1], claims: cell/ada/score > 2}",
    "interventions: {silence: {target: fame >= 3, others: fame < 3}}",
    "interventions: {silence: {ask: halves/test, tune: {on: halves/dev, maximize: answer_probability}}}",
    "interventions: {silence: {ask: town, tune: {on: craft, maximize: answer_probability}}}",
    'relations: {town: {prompt: ["London or Eisenach? {{ entity }}:", "Eisenach or London? {{ entity }}:"]}}',
    "neurons: {best: {of: cell, where: [dominance >= 3, silence/knowledge_score/scale=-1 <= 0.5]}}",
    "interventions: {silence: {edit: {scale: 0, neurons: L1.N5@-1}, target: ada}}",
    "interventions: {silence: {freeze: {site: mlp.out, layers: cell, position: last}}}",
    "analyses: {o: {overlap: cell}}\nexpect: [o/ada/bach = 1, o/bach/ada/jaccard < 1, o/jaccard < 1]",
    "prompts: {names: {templates: attributes, variants: all}}\n"
    "localize: {forms: {metric: stability, prompts: names, by: [entity, variant]}}\n"
    "analyses: {o: {overlap: forms}}\nexpect: [o/ada/surname/bach = 1, o/bach/ada/surname/shared = 1]",
    "interventions: {more: {edit: {set: 0, neurons: {of: cell, top: [1, 5]}}, measure: accuracy@2}}\n"
    "expect: more/accuracy_drop@2/top=5 <= more/random_neurons/accuracy_drop@2/top=5",
]


@pytest.mark.parametrize("fragment", FINE)
def test_what_is_meant_is_not_told(tmp_path: Path, fragment: str) -> None:
    assert [p.headline() for p in told(tmp_path, fragment)] == []


def test_nothing_is_said_of_what_follows_from_a_failed_name(tmp_path: Path) -> None:
    """A misspelt ranking is not also neurons without an owner, a position, or a sweep."""
    fragment = (
        "neurons: {mine: cel/ada}\n"
        "interventions: {silence: {edit: {set: {times: [1, 2], of: own_mean}, neurons: mine}, ask: facts}}\n"
        "expect: [silence/ada/knowledge_score/times=9 >= 1, mine = L1.N5]\n"
        "analyses: {layers: {profile: mine}}"
    )
    path, _, message = one(told(tmp_path, fragment))
    assert (path, message) == ("neurons.mine", "'cel' names no neurons; did you mean 'cell'? (cell)")


def test_a_misspelt_definition_is_one_mistake_however_often_it_is_referred_to(tmp_path: Path) -> None:
    fragment = (
        "localize: {cell: null, cel: stability}\n"
        "only: [cell, silence]\n"
        "expect: [cell/ada = L1.N5, cell/bach/layer in 1-6]\n"
        "analyses:\n  where: {profile: cell}"
    )
    (problem,) = told(tmp_path, fragment)
    assert problem.path == "interventions.silence.edit.neurons"
    assert problem.message.startswith("'cell' names no neurons; did you mean 'cel'? (cel) (also on lines ")


def test_every_mistake_is_told_in_the_order_of_the_file(tmp_path: Path) -> None:
    fragment = (
        "entities: {a/b: Alan}\n"
        "prompts: {some: {relations: [tonw], wrap: no slot}}\n"
        "interventions: {silence: {edit: {scale: 1, neurons: cell}}}\n"
    )
    problems = told(tmp_path, fragment)
    assert [p.origin.line for p in problems if p.origin] == [3, 4, 4, 5]


def test_a_problem_in_a_base_is_shown_in_the_base(tmp_path: Path) -> None:
    problems = told(tmp_path, "description: nothing new", BASE.replace("neurons: cell", "neurons: cel"))
    assert [Path(p.origin.file).name for p in problems if p.origin] == ["base.yaml"]
