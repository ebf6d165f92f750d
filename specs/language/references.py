"""References: names and keys (`cell/trump`), addresses (`L1.N11948`), layers, ranks, positions, result paths.

A reference is `name` or `name/key`; `/` separates its parts because names hold dots. An address is one
neuron, where `mlp.neurons` goes without saying: `L1.N11948`, `gate:L1.N5` at another site, `L23.N8079@-1` at
one token.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import get_args

from specs.language.words import ConditionName, Measure, Role, Site

__all__ = [
    "PROPERTIES",
    "Address",
    "Reference",
    "ResultPath",
    "accuracy_of",
    "is_entity_position",
    "is_layer_place",
    "is_measure",
    "looks_like_address",
    "parse_address",
    "parse_layer",
    "parse_rank",
    "parse_reference",
    "parse_result_path",
    "resolve_layers",
    "usual_role",
]

PREFIXES: dict[str, str] = {
    "mlp.gate": "gate",
    "mlp.up": "up",
    "attn.heads": "heads",
    "attn.q": "q",
    "attn.k": "k",
    "attn.v": "v",
}
"""Site: its short form before an address. The others, whose last word is not theirs alone, stand in full."""
SITE_OF = {short: site for site, short in PREFIXES.items()} | {site: site for site in get_args(Site)}
DEFAULT_SITE = "mlp.neurons"

ADDRESS = re.compile(r"(?:(.+):)?L(\d+)\.N(\d+)(?:@([-+]?\d+))?")
LAYER = re.compile(r"L(\d+)")
NEARLY = re.compile(r"(?:[\w.]+:)?[Ll](?:ayer)?[ _]?\d+[ ./:_-]*[Nn]?(?:euron)?[ _]?\d+(?:@.*)?")

PROPERTIES = (
    "conservation",
    "dominance",
    "layer",
    "mean",
    "mean_z",
    "neuron",
    "random_names",
    "rank",
    "score",
    "share",
    "shared_by",
    "site",
    "size",
    "std",
    "std_z",
)
"""What can be asked of a neuron or a set of neurons."""


@dataclass(frozen=True)
class Address:
    """One neuron: a coordinate of a site in one layer, at one token (``position``) or at none."""

    site: str
    layer: int
    neuron: int
    position: int | None = None

    def __str__(self) -> str:
        site = "" if self.site == DEFAULT_SITE else PREFIXES.get(self.site, self.site) + ":"
        token = "" if self.position is None else f"@{self.position}"
        return f"{site}L{self.layer}.N{self.neuron}{token}"


def parse_address(text: str) -> Address | None:
    """Read an address; None for a text that is not one."""
    found = ADDRESS.fullmatch(text.strip())
    if found is None:
        return None
    prefix, layer, neuron, position = found.groups()
    site = DEFAULT_SITE if prefix is None else SITE_OF.get(prefix)
    if site is None and prefix is not None and prefix.startswith("path:"):
        site = prefix
    if site is None:
        return None
    return Address(site, int(layer), int(neuron), None if position is None else int(position))


def parse_layer(text: str) -> int | None:
    """Read the place of a layer in a ranking of layers, `L4`; None for a text that is not one."""
    found = LAYER.fullmatch(text.strip())
    return int(found[1]) if found else None


def looks_like_address(text: str) -> bool:
    """Say whether a text is an address or was meant as one: `L1.11948`, `l1.n5`, `foo:L1.N5`."""
    return ADDRESS.fullmatch(text.strip()) is not None or NEARLY.fullmatch(text.strip()) is not None


@dataclass(frozen=True)
class Reference:
    """A name, and the key of one of its groups, parts or entities."""

    name: str
    key: tuple[str, ...] = ()

    @property
    def group(self) -> str | None:
        """Give the key as one text, such as ``trump/korean``."""
        return "/".join(self.key) if self.key else None

    def __str__(self) -> str:
        return "/".join((self.name, *self.key))


def parse_reference(text: str) -> Reference:
    """Read `name` or `name/key/...`; raises ValueError for an empty part."""
    name, *key = (part.strip() for part in text.split("/"))
    if not name or not all(key):
        raise ValueError(f"'{text}' is not a reference; write name or name/key, for example cell/trump")
    return Reference(name, tuple(key))


LAYER_RANGE = re.compile(r"(\d+)(?:\s*-\s*(\d+))?")
LAYER_SHARE = re.compile(r"(\d+(?:\.\d+)?)%(?:\s*-\s*(\d+(?:\.\d+)?)%)?")


def is_layer_place(text: str) -> bool:
    """Say whether a text is `4`, `4-9`, `80%` or `80%-100%`, and not the name of a set."""
    return bool(LAYER_RANGE.fullmatch(text.strip()) or LAYER_SHARE.fullmatch(text.strip()))


def resolve_layers(places: Sequence[str], n_layers: int, model: str = "the model") -> tuple[int, ...]:
    """List the layers that places mean, in order, each once.

    `80%-100%` takes the layers whose centre, (layer + 1/2) / n_layers, lies in the share, the upper end
    excluded: shares that adjoin neither overlap nor leave a layer out. `80%` is the layer at that depth.
    Raises ValueError for a layer the model does not have, a share too narrow to hold one, and a text that is
    not a place.
    """
    found: set[int] = set()
    for place in places:
        text = place.strip()
        if match := LAYER_RANGE.fullmatch(text):
            first = int(match[1])
            last = first if match[2] is None else int(match[2])
            if last < first:
                raise ValueError(f"layers {text} run backwards; write {last}-{first}")
            if last >= n_layers:
                raise ValueError(
                    f"layer {first if first >= n_layers else last} is out of range: {model} has layers "
                    f"0-{n_layers - 1}. 80%-100% means the last fifth of any model"
                )
            found.update(range(first, last + 1))
        elif match := LAYER_SHARE.fullmatch(text):
            low = float(match[1]) / 100
            if match[2] is None:
                found.add(min(math.floor(low * n_layers + 1e-9), n_layers - 1))
                continue
            high = float(match[2]) / 100
            layers = [i for i in range(n_layers) if low * n_layers <= i + 0.5 + 1e-9 < high * n_layers]
            if not layers:
                raise ValueError(f"layers {text} hold none of the {n_layers} layers of {model}")
            found.update(layers)
        else:
            raise ValueError(f"'{place}' are not layers; write 4, 4-9 or 80%-100%")
    return tuple(sorted(found))


def parse_rank(text: str) -> tuple[int, int]:
    """Give the first and last rank of `3` or `11-50`, 1 the best; raises ValueError for anything else."""
    found = re.fullmatch(r"(\d+)(?:-(\d+))?", text.strip())
    if found is None or int(found[1]) < 1:
        raise ValueError(f"'{text}' is not a rank; write 3, or a slice such as 11-50 (the first rank is 1)")
    first, last = int(found[1]), int(found[2] or found[1])
    if last < first:
        raise ValueError(f"ranks {text} run backwards; write {last}-{first}")
    return first, last


def is_entity_position(position: str) -> bool:
    """Say whether a position is a token of the entity's name."""
    return position.startswith("entity.")


