"""The project as a distribution: its names, its pins, what is in its wheel, and what must not be in it."""

from __future__ import annotations

import ast
import fnmatch
import importlib.util
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("specs", "interventions", "runner", "reports")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("package", PACKAGES)
def test_a_top_level_name_belongs_to_this_distribution_alone(package: str) -> None:
    assert set(packages_distributions().get(package, ())) == {"run-spec"}


# -- pins ---------------------------------------------------------------------------------------------------------


def requirements() -> list[Requirement]:
    project = PROJECT["project"]
    return [Requirement(text) for text in (*project["dependencies"], *project["optional-dependencies"]["dev"])]


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    found = [re.fullmatch(r"([\w.-]+)==(\S+)", line) for line in lines if line and not line.startswith("#")]
    assert all(found), "constraints.txt pins with == and nothing else"
    return {canonicalize_name(pin[1]): pin[2] for pin in found if pin}


@pytest.mark.parametrize("requirement", requirements(), ids=str)
def test_a_dependency_is_pinned_to_a_version_it_allows(requirement: Requirement) -> None:
    version = pins().get(canonicalize_name(requirement.name))
    assert version is not None, f"{requirement.name} is not in constraints.txt"
    assert requirement.specifier.contains(version, prereleases=True)


def imported(path: Path) -> set[str]:
    """Give the top-level names of everything a module imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found


def test_every_library_that_is_imported_is_a_dependency() -> None:
    """What is only there because another package wants it can go away with that package."""
    called = {"yaml": "pyyaml", "vl_convert": "vl-convert-python"}
    declared = {canonicalize_name(Requirement(text).name) for text in PROJECT["project"]["dependencies"]}
    # Brought by transformers, accelerate, mlflow and pydantic, which do not work without them.
    brought = {"tokenizers", "pandas", "pydantic-core"}
    for path in MODULES:
        for name in imported(path) - set(PACKAGES) - set(sys.stdlib_module_names):
            assert canonicalize_name(called.get(name, name)) in declared | brought, f"{name_of(path)}: {name}"


@pytest.mark.parametrize(
    ("library", "where"),
    [
        ("nnsight", {"runner/execute.py"}),
        ("mlflow", {"runner/tracking.py"}),
        ("vl_convert", {"reports/drawing.py", "runner/doctor.py"}),
        ("jinja2", {"reports/render.py", "specs/language/templates.py"}),
    ],
)
def test_a_large_library_is_imported_in_one_place(library: str, where: set[str]) -> None:
    assert {name_of(path) for path in MODULES if library in imported(path)} == where


# -- what must not be in it ---------------------------------------------------------------------------------------


def tracked() -> list[Path]:
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: what belongs to the project is not known")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True)
    return [path for name in listed.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def test_no_file_names_a_path_of_somebodys_machine() -> None:
    # Written in parts, or this file would be found.
    here = [re.escape(str(place)) for place in (ROOT, Path.home()) if len(place.parts) > 2]
    machine = re.compile("|".join(["/" + "root/", "/" + "work/(main|shared|[.])", *here]))
    found = []
    for path in tracked():
        if b"\0" in (data := path.read_bytes()):
            continue
        for number, line in enumerate(data.decode("utf-8").splitlines(), 1):
            if machine.search(line):
                found.append(f"{name_of(path)}:{number}: {line.strip()[:80]}")
    assert found == []


# -- the wheel ----------------------------------------------------------------------------------------------------

DATA = (
    "specs/trump.yaml",
    "specs/first.yaml",
    "specs/prompts/attributes.yaml",
    "specs/prompts/generic.yaml",
    "specs/prompts/neutral.yaml",
    "specs/prompts/dummies.yaml",
    "specs/prompts/strangers.yaml",
    "specs/schema/run-spec.schema.json",
    "runner/models/cards.yaml",
    "reports/templates/page.html",
    "reports/templates/page.css",
    "reports/templates/page.js",
)


def data_files() -> Iterator[Path]:
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*"):
            if path.is_file() and path.suffix not in (".py", ".pyc"):
                yield path


def test_every_data_file_matches_a_pattern_of_the_build() -> None:
    patterns = PROJECT["tool"]["setuptools"]["package-data"]["*"]
    files = list(data_files())
    assert {ROOT / name for name in DATA} <= set(files)
    assert [name_of(f) for f in files if not any(fnmatch.fnmatch(f.name, p) for p in patterns)] == []


@pytest.mark.skipif(importlib.util.find_spec("setuptools") is None, reason="setuptools is not in this environment")
def test_the_wheel_holds_every_module_and_data_file_and_nothing_else(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for package in PACKAGES:
        shutil.copytree(ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "tests", source / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    build = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
    done = subprocess.run([sys.executable, "-c", build, str(tmp_path)], cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        inside = {name for name in archive.namelist() if not name.split("/")[0].endswith(".dist-info")}
    assert inside == {name_of(path) for path in (*MODULES, *data_files())}


# -- modules ------------------------------------------------------------------------------------------------------


def bound(body: list[ast.stmt]) -> Iterator[str]:
    """Give the names that statements bind when they run; those for type checkers alone are not bound."""
    for node in body:
        match node:
            case ast.FunctionDef() | ast.ClassDef() | ast.AsyncFunctionDef():
                yield node.name
            case ast.Import() | ast.ImportFrom():
                yield from (alias.asname or alias.name.split(".")[0] for alias in node.names)
            case ast.Assign():
                for target in node.targets:
                    yield from (n.id for n in ast.walk(target) if isinstance(n, ast.Name))
            case ast.AnnAssign(target=ast.Name(id=name), value=value) if value is not None:
                yield name
            case ast.If() if ast.unparse(node.test) != "TYPE_CHECKING":
                yield from bound([*node.body, *node.orelse])
            case ast.Try():
                yield from bound([*node.body, *node.orelse])


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_what_a_module_offers_exists(path: Path) -> None:
    body = ast.parse(path.read_text(encoding="utf-8")).body
    offered = [
        ast.literal_eval(node.value)
        for node in body
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets)
    ]
    for names in offered:
        assert set(names) <= set(bound(body))
        assert len(set(names)) == len(names)


def test_every_module_of_the_language_can_be_imported_first() -> None:
    """A circle of imports works or not by who comes first."""
    code = """
import importlib, pkgutil, sys
import specs.language
names = [m.name for m in pkgutil.walk_packages(specs.language.__path__, "specs.language.")]
assert len(names) > 30
for name in names:
    for known in [k for k in sys.modules if k.split(".")[0] == "specs"]:
        del sys.modules[known]
    importlib.import_module(name)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
