"""Results -> one self-contained HTML file: the only module that imports jinja2."""

from __future__ import annotations

import base64
import errno
import hashlib
import os
import tempfile
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from jinja2 import Environment, FunctionLoader, StrictUndefined
from pydantic import ValidationError

from reports import sections
from reports.drawing import unchecked
from reports.sections.section import Section
from specs.language.errors import DiskFull, RunError
from specs.language.results import MatrixResults, Results

__all__ = ["html", "load", "page_of", "render", "write_page"]

REPORT = "report.html"
_TEMPLATES = resources.files("reports") / "templates"


def render(folder: Path) -> Path:
    """Write ``report.html`` beside the ``results.json`` of a run folder, whole or not at all; give its path.

    Raises RunError when there are no readable results in the folder, and DiskFull when there is no room.
    """
    return write_page(folder, html(load(folder)))


def write_page(folder: Path, text: str) -> Path:
    """Write a page as ``report.html`` of a folder, whole or not at all; give its path. Raises as :func:`render`."""
    page = text.encode()
    path = folder / REPORT
    try:
        _replace(path, page)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(
                f"no room for {path} ({len(page):,} bytes)", remedy="free some space; then `run-spec report`"
            ) from error
        raise RunError(
            f"{path} cannot be written: {error.strerror}", remedy="check the rights of the folder"
        ) from error
    return path


def load(folder: Path) -> Results:
    """Read the results of a run folder. Raises RunError when there are none, or of another format."""
    path = folder / "results.json"
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        raise RunError(
            f"{folder} holds no results.json", remedy="name the folder of a run, such as runs/NAME-HASH"
        ) from None
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror}", remedy="check the rights of the file") from error
    try:
        return Results.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the document"
        raise RunError(
            f"{path} is not a result of this version: {place}: {first['msg']}",
            remedy="run the spec again, or use the version of run-spec that wrote it",
        ) from error


def html(results: Results) -> str:
    """Give the page as text. It loads nothing: styles, charts and the small script are part of it.

    Names and model texts are data: every one is escaped, and should one ever slip through, a content policy
    lets no script run but the page's own, by its hash.
    """
    with unchecked():
        built = sections.build(results)
    return page_of(results, built)


def page_of(results: Results | MatrixResults, built: Sequence[Section]) -> str:
    """Put sections into a page, with the style and script that every page has."""
    environment = Environment(
        loader=FunctionLoader(_source),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = _source("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    page: str = environment.get_template("page.html").render(
        results=results,
        sections=built,
        style=_source("page.css"),
        script=script,
        script_hash=f"sha256-{digest}",
    )
    return page


def _source(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")


def _replace(path: Path, content: bytes) -> None:
    """Write to a neighbour and move it into place, so that no reader sees half a page."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            os.fchmod(file.fileno(), 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
