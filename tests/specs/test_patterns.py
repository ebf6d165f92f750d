"""Patterns of a spec: what is refused could take for ever, and what is accepted does not."""

from __future__ import annotations

import time

import pytest

from specs.language.patterns import LONGEST, compiled, trouble


@pytest.mark.parametrize(
    "pattern",
    [
        r"^The\b",
        r"(?i)\bnot\b.*\bsure\b",
        r"^(?:yes|no|maybe)\b",
        r"^[A-D][.)]",
        r"\d{4}",
        r"^(?P<who>\w+) is (a|an|the) .*\.",
        r"a?b?c?d?",
        r"(?<!un)known",
    ],
)
def test_usual_patterns_are_fine(pattern: str) -> None:
    assert trouble(pattern) == ""


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("", "it is empty"),
        ("(", "missing ), unterminated subpattern at character 1"),
        ("[z-a]", "bad character range z-a at character 2"),
        ("(a+)+$", "repeats a repetition"),
        ("(a*b?)*c", "repeats a repetition"),
        ("(?:a|aa)+$", "repeats a choice"),
        (r"(\w+) \1", "refers back"),
        (".*.*.*.*x", "too many repetitions"),
        ("a?" * 17 + "a" * 17, "too many repetitions"),
        ("(?:a{1,50}){1,50}b", "repeats a repetition"),
    ],
)
def test_what_is_none_or_could_take_for_ever_is_refused(pattern: str, why: str) -> None:
    assert why in trouble(pattern)


@pytest.mark.parametrize("pattern", [".*.*.*x", "a*a*a*b", "a?" * 16 + "a" * 16 + "b", "(?:a|a|a)" * 10 + "b"])
def test_the_worst_that_is_accepted_ends(pattern: str) -> None:
    assert trouble(pattern) == ""
    start = time.perf_counter()
    assert compiled(pattern).search("a" * LONGEST) is None
    assert time.perf_counter() - start < 60
