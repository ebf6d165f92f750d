"""Packed prompt trees against one prompt at a time, with the library's own masks, in every family.

Each comparison is shown to be able to fail: the same row under a plain causal mask is wrong by more than five
percent at every site that attention reaches.
"""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nnsight import NNsight
from torch.overrides import TorchFunctionMode

from runner.attention import TreeBlocks, mask_bytes, one_row_only, tree_attention, tree_mask, wide_attention
from runner.execute import Engine
from runner.families import family_of, mask_form, shape_of
from runner.program import Job, TokenSequence
from runner.tree import build_tree, stack_rows
from specs.language.errors import ModelError
from tests.capture import all_places, capture, relative
from tests.tiny import TINY, TINY_UNTREELIKE, WINDOW, tiny_config, tiny_model

LIMIT = 2e-5
"""Relative error of float32; a wrong mask is a thousand times above it."""
WRONG = 0.05
PROMPTS = (
    (3, 9, 14, 7, 21, 33, 8, 50, 12, 17, 4),
    (3, 9, 14, 7, 21, 40, 12, 31, 9),
    (3, 9, 14, 7, 21, 40, 12),
    (3, 9, 50, 6, 6, 11, 19, 44, 28, 36),
    (3, 30, 31, 32, 45, 46, 47, 3),
    (22, 9, 14, 7, 21, 33, 8),
)
EAGER = sorted(set(TINY) - {"falcon_alibi"})
FIXED = ("bloom", "falcon_alibi", "mpt", "gpt_neo")
"""Models that need more than a mask."""
WINDOWED = sorted(name for name in TINY if mask_form(tiny_config(name)) in ("per layer type", "single, windowed"))


@functools.cache
def shared(name, attention=None):
    """A tiny model and its sites; no test changes it."""
    model = tiny_model(name, attention=attention)
    return model, all_places(model)


@functools.cache
def alone(name, attention=None):
    """Every prompt by itself, as the library runs it."""
    model, places = shared(name, attention)
    return [capture(model, places, input_ids=torch.tensor([prompt])) for prompt in PROMPTS]


def rows_of(*groups):
    """Prompt trees as rows: tensors ids, depth, end, and where each prompt's nodes are among all nodes."""
    trees = [build_tree(list(group)) for group in groups]
    rows = stack_rows(trees)
    width = rows.ids.shape[1]
    paths = [torch.from_numpy(path + r * width) for r, tree in enumerate(trees) for path in tree.paths]
    return tuple(torch.from_numpy(a) for a in (rows.ids, rows.depth, rows.end)), paths


def worst(found, expected, paths):
    """Relative error of each site and layer, the largest over prompts, and of the logits."""
    errors = {}
    for one, path in zip(expected, paths, strict=True):
        for (site, layer), values in one.values.items():
            errors.setdefault((site, layer), []).append(relative(found.values[site, layer][path], values))
        flat = found.logits.reshape(-1, found.logits.shape[-1])
        errors.setdefault(("logits", 99), []).append(relative(flat[path], one.logits[0]))
    return {key: max(values) for key, values in errors.items()}


def run(name, groups, attention=None, *, plain=False, mask=None):
    """Run prompts packed; ``plain`` shows every node all earlier ones, ``mask`` replaces what is given."""
    model, places = shared(name, attention)
    (ids, depth, end), paths = rows_of(*groups)
    if plain:
        end = torch.full_like(end, ids.shape[1])
    with tree_attention(model, ids, depth, end) as given:
        if mask is not None:
            given = {**given, "attention_mask": mask(depth, end)}
        return capture(model, places, **given), paths


# -- exactness ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(TINY))
def test_a_packed_row_equals_prompts_one_by_one_at_every_site(name):
    found, paths = run(name, [PROMPTS])
    assert max(worst(found, alone(name), paths).values()) < LIMIT


@pytest.mark.parametrize("name", sorted(TINY))
def test_a_plain_causal_mask_is_wrong_at_every_site(name):
    """Positions and windows are right here: what is missing is that branches do not see each other."""
    model, _ = shared(name)
    found, paths = run(name, [PROMPTS], plain=True)
    errors = worst(found, alone(name), paths)
    first = {"attn.heads", "attn.out", "resid"}
    if not shape_of(model).parallel_attention:
        first |= {"mlp.gate", "mlp.up", "mlp.neurons", "mlp.out"}
    assert min(e for (site, layer), e in errors.items() if layer > 0 or site in first) > WRONG


@pytest.mark.parametrize("name", EAGER)
def test_a_packed_row_is_exact_under_eager_attention(name):
    found, paths = run(name, [PROMPTS], "eager")
    assert max(worst(found, alone(name, "eager"), paths).values()) < LIMIT


