"""Writing the report: from a run folder, whole or not at all."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
import synthetic_results

from reports.render import html, render
from specs.language.errors import DiskFull, RunError


def _folder(tmp_path: Path) -> Path:
    (tmp_path / "results.json").write_text(synthetic_results.empty().model_dump_json(), encoding="utf-8")
    return tmp_path


def test_the_report_is_written_beside_the_results(tmp_path: Path) -> None:
    """``render`` gives the path of a page that holds what ``html`` gives, and leaves nothing else behind."""
    path = render(_folder(tmp_path))
    assert path == tmp_path / "report.html"
    assert path.read_text(encoding="utf-8") == html(synthetic_results.empty())
    assert {entry.name for entry in tmp_path.iterdir()} == {"results.json", "report.html"}


def test_rendering_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    """A report depends on its results alone."""
    first = render(_folder(tmp_path)).read_bytes()
    assert render(tmp_path).read_bytes() == first


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "holds no results.json"),
        ("{", "not a result of this version"),
        ('{"format": 2}', "not a result of this version"),
        ("[]", "not a result of this version"),
    ],
)
def test_a_folder_without_readable_results_is_refused(tmp_path: Path, content: str | None, said: str) -> None:
    """The message names the file, the cause and a remedy, and no report appears."""
    if content is not None:
        (tmp_path / "results.json").write_text(content)
    with pytest.raises(RunError, match=said) as caught:
        render(tmp_path)
    assert caught.value.remedy
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize(
    ("number", "kind"), [(errno.ENOSPC, DiskFull), (errno.EACCES, RunError), (errno.EROFS, RunError)]
)
def test_a_failed_write_keeps_the_old_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[RunError]
) -> None:
    """A full disk raises its own error; the report of before and no half of the new one remain."""
    (_folder(tmp_path) / "report.html").write_text("before")

    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(kind) as caught:
        render(tmp_path)
    assert type(caught.value) is kind
    assert (tmp_path / "report.html").read_text() == "before"
    assert {entry.name for entry in tmp_path.iterdir()} == {"results.json", "report.html"}


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("reports", ("altair", "vl_convert", "jinja2", "numpy", "torch")),
        ("reports.render", ("torch", "transformers", "mlflow", "pandas", "pyarrow")),
    ],
)
def test_nothing_heavier_than_needed_is_imported(module: str, absent: tuple[str, ...]) -> None:
    """Naming the package costs nothing, and rendering needs no model library."""
    code = f"import sys, {module}; print(*[name for name in {absent!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
