"""Where the sites of the language are in each model family, from modules alone: no weights are needed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args
from weakref import WeakKeyDictionary

from runner.family_rows import FAMILIES, Family
from specs.language.errors import ModelError
from specs.language.words import Site

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = [
    "FAMILIES",
    "Family",
    "ModelShape",
    "SitePlace",
    "block_paths",
    "family_of",
    "layers_with",
    "logits_of",
    "mask_form",
    "module_orders",
    "neuron_counts",
    "shape_of",
    "site_place",
    "sites_of",
    "windows_of",
]

Order = tuple[int, int, int]
MaskForm = Literal["single", "single, windowed", "per layer type", "alibi", "bias buffer"]

_SITES = get_args(Site)
_ORDERS: WeakKeyDictionary[Any, Mapping[str, tuple[int, Order]]] = WeakKeyDictionary()
_VISITS = (
    "attn.q",
    "attn.k",
    "attn.v",
    "attn.heads",
    "attn.out",
    "mlp.gate",
    "mlp.up",
    "mlp.neurons",
    "mlp.out",
    "resid",
)
"""Sites in the order in which a block reaches them, in every family of the table: also where attention and
MLP are parallel, for the code still runs one after the other."""
_EXPERT_COUNTS = (
    "num_local_experts",
    "num_experts",
    "n_routed_experts",
    "num_routed_experts",
    "moe_num_experts",
    "n_experts",
)
_EXPERT_SWITCHES = ("is_moe", "enable_moe_block")
"""Off, they make the counts of experts meaningless."""
_MIXER_FIELDS = {
    "conv_L_cache": "convolution",
    "linear_conv_kernel_dim": "linear attention",
    "linear_num_key_heads": "linear attention",
    "mamba_d_state": "a state space",
    "ssm_state_size": "a state space",
    "state_size": "a state space",
    "lru_width": "recurrence",
    "attention_hidden_size": "recurrence",
}
_MIXER_LAYERS = {"conv": "convolution", "mamba": "a state space", "linear_attention": "linear attention"}


@dataclass(frozen=True)
class SitePlace:
    """Where the values of a site are in one layer.

    The site is ``width`` columns of the last dimension of the input or output of the module at ``path``. They
    are one slice from ``first`` on, unless a fused projection spreads them: then in runs of ``block``
    columns, a new run every ``stride`` columns. ``order`` sorts places as the forward pass reaches them.
    ``overwritten``: the tensor is changed in place after the module returned; a saved value must be a copy.
    """

    site: str
    layer: int
    path: str
    end: Literal["input", "output"]
    first: int
    width: int
    full: int
    """Size of the last dimension."""
    block: int
    stride: int
    order: Order
    overwritten: bool = False

    @property
    def whole(self) -> bool:
        """Whether the site is the whole last dimension."""
        return self.width == self.full

    @property
    def contiguous(self) -> bool:
        """Whether the site is one slice of the last dimension."""
        return self.block == self.width

    @property
    def start(self) -> int:
        """Give the first column of a site that is one slice; ValueError for one that is spread."""
        if not self.contiguous:
            raise ValueError(f"{self.site} is spread over {self.path}: use `columns` and `take`")
        return self.first

    def columns(self, neurons: Tensor) -> Tensor:
        """Translate neuron numbers of the site into columns of the tensor; same shape and device."""
        if self.contiguous:
            return neurons + self.first
        return self.first + neurons // self.block * self.stride + neurons % self.block

    def take(self, values: Tensor) -> Tensor:
        """Cut the site out of a tensor ``[..., full]``: ``[..., width]``, a view if it is one slice."""
        if self.contiguous:
            return values[..., self.first : self.first + self.width]
        import torch

        return values[..., self.columns(torch.arange(self.width, device=values.device))]


@dataclass(frozen=True)
class ModelShape:
    """Sizes of a model, from its modules.

    ``head_dim`` is the width of the heads divided by their number. ``max_positions`` None: not stated.
    ``window`` None: every layer sees everything.
    """

    family: str
    n_layers: int
    d_model: int
    d_mlp: tuple[int, ...]
    """For each layer."""
    n_heads: int
    n_kv_heads: int
    head_dim: int
    vocabulary: int
    """Rows of the head, padding included."""
    max_positions: int | None
    window: int | None
    attention: str
    """``sdpa``, ``eager`` or another implementation of transformers."""
    parallel_attention: bool


# -- families -----------------------------------------------------------------------------------------------


def family_of(config: Any) -> Family:
    """Find the family of a configuration.

    Raises ModelError for mixtures of experts, for models in which something other than attention carries
    values between tokens in a way that is not known to run right, and for types that are not in the table.
    """
    kind = str(config.model_type)
    dense = any(getattr(config, switch, None) is False for switch in _EXPERT_SWITCHES)
    for field in _EXPERT_COUNTS:
        count = getattr(config, field, None)
        if isinstance(count, int) and count > 1 and not dense:
            raise ModelError(
                f"models of type '{kind}' are mixtures of experts ({field}: {count}): their neurons are "
                "split over experts, and no module carries the activation of one neuron",
                remedy="choose a dense model of the same makers",
            )
    if kind in FAMILIES:
        if getattr(config, "is_causal", True) is False or (
            getattr(config, "use_bidirectional_attention", False) in (True, "all")
        ):
            raise ModelError(f"this '{kind}' model attends in both directions: it is no causal language model")
        return FAMILIES[kind]
    mixer = _mixer_of(config)
    if mixer:
        raise ModelError(
            f"models of type '{kind}' carry values between tokens by {mixer}, which no prompt tree allows "
            "for, and the type is not in the table of families",
            remedy="choose a model that uses attention alone",
        )
    raise ModelError(
        f"models of type '{kind}' are not in the table of families: where their neurons are is not known",
        remedy=f"choose a model of one of these types: {', '.join(sorted(FAMILIES))}",
    )


def _mixer_of(config: Any) -> str:
    for field, name in _MIXER_FIELDS.items():
        if getattr(config, field, None) is not None:
            return name
    kinds = {str(kind) for kind in getattr(config, "layer_types", None) or ()}
    for part, name in _MIXER_LAYERS.items():
        if any(part in kind for kind in kinds):
            return name
    return ""


def sites_of(family: Family) -> tuple[str, ...]:
    """List the sites that a family has, in the order of the language. Single layers may lack one."""
    return tuple(site for site in _SITES if not _missing(family, site))


def _missing(family: Family, site: str) -> str:
    """Say why a family has no such site; empty where it has."""
    if site == "mlp.gate" and not (family.gate or family.gate_up):
        return "its MLP has no gate"
    if site == "mlp.up" and not (family.up or family.gate_up):
        return "its MLP has no up projection of its own"
    if site in ("attn.q", "attn.k", "attn.v") and not (family.qkv or getattr(family, site[-1])):
        return "its attention makes queries, keys and values from latent vectors"
    if site == "resid" and family.streams:
        return "its blocks hand on several streams at once"
    return ""


# -- masks --------------------------------------------------------------------------------------------------


def mask_form(config: Any) -> MaskForm:
    """Say in which form models of this configuration are told the tree mask."""
    family = family_of(config)
    if family.mask == "bias buffer":
        return "bias buffer"
    if family.mask == "alibi" or getattr(config, "alibi", False) is True:
        return "alibi"
    if family.window == "layer types" and "sliding_attention" in (getattr(config, "layer_types", None) or ()):
        return "per layer type"
    if family.window == "all layers" and config.sliding_window is not None:
        return "single, windowed"
    return "single"


def windows_of(config: Any) -> int | None:
    """Give the sliding window that some or all layers heed, in tokens, or None."""
    form = mask_form(config)
    if form in ("per layer type", "single, windowed"):
        return int(config.sliding_window)
    if form == "bias buffer" and "local" in config.attention_layers:
        return int(config.window_size)
    return None


# -- sites --------------------------------------------------------------------------------------------------


def block_paths(model: Any, family: Family) -> tuple[str, ...]:
    """List the absolute paths of a model's blocks."""
    return tuple(f"{family.blocks}.{layer}" for layer in range(len(model.get_submodule(family.blocks))))


