"""What the prompt sets of a spec hold: about whom, with answers or without, derived from what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from specs.language.errors import RunError
from specs.language.experiment import Experiment, PromptSet
from specs.language.facts import PAIR, PromptText, languages_of, placeholder_names, prompt_set
from specs.language.meaning.naming import HasOrigins, Naming, Path, choose
from specs.language.scalars import suggest
from specs.language.shipped import PLACEHOLDERS, TEMPLATES, TEXTS

__all__ = ["PromptSets", "Prompts"]


@dataclass(frozen=True)
class Prompts:
    """What a prompt set holds. None in ``about``, ``answers`` or ``texts``: not known without its files."""

    name: str
    about: bool | None
    """Whether its prompts are about an entity."""
    answers: bool | None
    patch: bool
    """Whether its prompts have patch twins."""
    lineage: Mapping[str, str | None]
    """The sets it is derived from, itself first, with the part that was taken of each."""
    texts: tuple[PromptText, ...] | None = None


class PromptSets(Naming):
    """The prompt sets of an experiment."""

    def __init__(self, experiment: Experiment, origins: HasOrigins) -> None:
        super().__init__(experiment, origins)
        self._sets: dict[str, Prompts | None] = {}

    def set_names(self) -> list[str]:
        """List the names that are prompt sets."""
        return [*self.experiment.prompts, *self.experiment.relations, "facts", *TEMPLATES, *TEXTS]

    def prompts(self, name: str, *path: str | int) -> Prompts | None:
        """Give what a prompt set holds; None, told, for a name that is not one."""
        base, _, part = name.partition("/")
        if base not in self.set_names():
            near = suggest(base, self.set_names())
            self.tell(f"'{base}' is not a prompt set{near or self._is(base)}", *path, unknown=base)
            return None
        return self._part(base, part, *path)

    def prompts_or_names(self, name: str, *path: str | int) -> Prompts | tuple[str, ...] | None:
        """Give what a name stands for where either will do; None, told, for what is neither."""
        if name in (*self.experiment.placeholders, *PLACEHOLDERS):
            return placeholder_names(self.experiment, name)
        base = name.partition("/")[0]
        if base not in self.set_names():
            known = [*self.set_names(), *self.experiment.placeholders, *PLACEHOLDERS]
            near = suggest(base, known)
            message = f"'{base}' is neither a prompt set nor a list of placeholders{near or self._is(base)}"
            self.tell(message, *path, unknown=base)
            return None
        return self.prompts(name, *path)

    def _part(self, base: str, part: str, *path: str | int) -> Prompts | None:
        whole = self._set(base)
        if whole is None or not part:
            return whole
        spec = self.experiment.prompts.get(base)
        parts = list(spec.split.into) if spec is not None and spec.split is not None else []
        if part not in parts:
            its = f"Its parts: {', '.join(sorted(parts))}" if parts else "It is not split"
            self.tell(f"prompt set '{base}' has no part '{part}'. {its}", *path)
            return None
        name = f"{base}/{part}"
        texts = None if whole.texts is None else tuple(text for text in whole.texts if text.part == part)
        return Prompts(name, whole.about, whole.answers, whole.patch, {**whole.lineage, base: part}, texts)

    def _set(self, name: str) -> Prompts | None:
        if name not in self._sets:
            self._sets[name] = None  # a set that is derived from itself fails
            self._sets[name] = self._describe(name)
        return self._sets[name]

    def _describe(self, name: str) -> Prompts | None:
        experiment = self.experiment
        if name in experiment.prompts:
            spec = experiment.prompts[name]
            found = self._own(name, spec)
        elif name in TEMPLATES:
            found = Prompts(name, True, False, False, {name: None})
        elif name in TEXTS:
            found = Prompts(name, False, False, False, {name: None})
        else:
            found = Prompts(name, True, True, False, {name: None})
        if found is None:
            return found
        try:
            texts = prompt_set(experiment, name)
        except (RunError, ValueError):
            return found  # not built, or a template that is told where it stands
        answers = found.answers and (any(t.answers for t in texts) if found.about is not None else None)
        return Prompts(name, found.about, answers, found.patch, found.lineage, texts)

    def _own(self, name: str, spec: PromptSet) -> Prompts | None:
        patch = spec.patch is not None
        lineage: dict[str, str | None] = {name: None}
        path = ("prompts", name)
        fine = self._choices(spec, *path)
        if spec.of is not None:
            base = self.prompts(spec.of, *path, "of")
            if base is None:
                return None
            found = Prompts(name, base.about, base.answers, patch or base.patch, {**lineage, **base.lineage})
        elif spec.pairs is not None:
            fine = self._pairs(spec, *path) and fine
            found = Prompts(
                name,
                False,
                isinstance(spec.pairs, list) and any(pair.get("answer") for pair in spec.pairs),
                True,
                lineage,
            )
        else:
            about = spec.texts is None
            found = Prompts(name, about, spec.relations is not None, patch, lineage)
        return found if fine else None

    def _choices(self, spec: PromptSet, *path: str | int) -> bool:
        """Check what a set chooses from: relations, entities, labels, columns."""
        fine = True
        if isinstance(spec.relations, list):
            checked = [self.relation(r, *path, "relations", n) for n, r in enumerate(spec.relations)]
            fine = fine and all(checked)
        if isinstance(spec.entities, list):
            checked = [self.entity(e, *path, "entities", n) for n, e in enumerate(spec.entities)]
            fine = fine and all(checked)
        elif not isinstance(spec.entities, str):
            choice = spec.entities
            fine = self.conditions(choice.where, *path, "entities", "where", also=["entity"]) and fine
            if choice.order is not None:
                fine = self.column(choice.order.removeprefix("-"), *path, "entities", "order") and fine
        fine = self._labels(spec, *path) and fine
        also = ["prompt", "text"]
        if spec.pairs is None:
            fine = self.conditions(spec.where, *path, "where", also=also) and fine
            for name in ("unique", "per"):
                value = getattr(spec, name)
                if value is not None:
                    fine = self.column(value, *path, name, also=also) and fine
            for name in ("per", "disjoint"):
                value = getattr(spec.split, name) if spec.split is not None else None
                if value is not None:
                    fine = self.column(value, *path, "split", name, also=also) and fine
        return fine

    def _pairs(self, spec: PromptSet, *path: str | int) -> bool:
        """Check pairs: two texts each, answers without spaces around them, and columns that some pair has."""
        if not isinstance(spec.pairs, list):
            self.tell(f"'{spec.pairs}' is no file of pairs; name a .json, .jsonl or .yaml file, or give a list", *path)
            return False
        fine = True
        for n, pair in enumerate(spec.pairs):
            place = (*path, "pairs", n)
            for key in ("clean", "patch"):
                if not pair.get(key, "").strip():
                    self.tell(f"a pair needs `{key}:`, a text; it is {{clean, patch, answer, patch_answer}}", *place)
                    fine = False
            for key in ("answer", "patch_answer"):
                answer = pair.get(key)
                if answer is not None and (answer != answer.strip() or not answer):
                    self.tell(
                        f"the answer '{answer}' is empty, or begins or ends with a space; the joining space is the "
                        "runner's business",
                        *place,
                    )
                    fine = False
            if fine and pair["clean"] == pair["patch"]:
                self.tell(f"'{pair['clean']}' is its own patch twin", *place)
                fine = False
            if not fine:
                return False  # a file of hundreds has one kind of mistake
        columns = dict.fromkeys(key for pair in spec.pairs for key in pair if key not in PAIR)
        split = spec.split
        wanted: list[tuple[str | None, Path]] = [(c.quantity, ("where", n)) for n, c in enumerate(spec.where)]
        wanted += [(spec.unique, ("unique",)), (spec.per, ("per",))]
        wanted += [(split.per, ("split", "per")), (split.disjoint, ("split", "disjoint"))] if split is not None else []
        for column, at in wanted:
            if column is not None and column not in (*columns, "prompt", "text"):
                self.tell(f"no pair has a '{column}'{choose(column, [*columns, 'prompt'])}", *path, *at)
                fine = False
        return fine

    def _labels(self, spec: PromptSet, *path: str | int) -> bool:
        fine = True
        relations = self.experiment.relations
        asked = [r for r in spec.relations if r in relations] if isinstance(spec.relations, list) else relations
        phrasings = dict.fromkeys(label for r in asked for label in relations[r].phrasings)
        for translation in (t for r in asked for t in relations[r].translations.values()):
            phrasings |= dict.fromkeys(translation.phrasings)
        for n, label in enumerate(spec.phrasing or []):
            if label not in phrasings:
                self.tell(f"no relation has a phrasing '{label}'{choose(label, phrasings)}", *path, "phrasing", n)
                fine = False
        languages = dict.fromkeys(languages_of(self.experiment, asked))
        for n, code in enumerate(spec.language or []):
            if code not in languages:
                message = f"no relation has a translation into '{code}'{choose(code, languages)}"
                self.tell(message, *path, "language", n)
                fine = False
        variants = dict.fromkeys(label for e in self.experiment.entities.values() for label in e.variants)
        for n, label in enumerate(spec.variants if isinstance(spec.variants, list) else []):
            if label not in variants:
                self.tell(f"no entity has a variant '{label}'{choose(label, variants)}", *path, "variants", n)
                fine = False
        return fine
