"""The table of families: every site is where the table says, with the model's own width, in forward order."""

from __future__ import annotations

import functools

import pytest
import torch

from runner.families import (
    FAMILIES,
    family_of,
    layers_with,
    logits_of,
    mask_form,
    module_orders,
    neuron_counts,
    shape_of,
    site_place,
    sites_of,
)
from runner.models.checkpoint import empty_model
from specs.language.errors import ModelError
from tests.capture import all_places, capture, relative
from tests.tiny import TINY, TINY_MOE, TINY_UNTREELIKE, VOCABULARY, tiny_config, tiny_model


@functools.cache
def shared(name):
    """A tiny model that no test changes."""
    return tiny_model(name)


PROMPT = torch.tensor([[3, 9, 14, 7, 21, 33]])
PLAIN_ATTENTION = sorted(
    set(TINY)
    - {
        "bitnet",  # normalises the heads before the output projection
        "diffllama",  # subtracts two patterns
        "granite_swa",  # lets heads attend to nothing
        "gemma4",  # normalises values
        "gemma4_wide",
        "gemma3n",
        "minicpm3",  # latent
        "youtu",
    }
)
"""Models whose first token's heads are its values and nothing else."""
NEURON_BY_NEURON = sorted(set(TINY) - {"bitnet", "gemma3n"})
"""Models whose MLP mixes no neurons before the down projection."""


def test_every_family_of_the_table_has_a_shared():
    kinds = {kind for kind, _ in (*TINY.values(), *TINY_UNTREELIKE.values())}
    assert set(FAMILIES) <= kinds


def test_the_families_that_were_promised_are_there():
    promised = (
        "llama qwen2 qwen3 mistral gemma gemma2 gemma3_text olmo olmo2 phi phi3 stablelm gpt2 gpt_neo gptj "
        "gpt_neox bloom falcon mpt opt"
    )
    assert set(promised.split()) <= set(FAMILIES)
    assert len(FAMILIES) >= 55


@pytest.mark.parametrize("name", sorted(TINY))
def test_sites_fire_in_the_order_of_their_places(name):
    """Also attention before the MLP where both are parallel; every place is visited once."""
    model = shared(name)
    places = all_places(model)
    visited = capture(model, places, input_ids=PROMPT).visited
    assert sorted(visited, key=lambda p: p.order) == visited
    assert sorted(visited, key=lambda p: p.order) == sorted(places, key=lambda p: p.order)


@pytest.mark.parametrize("name", sorted(TINY))
def test_widths_are_the_modules_own(name):
    model = shared(name)
    places = all_places(model)
    found = capture(model, places, input_ids=PROMPT)
    for place in places:
        assert found.values[place.site, place.layer].shape == (PROMPT.numel(), place.width)


@pytest.mark.parametrize("name", sorted(TINY))
def test_a_model_without_weights_has_the_same_places(name):
    model = shared(name)
    meta = empty_model(model.config)
    assert next(meta.parameters()).device.type == "meta"
    assert all_places(meta) == all_places(model)
    assert shape_of(meta) == shape_of(model)


@pytest.mark.parametrize("name", sorted(TINY))
def test_the_head_and_what_follows_it_give_the_models_logits(name):
    model = shared(name)
    found = capture(model, [], input_ids=PROMPT)
    with torch.inference_mode():
        ours = logits_of(model, found.head_input)
        bare = model.get_output_embeddings()(found.head_input)
    assert relative(ours, found.logits) < 1e-6
    if family_of(model.config).logits is not None:
        assert relative(bare, found.logits) > 1e-2, "the rule must matter, or the test could not fail"


@pytest.mark.parametrize("name", sorted(TINY))
def test_modules_are_ordered_without_weights_as_with_them(name):
    """A pass without weights finds the places of the sites, in the same order."""
    model = shared(name)
    family = family_of(model.config)
    meta = empty_model(model.config)
    orders, without = module_orders(model, family), module_orders(meta, family)
    for place in all_places(model):
        if place.end == "output" and place.whole:
            assert orders[place.path] == without[place.path] == (place.width, place.order)


@pytest.mark.parametrize("name", PLAIN_ATTENTION)
def test_values_are_the_columns_that_reach_the_first_tokens_heads(name):
    """The first token sees itself alone: each of its heads is its group's value, whatever the layout."""
    model = shared(name)
    shape = shape_of(model)
    found = capture(model, all_places(model), input_ids=PROMPT)
    values, heads = found.values["attn.v", 1][0], found.values["attn.heads", 1][0]
    assert values.numel() == shape.n_kv_heads * shape.head_dim
    if model.config.model_type in ("olmo", "mpt") and getattr(model.config, "clip_qkv", None):
        values = values.clamp(-model.config.clip_qkv, model.config.clip_qkv)
    per_group = shape.n_heads // shape.n_kv_heads
    repeated = values.view(shape.n_kv_heads, shape.head_dim).repeat_interleave(per_group, dim=0)
    assert relative(repeated.flatten(), heads) < 1e-6


