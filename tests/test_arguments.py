"""Options: flags over YAML, nothing unknown, nothing declared twice or never read.

Reference: the old names are those of MedicalGPT's scripts; the rest is the contract in the README.
"""

import json
import re
from collections import Counter
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from trl import DPOConfig, SFTConfig

from medtune import arguments
from medtune.arguments import (
    AdapterArguments,
    BlockArguments,
    DataArguments,
    MergeArguments,
    ModelArguments,
    StageArguments,
    mix_percentages,
)
from medtune.arguments.older_names import IMPOSSIBLE, OBSOLETE, RENAMED, UNREAD
from medtune.common.errors import ConfigError
from medtune.common.log import logger
from medtune.parsing import parse_arguments, parse_into
from tests.conftest import REPO

REQUIRED = ["--model_name_or_path", "m", "--train_file_dir", "d", "--output_dir", "o"]
ON_CPU = ["--use_cpu", "True"]  # else bf16 is refused on a machine without a GPU
STAGE_CLASSES = (ModelArguments, DataArguments, AdapterArguments, BlockArguments)
CONFIGS = sorted(REPO.glob("configs/*/*.yaml"))


def parse(*flags: str, stage: type = SFTConfig, with_blocks: bool = True) -> StageArguments[Any]:
    return parse_arguments([*REQUIRED, *ON_CPU, *flags], stage, with_blocks)


def parse_yaml(folder: Path, text: str, *flags: str, stage: type = SFTConfig) -> dict[str, Any]:
    """All resolved options of a YAML file and flags after it."""
    path = folder / "stage.yaml"
    path.write_text(text, encoding="utf-8")
    return parse("--config", str(path), *flags, stage=stage).to_dict()


