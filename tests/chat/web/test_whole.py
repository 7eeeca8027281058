"""`chat.py --web` as a program with a model and its adapter: API, page, load, and how it ends.

Reference: the session asked directly.
"""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from medtune.arguments import ChatArguments, ModelArguments, SamplingArguments
from medtune.chat.engine import MAX_RUNNING, Engine
from medtune.chat.loading import load_sessions
from medtune.chat.session import ChatSession
from medtune.data.formats.preferences import preference_from_row
from medtune.data.records import Message, Source
from medtune.safety.red_flags import advice_for
from tests.browser import Browser, find_chromium
from tests.chat.conftest import LEARNT, lora_on
from tests.conftest import REPO

SYSTEM, QUESTION = LEARNT[0].content, LEARNT[1].content


@dataclass
class Whole:
    """The program, and the sessions that it should answer like."""

    process: subprocess.Popen[str]
    url: str
    folder: Path
    sessions: dict[str, ChatSession]
    log: list[str]

    def client(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0, timeout=60)


@pytest.fixture(scope="module")
def whole(learnt_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Whole]:
    folder = tmp_path_factory.mktemp("whole")
    tuned = lora_on(learnt_folder)
    for name, weight in tuned.named_parameters():
        if "lora_B" in name:
            weight.data *= 5  # enough to say something else
    tuned.save_pretrained(folder / "tuned")
    process = subprocess.Popen(
        [sys.executable, str(REPO / "chat.py"), "--model_name_or_path", str(learnt_folder),
         "--adapter", "tuned", "--system", SYSTEM, "--web", "--port", "0",
         "--preferences_file", "votes.jsonl"],
        cwd=folder, env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout and process.stderr
    log: list[str] = []
    reader = threading.Thread(target=lambda: log.extend(process.stderr or ()), daemon=True)
    reader.start()
    url = process.stdout.readline().strip().rstrip("/")
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+", url), "".join(log)
    chat = ChatArguments(adapter=str(folder / "tuned"))
    sessions = load_sessions(ModelArguments(str(learnt_folder)), chat, Engine())
    yield Whole(process, url, folder, sessions, log)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0
    reader.join()
    said = "".join(log)
    assert "Traceback" not in said
    assert not any(message.content in said for message in LEARNT)


def direct(session: ChatSession, options: SamplingArguments, *turns: Message) -> str:
    """What the session says to the same, asked alone."""
    return "".join(session.ask([Message("system", SYSTEM), *turns], options).pieces)


def test_programs_get_what_the_session_says(whole: Whole) -> None:
    client = whole.client()
    names = [model.id for model in client.models.list()]
    assert names == list(whole.sessions)
    for name in names:
        turns = [Message("user", QUESTION)]
        for options in (
            SamplingArguments(max_new_tokens=30),
            SamplingArguments(max_new_tokens=30, temperature=0.9, top_p=0.8, seed=3),
        ):
            asked: dict[str, Any] = {
                "model": name, "max_tokens": 30, "seed": options.seed,
                "temperature": options.temperature, "top_p": options.top_p,
                "messages": [turn.to_dict() for turn in turns],
            }  # fmt: skip
            whole_reply = client.chat.completions.create(**asked)
            pieces = client.chat.completions.create(stream=True, **asked)
            streamed = "".join(chunk.choices[0].delta.content or "" for chunk in pieces)

            expected = direct(whole.sessions[name], options, *turns)
            assert whole_reply.choices[0].message.content == streamed == expected
            turns += [Message("assistant", expected or "-"), Message("user", "能吃布洛芬吗？")]


def test_advice_comes_first_and_never_reaches_the_model(whole: Whole) -> None:
    question = "我突然胸痛，出冷汗"
    advice = advice_for(question)
    client, options = whole.client(), SamplingArguments(max_new_tokens=10)
    asked = [{"role": "user", "content": question}]

    reply = client.chat.completions.create(model="tuned", messages=asked, max_tokens=10)  # type: ignore[arg-type]

    said = direct(whole.sessions["tuned"], options, Message("user", question))
    content = reply.choices[0].message.content or ""
    assert advice and content == f"{advice}\n\n{said}"
    assert reply.model_extra and reply.model_extra["medtune"]["advice"] == advice
    asked += [{"role": "assistant", "content": content}, {"role": "user", "content": "还有呢？"}]
    again = client.chat.completions.create(model="tuned", messages=asked, max_tokens=10)  # type: ignore[arg-type]
    turns = [Message("user", question), Message("assistant", said), Message("user", "还有呢？")]
    assert again.choices[0].message.content == direct(whole.sessions["tuned"], options, *turns)


def test_fifty_at_once_are_answered_or_told_to_wait(whole: Whole) -> None:
    def ask(number: int) -> int:
        body = {"messages": [{"role": "user", "content": f"第{number}问"}], "max_tokens": 20}
        return httpx.post(f"{whole.url}/v1/chat/completions", json=body, timeout=60).status_code

    with ThreadPoolExecutor(50) as pool:
        found = list(pool.map(ask, range(50)))

    assert set(found) <= {200, 429}
    assert found.count(200) >= MAX_RUNNING


def test_clients_that_leave_free_their_places_within_a_second(whole: Whole) -> None:
    streams = [
        whole.client().chat.completions.create(
            model="tuned", stream=True, max_tokens=900,
            messages=[{"role": "user", "content": f"第{number}问"}],
            extra_body={"repetition_penalty": 1.5},
        )
        for number in range(MAX_RUNNING)
    ]  # fmt: skip
    for stream in streams:
        next(iter(stream))
    for stream in streams:
        stream.close()

    started = time.monotonic()
    body = {"messages": [{"role": "user", "content": "头痛"}], "max_tokens": 1}
    reply = httpx.post(f"{whole.url}/v1/chat/completions", json=body, timeout=60)

    assert reply.status_code == 200
    assert time.monotonic() - started < 1


@pytest.mark.skipif(find_chromium() is None, reason="no Chromium is installed")
def test_page_asks_two_models_and_a_vote_is_a_row_for_dpo(whole: Whole, tmp_path: Path) -> None:
    base = list(whole.sessions)[1]
    with Browser(find_chromium() or "", tmp_path) as browser:
        browser.open(f"{whole.url}/", 1280)
        browser.wait("document.querySelector('#model').options.length == 2")
        browser.evaluate(
            f"document.getElementById('other').value = {json.dumps(base)};"
            "document.getElementById('other').dispatchEvent(new Event('change'))"
        )
        browser.click("#ask")
        browser.type(QUESTION)
        browser.press("Enter")
        browser.wait("document.querySelectorAll('.answer[aria-busy=false] .text').length == 2", 60)
        answers = browser.evaluate(
            "[...document.querySelectorAll('.answer .text')].map((one) => one.innerText.trim())"
        )
        browser.click(".answer:last-child [data-action='up']")
        wait_for_file(whole.folder / "votes.jsonl")
        assert browser.problems == []

    options = SamplingArguments()
    expected = [direct(s, options, Message("user", QUESTION)) for s in whole.sessions.values()]
    assert answers[1] == expected[1] == LEARNT[2].content
    (line,) = (whole.folder / "votes.jsonl").read_text(encoding="utf-8").splitlines()
    row = json.loads(line)
    assert row == {
        "system": SYSTEM, "history": [], "question": QUESTION,
        "response_chosen": expected[1], "response_rejected": expected[0],
    }  # fmt: skip
    preference_from_row(row, Source("votes.jsonl", 1))


def wait_for_file(path: Path) -> None:
    """Wait until a file has content."""
    end = time.monotonic() + 20
    while not (path.exists() and path.stat().st_size) and time.monotonic() < end:
        time.sleep(0.05)
