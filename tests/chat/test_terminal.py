"""The chat at a terminal and in a pipe: commands, the log, what a model's text may not do.

References: a session asked directly, and the files that are left behind.
"""

import codecs
import io
import json
import os
import pty
import re
import select
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedModel, PreTrainedTokenizerFast

import chat
from medtune.arguments import SamplingArguments
from medtune.chat.answer import Answer
from medtune.chat.batch import answer_file
from medtune.chat.log import ChatLog
from medtune.chat.piping import answer_lines
from medtune.chat.run import DISCLAIMER
from medtune.chat.session import ChatSession
from medtune.chat.talk import Talk, visible
from medtune.chat.terminal import Terminal
from medtune.common.errors import CheckpointError, ConfigError, DataError
from medtune.common.log import logger
from medtune.data.formats.conversations import conversation_from_row
from medtune.data.records import Message, Source
from tests.chat.conftest import LEARNT, load, scripted
from tests.conftest import REPO

GREEDY = SamplingArguments(max_new_tokens=40)
WITHOUT_LOOPS = SamplingArguments(max_new_tokens=800, repetition_penalty=1.5)
ABOUT = {"model": "tiny", "adapter": None}


@pytest.fixture(autouse=True)
def log(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What medtune logs, whose logger passes nothing on once a script has set it up."""
    monkeypatch.setattr(logger, "propagate", True)
    caplog.set_level("INFO", logger="medtune")
    return caplog


def terminal(session: ChatSession, log: ChatLog | None = None, **options: Any) -> Terminal:
    return Terminal(Talk({"tiny": session}, None, log), SamplingArguments(**options))


def rows(folder: Path) -> list[dict[str, Any]]:
    (path,) = folder.iterdir()
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


# -- what a model's text may not do


def test_signs_that_a_terminal_obeys_arrive_as_escapes(
    tokenizer: PreTrainedTokenizerFast, capfd: pytest.CaptureFixture[str]
) -> None:
    wild = "a\x1b[2J\x1b]0;t\x07\r\x9b31m\x7f\u202e\x00b\n\t[bold]头[/bold] :smile: 👨\u200d⚕️"
    shown = r"a\x1b[2J\x1b]0;t\x07\r\x9b31m\x7f\u202e\x00b"
    tame = f"{shown}\n\t[bold]头[/bold] :smile: 👨\u200d⚕️"

    talker = terminal(scripted(tokenizer, wild))
    talker.take("?")
    piped = io.StringIO()
    talk = Talk({"tiny": scripted(tokenizer, wild)}, None, None)
    answer_lines(talk, [b"?"], piped, SamplingArguments())

    assert capfd.readouterr().out == f"{tame}\n"
    assert piped.getvalue() == f"{tame}\n"
    assert talker.messages[1].content == wild  # the model itself is told what it said


@pytest.mark.parametrize("sign", [*range(32), *range(0x7F, 0xA0)])
def test_no_control_sign_but_line_end_and_tab_is_shown(sign: int) -> None:
    assert (visible(chr(sign)) == chr(sign)) == (chr(sign) in "\n\t")


# -- commands


def test_commands_change_the_conversation(
    tokenizer: PreTrainedTokenizerFast, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    talker = terminal(scripted(tokenizer, "一", "二", "三", "四"))
    a, b, c, d = (Message("assistant", text) for text in "一二三四")
    one, two = Message("user", "1"), Message("user", "/2")

    assert all(map(talker.take, ["", "  ", "1", " /2"]))
    assert talker.messages == [one, a, two, b]
    assert talker.prompt == "[2 turns] > "
    assert talker.take("/retry")
    assert talker.messages == [one, a, two, c]
    assert talker.take("/undo")
    assert talker.messages == [one, a]
    assert talker.prompt == "[1 turn] > "
    assert talker.take("/system 你是医生。")
    assert talker.take(" /2 ")
    assert talker.take(f"/save {tmp_path / 'a.jsonl'}")
    assert talker.take("/clear")
    assert (talker.messages, talker.talk.system) == ([], "你是医生。")
    assert talker.take("/system")
    assert talker.talk.system is None
    assert talker.take("/undo")
    assert talker.take("/retry")
    assert not talker.take("/quit")

    out, err = capfd.readouterr()
    assert out == "一\n二\n三\n四\n"
    assert err.splitlines()[-3:] == [
        "no system message any more.", "nothing to take back.", "nothing to answer again.",
    ]  # fmt: skip
    saved = json.loads((tmp_path / "a.jsonl").read_text(encoding="utf-8"))
    record = conversation_from_row(saved, Source("a.jsonl", 1))
    assert record.messages == (Message("system", "你是医生。"), one, a, two, d)


def test_params_are_shown_and_changed_and_nonsense_changes_nothing(
    tokenizer: PreTrainedTokenizerFast, capfd: pytest.CaptureFixture[str]
) -> None:
    talker = terminal(scripted(tokenizer))

    for line in ("/params", "/params temperature=0.7 top_k=40", "/params seed=0.5", "/params x=1",
                 "/params top_p=2", "/params top_p"):  # fmt: skip
        assert talker.take(line)

    assert talker.options == SamplingArguments(temperature=0.7, top_k=40)
    said = capfd.readouterr().err
    assert said.count("temperature=0.7 top_p=1.0 top_k=40") == 5
    assert said.count("/params: expected NAME=VALUE") == 3
    assert "--top_p: expected above 0, at most 1, found 2.0" in said


def test_saved_conversation_and_a_log_are_loaded_again(
    tokenizer: PreTrainedTokenizerFast, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    log = ChatLog(str(tmp_path / "logs"), ABOUT)
    talker = terminal(scripted(tokenizer, "一", "二"), log)
    saved = tmp_path / "a.jsonl"
    assert all(map(talker.take, ["/system 你是医生。", "1", "2", f"/save {saved}"]))
    (logged,) = (tmp_path / "logs").iterdir()

    for path in (saved, logged):
        other = terminal(scripted(tokenizer, "三"))
        assert other.take(f"/load {path}")
        assert (other.talk.system, other.messages) == ("你是医生。", talker.messages)
    before = list(talker.messages)
    (tmp_path / "b.jsonl").write_text("[1]\n")
    for line in ("/load", f"/load {tmp_path}", f"/load {tmp_path / 'b.jsonl'}", "/load none"):
        assert talker.take(line)
    assert talker.messages == before
    assert capfd.readouterr().err.count("not loaded: ") == 3


def test_models_are_chosen_and_compared_on_the_same_question(
    tokenizer: PreTrainedTokenizerFast, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    sessions = {"sft": scripted(tokenizer, "一", "三"), "base": scripted(tokenizer, "二", "四")}
    talk = Talk(sessions, None, ChatLog(str(tmp_path), ABOUT))
    talker = Terminal(talk, GREEDY)

    assert all(map(talker.take, ["/model", "/compare nobody", "/compare", "1"]))
    assert talker.messages == [Message("user", "1"), Message("assistant", "一")]
    assert all(map(talker.take, ["/compare off", "2", "/model nobody", "/model base", "3"]))
    assert [message.content for message in talker.messages] == ["1", "一", "2", "三", "3", "四"]

    out, err = capfd.readouterr()
    assert out == "一\n二\n三\n四\n"
    assert [line for line in err.splitlines() if line.startswith("-- ")] == ["-- sft", "-- base"]
    assert "/compare: no such model: nobody" in err
    assert "/model nobody: no such model." in err
    assert [row["answered_by"] for row in rows(tmp_path)] == ["sft", "base", "sft", "base"]


def test_refused_by_one_of_two_models_asks_neither(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, capfd: pytest.CaptureFixture[str]
) -> None:
    sessions = {"long": ChatSession(model, tokenizer), "short": ChatSession(model, tokenizer, 8)}
    talker = Terminal(Talk(sessions, None, None), GREEDY)
    asked: list[Answer] = []
    talker.talk.ask = lambda *words: asked.append(Talk.ask(talker.talk, *words)) or asked[-1]  # type: ignore[method-assign, func-returns-value]

    assert all(map(talker.take, ["/compare", "痛" * 40]))

    assert [answer.is_cancelled for answer in asked] == [True]
    assert talker.messages == []
    assert "the question is too long" in capfd.readouterr().err


def test_model_that_answers_is_named_even_if_it_was_compared(
    tokenizer: PreTrainedTokenizerFast, capfd: pytest.CaptureFixture[str]
) -> None:
    sessions = {"sft": scripted(tokenizer), "base": scripted(tokenizer)}
    talker = Terminal(Talk(sessions, None, None), GREEDY)

    assert all(map(talker.take, ["/compare base", "/model base"]))

    assert f"{'base':20} answers\n" in capfd.readouterr().err


def test_line_that_ends_with_a_backslash_goes_on(
    tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = iter(["头痛\\", "三天\\", "怎么办", "/quit"])
    monkeypatch.setattr("builtins.input", lambda prompt: next(lines))
    talker = terminal(scripted(tokenizer, "一"))

    talker.run()

    assert talker.messages[0].content == "头痛\n三天\n怎么办"


def test_help_names_every_command_and_unknown_ones_say_where_to_look(
    tokenizer: PreTrainedTokenizerFast, capfd: pytest.CaptureFixture[str]
) -> None:
    talker = terminal(scripted(tokenizer))

    assert talker.take("/help")
    lines = capfd.readouterr().err.splitlines()
    assert [line.split()[0] for line in lines] == list(talker.commands)
    assert talker.take("/etc/passwd 是什么\x1b[2J")
    assert capfd.readouterr().err.startswith("/etc/passwd: no such command, /help lists them.")


def test_saving_overwrites_nothing_and_says_what_it_wants(
    tokenizer: PreTrainedTokenizerFast, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    talker = terminal(scripted(tokenizer))
    kept = tmp_path / "kept"
    kept.write_text("mine")

    for name in ("", str(kept), str(tmp_path / "none" / "x"), str(tmp_path / "new")):
        assert talker.take(f"/save {name}")

    said = capfd.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in said] == [
        "/save FILE", "not saved", "not saved", "saved",
    ]  # fmt: skip
    assert kept.read_text() == "mine"
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o600


def test_retry_draws_with_the_next_seed(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    log = ChatLog(str(tmp_path / "logs"), ABOUT)
    talker = terminal(ChatSession(model, tokenizer), log, temperature=1.0, max_new_tokens=8)

    for line in ("头痛", "/retry", "/retry", "咳嗽"):
        assert talker.take(line)

    turns = rows(tmp_path / "logs")
    assert [turn["seed"] for turn in turns] == [42, 43, 44, 42]
    assert len({turn["messages"][1]["content"] for turn in turns[:3]}) == 3
    assert turns[3]["messages"][:2] == turns[2]["messages"]


def test_refused_question_is_said_and_leaves_the_conversation(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    capfd: pytest.CaptureFixture[str],
) -> None:
    talker = terminal(ChatSession(model, tokenizer, 64), max_new_tokens=8)
    assert talker.take("头痛")
    before = list(talker.messages)

    assert talker.take("痛" * 500)
    assert talker.take("half \udce5")

    err = capfd.readouterr().err
    assert "error: the question is too long: expected less than 64 tokens" in err
    assert "error: expected text in UTF-8, found half a character at place 6" in err
    assert talker.messages == before


def test_interrupt_before_the_first_word_takes_the_question_back(
    tokenizer: PreTrainedTokenizerFast, capfd: pytest.CaptureFixture[str]
) -> None:
    talker = terminal(scripted(tokenizer, "一", "二三四五"))
    model: Any = talker.talk.session.variant.base.model
    handler = signal.getsignal(signal.SIGINT)
    assert talker.take("1")
    model.before_each = lambda: signal.raise_signal(signal.SIGINT)
    model.ids = iter([tokenizer.convert_tokens_to_ids("<|assistant|>"), 300])

    assert talker.take("2")

    assert [message.content for message in talker.messages] == ["1", "一"]
    assert capfd.readouterr().err.splitlines()[-2:] == [
        "stopped.", "no answer: the question is taken back.",
    ]  # fmt: skip
    assert signal.getsignal(signal.SIGINT) is handler


# -- the log


def test_log_holds_what_asks_the_same_again(
    learnt_folder: Path, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    folder = tmp_path / "deep" / "logs"
    session = ChatSession(load(learnt_folder), tokenizer)
    talker = terminal(session, ChatLog(str(folder), ABOUT), temperature=0.5, max_new_tokens=40)
    talker.talk.system = LEARNT[0].content
    assert not folder.exists() or not list(folder.iterdir())
    for message in LEARNT[1::2]:
        assert talker.take(message.content)

    turns = rows(folder)
    (path,) = folder.iterdir()
    assert re.fullmatch(r"\d{8}-\d{6}\.jsonl", path.name)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [len(turn["messages"]) for turn in turns] == [3, 5, 7]
    last = turns[-1]
    assert last["messages"] == [
        message.to_dict() for message in talker.talk.messages(talker.messages)
    ]
    assert {key: last[key] for key in ABOUT} == ABOUT
    assert last["options"] == {
        "max_new_tokens": 40, "temperature": 0.5, "top_p": 1.0, "top_k": 0,
        "repetition_penalty": 1.0,
    }  # fmt: skip
    for turn in turns:
        record = conversation_from_row(turn, Source(path.name, 1))
        assert [message.to_dict() for message in record.messages] == turn["messages"]
        *before, said = (Message(**message) for message in turn["messages"])
        options = SamplingArguments(**turn["options"], seed=turn["seed"])
        answer = ChatSession(load(learnt_folder), tokenizer).ask(before, options)
        assert "".join(answer.pieces) == said.content
        assert (len(answer.prompt_ids), len(answer.ids), answer.ended_by) == (
            turn["num_prompt_tokens"], turn["num_new_tokens"], turn["ended_by"],
        )  # fmt: skip


def test_two_chats_of_one_second_have_a_file_each(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    for _ in range(3):
        assert terminal(scripted(tokenizer, "一"), ChatLog(str(tmp_path), ABOUT)).take("1")

    assert len(list(tmp_path.iterdir())) == 3


def test_folder_that_takes_no_log_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(ConfigError, match=r"--log_dir .*file: expected a folder .*--no_log True"):
        ChatLog(str(tmp_path / "file"), ABOUT)


def test_disk_that_takes_no_more_does_not_end_the_chat(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path, log: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "logs"
    talker = terminal(scripted(tokenizer, "一", "二"), ChatLog(str(folder), ABOUT))
    folder.rmdir()

    assert talker.take("1")
    assert talker.take("2")

    assert [message.content for message in talker.messages] == ["1", "一", "2", "二"]
    assert [m.split(":")[0] for m in log.messages] == ["this turn is not in the log"] * 2


# -- a pipe


def test_each_line_of_a_pipe_is_a_conversation_and_bad_ones_are_counted(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    tmp_path: Path,
    log: pytest.LogCaptureFixture,
) -> None:
    session, output = ChatSession(model, tokenizer, 64), io.StringIO()
    talk = Talk({"tiny": session}, "你是医生。", ChatLog(str(tmp_path), ABOUT))
    lines = ["头痛\n", "\n", "咳嗽\r\n", " \n", "痛" * 500 + "\n", "\udce5\n", "发热"]
    encoded = [line.encode("utf-8", "surrogateescape") for line in lines]

    with pytest.raises(DataError, match="2 of 7 lines were not answered"):
        answer_lines(talk, encoded, output, GREEDY)

    expected = ""
    for number, question in enumerate(("头痛", "咳嗽", "发热")):
        messages = [Message("system", "你是医生。"), Message("user", question)]
        answer = "".join(ChatSession(model, tokenizer, 64).ask(messages, GREEDY).pieces)
        expected += f"{visible(answer)}\n"
        messages.append(Message("assistant", answer))
        assert rows(tmp_path)[number]["messages"] == [message.to_dict() for message in messages]
    assert output.getvalue() == expected
    said = [message.split(":")[0] for message in log.messages if not message.startswith("log")]
    assert said == ["line 5", "line 6", "2 of 7 lines are empty and were left out"]


def test_nothing_asked_is_nothing_answered(tokenizer: PreTrainedTokenizerFast) -> None:
    output = io.StringIO()

    answer_lines(Talk({"tiny": scripted(tokenizer)}, None, None), [], output, GREEDY)

    assert output.getvalue() == ""


# -- a file


def test_file_is_answered_in_its_order_with_what_was_refused(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    session, output, path = ChatSession(model, tokenizer, 64), io.StringIO(), tmp_path / "q.jsonl"
    turns = [{"role": "user", "content": "头痛"}, {"role": "assistant", "content": "几天？"}]
    asked = [*turns, {"role": "user", "content": "三天"}]
    lines = [f"第{n}问" for n in range(20)]
    lines += ["", json.dumps({"question": "发热"}), json.dumps({"messages": asked}), "{}"]
    lines += [
        json.dumps({"messages": turns}),
        json.dumps({"messages": [{"role": "x"}]}),
        json.dumps({"question": None}),
        json.dumps({"messages": [{"role": "user", "content": ["头痛"]}]}),
        "\udce5",
        "痛" * 500,
    ]
    path.write_bytes(codecs.BOM_UTF8 + "\n".join(lines).encode("utf-8", "surrogateescape"))
    talk = Talk({"tiny": session}, "你是医生。", None)

    with pytest.raises(DataError, match=r"q.jsonl: 7 of 29 lines were not answered"):
        answer_file(talk, path, output, GREEDY)

    found = [json.loads(line) for line in output.getvalue().splitlines()]
    assert [row["line"] for row in found] == [*range(1, 21), *range(22, 31)]
    assert ["error" in row for row in found] == [False] * 22 + [True] * 7
    assert found[0]["messages"][1] == {"role": "user", "content": "第0问"}  # without the mark
    for row in found[:22]:
        *before, said = (Message(**message) for message in row["messages"])
        assert before[0] == Message("system", "你是医生。")
        alone = ChatSession(model, tokenizer, 64).ask(before, GREEDY)
        assert "".join(alone.pieces) == said.content
        assert row["ended_by"] == alone.ended_by


def test_file_that_is_not_there_is_said(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    talk = Talk({"tiny": scripted(tokenizer)}, None, None)

    with pytest.raises(DataError, match="--batch .*none: expected a file of text"):
        answer_file(talk, tmp_path / "none", io.StringIO(), GREEDY)


# -- the program


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "TERM": "dumb", "LC_ALL": "C.UTF-8"}


def command(model: Path, *flags: str) -> list[str]:
    return [sys.executable, str(REPO / "chat.py"), "--model_name_or_path", str(model), *flags]


def test_pipe_ends_well_when_its_reader_has_enough(learnt_folder: Path, tmp_path: Path) -> None:
    with subprocess.Popen(
        command(learnt_folder, "--system", LEARNT[0].content),
        cwd=tmp_path, env=environment(),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdin and process.stdout and process.stderr
        process.stdin.write((LEARNT[1].content + "\n").encode())
        process.stdin.flush()
        first = process.stdout.readline().decode()
        process.stdout.close()
        process.stdin.write((LEARNT[1].content + "\n").encode() * 3)
        process.stdin.close()
        said = process.stderr.read().decode()

    assert first == f"{LEARNT[2].content}\n"
    assert process.returncode == 0, said
    assert "Traceback" not in said
    assert said.count(DISCLAIMER.read_text(encoding="utf-8")) == 1
    turns = rows(tmp_path / "chat_logs")
    assert [turn["messages"] for turn in turns][:1] == [[m.to_dict() for m in LEARNT[:3]]]
    assert turns[0]["model"] == str(learnt_folder)


@contextmanager
def at_terminal(words: list[str], folder: Path) -> Iterator[tuple[int, Callable[..., str]]]:
    """A program in a pseudo-terminal: its keyboard, and a function that waits for a text."""
    keyboard, terminal = pty.openpty()
    process = subprocess.Popen(  # setsid makes the terminal the one whose Ctrl-C it hears
        ["setsid", "--ctty", *words], cwd=folder, env=environment(),
        stdin=terminal, stdout=terminal, stderr=terminal,
    )  # fmt: skip
    os.close(terminal)
    screen = bytearray()

    def wait_for(text: str | None, seconds: float = 120) -> str:
        """Return the screen up to `text` and take it off; None: up to the program's end."""
        end = time.monotonic() + seconds
        while text is None or text.encode() not in screen:
            readable = select.select([keyboard], [], [], max(0, end - time.monotonic()))[0]
            assert readable, f"no {text!r} in {screen.decode(errors='replace')!r}"
            try:
                screen.extend(os.read(keyboard, 65536))
            except OSError:  # Linux says so when the other side is closed
                assert text is None, screen.decode(errors="replace")
                break
        place = len(screen) if text is None else screen.index(text.encode()) + len(text.encode())
        seen = screen[:place].decode(errors="replace")
        del screen[:place]
        return seen

    try:
        yield keyboard, wait_for
        assert process.wait(60) == 0
    finally:
        process.kill()
        os.close(keyboard)


def test_every_command_at_a_terminal(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    small_model_folder: Path,
    tmp_path: Path,
) -> None:
    question = [Message("user", "头痛")]
    pieces = ChatSession(model, tokenizer).ask(question, WITHOUT_LOOPS).pieces
    begin = visible(next(pieces) + next(pieces))
    flags = ("--max_new_tokens", "800", "--max_length", "1000", "--repetition_penalty", "1.5")
    words = command(small_model_folder, *flags)
    with at_terminal(words, tmp_path) as (keyboard, wait_for):

        def enter(line: str, prompt: str) -> str:
            os.write(keyboard, f"{line}\n".encode())
            return wait_for(f"{prompt} > ")

        head = wait_for("[0 turns] > ").replace("\r\n", "\n")
        assert DISCLAIMER.read_text(encoding="utf-8") in head

        os.write(keyboard, "头痛\n".encode())
        wait_for(begin)
        os.write(keyboard, b"\x03")
        assert "stopped." in wait_for("[1 turn] > ")
        assert "cut at --max_new_tokens 800." in enter("/retry", "[1 turn]")
        assert "1 turn at the beginning left out" in enter("咳嗽", "[2 turns, 1 left out]")
        assert "taken back." in enter("/undo", "[1 turn]")
        assert "system message set." in enter("/system 你是医生。", "[1 turn]")
        assert "saved: a.jsonl" in enter("/save a.jsonl", "[1 turn]")
        assert "not saved: " in enter("/save a.jsonl", "[1 turn]")
        assert "loaded: 1 turn." in enter("/load a.jsonl", "[1 turn]")
        assert "temperature=0.5 top_p=1.0" in enter("/params temperature=0.5", "[1 turn]")
        assert "answers" in enter("/model", "[1 turn]")
        assert "compared with: none." in enter("/compare", "[1 turn]")
        assert "/quit" in enter("/help", "[1 turn]")
        assert "no such command" in enter("/nothing", "[1 turn]")
        assert "cleared." in enter("/clear", "[0 turns]")
        assert "the question is too long" in enter("痛" * 1200, "[0 turns]")
        time.sleep(0.5)  # Python hears it with the next key if it comes before it waits for one
        os.write(keyboard, b"\x03")
        assert "/quit or Ctrl-D leaves." in wait_for("[0 turns] > ")
        os.write(keyboard, b"\x04")
        assert "Traceback" not in wait_for(None)

    turns = rows(tmp_path / "chat_logs")
    assert [turn["ended_by"] for turn in turns] == ["cancel", "length", "length"]
    assert [turn["num_left_out"] for turn in turns] == [0, 0, 1]
    stopped, whole = (turn["messages"][1]["content"] for turn in turns[:2])
    assert whole.startswith(stopped) and 0 < len(stopped) < len(whole)
    saved = json.loads((tmp_path / "a.jsonl").read_text(encoding="utf-8"))
    system = {"role": "system", "content": "你是医生。"}
    assert saved == {"messages": [system, *turns[1]["messages"]]}


@pytest.mark.parametrize(
    ("flags", "error", "message"),
    [
        (["--model_name_or_path", "./no-such-model"], CheckpointError, "found none there"),
        (["--model_name_or_path", "m", "--max_new_tokens", "0"], ConfigError, "expected 1 or more"),
        (["--model_name_or_path", "m", "--max_length", "1"], ConfigError, "expected 2 or more"),
        (["--model_name_or_path", "m", "--temprature", "1"], ConfigError, "--temperature"),
        ([], ConfigError, "--model_name_or_path"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_a_model_is_read(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    flags: list[str],
    error: type[ConfigError],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(error, match=message) as caught:
        chat.main([*flags, "--no_log", "True"])
    assert caught.value.exit_code == 2
    assert list(tmp_path.iterdir()) == []


def test_compared_model_in_a_pipe_is_refused(learnt_folder: Path, tmp_path: Path) -> None:
    words = command(learnt_folder, "--compare", str(tmp_path))

    done = subprocess.run(
        words, cwd=tmp_path, env=environment(), input="1\n", capture_output=True, text=True
    )

    assert done.returncode == 2
    assert done.stderr.startswith("error: --compare: expected a terminal, --web or --api")
    assert done.stdout == ""


def test_file_whose_answers_nobody_reads_on_ends_well(learnt_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "q.txt").write_text(f"{LEARNT[1].content}\n" * 40, encoding="utf-8")
    with subprocess.Popen(
        command(learnt_folder, "--batch", "q.txt", "--no_log"),
        cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout and process.stderr
        assert json.loads(process.stdout.readline())["line"] == 1
        process.stdout.close()
        said = process.stderr.read().decode()

    assert process.returncode == 0, said
    assert "Traceback" not in said