def refusal(*flags: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(*flags)
    assert caught.value.exit_code == 2
    return str(caught.value)


@pytest.fixture
def log(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> pytest.LogCaptureFixture:
    """The warnings of medtune, whose logger passes nothing on once a script has set it up."""
    monkeypatch.setattr(logger, "propagate", True)
    caplog.set_level("WARNING", logger="medtune")
    return caplog


# -- unknown names


@pytest.mark.parametrize(
    ("flag", "real"),
    [
        ("learning_rat", "learning_rate"),
        ("lora_r", "lora_rank"),
        ("train_files_dir", "train_file_dir"),
        ("blocksize", "block_size"),
        ("gradient_acumulation_steps", "gradient_accumulation_steps"),
    ],
)
def test_unknown_flag_names_the_nearest_option(flag: str, real: str) -> None:
    for words in ([f"--{flag}", "1"], [f"--{flag}=1"], [f"--{flag.replace('_', '-')}", "1"]):
        assert refusal(*words) == f"unknown option --{flag}: did you mean --{real}?"


def test_unknown_flag_near_to_nothing_points_to_help() -> None:
    assert refusal("--zzzzqq", "1") == "unknown option --zzzzqq: `--help` lists every option."


def test_unknown_yaml_key_names_its_line_and_the_nearest_option(tmp_path: Path) -> None:
    text = "# why\nlearning_rate: 1.0e-4\n\nlora_rnk: 8\n"

    with pytest.raises(ConfigError) as caught:
        parse_yaml(tmp_path, text)
    assert str(caught.value) == (
        f"{tmp_path / 'stage.yaml'}:4: unknown option --lora_rnk: did you mean --lora_rank?"
    )


@pytest.mark.parametrize("flag", ["--learning", "--num_train", "--lora_al", "--peft"])
def test_abbreviations_are_unknown(flag: str) -> None:
    assert refusal(flag, "1").startswith(f"unknown option {flag}: ")


def test_stray_word_is_refused() -> None:
    assert "unexpected word 'stray'" in refusal("stray")


def test_block_options_belong_to_pretraining_alone() -> None:
    assert parse("--block_size", "64").blocks.block_size == 64
    with pytest.raises(ConfigError, match="unknown option --block_size"):
        parse("--block_size", "64", with_blocks=False)


# -- YAML and flags


def test_flag_wins_over_yaml_wherever_it_stands(tmp_path: Path) -> None:
    path = tmp_path / "stage.yaml"
    path.write_text("learning_rate: 1e-4\nlora_rank: 4\noutput_dir: from-yaml\n")

    for words in (
        ["--config", str(path), "--learning_rate", "5e-5"],
        ["--learning_rate", "5e-5", f"--config={path}"],
    ):
        parsed = parse(*words)
        assert parsed.training.learning_rate == 5e-5
        assert parsed.adapter.lora_rank == 4
        assert parsed.training.output_dir == "o"


@pytest.mark.parametrize(
    ("text", "name", "expected"),
    [
        ("learning_rate: 1e-4", "learning_rate", 0.0001),  # YAML itself reads text here
        ("learning_rate: 2", "learning_rate", 2.0),
        ("num_train_epochs: 0.5", "num_train_epochs", 0.5),
        ("max_length: 77", "max_length", 77),
        ("max_rejected_percentage: null", "max_rejected_percentage", 1.0),
        ("learning_rate:", "learning_rate", 2e-5),
        ("use_peft: false", "use_peft", False),
        ("use_peft: true", "use_peft", True),
        ("target_modules: [q_proj, v_proj]", "target_modules", ["q_proj", "v_proj"]),
        ("target_modules: q_proj,v_proj", "target_modules", ["q_proj", "v_proj"]),
        ("lr_scheduler_kwargs: {num_cycles: 2}", "lr_scheduler_kwargs", {"num_cycles": 2}),
        ("cache_dir: 'a folder: with signs'", "cache_dir", "a folder: with signs"),
        ("cache_dir: --odd", "cache_dir", "--odd"),
    ],
)
def test_yaml_value_arrives_with_its_type(
    tmp_path: Path, text: str, name: str, expected: Any
) -> None:
    value = parse_yaml(tmp_path, text)[name]

    assert (value, type(value)) == (expected, type(expected))


def test_yaml_lists_reach_the_dpo_config(tmp_path: Path) -> None:
    text = "loss_type: [sigmoid, sft]\nloss_weights: [1.0, 0.1]\nbeta: 0.3"
    options = parse_yaml(tmp_path, text, stage=DPOConfig)

    assert (options["loss_type"], options["loss_weights"]) == (["sigmoid", "sft"], [1.0, 0.1])
    assert options["beta"] == 0.3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- learning_rate", "expected a mapping of options, found list"),
        ("", "expected a mapping of options, found NoneType"),
        ("learning_rate: [", "expected a readable YAML file"),
    ],
)
def test_yaml_that_is_no_mapping_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"stage.yaml: {message}"):
        parse_yaml(tmp_path, text)


def test_missing_yaml_file_is_refused(tmp_path: Path) -> None:
    assert f"{tmp_path / 'no.yaml'}: expected" in refusal("--config", str(tmp_path / "no.yaml"))
    assert "--config: expected the path" in refusal("--config")


# -- names of older scripts


@pytest.mark.parametrize(
    ("old", "value", "new", "expected"),
    [
        ("model_max_length", "77", "max_length", 77),
        ("evaluation_strategy", "steps", "eval_strategy", "steps"),
        ("torch_dtype", "bfloat16", "dtype", "bfloat16"),
        ("warmup_ratio", "0.05", "warmup_steps", 0.05),
        ("model_revision", "v1", "revision", "v1"),
        ("tokenizer_name", "t", "tokenizer_name_or_path", "t"),
        ("ptuning_checkpoint", "x", "peft_path", "x"),
    ],
)
def test_old_name_means_the_new_one(
    tmp_path: Path, old: str, value: str, new: str, expected: Any
) -> None:
    assert parse(f"--{old}", value).to_dict()[new] == expected
    assert parse(f"--{old}={value}").to_dict()[new] == expected
    assert parse_yaml(tmp_path, f"{old}: {value}")[new] == expected


def test_every_renamed_option_leads_to_one_that_exists() -> None:
    known = {field.name for group in (*STAGE_CLASSES, SFTConfig) for field in fields(group)}

    assert set(RENAMED.values()) <= known
    assert not set(OBSOLETE) & known


