"""A made-up study of relation neurons: rows as a run gives them, put through the summaries, analyses and sentences.

No model: who is right is drawn, so that what is derived from rows can be seen and judged before anything is run.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import cache
from itertools import pairwise

from runner.analyse import analyse
from runner.analyses import Findings
from runner.majority import majority_answers
from runner.observe import Asked, Observation, Row
from runner.sentence import answer
from runner.summaries import count_asked, summarise
from specs.language.experiment import Experiment
from specs.language.references import Address, parse_address
from specs.language.results import InterventionResult, ModelFacts, RankedNeuron, Ranking, RankingGroup, Results
from tests.runner.sample_results import sample

RELATIONS = (
    "company_ceo",
    "landmark_in_country",
    "landmark_on_continent",
    "person_father",
    "person_mother",
    "person_occupation",
)
TOPS = (10, 50, 200, 500, 1000, 3000, 10000, 20000, 50000)
SLICES = tuple(f"{a + 1}-{b}" for a, b in pairwise(TOPS))
ANSWERS = {
    "company_ceo": ["Tim Cook", "Satya Nadella", "Elon Musk", "Mary Barra"],
    "landmark_in_country": ["France", "Italy", "Egypt", "Peru", "India"],
    "landmark_on_continent": ["Europe", "Europe", "Europe", "Asia", "Africa"],
    "person_father": ["Philip", "Leopold", "John", "Charles"],
    "person_mother": ["Mary", "Anna", "Elizabeth", "Olympias"],
    "person_occupation": ["actor", "actor", "politician", "physicist"],
}
QUESTIONS = 20
DRAWS = 4
LAYERS, WIDTHS = 30, {"mlp.gate": 1536, "mlp.up": 1536, "mlp.out": 576}


def spec() -> Experiment:
    """The experiment, of which analyses read entities, relations, interventions and analyses."""
    entities = {f"e{n}": {"name": f"Entity {n}", "attributes": {"frequency": 10 + n * n}} for n in range(QUESTIONS)}
    relations = {
        name: {
            "prompt": f"The {name} of {{{{ entity }}}} is",
            "answers": {f"e{n}": ANSWERS[name][n % len(ANSWERS[name])] for n in range(QUESTIONS)},
        }
        for name in RELATIONS
    }
    edit = {"edit": {"set": 0, "neurons": "relation"}, "measure": ["accuracy@2", "accuracy", "perplexity"]}
    return Experiment.model_validate(
        {
            "version": 1,
            "name": "relation-neurons",
            "description": "Neurons that serve a relation whatever the entity.",
            "model": "tiny",
            "entities": entities,
            "relations": relations,
            "localize": {
                "relation": {"metric": "average_precision", "by": "relation", "site": list(WIDTHS), "top": 3000}
            },
            "interventions": {
                "ablation": edit,
                "more": {"edit": {"set": 0, "neurons": {"of": "relation", "top": list(TOPS)}}, "measure": "accuracy@2"},
                "slices": {
                    "edit": {"set": 0, "neurons": {"of": "relation", "rank": list(SLICES)}},
                    "measure": "accuracy@2",
                },
                "answers": {"edit": {"set": 0, "neurons": "relation"}, "measure": "text@20"},
            },
            "analyses": {
                "drops": {"pivot": "ablation", "rows": "asked", "columns": "edited", "value": "accuracy_drop@2"},
                "overlap": {"overlap": "relation"},
                "layers": {"profile": "relation"},
                "cumulativity": {"cumulativity": "more", "slices": "slices"},
                "frequency": {
                    "difference": "frequency",
                    "between": ["sensitive", "resilient"],
                    "of": "ablation",
                    "per": "relation",
                    "test": "wilcoxon",
                },
                "errors": {"errors": "answers", "classes": {"hedge": "^(I don't know|It depends)"}},
            },
        }
    )


class _Asking:
    """Who is right on what: the same question gets harder as more is edited, and by the same draw everywhere."""

    def __init__(self) -> None:
        draw = random.Random(1)
        self.hard = {(r, n): draw.random() for r in RELATIONS for n in range(QUESTIONS)}
        self.chance = random.Random(2)

    def right(self, relation: str, n: int, strength: float) -> float:
        return float(self.hard[relation, n] + strength + self.chance.gauss(0, 0.04) < 0.8)


def rows(experiment: Experiment) -> dict[str, list[Row]]:
    """The rows of each intervention."""
    asking = _Asking()
    found: dict[str, list[Row]] = {name: [] for name in experiment.interventions}

    def ask(of: str, edited: str, relation: str, n: int, condition: str, strength: float, axes=None, draw=0) -> Row:
        texts = experiment.relations[relation].answers[f"e{n}"]
        hit = asking.right(relation, n, strength)
        values: dict[str, float | str | None] = {}
        if of == "answers":
            wrong = [" The", f" {ANSWERS[relation][(n + 1) % 3]}", " A. of", " It depends", " Paris, France", ""]
            values["text@20"] = f" {texts[0]}, and" if hit else wrong[n % len(wrong)]
        else:
            values |= {"accuracy@2": hit, "accuracy": hit * (n % 7 > 0)}
            if of == "ablation":
                values["perplexity"] = None
        return Row(
            Asked(
                intervention=of,
                edited=edited,
                condition=condition,  # type: ignore[arg-type]
                draw=draw,
                role="target" if edited == relation else "others",
                axes=axes or {},
                prompt_id=RELATIONS.index(relation) * 1000 + n,
                prompt=f"The {relation} of Entity {n} is? Answer:",
                entity=f"e{n}",
                relation=relation,
                answers=tuple(texts),
                columns=dict(experiment.entities[f"e{n}"].attributes),
            ),
            Observation(),
            values=values,
            reasons={"perplexity": "it is a measure of texts without answers"},
        )

    for i, edited in enumerate(RELATIONS):
        for j, relation in enumerate(RELATIONS):
            own = edited == relation
            near = {edited, relation} == {"person_father", "person_mother"}
            strength = 0.45 if own else 0.25 if near else 0.03 * ((i + j) % 3) - 0.02
            for n in range(QUESTIONS):
                found["ablation"].append(ask("ablation", edited, relation, n, "clean", 0))
                found["ablation"].append(ask("ablation", edited, relation, n, "edit", strength))
                found["more"].append(ask("more", edited, relation, n, "clean", 0))
                for k, top in enumerate(TOPS):
                    grown = strength * k / 5
                    found["more"].append(ask("more", edited, relation, n, "edit", grown, {"top": float(top)}))
                if not own:
                    continue
                for draw in range(DRAWS):
                    found["ablation"].append(ask("ablation", edited, relation, n, "random_neurons", 0.02, draw=draw))
                for k, ranks in enumerate(SLICES):
                    found["slices"].append(ask("slices", edited, relation, n, "edit", 0.03 * k, {"rank": ranks}))
                found["answers"].append(ask("answers", edited, relation, n, "clean", 0))
                found["answers"].append(ask("answers", edited, relation, n, "edit", strength))
    found["ablation"] += _texts()
    return found


def _texts() -> Iterator[Row]:
    """Neutral sentences under every edit: their perplexity hardly moves."""
    for edited in RELATIONS:
        for n in range(10):
            for condition, draws in (("clean", 1), ("edit", 1), ("random_neurons", DRAWS)):
                for draw in range(draws):
                    moved = {"clean": 0.0, "edit": 0.4, "random_neurons": 0.2 + 0.05 * draw}[condition]
                    asked = Asked("ablation", edited, condition, draw, "texts", {}, 9000 + n, f"A plain sentence {n}.")  # type: ignore[arg-type]
                    values = {"accuracy@2": None, "accuracy": None, "perplexity": 20.0 + n + moved}
                    reasons = dict.fromkeys(("accuracy@2", "accuracy"), "the prompt has no answer")
                    yield Row(asked, Observation(), values=values, reasons=reasons)


class Whole:
    """A whole ranking, as far as an analysis reads it: how many neurons it is over."""

    @staticmethod
    def widths() -> dict[tuple[str, int], int]:
        return {(site, layer): width for site, width in WIDTHS.items() for layer in range(LAYERS)}


def _group(key: str, number: int) -> RankingGroup:
    draw = random.Random(1000 + number // 2 if key.startswith("person_") and number < 5 else number)
    places: dict[str, None] = {}
    while len(places) < 3000:
        site = draw.choices(list(WIDTHS), [4, 3, 2])[0]
        layer = min(LAYERS - 1, max(0, round(draw.gauss(13 + number, 4))))
        places[str(Address(site, layer, draw.randrange(WIDTHS[site])))] = None
    own = random.Random(number)
    chosen = list(places)
    own.shuffle(chosen)
    chosen = chosen[:2400] + [str(Address("mlp.up", 29, n)) for n in range(number * 200, number * 200 + 600)]
    neurons = []
    for rank, text in enumerate(chosen[:20], start=1):
        a = parse_address(text)
        assert a is not None
        neurons.append(
            RankedNeuron(rank=rank, address=text, site=a.site, layer=a.layer, neuron=a.neuron, score=1 - rank / 100)
        )
    return RankingGroup(key=key, label=key, n_prompts=60, n_candidates=LAYERS * 3648, neurons=neurons, chosen=chosen)


@cache
def study() -> Results:
    """The whole result, with analyses and answer."""
    experiment = spec()
    asked = rows(experiment)
    groups = {key: _group(key, n) for n, key in enumerate(RELATIONS)}
    axes: dict[str, dict[str, list[float | str]]] = {
        "more": {"top": [float(t) for t in TOPS]},
        "slices": {"rank": list(SLICES)},
    }
    results = sample().model_copy(
        update={
            "name": experiment.name,
            "title": "Relation neurons",
            "description": experiment.description,
            "answer": "",
            "left_out": [],
            "warnings": [],
            "claims": [],
            "analyses": {},
            "model": ModelFacts.model_validate(sample().model.model_dump() | {"n_layers": LAYERS}),
            "rankings": {
                "relation": Ranking(
                    name="relation",
                    metric="average_precision",
                    site=", ".join(WIDTHS),
                    position="all (mean over tokens)",
                    by=["relation"],
                    prompts="facts",
                    groups=groups,
                )
            },
            "interventions": {
                name: _done(name, experiment, listed, axes.get(name, {}), groups) for name, listed in asked.items()
            },
        }
    )
    found = Findings(experiment, results, {"relation": Whole()}, asked)
    results.analyses = analyse(found)
    results.answer = answer(results)
    return results


def _done(
    name: str,
    experiment: Experiment,
    listed: list[Row],
    axes: dict[str, list[float | str]],
    groups: dict[str, RankingGroup],
) -> InterventionResult:
    measures = experiment.interventions[name].measure
    n_asked, n_known = count_asked(listed)
    return InterventionResult(
        name=name,
        title="zero ablation",
        edits=["set relation to 0 at all"],
        owners=list(RELATIONS),
        neurons={key: group.chosen for key, group in groups.items()},
        axes=axes,
        measures=measures,
        ask=["facts", "neutral"] if name == "ablation" else ["facts"],
        n_asked=n_asked,
        n_known=n_known,
        n_texts=10 if name == "ablation" else 0,
        known_rule="any",
        summaries=summarise(listed, measures, tuple(axes), 0),
        majority=majority_answers(listed),
        controls={"random_neurons": f"{DRAWS} draws" if name == "ablation" else "turned off"},
    )