@pytest.mark.parametrize("name", PLAIN_ATTENTION)
def test_queries_and_keys_are_the_columns_that_steer_attention(name):
    """A query moves its own head at its own token, and not at the first token; a key moves later tokens."""
    model = shared(name)
    shape = shape_of(model)
    family = family_of(model.config)
    query, key, heads = (site_place(model, family, s, 1) for s in ("attn.q", "attn.k", "attn.heads"))
    calm = capture(model, [query, key, heads], input_ids=PROMPT).values["attn.heads", 1]
    head = shape.n_heads - 1
    own = slice(head * shape.head_dim, (head + 1) * shape.head_dim)

    def rotated(place, token, columns):
        """Turn columns round, which no normalisation undoes."""

        def change(flat):
            flat[token, columns] = flat[token, columns].roll(1) * 3 + 1
            return flat

        return capture(model, [query, key, heads], change=(place, change), input_ids=PROMPT).values["attn.heads", 1]

    moved = rotated(query, 3, query.columns(torch.arange(own.start, own.stop))) - calm
    assert moved[3, own].abs().max() > 1e-3
    assert moved[[0, 1, 2, 4, 5]].abs().max() < 1e-6
    if model.config.model_type not in ("olmo2", "olmo3"):  # they normalise all heads' queries as one vector
        others = torch.cat([moved[:, : own.start], moved[:, own.stop :]], dim=1)
        assert others.abs().max() < 1e-6
    first_query = rotated(query, 0, query.columns(torch.arange(query.width))) - calm
    assert first_query.abs().max() < 1e-6, "a token that sees itself alone has no use for its query"
    first_key = rotated(key, 0, key.columns(torch.arange(key.width))) - calm
    if model.config.model_type != "doge":  # its mask is made from the values
        assert first_key[0].abs().max() < 1e-6
    assert first_key[1:].abs().max() > 1e-3


@pytest.mark.parametrize("name", sorted(n for n, (kind, _) in TINY.items() if FAMILIES[kind].qkv))
def test_queries_keys_and_values_share_no_column_and_leave_none(name):
    model = shared(name)
    family = family_of(model.config)
    places = [site_place(model, family, site, 0) for site in ("attn.q", "attn.k", "attn.v")]
    columns = torch.cat([place.columns(torch.arange(place.width)) for place in places])
    assert sorted(columns.tolist()) == list(range(places[0].full))


@pytest.mark.parametrize("name", NEURON_BY_NEURON)
def test_gate_and_up_of_a_neuron_move_that_neuron_alone(name):
    """Doubling `up` doubles a gated neuron, which doubling its gate does not."""
    model = shared(name)
    family = family_of(model.config)
    places = [site_place(model, family, s, 1) for s in sites_of(family) if s.startswith("mlp.")]
    neurons = {"mlp.gate": 5, "mlp.up": 5}
    calm = capture(model, places, input_ids=PROMPT).values["mlp.neurons", 1]
    gated = "mlp.gate" in sites_of(family)
    for place in places:
        if place.site not in neurons:
            continue
        column = place.columns(torch.tensor(neurons[place.site]))

        def change(flat, column=column):
            flat[:, column] *= 2
            return flat

        after = capture(model, places, change=(place, change), input_ids=PROMPT).values["mlp.neurons", 1]
        moved = (after - calm).abs().amax(dim=0)
        assert moved[5] > 1e-4 and moved[:5].max() < 1e-6 and moved[6:].max() < 1e-6
        doubled = relative(after[:, 5], 2 * calm[:, 5]) < 1e-6
        if gated:
            assert doubled == (place.site == "mlp.up")


def test_spread_columns_are_taken_and_numbered_alike():
    model = shared("gpt_neox")
    place = site_place(model, FAMILIES["gpt_neox"], "attn.k", 0)
    assert not place.contiguous
    values = torch.randn(3, place.full)
    neurons = torch.tensor([0, 7, 8, 31])
    assert torch.equal(place.take(values)[:, neurons], values[:, place.columns(neurons)])
    assert place.columns(neurons).tolist() == [8, 15, 32, 3 * 24 + 8 + 7]


