"""Prompt trees: structure as laws over arbitrary sequences."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from runner.tree import build_tree, chains, common_prefix, count_nodes, keys_of, nearest_prefix, stack_rows

SEQUENCES = st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=6).map(tuple), min_size=1, max_size=12)


def ancestors(tree, node):
    """The nodes that ``node`` sees, by the rule of the mask."""
    return [j for j in range(node + 1) if node < tree.end[j]]


@given(SEQUENCES)
def test_every_sequence_reads_back_from_its_path(sequences):
    tree = build_tree(sequences)
    for sequence, path in zip(sequences, tree.paths, strict=True):
        assert tuple(tree.ids[path]) == sequence
        assert list(tree.depth[path]) == list(range(len(sequence)))


@given(SEQUENCES)
def test_a_node_sees_exactly_its_own_path(sequences):
    tree = build_tree(sequences)
    for path in tree.paths:
        for p, node in enumerate(path):
            assert ancestors(tree, node) == list(path[: p + 1])


@given(SEQUENCES)
def test_nodes_are_the_distinct_prefixes(sequences):
    prefixes = {s[: n + 1] for s in sequences for n in range(len(s))}
    assert len(build_tree(sequences)) == count_nodes(sequences) == len(prefixes)


@given(SEQUENCES, st.randoms())
def test_the_order_of_sequences_changes_no_node(sequences, random):
    shuffled = list(sequences)
    random.shuffle(shuffled)
    one, two = build_tree(sequences), build_tree(shuffled)
    assert np.array_equal(one.ids, two.ids) and np.array_equal(one.end, two.end)


def test_a_condition_branches_from_its_position_on_and_no_earlier():
    clean = keys_of((5, 6, 7), 0, 99)
    edited = keys_of((5, 6, 7), 1, 1)
    tree = build_tree([clean, edited])
    assert len(tree) == 5
    assert tree.paths[0][0] == tree.paths[1][0]
    assert not set(tree.paths[0][1:]) & set(tree.paths[1][1:])
    assert list(tree.ids[tree.paths[1]]) == [5, 6, 7]


def test_a_prompt_of_thousands_of_tokens_does_not_recurse():
    long = tuple(range(5000))
    assert len(build_tree([long, long[:-1]])) == 5000


@given(SEQUENCES)
def test_padding_nodes_see_only_themselves(sequences):
    rows = stack_rows(chains(sequences))
    for r in range(len(sequences)):
        for j in range(rows.real[r], rows.ids.shape[1]):
            assert rows.end[r, j] == j + 1
            assert all(rows.end[r, i] <= j for i in range(rows.real[r]))


@given(SEQUENCES, st.lists(st.integers(0, 3), max_size=6).map(tuple))
def test_the_nearest_of_sorted_sequences_has_the_longest_common_beginning(sequences, key):
    longest = max(sum(1 for n in range(1, len(key) + 1) if s[:n] == key[:n]) for s in sequences)
    assert max(common_prefix(s, key) for s in sequences) == nearest_prefix(sorted(sequences), key) == longest
