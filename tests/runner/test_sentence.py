from __future__ import annotations

import pytest

from runner.sentence import answer, effects
from specs.language.results import (
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

MODEL = ModelFacts(
    id="qwen", family="qwen2", n_layers=4, d_model=8, d_mlp=16, vocabulary=99, dtype="float32",
    device="cpu", attention="sdpa", adds_bos=False,
)  # fmt: skip
LABELS = {
    "trump": "Donald Trump",
    "obama": "Barack Obama",
    "merkel": "Angela Merkel",
    "messi": "Lionel Messi",
}
KS = "knowledge_score"


def group(key="trump", address="L1.N4123", dominance=23.4):
    neuron = RankedNeuron(
        rank=1, address=address, site="mlp.neurons", layer=int(address[1]), neuron=4123, score=9.0, dominance=dominance
    )
    return RankingGroup(
        key=key,
        label=LABELS.get(key, key),
        entity=key,
        n_prompts=100,
        n_candidates=64,
        neurons=[neuron],
        chosen=[address],
    )


def ranking(*groups, metric="stability", shared=None):
    return Ranking(
        name="cell",
        metric=metric,
        site="mlp.neurons",
        position="entity.last",
        by=["entity"],
        prompts="attributes",
        groups={g.key: g for g in groups or [group()]},
        shared_winners=shared or {},
    )


def summary(mean, condition="edit", role="target", *, measure=KS, edited="trump", n=8, spread=0.05, draws=(), **axes):
    return Summary(
        edited=edited,
        condition=condition,
        role=role,
        axes=axes,
        measure=measure,
        n=n,
        mean=mean,
        se=spread,
        low=None if mean is None or n < 2 else mean - spread,
        high=None if mean is None or n < 2 else mean + spread,
        draws=list(draws),
    )


def amnesia(target=0.12, others=0.99, draws=(0.98, 1.0, 1.0, 1.01, 0.99), wrong=None, **changes):
    """A sweep over two factors of which the last is described."""
    summaries = [
        summary(1.0, "clean", spread=0.0),
        summary(1.0, "clean", "others", spread=0.0),
        summary(0.97, scale=0.0),
        summary(target, scale=-3.0),
    ]
    if others is not None:
        summaries.append(summary(others, role="others", scale=-3.0))
    if draws:
        summaries.append(summary(sum(draws) / len(draws), "random_neurons", draws=draws, scale=-3.0))
    if wrong is not None:
        summaries.append(summary(wrong, "wrong_cell", scale=-3.0))
    facts = {
        "name": "amnesia",
        "title": "negative ablation",
        "edits": [],
        "owners": ["trump"],
        "neurons": {"trump": ["L1.N4123"], "obama": ["L2.N7"], "merkel": ["L3.N1"]},
        "wrong_owner": {"trump": "obama"},
        "axes": {"scale": [0.0, -3.0]},
        "measures": [KS],
        "ask": ["facts"],
        "n_asked": 16,
        "n_known": 12,
        "summaries": summaries,
    }
    return InterventionResult(**(facts | changes))


def results(*interventions, rankings=None):
    return Results(
        name="trump",
        hash="0",
        status="complete",
        started="2026-01-01",
        seconds=1.0,
        model=MODEL,
        rankings={"cell": ranking()} if rankings is None else rankings,
        interventions={i.name: i for i in interventions},
    )


def test_a_specific_effect_is_told_with_its_controls():
    assert answer(results(amnesia())) == (
        "L1.N4123 stands out for Donald Trump (dominance 23.4); multiplying it by -3 takes the knowledge "
        "score from 1.00 to 0.12 [0.07, 0.17] over 8 questions while others stay at 0.99 and five random "
        "neurons at 0.98 to 1.01."
    )


def test_no_neuron_stands_out_below_dominance_two():
    text = answer(results(amnesia(), rankings={"cell": ranking(group(dominance=1.44))}))
    assert text.startswith(
        "No neuron stands out for Donald Trump (the best is L1.N4123, dominance 1.4); multiplying it"
    )


@pytest.mark.parametrize(
    ("dominance", "words"),
    [
        (1.99, "No neuron stands out"),
        (2.0, "stands out weakly"),
        (9.9, "stands out weakly"),
        (10.0, "stands out for"),
    ],
)
def test_how_far_a_neuron_stands_out_follows_its_dominance(dominance, words):
    assert words in answer(results(rankings={"cell": ranking(group(dominance=dominance))}))


def test_a_neuron_that_wins_for_unrelated_people_is_nobodys_cell():
    shared = {"L1.N4123": ["trump", "obama", "merkel"]}
    found = ranking(group(), group("obama"), group("merkel"), shared=shared)
    assert answer(results(rankings={"cell": found})).startswith(
        "L1.N4123 ranks first for Donald Trump but also for Barack Obama and Angela Merkel, so it is nobody's own cell"
    )


def test_a_random_ranking_does_not_find_anything():
    assert answer(results(rankings={"cell": ranking(metric="random")})).startswith("L1.N4123 was drawn at random for")


def test_without_an_intervention_nothing_was_done():
    assert answer(results()) == "L1.N4123 stands out for Donald Trump (dominance 23.4); nothing was done to it."


def test_without_a_ranking_the_edited_neuron_is_named():
    text = answer(results(amnesia(), rankings={}))
    assert text.startswith("Multiplying L1.N4123 by -3 takes the knowledge score from 1.00 to 0.12")


def test_with_nothing_at_all_it_says_so():
    assert answer(results(rankings={})) == "Nothing was ranked and nothing was edited, so there is nothing to say."


def test_an_edit_that_does_nothing_leaves_the_score():
    assert answer(results(amnesia(target=0.98))).endswith(
        "multiplying it by -3 leaves the knowledge score at 0.98 [0.93, 1.03] over 8 questions, "
        "against 1.00 without (random neurons: 0.98 to 1.01)."
    )


def test_an_interval_that_holds_the_clean_value_is_no_effect():
    noisy = amnesia()
    noisy.summaries[3] = summary(0.7, spread=0.4, scale=-3.0)
    assert "leaves the knowledge score at 0.70 [0.30, 1.10]" in answer(results(noisy))


def test_others_that_fall_too_make_the_effect_unspecific():
    assert answer(results(amnesia(others=0.2))).endswith(
        "but that of others to 0.20 too, so the effect is not specific."
    )


def test_others_that_fall_a_little_are_told_without_a_verdict():
    assert "while others go to 0.90 and five random" in answer(results(amnesia(others=0.9)))


def test_a_single_draw_as_strong_as_the_cell_makes_it_a_placebo():
    assert answer(results(amnesia(draws=(1.0, 0.3)))).endswith(
        "but one of two random neurons takes it to 0.30 as well, so it is no more than a placebo."
    )


def test_the_wrong_cell_counts_as_a_placebo():
    found = results(amnesia(wrong=0.2), rankings={"cell": ranking(group(), group("obama", "L2.N7"))})
    assert "but the cell of Barack Obama takes it to 0.20 as well, so it is no more" in answer(found)


def test_a_rise_is_told_as_it_is():
    text = answer(results(amnesia(target=1.4)))
    assert "takes the knowledge score from 1.00 to 1.40 [1.35, 1.45]" in text and "placebo" not in text


def test_controls_that_fall_do_not_explain_a_rise():
    assert "placebo" not in answer(results(amnesia(target=1.4, draws=(0.5, 0.6))))


def test_the_comparison_of_runs_counts_no_neuron_that_two_share():
    own = results(amnesia(wrong=0.98))
    assert [e.verdict for e in effects(own)] == ["specific"]
    both = ranking(group(), group("obama"), shared={"L1.N4123": ["trump", "obama"]})
    assert [e.verdict for e in effects(results(amnesia(wrong=0.98), rankings={"cell": both}))] == ["shared"]
    # What is no specific effect is called what it is.
    assert [e.verdict for e in effects(results(amnesia(others=0.2), rankings={"cell": both}))] == ["unspecific"]


def test_one_question_is_no_specific_effect():
    one = amnesia(wrong=0.98)
    lone = [
        s.model_copy(update={"n": 1, "low": None, "high": None}) if s.role == "target" else s for s in one.summaries
    ]
    assert [e.verdict for e in effects(results(one.model_copy(update={"summaries": lone})))] == ["single"]


def test_when_nobody_else_is_asked_and_no_placebo_tried_it_says_so():
    assert answer(results(amnesia(others=None, draws=()))).endswith(
        "while nobody else was asked and no random neurons were tried."
    )


def test_when_nothing_is_known_no_effect_is_claimed():
    assert answer(results(amnesia(n_known=0))).endswith(
        "; the model does not know the answer to any of the 16 questions asked, so no effect can be measured."
    )


def test_when_no_measure_is_defined_it_says_so():
    nothing = amnesia(summaries=[summary(None, n=0, scale=-3.0), summary(1.0, "clean")])
    assert answer(results(nothing)).endswith("; no measure of amnesia is defined for Donald Trump.")


def test_when_nothing_is_known_about_the_first_owner_it_says_so():
    nothing = amnesia(summaries=[summary(None, n=0, scale=-3.0), summary(None, "clean", n=0)])
    assert answer(results(nothing)).endswith(
        "; the model knows none of the answers asked for about Donald Trump, so no effect can be measured."
    )
    both = results(nothing, injection(summaries=nothing.summaries))
    assert answer(both) == answer(results(nothing)), "said once and not for each intervention"


def test_a_measure_that_is_undefined_gives_way_to_the_next():
    both = amnesia(
        measures=[KS, "answer_probability"],
        summaries=[
            summary(None, n=0, scale=-3.0),
            summary(None, "clean", n=0),
            summary(0.8, "clean", measure="answer_probability"),
            summary(0.1, measure="answer_probability", scale=-3.0),
        ],
    )
    assert "takes the probability of the answer from 0.80 to 0.10 [0.05, 0.15]" in answer(results(both))


def test_others_are_compared_with_their_own_clean_value():
    """Others at 0.4 have not fallen when they stood at 0.4 before."""
    p = "answer_probability"
    done = amnesia(
        measures=[p],
        summaries=[
            summary(0.9, "clean", measure=p),
            summary(0.4, "clean", "others", measure=p),
            summary(0.1, measure=p, scale=-3.0),
            summary(0.4, role="others", measure=p, scale=-3.0),
        ],
    )
    assert "while others stay at 0.40" in answer(results(done))


def test_a_loss_grows_where_a_score_falls():
    m = "knowledge_loss"
    done = amnesia(
        measures=[m],
        summaries=[
            summary(0.0, "clean", measure=m),
            summary(0.0, "clean", "others", measure=m),
            summary(0.8, measure=m, scale=-3.0),
            summary(0.7, role="others", measure=m, scale=-3.0),
        ],
    )
    assert "takes the knowledge loss from 0.00 to 0.80" in answer(results(done))
    assert "not specific" in answer(results(done))


def test_one_question_has_no_interval():
    single = amnesia()
    single.summaries[3] = summary(0.1, n=1, scale=-3.0)
    assert "from 1.00 to 0.10 over one question while" in answer(results(single))


def test_the_strongest_factor_is_described_and_not_the_best_looking_one():
    done = amnesia(axes={"scale": [1.0, 0.0, -1.0]})
    done.summaries += [summary(0.5, scale=-1.0), summary(0.05, scale=0.0)]
    assert "multiplying it by -1 takes the knowledge score from 1.00 to 0.50" in answer(results(done))


@pytest.mark.parametrize(
    ("axes", "words"),
    [
        ({"scale": [0.0]}, "silencing it (factor 0)"),
        ({"set": [5.0]}, "setting it to 5"),
        ({"times": [1.0, 3.0]}, "setting it to 3 times its usual value"),
        ({"scale": [-1.0], "rank": ["1", "2"]}, "multiplying it by -1 (rank 1)"),
        ({}, "negative ablation of it"),
    ],
)
def test_the_edit_is_said_in_words(axes, words):
    point = {axis: values[-1] if axis != "rank" else values[0] for axis, values in axes.items()}
    done = amnesia(axes=axes, summaries=[summary(1.0, "clean", spread=0.0), summary(0.1, **point)])
    assert f"; {words} takes the knowledge score" in answer(results(done))


def test_several_neurons_are_counted():
    done = amnesia(neurons={"trump": ["L1.N1", "L1.N2"]})
    text = answer(results(done))
    assert "multiplying 2 neurons by -3" in text and "five random sets of neurons at 0.98" in text


def owners(*means):
    """An intervention on several owners; each has the target mean given."""
    done = amnesia(owners=["trump", "obama", "merkel", "messi"][: len(means)])
    for owner, mean in zip(done.owners[1:], means[1:], strict=True):
        done.summaries += [summary(1.0, "clean", edited=owner), summary(mean, edited=owner, scale=-3.0)]
    return results(done, rankings={"cell": ranking(*map(group, done.owners))})


def test_the_other_owners_are_counted():
    assert answer(owners(0.12, 0.1, 0.99)).endswith("; a specific effect is found for one of the two others.")
    assert answer(owners(0.12, 0.99, 0.99)).endswith("; a specific effect is found for none of the two others.")
    assert answer(owners(0.12, 0.1)).endswith("; a specific effect is found for Barack Obama.")
    assert answer(owners(0.12, 0.99)).endswith("; no specific effect is found for Barack Obama.")


def test_other_forms_of_a_name_are_not_counted_as_others():
    done = owners(0.12, 0.1).interventions["amnesia"]
    done.owners.append("trump/typo")
    assert answer(results(done)).endswith("; a specific effect is found for obama.")


def injection(best=0.6, draws=0.1, wrong=0.05, none=0.0, **changes):
    m = "pass@5"
    summaries = [summary(none, "no_edit", measure=m)] if none is not None else []
    for times, share in ((1.0, 0.5), (3.0, 1.0), (8.0, 0.2)):
        summaries += [
            summary(best * share, measure=m, times=times),
            summary(draws * share, "random_neurons", measure=m, times=times),
            summary(wrong * share, "wrong_cell", measure=m, times=times),
        ]
    facts = {
        "name": "injection",
        "title": "injection",
        "placeholder": "X",
        "measures": ["answer_rank", m],
        "axes": {"times": [1.0, 3.0, 8.0]},
        "summaries": summaries,
    }
    return amnesia(**(facts | changes))


def test_an_injection_is_told_at_best_with_the_best_of_its_controls():
    assert answer(results(injection())) == (
        "L1.N4123 stands out for Donald Trump (dominance 23.4); at the placeholder X, setting it to 3 times "
        "its usual value takes pass@5 from 0.00 to 0.60 [0.55, 0.65] at best (of three values), while random "
        "neurons take it to 0.10 and another's cell to 0.05."
    )


def test_an_injection_that_brings_nothing_back_says_so():
    text = answer(results(injection(best=0.02)))
    assert text.endswith("setting it to 3 times its usual value brings nothing back (pass@5 0.02, 0.00 without).")


def test_an_injection_no_better_than_its_controls_is_a_placebo():
    text = answer(results(injection(wrong=0.4)))
    assert text.endswith(
        "but random neurons take it to 0.10 and another's cell to 0.40, so it is no more than a placebo."
    )


def test_an_injection_without_a_run_to_compare_says_so():
    assert answer(results(injection(none=None))).endswith("and nothing was run without it to compare.")


def test_silencing_and_injection_share_the_sentence():
    text = answer(results(amnesia(), injection()))
    assert text.count(";") == 2 and text.count(".") > 1 and text.endswith(".") and "\n" not in text
    assert "multiplying it by -3" in text and "at the placeholder X" in text


def filtered(*passed, total=3, chance=(0, 1)):
    owners = {
        f"o{n}": OwnerChoice(owner=f"o{n}", label=f"O{n}", neurons=["L1.N1"] if n in passed else [])
        for n in range(total)
    }
    placebo = SetPlacebo(intervention="verify", sizes=list(chance), owners=list(chance), left=[0.5], size=0.5)
    return NeuronSetResult(
        name="verified",
        conditions=["verify/knowledge_loss >= 0.1"],
        interventions=["verify"],
        owners=owners,
        size=len(passed),
        funnel=[total, len(passed)],
        placebo=placebo if chance else None,
    )


def test_a_filter_is_told_with_what_chance_would_leave():
    found = results(amnesia())
    found.neurons["verified"] = filtered(0, 2)
    words = "the filter verified leaves a neuron for two of three owners (with random neurons in their place, 0.50)"
    assert words in answer(found)
    found.neurons["verified"] = filtered(total=1, chance=())
    assert "the filter verified leaves its one owner no neuron;" in answer(found)


def test_what_was_done_to_those_who_passed_is_told_before_how_they_were_tried():
    verify = amnesia(target=0.5, name="verify")
    later = amnesia(target=0.12, name="later")
    found = results(verify, later)
    assert "to 0.50 [" in answer(found)
    found.neurons["verified"] = filtered(0)
    assert "to 0.12 [" in answer(found)


def test_where_ranks_are_swept_the_neuron_of_the_first_is_meant():
    found = summary(0.12, scale=-2.0, rank="1")
    clean = summary(1.0, "clean")
    done = amnesia(
        axes={"scale": [-2.0], "rank": ["1", "2"]},
        neurons={"trump": ["L0.N1", "L0.N2"]},
        summaries=[found, clean],
    )
    assert "multiplying the neuron of rank 1 by -2 takes" in answer(results(done))


def people(n, dominance=20.0):
    return [group(f"e{i}", f"L{1 + i % 3}.N{i}", dominance) for i in range(n)]


def test_many_owners_are_spoken_of_together():
    ranked = ranking(*people(5), *[group(f"w{i}", f"L5.N{i}", 4.0) for i in range(3)], group("x", "L1.N0"))
    ranked.shared_winners = {"L1.N0": ["e0", "x"]}
    assert answer(results(rankings={"cell": ranked})) == (
        "Of 9 entities, four have a neuron of their own that stands out, in layers 1 to 3, three a weaker one, and two "
        "one that ranks first for somebody else too."
    )


def test_of_many_the_effect_on_all_together_is_told_and_specific_ones_are_counted():
    everybody = people(8)
    names = [g.key for g in everybody]
    every = [
        s
        for name in ["*", *names]
        for s in (
            summary(1.0, "clean", edited=name),
            summary(1.0, "clean", "others", edited=name),
            summary(1.0 if name in names[:2] else 0.1, edited=name, scale=-1.0),
            summary(0.99, role="others", edited=name, scale=-1.0),
            summary(0.98, "random_neurons", edited=name, scale=-1.0),
        )
    ]
    done = amnesia(owners=names, neurons={g.key: g.chosen for g in everybody}, axes={"scale": [-1.0]}, summaries=every)
    text = answer(results(done, rankings={"cell": ranking(*everybody)}))
    assert "multiplying each one's neurons by -1 takes the knowledge score from 1.00 to 0.10" in text
    assert "a specific effect is found for six of eight" in text
