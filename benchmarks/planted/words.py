"""What planted entities are called and what is true of them: words of our own, of nobody who lives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

__all__ = ["ENDINGS", "FIRST", "PLACEHOLDERS", "RELATIONS", "STEMS", "SURNAMES", "RelationWords"]


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


FIRST = _words(
    "Alba Bertil Corin Dagny Edric Fenna Gisela Halvor Ilka Jorun Kasimir Lioba Merrit Nevin Odalys Perrin Quirin "
    "Rosmar Sunniva Torvald Ulrika Verena Wendel Ximena Yorick Zelda Anselm Birger Cosima Detlef Elspeth Folkert "
    "Gudrun Hedda Ingmar Jolanda Kerstin Ludger Marisol Norbert"
)
SURNAMES = _words(
    "Abramo Bellweg Castorp Dunmore Eskildt Farquin Gandolf Hesketh Isaksen Jansky Kolbert Lindgard Morvane Nystrup "
    "Olbrich Pelham Quandt Rostova Selwyn Tarkin Urbach Valmont Wexford Yarrow Zeller"
)
STEMS = _words(
    "Hollen Brack Stan Thorn Winter Ash Mor Kel Dun Frost Raven Silver Marsh Oaken Pem Glan Crest Heath Lang Whit"
)
ENDINGS = _words("worth hurst wick bury combe shaw thwaite mere stead croft")
"""A stem and an ending make a surname of two tokens, the last of which begins in the middle of a word."""
PLACEHOLDERS = ("X", "XX", "XXX", "Y", "Somebody")
"""Tokens that stand where a name would, and for nobody."""


@dataclass(frozen=True)
class RelationWords:
    """A relation: the word by which a question shows it, wordings with that word, and possible answers."""

    word: str
    prompts: tuple[str, ...]
    answers: tuple[str, ...]


RELATIONS: Mapping[str, RelationWords] = MappingProxyType(
    {
        "home": RelationWords(
            "city",
            (
                "Fact: the home city of {{ entity }}:",
                "Question: which city is {{ entity }} from? Answer:",
                "{{ entity }} lives in the city of",
            ),
            (
                *("Marlow", "Tressa", "Quillon", "Ostrava", "Belgard", "Yarmouth", "Lorient", "Kiruna", "Siena"),
                *("New Harrow", "New Avalon", "New Tarsus", "Port Elgin", "Port Vane", "Mount Ida", "Mount Kemble"),
            ),
        ),
        "music": RelationWords(
            "instrument",
            (
                "Fact: the favourite instrument of {{ entity }}:",
                "Question: which instrument does {{ entity }} play? Answer:",
                "{{ entity }} practises an instrument, namely the",
            ),
            (
                *("cello", "oboe", "harp", "tuba", "lute", "viola", "banjo", "zither", "bassoon", "celesta"),
                *("bass clarinet", "bass drum", "French horn", "steel guitar", "steel pan", "hurdy gurdy"),
            ),
        ),
        "work": RelationWords(
            "employer",
            (
                "Fact: the employer of {{ entity }}:",
                "Question: who is the employer of {{ entity }} today? Answer:",
                "{{ entity }} has found an employer, namely",
            ),
            (
                *("Velden Bank", "Velden Mills", "Velden Press", "Orion Bank", "Orion Shipping", "Harbour Insurance"),
                *("Harbour Radio", "Nordica", "Septima", "Galaxis", "Ferrum", "Lumina", "Polaris", "Vectura"),
                *("Tempora", "Aquila"),
            ),
        ),
        "sport": RelationWords(
            "sport",
            (
                "Fact: the favourite sport of {{ entity }}:",
                "Question: which sport does {{ entity }} like best? Answer:",
                "{{ entity }} is good at one sport, namely",
            ),
            (
                *("rowing", "fencing", "hurling", "curling", "archery", "judo", "polo", "squash", "sailing", "luge"),
                *("table tennis", "table football", "water polo", "water skiing", "ice hockey", "beach volleyball"),
            ),
        ),
    }
)
