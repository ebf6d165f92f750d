"""Whether two prompt sets share questions, as far as the text can tell."""

from __future__ import annotations

from specs.language.experiment import Experiment
from specs.language.meaning.prompt_sets import Prompts

__all__ = ["may_share", "other_part"]


def may_share(one: Prompts, other: Prompts) -> bool:
    """Say whether two sets share questions: not if they come from different parts of one set.

    Where both can be written out, the facts themselves are compared; else sets with answers are taken to
    share what they are both made of, the relations.
    """
    common = [name for name in one.lineage if name in other.lineage]
    for name in common:
        a, b = one.lineage[name], other.lineage[name]
        if a is not None and b is not None and a != b:
            return False
    if one.answers is False or other.answers is False:
        return False
    if one.texts is not None and other.texts is not None:
        facts = {(t.relation, t.entity) for t in one.texts if t.answers}
        return any((t.relation, t.entity) in facts for t in other.texts if t.answers)
    return bool(common) or (one.about is True and other.about is True)


def other_part(experiment: Experiment, prompts: Prompts) -> str | None:
    """Name another part of the split a set comes from."""
    for name, part in prompts.lineage.items():
        split = experiment.prompts[name].split if name in experiment.prompts else None
        if part is not None and split is not None:
            return next((f"{name}/{other}" for other in split.into if other != part), None)
    return None
