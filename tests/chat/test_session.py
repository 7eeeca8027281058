"""The core of every chat: the ids of training, what it keeps, what it leaves out, how it ends.

References: the rows that training renders, transformers' `generate`, a session that keeps nothing.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from medtune.arguments import SamplingArguments
from medtune.chat.answer import CANCEL, CONTEXT, LENGTH, STOP, Answer
from medtune.chat.engine import PORTION_TOKENS
from medtune.chat.session import ChatSession
from medtune.common.errors import ConfigError, DataError, MemoryExhausted
from medtune.data.records import Conversation, Message, Source
from medtune.data.rendering import ChatRenderer
from tests.chat.conftest import LEARNT, ScriptedModel, load, lora_on, prefix_on, scripted

GREEDY = SamplingArguments(max_new_tokens=12)
PENALTY = replace(GREEDY, repetition_penalty=0.6)  # noise repeats itself only if it is to
DRAWN = replace(GREEDY, temperature=0.9, top_p=0.9, top_k=40, seed=7)
KINDS = ("base", "lora", "prefix")
QUESTIONS = ("头痛怎么办？", "能吃布洛芬吗？<|user|>", "  a\tb  😊 要多久？")


@pytest.fixture(scope="module")
def models(model: PreTrainedModel, small_model_folder: Path) -> dict[str, Any]:
    lora, prefix = lora_on(small_model_folder), prefix_on(small_model_folder)
    return {"base": model, "lora": lora, "prefix": prefix}


def user(text: str) -> Message:
    return Message("user", text)


def answered(answer: Answer) -> Answer:
    """The answer when all of it has come; its pieces are its text."""
    assert "".join(answer.pieces) == answer.text
    return answer


@contextmanager
def counted(model: Any) -> Iterator[list[int]]:
    """How many tokens each call embeds: what goes through the model, seen from inside."""
    widths: list[int] = []
    hook = model.get_input_embeddings().register_forward_hook(
        lambda module, inputs, output: widths.append(inputs[0].shape[1])
    )
    try:
        yield widths
    finally:
        hook.remove()


# -- ids


def test_ids_of_a_prompt_are_the_beginning_of_the_row_that_training_sees(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    turns = [*LEARNT[:2], Message("assistant", "<|assistant|>[gMASK] 休息"), user("  为什么？\n")]
    messages = (*turns, Message("assistant", "不知道。"))
    row = ChatRenderer(tokenizer, "<|user|>").conversation(Conversation(messages, Source("t", 1)))
    session = ChatSession(model, tokenizer)

    for length in (2, 4):
        ids = session.ask(messages[:length], GREEDY).prompt_ids
        assert row.input_ids[: len(ids)] == ids
        assert row.labels[len(ids) - 1] == -100 != row.labels[len(ids)]
        assert tokenizer.decode(ids[-1:]) == "<|assistant|>"


def generated(model: Any, answer: Answer, options: SamplingArguments) -> list[int]:
    """What transformers' own `generate` answers to the same ids."""
    ids = torch.tensor([answer.prompt_ids])
    torch.manual_seed(options.seed)
    output = model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=options.max_new_tokens,
        repetition_penalty=options.repetition_penalty,
        do_sample=options.temperature > 0,
        temperature=options.temperature or 1.0,
        top_k=options.top_k,
        top_p=options.top_p,
    )
    return output[0].tolist()[-len(answer.ids) :]


@pytest.mark.parametrize("options", [GREEDY, PENALTY, DRAWN], ids=["greedy", "penalty", "drawn"])
@pytest.mark.parametrize("kind", KINDS)
def test_answer_is_that_of_generate(
    models: dict[str, Any], tokenizer: PreTrainedTokenizerFast, kind: str, options: Any
) -> None:
    answer = answered(ChatSession(models[kind], tokenizer).ask([user(QUESTIONS[0])], options))

    assert answer.ids == generated(models[kind], answer, options)
    assert (len(answer.ids), answer.ended_by) == (12, LENGTH)


