"""The whole program in a test: a tiny model as a folder, a spec on it, and the command line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.checkpoint import save_checkpoint

SPEC = """\
version: 1
name: tiny
model: {MODEL}
entities: {trump: Donald Trump, obama: Barack Obama}
relations:
  wife:
    prompt: "Fact: the name of the wife of {{ entity }}:"
    answers: {trump: Melania, obama: Michelle}
  home:
    prompt: "Fact: the home of {{ entity }}:"
    answers: {trump: Florida, obama: Chicago}
prompts:
  names:
    templates:
      - "The age of {{ entity }}"
      - "The voice of {{ entity }}"
      - "The house of {{ entity }}"
      - "The job of {{ entity }}"
      - "The city of {{ entity }}"
      - "The wife of {{ entity }}"
      - "The home of {{ entity }}"
      - "The mother of {{ entity }}"
  neutral: {texts: [The house, The job and the city, Somebody else, The age, The voice, A fact, The home, The name]}
  questions: {relations: all, known: any}
placeholders: {nobody: [Ada Lovelace, Byron]}
localize:
  cell: {metric: stability, prompts: names, against: neutral}
interventions:
  amnesia:
    edit: {scale: [1, -1, -3], neurons: cell}
    ask: questions
    unknown: nobody
    measure: [answer_probability, knowledge_loss, answer_rank]
  injection:
    placeholder: nobody
    edit: {set: {times: [1, 4], of: own_mean}, neurons: cell}
    ask: questions
    measure: [answer_probability, text@4]
    controls: {random_neurons: 2}
"""
"""About seventy distinct tokens per ranking: a whole run takes a second."""


@dataclass(frozen=True)
class Answer:
    """What a command gave back."""

    code: int
    out: str
    err: str

    @property
    def all(self) -> str:
        return self.out + self.err


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A llama of three layers with a byte-level tokenizer."""
    return save_checkpoint(tmp_path_factory.mktemp("checkpoint") / "tiny")


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, with a cache of its own and no MLflow server."""
    import torch

    torch.set_num_threads(1)
    monkeypatch.setenv("RUN_SPEC_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    place = tmp_path / "work"
    place.mkdir()
    monkeypatch.chdir(place)
    return place


@pytest.fixture
def write_spec(workplace: Path, tiny_checkpoint: Path) -> Callable[..., Path]:
    """Write ``spec.yaml`` after replacing some of its text, each piece of which must stand there."""

    def write(*changes: tuple[str, str], more: str = "") -> Path:
        text = SPEC.replace("{MODEL}", str(tiny_checkpoint))
        for old, new in changes:
            assert text.count(old) >= 1, old
            text = text.replace(old, new)
        path = workplace / "spec.yaml"
        path.write_text(text + more, encoding="utf-8")
        return path

    return write


@pytest.fixture
def spec_file(write_spec: Callable[..., Path]) -> Path:
    """A spec of one ranking and two interventions."""
    return write_spec()


@pytest.fixture
def command(workplace: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Answer]:
    """Run the command line in this process, on a cache of its own name if one is given."""
    from runner.cli import main

    def run(*arguments: object, cache: str | None = None) -> Answer:
        capsys.readouterr()
        with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as ended:
            if cache is not None:
                patch.setenv("RUN_SPEC_CACHE", str(workplace / "caches" / cache))
            main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        code = ended.value.code
        assert isinstance(code, int)
        return Answer(code, out, err)

    return run