def test_a_spread_site_has_no_first_column():
    """Code that takes it for one slice fails instead of reading other neurons."""
    place = site_place(shared("gpt_neox"), FAMILIES["gpt_neox"], "attn.q", 0)
    with pytest.raises(ValueError, match="spread"):
        _ = place.start
    assert site_place(shared("phi3"), FAMILIES["phi3"], "mlp.up", 0).start == 48


def test_falcon_overwrites_the_output_of_its_mlp():
    """What a hook keeps without copying is another tensor after the pass, so the place says so."""
    model = shared("falcon_multi_query")
    place = site_place(model, FAMILIES["falcon"], "mlp.out", 1)
    assert place.overwritten
    kept = []
    handle = model.get_submodule(place.path).register_forward_hook(lambda _, __, out: kept.extend([out, out.clone()]))
    with torch.inference_mode():
        model(input_ids=PROMPT)
    handle.remove()
    assert relative(kept[0], kept[1]) > 0.1
    others = [p for p in all_places(model) if p.site != "mlp.out"]
    assert not any(p.overwritten for p in others)


@pytest.mark.parametrize("name", sorted(TINY))
def test_only_places_that_say_so_are_overwritten(name):
    model = shared(name)
    kept, handles = [], []
    for place in all_places(model):

        def keep(value, place=place):
            tensor = value[0] if isinstance(value, tuple) else value
            kept.append((place, tensor, tensor.clone()))

        module = model.get_submodule(place.path)
        if place.end == "input":
            handles.append(module.register_forward_pre_hook(lambda _, args, keep=keep: keep(args[0])))
        else:
            handles.append(module.register_forward_hook(lambda _, __, out, keep=keep: keep(out)))
    with torch.inference_mode():
        model(input_ids=PROMPT)
    for handle in handles:
        handle.remove()
    for place, tensor, copy in kept:
        assert place.overwritten or torch.equal(tensor, copy), place.site


def test_layers_may_differ_in_width():
    """Width is the projection's, not the configuration's: later layers of this gemma4 are twice as wide."""
    model = shared("gemma4_wide")
    shape = shape_of(model)
    assert shape.d_mlp == (48, 48, 96, 96) and model.config.intermediate_size == 48
    assert neuron_counts(model.config, ("mlp.neurons", "mlp.out")) == {"mlp.neurons": 288, "mlp.out": 128}


def test_shape_tells_groups_positions_windows_and_parallel_blocks():
    llama, falcon, window = (shape_of(shared(n)) for n in ("llama", "falcon_grouped", "gpt_neo"))
    assert (llama.n_layers, llama.d_model, llama.n_heads, llama.n_kv_heads, llama.head_dim) == (
        3,
        32,
        4,
        2,
        8,
    )
    assert llama.vocabulary == VOCABULARY and llama.max_positions == 64 and llama.window is None
    assert not llama.parallel_attention and falcon.parallel_attention and falcon.n_kv_heads == 2
    assert window.window == 4 and window.max_positions == 32 and window.attention == "eager"
    assert shape_of(shared("gpt_neox")).parallel_attention
    assert not shape_of(shared("gpt_neox_serial")).parallel_attention


def test_mask_form_depends_on_configuration_and_on_who_heeds_it():
    forms = {
        "llama": "single",
        "qwen2": "single",
        "qwen2_window": "per layer type",
        "mistral": "single",
        "mistral_window": "single, windowed",
        "falcon_heads": "single",
        "falcon_alibi": "alibi",
        "bloom": "alibi",
        "mpt": "alibi",
        "gpt_neo": "bias buffer",
    }
    assert {name: mask_form(tiny_config(name)) for name in forms} == forms
    assert mask_form(tiny_config("llama", sliding_window=4)) == "single", "llama's code heeds no window"


# -- what does not exist ------------------------------------------------------------------------------------


def error_of(call, *args):
    with pytest.raises(ModelError) as caught:
        call(*args)
    return str(caught.value)


def test_a_site_that_a_family_lacks_is_refused_with_the_sites_it_has():
    text = error_of(site_place, shared("gpt2"), FAMILIES["gpt2"], "mlp.gate", 0)
    assert text.startswith("site mlp.gate does not exist in gpt2: its MLP has no gate. It has mlp.neurons, ")
    assert "mlp.gate," not in text.partition("It has")[2]


def test_latent_attention_has_no_queries_of_its_own():
    text = error_of(site_place, shared("minicpm3"), FAMILIES["minicpm3"], "attn.q", 0)
    assert "latent" in text and "attn.heads" in text


