"""The plan as text: what will be run, with the entity's tokens marked, and what it costs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from rich.console import Console
from rich.text import Text

from runner.bind import BoundPrompt
from runner.plan import AskStage, LocalizeStage, Plan
from runner.program import Cost, Job
from runner.tables import print_rows
from specs.language.conditions import text as condition_text

if TYPE_CHECKING:
    from runner.model import Machine

__all__ = ["Estimate", "estimate", "marked", "plan_costs", "plan_text", "print_plan"]


def plan_costs(plan: Plan, count: Callable[[Job], Cost]) -> list[tuple[str, Cost]]:
    """Count every stage of a plan, in the order in which they are run."""
    found: list[tuple[str, Cost]] = [(f"known: {stage.name}", count(stage.job)) for stage in plan.known]
    for stage in plan.localize:
        found.append((stage.name, count(stage.job)))
    for vector in plan.vectors:
        if vector.means is not None:
            found.append((vector.name, count(vector.means.job)))
    for ask in plan.ask:
        for label, part in ((": tune", ask.tuning), ("", ask)):
            if part is not None:
                found += [(f"{ask.name}{label}: {means.label}", count(means.job)) for means in part.means]
                found.append((ask.name + label, count(part.job)))
    return found


WidthOf = Callable[[str, int], int]
"""(site, layer): number of neurons."""


def plan_text(plan: Plan, count: Callable[[Job], Cost], width_of: WidthOf) -> str:
    """Write the plan as plain text: a table of costs, then each stage in words."""
    lines = [
        "stage                     sequences     tokens     padded   distinct  passes",
    ]
    for name, c in plan_costs(plan, count):
        lines.append(
            f"{name:<24} {c.sequences:>10,} {c.tokens:>10,} {c.padded_tokens:>10,} "
            f"{c.distinct_tokens:>10,} {c.passes:>7,}"
        )
    lines.append("")
    lines += _known_lines(plan)
    for stage in plan.localize:
        lines += _localize_lines(stage, width_of)
    for ask in plan.ask:
        lines += _ask_lines(ask)
    return "\n".join(lines) + "\n"


def _known_lines(plan: Plan) -> Iterable[str]:
    for stage in plan.known:
        rule = condition_text(stage.rule)
        yield f"known {stage.name}: {len(stage.questions):,} questions, kept where {rule} in the clean model"
    if plan.known:
        yield "  rankings below hold at most these prompts"
        yield ""


def candidates(stage: LocalizeStage, width_of: WidthOf) -> dict[str, int]:
    """Count the neurons among which a ranking chooses, site by site; none where whole layers are ranked."""
    if stage.spec.metric == "layer_stability":
        return {}
    return {site: sum(width_of(site, layer) for layer in stage.layers) for site in stage.job.sites}


def _candidates_line(stage: LocalizeStage, width_of: WidthOf) -> str:
    found = candidates(stage, width_of)
    if not found:
        return f"  {len(stage.layers)} layers are ranked"
    total = f"  {sum(found.values()):,} neurons are ranked in {len(stage.layers)} layers"
    if len(found) == 1:
        return total
    return f"{total}: " + ", ".join(f"{site} {n:,}" for site, n in found.items())


def _localize_lines(stage: LocalizeStage, width_of: WidthOf) -> Iterable[str]:
    spec = stage.spec
    sites, positions = ", ".join(stage.job.sites), ", ".join(spec.position or ["entity.last"])
    yield f"localize {stage.name}: {spec.metric} at {sites}; {positions}"
    yield _candidates_line(stage, width_of)
    for owner, members in stage.groups.items():
        contrast = stage.contrasts.get(owner)
        told_from = f", told from {len(contrast.negatives)} of others" if contrast is not None else ""
        yield f"  {owner}: {len(members)} prompts{told_from}"
    for contrast in list(stage.contrasts.values())[:1]:
        if contrast.shuffled:
            yield f"  shuffled labels, as a control: {len(contrast.shuffled)} rankings for each, of the same values"
    for warning in stage.warnings:
        yield f"  {warning}"
    if stage.baseline and not stage.contrasts:
        yield f"  baseline: {len(stage.baseline)} prompts ({spec.against})"
    if stage.names:
        yield f"  made-up names, as a control: {len(stage.names)}, {sum(map(len, stage.names.values()))} prompts"
    yield from _left_out_lines(stage.left_out)
    yield ""


def _ask_lines(stage: AskStage) -> Iterable[str]:
    yield f"intervention {stage.name}: {len(stage.rows):,} rows"
    for owner in stage.owners:
        roles: dict[str, int] = {}
        for row in stage.rows:
            if row.edited == owner and row.condition in ("edit",):
                roles[row.role] = roles.get(row.role, 0) + 1
        yield f"  {owner}: " + ", ".join(f"{n:,} {role}" for role, n in roles.items())
    for axis, values in stage.axes.items():
        yield f"  {axis}: " + ", ".join(v if isinstance(v, str) else f"{v:g}" for v in values)
    if stage.tuning is not None:
        tuned = stage.tuning
        yield f"  each condition chooses its value on {', '.join(tuned.spec.ask)}: {len(tuned.rows):,} rows, at"
        for axis, values in tuned.axes.items():
            yield f"    {axis}: " + ", ".join(v if isinstance(v, str) else f"{v:g}" for v in values)
    if any(row.role == "texts" for row in stage.rows):
        yield "  texts about nobody: an edit at the entity acts at every token"
    for control, note in stage.controls.items():
        yield f"  control {control}: {note}"
    if stage.after:
        yield f"  after {', '.join(stage.after)}: at most, owners for whom no neuron passes are left out"
    if stage.deferred:
        later = sum(row.deferred for row in stage.rows)
        yield (
            f"  at most: {later:,} rows of random neurons asked about {' and '.join(sorted(stage.deferred))}: run only "
            "where they meet the conditions of a filter that stand before"
        )
    yield from _left_out_lines(stage.left_out)
    yield ""


def _left_out_lines(items: Sequence[Any]) -> Iterable[str]:
    for item in items:
        yield f"  left out: {item.what}: {item.reason}"


def marked(prompt: BoundPrompt, tokenizer: Any) -> str:
    """Show a prompt's tokens with the entity's in brackets: ``The age of [ Donald][ Trump]``."""
    inside = {p for first, last in prompt.entity for p in range(first, last + 1)}
    parts = []
    for p, token in enumerate(prompt.ids):
        text = tokenizer.decode([token])
        parts.append(f"[{text}]" if p in inside else text)
    return "".join(parts)


@dataclass(frozen=True)
class Estimate:
    """What a plan is expected to cost on this machine, from the model's shape and a small measurement."""

    seconds: float
    bytes: int
    gigaflops: float
    """Measured: a matrix product of the model's width in its number format, 10^9 operations a second."""


