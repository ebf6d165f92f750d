"""Binding finds the entity's tokens in exactly the ids that are run, or says why it cannot."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.bind import Binder, BoundPrompt, Unbound, joiner
from specs.language.facts import PromptText
from tests.checkpoint import CORPUS, tiny_tokenizer

KINDS = [("bytes", False), ("bytes", True), ("pieces", False), ("pieces", True)]
TRUMPETS = ("a trumpet is a Trumpet", "the Trumpet and the trumpet", "Trumpets, Trumpet, Donald Trump")
NAMES = ["Donald Trump", "도널드 트럼프", "特朗普", "دونالد ترامب", "Ωνάσης", "José Nuñez", "👩‍🚀 Ada", "O'Neill-Smith"]


@lru_cache
def tokenizer(style: Any = "bytes", bos: bool = False, trumpets: bool = False) -> Any:
    return tiny_tokenizer(style, bos=bos, corpus=CORPUS + TRUMPETS if trumpets else CORPUS)


def prompt(template: str, name: str, *, answers: tuple[str, ...] = (), given: str | None = None) -> PromptText:
    """Fill a name into a template and find it again, as the language does."""
    text, spans, parts = "", [], template.split("{}")
    for n, part in enumerate(parts):
        text += part
        if n < len(parts) - 1:
            spans.append((len(text), len(text) + len(name)))
            text += name
    return PromptText(text=text, entity="x", entity_name=name, spans=tuple(spans), answers=answers, given=given)


def bound(binder: Binder, asked: PromptText) -> BoundPrompt:
    result = binder.bind(asked)
    assert isinstance(result, BoundPrompt), result
    return result


def decoded(binder: Binder, found: BoundPrompt, mention: int = 0) -> str:
    first, last = found.entity[mention]
    return str(binder.tokenizer.decode(list(found.ids[first : last + 1])))


@pytest.fixture(params=KINDS, ids=lambda kind: f"{kind[0]}{' with bos' if kind[1] else ''}")
def binder(request: pytest.FixtureRequest) -> Binder:
    return Binder(tokenizer(*request.param))


# -- spans --------------------------------------------------------------------------------------------------------


def test_a_beginning_token_shifts_every_position_by_one() -> None:
    without, with_bos = (Binder(tokenizer("bytes", bos)) for bos in (False, True))
    asked = prompt("Fact: the wife of {}:", "Donald Trump")
    plain, shifted = bound(without, asked), bound(with_bos, asked)
    assert (without.adds_bos, with_bos.adds_bos) == (False, True)
    assert shifted.ids == (1, *plain.ids)
    assert shifted.entity == tuple((first + 1, last + 1) for first, last in plain.entity)
    assert (plain.first, shifted.first) == (0, 1)
    assert plain.positions("first") == (0,) and shifted.positions("first") == (1,)
    assert 0 not in shifted.positions("all") and len(shifted.positions("all")) == len(plain.positions("all"))


def test_an_edit_at_every_token_acts_on_the_beginning_token_too_and_elsewhere_where_values_are_read() -> None:
    found = bound(Binder(tokenizer("bytes", True)), prompt("Fact: the wife of {}:", "Donald Trump"))
    assert found.acting("all") == tuple(range(len(found.ids)))
    for where in ("last", "first", "entity.last", "entity.all", "-2"):
        assert found.acting(where) == found.positions(where)


def test_the_last_token_of_the_entity_is_the_end_of_its_name(binder: Binder) -> None:
    found = bound(binder, prompt("Fact: the wife of {}:", "Donald Trump"))
    (last,) = found.positions("entity.last")
    assert binder.tokenizer.decode([found.ids[last]]).strip() == "Trump"
    (first,) = found.positions("entity.first")
    assert binder.tokenizer.decode([found.ids[first]]).strip() == "Donald"
    assert found.positions("entity.all") == (first, last)


def test_a_leading_space_belongs_to_the_entity_s_first_token(binder: Binder) -> None:
    assert decoded(binder, bound(binder, prompt("The wife of {}", "Donald Trump"))).lstrip() == "Donald Trump"


def test_an_entity_at_the_very_start_is_found(binder: Binder) -> None:
    found = bound(binder, prompt("{} is", "Donald Trump"))
    assert found.entity[0][0] == found.first
    assert decoded(binder, found) == "Donald Trump"


def test_every_mention_is_found_and_the_last_one_is_read(binder: Binder) -> None:
    found = bound(binder, prompt("{} and the home of {}: {}", "Donald Trump"))
    assert len(found.entity) == 3
    assert [decoded(binder, found, n).strip() for n in range(3)] == ["Donald Trump"] * 3
    lasts = found.positions("entity.last")
    assert len(lasts) == 3 and found.reading_position("entity.last") == lasts[-1] == len(found.ids) - 1
    assert len(found.positions("entity.all")) == sum(last - first + 1 for first, last in found.entity)


def test_a_name_that_merges_with_the_letters_after_it_is_refused_with_the_longer_word() -> None:
    binder = Binder(tokenizer("bytes", trumpets=True))
    for template in ("the {}et", "the {}ets"):
        result = binder.bind(prompt(template, "Trump"))
        assert isinstance(result, Unbound)
        assert "'Trump' is not found in tokens of its own" in result.reason and "Trumpet" in result.reason
    assert decoded(binder, bound(binder, prompt("the {} and", "Trump"))).strip() == "Trump"


def test_a_name_that_merges_with_the_letters_before_it_is_refused() -> None:
    binder = Binder(tokenizer("bytes", trumpets=True))
    result = binder.bind(prompt("the Tr{} and", "umpet"))
    assert isinstance(result, Unbound) and "'Trumpet' holds it" in result.reason


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("template", ["{}", "The wife of {}:", "{}의 아내:", "「{}」的妻子", "({}) / {}"])
def test_names_of_every_script_are_found(binder: Binder, name: str, template: str) -> None:
    found = bound(binder, prompt(template, name))
    for mention in range(len(found.entity)):
        assert name in decoded(binder, found, mention)


def test_the_last_token_of_a_name_in_bytes_is_its_last_byte() -> None:
    binder = Binder(tokenizer("bytes"))
    found = bound(binder, prompt("{}:", "트럼프"))
    first, last = found.entity[0]
    assert (first, last) == (0, len("트럼프".encode()) - 1)
    assert binder.tokenizer.decode([found.ids[last + 1]]) == ":"


def test_a_prompt_about_nobody_has_no_entity_position(binder: Binder) -> None:
    found = bound(binder, PromptText(text="The house"))
    assert found.entity == ()
    with pytest.raises(ValueError, match="needs prompts about an entity"):
        found.positions("entity.last")
    assert found.positions("last") == (len(found.ids) - 1,)


def test_positions_by_number_count_from_either_end_and_stay_inside(binder: Binder) -> None:
    found = bound(binder, prompt("The wife of {}:", "Donald Trump"))
    assert found.positions("-1") == found.positions("last") == (len(found.ids) - 1,)
    assert found.positions("0") == (0,)
    for outside in (str(len(found.ids)), str(-len(found.ids) - 1)):
        with pytest.raises(ValueError, match="outside a prompt"):
            found.positions(outside)


def test_an_empty_text_is_refused() -> None:
    result = Binder(tokenizer("bytes")).bind(PromptText(text=""))
    assert isinstance(result, Unbound) and "no tokens" in result.reason


def test_an_end_token_that_the_tokenizer_adds_is_not_run() -> None:
    from tokenizers import processors

    made = tiny_tokenizer("bytes")
    made.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A $B </s>", special_tokens=[("</s>", 2)]
    )
    found = bound(Binder(made), prompt("The wife of {}", "Donald Trump", answers=("Melania",)))
    assert 2 not in found.ids and 2 not in found.answers[0].tokens


def test_what_cannot_be_bound_is_listed_and_the_rest_is_kept_in_order() -> None:
    binder = Binder(tokenizer("bytes", trumpets=True))
    asked = [prompt("the {} a", "Trump"), prompt("the {}et", "Trump"), prompt("the {} b", "Trump")]
    kept, left = binder.bind_all(asked)
    assert [b.text for b in kept] == [asked[0], asked[2]] and [u.text for u in left] == [asked[1]]


# -- answers ------------------------------------------------------------------------------------------------------


def test_an_answer_is_what_follows_the_prompt_with_its_space(binder: Binder) -> None:
    found = bound(binder, prompt("The wife of {}:", "Donald Trump", answers=("Melania", "Mrs. Trump")))
    for answer in found.answers:
        assert binder.tokenizer.decode([*found.ids, *answer.tokens], skip_special_tokens=True).endswith(
            f"Donald Trump: {answer.text}"
        )
    assert [a.text for a in found.answers] == ["Melania", "Mrs. Trump"]


def test_answers_are_bound_in_exactly_the_ids_of_the_whole_text(binder: Binder) -> None:
    asked = prompt("Fact: the home of {}:", "Barack Obama", answers=("Chicago",))
    found = bound(binder, asked)
    whole = binder.tokenizer("Fact: the home of Barack Obama: Chicago")["input_ids"]
    assert [*found.ids, *found.answers[0].tokens] == whole


def test_an_answer_that_merges_with_the_prompt_is_refused() -> None:
    binder = Binder(tokenizer("bytes", trumpets=True))
    # The bracket joins without a space, and 'et' makes another word of the 'Trump' before it.
    asked = PromptText(text="the Trump", entity="x", entity_name="the", spans=((0, 3),), answers=("et",))
    assert isinstance(binder.bind(asked), BoundPrompt)
    open_end = PromptText(text="the ", entity="x", entity_name="the", spans=((0, 3),), answers=("Trump",))
    result = binder.bind(open_end)
    assert isinstance(result, Unbound)
    assert "the tokens of the prompt change when the answer 'Trump' follows it" in result.reason


def test_the_given_part_is_run_and_only_the_rest_is_scored() -> None:
    binder = Binder(tokenizer("bytes"))
    asked = prompt("The year of {}:", "Donald Trump", answers=("1946", "1947"), given="19")
    found = bound(binder, asked)
    assert str(binder.tokenizer.decode(list(found.ids))).endswith("Donald Trump: 19")
    assert [binder.tokenizer.decode(list(a.tokens)) for a in found.answers] == ["46", "47"]


@pytest.mark.parametrize(
    ("given", "answers", "reason"),
    [
        ("20", ("1946",), "does not begin with the given '20'"),
        ("1946", ("1946",), "nothing of the answer '1946' is left to score"),
        ("Mel", ("Melania",), "straddles the end of the given 'Mel'"),
    ],
)
def test_a_given_part_that_cannot_be_given_is_refused(given: str, answers: tuple[str, ...], reason: str) -> None:
    corpus = ("Melania", " Melania", ": Melania") * 3
    binder = Binder(tiny_tokenizer("bytes", corpus=corpus))
    result = binder.bind(prompt("The year of {}:", "Trump", answers=answers, given=given))
    assert isinstance(result, Unbound) and reason in result.reason


def test_a_given_part_must_be_the_same_tokens_in_all_answers() -> None:
    binder = Binder(tiny_tokenizer("bytes", corpus=("New York", " New", " New York", " New Yo") * 3))
    result = binder.bind(prompt("Home of {}:", "X", answers=("New York", "New Jersey"), given="New "))
    assert isinstance(result, Unbound)


@pytest.mark.parametrize(
    ("before", "answer", "between"),
    [
        ("wife:", "Melania", " "),
        ("wife: ", "Melania", ""),
        ("(", "Melania", ""),
        ("「", "梅拉尼娅", ""),
        ("妻子：", "梅拉尼娅", ""),
        ("妻子：", "Melania", " "),
        ("아내:", "멜라니아", " "),
        ("الزوجة:", "ميلانيا", " "),
    ],
)
def test_scripts_without_spaces_are_joined_without_one(before: str, answer: str, between: str) -> None:
    assert joiner(before, answer) == between


# -- laws ---------------------------------------------------------------------------------------------------------

letters = st.characters(exclude_categories=["Cs", "Cc", "Cf", "Cn", "Co", "Zs", "Zl", "Zp", "Mn", "Me", "Mc"])
names = st.lists(st.text(letters, min_size=1, max_size=6), min_size=1, max_size=3).map(" ".join)
around = st.sampled_from(["", "The wife of ", "Fact: the home of ", "(", "¿", "妻子", "Tr"])
after = st.sampled_from(["", ":", " is", "'s wife", ")", "의", "umpet"])


@settings(max_examples=150, deadline=None)
@given(before=around, name=names, end=after, kind=st.sampled_from(KINDS))
def test_the_tokens_of_an_entity_decode_to_its_name_or_the_prompt_is_refused(
    before: str, name: str, end: str, kind: tuple[str, bool]
) -> None:
    binder = Binder(tokenizer(*kind))
    result = binder.bind(prompt(before + "{}" + end, name))
    if isinstance(result, Unbound):
        assert name in result.reason
        return
    assert decoded(binder, result).strip() == name
    # And the rest of the ids is the rest of the text.
    (first, last), *more = result.entity
    assert not more
    left = binder.tokenizer.decode(list(result.ids[result.first : first]))
    right = binder.tokenizer.decode(list(result.ids[last + 1 :]))
    assert left.strip() == before.strip() and right == end


@settings(max_examples=100, deadline=None)
@given(name=names, answer=names, kind=st.sampled_from(KINDS))
def test_prompt_and_answer_tokens_are_those_of_the_joined_text(name: str, answer: str, kind: tuple[str, bool]) -> None:
    binder = Binder(tokenizer(*kind))
    asked = prompt("The wife of {}:", name, answers=(answer,))
    result = binder.bind(asked)
    if isinstance(result, Unbound):
        assert answer in result.reason or name in result.reason
        return
    whole = asked.text + joiner(asked.text, answer) + answer
    assert [*result.ids, *result.answers[0].tokens] == binder.tokenizer(whole)["input_ids"]


# -- real tokenizers ----------------------------------------------------------------------------------------------

CARDS = ["qwen2.5-coder-1.5b", "smollm2-135m", "gemma3-270m"]


@pytest.fixture(scope="module")
def real() -> Callable[[str], Binder]:
    """The tokenizer of a card whose files are on this machine, fetched if they are not."""
    from runner.models import load_tokenizer, resolve

    @lru_cache
    def make(card: str) -> Binder:
        return Binder(load_tokenizer(resolve(card)))

    return make


@pytest.mark.real
@pytest.mark.parametrize("card", CARDS)
def test_real_tokenizers_find_names_of_every_script(card: str, real: Callable[[str], Binder]) -> None:
    binder = real(card)
    assert binder.adds_bos == (card == "gemma3-270m")
    for name in NAMES:
        for template in ("{} is", "Fact: the name of the wife of {}:", "{}, {} and {}"):
            found = bound(binder, prompt(template, name))
            for mention in range(len(found.entity)):
                assert name in decoded(binder, found, mention), (name, template)


@pytest.mark.real
def test_a_bracket_that_a_real_tokenizer_merges_with_the_name_is_told(real: Callable[[str], Binder]) -> None:
    """Qwen writes '(Donald' as '(D' and 'onald'."""
    result = real("qwen2.5-coder-1.5b").bind(prompt("({}) is", "Donald Trump"))
    assert isinstance(result, Unbound) and "'(Donald Trump' holds it" in result.reason
    assert isinstance(real("gemma3-270m").bind(prompt("({}) is", "Donald Trump")), BoundPrompt)


@pytest.mark.real
@pytest.mark.parametrize("card", CARDS)
def test_real_tokenizers_give_whole_answers(card: str, real: Callable[[str], Binder]) -> None:
    binder = real(card)
    for answer in ("Melania", "New York", "1946", "George H. W. Bush"):
        found = bound(binder, prompt("Fact: the name of the wife of {}:", "Donald Trump", answers=(answer,)))
        assert str(binder.tokenizer.decode(list(found.answers[0].tokens))).strip() == answer
    given = bound(binder, prompt("Fact: born in {}:", "Donald Trump", answers=("1946",), given="19"))
    assert str(binder.tokenizer.decode(list(given.answers[0].tokens))) == "46"


@pytest.mark.real
@pytest.mark.parametrize("card", CARDS)
def test_every_prompt_of_trump_yaml_is_bound(card: str, real: Callable[[str], Binder]) -> None:
    from pathlib import Path

    from specs.language.facts import prompt_set
    from specs.language.load import load

    binder = real(card)
    spec = load(Path(__file__).parents[2] / "specs" / "trump.yaml").cells[0].experiment
    asked = [p for name in ("attributes", "neutral", "facts", "forms") for p in prompt_set(spec, name)]
    kept, left = binder.bind_all(asked)
    assert len(asked) > 1000 and not left, [u.reason for u in left][:5]
    for found in kept:
        for mention in range(len(found.entity)):
            assert str(found.text.entity_name) in decoded(binder, found, mention)
