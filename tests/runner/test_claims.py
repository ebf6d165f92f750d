from __future__ import annotations

import pytest

from runner.claims import evaluate, look_up
from specs.language.experiment import Experiment
from specs.language.results import (
    AnalysisResult,
    Candidate,
    InterventionResult,
    ModelFacts,
    NeuronSetResult,
    OwnerChoice,
    RankedNeuron,
    Ranking,
    RankingGroup,
    Results,
    SetPlacebo,
    Summary,
)

KS = "knowledge_score"


def group(key, address, dominance=20.0, chosen=None):
    layer, neuron = (int(part[1:]) for part in address.split("."))
    entity, _, variant = key.partition("/")
    best = RankedNeuron(
        rank=1,
        address=address,
        site="mlp.neurons",
        layer=layer,
        neuron=neuron,
        score=4.0,
        dominance=dominance,
    )
    return RankingGroup(
        key=key,
        label=key,
        entity=entity,
        variant=variant or None,
        n_prompts=100,
        n_candidates=64,
        neurons=[best],
        chosen=chosen or [address],
    )


def summary(mean, edited="obama", condition="edit", role="target", relation=None, measure=KS, **axes):
    return Summary(
        edited=edited,
        condition=condition,
        role=role,
        axes=axes,
        relation=relation,
        measure=measure,
        n=0 if mean is None else 8,
        mean=mean,
        low=None if mean is None else mean - 0.1,
        high=None if mean is None else mean + 0.1,
    )


@pytest.fixture
def results():
    groups = [
        group("trump", "L1.N11948", dominance=23.4),
        group("trump/korean", "L1.N11948"),
        group("trump/typo", "L9.N3"),
        group("obama", "L2.N10941", dominance=12.0, chosen=["L2.N10941", "L2.N7"]),
        group("nobody", "L0.N1", dominance=None),
    ]
    return Results(
        name="trump",
        hash="0",
        status="complete",
        started="2026-01-01",
        seconds=1.0,
        model=ModelFacts(
            id="Qwen/Qwen2.5-Coder-1.5B-Instruct",
            card="qwen2.5-coder-1.5b",
            family="qwen2",
            n_layers=28,
            d_model=8,
            d_mlp=16,
            vocabulary=99,
            dtype="bfloat16",
            device="cpu",
            attention="sdpa",
            adds_bos=False,
        ),
        rankings={
            "cell": Ranking(
                name="cell",
                metric="stability",
                site="mlp.neurons",
                position="entity.last",
                by=["entity", "variant"],
                prompts="forms",
                groups={g.key: g for g in groups},
            )
        },
        interventions={
            "amnesia": InterventionResult(
                name="amnesia",
                title="negative ablation",
                edits=[],
                owners=["trump", "obama"],
                neurons={},
                axes={"scale": [0.0, -0.3, -3.0], "rank": ["1"]},
                measures=[KS, "accuracy@2"],
                ask=["facts"],
                n_asked=16,
                n_known=12,
                summaries=[
                    summary(0.9, scale=0.0, rank="1"),
                    summary(0.2, scale=-0.3, rank="1"),
                    summary(0.12, scale=-3.0, rank="1"),
                    summary(0.5, relation="wife", scale=-3.0, rank="1"),
                    summary(0.995, role="others", scale=-3.0, rank="1"),
                    summary(0.97, condition="random_neurons", scale=-3.0, rank="1"),
                    summary(1.0, condition="clean"),
                    summary(0.4, edited="*", scale=-3.0, rank="1"),
                    summary(None, edited="trump", scale=-3.0, rank="1"),
                ],
            )
        },
        analyses={
            "same_cell": AnalysisResult(
                name="same_cell",
                verb="agreement",
                of="cell",
                columns=[],
                rows=[],
                figures={"same": 5.0, "of": 6.0, "mother/father/shared": 2053.0},
            )
        },
    )


def judge(results, *claims, when=None, source=None):
    spec = {"version": 1, "name": "trump", "model": "qwen2.5-coder-1.5b"}
    spec["localize"] = {"cell": {"metric": "stability"}}
    spec["expect"] = [
        {"claims": list(claims)} | ({"when": when} if when else {}) | ({"source": source} if source else {})
    ]
    return evaluate(Experiment.model_validate(spec), results)


