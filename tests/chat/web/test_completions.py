"""The API as OpenAI's own client and a plain one see it.

References: the `openai` package, and the words that a fake session says.
"""

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from medtune.arguments import SamplingArguments
from medtune.chat.answer import STOP, Answer
from medtune.chat.web.delivery import Delivery, cut_at
from medtune.chat.web.refusals import to_json
from medtune.chat.web.replies import TIME
from medtune.chat.web.server import MAX_RENDERED
from medtune.common.errors import DataError, QuestionTooLong, QueueFull
from medtune.data.records import Message
from tests.chat.web.serving import (
    ADVICE,
    SECRET,
    FakeSession,
    Running,
    events,
    running,
    wait_until,
)

QUESTION: Any = [{"role": "user", "content": "头痛怎么办？"}]


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    """A server that no test changes."""
    with running() as server:
        yield server


# -- what the official client gets


def test_openai_client_gets_the_answer_and_its_usage(server: Running) -> None:
    reply = server.openai().chat.completions.create(model="tiny", messages=QUESTION)

    assert reply.choices[0].message.content == "你好，世界"
    assert reply.choices[0].finish_reason == "stop"
    assert reply.object == "chat.completion"
    assert reply.usage is not None
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (3, 3)
    about = reply.model_extra["medtune"]  # type: ignore[index]
    assert "120" in about.pop("disclaimer")
    assert about == {"advice": "", "num_left_out": 0, "ended_by": "stop"}


def test_openai_client_streams_the_same_text(server: Running) -> None:
    stream = server.openai().chat.completions.create(
        model="other", messages=QUESTION, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)

    assert chunks[0].choices[0].delta.role == "assistant"
    assert "disclaimer" in chunks[0].model_extra["medtune"]  # type: ignore[index]
    assert "".join(c.choices[0].delta.content or "" for c in chunks[:-1]) == "other"
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 4
    assert len({chunk.id for chunk in chunks}) == 1


def test_openai_client_lists_the_models_the_default_first(server: Running) -> None:
    assert [model.id for model in server.openai().models.list()] == ["tiny", "other"]
    about = server.http.get("/v1/models").json()["medtune"]
    assert about["context_length"] == {"tiny": 1024, "other": 1024}
    assert about["defaults"]["max_new_tokens"] == 40
    assert about["collects_preferences"] is False
    assert about["disclaimer"]["zh"].startswith("不是医疗器械")
    assert about["disclaimer"]["en"].startswith("Not a medical device")


@pytest.mark.parametrize(
    ("error", "status", "code", "raised"),
    [
        (QuestionTooLong("too long"), 400, "context_length_exceeded", openai.BadRequestError),
        (DataError("/srv/models/x: refused"), 400, None, openai.BadRequestError),
        (QueueFull("expected less"), 429, "queue_full", openai.RateLimitError),
        (KeyError(SECRET), 500, None, openai.InternalServerError),
    ],
)
def test_what_a_session_refuses_has_openais_error_class(
    error: Exception, status: int, code: str | None, raised: type[openai.APIStatusError]
) -> None:
    session = FakeSession()
    session.error = error
    with running(session) as server:
        with pytest.raises(raised) as caught:
            server.openai().chat.completions.create(model="tiny", messages=QUESTION)
        assert (caught.value.status_code, caught.value.code) == (status, code)
        assert SECRET not in str(caught.value)
        assert "/srv" not in str(caught.value)
        assert caught.value.response.headers.get("retry-after") == ("2" if status == 429 else None)
        assert server.ask("?", stream=True).status_code == status
        assert server.http.get("/health").json() == {"status": "ok"}


def test_model_that_fails_is_an_error_in_both_modes() -> None:
    with running(FakeSession("a", ended_by="error")) as server:
        client = server.openai()
        with pytest.raises(openai.InternalServerError):
            client.chat.completions.create(model="tiny", messages=QUESTION)
        stream = client.chat.completions.create(model="tiny", messages=QUESTION, stream=True)
        with pytest.raises(openai.APIError, match="could not finish"):
            list(stream)


# -- what the session is asked


