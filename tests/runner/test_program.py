"""Packing: every sequence is run once, whatever the limits, and groups stay together where they fit."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from runner.program import Job, Limits, TokenSequence, cost, halve, pack, planned_cost


@st.composite
def jobs(draw):
    """Groups of a clean prompt and its branches."""
    sequences = []
    for group in range(draw(st.integers(1, 5))):
        ids = tuple(draw(st.lists(st.integers(0, 4), min_size=2, max_size=6)))
        clean = len(sequences)
        sequences.append(TokenSequence(group, ids))
        for condition in range(draw(st.integers(0, 6))):
            at = draw(st.integers(0, len(ids) - 1))
            twin = clean if draw(st.booleans()) else None
            sequences.append(TokenSequence(group, ids, f"c{condition}", branch_at=at, edits=((at,),), twin=twin))
    return Job(tuple(sequences))


LIMITS = st.builds(Limits, st.integers(4, 40), st.integers(8, 80), st.integers(1, 8))


@settings(deadline=None)
@given(jobs(), LIMITS, st.sampled_from(["trees", "padded", "one by one"]))
def test_every_sequence_is_run_and_reads_back(job, limits, mode):
    seen = set()
    for batch in pack(job, limits, mode):
        for tree, members in zip(batch.trees, batch.members, strict=True):
            assert len(tree.paths) == len(members)
            for path, i in zip(tree.paths, members, strict=True):
                assert tuple(tree.ids[path]) == job.sequences[i].ids
                seen.add(i)
    assert seen == set(range(len(job)))


@settings(deadline=None)
@given(jobs(), LIMITS, st.sampled_from(["trees", "padded", "one by one"]))
def test_a_twin_is_in_the_same_pass_and_in_trees_in_the_same_row(job, limits, mode):
    for batch in pack(job, limits, mode):
        together = {i for row in batch.members for i in row}
        for row in batch.members:
            for i in row:
                twin = job.sequences[i].twin
                if twin is not None:
                    assert twin in (row if mode == "trees" else together)


@settings(deadline=None)
@given(jobs())
def test_with_room_a_group_shares_one_row(job):
    for batch in pack(job, Limits(10_000, 10_000, 64)):
        rows_of_group: dict[int, set[int]] = {}
        for r, row in enumerate(batch.members):
            for i in row:
                rows_of_group.setdefault(job.sequences[i].group, set()).add(r)
        assert all(len(rows) == 1 for rows in rows_of_group.values())


@settings(deadline=None)
@given(jobs(), LIMITS)
def test_packing_depends_on_the_job_alone(job, limits):
    assert [p.members for p in pack(job, limits)] == [p.members for p in pack(job, limits)]


@settings(deadline=None)
@given(jobs())
def test_halving_loses_no_sequence(job):
    (batch, *rest) = pack(job, Limits(10_000, 10_000, 64))
    assert not rest
    parts = halve(batch, job)
    whole = {i for row in batch.members for i in row}
    if parts:
        assert {i for p in parts for row in p.members for i in row} == whole
        assert all(p.n_nodes <= batch.n_nodes for p in parts)
    else:
        assert len(whole) < 2 or len({job.sequences[i].condition for i in whole}) <= len(whole)


def test_conditions_cost_only_their_own_tokens():
    ids = tuple(range(10))
    job = Job(
        (
            TokenSequence(0, ids),
            *(TokenSequence(0, ids, f"x{n}", branch_at=8, edits=((8,),)) for n in range(21)),
        )
    )
    counted = cost(job, pack(job, Limits(512, 512, 8)))
    assert counted.distinct_tokens == 10 + 21 * 2
    assert counted.tokens == counted.padded_tokens == 220


def test_one_condition_at_one_place_shares_the_nodes_of_several_answers():
    job = Job(
        (
            TokenSequence(0, (1, 2, 3, 4), "x", branch_at=1, edits=((1,),)),
            TokenSequence(0, (1, 2, 3, 5), "x", branch_at=1, edits=((1,),)),
        )
    )
    assert cost(job, pack(job, Limits())).distinct_tokens == 5


@settings(deadline=None)
@given(jobs(), LIMITS, st.sampled_from(["trees", "padded", "one by one"]))
def test_what_a_plan_counts_is_what_packing_gives(job, limits, mode):
    assert planned_cost(job, limits, mode) == cost(job, pack(job, limits, mode))