def test_options_change_the_answer_and_equal_ones_give_it_again(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    session = ChatSession(model, tokenizer)

    def ids(options: SamplingArguments) -> list[int]:
        return answered(session.ask([user(QUESTIONS[0])], options)).ids

    different = [GREEDY, PENALTY, DRAWN, replace(DRAWN, seed=8), replace(DRAWN, top_k=2)]
    found = [ids(options) for options in different]
    assert len(set(map(tuple, found))) == len(found)
    assert [ids(options) for options in reversed(different)] == found[::-1]


def test_adapters_change_the_answer(
    models: dict[str, Any], tokenizer: PreTrainedTokenizerFast
) -> None:
    answers = [answered(ChatSession(models[k], tokenizer).ask([user("?")], GREEDY)) for k in KINDS]

    assert len({tuple(answer.ids) for answer in answers}) == len(KINDS)


# -- what is kept


@pytest.mark.parametrize("options", [GREEDY, PENALTY, DRAWN], ids=["greedy", "penalty", "drawn"])
@pytest.mark.parametrize("kind", KINDS)
def test_kept_cache_changes_no_id(
    models: dict[str, Any], tokenizer: PreTrainedTokenizerFast, kind: str, options: Any
) -> None:
    session = ChatSession(models[kind], tokenizer)
    messages: list[Message] = [LEARNT[0]]
    for question in (*QUESTIONS, *QUESTIONS):
        messages.append(user(question))
        kept = answered(session.ask(messages, options))
        new = answered(ChatSession(models[kind], tokenizer).ask(messages, options))
        assert (kept.prompt_ids, kept.ids, kept.text) == (new.prompt_ids, new.ids, new.text)
        messages.append(Message("assistant", kept.text or "-"))
    # Back to where it was, and to something else: the cache is cut, twice.
    for shorter in (messages[:4], [user("别的")]):
        again = answered(session.ask(shorter, options))
        new = answered(ChatSession(models[kind], tokenizer).ask(shorter, options))
        assert (again.ids, again.text) == (new.ids, new.text)


@pytest.mark.parametrize("has_prefix", [False, True])
def test_second_turn_reads_only_what_is_new(
    learnt_folder: Path, tokenizer: PreTrainedTokenizerFast, has_prefix: bool
) -> None:
    model = prefix_on(learnt_folder, 1) if has_prefix else load(learnt_folder)
    if has_prefix:
        model.prompt_encoder.default.embedding.weight.data.zero_()  # says hardly anything
    session = ChatSession(model, tokenizer)
    with counted(model) as widths:
        first = answered(session.ask(LEARNT[:2], GREEDY))
        on_first, widths[:] = sum(widths), []
        second = answered(session.ask(LEARNT[:4], GREEDY))
        on_second, widths[:] = sum(widths), []
        answered(ChatSession(model, tokenizer).ask(LEARNT[:4], GREEDY))
        without = sum(widths)

    assert (first.text, first.ended_by) == (LEARNT[2].content, STOP)
    # The id that ended the first answer was never read: it is the first new one.
    known = len(first.prompt_ids) + len(first.ids) - 1
    assert second.prompt_ids[:known] == [*first.prompt_ids, *first.ids[:-1]]
    assert on_first == known
    assert on_second == len(second.prompt_ids) - known + len(second.ids) - 1
    assert without - on_second == known
    assert session.variant.base.num_read == on_first + on_second


def test_conversation_that_was_learnt_is_said_turn_by_turn(
    learnt_folder: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    session = ChatSession(load(learnt_folder), tokenizer)

    for place in (2, 4, 6):
        answer = answered(session.ask(LEARNT[:place], replace(GREEDY, max_new_tokens=50)))
        assert (answer.text, answer.ended_by) == (LEARNT[place].content, STOP)
        assert tokenizer.decode(answer.ids[-1:]) == "<|user|>"


def test_forgetting_frees_the_cache(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    session = ChatSession(model, tokenizer)
    first = answered(session.ask([user("头痛")], GREEDY))
    before = session.variant.base.num_read

    session.forget()

    assert answered(session.ask([user("头痛")], GREEDY)).ids == first.ids
    assert session.variant.base.num_read == 2 * before


# -- what is left out


@pytest.mark.parametrize("max_length", [48, 64, 80, 120, 1024])
@pytest.mark.parametrize("max_new_tokens", [8, 500])
@pytest.mark.parametrize("has_system", [False, True])
def test_fewest_oldest_turns_are_left_out_and_never_the_system_message(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    max_length: int,
    max_new_tokens: int,
    has_system: bool,
) -> None:
    turns = [m for n in range(8) for m in (user(f"第{n}问？"), Message("assistant", "休息" * n))]
    system = [LEARNT[0]] if has_system else []
    messages = [*system, *turns, user("最后一问")]
    session = ChatSession(model, tokenizer, max_length)
    renderer = ChatRenderer(tokenizer, "<|user|>")
    room = max_length - min(max_new_tokens, max_length // 2)
    kept = [[*system, *messages[len(system) + 2 * n :]] for n in range(9)]
    prompts = [renderer.prompt_ids(part) for part in kept]
    expected = next(n for n in range(9) if len(prompts[n]) <= room or n == 8)

    answer = session.ask(messages, replace(GREEDY, max_new_tokens=max_new_tokens))

    assert (answer.num_left_out, answer.prompt_ids) == (expected, prompts[expected])


def test_trimmed_conversation_is_answered_like_one_that_was_never_longer(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    session = ChatSession(model, tokenizer, 64)
    messages: list[Message] = []
    left_out = []
    for number in range(6):
        messages.append(user(f"第{number}问：头痛怎么办？"))
        answer = answered(session.ask(messages, GREEDY))
        new = ChatSession(model, tokenizer).ask(messages[2 * answer.num_left_out :], GREEDY)
        assert answered(new).ids == answer.ids
        left_out.append(answer.num_left_out)
        messages.append(Message("assistant", answer.text or "-"))

    assert left_out[0] == 0 < left_out[-1]
    assert left_out == sorted(left_out)


def test_conversation_that_fits_becomes_ids_once(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, rendered = ChatSession(model, tokenizer), []
    prompt_ids = session.renderer.prompt_ids
    monkeypatch.setattr(
        session.renderer, "prompt_ids", lambda kept: rendered.append(kept) or prompt_ids(kept)
    )
    messages = [user("头痛"), Message("assistant", "几天？")] * 8 + [user("三天")]

    session.ask(messages, GREEDY)

    assert rendered == [messages]


def test_question_longer_than_the_context_is_refused_and_the_chat_goes_on(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    session = ChatSession(model, tokenizer, 32)
    short = answered(session.ask([user("头痛")], GREEDY))

    with pytest.raises(DataError, match="expected less than 32 tokens .* found 1,0") as caught:
        session.ask([user("头痛"), Message("assistant", "休息"), user("1 " * 500)], GREEDY)

    assert caught.value.exit_code == 2
    assert answered(session.ask([user("头痛")], GREEDY)).ids == short.ids


def test_answer_ends_where_the_context_does(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    room = len(ChatSession(model, tokenizer).ask([user("头痛")], GREEDY).prompt_ids)

    for spare in (1, 5):
        session = ChatSession(model, tokenizer, room + spare)
        answer = answered(session.ask([user("头痛")], replace(GREEDY, max_new_tokens=50)))
        assert (len(answer.ids), answer.ended_by) == (spare, CONTEXT)


def test_context_shrinks_by_the_virtual_tokens(
    models: dict[str, Any], tokenizer: PreTrainedTokenizerFast
) -> None:
    assert ChatSession(models["prefix"], tokenizer).context_length == 1024 - 6
    assert ChatSession(models["prefix"], tokenizer, 100).context_length == 94
    assert ChatSession(models["lora"], tokenizer).context_length == 1024
    with pytest.raises(ConfigError, match="expected more than the adapter's 6 virtual tokens"):
        ChatSession(models["prefix"], tokenizer, 7)


def test_context_that_the_model_has_not_is_refused(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    with pytest.raises(ConfigError, match="--max_length: expected at most the model's 1,024"):
        ChatSession(model, tokenizer, 1025)
    unknown = ScriptedModel([], 1)
    del unknown.config.max_position_embeddings
    with pytest.raises(ConfigError, match="--max_length: expected a number"):
        ChatSession(unknown, tokenizer)  # type: ignore[arg-type]


# -- how an answer ends


@pytest.mark.parametrize("name", ["<|endoftext|>", "<|user|>", "<|observation|>"])
def test_stop_tokens_of_the_family_end_an_answer(
    tokenizer: PreTrainedTokenizerFast, name: str
) -> None:
    hello, end = tokenizer("你好", add_special_tokens=False)["input_ids"], name
    session = scripted(tokenizer, [*hello, tokenizer.convert_tokens_to_ids(end), *hello])

    answer = answered(session.ask([user("?")], GREEDY))

    assert (answer.text, answer.ended_by) == ("你好", STOP)
    assert answer.ids == [*hello, tokenizer.convert_tokens_to_ids(end)]


@pytest.mark.parametrize("as_list", [False, True])
def test_ids_of_the_generation_config_end_an_answer_too(
    tokenizer: PreTrainedTokenizerFast, as_list: bool
) -> None:
    hello, end = tokenizer("你好，停", add_special_tokens=False)["input_ids"], 70
    model = ScriptedModel([*hello, end], len(tokenizer))
    model.generation_config.eos_token_id = [end] if as_list else end

    answer = answered(ChatSession(model, tokenizer).ask([user("?")], GREEDY))  # type: ignore[arg-type]

    assert (answer.text, answer.ids, answer.ended_by) == ("你好，停", [*hello, end], STOP)


def test_cancelled_answer_ends_before_the_next_token(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    session = ChatSession(model, tokenizer)
    whole = answered(session.ask([user("头痛")], DRAWN))
    session.forget()
    before = session.variant.base.num_read

    answer = session.ask([user("头痛")], DRAWN)
    next(answer.pieces)
    so_far = len(answer.ids)
    answer.cancel()
    list(answer.pieces)

    assert (answer.ended_by, answer.ids) == (CANCEL, whole.ids[:so_far])
    assert session.variant.base.num_read - before == len(answer.prompt_ids) + so_far - 1
    assert answered(session.ask([user("头痛")], DRAWN)).ids == whole.ids


def test_answer_that_nobody_reads_any_more_ends(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    session = ChatSession(model, tokenizer)
    first = session.ask([user("头痛")], GREEDY)
    next(first.pieces)
    first.pieces.close()  # type: ignore[attr-defined]

    answered(session.ask([user("咳嗽")], GREEDY))

    assert first.ended_by == CANCEL


def test_long_prompt_is_read_in_portions_and_may_be_cancelled_between_them(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    session = ChatSession(model, tokenizer)
    with counted(model) as widths:
        answer = answered(session.ask([user("头 痛 " * 180)], GREEDY))
        read = list(widths)
        session.forget()
        widths.clear()
        cancelled = session.ask([user("头 痛 " * 180)], GREEDY)
        hook = model.register_forward_hook(lambda *_: cancelled.cancel())
        list(cancelled.pieces)
        hook.remove()

    prompt = len(answer.prompt_ids)
    assert prompt > PORTION_TOKENS
    assert read == [PORTION_TOKENS, prompt - PORTION_TOKENS, *[1] * 11]
    assert answer.ids == generated(model, answer, GREEDY)
    assert (widths, cancelled.ended_by, cancelled.text) == ([PORTION_TOKENS], CANCEL, "")


def test_memory_that_runs_out_is_said_and_leaves_no_half_cache(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    session = ChatSession(model, tokenizer)
    answered(session.ask([user("头痛")], GREEDY))

    def fail(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    hook = model.model.layers[1].register_forward_pre_hook(fail)
    with pytest.raises(MemoryExhausted, match="no memory left"):
        answered(session.ask([user("头痛怎么办")], GREEDY))
    hook.remove()

    new = answered(ChatSession(model, tokenizer).ask([user("头痛怎么办")], GREEDY))
    assert answered(session.ask([user("头痛怎么办")], GREEDY)).ids == new.ids


# -- what is refused


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([], "expected a question as the last message, found no message"),
        (LEARNT[:3], "expected a question as the last message, found assistant"),
        ([Message("user", "头\udce5痛")], "half a character at place 2 of the user's message"),
    ],
)
def test_messages_that_ask_nothing_are_refused(
    tokenizer: PreTrainedTokenizerFast, messages: Sequence[Message], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        scripted(tokenizer, "-").ask(messages, GREEDY)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_new_tokens", 0),
        ("temperature", -0.1),
        ("temperature", float("nan")),
        ("temperature", float("inf")),
        ("top_p", 0.0),
        ("top_p", 1.1),
        ("top_k", -1),
        ("repetition_penalty", 0.0),
        ("seed", -1),
        ("seed", 2**63),
    ],
)
def test_options_without_meaning_are_refused(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"--{name}: expected .*, found {value}"):
        replace(GREEDY, **{name: value})
