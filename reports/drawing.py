"""One chart -> SVG for the page, or PNG for MLflow: the only module that imports vl_convert.

The SVG is drawn when the report is written, so that the page needs neither JavaScript nor a network. It is
then made fit to stand inside an HTML page next to others: ids of its own, a title and a description for
screen readers, a view box instead of a size, and no attribute that nothing uses.
"""

from __future__ import annotations

import io
import re
from contextlib import AbstractContextManager
from typing import Any
from xml.etree import ElementTree

import altair as alt
import vl_convert
from altair.utils.schemapi import debug_mode

from reports.curves import SeriesKey

FONT = "Helvetica Neue, Arial, Liberation Sans, sans-serif"
"""Letters as wide on every system as when the room for labels was measured; page.css names the same."""
INK = "#1c2024"
MUTED = "#5c636b"
RULE = "#a9b0b8"
GRID = "#e8eaed"
ACCENT = "#c44e00"
PALE = "#9aa3ad"
LARGEST = 1.35
"""How far a chart may grow beyond the width that it was drawn for."""

COLOURS: dict[SeriesKey, str] = {
    ("edit", "target"): ACCENT,
    ("edit", "others"): "#0068a8",
    ("edit", "unknown"): "#8a3b7c",
    ("edit", "texts"): "#3f37a5",
    ("random_neurons", "target"): "#6b7280",
    ("wrong_cell", "target"): "#007a5a",
    ("no_edit", "target"): "#7a5c00",
    ("clean", "target"): INK,
}
"""Series: colour. Vermilion, blue, purple, grey and green stay apart for every common colour blindness; dash
and shape say the same again."""

DASHES: dict[SeriesKey, list[int]] = {
    ("edit", "target"): [1, 0],
    ("edit", "others"): [7, 2],
    ("edit", "unknown"): [4, 2],
    ("edit", "texts"): [9, 2, 1, 2],
    ("random_neurons", "target"): [2, 2],
    ("wrong_cell", "target"): [8, 3, 2, 3],
    ("no_edit", "target"): [4, 4],
    ("clean", "target"): [1, 3],
}
SHAPES: dict[SeriesKey, str] = {
    ("edit", "target"): "circle",
    ("edit", "others"): "square",
    ("edit", "unknown"): "triangle-up",
    ("edit", "texts"): "triangle-right",
    ("random_neurons", "target"): "cross",
    ("wrong_cell", "target"): "diamond",
    ("no_edit", "target"): "triangle-down",
    ("clean", "target"): "M-0.2,-1H0.2V1H-0.2Z",
}

_CONFIG: dict[str, Any] = {
    "font": FONT,
    "padding": {"left": 4, "right": 8, "top": 4, "bottom": 2},
    "view": {"stroke": None},
    # Only the dots say something when they are pointed at.
    **{key: {"aria": False} for key in ("area", "line", "rule", "text", "tick")},
    "axis": {
        "labelFontSize": 11,
        "titleFontSize": 11,
        "titleFontWeight": "normal",
        "labelColor": MUTED,
        "titleColor": MUTED,
        "domainColor": RULE,
        "tickColor": RULE,
        "gridColor": GRID,
        "tickSize": 4,
        "titlePadding": 6,
    },
    "title": {"fontSize": 12, "fontWeight": 600, "color": INK, "anchor": "start", "offset": 8},
    "legend": {
        "labelFontSize": 11,
        "titleFontSize": 11,
        "labelColor": INK,
        "titleColor": MUTED,
        "labelLimit": 280,
    },
    "header": {"labelFontSize": 11, "labelColor": INK, "titleColor": MUTED},
}
_SVG = "{http://www.w3.org/2000/svg}"
_UNUSED = (
    *("class", "aria-hidden", "aria-roledescription", "role", "pointer-events", "tabindex"),
    # The letters are the page's own, which are always there.
    "font-family",
)
_PLACES = {"d", "transform", "x", "y", "x2", "y2", "width", "height"}
_LONG = re.compile(r"-?\d+\.\d{3,}(?:e-\d+)?")
_INHERITED = (
    "fill",
    "stroke",
    "stroke-width",
    "stroke-dasharray",
    "fill-opacity",
    "font-size",
    "text-anchor",
)
_VERSION = ".".join(alt.SCHEMA_VERSION.lstrip("v").split(".")[:2])