def test_options_of_a_request_reach_the_session_and_no_other_request() -> None:
    with running() as server:
        given = {"temperature": 1, "top_p": 0.5, "top_k": 3, "seed": 7, "repetition_penalty": 1.1}
        assert server.ask("一", max_tokens=5, **given).status_code == 200
        assert server.ask("二", max_completion_tokens=6, temperature=None).status_code == 200

    (first, options), (second, others) = server.session.asked
    assert first == [Message("user", "一")]
    assert options == SamplingArguments(5, 1.0, 0.5, 3, 1.1, 7)
    assert isinstance(options.temperature, float)
    assert others == SamplingArguments(max_new_tokens=6)


def test_content_in_parts_and_fields_that_ask_for_nothing_are_taken() -> None:
    parts = [{"type": "text", "text": "一"}, {"type": "text", "text": "二"}]
    messages = [
        {"role": "system", "content": " "},
        {"role": "user", "content": parts, "name": None},
    ]
    nothing = {
        "n": 1, "presence_penalty": 0.0, "frequency_penalty": 0, "logprobs": False, "tools": [],
        "user": "u", "metadata": {"a": "b"}, "stop": None, "response_format": {"type": "text"},
    }  # fmt: skip
    with running(system="你是医生。") as server:
        reply = server.http.post("/v1/chat/completions", json={"messages": messages, **nothing})
        assert reply.status_code == 200
        assert server.session.asked[0][0][0] == Message("system", "你是医生。")
        messages[0]["content"] = "别的"
        server.http.post("/v1/chat/completions", json={"messages": messages})

    assert server.session.asked[0][0] == [
        Message("system", "你是医生。"),
        Message("user", "一\n二"),
    ]
    assert server.session.asked[1][0][0] == Message("system", "别的")


def test_advice_comes_before_the_answer_and_does_not_reach_the_model() -> None:
    with running() as server:
        whole = server.ask("胸痛").json()
        text = whole["choices"][0]["message"]["content"]
        first, *_ = events(server.ask("胸痛", stream=True))
        for sent_back in (text, ADVICE):
            server.ask("胸痛", sent_back, "然后？")
        server.ask("头痛", text, "然后？")

    assert text == f"{ADVICE}\n\n你好，世界"
    assert whole["medtune"]["advice"] == first["medtune"]["advice"] == ADVICE
    assert first["choices"][0]["delta"]["content"] == f"{ADVICE}\n\n"
    answers = [messages[1].content for messages, _ in server.session.asked[2:]]
    assert answers == ["你好，世界", "", text]


# -- how it ends


@pytest.mark.parametrize(
    ("ended_by", "reason"),
    [("stop", "stop"), ("length", "length"), ("context", "length"), ("repetition", "length")],
)
def test_end_of_an_answer_is_told_in_openais_words_and_exactly(ended_by: str, reason: str) -> None:
    with running(FakeSession("a", ended_by=ended_by)) as server:
        whole, *_, last = [server.ask("?").json(), *events(server.ask("?", stream=True))]

    for reply in (whole, last):
        assert reply["choices"][0]["finish_reason"] == reason
        assert reply["medtune"]["ended_by"] == ended_by


@pytest.mark.parametrize("is_stream", [False, True])
def test_answer_without_end_is_cut_when_its_time_is_up(is_stream: bool) -> None:
    session = FakeSession(*["字"] * 10_000, pause=0.05)
    with running(session, max_seconds=0.5) as server:
        started = time.monotonic()
        reply = server.ask("?", stream=is_stream)
        seconds = time.monotonic() - started
        last = events(reply)[-1] if is_stream else reply.json()
        assert session.answers[0].cancelled.wait(1)

    assert 0.4 < seconds < 2
    assert last["choices"][0]["finish_reason"] == "length"
    assert last["medtune"]["ended_by"] == "time"
    assert reply.text.count("字") >= 3


def test_time_of_an_answer_begins_before_its_question_is_rendered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seconds: list[float] = []

    def note(answer: Answer, stops: tuple[str, ...], max_seconds: float) -> Delivery:
        seconds.append(max_seconds)
        return Delivery(answer, stops, max_seconds)

    monkeypatch.setattr("medtune.chat.web.server.Delivery", note)
    session = FakeSession("字")
    session.before = lambda: time.sleep(0.3)
    with running(session, max_seconds=30) as server:
        server.ask("?")

    assert 0 < seconds[0] <= 30 - 0.3


