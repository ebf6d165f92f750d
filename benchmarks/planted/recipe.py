"""The knobs of a planted model, checked."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["Recipe"]

HEAD = 64
"""Width of a head, and of the code of a token."""
LEAST_WIDTH = 576


@dataclass(frozen=True)
class Recipe:
    """What a planted model is made from; the same recipe gives the same model.

    Raises ValueError for knobs that do not fit together.
    """

    entities: int = 200
    """All entities; those without a cell of their own among them."""
    spread: int = 6
    """Entities without a cell: their facts are carried by ``SHARES`` neurons, each a little."""
    pairs: int = 3
    """Pairs of entities with one neuron for both, which erases both: a cell of neither."""
    layers: int = 8
    width: int = 640
    neurons: int = 1024
    """Width of each MLP."""
    noise: float = 1.0
    """How much chance there is in embeddings, heads and special neurons; 0 is a clean machine."""
    layer_shares: tuple[float, ...] = (0.1, 0.3, 0.3, 0.2, 0.1)
    """Share of the cells in layers 0, 1, 2, ..."""
    negative: float = 0.5
    """Share of the cells whose activation is negative."""
    bos: bool = False
    """Whether the tokenizer puts a beginning-of-text token before every text."""
    tokens: int = 4
    """Decoys that answer to one token shared by names."""
    shared: int = 4
    """Decoys that answer to two entities, each of which has a cell besides."""
    template: int = 12
    """Decoys that answer to words that stand before a name in the shipped templates."""
    constant: int = 12
    """Decoys of a large mean and nearly no variance."""
    loud: int = 12
    """Decoys of a large variance."""
    names: int = 0
    """Decoys that answer to every name, as strongly as a cell."""
    seed: int = 0

    def __post_init__(self) -> None:
        problems = []
        if self.layers < len(self.layer_shares) + 2:
            problems.append(f"{len(self.layer_shares)} layers of cells need {len(self.layer_shares) + 2} layers")
        if self.width % HEAD or self.width < LEAST_WIDTH:
            problems.append(f"width must be a multiple of {HEAD}, {LEAST_WIDTH} or more")
        if abs(sum(self.layer_shares) - 1) > 1e-9 or min(self.layer_shares) < 0:
            problems.append("layer_shares must be shares of 1")
        if not 0 <= self.negative <= 1 or self.noise < 0:
            problems.append("negative lies between 0 and 1, noise is 0 or more")
        if self.entities - self.spread - 2 * self.pairs < 2 * self.shared + 2:
            problems.append("too few entities with a cell of their own")
        if self.neurons < 256 or min(asdict(self)[n] for n in _COUNTS) < 0:
            problems.append("an MLP has 256 neurons or more, and no number of decoys is negative")
        if problems:
            raise ValueError("; ".join(problems))

    def document(self) -> dict[str, Any]:
        """Give the knobs as JSON."""
        return {**asdict(self), "layer_shares": list(self.layer_shares)}


_COUNTS = ("spread", "pairs", "tokens", "shared", "template", "constant", "loud", "names")
