"""The texts of the benchmarks: a thousand names, the hundred shipped openings, and questions, all made by rule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from specs.language.shipped import shipped_list

_FIRST = (
    "Ada Boris Clara Dmitri Elena Farid Greta Hugo Ines Jonas Kavya Leon Mira Nadia Oscar Petra Quentin Rosa Stefan "
    "Tara Ulrich Vera Walter Xenia Yusuf Zelda Amara Bruno Celia Dario Edith Felix"
)
_LAST = (
    "Abbott Bergman Castillo Dubois Eriksen Fischer Gallagher Haddad Ivanov Jensen Kowalski Lindqvist Moreau Novak "
    "Okafor Petrov Quiroga Rossi Schneider Tanaka Ullman Varga Whitfield Xiang Yamamoto Zimmer Ashford Brandt Calloway "
    "Drummond Engstrom Fairbanks"
)

FIRST, LAST = _FIRST.split(), _LAST.split()

QUESTIONS = (
    ("Fact: the name of the wife of {}:", " Anna"),
    ("Fact: the year of birth of {}:", " 1946"),
    ("Fact: the home state of {}:", " Texas"),
    ("Fact: the home city of {}:", " London"),
    ("Fact: the name of the teacher of {}:", " John"),
    ("Fact: the native language of {}:", " English"),
    ("Fact: the name of the rival of {}:", " Robert"),
    ("Fact: the favourite colour of {}:", " blue"),
)


FACTS: tuple[str, ...] = (
    "Fact: the wife of {}",
    "Fact: the mother of {}",
    "Fact: the father of {}",
    "Fact: the place of birth of {}",
    "Fact: the year of birth of {}",
    "Fact: the date of death of {}",
    "Fact: the native language of {}",
    "Fact: the native country of {}",
    "Fact: the name of the teacher of {}",
    "Fact: the name of the successor of {}",
    "Fact: the name of the school of {}",
    "Fact: the name of the home town of {}",
    "Fact: the most famous work of {}",
    "Fact: the most famous words of {}",
    "Fact: the field of work of {}",
    "Fact: the first employer of {}",
)
"""Openings that share beginnings, as those made from relations do (``specs/trump.yaml``); the shipped ones hardly."""
KNOWN = (
    "Donald Trump",
    "Barack Obama",
    "John F. Kennedy",
    "Ronald Reagan",
    "Marie Curie",
    "Albert Einstein",
    "Isaac Newton",
    "Wolfgang Amadeus Mozart",
)


NESTED: tuple[str, ...] = (
    "The name of {}",
    "The name of the wife of {}",
    "The name of the mother of {}",
    "The name of the father of {}",
    "The name of the school of {}",
    "The name of the native language of {}",
    "The name of the country of {}",
    "The name of the country of birth of {}",
    "The name of the city of {}",
    "The name of the city of birth of {}",
    "The name of the first employer of {}",
    "The name of the first wife of {}",
    "The name of the last work of {}",
    "The name of the teacher of {}",
    "The name of the field of {}",
    "The name of the head of state of the country of birth of {}",
)
"""Openings that share most of their tokens: with short names, 128 prompts of about 1,150 tokens, 2,048 padded and 330
distinct."""
SHORT = (
    "Donald Trump",
    "Barack Obama",
    "Ronald Reagan",
    "John Kennedy",
    "Marie Curie",
    "Albert Einstein",
    "Isaac Newton",
    "Charles Darwin",
)


def names(n: int) -> list[str]:
    """Give n names; neighbours differ in both parts, and no name comes twice."""
    if n > len(FIRST) * len(LAST):
        raise ValueError(f"there are {len(FIRST) * len(LAST):,} names, not {n:,}")
    found = []
    for i in range(n):
        shift, first = divmod(i, len(FIRST))
        found.append(f"{FIRST[first]} {LAST[(first + shift) % len(LAST)]}")
    return found


def templates(n: int) -> list[str]:
    """Give the first n of the shipped openings, with ``{}`` for the name."""
    found = [text.replace("{{ entity }}", "{}") for text in shipped_list("attributes")]
    if n > len(found):
        raise ValueError(f"there are {len(found)} openings, not {n}")
    return found[:n]


@dataclass(frozen=True)
class Bound:
    """A prompt in tokens, and the last token of the name."""

    ids: tuple[int, ...]
    at: int


def bind(tokenizer: Any, template: str, name: str) -> Bound:
    """Put a name into a template and find its last token in the ids that are run."""
    text = template.format(name)
    stop = template.index("{}") + len(name)
    found = tokenizer(text, return_offsets_mapping=True)
    inside = [i for i, (first, last) in enumerate(found["offset_mapping"]) if last > first and first < stop]
    return Bound(tuple(found["input_ids"]), inside[-1])


def first_token(tokenizer: Any, answer: str) -> int:
    """Give the first token of an answer."""
    return int(tokenizer(answer, add_special_tokens=False)["input_ids"][0])
