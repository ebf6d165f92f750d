"""What the prompt sets hold, relation by relation: facts, parts, and what the clean model knows of them."""

from __future__ import annotations

from reports import formats
from reports.sections.section import Cell, Column, Section, Table
from specs.language.results import PromptSetCounts, Results

MOST = 60
"""Relations of a set that are listed; all are in the result document."""


def build(results: Results) -> Section | None:
    """Show the counts of every set that is split, or of which only what the model knows is used; None without any."""
    shown = {
        name: counts
        for name, counts in results.prompt_sets.items()
        if counts.parts or any(relation.known is not None for relation in counts.relations)
    }
    if not shown:
        return None
    sets = [{"name": formats.visible(name), "how": how(c), "table": _table(c)} for name, c in shown.items()]
    return Section("prompt_sets", "Prompt sets", {"sets": sets})


def how(counts: PromptSetCounts) -> str:
    """Say in a sentence where a set comes from, what is known of it, and how it is cut."""
    facts = sum(relation.facts for relation in counts.relations)
    n = len(counts.relations)
    text = f"{formats.whole(facts)} facts of {n} relation{'s' if n != 1 else ''}"
    text += f", of {formats.visible(counts.of)}" if counts.of else ""
    known = [relation.known for relation in counts.relations if relation.known is not None]
    if known:
        asked = sum(relation.prompts for relation in counts.relations)
        rule = formats.visible(counts.known_rule)
        text += f"; {formats.whole(sum(known))} of {formats.whole(asked)} prompts are known to the clean model ({rule})"
    return text + "."


def _table(counts: PromptSetCounts) -> Table:
    judged = any(relation.known is not None for relation in counts.relations)
    columns = [
        Column("relation"),
        Column("facts", "number"),
        *(Column(formats.visible(part), "number", "facts") for part in counts.parts),
        Column("prompts", "number"),
        *([Column("known", "number", "prompts"), Column("known", "number", "facts")] if judged else []),
        Column("answers", "number", "different"),
    ]
    rows: list[list[Cell]] = []
    for relation in counts.relations[:MOST]:
        known = [
            Cell("" if relation.known is None else formats.whole(relation.known)),
            Cell("" if relation.known_facts is None else formats.whole(relation.known_facts)),
        ]
        rows.append(
            [
                Cell(formats.visible(relation.relation)),
                Cell(formats.whole(relation.facts)),
                *(Cell(formats.whole(relation.parts.get(part, 0))) for part in counts.parts),
                Cell(formats.whole(relation.prompts)),
                *(known if judged else []),
                Cell(formats.whole(relation.answers)),
            ]
        )
    more = len(counts.relations) - MOST
    return Table(columns, rows, caption=f"and {more} more relations" if more > 0 else "")