@pytest.mark.parametrize("old", ["train_file", "dataset_name"])
def test_older_name_of_the_training_data_stands_for_it(old: str) -> None:
    without = [*REQUIRED[:2], *REQUIRED[4:], *ON_CPU]

    assert parse_arguments([*without, f"--{old}", "t"], SFTConfig).data.train_file_dir == "t"
    message = "--train_file_dir and --train_file are two names of one option"
    assert message in refusal("--train_file", "t")
    assert parse("--train_file_dir", "again").data.train_file_dir == "again"


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_impossible_option_is_refused_with_what_is_possible(tmp_path: Path, name: str) -> None:
    sentence = f"--{name} is not possible here: {IMPOSSIBLE[name]}."

    for words in ([f"--{name}"], [f"--{name}=x"], [f"--{name}", "True"]):
        assert refusal(*words) == sentence
    with pytest.raises(ConfigError, match=re.escape(f"stage.yaml:1: {sentence}")):
        parse_yaml(tmp_path, f"{name}: yes")


@pytest.mark.parametrize(
    ("words", "saves", "evaluates"),
    [
        ([], "epoch", "epoch"),
        (["--save_steps", "10"], "steps", "epoch"),
        (["--eval_steps=10"], "epoch", "steps"),
        (["--save-steps", "10", "--save-strategy", "epoch"], "epoch", "epoch"),
    ],
)
def test_steps_between_saves_count_unless_a_strategy_is_given(
    tmp_path: Path, words: list[str], saves: str, evaluates: str
) -> None:
    training = parse(*words).training
    assert (training.save_strategy.value, training.eval_strategy.value) == (saves, evaluates)
    options = parse_yaml(tmp_path, "save_strategy: 'no'", *words)
    assert options["save_strategy"] == ("epoch" if "--save-strategy" in words else "no")


# ChatGLM2-6B's ptuning/train.sh, without the two options of the method, as two of the scripts'
# users ran it: on consultations, and on PromptCBLUE.
CONSULTATIONS = {
    "train_file": "train.json", "validation_file": "dev.json", "preprocessing_num_workers": "10",
    "prompt_column": "content", "response_column": "summary", "model_name_or_path": "../model",
    "output_dir": "output/adgen-chatglm2-6b-pt-128-2e-2", "max_source_length": "128",
    "max_target_length": "128", "per_device_train_batch_size": "1",
    "per_device_eval_batch_size": "1", "gradient_accumulation_steps": "16", "max_steps": "3000",
    "logging_steps": "10", "save_steps": "1000", "learning_rate": "2e-2",
}  # fmt: skip
PROMPTCBLUE = CONSULTATIONS | {
    "train_file": "PromptCBLUE/train.json", "validation_file": "PromptCBLUE/dev.json",
    "prompt_column": "input", "response_column": "target",
    "model_name_or_path": "/root/autodl-tmp/chatglm2-6b", "max_source_length": "64",
    "output_dir": "output/adgen-chatglm2-6b-pt-128-1e-2", "per_device_train_batch_size": "32",
    "gradient_accumulation_steps": "1", "max_steps": "1000", "save_steps": "200",
    "learning_rate": "1e-2",
}  # fmt: skip
NUMBERS = {
    "logging_steps", "save_steps", "max_steps", "gradient_accumulation_steps", "learning_rate",
    "per_device_train_batch_size", "per_device_eval_batch_size", "max_source_length",
    "max_target_length",
}  # fmt: skip


@pytest.mark.parametrize("options", [CONSULTATIONS, PROMPTCBLUE])
def test_commands_of_chatglm2_s_ptuning_scripts_are_taken(options: dict[str, str]) -> None:
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    words += ["--overwrite_cache", "--overwrite_output_dir", "--predict_with_generate"]

    stage = parse_arguments(["--do_train", *words, *ON_CPU], SFTConfig)
    flat = stage.to_dict()
    new = {RENAMED.get(name, name): value for name, value in options.items()}
    del new["preprocessing_num_workers"]  # of those with a value the only one without effect
    assert {name: flat[name] for name in new} == {
        name: float(value) if name in NUMBERS else value for name, value in new.items()
    }
    assert stage.run.predict_with_generate
    assert stage.training.save_strategy.value == "steps"