def is_measure(text: str) -> bool:
    """Say whether a text is a measure, with or without its `@n`."""
    return text.partition("@")[0] in get_args(Measure)


def usual_role(quantity: str | None) -> Role:
    """Give the role a result path means where it names none: the target, of a perplexity the texts about nobody."""
    return "texts" if quantity in ("perplexity", "relative_perplexity") else "target"


def accuracy_of(quantity: str | None) -> str:
    """Give the accuracy that a drop in accuracy follows from; an empty text for what is no such drop."""
    name, at, number = (quantity or "").partition("@")
    return f"accuracy{at}{number}" if name == "accuracy_drop" else ""


def is_quantity(text: str) -> bool:
    """Say whether the last part of a result path is a number's name and not a group."""
    return is_measure(text) or text in PROPERTIES or text in ("p", "rho", "n")


@dataclass(frozen=True)
class ResultPath:
    """A result path: `block[/group][/condition][/role][/axis=value]/quantity`.

    What is left out is None: condition (edit), role (see :func:`usual_role`), group (the mean over all; of a ranking,
    each).
    ``axes`` hold values as written.
    """

    block: str
    group: str | None = None
    condition: ConditionName | None = None
    role: Role | None = None
    axes: tuple[tuple[str, str], ...] = ()
    quantity: str | None = None

    @property
    def key(self) -> tuple[str, ...]:
        """Give the parts of the group."""
        return tuple(self.group.split("/")) if self.group else ()

    def __str__(self) -> str:
        parts = [self.block, self.group, self.condition, self.role, self.quantity]
        return "/".join([p for p in parts if p] + [f"{axis}={value}" for axis, value in self.axes])


def parse_result_path(text: str, quantities: Callable[[str], bool] = is_quantity) -> ResultPath:
    """Read a result path; raises ValueError for an empty or repeated part.

    The parts stand in any order after the block; an axis may follow the quantity. The last part is the
    quantity if ``quantities`` says so, else part of the group: `cell/trump` has none.
    """
    block, *parts = (part.strip() for part in text.split("/"))
    if not block or not all(parts):
        raise ValueError(f"'{text}' is not a result; a part between / is empty")
    axes: list[tuple[str, str]] = []
    plain: list[str] = []
    for part in parts:
        axis, sign, value = part.partition("=")
        if not sign:
            plain.append(part)
            continue
        if not axis.strip() or not value.strip():
            raise ValueError(f"'{part}' is not an axis and its value; write scale=-3")
        if axis.strip() in dict(axes):
            raise ValueError(f"'{text}' gives {axis.strip()} twice")
        axes.append((axis.strip(), value.strip()))
    quantity = plain.pop() if plain and quantities(plain[-1]) else None
    group: list[str] = []
    condition: ConditionName | None = None
    role: Role | None = None
    for part in plain:
        if part in get_args(ConditionName):
            if condition is not None:
                raise ValueError(f"'{text}' names two conditions, {condition} and {part}")
            condition = part  # type: ignore[assignment]
        elif part in get_args(Role):
            if role is not None:
                raise ValueError(f"'{text}' names two roles, {role} and {part}")
            role = part  # type: ignore[assignment]
        else:
            group.append(part)
    return ResultPath(block, "/".join(group) or None, condition, role, tuple(axes), quantity)
