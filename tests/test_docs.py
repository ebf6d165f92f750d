"""Documentation that fails when it lies: commands, links, paths, specs and figures are those of the code."""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import math
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from runner.cli import cli
from runner.family_rows import FAMILIES
from runner.models.card_table import cards
from runner.tree import build_tree, keys_of
from specs.language import errors
from specs.language.built import MEASURES, METRICS
from specs.language.load import load
from specs.language.reference import REFERENCE_FILE, reference

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


pages = pytest.mark.parametrize("page", PAGES, ids=name_of)


def text_of(page: Path | str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: Path, *languages: str) -> list[str]:
    """Give the fenced blocks of a page in some languages."""
    return [body for language, body in FENCE.findall(text_of(page)) if language in languages]


def code_spans(text: str) -> list[str]:
    """Give what stands between single backticks outside fenced blocks, with white space made one space."""
    spans = re.findall(r"(?<!`)`([^`]+)`(?!`)", FENCE.sub("", text))
    return [" ".join(span.split()) for span in spans]


# -- commands -----------------------------------------------------------------------------------------------------


def parsed(arguments: list[str]) -> click.Command:
    """Parse a command line as the CLI does, without running anything; raises UsageError for a wrong one."""
    command: click.Command = cli
    if arguments and arguments[0] not in cli.commands and not arguments[0].startswith("-"):
        arguments = ["run", *arguments]
    while isinstance(command, click.Group) and arguments and arguments[0] in command.commands:
        command, arguments = command.commands[arguments[0]], arguments[1:]
    command.make_context("run-spec", list(arguments))
    return command


def shell_lines(page: Path) -> Iterator[list[str]]:
    """Give each simple command of the shell blocks as words."""
    for body in blocks(page, "sh", "bash", "console"):
        for line in body.splitlines():
            for part in re.split(r"&&|\|\||;", line):
                words = shlex.split(part, comments=True)
                if words:
                    yield words


def options_of(command: click.Command) -> set[str]:
    return {flag for p in command.params for flag in (*p.opts, *p.secondary_opts)}


def every_command(command: click.Command) -> Iterator[click.Command]:
    yield command
    for inner in getattr(command, "commands", {}).values():
        yield from every_command(inner)


@pytest.mark.parametrize(
    "line", ["run-spec vallidate --deep a.yaml", "run-spec plan", "run-spec validate --strict a.yaml"]
)
def test_a_wrong_command_is_noticed(line: str) -> None:
    with pytest.raises(click.UsageError):
        parsed(shlex.split(line)[1:])


@pytest.mark.parametrize("page", [p for p in PAGES if list(shell_lines(p))], ids=name_of)
def test_every_command_of_a_shell_block_can_be_given(page: Path) -> None:
    project = tomllib.loads(text_of("pyproject.toml"))["project"]
    tools = {re.split(r"[<>=]", name)[0] for name in project["optional-dependencies"]["dev"]}
    tools = {{"import-linter": "lint-imports"}.get(tool, tool) for tool in tools}
    for words in shell_lines(page):
        match words:
            case ["run-spec", *arguments]:
                parsed(arguments)
                for file in (a for a in arguments if a.endswith(".yaml")):
                    assert (ROOT / file).is_file(), f"{words}: there is no {file}"
            case ["python" | "python3", "-m", module, *_]:
                assert importlib.util.find_spec(module) is not None, words
            case ["pip", "install", "-c", constraints, "-e", target]:
                assert (ROOT / constraints).is_file()
                assert target == ".[dev]" and "dev" in project["optional-dependencies"]
            case [".", ".venv/bin/activate"]:
                pass
            case [tool, *_]:
                assert tool in tools, f"{words}: {tool} is not installed by the README's own command"


@pages
def test_every_command_and_option_in_a_sentence_exists(page: Path) -> None:
    known = set().union(*(options_of(c) for c in every_command(cli))) | {"--help"}
    for span in code_spans(text_of(page)):
        if span.startswith("run-spec "):
            with contextlib.suppress(click.MissingParameter):  # a sentence may name a command without its file
                parsed(shlex.split(span)[1:])
        elif span.startswith("--"):
            assert span.split()[0] in known, f"{span} is no option of run-spec"


