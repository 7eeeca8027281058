"""Each stage, run by its own main() on a small untrained model: what it writes and refuses."""

import json
import math
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from medtune.common.errors import CheckpointError, ConfigError, DataError
from medtune.common.files import write_lines
from medtune.training.progress import read_metrics
from tests.training.conftest import Stage

STAGES = ("pt", "sft", "dpo")
ONE_EPOCH = "--num_train_epochs=1"


def read(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("stage", STAGES)
def test_run_folder_holds_what_is_promised(run_stage: Stage, stage: str) -> None:
    folder = run_stage(stage, "out", ONE_EPOCH)

    names = {path.name for path in folder.iterdir()}
    assert names >= {
        "adapter_model.safetensors", "adapter_config.json", "tokenizer.json",
        "tokenizer_config.json", "chat_template.jinja", "generation_config.json", "arguments.yaml",
        "train_results.json", "eval_results.json", "metrics.jsonl", "training_loss.png",
        "ledger.json", "rejects.jsonl", "lineage.json", "COMPLETE",
    }  # fmt: skip
    assert not names & {"training_args.bin", "README.md"}
    results = read(folder / "eval_results.json")
    assert set(results) >= {"eval_loss", "perplexity", "num_tokens"}
    assert read(folder / "train_results.json")["tokens_per_second"] > 0
    assert read(folder / "train_results.json")["peak_memory_bytes"] > 0
    arguments = yaml.safe_load((folder / "arguments.yaml").read_text())
    assert arguments["learning_rate"] == 1e-3
    metrics = read_metrics(folder)
    assert metrics[0]["step"] == 0 and "eval_loss" in metrics[0]
    assert {"loss", "grad_norm", "learning_rate", "epoch", "num_tokens"} <= metrics[1].keys()
    assert (folder / "training_loss.png").read_bytes().startswith(b"\x89PNG")
    lineage = read(folder / "lineage.json")
    assert len(lineage["inputs"]["base"]["sha256"]) == 64
    assert {"adapter_model.safetensors", "tokenizer.json", "ledger.json"} <= set(lineage["outputs"])


@pytest.mark.parametrize("stage", STAGES)
def test_ledger_counts_every_token_that_was_trained_on(run_stage: Stage, stage: str) -> None:
    folder = run_stage(stage, "out", ONE_EPOCH)

    ledger = read(folder / "ledger.json")
    rows = ledger["rows"]
    assert rows["read"] == 24 == rows["train"] + rows["validation"]
    trained = read(folder / "train_results.json")["num_tokens"]
    if stage != "dpo":  # in pairs TRL pads the prompt into both rows: it is run twice
        assert trained == ledger["tokens"]["train"]["kept"]
    assert read_metrics(folder)[-3]["num_tokens"] == trained


def test_validation_loss_is_weighted_by_tokens(run_stage: Stage, small_model_folder: Path) -> None:
    folder = run_stage("sft", "out", "--max_steps=1", "--learning_rate=0")

    # One row at a time, without padding: sum of losses over sum of supervised tokens.
    from medtune.arguments import DataArguments
    from medtune.data.loading import load_conversations
    from medtune.data.rendering import ChatRenderer

    model = AutoModelForCausalLM.from_pretrained(small_model_folder)
    renderer = ChatRenderer(AutoTokenizer.from_pretrained(small_model_folder), "<|user|>")
    arguments = yaml.safe_load((folder / "arguments.yaml").read_text())
    data = load_conversations(
        DataArguments(arguments["train_file_dir"], validation_split_percentage=20), seed=42
    )
    total, count = 0.0, 0
    for record in data.validation:
        rendered = renderer.conversation(record)
        ids = torch.tensor([rendered.input_ids])
        log_probs = model(ids).logits[0, :-1].double().log_softmax(-1)
        for position, label in enumerate(rendered.labels[1:]):
            if label != -100:
                total -= log_probs[position, label].item()
                count += 1
    results = read(folder / "eval_results.json")
    assert results["num_tokens"] == count
    # float32 sums of about 30 terms near 8
    assert results["eval_loss"] == pytest.approx(total / count, abs=1e-5)
    assert results["perplexity"] == pytest.approx(math.exp(total / count), rel=1e-5)


def test_first_dpo_loss_is_ln_2(run_stage: Stage) -> None:
    folder = run_stage("dpo", "out", "--max_steps=2")

    metrics = read_metrics(folder)
    assert metrics[0]["eval_loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert metrics[1]["loss"] == pytest.approx(math.log(2), abs=1e-5)


def test_generation_stops_at_the_turn_end_after_fine_tuning(run_stage: Stage) -> None:
    folder = run_stage("sft", "out", "--max_steps=1")

    tokenizer = AutoTokenizer.from_pretrained(folder)
    stops = read(folder / "generation_config.json")["eos_token_id"]
    names = {"<|endoftext|>", "<|user|>", "<|observation|>"}
    assert set(tokenizer.convert_ids_to_tokens(stops)) == names


@pytest.mark.parametrize("stage", STAGES)
def test_full_fine_tuning_saves_a_model_that_loads(run_stage: Stage, stage: str) -> None:
    folder = run_stage(stage, "out", "--max_steps=1", "--use_peft=False")

    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model.num_parameters() == sum(
        tensor.numel() for tensor in load_file(folder / "model.safetensors").values()
    )


@pytest.mark.parametrize("stage", ("sft", "dpo"))
def test_an_adapter_is_continued_from_where_it_was(run_stage: Stage, stage: str) -> None:
    first = run_stage(stage, "first", "--max_steps=2", "--lora_rank=4")
    second = run_stage(
        stage, "second", "--max_steps=1", f"--peft_path={first}", "--learning_rate=0"
    )

    before, after = (load_file(f / "adapter_model.safetensors") for f in (first, second))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("stage", STAGES)
def test_interrupted_run_goes_on_to_the_same_weights(
    run_stage: Stage, stage: str, tmp_path: Path
) -> None:
    options = ("--max_steps=4", "--save_strategy=steps", "--save_steps=2")
    whole = run_stage(stage, "whole", *options)
    interrupted = Path(shutil.copytree(whole, tmp_path / "interrupted"))
    for path in interrupted.iterdir():  # what a kill between step 2 and step 4 leaves
        if path.is_file() and path.name != "lineage.json":
            path.unlink()
    shutil.rmtree(interrupted / "checkpoint-4")

    run_stage(stage, "interrupted", *options)

    name = "adapter_model.safetensors"
    assert (interrupted / name).read_bytes() == (whole / name).read_bytes()
    steps = [entry["step"] for entry in read_metrics(interrupted) if "loss" in entry]
    assert steps == [1, 2, 3, 4]


def test_complete_run_is_not_run_again(run_stage: Stage) -> None:
    folder = run_stage("sft", "out", "--max_steps=1")
    before = (folder / "COMPLETE").stat().st_mtime_ns

    with pytest.raises(SystemExit) as stop:
        run_stage("sft", "out", "--max_steps=1")

    assert stop.value.code == 0
    assert (folder / "COMPLETE").stat().st_mtime_ns == before


def test_folder_of_another_run_is_refused_with_what_differs(run_stage: Stage, data: Path) -> None:
    run_stage("sft", "out", "--max_steps=1")

    with pytest.raises(ConfigError, match=r"options.lora_rank: 8 -> 4"):
        run_stage("sft", "out", "--max_steps=1", "--lora_rank=4")
    with pytest.raises(ConfigError, match=r"stage: supervised fine-tuning -> "):
        run_stage("dpo", "out", "--max_steps=1")
    path = data / "sft" / "a.jsonl"
    path.write_text(path.read_text(encoding="utf-8").replace("休息", "睡觉"), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"data.*a.jsonl: "):
        run_stage("sft", "out", "--max_steps=1")


def test_folder_with_foreign_files_is_refused_and_left_alone(
    run_stage: Stage, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")

    with pytest.raises(ConfigError, match="found other files"):
        run_stage("sft", "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(
    ("stage", "row", "expected"),
    [
        ("sft", '{"conversations": []}', "a.jsonl:25: expected a list of turns"),
        ("sft", '{"conversations": [{"from": "human", "value": "？"}]}', "a.jsonl:25: .*assistant"),
        ("sft", '{"text": "x"}', "a.jsonl:25: expected the fields"),
        ("sft", '{"conversations": [', "a.jsonl:25: expected JSON"),
        ("dpo", '{"question": "a", "response_chosen": "b"}', "a.jsonl:25: .*response_rejected"),
        (
            "dpo",
            '{"question": "a", "response_chosen": "b", "response_rejected": "b"}',
            "a.jsonl:25: .*equal",
        ),
    ],
)
def test_bad_rows_stop_the_run_and_nothing_is_written(
    run_stage: Stage, data: Path, stage: str, row: str, expected: str
) -> None:
    with (data / stage / "a.jsonl").open("a", encoding="utf-8") as file:
        file.write(row + "\n")

    with pytest.raises(DataError, match=expected) as error:
        run_stage(stage, "out")
    assert error.value.exit_code == 2
    assert not (data.parent / "out").exists()


def test_rows_left_out_are_listed(run_stage: Stage, data: Path) -> None:
    with (data / "sft" / "a.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"conversations": [{"from": "human", "value": "？"}]}\n')

    folder = run_stage("sft", "out", "--max_steps=1", "--max_rejected_percentage=5")

    (line,) = (folder / "rejects.jsonl").read_text(encoding="utf-8").splitlines()
    reject = json.loads(line)
    assert (reject["line"], reject["reason"]) == (25, "ends_with_user")
    assert reject["row"] == {"conversations": [{"from": "human", "value": "？"}]}
    assert read(folder / "ledger.json")["rows"]["rejected"] == {"ends_with_user": 1}


def test_prompts_without_room_for_an_answer_are_counted(run_stage: Stage, data: Path) -> None:
    long = "很" * 500
    row = {"conversations": [{"from": "human", "value": long}, {"from": "gpt", "value": "好"}]}
    with (data / "sft" / "a.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(row, ensure_ascii=False) + "\n")

    folder = run_stage("sft", "out", "--max_steps=1")

    assert read(folder / "ledger.json")["rows"]["rejected"] == {"prompt_over_max_length": 1}


def test_nothing_to_learn_stops_the_run(run_stage: Stage, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="rows with a supervised token, found none"):
        run_stage("sft", "out", "--max_length=3")
    assert not (tmp_path / "out").exists()


def test_stage_refuses_an_unfinished_model(
    run_stage: Stage, small_model_folder: Path, tmp_path: Path
) -> None:
    unfinished = Path(shutil.copytree(small_model_folder, tmp_path / "unfinished"))
    (unfinished / "lineage.json").write_text("{}")

    with pytest.raises(CheckpointError, match="without COMPLETE"):
        run_stage("sft", "out", f"--model_name_or_path={unfinished}")


def test_rows_in_the_validation_data_are_not_trained_on(run_stage: Stage, data: Path) -> None:
    lines = (data / "sft" / "a.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (data / "validation.jsonl").write_text("".join(lines[:3]), encoding="utf-8")

    folder = run_stage(
        "sft", "out", "--max_steps=1", f"--validation_file_dir={data / 'validation.jsonl'}"
    )

    rows = read(folder / "ledger.json")["rows"]
    assert rows["rejected"] == {"in_validation": 3}
    assert (rows["train"], rows["validation"]) == (21, 3)


@pytest.mark.parametrize(("stage", "option"), [("pt", "block_size"), ("sft", "max_length")])
def test_rows_longer_than_the_models_positions_are_refused(
    run_stage: Stage, data: Path, stage: str, option: str
) -> None:
    said = "发热应当休息。" * 1000
    (data / "pt" / "long.txt").write_text(said, encoding="utf-8")
    turns = [{"from": "human", "value": "怎么办？"}, {"from": "gpt", "value": said}]
    write_lines(data / "sft" / "long.jsonl", [{"conversations": turns}])

    with pytest.raises(ConfigError, match=f"--{option}: expected rows of at most 1,024 tokens"):
        run_stage(stage, "out", f"--{option}=1025", "--validation_split_percentage=1")


def test_rows_that_a_prefix_leaves_no_room_for_are_refused(run_stage: Stage) -> None:
    with pytest.raises(ConfigError, match="at most 4 tokens.* behind a prefix of 1,020"):
        run_stage("sft", "out", "--pre_seq_len=1020")