@pytest.mark.parametrize("name", sorted(TINY))
def test_rows_of_different_length_are_exact_together(name):
    """Padding nodes see themselves and harm nobody."""
    groups = (PROMPTS[:3], PROMPTS[3:4], PROMPTS[4:])
    if one_row_only(tiny_config(name)):
        model, _ = shared(name)
        tensors, _ = rows_of(*groups)
        with pytest.raises(ValueError, match="one row"), tree_attention(model, *tensors):
            pass
        return
    found, paths = run(name, groups)
    assert max(worst(found, alone(name), paths).values()) < LIMIT
    assert all(bool(torch.isfinite(values).all()) for values in found.values.values())


@pytest.mark.parametrize("name", ["gpt2", "opt", "gpt_neo", "mpt", "bloom", "llama", "codegen", "biogpt"])
def test_a_row_may_hold_more_nodes_than_the_model_has_positions(name):
    """Only depths index tables of positions."""
    many = [*PROMPTS, *((i, j, i, 5, j) for i in range(3, 8) for j in range(8, 13))]
    (ids, _, _), paths = rows_of(many)
    assert ids.shape[1] > 64
    found, paths = run(name, [many])
    assert max(worst(found, alone(name), paths[: len(PROMPTS)]).values()) < LIMIT


@pytest.mark.parametrize("name", ["llama", "gemma2", "gemma3", "xglm", "biogpt", *FIXED])
def test_masks_come_in_the_models_number_format(name):
    """In bfloat16 packing costs no more than bfloat16 does, and a wrong mask still shows."""
    model = tiny_model(name, dtype=torch.bfloat16)
    tensors, paths = rows_of(PROMPTS)
    singles = [capture(model, [], input_ids=torch.tensor([prompt])).logits[0] for prompt in PROMPTS]
    errors = {}
    for label, end in (("tree", tensors[2]), ("plain", torch.full_like(tensors[2], tensors[0].shape[1]))):
        with tree_attention(model, tensors[0], tensors[1], end) as given:
            logits = capture(model, [], **given).logits[0]
        errors[label] = max(relative(logits[path], single) for path, single in zip(paths, singles, strict=True))
    assert errors["tree"] < 0.05 < 0.2 < errors["plain"]


# -- masks that are wrong in silence ------------------------------------------------------------------------


@pytest.mark.parametrize("name", WINDOWED)
def test_prompts_longer_than_the_window_need_it_in_the_mask(name):
    """The library adds no window to a ready mask."""
    assert max(map(len, PROMPTS)) > WINDOW

    def wide(depth, end):
        return tree_mask(depth, end, torch.float32)

    found, paths = run(name, [PROMPTS], mask=wide)
    assert worst(found, alone(name), paths)["logits", 99] > WRONG


@pytest.mark.parametrize(
    "name", [n for n in WINDOWED if mask_form(tiny_config(n)) == "per layer type" and n != "ministral"]
)
def test_a_window_in_every_layer_of_a_mixed_model_is_wrong(name):
    def narrow(depth, end):
        return tree_mask(depth, end, torch.float32, WINDOW)

    found, paths = run(name, [PROMPTS], mask=narrow)
    assert worst(found, alone(name), paths)["logits", 99] > WRONG


@pytest.mark.parametrize("name", ["llama", "gptj", "gemma2", "xglm"])
def test_a_boolean_mask_under_eager_attention_is_wrong_in_silence(name):
    """Which is why the mask is additive everywhere."""

    def boolean(depth, end):
        return tree_mask(depth, end, torch.float32) == 0

    found, paths = run(name, [PROMPTS], "eager", mask=boolean)
    assert worst(found, alone(name, "eager"), paths)["logits", 99] > WRONG


def test_a_window_that_the_code_of_a_family_does_not_heed_is_left_out():
    """Configurations carry `sliding_window` for models that never look at it."""
    model = tiny_model("llama", sliding_window=WINDOW)
    tensors, paths = rows_of(PROMPTS)
    with tree_attention(model, *tensors) as given:
        logits = capture(model, [], **given).logits[0]
    for path, prompt in zip(paths, PROMPTS, strict=True):
        single = capture(model, [], input_ids=torch.tensor([prompt])).logits[0]
        assert relative(logits[path], single) < LIMIT