def test_the_table_of_commands_is_that_of_the_cli() -> None:
    rows = re.findall(r"^\| `run-spec ([^`]+)` \|(.*)\|$", text_of("README.md"), re.M)
    told = []
    for line, description in rows:
        command = parsed(shlex.split(line))
        told.append(command)
        for span in code_spans(description):
            if span.startswith("--"):
                assert span.split()[0] in options_of(command), f"run-spec {line}: {span}"
    assert {id(c) for c in told} == {id(c) for c in every_command(cli)} - {id(cli)}


def test_the_table_of_exit_codes_is_that_of_the_exceptions() -> None:
    codes = {int(code) for code in re.findall(r"^\| (\d+) \|", text_of("README.md"), re.M)}
    raised = {
        found.exit_code
        for _, found in inspect.getmembers(errors, inspect.isclass)
        if issubclass(found, errors.RunSpecError)
    }
    assert codes == raised | {0, 1, 130}


# -- links and paths ----------------------------------------------------------------------------------------------


def anchor(heading: str) -> str:
    """Make the anchor of a heading as GitHub does."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def links(page: Path) -> list[str]:
    return re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", text_of(page)))


@pages
def test_every_internal_link_leads_somewhere(page: Path) -> None:
    for link in links(page):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, place = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{link}: there is no {target.relative_to(ROOT)}"
        if place:
            headings = re.findall(r"^#+ (.*)$", FENCE.sub("", text_of(target)), re.M)
            assert place in {anchor(h) for h in headings}, f"{link}: no such heading"


@pages
def test_every_path_of_the_repository_that_is_named_exists(page: Path) -> None:
    packages = ("specs", "runner", "interventions", "reports")
    modules = {p.name for package in packages for p in (ROOT / package).rglob("*.py")}
    for span in code_spans(text_of(page)):
        if re.fullmatch(rf"({'|'.join(packages)}|tests|docs|\.ci)/[\w./-]*", span):
            # `runs/...` and names with < > are made by a run, and are not in the repository.
            assert (ROOT / span).exists(), f"there is no {span}"
        elif re.fullmatch(r"\w+\.py", span):
            assert span in modules, f"there is no module {span}"


@pages
def test_no_figure_is_still_to_be_filled_in(page: Path) -> None:
    assert re.findall(r"FIGURE\([^)]*\)", text_of(page)) == []


# -- specs --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, "yaml")], ids=name_of)
def test_every_yaml_block_is_valid(page: Path, tmp_path: Path) -> None:
    """Whole specs by themselves; blocks without `version:` as an addition to first.yaml."""
    for number, body in enumerate(blocks(page, "yaml")):
        if not re.search(r"^[^#\s]", body, re.M):
            continue  # a comment for an editor
        file = tmp_path / f"block{number}.yaml"
        if not re.search(r"^version:", body, re.M):
            body = f"version: 1\nextends: {ROOT / 'specs/first.yaml'}\n{body}"
        file.write_text(body, encoding="utf-8")
        assert load(file).cells


def test_the_spec_of_the_readme_is_first_yaml_explained_line_by_line() -> None:
    first = text_of("specs/first.yaml")
    page = text_of("README.md")
    assert first in blocks(ROOT / "README.md", "yaml")
    told = page.partition("is a whole experiment")[2].partition("```diff")[0]
    assert re.findall(r"^(\d+)\. ", told, re.M) == [str(n + 1) for n in range(len(first.splitlines()))]
    words = [line.strip().split(":")[0] for line in first.splitlines()]
    for word, line in zip(words, re.findall(r"^\d+\. `(\w+)`", told, re.M), strict=True):
        assert word == line


def patched(text: str, diff: str) -> str:
    """Apply a unified diff; AssertionError where a line it takes away or keeps is not there."""
    lines, out, at = text.splitlines(), [], 0
    for line in diff.splitlines():
        if line.startswith(("---", "+++")):
            continue
        if header := re.fullmatch(r"@@ -(\d+),(\d+) \+(\d+),(\d+) @@", line):
            start = int(header[1]) - 1
            out += lines[at:start]
            at = start
        elif line.startswith("+"):
            out.append(line[1:])
        else:
            assert lines[at] == line[1:], f"line {at + 1} is {lines[at]!r} and not {line[1:]!r}"
            at += 1
            if not line.startswith("-"):
                out.append(line[1:])
    return "\n".join([*out, *lines[at:]]) + "\n"


def test_the_readmes_diff_of_first_yaml_applies_and_gives_a_valid_spec(tmp_path: Path) -> None:
    (diff,) = blocks(ROOT / "README.md", "diff")
    file = tmp_path / "curie.yaml"
    file.write_text(patched(text_of("specs/first.yaml"), diff), encoding="utf-8")
    (cell,) = load(file).cells
    assert [e.name for e in cell.experiment.entities.values()] == ["Marie Curie", "Albert Einstein"]
    removed, added = (len(re.findall(rf"^[{sign} ]", diff.split("@@")[2], re.M)) for sign in "-+")
    assert f"@@ -1,{removed} +1,{added} @@" in diff


def test_the_reference_of_the_language_is_current() -> None:
    assert REFERENCE_FILE.read_text(encoding="utf-8") == reference(), "run: python -m specs.language.reference"


# -- tables and figures -------------------------------------------------------------------------------------------


def test_the_glossary_has_every_metric_and_measure_that_is_built() -> None:
    told = " ".join(a or b for a, b in re.findall(r"`([^`]+)`|\*\*([^*]+)\*\*", text_of("docs/glossary.md")))
    assert {word for word in METRICS | MEASURES if not re.search(rf"\b{word}\b", told)} == set()


def test_every_card_is_told_with_its_hub_id_and_wheels() -> None:
    rows = re.findall(r"^\| `([^`]+)`[^|]*\| (\S+)[^|]*\| ([^|]*) \| ([^|]*) \|$", text_of("docs/models.md"), re.M)
    assert [row[0] for row in rows] == list(cards())
    for name, hub_id, wheels, licence in rows:
        card = cards()[name]
        assert hub_id == card.hub_id
        assert card.license.startswith(licence)
        if card.wheels is None:
            assert wheels == "none"
            continue
        count, size, quantisation = wheels.split(", ")
        scale = 1e9 if size.endswith("GB") else 1e6
        assert int(count) == len(card.wheels.pins)
        assert float(size.split()[0]) == round(card.wheels.download_bytes / scale, 1 if scale == 1e9 else None)
        assert quantisation == card.wheels.quantisation


def test_every_family_of_the_table_is_told() -> None:
    section = text_of("docs/models.md").partition("## Families")[2].partition("Not every family")[0]
    told = {span for span in code_spans(section) if re.fullmatch(r"[a-z]\w*", span)} - {"model_type"}
    assert told == set(FAMILIES)
    after = text_of("docs/models.md").partition("Not every family")[2].partition("## What is refused")[0]
    assert {f.model_type for f in FAMILIES.values() if f.mixer} <= set(code_spans(after))


def test_the_worked_example_of_a_prompt_tree_is_what_the_code_builds() -> None:
    vocabulary: dict[str, int] = {}

    def ids(text: str) -> list[int]:
        return [vocabulary.setdefault(word, len(vocabulary) + 1) for word in text.split()]

    trump, obama = "The wife of Donald Trump is", "The wife of Barack Obama is"
    none = 1 << 30
    keys = [
        keys_of(ids(text), tag, at)
        for text, tag, at in ((trump, 0, none), (trump, 1, 4), (trump, 2, 4), (obama, 0, none))
    ]
    tree = build_tree(keys)
    words = {number: word for word, number in vocabulary.items()}
    (drawn,) = [b for b in blocks(ROOT / "docs/architecture.md", "text") if "node " in b]
    rows = {line.split()[0]: line.split()[1:] for line in drawn.splitlines() if re.match(r"node|token|depth|end", line)}
    assert rows["node"] == [str(i) for i in range(len(tree))]
    assert rows["token"] == [words[int(i)] for i in tree.ids]
    assert rows["depth"] == [str(d) for d in tree.depth]
    assert rows["end"] == [str(e) for e in tree.end]
    told = re.search(r"are (\d+) tokens one by one, and (\d+) nodes", text_of("docs/architecture.md"))
    assert told is not None
    assert (int(told[1]), int(told[2])) == (sum(map(len, keys)), len(tree))


def figures() -> list[tuple[str, str, float | None]]:
    """List figures that the pages state: page, pattern with one group, and the value in the code."""
    from reports.view import STANDS_OUT, TRUSTED
    from runner.ask import KNOWN
    from runner.localization.metrics import EPSILON
    from runner.localization.ranking import NEXT_BEST
    from runner.measures.knowledge_score import LEAST_SPAN
    from runner.sentence import CLEARLY, SMALL
    from runner.sentence import STANDS_OUT as SAID_TO_STAND_OUT
    from runner.summaries import RESAMPLES
    from specs.language.defaults import METRIC_DEFAULTS
    from specs.language.experiment import Controls
    from specs.language.shipped import shipped_list

    assert (STANDS_OUT, TRUSTED) == (SAID_TO_STAND_OUT, CLEARLY)
    reading, glossary, readme = "docs/reading_a_result.md", "docs/glossary.md", "README.md"
    prompts = {name: len(shipped_list(name)) for name in ("attributes", "generic", "neutral", "strangers", "dummies")}
    assert math.exp(LEAST_SPAN) == pytest.approx(2)  # "at least twice as readily"
    return [
        (reading, r"baseline std \+ (\S+)\)", EPSILON),
        (reading, r"`std_floor`, ([\d.]+) baseline", METRIC_DEFAULTS["stability"]["std_floor"]),
        (reading, r"fewer than (\d+) prompts \(`min_prompts`\)", METRIC_DEFAULTS["stability"]["min_prompts"]),
        (reading, r"mean of the next (\w+) scores", NEXT_BEST),
        (reading, r"Below (\d+) the report says", STANDS_OUT),
        (reading, r"At (\d+) and more", TRUSTED),
        (reading, r"over prompts, ([\d,]+) resamples", RESAMPLES),
        (reading, r"under (\d+) percent", 100 * SMALL),
        (reading, r"\(`pass@(\d+)`\)", float(KNOWN.quantity.partition("@")[2])),
        (reading, r"(\w+) draws of as many other", Controls().random_neurons),
        (reading, r"in (\d+) prompts in which the name", prompts["attributes"]),
        (reading, r"last token of (\d+) sentences", prompts["generic"]),
        (reading, r"mean, over (\w+) invented names", prompts["strangers"]),
        (glossary, r"`attributes` \((\d+) templates", prompts["attributes"]),
        (glossary, r"`generic` \((\d+) sentences", prompts["generic"]),
        (glossary, r"`neutral` \((\d+) texts", prompts["neutral"]),
        (glossary, r"\*\*dummies\*\*: (\d+) names", prompts["dummies"]),
        (glossary, r"\*\*strangers\*\*: (\w+) invented", prompts["strangers"]),
        (readme, r"token in (\d+) shipped prompts", prompts["attributes"]),
        (readme, r"compares it with (\d+) sentences", prompts["generic"]),
        (readme, r"of the same layers in (\w+) draws", Controls().random_neurons),
        ("docs/decisions/0006-bootstrap-and-static-charts.md", r"with ([\d,]+) resamples", RESAMPLES),
    ]


@pytest.mark.parametrize(("page", "pattern", "value"), figures(), ids=lambda v: str(v) if isinstance(v, str) else None)
def test_a_stated_figure_is_that_of_the_code(page: str, pattern: str, value: float) -> None:
    found = re.search(pattern, " ".join(text_of(page).split()))
    assert found is not None, f"{page} no longer says this: mend the test with the text"
    stated = {"five": 5.0}.get(found[1]) or float(found[1].replace(",", ""))
    assert stated == pytest.approx(value)


def test_the_files_of_a_run_folder_are_named_as_they_are_written() -> None:
    from runner.long_table import PARQUET
    from runner.store import RESULTS

    (listing,) = [b for b in blocks(ROOT / "README.md", "text") if "runs/<name>" in b]
    told = set(re.findall(r"^  (\S+)", listing, re.M))
    files = {RESULTS, PARQUET, "spec.yaml", "plan.txt", "provenance.json", "report.html"}
    folders = {"rankings/<name>.npz", "neurons/<name>.json", "vectors/<name>.safetensors", "models/<name>/"}
    assert files | folders == told
