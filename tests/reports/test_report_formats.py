"""Numbers and texts as a reader sees them."""

from __future__ import annotations

from xml.etree import ElementTree
from xml.sax.saxutils import escape

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports import formats


@pytest.mark.parametrize(
    ("value", "decimals", "text"),
    [
        (None, None, "–"),
        (0.0, None, "0.000"),
        (-0.0, 2, "0.00"),
        (0.1234, None, "0.123"),
        (-0.0004, 2, "−4.0×10⁻⁴"),
        (0.00058, None, "5.8×10⁻⁴"),
        (12.345, None, "12.35"),
        (1234.5, None, "1,234"),
        (1.0, 3, "1.000"),
        (-3.14159, 2, "−3.14"),
        (9.96e-6, None, "1.0×10⁻⁵"),
    ],
)
def test_a_number_has_about_three_digits(value: float | None, decimals: int | None, text: str) -> None:
    """Small figures become powers of ten instead of zero, and the minus sign is a minus sign."""
    assert formats.number(value, decimals) == text


@given(st.floats(allow_nan=False, allow_infinity=False), st.sampled_from([None, 0, 1, 2, 3]))
def test_only_zero_reads_as_zero(value: float, decimals: int | None) -> None:
    """Whatever is not zero does not look like zero, and keeps its sign."""
    text = formats.number(value, decimals)
    assert any(c in "123456789" for c in text) == (value != 0)
    assert text.startswith(formats.MINUS) == (value < 0)
    assert "-" not in text and "e" not in text


@given(st.text())
def test_any_text_can_stand_in_a_document(text: str) -> None:
    """What a model writes can be put into XML as it is, control characters and all."""
    shown = formats.visible(text)
    element = ElementTree.fromstring(f"<t>{escape(shown)}</t>")
    assert (element.text or "") == shown
    assert len(shown) == len(text)


@given(st.text(), st.integers(min_value=2, max_value=30))
def test_a_shortened_text_is_not_longer_than_allowed(text: str, limit: int) -> None:
    """A long text is cut with an ellipsis, a short one stays."""
    short = formats.shorten(text, limit)
    assert len(short) <= limit
    assert short == formats.visible(text) if len(text) <= limit else short.endswith("…")


def test_line_ends_and_escapes_are_shown() -> None:
    """A reader sees where a text breaks and what would have been obeyed."""
    assert formats.visible("a\nb\t\x1b[31m\x7f") == "a⏎b␉␛[31m␡"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0041, "4 ms"), (9.84, "9.8 s"), (128.4, "2 min 8 s"), (3599.9, "1 h 0 min"), (7300, "2 h 1 min")],
)
def test_a_time_has_the_unit_that_suits_it(seconds: float, text: str) -> None:
    """Milliseconds, seconds, minutes or hours."""
    assert formats.duration(seconds) == text


def test_an_interval_needs_both_ends() -> None:
    """Half an interval is none."""
    assert formats.interval(0.1, 0.2, 1) == "0.1 to 0.2"
    assert formats.interval(None, 0.2) == formats.interval(0.1, None) == ""
    assert formats.spread(None, 0.1) == formats.MISSING
    assert formats.spread(0.5, None, 1) == "0.5"
