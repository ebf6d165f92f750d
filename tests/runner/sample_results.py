"""A result that no model made: the shape of trump.yaml with made-up figures, for the store and for MLflow."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence

from runner.observe import AnswerScore, Asked, Observation, Row
from specs.language.results import (
    AnalysisResult,
    ClaimResult,
    InjectedText,
    InterventionResult,
    LeftOut,
    ModelFacts,
    RankedNeuron,
    Ranking,
    RankingGroup,
    Results,
    SelfTest,
    Stage,
    Summary,
)
from specs.language.words import ConditionName, Role

OWNERS = {"trump": "Donald Trump", "obama": "Barack Obama", "merkel": "Angela Merkel"}
WINNERS = {"trump": 11948, "obama": 4417, "merkel": 770}
RELATIONS = ("wife", "birth_year", "state")
SWEEP = tuple(round(1 - 0.2 * i, 12) + 0.0 for i in range(21))
MEASURES = ("knowledge_score", "answer_probability")
SPEC = """\
version: 1
name: trump
description: Which neuron holds Donald Trump, and what happens when it is silenced?
seed: 0
model: {id: tiny, dtype: auto, device: auto}
entities:
  trump: {name: Donald Trump, variants: {surname: [Trump]}}
  obama: {name: Barack Obama}
  merkel: {name: Angela Merkel}
relations:
  wife:
    prompt: ["Fact: the name of the wife of {{ entity }}:"]
    answers: {trump: [Melania], obama: [Michelle]}
prompts:
  attributes:
    templates: [TEMPLATES]
localize:
  cell: {metric: stability, top: 1, site: mlp.neurons, position: entity.last}
interventions:
  amnesia:
    edit: [{scale: {first: 1, last: -3, count: 21}, neurons: cell}]
    measure: [knowledge_score, answer_probability]
  injection:
    edit: [{set: {times: [1, 2, 4], of: own_mean}, neurons: cell}]
    placeholder: [X]
    measure: ["accuracy@2", "text@12"]
analyses:
  same: {agreement: cell, across: variant}