def test_answer_that_has_ended_stays_whole_however_slowly_it_is_read() -> None:
    async def read() -> tuple[str, str]:
        answer = Answer([1], 0)
        delivery = Delivery(answer, (), 100)
        answer.grow("头痛")
        answer.end(STOP)
        delivery.break_off(TIME)
        return "".join([piece async for piece in delivery.pieces()]), delivery.ended_by

    assert asyncio.run(read()) == ("头痛", STOP)


@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize("num_words", [0, 10_000])
def test_client_that_leaves_frees_its_place_within_a_second(
    is_stream: bool, num_words: int
) -> None:
    session = FakeSession(*["字"] * num_words, "", pause=0.02 if num_words else 30)
    body = json.dumps({"messages": QUESTION, "stream": is_stream}).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: {{}}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    with running(session) as server:
        connection = server.raw(head.format(server.url[7:]).encode() + body)
        assert wait_until(lambda: session.answers, 5)
        time.sleep(0.1)
        assert not session.answers[0].cancelled.is_set()
        connection.close()
        assert session.answers[0].cancelled.wait(1)


def test_client_that_leaves_while_its_question_is_rendered_is_not_answered() -> None:
    session = FakeSession("a", pause=30)
    is_rendered = threading.Event()
    session.before = lambda: is_rendered.wait(10)
    with running(session) as server:
        body = json.dumps({"messages": QUESTION}).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {server.url[7:]}\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        server.raw(head.encode() + body).close()
        time.sleep(0.2)
        is_rendered.set()
        assert wait_until(lambda: session.answers, 5)
        assert session.answers[0].cancelled.wait(1)


def test_first_word_of_a_stream_comes_before_the_last_is_there() -> None:
    session = FakeSession("一", "二", "三", pause=0.3)
    with running(session) as server:
        body = {"messages": QUESTION, "stream": True}
        with server.http.stream("POST", "/v1/chat/completions", json=body) as reply:
            lines = (line for line in reply.iter_lines() if line)
            assert "medtune" in next(lines)
            assert "一" in next(lines)
            assert session.answers[0].text == "一"
            assert sum(1 for _ in lines) == 4  # two words, the end, [DONE]


def test_words_that_come_together_are_sent_together() -> None:
    with running(FakeSession(*["字"] * 500, pause=0.001)) as server:
        chunks = events(server.ask("?", stream=True))

    assert sum(c["choices"][0]["delta"].get("content", "").count("字") for c in chunks) == 500
    assert len(chunks) < 100


# -- stops


@pytest.mark.parametrize("is_stream", [False, True])
def test_stop_text_ends_the_answer_wherever_its_pieces_are_cut(is_stream: bool) -> None:
    session = FakeSession("一", "E", "N", "二E", "ND", "三", pause=0.05)
    with running(session) as server:
        reply = server.ask("?", stream=is_stream, stop="END")
    last = events(reply)[-1] if is_stream else reply.json()

    if is_stream:
        text = "".join(c["choices"][0]["delta"].get("content", "") for c in events(reply))
    else:
        text = last["choices"][0]["message"]["content"]
    assert text == "一EN二"
    assert last["choices"][0]["finish_reason"] == "stop"
    assert session.answers[0].cancelled.is_set()


@pytest.mark.parametrize(
    ("text", "stops", "is_over", "expected"),
    [
        ("abc", (), False, ("abc", False)),
        ("a. EN", ("END",), False, ("a. ", False)),
        ("a. EN", ("END",), True, ("a. EN", False)),
        ("a\nb", ("b", "\n"), False, ("a", True)),
        ("aa", ("aab",), False, ("", False)),
    ],
)
def test_text_that_a_stop_may_begin_with_is_held_back(
    text: str, stops: tuple[str, ...], is_over: bool, expected: tuple[str, bool]
) -> None:
    assert cut_at(text, stops, is_over) == expected


def test_an_event_is_one_line_to_every_client() -> None:
    text = "a\u2028b\u2029c\x85d\r\n\x1c"

    assert len(to_json(text).splitlines()) == 1
    assert json.loads(to_json(text)) == text


