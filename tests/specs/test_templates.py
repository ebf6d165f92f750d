"""Templates: one slot, exact spans, nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import StrictUndefined
from jinja2.sandbox import ImmutableSandboxedEnvironment

from specs.language.templates import check, frame, render, substitute

names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
pieces = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="{}%#\r"), max_size=15)
bodies = st.lists(pieces, min_size=2, max_size=4)


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__ }} {{ entity }}",
        "{{ entity.__class__ }}",
        "{{ entity | upper }}",
        "{{ entity[0] }}",
        "{{ entity() }}",
        "{{ entity ~ '!' }}",
        "{% if entity %}{{ entity }}{% endif %}",
        "{# hidden #}{{ entity }}",
        "{{- entity -}}",
        "{% raw %}{{ entity }}{% endraw %}{{ entity }}",
        "{{ 'Ada' }} {{ entity }}",
        "{{ entity",
        "{{ }}",
        "{{ 7 * 7 }}",
    ],
)
def test_only_the_entity_may_stand_in_a_template(template: str) -> None:
    assert check(template) == ["only {{ entity }} may stand in a template"]
    with pytest.raises(ValueError, match="only"):
        render(template, "Ada")


def test_an_unknown_slot_is_refused_with_the_nearest() -> None:
    assert check("{{ entitty }}") == [
        "'entitty' is not defined here; a template knows {{ entity }}; did you mean 'entity'?"
    ]
    assert check("The {{ subject }}") == ["'subject' is not defined here; a template knows {{ entity }}"]
    assert check("{{ self }} {{ entity }}") == ["'self' is not defined here; a template knows {{ entity }}"]


def test_a_template_without_its_slot_is_refused() -> None:
    assert check("The age of") == ["no {{ entity }} in this template: a text about nobody goes under `texts:`"]
    assert check("Question", "prompt") == ["no {{ prompt }} in this frame, so every prompt would be the same text"]
    assert check("{{ prompt }} {{ prompt }}", "prompt") == ["{{ prompt }} stands twice in this frame"]


def test_every_mention_has_its_span() -> None:
    text, spans = render("{{ entity }} met {{ entity }}.", "Al Al")
    assert text == "Al Al met Al Al."
    assert spans == ((0, 5), (10, 15))


@given(bodies, names)
def test_a_span_holds_exactly_the_name(parts: list[str], name: str) -> None:
    """For any name: braces, line ends, and names that also stand elsewhere in the template."""
    text, spans = render("{{ entity }}".join(parts), name)
    assert len(spans) == len(parts) - 1
    assert [text[a:b] for a, b in spans] == [name] * len(spans)
    assert sum(len(p) for p in parts) + len(name) * len(spans) == len(text)


@given(bodies, names)
def test_rendering_is_what_jinja_renders(parts: list[str], name: str) -> None:
    template = "{{ entity }}".join(parts)
    environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True)
    assert render(template, name)[0] == environment.from_string(template).render(entity=name)


@given(bodies, names, pieces, pieces)
def test_a_frame_moves_the_spans_along(parts: list[str], name: str, before: str, after: str) -> None:
    inner, spans = render("{{ entity }}".join(parts), name)
    text, moved = frame(before + "{{ prompt }}" + after, inner, spans)
    assert text == before + inner + after
    assert [text[a:b] for a, b in moved] == [name] * len(spans)


@given(bodies, names, names)
def test_another_name_stands_where_the_first_stood(parts: list[str], name: str, other: str) -> None:
    template = "{{ entity }}".join(parts)
    assert substitute(*render(template, name), other) == render(template, other)


def test_a_name_is_never_read_as_a_template() -> None:
    assert render("The age of {{ entity }}", "{{ 7 * 7 }}{% x %}")[0] == "The age of {{ 7 * 7 }}{% x %}"
