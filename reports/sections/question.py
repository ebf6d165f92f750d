"""The head of the page: state of the run, question, answer."""

from __future__ import annotations

from datetime import UTC, datetime

from reports import formats
from reports.sections.section import Section
from specs.language.results import Results


def build(results: Results) -> Section:
    """Show the question, the answer in one sentence, and loudly whether the run is whole."""
    model = results.model
    facts = [
        model.card or model.id,
        f"{model.n_layers} layers × {formats.whole(model.d_mlp)} neurons",
        f"{model.dtype} on {model.device}",
        moment(results.started),
        formats.duration(results.seconds),
        results.hash,
    ]
    if results.cell:
        facts.insert(0, results.cell)
    return Section(
        "question",
        "",
        {
            "name": results.name,
            "title": results.title,
            "status": results.status,
            "reason": results.reason,
            "description": results.description,
            "answer": results.answer,
            "facts": facts,
        },
    )


def moment(started: str) -> str:
    """Give a time stamp to the minute in UTC, or as it was recorded where it is no ISO time."""
    try:
        moment = datetime.fromisoformat(started)
    except ValueError:
        return formats.visible(started) or "start not recorded"
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC" if moment.tzinfo else f"{moment:%Y-%m-%d %H:%M}"