def unchecked() -> AbstractContextManager[None]:
    """Keep altair from checking charts against its schema: it takes longer than drawing; the tests do it."""
    return debug_mode(False)


def specification(chart: Any, background: str = "transparent") -> dict[str, Any]:
    """Give a chart as Vega-Lite with the look of the page: one font, quiet axes, no frame."""
    with unchecked():
        spec: dict[str, Any] = chart.to_dict(validate=False)
    return spec | {"config": _CONFIG | {"background": background}}


def to_png(chart: Any, scale: float = 2.0) -> bytes:
    """Draw a chart as a PNG on white."""
    spec = specification(chart, background="white")
    return bytes(vl_convert.vegalite_to_png(spec, vl_version=_VERSION, scale=scale))


def to_svg(chart: Any, ident: str, title: str, description: str) -> str:
    """Draw a chart as an SVG element to stand in a page, with ids that begin with ``ident``."""
    drawn = vl_convert.vegalite_to_svg(specification(chart), vl_version=_VERSION)
    root = ElementTree.fromstring(drawn)
    _prune(root)
    names = {node.attrib["id"]: f"{ident}-{node.attrib['id']}" for node in root.iter() if "id" in node.attrib}
    for node in root.iter():
        node.tag = node.tag.removeprefix(_SVG)
        for key, value in list(node.attrib.items()):
            if key == "aria-label" and node.tag == "path":
                node.attrib["data-tip"] = node.attrib.pop(key)  # shown on hover; the table beside it reads aloud
            elif key in _UNUSED or key == "aria-label" or key.startswith("{"):
                del node.attrib[key]
            elif key == "id":
                node.attrib["id"] = names[value]
            elif value.startswith("url(#"):
                node.attrib[key] = f"url(#{names[value[5:-1]]})"
        for key in _PLACES & node.attrib.keys():
            node.attrib[key] = _LONG.sub(
                lambda match: f"{float(match[0]):.2f}".rstrip("0").rstrip("."), node.attrib[key]
            )
    _hoist(root)
    width = root.attrib.pop("width")
    root.attrib.pop("height", None)
    root.attrib.pop("version", None)
    root.attrib["role"] = "img"
    root.attrib["aria-labelledby"] = f"{ident}-t {ident}-d"
    root.attrib["style"] = f"max-width:{float(width) * LARGEST:.0f}px"
    heading = ElementTree.Element("title", {"id": f"{ident}-t"})
    heading.text = title
    text = ElementTree.Element("desc", {"id": f"{ident}-d"})
    text.text = description
    root[:0] = [heading, text]
    out = io.StringIO()
    ElementTree.ElementTree(root).write(out, encoding="unicode")
    return out.getvalue()


def _hoist(node: ElementTree.Element) -> None:
    """Say once, on a group, what all of its children say: hundreds of dots of one colour become short."""
    for child in node:
        _hoist(child)
    if node.tag != "g" or len(node) < 2:
        return
    for key in _INHERITED:
        values = {child.attrib.get(key) for child in node}
        if len(values) == 1 and None not in values:
            node.attrib[key] = str(values.pop())
            for child in node:
                del child.attrib[key]


def _prune(node: ElementTree.Element) -> None:
    """Take out what draws nothing: hidden and empty paths, and groups left empty by that."""
    for child in list(node):
        _prune(child)
        tag = child.tag.removeprefix(_SVG)
        hidden = child.attrib.get("display") == "none"
        empty_path = tag == "path" and child.attrib.get("d", "") in ("", "M0,0h0v0h0Z")
        empty_group = tag == "g" and not len(child)
        see_through = tag == "rect" and child.attrib.get("fill") in ("none", "transparent")
        if hidden or empty_path or empty_group or see_through:
            node.remove(child)
