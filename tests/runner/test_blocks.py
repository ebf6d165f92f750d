"""Blocks of nodes times neurons: bit for bit what a loop over pairs does, however they are put together."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from runner import blocks
from runner.blocks import Block, gathered
from runner.program import Job, Limits, NeuronEdit, TokenSequence, pack

CPU = torch.device("cpu")
N, WIDTH, OFFSET = 12, 9, 3
DTYPES = (torch.float32, torch.bfloat16, torch.float16)


@st.composite
def some_blocks(draw):
    """Blocks on nodes of their own, as conditions have them; the last nodes are clean and edited by none."""
    free = draw(st.permutations(range(N - 3)))
    found = []
    while free and len(found) < 4:
        n = draw(st.integers(1, len(free)))
        nodes, free = free[:n], free[n:]
        neurons = draw(st.lists(st.integers(0, WIDTH - 1), min_size=1, max_size=WIDTH, unique=True))
        amounts = draw(st.lists(st.floats(-9, 9, width=32), min_size=len(neurons), max_size=len(neurons)))
        twins = draw(st.none() | st.lists(st.integers(N - 3, N - 1), min_size=n, max_size=n))
        found.append(
            Block(
                np.array(nodes),
                np.array(neurons),
                np.array(amounts),
                None if twins is None else np.array(twins),
            )
        )
    return found


@settings(max_examples=150, deadline=None)
@given(
    some=some_blocks(),
    op=st.sampled_from(["scale", "set", "add"]),
    dtype=st.sampled_from(DTYPES),
    small=st.sampled_from([0, 5, 1000]),
)
def test_blocks_do_what_a_loop_over_pairs_does_bit_for_bit(some, op, dtype, small):
    before = torch.randn(N, WIDTH + OFFSET, generator=torch.Generator().manual_seed(0)).to(dtype)
    wanted = before.clone()
    for block in some:
        for n, node in enumerate(block.nodes.tolist()):
            for neuron, amount in zip(block.neurons.tolist(), block.amounts.tolist(), strict=True):
                dose = torch.tensor(amount, dtype=torch.float32)
                if block.twins is not None:
                    dose = dose * before[int(block.twins[n]), neuron + OFFSET].float()
                old = before[node, neuron + OFFSET].float()
                new = {"scale": old * dose, "set": dose, "add": old + dose}[op]
                wanted[node, neuron + OFFSET] = new.to(dtype)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(blocks.SMALL, "cpu", small)
        patch.setattr(blocks, "TOGETHER", 20)
        done = before.clone()
        for part in gathered(op, some, lambda neurons: neurons + OFFSET, CPU):
            done = part.apply(done)
    assert torch.equal(
        done.view(torch.int16 if dtype != torch.float32 else torch.int32),
        wanted.view(torch.int16 if dtype != torch.float32 else torch.int32),
    )


def test_many_small_blocks_are_one_operation_and_a_large_one_is_never_written_out_as_pairs():
    small = [Block(np.array([n]), np.array([1]), np.array([0.0])) for n in range(100)]
    large = Block(np.arange(2000), np.arange(50_000), np.zeros(50_000))
    done = gathered("set", [*small, large], lambda neurons: neurons, CPU)
    assert len(done) == 2
    whole, together = done
    assert together.nodes.shape == (100,)
    assert sum(t.numel() for t in (whole.nodes, whole.columns, whole.amounts)) == 2000 + 2 * 50_000


def test_an_edit_of_many_neurons_is_written_as_a_hash_that_every_neuron_and_amount_decides():
    n = 5000
    some = NeuronEdit("set", "mlp.up", 1, range(n), np.zeros(n))
    assert len(repr(some)) < 400 and some == NeuronEdit("set", "mlp.up", 1, tuple(range(n)), (0.0,) * n)
    other = np.arange(n)
    other[n // 2] = n
    dose = np.zeros(n)
    dose[n // 2] = 1e-9
    assert repr(NeuronEdit("set", "mlp.up", 1, other, np.zeros(n))) != repr(some)
    assert repr(NeuronEdit("set", "mlp.up", 1, range(n), dose)) != repr(some)
    few = NeuronEdit("scale", "mlp.neurons", 1, (3,), (-1.0,))
    assert "neurons=(3,), amounts=(-1.0,)" in repr(few)


# -- what prompts share within one condition ----------------------------------------------------------------------


def everywhere(ids, condition="x"):
    every = tuple(range(len(ids)))
    return TokenSequence(0, ids, condition, branch_at=0, edits=(every,), onward=(0,))


def test_prompts_and_answers_that_begin_alike_share_their_beginning_within_a_condition():
    begin = tuple(range(10, 20))
    job = Job(
        (
            everywhere((*begin, 1)),
            everywhere((*begin, 2, 3)),
            everywhere((*begin, 2, 3, 4)),
            everywhere((*begin, 1), "y"),
            TokenSequence(0, (*begin, 1)),
        )
    )
    (one,) = pack(job, Limits(1000, 1000, 8))
    per_condition = len(begin) + 1 + 3
    assert one.n_nodes == per_condition + 2 * (len(begin) + 1)


def test_what_is_done_at_a_token_or_before_it_is_never_shared_with_a_token_it_is_not_done_at():
    ids = (5, 6, 7, 8)

    def node_of(sequences):
        (one,) = pack(Job(tuple(sequences)), Limits(1000, 1000, 8))
        return [one.trees[0].paths[k] for k in range(len(sequences))]

    early = TokenSequence(0, ids, "x", branch_at=1, edits=((1,),))
    late = TokenSequence(0, ids, "x", branch_at=1, edits=((2,),))
    other = TokenSequence(0, ids, "x", branch_at=1, edits=((), (1,)))
    frozen = TokenSequence(0, ids, "x", branch_at=1, edits=((1,),), frozen=(("last", 3),))
    a, b, c, d = node_of([early, late, other, frozen])
    assert a[0] == b[0] == c[0]
    assert len({a[1], b[1], c[1]}) == 3
    assert list(a[:3]) == list(d[:3]) and a[3] != d[3]
    source = [TokenSequence(0, ids, "x", branch_at=1, edits=((1,),), source=s, apart=True) for s in "ab"]
    a, b = node_of(source)
    assert a[0] == b[0] and a[1] != b[1]
