"""What a run looks like in a terminal: progress with honest totals, and nothing where nobody watches."""

from __future__ import annotations

import time

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

__all__ = ["Quiet", "Terminal", "reporter_for"]

MEGABYTE = 1_000_000


class _Amount(ProgressColumn):
    """Tokens as they are, bytes of a download in MB."""

    def render(self, task: Task) -> Text:
        """Write ``done/total``."""
        if task.total is None:
            return Text("")
        if task.fields.get("bytes"):
            return Text(f"{task.completed / MEGABYTE:,.0f}/{task.total / MEGABYTE:,.0f} MB", style="cyan")
        return Text(f"{task.completed:,.0f}/{task.total:,.0f} tokens", style="cyan")


class Quiet:
    """Says nothing while it runs; what the user must know is kept, and printed at the end if there is a console."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console
        self.messages: list[str] = []

    def __enter__(self) -> Quiet:
        return self

    def __exit__(self, *_: object) -> None:
        if self.console is not None:
            for message in self.messages:
                self.console.print(Text(message, style="yellow"), highlight=False, soft_wrap=True)

    def heading(self, text: str) -> None:
        """One of several runs begins."""

    def stage(self, name: str, total: int | None, *, unit: str = "tokens") -> None:
        """A stage begins."""

    def advance(self, amount: int) -> None:
        """So much more of it is done."""

    def done(self, name: str, *, reused: bool = False, note: str = "") -> None:
        """The stage has ended."""

    def say(self, text: str) -> None:
        """Keep a message."""
        self.messages.append(text)


class Terminal(Quiet):
    """Progress bars on standard error, one line per finished stage."""

    console: Console

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        narrow = console.width < 70
        columns: list[ProgressColumn] = [SpinnerColumn(), TextColumn("{task.description}")]
        columns += [] if narrow else [BarColumn(bar_width=24)]
        columns += [_Amount(), TimeRemainingColumn(compact=True, elapsed_when_finished=True)]
        self.progress = Progress(*columns, console=console, transient=True)
        self._task: TaskID | None = None
        self._started = time.perf_counter()

    def __enter__(self) -> Terminal:
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def heading(self, text: str) -> None:
        """Print which run begins."""
        self.console.print(Text(text, style="bold"), highlight=False)

    def stage(self, name: str, total: int | None, *, unit: str = "tokens") -> None:
        """Show a bar for a stage."""
        self._clear()
        self._task = self.progress.add_task(name, total=total, bytes=unit == "bytes")
        self._started = time.perf_counter()

    def advance(self, amount: int) -> None:
        """Move the bar."""
        if self._task is not None:
            self.progress.advance(self._task, amount)

    def done(self, name: str, *, reused: bool = False, note: str = "") -> None:
        """Replace the bar by a line."""
        self._clear()
        seconds = time.perf_counter() - self._started
        mark, took = ("[dim]=[/dim]", "reused") if reused else ("[green]✓[/green]", f"{seconds:.1f} s")
        line = Text.from_markup(f"{mark} ")
        line.append(name)
        line.append(f"  {took}", style="dim")
        if note:
            line.append(f"  {note}", style="dim")
        self.console.print(line, highlight=False)

    def say(self, text: str) -> None:
        """Print a message above the bars."""
        super().say(text)
        self.console.print(Text(text, style="yellow"), highlight=False)

    def _clear(self) -> None:
        if self._task is not None:
            self.progress.remove_task(self._task)
            self._task = None


def reporter_for(console: Console, *, quiet: bool) -> Quiet:
    """Choose bars where somebody watches, silence elsewhere."""
    return Terminal(console) if console.is_terminal and not quiet else Quiet(console)