# -- what is refused, by its name


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tools", [{"type": "function"}]),
        ("tool_choice", "auto"),
        ("n", 2),
        ("logprobs", True),
        ("logit_bias", {"5": 1}),
        ("presence_penalty", 0.5),
        ("response_format", {"type": "json_object"}),
        ("functions", [{}]),
        ("bogus", 1),
        ("temperature", -1),
        ("temperature", "hot"),
        ("temperature", True),
        ("temperature", 10**400),
        ("top_p", 0),
        ("top_k", 1.5),
        ("seed", -1),
        ("max_tokens", 0),
        ("max_tokens", []),
        ("stream", "yes"),
        ("stream_options", {"other": 1}),
        ("stream_options", [1]),
        ("stop", ["a"] * 5),
        ("stop", ""),
        ("stop", [1]),
        ("stop", 7),
        ("stop", False),
        ("stream_options", []),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(server: Running, field: str, value: Any) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        server.openai().chat.completions.create(
            model="tiny", messages=QUESTION, extra_body={field: value}
        )

    assert caught.value.param == field
    assert caught.value.type == "invalid_request_error"
    assert field in caught.value.message


@pytest.mark.parametrize("model", ["gpt-4", 7, ["tiny"], {"a": 1}])
def test_unknown_model_is_not_found(server: Running, model: Any) -> None:
    with pytest.raises(openai.NotFoundError, match="tiny, other"):
        server.openai().chat.completions.create(model=model, messages=QUESTION)


USER = {"role": "user", "content": "?"}


@pytest.mark.parametrize(
    ("messages", "place"),
    [
        (None, "messages"),
        ([], "messages"),
        ("hello", "messages"),
        ([7], "messages[0]"),
        ([[]], "messages[0]"),
        ([{"role": "tool", "content": "a"}], "messages[0].role"),
        ([{"role": ["user"], "content": "a"}], "messages[0].role"),
        ([{"role": "user", "content": " "}], "messages[0].content"),
        ([{"role": "user", "content": None}], "messages[0].content"),
        ([{"role": "user"}], "messages[0].content"),
        ([{"role": "user", "content": "\ud800"}], "messages[0].content"),
        ([{"role": "user", "content": "a" * (1 << 18) + "b"}], "messages[0].content"),
        ([{**USER, "content": [{"type": "image_url"}]}], "messages[0].content[0]"),
        ([{**USER, "content": [{"type": "text", "text": 7}]}], "messages[0].content[0]"),
        ([{**USER, "content": [["text"]]}], "messages[0].content[0]"),
        ([{**USER, "name": "Li"}], "messages[0].name"),
        (
            [USER, {"role": "assistant", "content": "a", "tool_calls": [1]}],
            "messages[1].tool_calls",
        ),
        ([USER, USER], "messages"),
        ([USER, {"role": "system", "content": "s"}, USER], "messages"),
        ([USER, {"role": "assistant", "content": "a"}], "messages"),
        ([{"role": "system", "content": "s"}], "messages"),
        ([{"role": "system", "content": ""}], "messages"),
        (
            [{"role": "system", "content": ""}, {"role": "user", "content": 7}],
            "messages[1].content",
        ),
        ([{"role": "system", "content": "\ud800"}, USER], "messages[0].content"),
        ([USER] * 1000, "messages"),
    ],
)
def test_conversation_that_is_none_is_refused_with_its_place(
    server: Running, messages: Any, place: str
) -> None:
    reply = server.http.post(
        "/v1/chat/completions",
        content=json.dumps({"messages": messages}),
        headers={"Content-Type": "application/json"},
    )

    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == place
    assert reply.json()["error"]["message"].startswith(f"{place}: ")
    assert len(reply.text) < 400


def test_two_limits_of_tokens_that_differ_are_refused(server: Running) -> None:
    assert server.ask("?", max_tokens=5, max_completion_tokens=5).status_code == 200
    assert server.ask("?", max_tokens=5, max_completion_tokens=6).status_code == 400


def test_questions_that_wait_beyond_the_queue_are_429_and_others_are_answered() -> None:
    session = FakeSession("a")
    may_render = threading.Event()
    session.before = lambda: may_render.wait(20)
    with running(session, max_queue=1) as server:
        statuses: list[int] = []
        threads = [
            threading.Thread(target=lambda: statuses.append(server.ask("?").status_code))
            for _ in range(MAX_RENDERED + 4)
        ]
        for thread in threads:
            thread.start()
        assert wait_until(lambda: statuses.count(429) == 3, 10)
        assert server.http.get("/health").status_code == 200  # nobody else waits
        may_render.set()
        for thread in threads:
            thread.join(10)

    assert sorted(statuses) == [200] * (MAX_RENDERED + 1) + [429] * 3
