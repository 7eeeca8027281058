"""Many answers at a time, several adapters on one base, and what is kept between turns.

Reference: each question asked alone, of a model of its own.
"""

import json
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    MistralConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from medtune.arguments import ChatArguments, ModelArguments, SamplingArguments
from medtune.chat.answer import CANCEL, ERROR, LENGTH, REPETITION, Answer
from medtune.chat.engine import MAX_KEPT, MAX_RUNNING, PORTION_TOKENS, Engine, QueueFull
from medtune.chat.loading import load_sessions
from medtune.chat.repetition import is_loop
from medtune.chat.session import ChatSession
from medtune.common.errors import ConfigError, MemoryExhausted, NonFiniteError
from medtune.data.records import Message
from tests.chat.conftest import load, lora_on, prefix_on, scripted

GREEDY = SamplingArguments(max_new_tokens=12)
DRAWN = replace(GREEDY, temperature=0.9, top_p=0.9, top_k=40, seed=7)
PENALTY = replace(GREEDY, repetition_penalty=0.6)
QUESTIONS = ["头痛怎么办？", "能吃布洛芬吗？", "?", "咳嗽 " * 40, "发热三天，" * 60, "头 痛 " * 180]


def ask(session: ChatSession, text: str, options: SamplingArguments = GREEDY) -> Answer:
    return session.ask([Message("user", text)], options)


def alone(session: ChatSession, text: str, options: SamplingArguments = GREEDY) -> list[int]:
    """The ids of an answer that nobody else's were computed beside."""
    answer = ask(ChatSession(session.variant, session.tokenizer), text, options)
    list(answer.pieces)
    return answer.ids