@pytest.mark.parametrize("name", {**OBSOLETE, **UNREAD})
def test_obsolete_option_goes_with_its_value_and_a_warning(
    tmp_path: Path, log: pytest.LogCaptureFixture, name: str
) -> None:
    plain = parse("--lora_rank", "4").to_dict()

    assert parse(f"--{name}", "value", "--lora_rank", "4").to_dict() == plain
    assert parse(f"--{name}", "--lora_rank", "4").to_dict() == plain
    assert parse("--lora_rank", "4", f"--{name}=value").to_dict() == plain
    assert parse_yaml(tmp_path, f"{name}: value\nlora_rank: 4\n") == plain
    sentence = f"--{name} has no effect here: {(OBSOLETE | UNREAD)[name]}."
    assert log.messages == [sentence] * 3 + [f"{tmp_path / 'stage.yaml'}:1: {sentence}"]


@pytest.mark.parametrize("name", ["target_modules", "modules_to_save"])
@pytest.mark.parametrize(
    "words", [["embed_tokens", "lm_head"], ["embed_tokens,lm_head"], ["embed_tokens, lm_head"]]
)
def test_layer_names_may_be_a_comma_list(name: str, words: list[str]) -> None:
    """The older scripts write them so; unsplit, PEFT finds no such layer and says nothing."""
    assert parse(f"--{name}", *words).to_dict()[name] == ["embed_tokens", "lm_head"]


# -- values that are refused


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--lora_rank", "many"),
        ("--learning_rate", "fast"),
        ("--use_peft", "maybe"),
        ("--max_train_samples", "1.5"),
        ("--doc_separator", "page"),
        ("--dtype", "float16"),
        ("--eval_strategy", "sometimes"),
    ],
)
def test_value_of_the_wrong_type_is_refused_by_name(tmp_path: Path, flag: str, value: str) -> None:
    assert flag in refusal(flag, value)
    with pytest.raises(ConfigError, match=flag):
        parse_yaml(tmp_path, f"{flag.removeprefix('--')}: {value}")


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--validation_split_percentage", "0"),
        ("--validation_split_percentage", "50.1"),
        ("--max_rejected_percentage", "-0.1"),
        ("--max_rejected_percentage", "101"),
        ("--max_train_samples", "0"),
        ("--max_eval_samples", "-3"),
        ("--block_size", "1"),
        ("--lora_rank", "0"),
    ],
)
def test_value_without_meaning_is_refused_with_what_was_found(flag: str, value: str) -> None:
    message = refusal(flag, value)

    assert message.startswith(f"{flag}: expected ")
    assert f"found {value}" in message


@pytest.mark.parametrize("missing", ["--model_name_or_path", "--train_file_dir", "--output_dir"])
def test_missing_option_is_named(missing: str) -> None:
    place = REQUIRED.index(missing)

    with pytest.raises(ConfigError, match=missing):
        parse_arguments([*REQUIRED[:place], *REQUIRED[place + 2 :], *ON_CPU], SFTConfig)