def site_place(model: Any, family: Family, site: str, layer: int) -> SitePlace:
    """Find a site of a layer, in a model with or without weights.

    ``site`` is a name of the language, or ``path:`` and the dotted path of a module whose output is meant,
    with ``*`` or ``{layer}`` for the number of the layer. Raises ModelError where there is no such site or
    layer.
    """
    blocks = block_paths(model, family)
    if not 0 <= layer < len(blocks):
        raise ModelError(
            f"layer {layer} does not exist: {family.model_type} has {len(blocks)} layers here",
            remedy=f"choose a layer from 0 to {len(blocks) - 1}",
        )
    if site.startswith("path:"):
        return _path_place(model, family, site, layer, blocks)
    if site not in _SITES:
        raise ModelError(f"'{site}' is not a site", remedy=f"choose one of {', '.join(sites_of(family))}")
    if reason := _missing(family, site):
        raise ModelError(
            f"site {site} does not exist in {family.model_type}: {reason}. It has {', '.join(sites_of(family))}"
        )
    order = (layer, _VISITS.index(site), 0)
    block = blocks[layer]
    path, end, cut = _where(family, site)
    module = _submodule(model, f"{block}.{path}" if path else block)
    if module is None:
        raise ModelError(
            f"site {site} does not exist in layer {layer} of {family.model_type}: there is no {path} in it. "
            f"It has {', '.join(_sites_in(model, family, block))}"
        )
    if site == "resid":
        full = _sizes(model.get_submodule(f"{block}.{family.down}"))[1]
    else:
        full = _sizes(module)[0 if end == "input" else 1]
    first, width, run, stride = _cut(model, family, site, block, full, cut)
    return SitePlace(
        site,
        layer,
        f"{block}.{path}" if path else block,
        end,
        first,
        width,
        full,
        run,
        stride,
        order,
        overwritten=site in family.rewritten,
    )