def estimate(machine: Machine, costs: Sequence[tuple[str, Cost]]) -> Estimate:
    """Estimate time and memory: 2 operations per weight and distinct token, at the speed of one matrix product.

    The vocabulary's embedding is left out, for it is looked up and not multiplied. Attention and reading are not
    counted, so the time is a lower bound that is usually met within a factor of two.
    """
    parameters = sum(p.numel() for p in machine.skeleton.parameters())
    embedding = machine.skeleton.get_input_embeddings().weight.numel()
    speed = _matrix_speed(machine.shape.d_model, machine.dtype.dtype, machine.device.device)
    tokens = sum(c.distinct_tokens for _, c in costs)
    return Estimate(
        seconds=2.0 * (parameters - embedding) * tokens / speed,
        bytes=machine.weights_bytes + machine.estimated_bytes,
        gigaflops=speed / 1e9,
    )


def _matrix_speed(width: int, dtype: torch.dtype, device: torch.device) -> float:
    """Measure operations per second of a projection ``[512, width] -> [512, 4 width]``, as the model makes them."""
    a = torch.randn(512, width, dtype=torch.float32, device=device).to(dtype)
    weight = torch.randn(4 * width, width, dtype=torch.float32, device=device).to(dtype)
    best = float("inf")
    for _ in range(4):
        started = time.perf_counter()
        torch.nn.functional.linear(a, weight).sum().item()
        best = min(best, time.perf_counter() - started)
    return 2.0 * 512 * width * 4 * width / best


def print_plan(
    console: Console,
    plan: Plan,
    costs: Sequence[tuple[str, Cost]],
    expected: Estimate,
    machine: Machine,
    n_prompts: int,
) -> None:
    """Print a plan for people: costs, sample prompts with the entity marked, controls, what is left out."""
    headers = ["stage", "sequences", "tokens", "padded", "distinct", "passes"]
    rows = [
        [name, *(f"{n:,}" for n in (c.sequences, c.tokens, c.padded_tokens, c.distinct_tokens, c.passes))]
        for name, c in costs
    ]
    print_rows(console, headers, rows)
    total, distinct = sum(c.tokens for _, c in costs), sum(c.distinct_tokens for _, c in costs)
    if distinct:
        console.print(
            f"{distinct:,} distinct tokens instead of {total:,} one by one ({total / distinct:.1f} times fewer)",
            highlight=False,
        )
    console.print(
        f"{machine.source.name}, {str(machine.dtype.dtype).removeprefix('torch.')} on {machine.device.device}: "
        f"at least {_time(expected.seconds)} ({expected.gigaflops:,.0f} GFLOP/s measured), "
        f"about {expected.bytes / 1e9:.1f} GB",
        highlight=False,
    )
    for line in _known_lines(plan):
        console.print(Text(line), highlight=False)
    for stage in plan.localize:
        console.print()
        for line in _localize_lines(stage, machine.width):
            console.print(Text(line), highlight=False)
        seen = [stage.prompts[i] for members in stage.groups.values() for i in members[:n_prompts]]
        for prompt in seen[: 2 * n_prompts]:
            console.print(Text("    ").append(marked(prompt, machine.tokenizer)), highlight=False)
    for ask in plan.ask:
        console.print()
        for line in _ask_lines(ask):
            console.print(Text(line), highlight=False)
        prompts = list(dict.fromkeys(row.prompt for row in ask.rows if row.condition == "edit"))
        for prompt in prompts[:n_prompts]:
            console.print(Text("    ").append(marked(prompt, machine.tokenizer)), highlight=False)


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
