"""The charts: what is drawn, on which axes, and that it can stand in a page."""

from __future__ import annotations

import json
from typing import Any
from xml.etree import ElementTree

import pytest
import synthetic_results

from reports import charts, derived, drawing
from reports.curves import Panel, panels
from specs.language.results import Results, Summary


@pytest.fixture(scope="module")
def panel() -> Panel:
    """The knowledge score of the first owner over 21 factors."""
    amnesia = synthetic_results.results().interventions["amnesia"]
    return panels(amnesia, "knowledge_score", "trump")[0]


def _rows(spec: dict[str, Any]) -> list[dict[str, Any]]:
    """Gather the rows of every data set of a chart."""
    found: list[dict[str, Any]] = []
    sets = [d for d in spec.get("datasets", {}).values()]
    sets += [layer["data"]["values"] for layer in spec.get("layer", []) if "values" in layer.get("data", {})]
    for values in sets:
        found += json.loads(values) if isinstance(values, str) else values
    return found


def _encodings(spec: dict[str, Any], channel: str) -> list[dict[str, Any]]:
    return [layer["encoding"][channel] for layer in spec["layer"] if channel in layer.get("encoding", {})]


def test_every_chart_keeps_to_the_schema(panel: Panel) -> None:
    """Altair accepts each chart when it checks it in full, which the report does not."""
    strip = charts.strip_rows(synthetic_results.results(), "cell")
    mark = {"layer": 1, "score": 9.0, "address": "L1.N1", "kind": "winner", "tip": ""}
    domain = charts.shared_domain([panel])
    for chart in (
        charts.sweep(panel, domain),
        charts.sweep(panel, domain, title="t", key=[c.key for c in panel.drawn]),
        charts.small_sweep(panel, domain),
        charts.dots([panel], ["a"], domain),
        charts.strips(strip),
        charts.strips(strip, charts.NARROW),
        charts.layer_positions([mark], 28),
    ):
        chart.to_dict(validate=True)


def test_every_chart_of_an_analysis_keeps_to_the_schema() -> None:
    """Altair accepts what is drawn of rows and of sets over several sites."""
    cell = {"line": "a", "column": "b", "value": -0.2, "text": "−0.20", "tip": ""}
    step = {"step": "11-50", "value": 0.5, "series": "a", "tip": ""}
    share = {"line": "clean: a", "kind": "right", "at": 0, "share": 1.0, "tip": ""}
    for width in (derived.WIDTH + 160, charts.NARROW):
        for chart in (
            derived.heat([cell], ["a"], ["b"], domain=(-1, 1), titles=("edited", "asked"), width=width, both_ways=True),
            derived.rising([step, step | {"series": "mean"}], ["11-50"], [("mean", "#c44e00")], width),
            derived.departures([{"group": "a", "value": -0.5, "tip": ""}], "relative difference", width),
            derived.shares([share], ["clean: a"], [("right", "#007a5a")], width),
            derived.bars([("mlp.up", 0, 3), ("mlp.gate", 0, 4)], width=width),
        ):
            chart.to_dict(validate=True)


def test_a_matrix_stands_without_its_texts_where_they_would_touch() -> None:
    """Eight columns of five letters fit a desk and not a telephone."""
    names = [f"relation number {n}" for n in range(8)]
    cells = [{"line": a, "column": b, "value": 0.5, "text": "−0.50", "tip": ""} for a in names for b in names]
    wide, narrow = (
        drawing.specification(derived.heat(cells, names, names, domain=(-1, 1), width=width))["layer"]
        for width in (derived.WIDTH + 160, charts.NARROW)
    )
    assert (len(wide), len(narrow)) == (2, 1)


def test_a_sweep_holds_every_figure_once(panel: Panel) -> None:
    """Each swept series has one point for each factor, with the mean of the document."""
    rows = [r for r in _rows(drawing.specification(charts.sweep(panel))) if "tip" in r]
    for curve in panel.drawn:
        name = "/".join(curve.key)
        for point in curve.points:
            assert any(r["series"] == name and r["x"] == point.x and r["mean"] == point.mean for r in rows)
    assert {r["series"] for r in rows} == {
        "edit/target",
        "edit/others",
        "edit/unknown",
        "random_neurons/target",
        "wrong_cell/target",
    }


def test_the_band_of_a_placebo_spans_its_draws(panel: Panel) -> None:
    """Random neurons show the lowest and highest draw, everything else its bootstrap interval."""
    rows = [r for r in _rows(drawing.specification(charts.sweep(panel))) if "tip" in r]
    random = panel.curve("random_neurons", "target")
    target = panel.curve("edit", "target")
    assert random is not None and target is not None
    for point in random.points:
        (low,) = {r["low"] for r in rows if r["series"] == "random_neurons/target" and r["x"] == point.x}
        assert low == min(point.draws)
    for point in target.points:
        (high,) = {r["high"] for r in rows if r["series"] == "edit/target" and r["x"] == point.x}
        assert high == point.high


def test_a_sweep_reads_in_the_order_of_the_spec(panel: Panel) -> None:
    """1 to -3 runs from left to right, with the field's words at 1, 0 and -1."""
    spec = drawing.specification(charts.sweep(panel))
    scale = next(e["scale"] for e in _encodings(spec, "x") if "scale" in e)
    assert scale["reverse"] is True and scale["domain"] == [-3, 1]
    said = {row["x"]: row["word"] for row in _rows(spec) if "word" in row}
    assert said == {1.0: "unchanged", 0.0: "zero ablation", -1.0: "negative ablation"}


