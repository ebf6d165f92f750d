"""Chats: the ids are those of the tokenizer's own template, names are found in them, answers follow the prefill."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as parquet
import pytest
import torch

from runner.bind import Binder, BoundPrompt, Unbound
from runner.chat import Frames, chat_notes
from runner.store import load as load_results
from specs.language.errors import ModelError, SpecError
from specs.language.experiment import Chat, Experiment
from specs.language.facts import PromptText, prompt_set, with_name
from specs.language.load import load
from tests.checkpoint import save_checkpoint, tiny_tokenizer
from tests.runner.conftest import Answer

CHATML = (
    "{% if messages[0]['role'] != 'system' %}<system>Help.\n{% endif %}"
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
BEGINS = "{{ bos_token }}" + CHATML
TRIMS = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if m['role'] == 'system' %}{{ raise_exception('no system role here') }}{% endif %}"
    "<turn>{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n{{ m['content'] | trim }}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}<turn>model\n{% endif %}"
)
BRACKETS = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}[INST] {{ m['content'] }} [/INST]"
    "{% elif m['role'] == 'assistant' %} {{ m['content'] }}</s>{% endif %}{% endfor %}"
)
TEMPLATES = {"chatml": CHATML, "begins": BEGINS, "trims": TRIMS, "brackets": BRACKETS}
TEXT = "Fact: the name of the wife of Donald Trump:"
PROMPT = PromptText(
    text=TEXT,
    entity="trump",
    entity_name="Donald Trump",
    spans=((30, 42),),
    relation="wife",
    answers=("Melania", "Mrs. Trump"),
    chat=Chat(),
)


def tokenizer(template: str | None, style: Any = "bytes", bos: bool = True) -> Any:
    made = tiny_tokenizer(style, bos=bos)
    made.chat_template = template
    return made


@pytest.fixture(
    params=[(name, style) for name in TEMPLATES for style in ("bytes", "pieces")], ids=lambda p: "-".join(p)
)
def chatting(request: pytest.FixtureRequest) -> Any:
    name, style = request.param
    return tokenizer(TEMPLATES[name], style)


def bound(tokenizer: Any, prompt: PromptText = PROMPT) -> BoundPrompt:
    found = Binder(tokenizer).bind(prompt)
    assert isinstance(found, BoundPrompt), found
    return found


def by_the_library(tokenizer: Any, *said: tuple[str, str]) -> list[int]:
    messages = [{"role": role, "content": content} for role, content in said]
    made = tokenizer.apply_chat_template(messages, tokenize=True, add_generation_prompt=True)
    return list(made["input_ids"])


def test_the_ids_are_those_of_the_library(chatting: Any) -> None:
    found = bound(chatting)
    assert list(found.ids) == by_the_library(chatting, ("user", TEXT))
    assert found.ids.count(chatting.bos_token_id) == (chatting.chat_template != CHATML)


def test_the_name_is_found_in_the_ids_that_are_run(chatting: Any) -> None:
    found = bound(chatting)
    ((first, last),) = found.entity
    assert chatting.decode(found.ids[first : last + 1]).strip() == "Donald Trump"
    assert found.positions("entity.last") == (last,)
    # the frame stands before and after it
    assert first > 10 and last < len(found.ids) - 2


def test_what_the_user_says_begins_and_ends_where_it_stands(chatting: Any) -> None:
    found = bound(chatting)
    (first,), (end,) = found.positions("first"), found.positions("text.last")
    assert chatting.decode(found.ids[first : end + 1]).strip() == TEXT
    assert found.positions("last") == (len(found.ids) - 1,) and end < len(found.ids) - 1
    assert found.positions("all")[0] == first and found.acting("all") == tuple(range(len(found.ids)))


def test_another_name_is_said_in_the_same_frame(chatting: Any) -> None:
    found = bound(chatting, with_name(PROMPT, "Ada Lovelace"))
    ((first, last),) = found.entity
    assert chatting.decode(found.ids[first : last + 1]).strip() == "Ada Lovelace"
    assert list(found.ids) == by_the_library(chatting, ("user", TEXT.replace("Donald Trump", "Ada Lovelace")))


def test_answers_are_those_that_the_template_puts_into_the_reply(chatting: Any) -> None:
    found = bound(chatting)
    for answer in found.answers:
        messages = [{"role": "user", "content": TEXT}, {"role": "assistant", "content": answer.text}]
        whole = chatting.apply_chat_template(messages, tokenize=True)["input_ids"]
        assert list(whole[: len(found.ids) + len(answer.tokens)]) == [*found.ids, *answer.tokens]


@pytest.mark.parametrize("name", ["chatml", "begins", "brackets"])
def test_a_prefill_begins_the_reply_and_the_answer_follows_it(name: str) -> None:
    made = tokenizer(TEMPLATES[name])
    chat = Chat(prefill="The wife:") if name == "brackets" else Chat(system="Be brief.", prefill="The wife:")
    found = bound(made, PromptText(text=TEXT, answers=("Melania",), chat=chat))
    text = made.decode(found.ids)
    assert text.endswith("The wife:") and ("Be brief." in text) == (chat.system is not None)
    assert "Help." not in text or chat.system is None
    assert made.decode(found.answers[0].tokens) == " Melania"


def test_white_space_that_a_template_takes_off_moves_the_name() -> None:
    made = tokenizer(TRIMS)
    found = bound(made, PromptText(text="  the wife of Ada ", entity="a", spans=((14, 17),), chat=Chat()))
    ((first, last),) = found.entity
    assert made.decode(found.ids[first : last + 1]).strip() == "Ada"


def test_a_given_beginning_comes_after_the_frame() -> None:
    made = tokenizer(CHATML)
    plain = bound(made, PromptText(text=TEXT, answers=("1946",), chat=Chat(prefill="Year:")))
    found = bound(made, PromptText(text=TEXT, answers=("1946",), given="19", chat=Chat(prefill="Year:")))
    assert made.decode(found.ids).endswith("Year: 19")
    assert (*found.ids, *found.answers[0].tokens) == (*plain.ids, *plain.answers[0].tokens)


def test_without_a_chat_nothing_changes() -> None:
    made = tokenizer(CHATML)
    found = bound(made, PromptText(text=TEXT))
    assert list(found.ids) == list(made(TEXT)["input_ids"]) and found.positions("text.last") == found.positions("last")


@pytest.mark.parametrize(
    ("template", "chat", "message"),
    [
        (None, Chat(), "the tokenizer has no chat template"),
        (TRIMS, Chat(system="Be brief."), "the chat template takes no system message: no system role here"),
        ("{{ messages[0]['content'] }} {{ messages[0]['content'] }}", Chat(), "2 times, not once"),
        ("{{ 1 }}", Chat(), "0 times, not once"),
    ],
)
def test_a_template_that_cannot_be_used_is_refused(template: str | None, chat: Chat, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        Frames(tokenizer(template)).frame(chat)


def test_a_template_that_changes_the_words_leaves_the_prompt_out() -> None:
    made = tokenizer("<user>{{ messages[0]['content'] | replace('wife', 'spouse') }}</s>")
    found = Binder(made).bind(PROMPT)
    assert isinstance(found, Unbound) and found.reason == "the chat template changes what the user says"


def test_a_template_with_a_date_is_warned_of() -> None:
    spec = Experiment.model_validate({"version": 1, "name": "x", "model": {"id": "m", "chat": True}})
    assert chat_notes(spec, tokenizer("{{ strftime_now('%d') }}" + CHATML)) and not chat_notes(spec, tokenizer(CHATML))


# -- which prompts go through a chat


def test_a_set_s_chat_stands_before_the_model_s_and_is_inherited() -> None:
    spec = Experiment.model_validate(
        {
            "version": 1,
            "name": "x",
            "model": {"id": "m", "chat": {"system": "Be brief."}},
            "entities": {"ada": "Ada Lovelace"},
            "relations": {"town": {"prompt": "{{ entity }} lives in", "answers": {"ada": "London"}}},
            "prompts": {
                "plain": {"relations": "all", "chat": False},
                "led": {"relations": "all", "chat": {"prefill": "In"}},
                "derived": {"of": "led", "entities": ["ada"]},
                "model_s": {"relations": "all"},
            },
        }
    )
    usual = Chat(system="Be brief.")
    for name, chat in {
        "plain": None, "led": Chat(prefill="In"), "derived": Chat(prefill="In"), "model_s": usual, "facts": usual,
        "attributes": usual, "generic": usual,
    }.items():  # fmt: skip
        assert {p.chat for p in prompt_set(spec, name)} == {chat}, name


def test_one_text_in_two_chats_is_asked_in_two_interventions(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(
        "version: 1\nmodel: m\nentities: {ada: Ada, leo: Leo}\n"
        'relations: {town: {prompt: "{{ entity }} lives in", answers: {ada: London, leo: Vinci}}}\n'
        "prompts: {chatted: {relations: all, chat: true}, plain: {relations: all}}\n"
        "localize: {cell: stability}\n"
        "interventions: {i: {edit: {scale: -1, neurons: cell}, ask: [plain, chatted]}}\n"
    )
    with pytest.raises(SpecError, match="'Ada lives in' is asked in two chats, or in a chat and without one"):
        load(path)


# -- whole runs

Command = Callable[..., Answer]


@pytest.fixture(scope="module")
def chat_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = save_checkpoint(tmp_path_factory.mktemp("checkpoint") / "chatting", bos=True)
    tokenizer(BEGINS).save_pretrained(folder)
    return folder


def test_a_run_in_a_chat_gives_the_probabilities_of_the_template_s_ids(
    command: Command, write_spec: Callable[..., Path], tiny_checkpoint: Path, chat_checkpoint: Path, workplace: Path
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = f"model: {{id: {chat_checkpoint}, dtype: float32, chat: {{system: Be brief., prefill: 'Answer:'}}}}"
    spec = write_spec((f"model: {tiny_checkpoint}", model))
    answer = command(spec, "--no-track")
    assert answer.code == 0, answer.all
    (folder,) = (workplace / "runs").glob("tiny-*")
    rows = parquet.read_table(folder / "results.parquet").to_pylist()
    read = AutoTokenizer.from_pretrained(chat_checkpoint)
    network = AutoModelForCausalLM.from_pretrained(chat_checkpoint, dtype=torch.float32).eval()
    checked = 0
    for row in rows:
        if row["condition"] != "clean" or row["intervention"] != "amnesia" or row["role"] == "unknown":
            continue
        said = by_the_library(read, ("system", "Be brief."), ("user", row["prompt"]))
        start = said + read("Answer:", add_special_tokens=False)["input_ids"]
        scored = read(" " + row["answers"][0], add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            logps = network(torch.tensor([start + scored])).logits[0].log_softmax(-1)
        wanted = sum(float(logps[len(start) - 1 + k, token]) for k, token in enumerate(scored))
        assert row["scores"][0]["log_probability"] == pytest.approx(wanted, rel=1e-4)
        checked += 1
    assert checked >= 4
    results = load_results(folder)
    (chat,) = results.chats
    assert chat.where == "model" and chat.frame.endswith("<assistant>Answer:") and "PROMPT" in chat.frame
    assert "PROMPT" in (folder / "report.html").read_text(encoding="utf-8")


def test_a_ranking_in_a_chat_reads_texts_about_nobody_at_their_own_last_token(
    write_spec: Callable[..., Path], tiny_checkpoint: Path
) -> None:
    from runner.compile import compile_plan

    made = tokenizer(BEGINS)
    spec = write_spec((f"model: {tiny_checkpoint}", f"model: {{id: {tiny_checkpoint}, chat: true}}"))
    (stage,) = compile_plan(load(spec).cells[0].experiment, Binder(made), 3).localize
    for i in stage.baseline:
        sequence, prompt = stage.job.sequences[i], stage.prompts[i]
        assert prompt.text.text.endswith(made.decode([sequence.ids[sequence.read[0]]]).strip())


def test_validate_deep_and_run_refuse_a_chat_without_a_template(
    command: Command, write_spec: Callable[..., Path], tiny_checkpoint: Path
) -> None:
    spec = write_spec((f"model: {tiny_checkpoint}", f"model: {{id: {tiny_checkpoint}, chat: true}}"))
    for words in (("validate", "--deep", spec), (spec, "--no-track")):
        answer = command(*words)
        assert answer.code == 2, answer.all
        assert "model.chat: chat is on, but the tokenizer of" in answer.all and "has no chat template" in answer.all
        assert "spec.yaml:3:" in answer.all
    spec = write_spec(("questions: {relations: all,", "questions: {chat: true, relations: all,"))
    assert "prompts.questions.chat: chat is on" in command("validate", "--deep", spec).all


@pytest.mark.real
@pytest.mark.parametrize("name", ["smollm2-135m", "qwen2.5-coder-1.5b"])
def test_real_templates(name: str) -> None:
    from runner.models import load_tokenizer, resolve

    made = load_tokenizer(resolve(name))
    for chat in (Chat(), Chat(system="Be brief."), Chat(prefill="Answer:")):
        found = bound(made, PromptText(TEXT, "trump", "Donald Trump", ((30, 42),), answers=("Melania",), chat=chat))
        said = [("system", chat.system)] if chat.system else []
        ids = by_the_library(made, *said, ("user", TEXT))
        assert list(found.ids[: len(ids)]) == ids
        assert made.decode(found.ids[len(ids) :]) == (chat.prefill or "")
        ((first, last),) = found.entity
        assert made.decode(found.ids[first : last + 1]) == " Donald Trump"
        assert made.decode(found.answers[0].tokens) == (" Melania" if chat.prefill else "Melania")


@pytest.mark.real
def test_gemma_s_base_model_has_no_template() -> None:
    from runner.models import load_tokenizer, resolve

    with pytest.raises(ModelError, match="has no chat template"):
        Frames(load_tokenizer(resolve("gemma3-270m"))).frame(Chat())