@pytest.mark.parametrize(
    ("claim", "outcome", "observed"),
    [
        ("cell/trump = L1.N11948", "met", "L1.N11948"),
        ("cell/trump = L2.N1", "not met", "L1.N11948"),
        ("cell/trump != L2.N1", "met", "L1.N11948"),
        ("cell/trump = mlp.neurons:L1.N11948", "met", "L1.N11948"),
        ("cell/trump/korean = cell/trump", "met", "L1.N11948, against L1.N11948"),
        ("cell/trump/typo = cell/trump", "not met", "L9.N3, against L1.N11948"),
        ("cell/obama = L2.N10941", "not met", "L2.N10941, L2.N7"),
        ("cell/trump in L1.N11948, L1.N2", "met", "L1.N11948"),
        ("cell/trump/dominance >= 10", "met", "23.4 (L1.N11948)"),
        ("cell/trump/layer in 1-6", "met", "1 (L1.N11948)"),
        ("cell/obama/size = 2", "met", "2"),
        ("cell/size = 4", "met", "4"),
        ("cell/layer < 1.5", "met", "1, mean of 3"),
        ("amnesia/obama/knowledge_score/scale=0 >= 0.7", "met", "0.9 [0.8, 1] over 8 prompts"),
        ("amnesia/obama/knowledge_score/scale=-3 <= 0.1", "not met", "0.12 [0.02, 0.22] over 8 prompts"),
        (
            "amnesia/obama/scale=-0.30/knowledge_score within 0.05 of 0.2",
            "met",
            "0.2 [0.1, 0.3] over 8 prompts",
        ),
        (
            "amnesia/obama/others/knowledge_score/scale=-3 >= 0.99",
            "met",
            "0.995 [0.895, 1.095] over 8 prompts",
        ),
        (
            "amnesia/obama/knowledge_score/relation=wife/scale=-3 = 0.5",
            "met",
            "0.5 [0.4, 0.6] over 8 prompts",
        ),
        ("amnesia/obama/clean/knowledge_score = 1", "met", "1 [0.9, 1.1] over 8 prompts"),
        ("amnesia/obama/clean/knowledge_score/scale=-3 = 1", "met", "1 [0.9, 1.1] over 8 prompts"),
        ("amnesia/knowledge_score/scale=-3 < 0.5", "met", "0.4 [0.3, 0.5] over 8 prompts"),
        (
            "amnesia/obama/knowledge_score/scale=-3 < amnesia/obama/random_neurons/knowledge_score/scale=-3",
            "met",
            "0.12 [0.02, 0.22] over 8 prompts, against 0.97 [0.87, 1.07] over 8 prompts",
        ),
        ("same_cell/same = 5", "met", "5"),
        ("same_cell/mother/father/shared = 2053", "met", "2053"),
        ("same_cell/mother/father = 2053", "met", "2053"),
    ],
)
def test_a_claim_is_judged_by_what_stands_at_its_path(results, claim, outcome, observed):
    (found,) = judge(results, claim)
    assert (found.outcome, found.observed, found.reason) == (outcome, observed, "")