@pytest.mark.parametrize("name", ["{}", "{}/", "{}/../data", "{}/./"])
def test_validation_on_training_data_is_refused(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "data"
    folder.mkdir()

    message = refusal("--train_file_dir", str(folder), "--validation_file_dir", name.format(folder))

    assert "--validation_file_dir" in message
    assert "--train_file_dir" in message


@pytest.mark.parametrize("words", [["--fp16"], ["--fp16", "True"], ["--fp16=true"]])
def test_float16_is_refused(words: list[str]) -> None:
    message = refusal(*words)

    assert message.startswith("--fp16: ")
    assert "--bf16" in message


def test_adapter_to_continue_without_peft_is_refused() -> None:
    message = refusal("--peft_path", "adapter", "--use_peft", "False")

    assert "--peft_path and --use_peft False clash" in message


@pytest.mark.parametrize(
    ("words", "tuner"),
    [
        ([], "lora"),
        (["--pre_seq_len", "128"], "ptuning_v2"),
        (["--tuner", "ptuning_v2"], "ptuning_v2"),
        (["--use_peft", "False"], "full"),
        (["--tuner", "full"], "full"),
        (["--tuner", "freeze"], "freeze"),
    ],
)
def test_tuner_follows_from_what_is_given(words: list[str], tuner: str) -> None:
    options = parse(*words).to_dict()

    assert options["tuner"] == tuner
    assert options["use_peft"] == (tuner != "full")
    assert options["pre_seq_len"] == (128 if tuner == "ptuning_v2" else None)
    assert options["num_trainable_layers"] == (2 if tuner == "freeze" else None)
    # what is recorded can be given again
    again = [f"--{name}={options[name]}" for name in ("tuner", "use_peft", "pre_seq_len")]
    assert parse(*(word for word in again if not word.endswith("None"))).to_dict() == options


@pytest.mark.parametrize(
    ("words", "clash"),
    [
        ("--pre_seq_len 8 --tuner lora", "--pre_seq_len and --tuner lora clash"),
        ("--pre_seq_len 8 --use_peft no", "--pre_seq_len and --tuner full clash"),
        ("--pre_seq_len 8 --use_dora yes", "--use_dora and --tuner ptuning_v2 clash"),
        ("--num_trainable_layers 2", "--num_trainable_layers and --tuner lora clash"),
        ("--tuner freeze --use_rslora yes", "--use_rslora and --tuner freeze clash"),
        ("--tuner freeze --use_peft no", "--use_peft False and --tuner freeze clash"),
        ("--tuner full --modules_to_save x", "--modules_to_save and --tuner full clash"),
        ("--tuner full --peft_path a", "--peft_path and --tuner full clash"),
        ("--use_dora yes --quantization_bit 8", "--quantization_bit 8 and --use_dora clash"),
        ("--tuner freeze --peft_path a", "--peft_path and --tuner freeze clash"),
        ("--use_dora yes --peft_path a", "--use_dora and --peft_path clash"),
        ("--use_dora yes --init_lora_weights pissa", "--use_dora and --init_lora_weights pissa"),
        ("--quantization_bit 4 --tuner full", "4-bit weights are frozen"),
        ("--quantization_bit 8 --tuner freeze", "8-bit weights are frozen"),
        ("--quantization_bit 4 --init_lora_weights pissa", "--quantization_bit 4 and --init_lora"),
        ("--pre_seq_len 0", "--pre_seq_len: expected 1 or more, found 0"),
        ("--loraplus_lr_ratio 0.5", "--loraplus_lr_ratio: expected 1 or more, found 0.5"),
    ],
)
def test_tuners_that_do_not_go_together_are_refused_by_name(words: str, clash: str) -> None:
    assert clash in refusal(*words.split())


def test_pissa_is_refused_for_pairs() -> None:
    with pytest.raises(ConfigError, match="--init_lora_weights pissa: expected another stage"):
        parse_arguments([*REQUIRED, *ON_CPU, "--init_lora_weights=pissa"], DPOConfig)


def test_recorded_options_hold_no_secret() -> None:
    options = parse("--hub_token", "hf_secret").to_dict()

    assert "hf_secret" not in json.dumps(options)
    assert options["learning_rate"] == 2e-5


def test_merge_takes_its_own_names_and_those_of_older_scripts() -> None:
    words = [["--base_model", "b", "--lora_model", "x", "y", "--output_dir", "o"]]
    words += [["--base_model_name_or_path", "b", "--peft_model_path", "x", "y", "--output_dir=o"]]

    for argv in words:
        assert parse_into(argv, [MergeArguments], {}) == (MergeArguments("b", ["x", "y"], "o"),)


# -- declarations


@pytest.mark.parametrize(
    "words",
    [["general"], ["=10"], ["a=0"], ["a=100"], ["a=ten"], ["a=5", "a=6"], ["a=60", "b=40"]],
)
def test_mix_that_means_nothing_is_refused(words: list[str]) -> None:
    assert refusal("--mix", *words).startswith("--mix: expected ")


@pytest.mark.parametrize("word", ["d=5", "./d=5", "v=5"])
def test_mixing_what_is_trained_or_validated_on_is_refused(word: str) -> None:
    assert "the same" in refusal("--validation_file_dir", "v", "--mix", word)
    assert "the same" in refusal("--mix", "a=5", "./a=6")
    assert "write ./train=5" in refusal("--mix", "train=5")


def test_folder_to_mix_may_hold_any_sign() -> None:
    assert mix_percentages(["a=b=2.5", "/c d/e=10"]) == {"a=b": 2.5, "/c d/e": 10.0}


@pytest.mark.parametrize("training", [SFTConfig, DPOConfig])
def test_no_option_is_declared_twice(training: type) -> None:
    declared = Counter(
        field.name for group in (*STAGE_CLASSES, training) for field in fields(group)
    )
    aliases = Counter(
        alias.removeprefix("--")
        for group in STAGE_CLASSES
        for field in fields(group)
        for alias in field.metadata.get("aliases", [])
    )

    assert [name for name, count in (declared + aliases).items() if count > 1] == []


def test_every_declared_option_is_read() -> None:
    files = [*REPO.glob("*.py"), *(REPO / "medtune").rglob("*.py")]
    text = "".join(
        path.read_text(encoding="utf-8")
        for path in files
        if path.parent.name != "arguments" and path.name != "parsing.py"
    )
    classes = [
        value
        for value in vars(arguments).values()
        if isinstance(value, type)
        and is_dataclass(value)
        and value.__module__.startswith(arguments.__name__)
    ]
    unread = [
        f"{group.__name__}.{field.name}"
        for group in classes
        if group is not StageArguments
        for field in fields(group)
        if not re.search(rf"\b(arguments(\.\w+)?|blocks|speed|options)\.{field.name}\b", text)
    ]

    assert {*STAGE_CLASSES, MergeArguments} <= set(classes)
    assert unread == []


def test_every_option_explains_itself() -> None:
    helps = {f.name: f.metadata["help"] for group in STAGE_CLASSES for f in fields(group)}

    assert [name for name, text in helps.items() if len(text) < 10] == []


# -- the shipped configurations


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_shipped_configuration_parses_and_every_value_arrives(path: Path) -> None:
    stage = {"pt": SFTConfig, "sft": SFTConfig, "dpo": DPOConfig}[path.stem]
    written = yaml.safe_load(path.read_text(encoding="utf-8"))

    parsed = parse_arguments(["--config", str(path), *ON_CPU], stage, path.stem == "pt")

    options = parsed.to_dict()
    assert {name: options[name] for name in written} == written
    assert isinstance(parsed.training, stage)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_shipped_configuration_opens_with_what_it_needs(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    header = lines[: next(n for n, line in enumerate(lines) if not line.startswith("#"))]

    assert any(re.match(r"# Before: +\S", line) for line in header)
    assert any(
        re.match(rf"# Run: +PROFILE={path.parent.name} .*bash run_{path.stem}\.sh", line)
        for line in header
    )
    assert any(re.match(r"# (Memory|Needs)\b", line) for line in header)


def test_every_profile_has_the_three_stages() -> None:
    profiles = {path.parent.name for path in CONFIGS}

    assert {"tiny", "glm4-9b"} <= profiles
    assert {(path.parent.name, path.stem) for path in CONFIGS} == {
        (profile, stage) for profile in profiles for stage in ("pt", "sft", "dpo")
    }


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], "there"),
        (["--train_file_dir=mine"], None),
        (["--train-file-dir", "mine"], None),
        (["--train_file_dir=mine", "--validation_file_dir=also_mine"], "also_mine"),
    ],
)
def test_validation_data_of_a_yaml_go_with_its_training_data(
    words: list[str], expected: str | None, tmp_path: Path
) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(
        "model_name_or_path: m\noutput_dir: o\ntrain_file_dir: here\nvalidation_file_dir: there\n"
    )
    arguments = parse_arguments([f"--config={config}", *words], SFTConfig)

    assert arguments.data.validation_file_dir == expected
