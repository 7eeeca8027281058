"""What the model answers during training: shown as it is, and without a trace in what is learnt.

References: the finished model, loaded anew; the uninterrupted run; the run that asks nothing.
"""

import html
import json
from pathlib import Path
from string import punctuation
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from peft import PeftModel
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator
from tensorboard.plugin_util import markdown_to_safe_html
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerState

import dpo_training
import supervised_finetuning
from medtune.common.errors import ConfigError, DataError
from medtune.common.log import logger
from medtune.data.rendering import ChatRenderer
from medtune.models.families import family_of, stop_token_ids
from medtune.models.generation import Reply, generate_batch
from medtune.training import replies
from medtune.training.guards.board import as_written, markdown_of
from medtune.training.progress import read_metrics
from medtune.training.replies import Sample
from medtune.training.samples import SAMPLES_FILE, SHOWN_CHARACTERS, SampleFile, read_samples, shown
from tests.conftest import WriteJsonl, take_chat_format
from tests.stages.test_processes import run
from tests.training.conftest import TOPICS, Stage
from tests.training.test_checkpoints import SAVES, interrupted_copy, is_same_end

QUESTIONS = ["头痛怎么办？", "发热、咳嗽三天了，应该怎么办？", "能吃药吗？"]
EVERY_TWO = (*SAVES, "--eval_strategy=steps", "--eval_steps=2")
SHORT = "--sample_max_new_tokens=8"
LEARNT = ("loss", "grad_norm", "learning_rate", "num_tokens", "eval_loss", "eval_perplexity")


@pytest.fixture
def asking(tmp_path: Path, write_jsonl: WriteJsonl) -> tuple[str, ...]:
    """The options that ask three questions at steps 0, 2, 4 and 6."""
    rows: list[Any] = [{"question": question} for question in QUESTIONS[:2]]
    turns = [("user", "头痛"), ("assistant", "休息。"), ("user", QUESTIONS[2])]
    rows.append({"messages": [{"role": role, "content": text} for role, text in turns]})
    path = write_jsonl(tmp_path / "questions.jsonl", rows)
    return (*EVERY_TWO, SHORT, f"--sample_prompts={path}")


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Every (prediction, reference) that a stage has scored; the scores are their lengths."""
    pairs: list[tuple[str, str]] = []

    def score(prediction: str, reference: str) -> dict[str, float]:
        pairs.append((prediction, reference))
        return {"rouge-l": float(len(prediction)), "bleu-4-char": float(len(reference))}

    for script in (supervised_finetuning, dpo_training):
        monkeypatch.setattr(script, "score_reply", score)
    return pairs


def learnt(folder: Path) -> list[dict[str, float]]:
    """What the log says of the training itself."""
    entries = [
        {k: e[k] for k in LEARNT if k in e} | {"step": e["step"]} for e in read_metrics(folder)
    ]
    return [entry for entry in entries if len(entry) > 1]


def replies_of_finished(folder: Path, base: Path, limit: int) -> list[Reply]:
    """What the base with the adapter of a finished run answers, loaded anew."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), folder).eval()
    renderer = ChatRenderer(tokenizer, family_of(tokenizer).turn_end)
    asked = replies.read_questions(folder.parent / "questions.jsonl")
    prompts = [renderer.prompt_ids(question.messages) for question in asked]
    return generate_batch(model, tokenizer, prompts, limit, stop_token_ids(tokenizer, set()))


# -- what is written


@pytest.mark.parametrize("stage", ["pt", "sft", "dpo"])
def test_each_evaluation_answers_each_question_as_the_model_of_that_step_does(
    run_stage: Stage, small_model_folder: Path, asking: tuple[str, ...], stage: str
) -> None:
    folder = run_stage(stage, "out", *asking, "--gradient_checkpointing=True")

    lines = read_samples(folder / SAMPLES_FILE)
    assert [list(line) for line in lines] == [["step", "question", "reply", "stopped"]] * 12
    places = [(line["step"], line["question"]) for line in lines]
    assert places == [(step, question) for step in (0, 2, 4, 6) for question in QUESTIONS]
    last = [(line["reply"], line["stopped"]) for line in lines[-3:]]
    finished = replies_of_finished(folder, small_model_folder, limit=8)
    assert last == [(reply.text, reply.stopped) for reply in finished]
    assert SAMPLES_FILE not in json.loads((folder / "lineage.json").read_text())["outputs"]
    assert len({line["reply"] for line in lines}) > 3  # a model that learns answers otherwise
    assert [e["step"] for e in read_metrics(folder) if "eval_generation_seconds" in e] == [
        0,
        2,
        4,
        6,
    ]


