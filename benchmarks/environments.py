"""Environments of their own for libraries that do not belong beside run-spec: ``python -m benchmarks.environments``."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

import click

HERE = Path(__file__).resolve().parent
ENVIRONMENTS = ("transformer-lens", "pyvene")
TORCH = "torch==2.13.0"


def root() -> Path:
    """Give the folder of the environments: in the cache of run-spec, or where RUN_SPEC_BENCHMARK_VENVS says."""
    from runner.models import cache_root

    named = os.environ.get("RUN_SPEC_BENCHMARK_VENVS")
    return Path(named).expanduser().absolute() if named else cache_root() / "benchmark-venvs"


def interpreter(environment: str) -> Path | str:
    """Give the interpreter of an environment, or the reason why there is none."""
    if not environment:
        return Path(sys.executable)
    folder = root() / environment
    python = folder / "bin" / "python"
    if python.exists() and (folder / "ready").exists():
        return python
    refusal = folder / "refused.txt"
    if refusal.exists():
        return f"not installable: {refusal.read_text(encoding='utf-8').strip()}"
    return "not installed: python -m benchmarks.environments"


def create(environment: str) -> str:
    """Make an environment and install its requirements beside the pinned torch; give what went wrong, or nothing."""
    folder = root() / environment
    venv.create(folder, with_pip=True, clear=True)
    python = folder / "bin" / "python"
    constraints = HERE.parent / "constraints.txt"
    requirements = HERE / f"requirements-{environment}.txt"
    # torch first and alone: a resolver that may choose another version fetches gigabytes.
    for arguments in ([TORCH], ["-c", str(constraints), TORCH, "-r", str(requirements)]):
        done = subprocess.run(
            [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", *arguments],
            capture_output=True,
            text=True,
        )
        if done.returncode:
            said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or ["pip failed"]
            reason = said[-1].removeprefix("ERROR: ")
            (folder / "refused.txt").write_text(reason + "\n", encoding="utf-8")
            return reason
    (folder / "ready").touch()
    return ""


@click.command()
@click.argument("environments", nargs=-1, type=click.Choice(ENVIRONMENTS))
def main(environments: tuple[str, ...]) -> None:
    """Create the environments of the other libraries; all of them if none is named."""
    for environment in environments or ENVIRONMENTS:
        click.echo(f"{environment}: ", nl=False)
        click.echo(create(environment) or "ready")


if __name__ == "__main__":
    main()
