"""Sets of neurons as arrays: addresses there and back, set algebra, cuts that nest, draws that keep their distance."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from runner.localization.columns import Columns
from runner.localization.ranking import GroupData, RankingData
from runner.members import Members
from runner.neurons import ONE_BY_ONE, NeuronSets, Shared, draw_like
from specs.language.defaults import with_defaults
from specs.language.errors import RunError
from specs.language.experiment import Experiment, NeuronSet
from specs.language.references import Address

SITES = ("mlp.gate", "mlp.up", "mlp.out")
WIDTHS_OF = (40, 40, 16)
LAYERS = (1, 2, 3, 5)
WIDTHS = {(site, layer): width for site, width in zip(SITES, WIDTHS_OF, strict=True) for layer in range(6)}
OWNERS = ("ceo", "father", "mother", "sport")
N = len(LAYERS) * sum(WIDTHS_OF)

addresses = st.lists(
    st.builds(
        Address,
        st.sampled_from([*SITES, "attn.q", "path:model.embed_tokens"]),
        st.integers(0, 4095),
        st.integers(0, 2**30 - 1),
        st.none() | st.integers(-512, 509),
    ),
    max_size=30,
)


@given(some=addresses)
def test_members_are_their_addresses_each_once_in_their_order(some):
    found = Members.of(some)
    assert found.addresses() == list(dict.fromkeys(some))
    counts = Counter((a.site, a.layer) for a in dict.fromkeys(some))
    assert found.counts() == counts
    for place in found.places():
        own = [a.neuron for a in found.addresses() if (a.site, a.layer) == (place.site, place.layer)]
        assert place.neurons.tolist() == own
        assert [found.addresses()[i].neuron for i in place.which] == own


@given(a=addresses, b=addresses)
def test_union_difference_and_what_is_common_are_those_of_sets(a, b):
    one, other = Members.of(a), Members.of(b)
    assert set(one.and_then(other).addresses()) == {*a, *b}
    assert one.minus(other).addresses() == [x for x in dict.fromkeys(a) if x not in b]
    assert one.common(other).addresses() == [x for x in dict.fromkeys(a) if x in b]
    assert (one.digest() == other.digest()) == (set(a) == set(b))


# -- sets of a ranking over several sites -------------------------------------------------------------------------


def ranking(seed: int = 0, metric: str = "average_precision") -> RankingData:
    random = np.random.default_rng(seed)

    def group() -> GroupData:
        # with ties, as counts of prompts give them
        return GroupData.of(random.integers(0, 60, (len(LAYERS), sum(WIDTHS_OF))).astype(np.float32) / 60)

    return RankingData("serves", metric, Columns(SITES, WIDTHS_OF), LAYERS, 30, {o: group() for o in OWNERS})


@pytest.fixture(scope="module")
def sets() -> NeuronSets:
    relations = {o: {"prompt": [f"The {o} of {{{{ entity }}}} is"], "answers": {"ada": ["Byron"]}} for o in OWNERS}
    experiment = with_defaults(
        Experiment.model_validate(
            {
                "version": 1,
                "name": "sets",
                "model": {"id": "m"},
                "entities": {"ada": {"name": "Ada Lovelace"}},
                "relations": relations,
                "localize": {
                    "serves": {"metric": "mean_activation", "prompts": "facts", "by": ["relation"], "top": 30}
                },
                "neurons": {"first": {"of": "serves", "top": 50}},
            }
        )
    )
    return NeuronSets(experiment, {"serves": ranking()}, WIDTHS)


def cut(sets: NeuronSets, owner: str = "ceo", axes=None, **fields) -> Members:
    return sets.members(NeuronSet.model_validate({"of": "serves", **fields}), owner, axes or {})


@settings(max_examples=60, deadline=None)
@given(k=st.integers(1, N - 1), owner=st.sampled_from(OWNERS))
def test_the_best_k_are_the_first_of_the_best_of_one_more(sets, k, owner):
    shorter, longer = cut(sets, owner, top=k), cut(sets, owner, top=k + 1)
    assert longer[:k] == shorter and len(longer) == k + 1
    assert shorter.addresses() == sets.rankings["serves"].slice(owner, 1, k)


@settings(max_examples=60, deadline=None)
@given(cuts=st.lists(st.integers(1, N - 1), min_size=1, max_size=5, unique=True))
def test_slices_of_ranks_partition_the_ranking_and_the_last_ones_are_its_end(sets, cuts):
    edges = [0, *sorted(cuts), N]
    parts = [cut(sets, rank=f"{a + 1}-{b}") for a, b in pairwise(edges)]
    whole = cut(sets, top=N)
    assert np.array_equal(np.concatenate([p.codes for p in parts]), whole.codes)
    assert len(set(whole.codes.tolist())) == N
    assert cut(sets, bottom=N - edges[-2]) == parts[-1]


def test_a_rank_that_no_neuron_has_is_refused(sets):
    with pytest.raises(RunError, match=f"ranks {N} neurons; there is no rank {N + 1}"):
        cut(sets, top=N + 1)


def test_a_threshold_keeps_every_neuron_of_at_least_that_precision(sets):
    score = sets.rankings["serves"].groups["ceo"].score
    for threshold in (0.5, 0.9, 1.0):
        found = cut(sets, threshold=threshold)
        assert len(found) == int((score >= np.float32(threshold)).sum()) and found == cut(sets, top=N)[: len(found)]


def test_a_mass_is_the_fewest_with_that_share_of_all_scores(sets):
    score = np.sort(sets.rankings["serves"].groups["ceo"].score.reshape(-1).astype(np.float64))[::-1]
    share = np.cumsum(np.abs(score)) / np.abs(score).sum()
    for mass in (0.1, 0.5, 1.0):
        n = len(cut(sets, mass=mass))
        assert share[n - 1] >= mass - 1e-6 and (n == 1 or share[n - 2] < mass)


def test_without_the_others_is_what_no_other_owner_has(sets):
    whole = {owner: set(cut(sets, owner, top=60).addresses()) for owner in OWNERS}
    for owner in OWNERS:
        own = cut(sets, owner, top=60, minus="others").addresses()
        others = set().union(*(whole[o] for o in OWNERS if o != owner))
        assert set(own) == whole[owner] - others and own
        assert set(cut(sets, owner, top=60, minus=["serves/mother"]).addresses()) == whole[owner] - set(
            cut(sets, "mother", top=30).addresses()
        )
        assert set(cut(sets, owner, top=60, common="first").addresses()) == set(cut(sets, owner, top=50).addresses())


@given(owned=st.dictionaries(st.sampled_from(["a", "a/x", "b", "c", "d"]), st.sets(st.integers(0, 9)), min_size=1))
def test_what_others_hold_leaves_out_other_forms_of_the_same_name(owned):
    base = {"version": 1, "name": "n", "model": {"id": "m"}, "entities": {n: {"name": n} for n in "abcd"}}
    codes = {o: np.array(sorted(s), dtype=np.int64) for o, s in owned.items()}
    found = Shared.of(with_defaults(Experiment.model_validate(base)), codes)
    for owner in owned:
        others = [o for o in owned if o.split("/")[0] != owner.split("/")[0]]
        assert set(found.without(owner).codes.tolist()) == set().union(*(owned[o] for o in others))


def test_whole_layers_hold_every_neuron_of_their_sites(sets):
    found = sets.members(NeuronSet.model_validate({"site": ["mlp.up", "mlp.out"], "layers": ["2-3"]}), "ceo")
    assert found.counts() == {("mlp.up", 2): 40, ("mlp.up", 3): 40, ("mlp.out", 2): 16, ("mlp.out", 3): 16}
    with pytest.raises(RunError, match=r"no attn\.q in layer 2"):
        sets.members(NeuronSet.model_validate({"site": ["attn.q"], "layers": ["2"]}), "ceo")


@settings(max_examples=50, deadline=None)
@given(k=st.integers(1, 150), seed=st.integers(0, 3))
def test_random_like_has_the_same_counts_and_is_disjoint_from_the_set(sets, k, seed):
    own = cut(sets, top=k)
    assume(all(2 * n <= WIDTHS[place] for place, n in own.counts().items()))
    drawn = draw_like(own, own, WIDTHS, (seed, "x"))
    assert drawn == draw_like(own, own, WIDTHS, (seed, "x"))
    assert drawn.counts() == own.counts()
    assert len(set(drawn.codes.tolist())) == k and not len(drawn.common(own))
    # each stands for the one in its place, whose dose it may get
    for a, b in zip(own.addresses(), drawn.addresses(), strict=True):
        assert (a.site, a.layer) == (b.site, b.layer)
    assert drawn != draw_like(own, own, WIDTHS, (seed, "y")) or k < 3


def test_a_longer_set_keeps_most_of_what_was_drawn_for_a_shorter(sets):
    shorter, longer = (draw_like(own, own, WIDTHS, (0,)) for own in (cut(sets, top=80), cut(sets, top=90)))
    assert ONE_BY_ONE < 80 and len(shorter.common(longer)) > 60


def test_where_a_layer_has_too_few_left_the_rest_come_from_the_nearest_of_the_same_site():
    own = Members.at(["mlp.up"], np.zeros(35, np.int64), np.full(35, 2), np.arange(35))
    drawn = draw_like(own, own, WIDTHS, (0,))
    assert drawn.counts() == {("mlp.up", 2): 5, ("mlp.up", 1): 30}
    assert not len(drawn.common(own)) and len(set(drawn.codes.tolist())) == 35


def test_a_site_without_neurons_left_is_said_with_what_to_do():
    parts = [Members.at(["mlp.up"], np.zeros(40, np.int64), np.full(40, n), np.arange(40)) for n in range(6)]
    whole = parts[0].and_then(*parts[1:])
    with pytest.raises(RunError, match=r"mlp\.up has too few") as error:
        draw_like(whole, whole, WIDTHS, (0,))
    assert "random_neurons: 0" in str(error.value.remedy)