def test_evaluation_after_the_last_step_is_answered_too(
    run_stage: Stage, asking: tuple[str, ...]
) -> None:
    folder = run_stage("sft", "out", *asking, "--eval_strategy=no", "--report_to=tensorboard")

    assert {line["step"] for line in read_samples(folder / SAMPLES_FILE)} == {0, 6}
    assert list(texts_of(folder, "samples/1")) == [0, 6]
    assert {path.parent for path in folder.rglob("events.out.*")} == {folder / "runs"}


def test_run_that_asks_nothing_writes_no_samples(run_stage: Stage) -> None:
    folder = run_stage("sft", "out", "--max_steps=1")

    assert not (folder / SAMPLES_FILE).exists()
    assert not any("eval_generation_seconds" in entry for entry in read_metrics(folder))


def test_fine_tuning_gives_generation_the_stop_ids_of_its_result(
    run_stage: Stage, asking: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Any] = []
    generate = replies.generate_batch

    def spy(*arguments: Any) -> list[Reply]:
        given.append(arguments[4])
        return generate(*arguments)

    monkeypatch.setattr(replies, "generate_batch", spy)
    folder = run_stage("sft", "out", *asking, "--max_steps=2")

    config = json.loads((folder / "generation_config.json").read_text())
    assert given == [config["eos_token_id"]] * 2


# -- what is learnt


@pytest.mark.parametrize(
    ("stage", "options"),
    [
        ("pt", ("--packed_forward=off", "--use_peft=False")),
        ("sft", ("--gradient_checkpointing=True", "--predict_with_generate=True")),
        ("dpo", ("--tokens_per_batch=300", "--predict_with_generate=True")),
    ],
)
def test_asking_changes_neither_weights_nor_losses(
    run_stage: Stage,
    asking: tuple[str, ...],
    scored: list[tuple[str, str]],
    stage: str,
    options: tuple[str, ...],
) -> None:
    common = ("--lora_dropout=0.1", *(o for o in options if "predict" not in o))
    plain = run_stage(stage, "plain", *EVERY_TWO, *common)

    asked = run_stage(stage, "asked", *asking, *common, *options)

    assert is_same_end(plain, asked)
    assert learnt(plain) == learnt(asked)
    assert bool(scored) == ("--predict_with_generate=True" in options)


# -- interruptions


def test_continued_run_has_each_line_once(
    run_stage: Stage, tmp_path: Path, asking: tuple[str, ...]
) -> None:
    whole = run_stage("sft", "whole", *asking, "--report_to=tensorboard")
    out = interrupted_copy(whole, tmp_path / "out", 6, 4)

    run_stage("sft", "out", *asking, "--report_to=tensorboard")

    assert is_same_end(out, whole)
    assert (out / SAMPLES_FILE).read_bytes() == (whole / SAMPLES_FILE).read_bytes()
    lines = read_samples(out / SAMPLES_FILE)
    for number in (1, 2, 3):
        assert texts_of(out, f"samples/{number}") == {
            line["step"]: markdown_of(Sample(line["question"], line["reply"], line["stopped"]))
            for line in lines[number - 1 :: 3]
        }