def test_blocks_with_several_streams_have_no_one_residual():
    assert "several streams" in error_of(site_place, shared("gemma3n"), FAMILIES["gemma3n_text"], "resid", 0)


def test_a_layer_that_borrows_keys_has_none():
    model = shared("gemma4")
    assert site_place(model, FAMILIES["gemma4_text"], "attn.k", 1).width == 32
    text = error_of(site_place, model, FAMILIES["gemma4_text"], "attn.k", 2)
    assert "does not exist in layer 2 of gemma4_text" in text and "attn.k," not in text.partition("It has")[2]


def test_a_layer_without_attention_has_no_heads():
    model = shared("lfm2")
    family = FAMILIES["lfm2"]
    assert layers_with(model, family, "attn.heads") == (1,)
    assert layers_with(model, family, "mlp.neurons") == (0, 1, 2)
    assert layers_with(shared("gpt2"), FAMILIES["gpt2"], "mlp.gate") == ()
    assert site_place(model, FAMILIES["lfm2"], "attn.heads", 1).width == 32
    assert "layer 0" in error_of(site_place, model, FAMILIES["lfm2"], "attn.heads", 0)


@pytest.mark.parametrize("layer", [-1, 3])
def test_a_layer_out_of_range_is_refused_with_the_range(layer):
    text = error_of(site_place, shared("llama"), FAMILIES["llama"], "mlp.neurons", layer)
    assert f"layer {layer} does not exist" in text and "from 0 to 2" in text


@pytest.mark.parametrize("name", sorted(TINY_MOE))
def test_mixtures_of_experts_are_refused_with_the_reason(name):
    text = error_of(family_of, tiny_config(name))
    assert "mixtures of experts" in text and "no module carries the activation of one neuron" in text


@pytest.mark.parametrize("name, mixer", [("mamba", "state space"), ("recurrent_gemma", "recurrence")])
def test_unknown_models_with_more_than_attention_are_refused_with_what_they_have(name, mixer):
    assert mixer in error_of(family_of, tiny_config(name))


def test_an_unknown_type_is_refused_with_the_known_ones():
    from transformers import CTRLConfig

    text = error_of(family_of, CTRLConfig())
    assert "'ctrl' are not in the table" in text and "llama" in text


def test_a_model_that_looks_ahead_is_refused():
    text = error_of(family_of, tiny_config("gemma3", use_bidirectional_attention=True))
    assert "both directions" in text


# -- any module ---------------------------------------------------------------------------------------------


def test_a_path_names_the_output_of_any_module_in_forward_order():
    model = shared("llama")
    family = FAMILIES["llama"]
    for pattern in ("path:model.layers.*.mlp.act_fn", "path:model.layers.{layer}.mlp.act_fn"):
        place = site_place(model, family, pattern, 2)
        assert (place.path, place.end, place.width) == ("model.layers.2.mlp.act_fn", "output", 48)
    gate, neurons = (site_place(model, family, site, 2) for site in ("mlp.gate", "mlp.neurons"))
    assert gate.order < place.order < neurons.order
    places = [*all_places(model), place, site_place(model, family, "path:model.norm", 0)]
    visited = capture(model, places, input_ids=PROMPT).visited
    assert visited == sorted(places, key=lambda p: p.order)


def test_a_path_to_a_known_site_is_that_site():
    model = shared("gpt2")
    place = site_place(model, FAMILIES["gpt2"], "path:transformer.h.*.mlp.c_proj", 1)
    known = site_place(model, FAMILIES["gpt2"], "mlp.out", 1)
    assert (place.path, place.end, place.width, place.order) == (
        known.path,
        known.end,
        known.width,
        known.order,
    )


def test_a_path_of_another_layer_is_refused_with_the_pattern():
    text = error_of(site_place, shared("llama"), FAMILIES["llama"], "path:model.layers.1.mlp", 2)
    assert "is in layer 1, not in layer 2" in text and "path:model.layers.*.mlp" in text


def test_a_path_to_no_module_is_refused_with_its_neighbours():
    text = error_of(site_place, shared("llama"), FAMILIES["llama"], "path:model.layers.*.mpl", 0)
    assert "no module 'model.layers.0.mpl'" in text and "mlp" in text.splitlines()[1]


def test_a_path_without_one_vector_for_each_token_is_refused():
    """The query norm of qwen3 gives one vector for each token and head; a list of blocks is never called."""
    for path in ("path:model.layers.*.self_attn.q_norm", "path:model.layers"):
        text = error_of(site_place, shared("qwen3"), FAMILIES["qwen3"], path, 0)
        assert "one vector for each token" in text