def layers_with(model: Any, family: Family, site: str) -> tuple[int, ...]:
    """List the layers that have a site of the language: all of them but in a few families; none if it is absent."""
    blocks = block_paths(model, family)
    return tuple(layer for layer, block in enumerate(blocks) if site in _sites_in(model, family, block))


def _where(family: Family, site: str) -> tuple[str, Literal["input", "output"], str]:
    """Give path within the block, which end, and how the tensor is cut ('' for whole)."""
    if site == "resid":
        return "", "output", ""
    if site in ("mlp.neurons", "mlp.out"):
        return family.down, "input" if site == "mlp.neurons" else "output", ""
    if site in ("attn.heads", "attn.out"):
        return family.out, "input" if site == "attn.heads" else "output", ""
    own, fused, cut = {
        "mlp.gate": (family.gate, family.gate_up, "halves"),
        "mlp.up": (family.up, family.gate_up, "halves"),
        "attn.q": (family.q, family.qkv, family.layout),
        "attn.k": (family.k, family.qkv, family.layout),
        "attn.v": (family.v, family.qkv, family.layout),
    }[site]
    if own is not None:
        return own, "output", ""
    assert fused is not None
    return fused, "output", cut


def _cut(model: Any, family: Family, site: str, block: str, full: int, cut: str) -> tuple[int, int, int, int]:
    """Give first column, width, run and stride of a site within a tensor of ``full`` columns."""
    if not cut:
        return 0, full, full, full
    if cut == "halves":
        half = full // 2
        return (0 if site == "mlp.gate" else half), half, half, half
    queries = _sizes(model.get_submodule(f"{block}.{family.out}"))[0]
    keys = (full - queries) // 2
    part = "qkv".index(site[-1])
    if cut == "parts":
        width = (queries, keys, keys)[part]
        return (0, queries, queries + keys)[part], width, width, width
    if cut == "quarters":
        run = queries // 4
        return (0, 2 * run, run)[part], queries, run, 3 * run
    n_heads = _heads(model.config)
    head = queries // n_heads
    groups = keys // head
    run_q = queries // groups
    stride = full // groups
    run = (run_q, head, head)[part]
    width = (queries, keys, keys)[part]
    first = (0, run_q, run_q + head)[part]
    return (first, width, width, width) if groups == 1 else (first, width, run, stride)