@pytest.mark.parametrize(("evaluated", "kept"), [((), ()), ((0,), (0,)), ((0, 4), (0, 4))])
def test_lines_are_kept_of_evaluations_that_the_checkpoint_knows(
    tmp_path: Path, evaluated: tuple[int, ...], kept: tuple[int, ...]
) -> None:
    file = SampleFile(tmp_path)
    for step in (0, 2, 4):
        file.add(step, [Sample("头痛？", "休息\u2028。", stopped=True)] * 2)
    with file.path.open("a", encoding="utf-8") as torn:
        torn.write('{"step": 0, "question": "头')  # a kill in the middle of a line
    state = TrainerState(is_world_process_zero=True)
    state.log_history = [{"step": step, "eval_loss": 1.0} for step in evaluated]
    state.log_history.append({"step": 2, "loss": 1.0})

    file.on_train_begin(None, state, None)  # type: ignore[arg-type] # neither is looked at

    assert [line["step"] for line in read_samples(file.path)] == [s for s in kept for _ in "12"]


def test_evaluation_that_is_newer_than_its_checkpoint_is_written_once(
    run_stage: Stage, tmp_path: Path, asking: tuple[str, ...]
) -> None:
    """The checkpoint of an epoch's last step is saved before the evaluation of the epoch."""
    options = (*asking, "--eval_strategy=epoch", "--save_steps=5")  # 20 rows: 5 steps an epoch
    whole = run_stage("sft", "whole", *options)
    assert {line["step"] for line in read_samples(whole / SAMPLES_FILE)} == {0, 5, 6}
    out = interrupted_copy(whole, tmp_path / "out", 6)

    run_stage("sft", "out", *options)

    assert (out / SAMPLES_FILE).read_bytes() == (whole / SAMPLES_FILE).read_bytes()


def test_asking_may_begin_and_end_where_a_run_is_continued(
    run_stage: Stage, tmp_path: Path, asking: tuple[str, ...], scored: list[tuple[str, str]]
) -> None:
    whole = run_stage("sft", "whole", *EVERY_TWO)
    later = interrupted_copy(whole, tmp_path / "later", 6, 4)
    run_stage("sft", "later", *asking, "--predict_with_generate=True", "--num_predict_samples=2")
    asked = run_stage("sft", "asked", *asking)
    ended = interrupted_copy(asked, tmp_path / "ended", 6, 4)
    run_stage("sft", "ended", *EVERY_TWO)

    assert is_same_end(later, whole) and is_same_end(ended, whole)
    assert [line["step"] for line in read_samples(later / SAMPLES_FILE)] == [4] * 3 + [6] * 3
    assert [line["step"] for line in read_samples(ended / SAMPLES_FILE)] == [0] * 3 + [2] * 3
    assert len(scored) == 4


# -- ROUGE and BLEU


@pytest.mark.parametrize(("stage", "end"), [("sft", "喝水。"), ("dpo", "再吃药。")])
def test_scores_are_means_over_the_answers_of_the_validation_rows(
    run_stage: Stage, scored: list[tuple[str, str]], stage: str, end: str
) -> None:
    options = (*EVERY_TWO, "--max_steps=2", SHORT, "--report_to=tensorboard")
    folder = run_stage(
        stage, "out", *options, "--predict_with_generate=True", "--num_predict_samples=3"
    )

    assert len(scored) == 3 * 2
    first, last = scored[:3], scored[-3:]
    assert [reference for _, reference in first] == [reference for _, reference in last]
    for _, reference in last:
        assert reference.endswith(end)
        assert any(reference.startswith(topic) for topic in TOPICS)
    results = json.loads((folder / "eval_results.json").read_text())
    complete = json.loads((folder / "COMPLETE").read_text())
    logged = [e for e in read_metrics(folder) if "eval_rouge-l" in e]
    assert [entry["step"] for entry in logged] == [0, 2]
    expected = {
        "eval_rouge-l": sum(len(prediction) for prediction, _ in last) / 3,
        "eval_bleu-4-char": sum(len(reference) for _, reference in last) / 3,
    }
    for written in (results, complete, logged[-1]):
        assert {name: written[name] for name in expected} == expected
    assert {"eval_loss", "perplexity", "num_tokens"} <= results.keys()
    assert not (folder / SAMPLES_FILE).exists()
    board = EventAccumulator(str(folder / "runs"))
    board.Reload()
    for name in expected:
        assert [e.step for e in board.Tensors(name.replace("eval_", "eval/"))] == [0, 2]


