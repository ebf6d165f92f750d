"""The field's words for what a spec does: zero ablation, negative ablation, injection."""

from __future__ import annotations

from specs.language.experiment import (
    Edit,
    Experiment,
    Intervention,
    NeuronSet,
    NeuronsRef,
    Range,
    Source,
    Times,
    sweep_values,
)
from specs.language.vector_files import place_of

__all__ = ["edit_words", "field_word", "source_words"]


def field_word(spec: Intervention) -> str:
    """Name an intervention as a paper would; a sweep names what it passes through."""
    words = list(dict.fromkeys(word for edit in spec.edit for word in _words(edit, bool(spec.placeholder))))
    title = ", ".join(words)
    if any(edit.in_ == "weights" for edit in spec.edit):
        title += " in the weights"
    return f"frozen {title}" if spec.freeze is not None else title


def _words(edit: Edit, placeholder: bool) -> list[str]:
    if edit.scale is not None:
        values = sweep_values(edit.scale)
        words = []
        if any(v < 0 for v in values):
            words.append("negative ablation")
        if any(v == 0 for v in values):
            words.append("zero ablation")
        if any(0 < v < 1 for v in values) and not words:
            words.append("attenuation")
        if any(v > 1 for v in values):
            words.append("amplification")
        return words or ["scaling"]
    if placeholder:
        return ["injection"]
    if isinstance(edit.set, Source):
        return ["mean ablation" if edit.set.mean is not None else "resample ablation"]
    if edit.set == "patch":
        return ["activation patching"]
    if isinstance(edit.set, int | float) and edit.set == 0:
        return ["zero ablation"]
    if edit.add is not None:
        return ["steering"]
    return ["clamping"]


def edit_words(experiment: Experiment, edit: Edit) -> str:
    """Say an edit in words, such as ``scale cell by 1 ... -3 (21 values) at entity.last``."""
    from runner.neurons import default_position, edit_position

    if isinstance(edit.add, str) and edit.add in experiment.vectors:
        place = place_of(experiment, edit.add)
        return f"add {edit.add} to {place.site} of layer {place.layers} at {edit_position(experiment, edit)}"
    where = neuron_words(edit.neurons if edit.neurons is not None else edit.outside)
    if edit.outside is not None:
        where = f"everything outside {where}"
    position = ", ".join(edit.position) if isinstance(edit.position, list) else None
    if edit.in_ == "weights" and edit.scale is not None:
        return f"scale {where} by {_numbers(edit.scale)} in the weights"
    at = position or default_position(experiment, edit.neurons or edit.outside)
    if edit.scale is not None:
        return f"scale {where} by {_numbers(edit.scale)} at {at}"
    value = edit.set if edit.set is not None else edit.add
    verb = "set" if edit.set is not None else "add to"
    if isinstance(value, Times):
        words = f"{_numbers(value.times)} times {source_words(value.of)}"
    elif isinstance(value, str | Source):
        words = source_words(value)
    elif value is None:
        words = "nothing"
    else:
        words = _numbers(value)
    return f"{verb} {where} to {words} at {at}" if verb == "set" else f"{verb} {where}: {words} at {at}"


def source_words(source: str | Source) -> str:
    """Say in words where a value is taken from."""
    if isinstance(source, str):
        return {"clean": "the clean run's value", "patch": "the patch twin's value"}.get(
            source, source.replace("_", " ")
        )
    ref = source.mean if source.mean is not None else source.sample
    said = ref if isinstance(ref, str) else ", ".join(ref or ())
    return f"the mean over {said}" if source.mean is not None else f"a sample of {said}"


def _numbers(value: float | list[float] | Range) -> str:
    values = sweep_values(value)
    if isinstance(value, Range):
        return f"{values[0]:g} ... {values[-1]:g} ({len(values)} values)"
    return ", ".join(f"{v:g}" for v in values)


def neuron_words(ref: NeuronsRef | None) -> str:
    """Say a set of neurons in words."""
    if isinstance(ref, str):
        return ref
    if isinstance(ref, list):
        return " and ".join(neuron_words(part) for part in ref)
    if isinstance(ref, NeuronSet):
        if ref.random is not None:
            return f"{ref.random} random neurons like {ref.like}"
        for cut in ("top", "bottom", "rank"):
            value = getattr(ref, cut)
            if value is not None:
                return f"{ref.of} ({cut} {value if not isinstance(value, list) else ', '.join(map(str, value))})"
        return str(ref.of)
    return "neurons"
