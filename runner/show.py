"""The plan as text: what will be run, with the entity's tokens marked, and what it costs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from runner.bind import BoundPrompt
from runner.plan import AskStage, LocalizeStage, Plan
from runner.program import Cost, Job, Limits, Mode, cost, pack

__all__ = ["marked", "plan_costs", "plan_text"]


def plan_costs(plan: Plan, limits: Limits, mode: Mode = "trees") -> list[tuple[str, Cost]]:
    """Count every stage of a plan, in the order in which they are run."""
    found: list[tuple[str, Cost]] = []
    for stage in plan.localize:
        found.append((stage.name, _cost(stage.job, limits, mode)))
    for ask in plan.ask:
        if ask.means is not None:
            found.append((f"{ask.name}: means", _cost(ask.means.job, limits, mode)))
        found.append((ask.name, _cost(ask.job, limits, mode)))
    return found


def _cost(job: Job, limits: Limits, mode: Mode) -> Cost:
    return cost(job, pack(job, limits, mode))


def plan_text(plan: Plan, limits: Limits, mode: Mode = "trees") -> str:
    """Write the plan as plain text: a table of costs, then each stage in words."""
    lines = [
        "stage                     sequences     tokens     padded   distinct  passes",
    ]
    for name, c in plan_costs(plan, limits, mode):
        lines.append(
            f"{name:<24} {c.sequences:>10,} {c.tokens:>10,} {c.padded_tokens:>10,} "
            f"{c.distinct_tokens:>10,} {c.passes:>7,}"
        )
    lines.append("")
    for stage in plan.localize:
        lines += _localize_lines(stage)
    for ask in plan.ask:
        lines += _ask_lines(ask)
    return "\n".join(lines) + "\n"


def _localize_lines(stage: LocalizeStage) -> Iterable[str]:
    spec = stage.spec
    yield f"localize {stage.name}: {spec.metric} at {stage.job.sites[0]}, {(spec.position or ['entity.last'])[0]}"
    for owner, members in stage.groups.items():
        yield f"  {owner}: {len(members)} prompts"
    if stage.baseline:
        yield f"  baseline: {len(stage.baseline)} prompts ({spec.against})"
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
    for control, note in stage.controls.items():
        yield f"  control {control}: {note}"
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