def test_validation_answers_that_are_all_cut_are_refused(
    run_stage: Stage, tmp_path: Path, scored: list[tuple[str, str]]
) -> None:
    with pytest.raises(ConfigError, match=r"--predict_with_generate: .* found \d+ whose answer"):
        run_stage("sft", "out", "--predict_with_generate=True", "--max_length=16")
    assert not list((tmp_path / "out").glob("*"))


# -- TensorBoard's text


def texts_of(folder: Path, tag: str) -> dict[int, str]:
    """The texts that TensorBoard shows under a tag, by step."""
    board = EventAccumulator(str(folder / "runs"))
    board.Reload()
    events = board.Tensors(f"{tag}/text_summary")
    texts = {event.step: event.tensor_proto.string_val[0].decode() for event in events}
    assert len(texts) == len(events)
    return texts


def text_of(page: str) -> str:
    """What a browser shows of a piece of HTML that has no tags but <p>, <br> and </p>."""
    for tag in ("<p>", "</p>", "<br>\n", "<br />\n"):
        page = page.replace(tag, "\n" if "br" in tag else "")
    assert "<" not in page, page
    return html.unescape(page).replace("\N{NO-BREAK SPACE}", " ")


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>", "![](http://x/y.png)", "[a](javascript:b)", "# a\n## b",
        "| a |\n|---|\n| b |", "    code", "```\na\n```", "1. a\n2. b", "* a\n* b", "> a", "a\n===",
        "**a** _b_ `c`", "&lt;b&gt; &amp;", "http://x/y", "<a@b.c>", "\\*a\\*", "[a]: http://x",
    ],
)  # fmt: skip
def test_text_tab_shows_markup_as_it_was_written(text: str) -> None:
    assert text_of(markdown_to_safe_html(as_written(text))) == text


@given(st.text(alphabet=[*punctuation, " ", "a", "1", "药", "，"], min_size=1, max_size=40))
def test_text_tab_shows_any_line_as_it_was_written(text: str) -> None:
    assert text_of(markdown_to_safe_html(as_written(text))).strip() == text.strip()


def test_reply_is_told_from_its_question_and_marked_where_it_was_cut() -> None:
    page = markdown_to_safe_html(markdown_of(Sample("头痛？", "<b>", stopped=False)))
    assert page.split("\n") == [
        "<p><strong>question</strong></p>", "<p>头痛？</p>", "<p><strong>reply</strong></p>",
        "<p>&#60;b&#62;</p>", "<p><em>(cut)</em></p>",
    ]  # fmt: skip
    assert "(cut)" not in markdown_to_safe_html(markdown_of(Sample("头痛？", "好", stopped=True)))


# -- the log


