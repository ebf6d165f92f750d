"""Conditions: read, written, met."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specs.language.conditions import holds, number_text, parse_condition, text
from specs.language.experiment import Condition


@pytest.mark.parametrize(
    ("written", "quantity", "op", "value", "tolerance"),
    [
        ("dominance >= 10", "dominance", ">=", 10.0, None),
        ("layer in 1-6", "layer", "in", ("1-6",), None),
        ("concept in person, place", "concept", "in", ("person", "place"), None),
        ("verified/size within 20 of 131", "verified/size", "within", 131.0, 20.0),
        ("cell/ada = L1.N11948", "cell/ada", "=", "L1.N11948", None),
        ("model = Qwen/Qwen2.5-7B", "model", "=", "Qwen/Qwen2.5-7B", None),
        ("silence/pass@5/scale=-3 >= 0.99", "silence/pass@5/scale=-3", ">=", 0.99, None),
        ("a/rank/relation=town/times=5 = 1", "a/rank/relation=town/times=5", "=", 1.0, None),
        ("a/accuracy < a/random_neurons/accuracy", "a/accuracy", "<", "a/random_neurons/accuracy", None),
        ("cell/Man in Black = L1.N3", "cell/Man in Black", "=", "L1.N3", None),
        ("dominance>=10", "dominance", ">=", 10.0, None),
        ("town != New York", "town", "!=", "New York", None),
        ('year = "1946"', "year", "=", "1946", None),
        ('town in "Paris, Texas", Rome', "town", "in", ("Paris, Texas", "Rome"), None),
        ("p <= 5e-2", "p", "<=", 0.05, None),
    ],
)
def test_a_condition_is_quantity_op_value(
    written: str, quantity: str, op: str, value: object, tolerance: float | None
) -> None:
    found = parse_condition(written)
    assert (found.quantity, found.op, found.value, found.tolerance) == (quantity, op, value, tolerance)


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("cell/ada == L1.N11948", "write one = sign: `cell/ada = L1.N11948`"),
        (
            "dominance at least 10",
            "'dominance at least 10' is not a condition; write `quantity op value` with op one of "
            "= != < <= > >= in within, for example `dominance >= 10`",
        ),
        (
            "model=m",
            "'model=m' is not a condition; write `quantity op value` with op one of "
            "= != < <= > >= in within, for example `model = m`",
        ),
        ("rank => 3", "'=>' is not an op; write `rank >= 3`"),
        ("rank ≥ 3", "'≥' is not an op; write `rank >= 3`"),
        ("rank >= high", ">= compares numbers, and 'high' is none"),
        ("layer in 6-1", "6-1 runs backwards; write 1-6"),
        ("layer in 1,,2", "'layer in 1,,2' has an empty value in its list"),
        (
            "size within 20",
            "'size within 20' is not a condition; write `size within TOLERANCE of VALUE`, "
            "for example `verified/size within 20 of 131`",
        ),
        ("size within -2 of 3", "a tolerance is at least 0, and this is -2"),
        ("size within 2 of many", "within compares numbers, and 'many' is none"),
        ("size > 1e999", "'1e999' is too large a number"),
    ],
)
def test_what_is_not_a_condition_is_refused_with_how_to_write_it(written: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_condition(written)
    assert str(caught.value) == message


@pytest.mark.parametrize("written", ["", "  ", "=", "= 5", "in 5", "x =", "x in", "within 2 of 3"])
def test_a_condition_without_one_of_its_parts_is_refused(written: str) -> None:
    with pytest.raises(ValueError, match="is not a condition"):
        parse_condition(written)


numbers = st.floats(allow_nan=False, allow_infinity=False).map(lambda x: x + 0.0)
quantities = st.from_regex(r"[a-z][a-z_]{0,6}(/[a-z]{1,4}(=-?[0-9]{1,2})?){0,2}", fullmatch=True)
words = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
conditions = st.one_of(
    st.builds(
        lambda q, op, v: Condition(quantity=q, op=op, value=v),
        quantities,
        st.sampled_from(["=", "!="]),
        numbers | words,
    ),
    st.builds(
        lambda q, op, v: Condition(quantity=q, op=op, value=v),
        quantities,
        st.sampled_from(["<", "<=", ">", ">="]),
        numbers,
    ),
    st.builds(
        lambda q, v, t: Condition(quantity=q, op="within", value=v, tolerance=abs(t)),
        quantities,
        numbers,
        numbers,
    ),
    st.builds(
        lambda q, v: Condition(quantity=q, op="in", value=tuple(v)),
        quantities,
        st.lists(numbers | words, min_size=1, max_size=3),
    ),
)


@given(conditions)
def test_a_condition_written_and_read_is_itself(condition: Condition) -> None:
    assert parse_condition(text(condition)) == condition


@given(numbers)
def test_a_number_written_and_read_is_itself(number: float) -> None:
    assert float(number_text(number)) == number


@given(numbers, numbers)
def test_less_and_at_least_exclude_each_other(value: float, limit: float) -> None:
    less = Condition(quantity="x", op="<", value=limit)
    assert holds(less, value) is not holds(less.model_copy(update={"op": ">="}), value)


@given(numbers | words, numbers | words)
def test_equal_and_unequal_exclude_each_other(value: float | str, wanted: float | str) -> None:
    equal = Condition(quantity="x", op="=", value=wanted)
    assert holds(equal, value) is not holds(equal.model_copy(update={"op": "!="}), value)


@pytest.mark.parametrize(
    ("written", "value", "met"),
    [
        ("layer in 1-6", 6, True),
        ("layer in 1-6", 7, False),
        ("layer in 1-2, 9", 9, True),
        ("depth in -3--1", -2, True),
        ("state = Texas", "Texas", True),
        ("state = Texas", "texas", False),
        ("rank = 1", "1", True),
        ("rank = 0.3", 0.1 + 0.2, True),
        ("size within 20 of 131", 111, True),
        ("size within 20 of 131", 110, False),
        ("score within 0.05 of 0.7", 0.75, True),
        ("tags = red", ["blue", "red"], True),
        ("tags != red", ["blue", "red"], False),
        ("state != Texas", None, False),
        ("fame >= 2", "3", True),
    ],
)
def test_a_value_meets_a_condition_or_not(written: str, value: object, met: bool) -> None:
    assert holds(parse_condition(written), value) is met  # type: ignore[arg-type]


def test_a_text_where_a_number_is_compared_is_an_error_and_not_false() -> None:
    with pytest.raises(ValueError, match="'unknown' is none"):
        holds(parse_condition("fame >= 2"), "unknown")