# -- the mask itself ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("window", [None, 1, 3])
def test_a_node_sees_its_own_prompt_and_nothing_else(window):
    """Compared with a search for ancestors, on random forests."""
    random = np.random.default_rng(0)
    for _ in range(20):
        prompts = [tuple(random.integers(0, 3, size=random.integers(1, 7))) for _ in range(6)]
        (_, depth, end), paths = rows_of(prompts)
        n = depth.shape[1]
        expected = np.zeros((n, n), dtype=bool)
        for path in paths:
            for k, node in enumerate(path.tolist()):
                first = 0 if window is None else max(0, k + 1 - window)
                expected[node, path[first : k + 1].numpy()] = True
        mask = tree_mask(depth, end, torch.float32, window)
        assert mask.shape == (1, 1, n, n)
        assert np.array_equal((mask == 0)[0, 0].numpy(), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_mask_is_finite_and_of_the_format_that_was_asked_for(dtype):
    (_, depth, end), _ = rows_of(PROMPTS[:2], PROMPTS[2:3])
    mask = tree_mask(depth, end, dtype)
    assert mask.dtype == dtype and bool(torch.isfinite(mask).all())
    assert set(mask.unique().tolist()) == {0.0, torch.finfo(dtype).min}


def test_padding_nodes_see_themselves():
    (_, depth, end), _ = rows_of(PROMPTS[:3], PROMPTS[4:5])
    mask = tree_mask(depth, end, torch.float32)
    real = len(PROMPTS[4])
    assert mask.shape[2] > real
    assert torch.equal((mask[1, 0, real:] == 0).nonzero()[:, 1], torch.arange(real, mask.shape[2]))


# -- what is set up and taken away --------------------------------------------------------------------------


@pytest.mark.parametrize("name", FIXED)
@pytest.mark.parametrize("fails", [False, True])
def test_a_model_is_left_as_it_was(name, fails):
    """No hook and no buffer stays behind, also when the pass fails."""
    model, _ = shared(name)
    buffers = {key: id(value) for key, value in model.named_buffers()}
    before = model(torch.tensor([PROMPTS[0]])).logits
    tensors, _ = rows_of(PROMPTS)
    try:
        with tree_attention(model, *tensors) as given:
            model(**given)
            if fails:
                raise RuntimeError("planted")
    except RuntimeError as error:
        assert "planted" in str(error)
    assert {key: id(value) for key, value in model.named_buffers()} == buffers
    assert not any(module._forward_pre_hooks for module in model.modules())
    assert torch.equal(model(torch.tensor([PROMPTS[0]])).logits, before)


@pytest.mark.parametrize("name", ["llama", "gemma3", "gpt2", "opt", *FIXED])
def test_it_works_inside_a_trace(name):
    """Hooks, swapped buffers and dictionaries of masks go through the base wrapper untouched."""
    model = tiny_model(name)
    family = family_of(model.config)
    tensors, paths = rows_of(PROMPTS)
    traced = NNsight(model)
    block = functools.reduce(getattr, family.blocks.split("."), traced)[1]
    down = functools.reduce(getattr, family.down.split("."), block)
    with torch.inference_mode(), tree_attention(model, *tensors) as given, traced.trace(**given, use_cache=False):
        neurons = down.input.save()
        logits = traced.output.logits.save()
    flat = neurons.reshape(-1, neurons.shape[-1])
    for path, one in zip(paths, alone(name), strict=True):
        assert relative(flat[path], one.values["mlp.neurons", 1]) < LIMIT
        assert relative(logits[0, path], one.logits[0]) < LIMIT


@pytest.mark.parametrize("implementation", ["flash_attention_2", "flex_attention"])
def test_attention_that_takes_no_dense_mask_is_refused(implementation):
    """One ignores the mask, the other crashes on it."""
    model = tiny_model("llama")
    model.config._attn_implementation = implementation
    tensors, _ = rows_of(PROMPTS)
    with pytest.raises(ModelError, match="takes no prompt tree"), tree_attention(model, *tensors):
        pass


def test_falcon_with_alibi_under_eager_attention_is_refused():
    """The library adds the bias twice there: its two implementations disagree."""
    eager, sdpa = (tiny_model("falcon_alibi", attention=kind) for kind in ("eager", "sdpa"))
    ids = torch.tensor([PROMPTS[0]])
    assert relative(eager(ids).logits, sdpa(ids).logits) > 0.01
    tensors, _ = rows_of(PROMPTS)
    with pytest.raises(ModelError, match="twice"), tree_attention(eager, *tensors):
        pass


# -- models in which more than attention carries values -----------------------------------------------------

ADMITTED = ("lfm2", "olmo_hybrid", "qwen3_5", "falcon_h1")


@pytest.mark.parametrize("name", ADMITTED)
def test_trees_are_wrong_where_more_than_attention_mixes_tokens(name):
    """In silence: nothing is raised, so only a comparison at run time can tell."""
    model = tiny_model(name)
    assert family_of(model.config).mixer
    tensors, paths = rows_of(PROMPTS)
    with tree_attention(model, *tensors) as given:
        logits = capture(model, [], **given).logits[0]
    singles = [capture(model, [], input_ids=torch.tensor([p])).logits[0] for p in PROMPTS]
    assert max(relative(logits[path], one) for path, one in zip(paths, singles, strict=True)) > WRONG
    length = max(map(len, PROMPTS))
    ids = torch.tensor([[*p, *[0] * (length - len(p))] for p in PROMPTS])
    real = torch.tensor([[1] * len(p) + [0] * (length - len(p)) for p in PROMPTS])
    padded = capture(model, [], input_ids=ids, attention_mask=real).logits
    for row, one in zip(padded, singles, strict=True):
        assert relative(row[: len(one)], one) < LIMIT, "rows padded at the right are the way to run these"


@pytest.mark.parametrize("name", ADMITTED)
def test_packed_against_single_runs_of_the_engine_catch_them(name):
    """What the packing self-test compares: neurons of trees, and of padded rows, with prompts run singly."""
    engine = Engine(tiny_model(name))
    job = Job(
        tuple(TokenSequence(0, p, read=tuple(range(len(p)))) for p in PROMPTS),
        ("mlp.neurons",),
        tuple(range(engine.n_layers)),
    )

    def neurons(mode):
        values = {}

        def keep(reading):
            for k, key in enumerate(zip(reading.sequence, reading.position, strict=True)):
                values[key] = torch.stack(reading.values["mlp.neurons"])[:, k]

        engine.run(job, on_values=keep, mode=mode)
        return torch.stack([values[key] for key in sorted(values)])

    single = neurons("one by one")
    assert relative(neurons("trees"), single) > WRONG
    assert relative(neurons("padded"), single) < LIMIT


@pytest.mark.parametrize("name", sorted(set(TINY_UNTREELIKE) - set(ADMITTED)))
def test_models_that_are_nothing_but_recurrence_are_refused_outright(name):
    with pytest.raises(ModelError, match="no prompt tree allows for"):
        family_of(tiny_config(name))


# -- float32 attention whose sums cancel ------------------------------------------------------------------


def cancelling(dtype=torch.float64):
    """Queries and keys of size 40 and 350 whose products all but cancel: ``[1, 2, 96, 64]`` each."""
    torch.manual_seed(0)
    sign = torch.ones(64, dtype=torch.float64)
    sign[::2] = -1
    query = 40 + torch.randn(1, 2, 96, 64, dtype=torch.float64) / 10
    key = 350 * sign + torch.randn(1, 2, 96, 64, dtype=torch.float64) / 10
    value = torch.randn(1, 2, 96, 64, dtype=torch.float64)
    return [t.to(dtype) for t in (query, key, value)]


def test_wide_attention_is_the_float64_result_rounded_once():
    narrow = cancelling(torch.float32)
    attend = torch.nn.functional.scaled_dot_product_attention
    exact = attend(*(t.double() for t in narrow), is_causal=True)
    with wide_attention():
        wide = attend(*narrow, is_causal=True)
    assert wide.dtype == torch.float32
    assert torch.equal(wide, exact.float())
    assert relative(attend(*narrow, is_causal=True).double(), exact) > 1e-5, "the case must be one that float32 misses"


def test_wide_attention_leaves_other_formats_alone():
    torch.manual_seed(0)
    half = torch.randn(3, 1, 2, 96, 64).to(torch.bfloat16)
    attend = torch.nn.functional.scaled_dot_product_attention
    plain = attend(*half)
    with wide_attention():
        assert torch.equal(attend(*half), plain)
    assert not torch.equal(attend(*half.double()).to(torch.bfloat16), plain), "widening would be seen"


class Spy(TorchFunctionMode):
    """Notes the number format of every query that reaches fused attention."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is torch.nn.functional.scaled_dot_product_attention:
            self.seen.append(args[0].dtype)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("mode", ["trees", "padded", "one by one"])
def test_the_engine_scores_and_decodes_with_wide_attention(mode):
    sequences = tuple(TokenSequence(i, (3, 4, 5 + i), score=((2, 5),), generate=4) for i in range(3))
    engine = Engine(tiny_model("qwen2"))
    with Spy() as spy:
        outcome = engine.run(Job(sequences), mode=mode)
    passes = engine.n_layers * outcome.passes
    assert len(spy.seen) > passes, "the decoder's steps are seen too"
    assert set(spy.seen) == {torch.float64}


# -- memory -------------------------------------------------------------------------------------------------


def test_the_memory_estimate_counts_masks_and_eager_scores():
    def of(name, implementation, rows=1, nodes=1000, dtype=torch.float32, device="cpu"):
        return mask_bytes(tiny_config(name), rows, nodes, 4, dtype, implementation, torch.device(device))

    assert of("llama", "sdpa") == (9 + 8) * 1000**2, "float32 attention takes the mask once more, in float64"
    assert of("llama", "sdpa", device="cuda") == 9 * 1000**2, "a GPU does not"
    assert of("minicpm3", "sdpa") >= 81 * 1000**2, "81 bytes were measured"
    assert of("falcon_alibi", "sdpa") >= 66 * 1000**2, "66 bytes were measured"
    assert of("llama", "eager") == (9 + 4 * 10) * 1000**2
    assert of("gemma3", "sdpa") == of("llama", "sdpa") + 4 * 1000**2, "a second mask for windowed layers"
    assert of("llama", "sdpa", dtype=torch.bfloat16) == 7 * 1000**2
    assert of("llama", "eager", rows=2, nodes=500) == of("llama", "eager") / 2
    assert of("falcon_alibi", "sdpa") > of("falcon_heads", "sdpa") + 4 * 4 * 1000**2, "masks for every head"


# -- block by block -------------------------------------------------------------------------------------------------


@given(st.integers(0, 10_000), st.integers(1, 3), st.sampled_from([None, 1, 3, 7]), st.sampled_from([1, 2]))
@settings(max_examples=25, deadline=None)
def test_blocks_attend_as_the_mask_says(seed, n_rows, window, kv_heads):
    """Rows of random trees, longer than a block and no multiple of one, against dense attention under the mask."""
    random = np.random.default_rng(seed)
    trees = []
    for _ in range(n_rows):
        stem = tuple(random.integers(0, 3, random.integers(0, 40)).tolist())
        trees.append(
            build_tree([stem + tuple(random.integers(0, 3, random.integers(1, 12)).tolist()) for _ in range(20)])
        )
    rows = stack_rows(trees, align=True)
    depth, end = torch.from_numpy(rows.depth), torch.from_numpy(rows.end)
    n = depth.shape[1]
    torch.manual_seed(seed)
    query, key, value = (torch.randn(n_rows, heads, n, 8) for heads in (2, kv_heads, kv_heads))
    mask = tree_mask(depth, end, torch.float32, window)
    blocks = TreeBlocks.of(depth, end, torch.float32, window)
    attend = torch.nn.functional.scaled_dot_product_attention
    dense = attend(query, key, value, attn_mask=mask, enable_gqa=True, scale=0.5)
    torch.testing.assert_close(blocks.attend(attend, query, key, value, enable_gqa=True, scale=0.5), dense)
    with wide_attention([(mask, blocks)]):
        found = attend(query, key, value, attn_mask=mask, enable_gqa=True, scale=0.5)
    torch.testing.assert_close(found, dense)


def test_long_prompts_get_dense_attention(monkeypatch):
    """A block of a long prompt has as many keys as the prompt is long, and gathering them would take memory."""
    calls = []
    whole = TreeBlocks.attend
    monkeypatch.setattr(TreeBlocks, "attend", lambda self, *a, **k: calls.append(1) or whole(self, *a, **k))
    engine = Engine(tiny_model("llama", max_position_embeddings=256))
    for length, used in ((97, False), (96, True)):
        calls.clear()
        ids = tuple(i % 40 for i in range(length))
        engine.run(Job((TokenSequence(0, ids, score=((length - 1, 1),)), TokenSequence(1, ids[:40], score=((9, 1),)))))
        assert bool(calls) == used


@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma3", "mistral_window", "gpt2", "opt", "phi3"])
def test_models_get_their_attention_block_by_block(family, monkeypatch):
    """By identity of the mask: a library that copied it would silently fall back to dense attention."""
    model = tiny_model(family)
    if str(model.config._attn_implementation) != "sdpa":
        pytest.skip("eager")
    calls = []
    whole = TreeBlocks.attend
    monkeypatch.setattr(TreeBlocks, "attend", lambda self, *a, **k: calls.append(1) or whole(self, *a, **k))
    sequences = tuple(TokenSequence(i, (3, 5, i % 40, i // 40, 7), score=((4, 1),)) for i in range(60))
    Engine(model).run(Job(sequences))
    assert len(calls) == model.config.num_hidden_layers