@pytest.mark.parametrize(
    ("claim", "reason"),
    [
        ("verified/size within 20 of 131", "'verified' is not among the results of this run"),
        ("cell/merkel = L1.N1", "cell has no ranking of 'merkel'"),
        ("cell/trump = cell/merkel", "cell has no ranking of 'merkel'"),
        ("cell/trump = elsewhere/trump", "'elsewhere' is not among the results of this run"),
        ("cell/nobody/dominance >= 10", "cell/nobody/dominance has no value"),
        ("cell/dominance >= 10", "cell/dominance has no value"),
        ("cell/trump/conservation = 1", "cell/trump/conservation has no value"),
        ("cell/trump >= 10", "'cell/trump' is a set of neurons: compare it with = or !="),
        (
            "amnesia/obama/pass@5/scale=0 = 1",
            "amnesia does not measure 'pass@5'; it measures knowledge_score, accuracy@2",
        ),
        ("amnesia/obama/accuracy@2/scale=0 = 1", "amnesia/obama/accuracy@2/scale=0 was not measured"),
        (
            "amnesia/obama/knowledge_score <= 0.3",
            "'amnesia/obama/knowledge_score' is 3 numbers, one for each scale and rank; add scale=VALUE",
        ),
        (
            "amnesia/obama/knowledge_score/scale=-7 <= 0.3",
            "amnesia was not run at scale=-7; the values are 0, -0.3, -3",
        ),
        ("amnesia/obama/knowledge_score/times=2 <= 0.3", "amnesia has no sweep 'times'; it has scale, rank"),
        (
            "amnesia/merkel/knowledge_score/scale=0 = 1",
            "amnesia was not done to 'merkel'; it was done to trump, obama",
        ),
        (
            "amnesia/trump/knowledge_score/scale=-3 <= 0.3",
            "amnesia/trump/knowledge_score/scale=-3 has no value: it is defined for none of the prompts",
        ),
        ("same_cell/share > 0.5", "same_cell has no figure 'share'; it has same, of, mother/father/shared"),
        (
            "amnesia/obama/knowledge_score/scale=0 > amnesia/merkel/knowledge_score/scale=0",
            "amnesia was not done to 'merkel'; it was done to trump, obama",
        ),
        (
            "amnesia/obama/knowledge_score/scale=0 > cell/trump",
            "'cell/trump' is a set of neurons and no number",
        ),
    ],
)
def test_a_claim_about_what_is_not_there_is_not_applicable(results, claim, reason):
    """A missing number contradicts nobody."""
    (found,) = judge(results, claim)
    assert (found.outcome, found.reason) == ("not applicable", reason)


def test_nothing_known_is_the_reason_for_a_missing_value(results):
    results.interventions["amnesia"].n_known = 0
    (found,) = judge(results, "amnesia/trump/knowledge_score/scale=-3 <= 0.3")
    assert found.reason.endswith("has no value: nothing asked is known")


def test_a_claim_about_another_model_is_not_applicable(results):
    (found,) = judge(results, "cell/trump = L2.N1", when="model = Qwen/Qwen2.5-7B", source="a paper")
    assert (found.outcome, found.when, found.source) == (
        "not applicable",
        "model = Qwen/Qwen2.5-7B",
        "a paper",
    )
    assert found.reason == (
        "claimed for Qwen/Qwen2.5-7B; this is qwen2.5-coder-1.5b (Qwen/Qwen2.5-Coder-1.5B-Instruct)"
    )
    assert found.observed == ""


@pytest.mark.parametrize(
    "when",
    [
        "model = qwen2.5-coder-1.5b",
        "model = Qwen/Qwen2.5-Coder-1.5B-Instruct",
        "model = qwen/qwen2.5-coder-1.5b-instruct",
        "model in Qwen/Qwen2.5-7B, qwen2.5-coder-1.5b",
        "model != Qwen/Qwen2.5-7B",
        ["model = qwen2.5-coder-1.5b", "localize.cell.metric = stability"],
        "model.dtype = bfloat16",
        "seed = 0",
    ],
)
def test_a_claim_is_judged_where_all_its_conditions_are_met(results, when):
    assert judge(results, "cell/trump = L1.N11948", when=when)[0].outcome == "met"


@pytest.mark.parametrize(
    ("when", "reason"),
    [
        ("localize.cell.metric = relp", "claimed for localize.cell.metric = relp; here it is stability"),
        ("model.dtype = float32", "claimed for model.dtype = float32; here it is bfloat16"),
        ("localize.cell.top = 3", "claimed for localize.cell.top = 3; localize.cell.top is not set here"),
        ("model != qwen2.5-coder-1.5b", "claimed for other models than qwen2.5-coder-1.5b; this is"),
        (["model = qwen2.5-coder-1.5b", "seed > 3"], "claimed for seed > 3; here it is 0"),
    ],
)
def test_the_reason_names_the_condition_that_is_not_met(results, when, reason):
    (found,) = judge(results, "cell/trump = L1.N11948", when=when)
    assert found.outcome == "not applicable" and found.reason.startswith(reason)


def test_claims_keep_their_order_and_their_words(results):
    claims = ["cell/trump = L1.N11948", "cell/obama/layer <= 3"]
    assert [found.claim for found in judge(results, *claims)] == claims


def test_a_path_can_be_looked_up_by_itself(results):
    assert look_up("amnesia/obama/knowledge_score/scale=-3", results).number == 0.12
    assert look_up("cell/obama", results).neurons == {"L2.N10941", "L2.N7"}