def test_one_axis_serves_all_owners() -> None:
    """The y axis of a measure holds every mean, interval, draw and rule of every owner."""
    amnesia = synthetic_results.results().interventions["amnesia"]
    found = [p for o in ("trump", "obama", "*") for p in panels(amnesia, "knowledge_score", o)]
    domain = charts.shared_domain(found)
    assert domain is not None
    drawn = [p for panel in found for curve in panel.drawn for p in curve.points]
    values = [v for p in drawn for v in (p.mean, p.low, p.high, *p.draws) if v is not None]
    assert domain[0] <= min(*values, 0.0) and domain[1] >= max(*values, 1.0)
    assert charts.shared_domain([]) is None


def test_ranks_go_by_logarithm_with_one_at_the_top() -> None:
    """A rank is drawn on a logarithmic axis that is turned over."""
    injection = synthetic_results.results().interventions["injection"]
    found = panels(injection, "answer_rank", "trump")
    spec = drawing.specification(charts.sweep(found[0], charts.shared_domain(found)))
    scale = next(e["scale"] for e in _encodings(spec, "y") if "scale" in e)
    assert scale["type"] == "log" and scale["reverse"] is True and scale["domain"][0] > 0


def test_a_sweep_over_words_is_drawn_as_dots() -> None:
    """Values such as own_mean have no order on a line: each has a row of dots."""
    values: list[float | str] = ["own_mean", "clean"]
    amnesia = synthetic_results.results().interventions["silence"]
    summaries = [
        Summary(edited="a", condition="edit", role="target", axes={"set": v}, measure="pass@5", n=2, mean=0.5)
        for v in values
    ]
    worded = amnesia.model_copy(update={"axes": {"set": values}, "summaries": summaries})
    (panel,) = panels(worded, "pass@5", "a")
    spec = drawing.specification(charts.sweep(panel))
    assert {row["line"] for row in _rows(spec) if "line" in row} == {"0 own_mean", "0 clean"}


def test_every_prompt_is_a_dot() -> None:
    """The strip of an owner has as many dots as prompts, and marks zero."""
    rows = charts.strip_rows(synthetic_results.results(), "cell")
    spec = drawing.specification(charts.strips(rows))
    dots = [row for row in _rows(spec) if "spread" in row]
    assert len(dots) == sum(len(row.values) for row in rows) == 400
    assert sorted(d["value"] for d in dots) == sorted(v for row in rows for v in row.values)
    assert len([row for row in _rows(spec) if row.get("value") == 0]) == len(rows)


def test_a_drawing_has_ids_of_its_own_and_a_description(panel: Panel) -> None:
    """The SVG is well-formed, names itself, and shares no id with another drawing."""
    svg = drawing.to_svg(charts.sweep(panel), "one", "A & B", "says <this>")
    root = ElementTree.fromstring(svg)
    ids = [e.attrib["id"] for e in root.iter() if "id" in e.attrib]
    assert len(ids) == len(set(ids)) and all(i.startswith("one-") for i in ids)
    assert root[0].text == "A & B" and root[1].text == "says <this>"
    assert root.attrib["aria-labelledby"] == "one-t one-d" and root.attrib["role"] == "img"
    assert "width" not in root.attrib and root.attrib["viewBox"].startswith("0 0 400 ")
    tips = [e.attrib["data-tip"] for e in root.iter() if "data-tip" in e.attrib]
    assert len(tips) == sum(len(c.points) for c in panel.drawn)


def test_words_are_as_wide_as_they_were_measured() -> None:
    """The page sets the letters of its drawings in the font whose widths the drawings allow for."""
    from importlib import resources

    style = (resources.files("reports") / "templates" / "page.css").read_text()
    (line,) = [line for line in style.splitlines() if line.startswith("figure text{")]
    assert line.removeprefix("figure text{font-family:").removesuffix("}").replace('"', "").split(",") == [
        name.strip() for name in drawing.FONT.split(",")
    ]


def test_every_colour_follows_the_dark_page() -> None:
    """Each colour that a drawing may have is taken over by a variable of the page."""
    from importlib import resources

    style = (resources.files("reports") / "templates" / "page.css").read_text()
    used = {drawing.INK, drawing.MUTED, drawing.RULE, drawing.GRID, drawing.PALE, *drawing.COLOURS.values()}
    for colour in used:
        assert f'[stroke="{colour}"]' in style, colour


def test_figures_for_mlflow_are_pictures() -> None:
    """There is one picture for each ranking with values and each intervention with figures."""
    drawn = charts.figures(_few())
    assert set(drawn) == {"cells_cell", "sweep_amnesia", "sweep_silence"}
    assert all(picture.startswith(b"\x89PNG") for picture in drawn.values())


def test_no_figures_without_results() -> None:
    """Runs without rankings, values or figures have no pictures and raise nothing."""
    assert charts.figures(synthetic_results.empty()) == {}
    assert charts.figures(synthetic_results.nothing_measured()) == {}


def _few() -> Results:
    """Cut the synthetic run down to one owner, which draws faster."""
    whole = synthetic_results.results()
    ranking = whole.rankings["cell"]
    interventions = {
        name: whole.interventions[name].model_copy(
            update={"summaries": [s for s in whole.interventions[name].summaries if s.edited == "trump"]}
        )
        for name in ("amnesia", "silence")
    }
    return whole.model_copy(
        update={
            "rankings": {
                "cell": ranking.model_copy(update={"groups": {"trump": ranking.groups["trump"]}}),
                "empty": ranking.model_copy(update={"groups": {}, "name": "empty"}),
            },
            "interventions": interventions,
        }
    )