@pytest.fixture(scope="module")
def folders(small_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A base, two LoRA adapters and a prefix, each in a folder."""
    root = tmp_path_factory.mktemp("adapters")
    made = {"one": lora_on(small_model_folder), "prefix": prefix_on(small_model_folder)}
    made["two"] = lora_on(small_model_folder)
    for name, weight in made["two"].named_parameters():
        if "lora_B" in name:
            weight.data.neg_()
    for name, model in made.items():
        model.save_pretrained(root / name)
    return {"base": small_model_folder, **{name: root / name for name in made}}


@pytest.fixture(scope="module")
def sessions(folders: dict[str, Path]) -> dict[str, ChatSession]:
    """All four on one base and one engine."""
    chat = ChatArguments(
        adapter=str(folders["one"]), compare=[str(folders["prefix"]), str(folders["two"])]
    )
    return load_sessions(ModelArguments(str(folders["base"])), chat, Engine())


def test_adapters_on_one_base_answer_as_each_does_on_its_own(
    folders: dict[str, Path],
    sessions: dict[str, ChatSession],
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    base = folders["base"].name
    assert list(sessions) == ["one", "prefix", "two", base]
    assert len({id(session.variant.base) for session in sessions.values()}) == 1
    own = {"one": lora_on(folders["base"]), "prefix": prefix_on(folders["base"])}
    for _ in range(2):  # to and fro
        for name, model in {**own, base: load(folders["base"])}.items():
            found = ask(sessions[name], QUESTIONS[0])
            list(found.pieces)
            assert found.ids == alone(ChatSession(model, tokenizer), QUESTIONS[0])
    answers = {name: tuple(alone(session, "?")) for name, session in sessions.items()}
    assert len(set(answers.values())) == 4


def test_answers_that_come_at_one_time_are_those_of_each_alone(
    sessions: dict[str, ChatSession],
) -> None:
    asked = [
        (session, question, options)
        for session in sessions.values()
        for question in QUESTIONS
        for options in (GREEDY, DRAWN, PENALTY)
    ]
    answers = [ask(*one) for one in asked]

    for (session, question, options), answer in zip(asked, answers, strict=True):
        assert "".join(answer.pieces) == answer.text
        assert answer.ids == alone(session, question, options)


def test_a_step_reads_one_token_of_each_answer_and_prompts_in_portions(
    folders: dict[str, Path], tokenizer: PreTrainedTokenizerFast
) -> None:
    session = ChatSession(load(folders["base"]), tokenizer)
    widths: list[int] = []
    session.variant.base.model.get_input_embeddings().register_forward_hook(
        lambda module, inputs, output: widths.append(inputs[0].shape[1])
    )
    short = [ask(session, text) for text in QUESTIONS[:2]]
    for answer in short:
        next(answer.pieces)
    widths.clear()
    long = ask(session, QUESTIONS[5])
    for answer in (*short, long):
        list(answer.pieces)

    rest = len(long.prompt_ids) - (PORTION_TOKENS - 2)
    assert widths[:3] == [PORTION_TOKENS, rest + 2, 3]
    assert all(width <= 3 for width in widths[2:])


def test_no_more_run_than_may_and_no_more_wait_than_may(
    folders: dict[str, Path], tokenizer: PreTrainedTokenizerFast
) -> None:
    session = ChatSession(load(folders["base"]), tokenizer, None, Engine(max_waiting=2))
    running = []
    for number in range(MAX_RUNNING):
        running.append(ask(session, f"{number}?"))
        session.engine.step()
    waiting = [ask(session, "等"), ask(session, "等一等")]

    with pytest.raises(QueueFull, match="expected at most 2 questions to wait"):
        ask(session, "再等")

    waiting[0].cancel()
    session.engine.step()
    third = ask(session, "再等")
    assert waiting[0].ended_by == CANCEL
    for answer in (*running, waiting[1], third):
        list(answer.pieces)
        assert answer.ended_by == LENGTH


def test_conversations_in_turn_each_find_their_own_text_again(
    folders: dict[str, Path], tokenizer: PreTrainedTokenizerFast
) -> None:
    session = ChatSession(load(folders["base"]), tokenizer)
    base = session.variant.base
    histories = [[Message("user", f"第{n}位：{text}")] for n, text in enumerate(QUESTIONS[:5])]
    first = [session.ask(history, GREEDY).prompt_ids for history in histories]
    shared = next(n for n, ids in enumerate(zip(*first, strict=False)) if len(set(ids)) > 1)
    list(ask(session, QUESTIONS[0]).pieces)  # and those above are over
    session.forget()
    read: list[int] = []
    for number, history in enumerate(histories * 2):
        before = base.num_read
        answer = session.ask(history, GREEDY)
        text = "".join(answer.pieces)
        known = len(answer.prompt_ids) + len(answer.ids) - 1 - (base.num_read - before)
        read.append(known - (shared if number < 5 else len(first[number - 5])))
        history += [Message("assistant", text), Message("user", "还有呢？")]

    # A first turn has the beginning in common with those before, a second its own first at least.
    assert read[:5] == [-shared, 0, 0, 0, 0]
    assert all(more >= -1 for more in read[5:])


def test_kept_texts_stay_few_and_forgetting_frees_them(
    folders: dict[str, Path], tokenizer: PreTrainedTokenizerFast
) -> None:
    session = ChatSession(load(folders["base"]), tokenizer)
    for number in range(MAX_KEPT + 5):
        list(ask(session, f"{number}?", replace(GREEDY, max_new_tokens=1)).pieces)

    answers = [ask(session, f"{n}{QUESTIONS[n % 5]}") for n in range(3 * MAX_RUNNING)]
    for answer in answers:
        list(answer.pieces)
    assert MAX_RUNNING <= len(session.engine._kept) <= MAX_KEPT
    session.forget()
    assert not session.engine._kept


def test_threads_get_the_answers_that_one_thread_gets(sessions: dict[str, ChatSession]) -> None:
    engine = Engine()
    engine.start()
    threaded = {
        name: ChatSession(session.variant, session.tokenizer, None, engine)
        for name, session in sessions.items()
    }
    expected = {name: alone(session, "头痛", DRAWN) for name, session in sessions.items()}
    found: list[tuple[str, list[int], str, str]] = []

    def talk(name: str) -> None:
        heard: list[str] = []
        is_over = threading.Event()
        answer = ask(threaded[name], "头痛", DRAWN)

        def hear() -> None:
            heard.append(answer.text)
            if answer.ended_by:
                is_over.set()

        answer.listen(hear)
        pieces = "".join(answer.pieces)
        assert is_over.wait(60)
        found.append((name, answer.ids, pieces, heard[-1]))

    threads = [threading.Thread(target=talk, args=(name,)) for name in expected for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)

    assert len(found) == len(threads)
    for name, ids, pieces, heard in found:
        assert ids == expected[name]
        assert pieces == heard


def test_error_in_the_engines_thread_ends_the_answers_and_not_the_engine(
    folders: dict[str, Path], tokenizer: PreTrainedTokenizerFast
) -> None:
    engine = Engine()
    session = ChatSession(load(folders["base"]), tokenizer, None, engine)
    hook = session.variant.base.model.register_forward_pre_hook(fail_with(RuntimeError("broken")))
    engine.start()
    with pytest.raises(Exception, match="the model failed"):
        list(ask(session, "头痛").pieces)
    hook.remove()

    answer = ask(session, "头痛")
    list(answer.pieces)
    assert answer.ids == alone(session, "头痛")


def test_memory_that_runs_out_before_an_answer_begins_is_said(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = ChatSession(model, tokenizer)
    with monkeypatch.context() as patch:
        patch.setattr(session.variant, "new_text", fail_with(torch.OutOfMemoryError("full")))
        answer = session.ask([Message("user", "头痛")], GREEDY)

        with pytest.raises(MemoryExhausted, match="no memory left after .* tokens"):
            list(answer.pieces)

    assert list(session.ask([Message("user", "头痛")], GREEDY).pieces)


def test_answer_that_nothing_can_be_drawn_for_ends_alone(
    folders: dict[str, Path], tokenizer: PreTrainedTokenizerFast
) -> None:
    session = ChatSession(load(folders["base"]), tokenizer)
    extreme = ask(session, "头痛", replace(DRAWN, repetition_penalty=1e-40))
    other = ask(session, "咳嗽", DRAWN)

    with pytest.raises(NonFiniteError, match="found some that are not finite"):
        list(extreme.pieces)
    list(other.pieces)

    assert (extreme.ended_by, other.ended_by) == (ERROR, LENGTH)
    assert other.ids == alone(session, "咳嗽", DRAWN)


def fail_with(error: Exception) -> Callable[..., None]:
    def fail(*_: Any) -> None:
        raise error

    return fail


# -- loops


def test_loop_is_a_short_unit_often_enough() -> None:
    ids = list(range(200))
    assert not is_loop(ids)
    assert is_loop([*ids, *[7] * 64])
    assert not is_loop([*ids, *[7] * 63])
    assert is_loop([*ids, *list(range(40)) * 4])
    assert not is_loop([*ids, *list(range(40)) * 3])
    assert not is_loop([*ids, *list(range(65)) * 6])


def test_answer_that_goes_round_in_circles_ends(tokenizer: PreTrainedTokenizerFast) -> None:
    ids = tokenizer("多喝水，", add_special_tokens=False)["input_ids"]
    session = scripted(tokenizer, ids * 100)

    answer = ask(session, "?", SamplingArguments(max_new_tokens=500))
    list(answer.pieces)

    assert answer.ended_by == REPETITION
    assert 64 <= len(answer.ids) <= 80


# -- other models


def test_sliding_window_is_that_of_generate(tokenizer: PreTrainedTokenizerFast) -> None:
    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=4096, hidden_size=64, intermediate_size=96, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, sliding_window=8, eos_token_id=None,
        max_position_embeddings=256,
    )  # fmt: skip
    model = AutoModelForCausalLM.from_config(config).eval()
    session = ChatSession(model, tokenizer)
    answer = ask(session, "头痛怎么办？")
    ids = torch.tensor([answer.prompt_ids])
    expected = model.generate(input_ids=ids, max_new_tokens=12, do_sample=False)
    list(answer.pieces)

    assert len(answer.prompt_ids) > 8
    assert answer.ids == expected[0, ids.size(1) :].tolist()


def test_model_whose_layers_keep_something_else_is_refused(
    folders: dict[str, Path], tokenizer: PreTrainedTokenizerFast
) -> None:
    model = load(folders["base"])
    model.config.layer_types = ["linear_attention", "full_attention"]

    with pytest.raises(ConfigError, match="cannot be kept: it has layers of linear_attention"):
        ChatSession(model, tokenizer)


def test_adapter_option_wants_an_adapter(folders: dict[str, Path]) -> None:
    chat = ChatArguments(adapter=str(folders["base"]))

    with pytest.raises(ConfigError, match="--adapter .*: expected the folder of an adapter"):
        load_sessions(ModelArguments(str(folders["base"])), chat, Engine())


def test_compared_adapter_with_tokens_of_its_own_is_refused(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("medtune.chat.loading.trained_ids", lambda folder: [4000])
    chat = ChatArguments(compare=[str(folders["two"])])

    with pytest.raises(ConfigError, match="--compare .*expected an adapter that shares the base"):
        load_sessions(ModelArguments(str(folders["base"])), chat, Engine())


def test_adapter_that_changes_the_base_for_all_is_refused(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    config = json.loads((Path(folders["one"]) / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(
        json.dumps(config | {"init_lora_weights": "pissa"})
    )

    with pytest.raises(ConfigError, match="expected an adapter for the base's own weights"):
        load_sessions(
            ModelArguments(str(folders["base"])), ChatArguments(adapter=str(tmp_path)), Engine()
        )


def test_whole_models_stand_beside_the_base(folders: dict[str, Path], tmp_path: Path) -> None:
    merged = lora_on(folders["base"]).merge_and_unload()
    merged.save_pretrained(tmp_path / "merged")
    for file in folders["base"].glob("*token*"):
        (tmp_path / "merged" / file.name).write_bytes(file.read_bytes())
    chat = ChatArguments(compare=[*[str(tmp_path / "merged")] * 2, str(folders["base"])])

    found = load_sessions(ModelArguments(str(folders["base"])), chat, Engine())

    assert list(found) == [folders["base"].name, "merged"]
    assert alone(found["merged"], "?") != alone(found[folders["base"].name], "?")
