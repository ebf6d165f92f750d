"""The classes that a wrong answer falls into, as the language ships them."""

from __future__ import annotations

__all__ = ["OTHER", "RIGHT", "SHIPPED"]

RIGHT = "right"
OTHER = "other"
SHIPPED: dict[str, str] = {
    "empty": "nothing but white space",
    "option": "begins with one letter as of a list: “A.”, “b)”, “(C)”",
    "same relation": "begins with somebody else's answer to the same question: wrong, and of the right kind",
    "another relation": "begins with an answer to another question",
    "article": "begins with The, A or An",
    "repeats": "holds five words of the prompt one after another, or all of a shorter prompt",
    OTHER: "none of these",
}
"""Class: what falls into it. They are tried in this order, after the spec's own classes; the first that fits counts."""
