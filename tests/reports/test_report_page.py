"""The page as a whole: valid, self-contained, escaped, and complete about what the run did and did not do."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable
from importlib import resources
from typing import get_args

import pytest
import synthetic_results
from page import Page

from reports import formats, sections
from reports.curves import DRAWN, SERIES_WORDS
from reports.drawing import COLOURS, DASHES, SHAPES
from reports.measures import MEASURES
from reports.render import html
from specs.language.results import ClaimResult
from specs.language.words import ConditionName, Measure, Role

Read = Callable[[str], Page]
Report = Callable[[str], str]
KINDS = ("results", "partial", "empty", "nothing_measured", "no_cell", "strange_names", "chosen", "relations")
TITLES = [
    "Warnings",
    "Cells",
    "Interventions",
    "What the model writes",
    "Analyses",
    "Claims",
    "Tables",
    "Prompt sets",
    "Chat",
    "What was left out",
    "Self-tests",
    "Stages",
    "How to read this page",
    "Ask the same of somebody else",
    "Provenance",
]


@pytest.mark.parametrize("kind", KINDS)
def test_every_tag_is_closed_and_every_id_is_there_once(read: Read, kind: str) -> None:
    """The page is well-formed, and what refers to an id finds it."""
    page = read(kind)
    assert page.faults == []
    ids = [e.attributes["id"] for e in page.elements if "id" in e.attributes]
    assert len(ids) == len(set(ids))
    for element in page.elements:
        for name in ("aria-labelledby", "for"):
            assert set(element.attributes.get(name, "").split()) <= set(ids)
        for value in element.attributes.values():
            assert set(re.findall(r"url\(#([^)]*)\)", value)) <= set(ids)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_loaded_from_outside(read: Read, report: Report, kind: str) -> None:
    """No attribute, style or script asks for anything that is not in the file."""
    page = read(kind)
    for element in page.elements:
        for name in ("src", "href", "xlink:href", "action", "data", "poster", "srcset"):
            value = element.attributes.get(name, "")
            assert not value or value.startswith("#") or value == "data:,", (element.tag, name, value)
        assert element.tag not in {"iframe", "object", "embed", "base", "image", "img", "form"}
        for value in element.attributes.values():
            assert not re.search(r"url\((?!#)", value)
    for style in page.all("style"):
        assert "@import" not in style.text and "url(" not in style.text
    for script in page.all("script"):
        assert not re.search(r"fetch|XMLHttp|import|WebSocket|eval|innerHTML|https?:", script.text)
    assert "xmlns" not in report(kind)


def test_only_the_script_of_the_page_may_run(read: Read) -> None:
    """The content policy names the one script by its hash and forbids every load."""
    page = read("results")
    (script,) = page.all("script")
    digest = base64.b64encode(hashlib.sha256(script.text.encode()).digest()).decode()
    (policy,) = [e.attributes["content"] for e in page.all("meta") if "http-equiv" in e.attributes]
    assert "default-src 'none'" in policy
    assert f"script-src 'sha256-{digest}'" in policy
    assert not [e for e in page.elements for name in e.attributes if name.startswith("on")]


def test_a_hostile_name_stays_text(read: Read, report: Report) -> None:
    """A name that is a script is shown letter by letter, in tables and in charts, and makes no element."""
    page = read("strange_names")
    shown = formats.visible(synthetic_results.HOSTILE)
    assert len(page.all("script")) == 1
    assert not page.all("img")
    assert shown in page.text
    assert any("<script>" in e.text for e in page.all("text"))
    assert "\x00" not in report("strange_names") and "\x1b" not in report("strange_names")


def test_every_field_of_the_results_is_escaped() -> None:
    """Markup in any text of the document comes out as text."""
    evil = "<b id=evil>&quot;</b>"
    whole = synthetic_results.partial()
    claim = ClaimResult(claim=evil, source=evil, when=evil, outcome="met", observed=evil, reason=evil)
    out = synthetic_results.results().left_out[0].model_copy(update={"what": evil, "reason": evil, "where": evil})
    test = whole.self_tests[0].model_copy(update={"name": evil, "question": evil, "detail": evil})
    stage = whole.stages[0].model_copy(update={"name": evil, "note": evil})
    bad = whole.model_copy(
        update={
            **dict.fromkeys(("name", "title", "description", "answer", "hash", "cell", "reason"), evil),
            **dict.fromkeys(("started", "spec"), evil),
            "claims": [claim],
            "left_out": [out],
            "self_tests": [test],
            "stages": [stage],
            "warnings": [evil],
            "provenance": {evil: {evil: [evil]}},
            "model": whole.model.model_copy(update={"id": evil, "card": None, "family": evil}),
            "interventions": {},
        }
    )
    text = html(bad)
    assert "<b id=evil" not in text
    assert text.count("&lt;b id=evil") > 20


def test_every_section_is_there_in_order(read: Read) -> None:
    """A complete run shows every section, from the question to the spec, and links to each."""
    page = read("results")
    assert [e.text for e in page.all("h2")] == TITLES
    assert [e.text for e in page.all("a")] == TITLES
    whole = synthetic_results.results()
    for part in (whole.description, whole.answer, whole.hash, whole.spec.splitlines()[2], "Donald Trump"):
        assert part in page.text


def test_the_table_of_sections_is_complete() -> None:
    """Every module with ``build`` stands in the table, and every section has a template of its name."""
    folder = resources.files("reports") / "sections"
    modules = {
        entry.name.removesuffix(".py")
        for entry in folder.iterdir()
        if entry.name.endswith(".py") and "def build(" in entry.read_text() and entry.name != "__init__.py"
    }
    assert {make.__module__.rpartition(".")[2] for make in sections.SECTIONS} == modules
    templates = {entry.name for entry in (resources.files("reports") / "templates").iterdir()}
    assert {f"{name}.html" for name in modules} <= templates


def test_every_word_of_the_language_has_its_drawing() -> None:
    """Each measure has words, and each series that is drawn a colour, a dash, a shape and a name."""
    assert set(MEASURES) == set(get_args(Measure)) - {"text"}
    for table in (COLOURS, DASHES, SHAPES):
        assert set(table) == set(DRAWN)
    assert set(DRAWN) <= set(SERIES_WORDS)
    assert {condition for condition, _ in SERIES_WORDS} == set(get_args(ConditionName))
    assert {role for _, role in SERIES_WORDS} == set(get_args(Role))
    assert len(set(COLOURS.values())) == len(COLOURS) == len(set(SHAPES.values()))


def test_a_partial_run_says_so_everywhere(read: Read, report: Report) -> None:
    """A run that was interrupted has a banner with its reason, a title that says so, and marked headings."""
    page = read("partial")
    (banner,) = page.all("div", class_="banner")
    assert "Partial run" in banner.text and "interrupted" in banner.text
    assert page.all("title")[0].text.startswith("PARTIAL")
    assert page.all("body")[0].attributes["class"] == "partial"
    assert ".partial h2::after" in report("partial")
    assert not read("results").all("div", class_="banner")


def test_a_failed_run_says_so() -> None:
    """A failed run has its own banner, and never claims that nothing was left out."""
    text = html(synthetic_results.empty("failed"))
    assert "Failed run" in text and "none was recorded" in text
    assert "everything that was asked for was used" not in text


def test_an_empty_run_says_what_is_not_there(read: Read) -> None:
    """A run without rankings or interventions has a page that says so."""
    text = read("empty").text
    for said in ("localised nothing", "edited nothing", "recorded no answer", "did not reach the self-tests"):
        assert said in text


def test_absent_figures_are_dashes(read: Read, report: Report) -> None:
    """Where every figure is absent, the page has dashes, no chart of the sweep, and no None or nan."""
    page = read("nothing_measured")
    assert not re.search(r"\b(None|nan|NaN|undefined|inf)\b", page.text)
    assert "No figure could be had" in page.text or "No figure was measured" in page.text
    assert not [e for e in page.all("svg") if "amnesia-knowledge_score" in e.attributes.get("aria-labelledby", "")]
    assert formats.MISSING in page.text


def test_no_cell_is_said_in_words_and_shown(read: Read) -> None:
    """When no dominance reaches 2, the page says that none stands out and calls nothing a cell of anybody."""
    page = read("no_cell")
    assert "No cell stands out." in page.text
    assert page.text.count("none stands out") >= 4
    assert "ell of Donald Trump" not in page.text and "Highest score for Donald Trump" in page.text
    assert len([e for e in page.all("tr") if "weak" in e.attributes.get("class", "")]) == 7
    clear = read("results")
    assert "Likely cell of Donald Trump" in clear.text and "No cell stands out." not in clear.text


def test_every_figure_stands_with_n_error_and_interval(read: Read) -> None:
    """Every mean of the sweep is in a table with standard error, interval and number of prompts."""
    cells = {e.text for e in read("results").all("td")}
    for s in synthetic_results.results().interventions["amnesia"].summaries[:400]:
        assert s.mean is not None
        mean = formats.spread(s.mean, s.se, 3)
        assert any(c.startswith(mean) and f"n {s.n}" in c for c in cells), s
        between = formats.interval(s.low, s.high, 3)
        assert any(c.startswith(mean) and between in c for c in cells), s


def test_a_hit_is_marked_by_a_sign_and_not_only_by_colour(read: Read) -> None:
    """Texts that begin with the answer carry a sign and a word for screen readers."""
    page = read("results")
    hits = [e for e in page.all("p", class_="hit")]
    texts = synthetic_results.results().interventions["injection"].texts
    assert hits and all("✓" in e.text and "hit:" in e.text for e in hits)
    assert len(hits) == sum(t.hit for t in texts if t.condition not in ("wrong_cell", "random_neurons"))


def test_texts_stand_under_their_condition(read: Read) -> None:
    """The row of a relation holds the real name, no edit, every factor, and each control, in this order."""
    page = read("results")
    heads = [e.text for e in page.all("th", scope="col")]
    start = heads.index("real name")
    assert heads[start : start + 9] == [
        "real name",
        "no edit",
        *(f"celltimes {t}" for t in (1, 2, 3, 5, 8)),
        "wrong celltimes 3",
        "random neuronstimes 3",
    ]


def test_a_page_stays_below_three_megabytes(report: Report) -> None:
    """Four owners, eight relations and 21 factors fit, and so do more owners than are drawn."""
    assert len(report("results").encode()) < 3_000_000
    assert len(report("many").encode()) < 3_000_000


def test_what_is_not_drawn_is_said(read: Read) -> None:
    """A run with more owners than a page can draw says how many it draws."""
    page = read("many")
    text = page.text
    assert "The first 8 of 12 owners are drawn" in text
    assert "10 of 13 are drawn" in text
    heads = [e.text for e in page.elements if e.tag == "figcaption"]
    assert "all owners" in heads, "the mean over owners is drawn, however many there are"
    assert "Person Number 11" in text


def test_a_warning_is_shown_once_with_its_place(read: Read) -> None:
    """Warnings of the run, the rankings and the interventions stand together."""
    (warnings,) = read("results").all("ul", class_="warnings")
    assert warnings.text.count("does nothing there") == 1
    assert "(amnesia)" in warnings.text


def test_relations_are_shown_together_with_what_is_derived_from_rows(read: Read) -> None:
    """Key figures of all relations, the majority answer beside clean accuracy, and a chart for each analysis."""
    page = read("relations")
    text = page.text
    for said in (
        "Own relation",
        "Other relations",
        "More than by chance",
        "always saying it",
        "Share of right answers that the edit takes away",
        "Shared neurons",
        "Lost only to all of the neurons together",
        "Relative difference of frequency: above 0, sensitive facts have more",
        "What is said",
        "Examples of each class",
    ):
        assert said in text, said