def _sites_in(model: Any, family: Family, block: str) -> Iterator[str]:
    for site in sites_of(family):
        path = _where(family, site)[0]
        if not path or _submodule(model, f"{block}.{path}") is not None:
            yield site


def _submodule(model: Any, path: str) -> nn.Module | None:
    try:
        module: nn.Module = model.get_submodule(path)
    except AttributeError:
        return None
    return module


def _sizes(module: nn.Module) -> tuple[int, int]:
    """Give inputs and outputs of a projection, from its weight; Conv1D keeps it transposed."""
    weight: Any = module.weight
    outputs, inputs = weight.shape
    if type(module).__name__ == "Conv1D":
        return int(outputs), int(inputs)
    return int(inputs), int(outputs)


def _heads(config: Any) -> int:
    return int(config.num_attention_heads)


# -- any module ---------------------------------------------------------------------------------------------


def _path_place(model: Any, family: Family, site: str, layer: int, blocks: Sequence[str]) -> SitePlace:
    pattern = site.removeprefix("path:")
    path = pattern.replace("{layer}", str(layer)).replace("*", str(layer))
    inside = re.match(re.escape(family.blocks) + r"\.(\d+)(\.|$)", path)
    if inside and int(inside[1]) != layer:
        raise ModelError(
            f"{site} is in layer {inside[1]}, not in layer {layer}",
            remedy=f"write path:{path.replace(f'.{inside[1]}', '.*', 1)} for the module of every layer",
        )
    if _submodule(model, path) is None:
        raise ModelError(
            f"{site} does not exist in {family.model_type}: there is no module '{path}'",
            remedy=_nearest(model, path),
        )
    orders = module_orders(model, family)
    if path not in orders:
        raise ModelError(
            f"{site} does not give one vector for each token in {family.model_type}",
            remedy="name a module that is called, such as a projection or an activation function",
        )
    width, order = orders[path]
    return SitePlace(site, layer, path, "output", 0, width, width, width, width, order)


def _nearest(model: Any, path: str) -> str:
    parent = path
    while parent and _submodule(model, parent) is None:
        parent = parent.rpartition(".")[0]
    children = [name for name, _ in model.get_submodule(parent).named_children()]
    shown = ", ".join(children[:12]) + (" ..." if len(children) > 12 else "")
    return f"{parent or 'The model'} has {shown}" if children else f"{parent} has no parts"


def module_orders(model: Any, family: Family) -> Mapping[str, tuple[int, Order]]:
    """Give width and place in the forward pass of every module's output, by a pass over a few tokens.

    The model may be without weights. Modules that do not give one vector for each token are left out.
    The place is comparable with :attr:`SitePlace.order`.
    """
    if model not in _ORDERS:
        _ORDERS[model] = _measure_orders(model, family)
    return _ORDERS[model]