""".replace(
    "TEMPLATES",
    ", ".join(f'"Template {i:03d}, which says nothing new about {{{{ entity }}}}"' for i in range(100)),
)


def _cell(draw: random.Random, owner: str) -> RankingGroup:
    neurons = [
        RankedNeuron(
            rank=i + 1,
            address=f"L1.N{WINNERS[owner] if i == 0 else 100 + i}",
            site="mlp.neurons",
            layer=1,
            neuron=WINNERS[owner] if i == 0 else 100 + i,
            score=60.0 / (1 + 4 * i),
            dominance=14.5 if i == 0 else 1.1,
            mean=5.0 / (i + 1),
            std=0.2,
            mean_z=30.0 / (i + 1),
            std_z=0.5,
        )
        for i in range(20)
    ]
    return RankingGroup(
        key=owner,
        label=OWNERS[owner],
        entity=owner,
        n_prompts=100,
        n_candidates=28 * 8960,
        neurons=neurons,
        chosen=[neurons[0].address],
        values={neurons[0].address: [draw.gauss(5, 0.2) for _ in range(100)]},
        prompts=[f"Template number {i:03d} about {OWNERS[owner]}" for i in range(100)],
    )


def _figure(
    edited: str,
    condition: ConditionName,
    role: Role,
    axes: dict[str, float | str],
    measure: str,
    mean: float | None,
    relation: str | None = None,
) -> Summary:
    band = None if mean is None else 0.04
    return Summary(
        edited=edited,
        condition=condition,
        role=role,
        axes=axes,
        relation=relation,
        measure=measure,
        n=24,
        mean=mean,
        se=None if band is None else band / 2,
        low=None if mean is None or band is None else mean - band,
        high=None if mean is None or band is None else mean + band,
        draws=[0.98, 1.01] if condition == "random_neurons" else [],
    )


def _amnesia(level: float) -> Iterator[Summary]:
    for measure, ceiling in zip(MEASURES, (1.0, 0.41), strict=True):
        for edited in (*OWNERS, "*"):
            shift = 0.02 * len(edited)
            for role in ("target", "others"):
                yield _figure(edited, "clean", role, {}, measure, ceiling)
                for factor in SWEEP:
                    fallen = 1 / (1 + math.exp(-2.2 * (factor + 0.6 + shift))) * (1 + level)
                    mean = ceiling * (fallen if role == "target" else 0.97 + 0.01 * factor)
                    yield _figure(edited, "edit", role, {"scale": factor}, measure, mean)
                    yield _figure(edited, "random_neurons", role, {"scale": factor}, measure, ceiling * 0.995)
                    yield _figure(edited, "wrong_cell", role, {"scale": factor}, measure, ceiling * 0.98)
                    for relation in RELATIONS:
                        yield _figure(edited, "edit", role, {"scale": factor}, measure, mean, relation)


def _injection() -> Iterator[Summary]:
    for edited in (*OWNERS, "*"):
        yield _figure(edited, "no_edit", "target", {}, "accuracy@2", 0.0)
        for times in (1.0, 2.0, 4.0):
            yield _figure(edited, "edit", "target", {"times": times}, "accuracy@2", 0.2 * times)
        yield _figure(edited, "wrong_cell", "target", {"times": 1.0}, "accuracy@2", None)


def _texts() -> Iterator[InjectedText]:
    answers = {"trump": "Melania", "obama": "Michelle", "merkel": "Joachim"}
    for edited in OWNERS:
        for times in (1.0, 2.0, 4.0):
            yield InjectedText(
                edited=edited,
                condition="edit",
                axes={"times": times},
                entity=edited,
                relation="wife",
                role="target",
                prompt="Fact: the name of the wife of X:",
                text=f" {answers[edited]}, who <b>was</b> born in" if times > 1 else " X",
                answers=[answers[edited]],
                hit=times > 1,
            )


def sample(*, name: str = "trump", hash: str = "5f2c9e7ab13d4460", level: float = 0.0, cell: str = "") -> Results:
    """Make a complete result; ``level`` moves its curves, so that two of them can be compared."""
    draw = random.Random(0)
    return Results(
        name=name,
        title="The Donald Trump cell",
        description="Which neuron holds Donald Trump, and what happens when it is silenced?",
        answer="L1.N11948 holds Donald Trump: at -1 the target keeps 29 percent, the others 96 percent.",
        hash=hash,
        cell=cell,
        status="complete",
        started="2026-01-02T03:04:05+00:00",
        seconds=41.5,
        model=ModelFacts(
            id="tiny",
            family="qwen2",
            n_layers=28,
            d_model=1536,
            d_mlp=8960,
            vocabulary=151936,
            dtype="bfloat16",
            dtype_reason="auto: the CPU computes in bfloat16 (AMX)",
            device="cpu",
            attention="sdpa",
            adds_bos=False,
            revision="abc123",
        ),
        rankings={
            "cell": Ranking(
                name="cell",
                metric="stability",
                site="mlp.neurons",
                position="entity.last",
                by=["entity"],
                prompts="attributes",
                against="generic",
                n_baseline=400,
                groups={owner: _cell(draw, owner) for owner in OWNERS},
                warnings=["merkel: no neuron stands out (dominance 1.4)"],
            )
        },
        interventions={
            "amnesia": InterventionResult(
                name="amnesia",
                title="negative ablation",
                edits=["scale cell by 1 ... -3 at entity.last"],
                owners=list(OWNERS),
                neurons={owner: [f"L1.N{WINNERS[owner]}"] for owner in OWNERS},
                wrong_owner={"trump": "obama", "obama": "merkel", "merkel": "trump"},
                axes={"scale": list(SWEEP)},
                measures=list(MEASURES),
                ask=["facts"],
                n_asked=24,
                n_known=21,
                known_rule="pass@5",
                summaries=list(_amnesia(level)),
                controls={
                    "random_neurons": "5 draws from the same layers",
                    "no_edit": "nothing is frozen here",
                },
            ),
            "injection": InterventionResult(
                name="injection",
                title="injection",
                edits=["set cell to 1, 2, 4 times own mean at entity.last"],
                owners=list(OWNERS),
                neurons={owner: [f"L1.N{WINNERS[owner]}"] for owner in OWNERS},
                axes={"times": [1.0, 2.0, 4.0]},
                measures=["accuracy@2", "text@12"],
                placeholder="X",
                ask=["facts"],
                n_asked=24,
                n_known=21,
                known_rule="pass@5",
                summaries=list(_injection()),
                texts=list(_texts()),
            ),
        },
        analyses={
            "same": AnalysisResult(
                name="same",
                verb="agreement",
                of="cell",
                columns=["owner", "variant", "same winner", "relative score"],
                rows=[["trump", "surname", True, 0.93], ["trump", "korean", False, None]],
                sentence="1 of 2 variants has the same winner.",
                figures={"share": 0.5},
            )
        },
        claims=[
            ClaimResult(claim="cell/trump = L1.N11948", source="published", outcome="met", observed="L1.N11948"),
            ClaimResult(claim="cell/trump/dominance >= 20", outcome="not met", observed="14.5"),
            ClaimResult(claim="cell/trump = L2.N1", outcome="not applicable", reason="another model"),
        ],
        left_out=[LeftOut(what="wife/merkel", reason="the clean model does not know the answer", where="amnesia")],
        warnings=["3 of 24 facts are not known to the clean model"],
        self_tests=[SelfTest(name="identity", question="Does an edit by 1 change nothing?", passed=True, figure=0.0)],
        stages=[
            Stage(
                name="cell",
                prompts=700,
                tokens=7000,
                padded_tokens=9100,
                distinct_tokens=2100,
                passes=3,
                seconds=4.0,
            ),
            Stage(
                name="amnesia",
                prompts=24,
                tokens=9000,
                padded_tokens=9900,
                distinct_tokens=800,
                passes=1,
                seconds=2.0,
            ),
        ],
        provenance={
            "git": {"spec": {"commit": "0123456789abcdef0123456789abcdef01234567", "dirty": False}},
            "seed": 0,
        },
        spec=SPEC,
    )


def sample_rows(n: int = 10) -> Sequence[Row]:
    """Make measured rows of the long table."""
    return [
        Row(
            asked=Asked(
                intervention="amnesia",
                edited="trump",
                condition="edit",
                draw=0,
                role="target",
                axes={"scale": -1.0 * i},
                prompt_id=i,
                prompt="Fact: the name of the wife of Donald Trump:",
                entity="trump",
                relation="wife",
                answers=("Melania",),
                columns={"party": "R", "frequency": 12.0},
            ),
            observation=Observation(answers=(AnswerScore("Melania", (-0.5, -math.inf), (1, 9000)),)),
            known=True,
            values={"knowledge_score": 0.25 * i, "answer_probability": None, "text@12": " Mela\nnia"},
            reasons={"answer_probability": "the prompt has no answer"},
        )
        for i in range(n)
    ]