def chosen_set(**changes):
    def candidate(address, dominance, failed=None):
        layer, neuron = (int(part[1:]) for part in address.split("."))
        return Candidate(
            address=address,
            layer=layer,
            neuron=neuron,
            rank=1,
            dominance=dominance,
            figures=[dominance],
            n=[0],
            reasons=[""],
            wanted=[None],
            failed=failed,
        )

    owners = {
        "trump": OwnerChoice(owner="trump", label="Trump", neurons=["L1.N5"], candidates=[candidate("L1.N5", 20.0)]),
        "trump/typo": OwnerChoice(
            owner="trump/typo", label="Tramp", neurons=["L9.N9"], candidates=[candidate("L9.N9", 90.0)]
        ),
        "obama": OwnerChoice(owner="obama", label="Obama", neurons=["L2.N7"], candidates=[candidate("L2.N7", 10.0)]),
        "nobody": OwnerChoice(owner="nobody", label="X", neurons=[], candidates=[candidate("L0.N1", 3.0, 0)]),
    }
    placebo = SetPlacebo(intervention="verify", sizes=[0, 1], owners=[0, 1], left=[0.5], size=0.5)
    facts = {"name": "verified", "owners": owners, "size": 2, "placebo": placebo}
    return NeuronSetResult(**(facts | changes))


@pytest.mark.parametrize(
    ("path", "number", "words"),
    [
        ("verified/size", 2, "2"),  # another form of a name is no further owner
        ("verified/trump/size", 1, "1"),
        ("verified/nobody/size", 0, "0"),
        ("verified/trump/typo/dominance", 90, "90"),
        ("verified/dominance", 15, "15, mean of 2"),
        ("verified/random_neurons/size", 0.5, "0.5, mean of 2 draws (0 to 1)"),
    ],
)
def test_a_filtered_set_has_figures(results, path, number, words):
    results.neurons["verified"] = chosen_set()
    found = look_up(path, results)
    assert (found.number, found.words, found.reason) == (number, words, "")


def test_a_filtered_set_is_a_set_of_neurons(results):
    results.neurons["verified"] = chosen_set()
    assert look_up("verified", results).neurons == {"L1.N5", "L2.N7"}
    assert look_up("verified/obama", results).neurons == {"L2.N7"}
    assert look_up("verified/nobody", results).neurons == set()


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("verified/merkel", "verified holds nothing of 'merkel'"),
        ("verified/nobody/dominance", "the set is empty"),
        ("verified/random_neurons/dominance", "of random neurons the size of the whole set is known"),
        ("verified/random_neurons/trump/size", "of random neurons the size of the whole set is known"),
    ],
)
def test_what_a_filtered_set_has_not_is_said(results, path, reason):
    results.neurons["verified"] = chosen_set()
    assert reason in look_up(path, results).reason


def test_without_random_neurons_their_figure_has_a_reason(results):
    results.neurons["verified"] = chosen_set(placebo=SetPlacebo(reason="verify draws none"))
    assert "verify draws none" in look_up("verified/random_neurons/size", results).reason
    results.neurons["verified"] = chosen_set(placebo=None)
    assert "reads no result" in look_up("verified/random_neurons/size", results).reason


def test_a_drop_in_accuracy_follows_from_the_accuracies(results):
    done = results.interventions["amnesia"]

    def accuracy(mean, **fields):
        return summary(mean, **fields).model_copy(update={"measure": "accuracy@2"})

    done.summaries += [
        accuracy(0.2, edited="trump", scale=-3.0, rank="1"),
        accuracy(0.8, edited="trump", condition="clean"),
        accuracy(0.5, edited="obama", scale=-3.0, rank="1"),
        accuracy(0.0, edited="obama", condition="clean"),
    ]
    assert look_up("amnesia/trump/accuracy_drop@2/scale=-3", results).number == pytest.approx(0.75)
    assert look_up("amnesia/obama/accuracy_drop@2/scale=-3", results).reason == (
        "the clean model's accuracy@2 is 0, so it has no drop"
    )
    assert "does not measure 'accuracy_drop'" in look_up("amnesia/trump/accuracy_drop/scale=-3", results).reason
