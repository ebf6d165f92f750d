"""How each measure is named, drawn and rounded."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class MeasureWords:
    """A measure for readers: its title, what it says, and its axis."""

    title: str
    meaning: str
    decimals: int = 3
    domain: tuple[float | None, float | None] = (None, None)
    """Ends of the axis; None follows the data."""
    rules: tuple[tuple[float, str], ...] = ()
    """Values that mean something, with the word for them."""
    log: bool = False
    reverse: bool = False
    """True when a small value is at the top, as for ranks."""


_LOSS = "share of the answer's probability that the edit takes away: 1 − p / p clean"

MEASURES: dict[str, MeasureWords] = {
    "knowledge_score": MeasureWords(
        "knowledge score",
        "1: the answer is as likely as without the edit; 0: as for a name nobody knows",
        rules=((1.0, "clean"), (0.0, "unknown")),
    ),
    "answer_probability": MeasureWords(
        "probability of the answer", "of the whole accepted answer, token by token", domain=(0, None)
    ),
    "relative_probability": MeasureWords(
        "relative probability", "p / p clean", domain=(0, None), rules=((1.0, "clean"),)
    ),
    "knowledge_loss": MeasureWords("knowledge loss", _LOSS, rules=((0.0, "none"),)),
    "knowledge_loss_clipped": MeasureWords("knowledge loss, clipped", _LOSS + ", clipped at 0", domain=(0, 1)),
    "answer_rank": MeasureWords(
        "rank of the answer",
        "1: every token of the answer is the likeliest; the worst token counts",
        decimals=1,
        log=True,
        reverse=True,
    ),
    "pass": MeasureWords(
        "pass", "share of questions whose answer is, token by token, among the likeliest k", domain=(0, 1)
    ),
    "accuracy": MeasureWords("accuracy", "share of questions whose greedy text is the answer", domain=(0, 1)),
    "accuracy_drop": MeasureWords("drop in accuracy", "(clean accuracy − accuracy with the edit) / clean accuracy"),
    "logit_difference": MeasureWords("logit difference", "right answer minus wrong one", decimals=2),
    "faithfulness": MeasureWords("faithfulness", "share of the objective that is recovered", rules=((1.0, "all"),)),
    "perplexity": MeasureWords("perplexity", "of texts that ask nothing, edited at every token", decimals=2),
    "relative_perplexity": MeasureWords(
        "relative perplexity",
        "of texts that ask nothing, edited at every token: perplexity / that of the clean model, text by text",
        decimals=4,
        rules=((1.0, "clean"),),
    ),
    "kl": MeasureWords("KL divergence", "from the clean distribution, in nats", domain=(0, None)),
}


def words(measure: str) -> MeasureWords:
    """Give the words for a measure; ``pass@5`` has those of ``pass``, an unknown one its own name."""
    base, _, n = measure.partition("@")
    known = MEASURES.get(base)
    if known is None:
        return MeasureWords(measure, "")
    if not n:
        return known
    return MeasureWords(f"{known.title}@{n}", known.meaning, known.decimals, known.domain, known.rules)