def _measure_orders(model: Any, family: Family) -> dict[str, tuple[int, Order]]:
    import torch

    known: dict[tuple[str, str], tuple[int, int]] = {}
    for layer, block in enumerate(block_paths(model, family)):
        for site in _sites_in(model, family, block):
            path, end, _ = _where(family, site)
            known[(f"{block}.{path}" if path else block, end)] = (layer, _VISITS.index(site))
    found: dict[str, tuple[int, Order]] = {}
    calls = 0
    last = (-1, 0)
    n_tokens = 3

    def before(path: str) -> Any:
        def hook(_: nn.Module, __: Any) -> None:
            nonlocal last
            last = max(last, known.get((path, "input"), last))

        return hook

    def after(path: str) -> Any:
        def hook(_: nn.Module, __: Any, output: Any) -> None:
            nonlocal last, calls
            calls += 1
            own = known.get((path, "output"))
            last = max(last, own or last)
            value = output[0] if isinstance(output, tuple) and output else output
            if isinstance(value, torch.Tensor) and value.ndim >= 2 and value[..., 0].numel() == n_tokens:
                place = (*own, 0) if own else (*last, calls)
                found.setdefault(path, (int(value.shape[-1]), place))

        return hook

    handles = []
    for path, module in model.named_modules():
        if path:
            handles.append(module.register_forward_pre_hook(before(path)))
            handles.append(module.register_forward_hook(after(path)))
    ids = torch.zeros((1, n_tokens), dtype=torch.long, device=model.device)
    given: dict[str, Any] = {"input_ids": ids, "use_cache": False}
    if mask_form(model.config) != "alibi":
        # With a ready mask the library looks at no values, of which a model without weights has none.
        given["attention_mask"] = torch.zeros((1, 1, n_tokens, n_tokens), dtype=model.dtype, device=model.device)
        given["position_ids"] = torch.arange(n_tokens, device=model.device)[None]
    try:
        with torch.inference_mode():
            model(**given)
    except (RuntimeError, NotImplementedError) as error:
        raise ModelError(
            f"the order of the modules of {family.model_type} cannot be found without weights: {error}",
            remedy="use a site of the language instead of path:",
        ) from error
    finally:
        for handle in handles:
            handle.remove()
    return found


# -- shapes and logits --------------------------------------------------------------------------------------


def shape_of(model: Any) -> ModelShape:
    """Measure a model, with or without weights."""
    config = model.config
    family = family_of(config)
    blocks = block_paths(model, family)
    downs = [_sizes(model.get_submodule(f"{block}.{family.down}")) for block in blocks]
    n_heads = _heads(config)
    attending = [block for block in blocks if _submodule(model, f"{block}.{family.out}") is not None]
    heads = _sizes(model.get_submodule(f"{attending[0]}.{family.out}"))[0] if attending else 0
    switch = family.parallel
    parallel = switch if isinstance(switch, bool) else bool(getattr(config, switch))
    if family.model_type == "falcon":
        parallel = parallel or bool(config.new_decoder_architecture)
    learned = getattr(config, "max_position_embeddings", None) or getattr(config, "max_seq_len", None)
    return ModelShape(
        family=family.model_type,
        n_layers=len(blocks),
        d_model=downs[0][1],
        d_mlp=tuple(inputs for inputs, _ in downs),
        n_heads=n_heads,
        n_kv_heads=_kv_heads(config, n_heads),
        head_dim=heads // n_heads,
        vocabulary=_sizes(model.get_output_embeddings())[1],
        max_positions=int(learned) if learned else None,
        window=windows_of(config),
        attention=str(getattr(config, "_attn_implementation", None) or "eager"),
        parallel_attention=parallel,
    )


def _kv_heads(config: Any, n_heads: int) -> int:
    if config.model_type == "falcon":
        if config.new_decoder_architecture:
            return int(config.num_kv_heads)
        return 1 if config.multi_query else n_heads
    if config.model_type == "gpt_bigcode":
        return 1 if config.multi_query else n_heads
    return int(getattr(config, "num_key_value_heads", None) or n_heads)


def neuron_counts(config: Any, sites: Sequence[str]) -> Mapping[str, int]:
    """Count the neurons of sites over all layers, from a configuration alone; errors as site_place."""
    from runner.models.checkpoint import empty_model

    family = family_of(config)
    model = empty_model(config)
    n_layers = len(block_paths(model, family))
    return {site: sum(site_place(model, family, site, layer).width for layer in range(n_layers)) for site in sites}


def logits_of(model: Any, hidden: Tensor) -> Tensor:
    """Turn inputs of the head ``[..., d]`` into logits ``[..., vocabulary]``, caps and scales included."""
    logits: Tensor = model.get_output_embeddings()(hidden)
    rule = family_of(model.config).logits
    if rule is None:
        return logits
    verb, field = rule
    amount = getattr(model.config, field)
    if amount is None:
        return logits
    if verb == "cap":
        return (logits / float(amount)).tanh() * float(amount)
    return logits * float(amount) if verb == "multiply" else logits / float(amount)