def test_log_shows_the_first_questions_and_no_control_sign(
    run_stage: Stage,
    asking: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(logger, "propagate", True)
    caplog.set_level("INFO", logger="medtune")
    sign = "\x1b[2J[bold]\n\u202e药"
    monkeypatch.setattr(replies, "generate_batch", lambda *a: [Reply(sign, False, 8) for _ in a[2]])
    folder = run_stage("sft", "out", *asking, "--max_steps=1")

    line = f"step 0  {QUESTIONS[0]} -> \\x1b[2J[bold]\\n\\u202e药 [cut]"
    assert line in [record.getMessage() for record in caplog.records]
    assert read_samples(folder / SAMPLES_FILE)[0]["reply"] == sign


def test_long_text_is_shown_in_part() -> None:
    assert shown("药" * SHOWN_CHARACTERS) == "药" * SHOWN_CHARACTERS
    assert shown("药" * (SHOWN_CHARACTERS + 1)) == "药" * SHOWN_CHARACTERS + "..."


# -- refusals


def test_pretraining_has_no_replies_to_compare(run_stage: Stage, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--predict_with_generate: expected a stage whose") as no:
        run_stage("pt", "out", "--predict_with_generate=True")
    assert no.value.exit_code == 2
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("stage", ["pt", "sft", "dpo"])
def test_wrong_line_ends_the_run_before_it_begins(
    run_stage: Stage, tmp_path: Path, write_jsonl: WriteJsonl, stage: str
) -> None:
    path = write_jsonl(tmp_path / "q.jsonl", [{"question": "头痛"}, {"quest": "头痛"}])

    with pytest.raises(DataError, match=f"^{path}:2: expected either 'question' or"):
        run_stage(stage, "out", f"--sample_prompts={path}")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("template", "words"),
    [
        (None, "--sample_prompts: expected a tokenizer with a chat template"),
        ("{% if messages[0]['role'] == 'system' %}{{ raise_exception('no') }}{% endif %}",
         r"q\.jsonl:1: .*the chat template refuses the roles"),
    ],
)  # fmt: skip
def test_base_that_cannot_be_asked_is_refused(
    run_stage: Stage, own_base: Path, write_jsonl: WriteJsonl, template: str | None, words: str
) -> None:
    path = own_base / "chat_template.jinja"
    if template is None:
        take_chat_format(own_base)
    else:
        path.write_text(template + path.read_text(encoding="utf-8"), encoding="utf-8")
    turns = [{"role": "system", "content": "医生"}, {"role": "user", "content": "头痛"}]
    questions = write_jsonl(own_base.parent / "q.jsonl", [{"messages": turns}])

    with pytest.raises((ConfigError, DataError), match=words) as refused:
        run_stage("pt", "out", f"--model_name_or_path={own_base}", f"--sample_prompts={questions}")
    assert refused.value.exit_code == 2
    assert not list((own_base.parent / "out").glob("*"))


@pytest.mark.parametrize("name", ["sample_max_new_tokens", "num_predict_samples"])
def test_number_below_one_is_refused(run_stage: Stage, name: str) -> None:
    with pytest.raises(ConfigError, match=f"--{name}: expected 1 or more, found 0"):
        run_stage("sft", "out", f"--{name}=0")


# -- many processes


def test_processes_share_the_questions_out_and_answer_as_one_does(
    small_model_folder: Path, tmp_path: Path, asking: tuple[str, ...]
) -> None:
    """Three questions are one batch: the second process has none of its own, yet takes part."""
    script, data = "supervised_finetuning.py", "data/finetune/drugs.jsonl"
    common = ("--max_length=128", *asking, "--save_strategy=no", "--max_steps=2")
    one = run(
        script, tmp_path / "one", small_model_folder, data, *common,
        "--per_device_train_batch_size=8",
    )  # fmt: skip
    expected = read_samples(one / SAMPLES_FILE)
    assert len(expected) == 6
    for name in ("ddp", "zero2", "zero3"):
        zero = () if name == "ddp" else (f"--deepspeed=configs/deepspeed/{name}.json",)
        two = run(
            script, tmp_path / name, small_model_folder, data, *common, *zero,
            "--per_device_train_batch_size=4", nproc=2,
        )  # fmt: skip
        assert read_samples(two / SAMPLES_FILE) == expected, name


def test_processes_score_all_validation_rows_together(
    small_model_folder: Path, tmp_path: Path
) -> None:
    """Twenty rows are two batches, and eval_results.json has the same means."""
    script, data = "dpo_training.py", "data/reward/medicines.jsonl"
    common = (
        "--max_length=128", SHORT, "--predict_with_generate=True", "--num_predict_samples=20",
        "--max_eval_samples=20", "--validation_split_percentage=30",
    )  # fmt: skip
    one = run(
        script, tmp_path / "one", small_model_folder, data, *common,
        "--per_device_train_batch_size=8",
    )  # fmt: skip
    two = run(
        script, tmp_path / "two", small_model_folder, data, *common,
        "--per_device_train_batch_size=4", nproc=2,
    )  # fmt: skip

    found, expected = (json.loads((f / "eval_results.json").read_text()) for f in (two, one))
    names = ("eval_rouge-1", "eval_rouge-2", "eval_rouge-l", "eval_bleu-4-char")
    assert {n: found[n] for n in names} == pytest.approx({n: expected[n] for n in names})
