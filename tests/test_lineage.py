"""The chain pretraining -> merge -> fine-tuning on a small model: written, verified, told.

One chain is made for the module; a test that changes a file does so in a copy. Command lines are
run through `main`, as a user would type them, in the folder that the chain was made in.
"""

import contextlib
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import trl

import evaluation
from medtune.arguments import MergeArguments
from medtune.common.errors import CheckpointError, ConfigError, MedtuneError
from medtune.common.files import sha256_of_file, write_json
from medtune.common.lineage import (
    COMPLETE_FILE,
    LINEAGE_FILE,
    describe_tokenizer,
    describe_weights,
)
from medtune.evaluation import summary
from medtune.lineage.__main__ import main
from medtune.lineage.chain import locate
from medtune.lineage.records import Record, Reference, read_record
from medtune.lineage.uses import find_uses, is_learnt
from medtune.models.merging import merge_adapters
from tests.conftest import WriteJsonl
from tests.training.conftest import MAINS

SFT, MERGED, PT = "outputs/sft-v1", "outputs/pt-merged", "outputs/pt-v1"
SUMMARY = "outputs/small-summary.json"
BASE_EVALUATION, EVALUATION = "outputs/base-evaluation", "outputs/pt-evaluation"
TEXTS = [f"第{number}号病的症状是{'发热、' * (number % 5 + 1)}应当休息。" for number in range(12)]
TURNS = [(f"第{number}号病怎么办？", f"第{number}号病要多休息。") for number in range(12)]


def conversations(turns: list[tuple[str, str]]) -> list[dict]:
    return [
        {"conversations": [{"from": "human", "value": q}, {"from": "gpt", "value": a}]}
        for q, a in turns
    ]


def write_data(write_jsonl: WriteJsonl) -> None:
    """Data to train, validate and measure on, below the working directory."""
    for folder, texts in (("data/pt", TEXTS), ("data/eval/pretrain", ["哮喘要避开过敏原。"] * 9)):
        Path(folder).mkdir(parents=True)
        (Path(folder) / "book.txt").write_text("\n\n".join(texts), encoding="utf-8")
    write_jsonl(Path("data/sft/a.jsonl"), conversations(TURNS[:7]))
    write_jsonl(Path("data/sft/b.jsonl"), conversations(TURNS[7:10]))
    write_jsonl(Path("data/validation.jsonl"), conversations(TURNS[10:]))
    write_jsonl(Path("data/eval/finetune/c.jsonl"), conversations([("哮喘怎么办？", "请就医。")]))
    pair = {"question": "能喝酒吗？", "response_chosen": "不能。", "response_rejected": "能。"}
    write_jsonl(Path("data/eval/reward/p.jsonl"), [pair])
    write_jsonl(Path("data/eval/questions.jsonl"), [{"question": "咳嗽怎么办？"}])


def run_stage(stage: str, *words: str) -> None:
    MAINS[stage]([*words, "--max_steps=2", "--report_to=none", "--save_strategy=no"])


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """The models are too small for several threads: beside other work those wait for each other."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(num_threads)


@pytest.fixture(scope="module")
def chain(
    tmp_path_factory: pytest.TempPathFactory,
    small_model_folder: Path,
    write_jsonl: WriteJsonl,
    one_thread: None,
) -> Path:
    """A project folder with base/, data/ and outputs/; all paths in it are relative."""
    folder = tmp_path_factory.mktemp("project") / "here"
    folder.mkdir()
    with contextlib.chdir(folder):
        shutil.copytree(small_model_folder, "base")
        write_data(write_jsonl)
        run_stage(
            "pt", "--model_name_or_path=base", "--train_file_dir=data/pt", "--block_size=32",
            "--validation_split_percentage=20", f"--output_dir={PT}",
        )  # fmt: skip
        merge_adapters(MergeArguments("base", [PT], MERGED))
        run_stage(
            "sft", f"--model_name_or_path={MERGED}", "--train_file_dir=data/sft",
            "--validation_file_dir=data/validation.jsonl", "--max_length=64",
            "--eval_files=data/eval/finetune/c.jsonl", f"--output_dir={SFT}",
        )  # fmt: skip
        for model, output in (("base", BASE_EVALUATION), (MERGED, EVALUATION)):
            words = f"--model_name_or_path={model} --output_dir={output} --max_new_tokens=2"
            evaluation.main([*words.split(), "--max_length=512"])
        stages = f"--base={BASE_EVALUATION} --pt={EVALUATION} --sft={EVALUATION} --dpo={EVALUATION}"
        summary.main([*stages.split(), f"--output_file={SUMMARY}"])
    return folder


@pytest.fixture
def project(chain: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of the chain as the working directory."""
    folder = Path(shutil.copytree(chain, tmp_path / "project"))
    with contextlib.chdir(folder):
        yield folder


@pytest.fixture
def in_chain(chain: Path) -> Iterator[Path]:
    """The chain itself as the working directory, for tests that only read."""
    with contextlib.chdir(chain):
        yield chain


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def refusal_of(*words: str) -> str:
    with pytest.raises(MedtuneError) as error:
        main([*words])
    assert error.value.exit_code == 2
    return str(error.value)


def read(path: str | Path) -> dict:
    return json.loads(Path(path).read_text(encoding="utf-8"))


# -- what is written


def test_stage_records_the_hash_of_each_file_that_it_keeps(in_chain: Path) -> None:
    outputs = read(f"{SFT}/lineage.json")["outputs"]

    assert set(outputs) == {
        "adapter_model.safetensors", "adapter_config.json", "tokenizer.json",
        "tokenizer_config.json", "chat_template.jinja", "generation_config.json", "ledger.json",
        "eval_results.json", "train_results.json", "arguments.yaml",
    }  # fmt: skip
    assert all(sha256 == sha256_of_file(Path(SFT, name)) for name, sha256 in outputs.items())
    certified = {"lineage.json": sha256_of_file(Path(SFT, LINEAGE_FILE))}
    assert read(f"{SFT}/COMPLETE")["sha256"] == certified


def test_merge_and_summary_record_what_they_wrote(in_chain: Path) -> None:
    merge, measured = read(f"{MERGED}/lineage.json"), read("outputs/small-summary.lineage.json")

    assert set(merge["outputs"]) == {
        "model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json",
        "chat_template.jinja", "generation_config.json", "merge_report.json",
    }  # fmt: skip
    assert measured["outputs"] == {"small-summary.json": sha256_of_file(Path(SUMMARY))}
    assert measured["inputs"]["models"]["dpo"] == describe_weights(MERGED)
    assert measured["inputs"]["data"].keys() == {
        "data/eval/pretrain/book.txt",
        "data/eval/finetune/c.jsonl",
        "data/eval/reward/p.jsonl",
        "data/eval/questions.jsonl",
    }


@pytest.mark.parametrize("file", [f"{PT}/lineage.json", "outputs/small-summary.lineage.json"])
def test_versions_of_python_and_libraries_are_recorded(in_chain: Path, file: str) -> None:
    packages = read(file)["packages"]

    assert packages["torch"] == torch.__version__ and packages["trl"] == trl.__version__
    assert {"python", "transformers", "peft", "datasets", "numpy"} <= packages.keys()


def test_the_merge_of_an_equal_run_is_the_same_merge(project: Path) -> None:
    """The run is another one and its lineage too; verify says so, and the weights are equal."""
    before = (project / PT / "adapter_model.safetensors").read_bytes()
    shutil.rmtree(project / PT)
    run_stage(
        "pt", "--model_name_or_path=base", "--train_file_dir=data/pt", "--block_size=32",
        "--validation_split_percentage=20", f"--output_dir={PT}",
    )  # fmt: skip
    assert (project / PT / "adapter_model.safetensors").read_bytes() == before

    merge_adapters(MergeArguments("base", [PT], MERGED))  # nothing to do

    assert refusal_of("verify", MERGED).startswith(f"{PT}/lineage.json: expected sha256 ")
    shutil.rmtree(project / MERGED)
    merge_adapters(MergeArguments("base", [PT], MERGED))
    main(["verify", MERGED])


# -- verify


@pytest.mark.parametrize("output", [SFT, MERGED, f"{MERGED}/lineage.json", PT, SUMMARY])
def test_what_was_not_touched_verifies(
    in_chain: Path, output: str, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["verify", output])

    lines = capsys.readouterr().out.splitlines()
    assert re.fullmatch(
        r"as recorded: \d+ checked, 0 not; hashed \d+ files, [\d.]+ MB in [\d.]+ s \([\d,]+ MB/s\)",
        lines[-1],
    )
    base = describe_weights("base")["sha256"][:12]
    weights = "*.safetensors, config.json, adapter_config.json"
    assert f"  ok       {base} base (base: {weights})" in lines
    assert f"  ok       {sha256_of_file(Path('data/pt/book.txt'))[:12]} data/pt/book.txt" in lines
    assert len(lines) == len(set(lines)), "each thing is said once"


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        (f"{SFT}/adapter_model.safetensors", None),
        (f"{SFT}/adapter_config.json", None),
        (f"{SFT}/tokenizer.json", None),
        (f"{SFT}/chat_template.jinja", None),
        (f"{SFT}/generation_config.json", None),
        (f"{SFT}/ledger.json", None),
        (f"{SFT}/arguments.yaml", None),
        (f"{SFT}/train_results.json", None),
        (f"{SFT}/eval_results.json", None),
        (f"{MERGED}/lineage.json", None),
        (f"{MERGED}/model.safetensors", None),
        (f"{MERGED}/merge_report.json", None),
        (f"{MERGED}/tokenizer.json", None),
        (f"{PT}/lineage.json", None),
        (f"{PT}/adapter_model.safetensors", None),
        (f"{PT}/ledger.json", None),
        ("data/sft/b.jsonl", None),
        ("data/validation.jsonl", None),
        ("data/eval/finetune/c.jsonl", None),
        ("data/pt/book.txt", None),
        ("base/model.safetensors", "base"),  # made elsewhere: nothing tells its files apart
        ("base/config.json", "base"),
    ],
)
def test_one_changed_bit_is_named_as_the_first_mismatch(
    project: Path, changed: str, named: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    sha256 = sha256_of_file(Path(changed))
    flip_a_bit(Path(changed))

    message = refusal_of("verify", SFT)

    found = describe_weights(named)["sha256"] if named else sha256_of_file(Path(changed))
    assert message.startswith(f"{named or changed}: expected sha256 ")
    assert named or f"expected sha256 {sha256[:12]}, as recorded in " in message
    assert f", found {found[:12]}. " in message
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == f"  changed  {found[:12]} {named or changed}"


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ("base/tokenizer.json", "base: expected sha256 {} over its tokenizer's files, as recorded"),
        ("base/chat_template.jinja", "base/chat_template.jinja: expected sha256 {}, as recorded"),
    ],
)
def test_a_changed_tokenizer_of_the_base_is_named(project: Path, changed: str, named: str) -> None:
    hashes = describe_tokenizer("base")
    flip_a_bit(Path(changed))

    sha256 = hashes["files" if "tokenizer" in changed else "chat_template"] or ""
    assert refusal_of("verify", PT).startswith(named.format(sha256[:12]))


def test_first_of_two_changed_files_is_named(project: Path) -> None:
    for name in (f"{SFT}/tokenizer.json", f"{PT}/adapter_model.safetensors", "data/pt/book.txt"):
        flip_a_bit(Path(name))

    assert refusal_of("verify", SFT).startswith(f"{SFT}/tokenizer.json: ")
    assert refusal_of("verify", MERGED).startswith(f"{PT}/adapter_model.safetensors: ")


def test_a_row_added_to_a_data_file_is_found(project: Path) -> None:
    with Path("data/sft/a.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(conversations(TURNS[:1])[0]) + "\n")

    message = refusal_of("verify", SFT)

    assert message.startswith("data/sft/a.jsonl: expected sha256 ")
    assert "the model was trained on what it was before: train again" in message


def test_a_lineage_that_was_edited_is_found_by_its_own_folder(project: Path) -> None:
    lineage = read(f"{SFT}/lineage.json")
    lineage["inputs"]["options"]["learning_rate"] = 1.0
    write_json(Path(SFT, LINEAGE_FILE), lineage)

    message = refusal_of("verify", SFT)

    assert message.startswith(f"{SFT}/lineage.json: expected sha256 ")
    assert f", as recorded in {SFT}/COMPLETE, found " in message


def test_a_data_file_that_is_gone_is_missing_unless_allowed(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sha256 = sha256_of_file(Path("data/sft/a.jsonl"))
    Path("data/sft/a.jsonl").unlink()

    message = refusal_of("verify", SFT)
    main(["verify", SFT, "--allow_missing_data"])

    assert message.startswith(f"data/sft/a.jsonl: expected sha256 {sha256[:12]}")
    assert "found nothing there" in message
    lines = capsys.readouterr().out.splitlines()
    assert f"  missing  {sha256[:12]} data/sft/a.jsonl (allowed)" in lines
    assert ", 1 not; " in lines[-1]
    flip_a_bit(Path("data/sft/b.jsonl"))
    assert refusal_of("verify", SFT, "--allow_missing_data").startswith("data/sft/b.jsonl: ")


@pytest.mark.parametrize("gone", [MERGED, "base", f"{SFT}/tokenizer.json", f"{PT}/lineage.json"])
def test_a_model_or_a_file_of_it_that_is_gone_is_missing(project: Path, gone: str) -> None:
    path = Path(gone)
    shutil.rmtree(path) if path.is_dir() else path.unlink()

    message = refusal_of("verify", SFT, "--allow_missing_data")

    assert message.startswith(f"{gone}: expected sha256 ") and "found nothing there" in message


def test_a_project_that_was_moved_still_verifies(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = project.rename(tmp_path / "moved")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")

    main(["verify", str(moved / SFT)])
    main(["verify", str(moved / SUMMARY)])
    flip_a_bit(moved / "data/pt/book.txt")

    assert refusal_of("verify", str(moved / SFT)).startswith(f"{moved}/data/pt/book.txt: ")


def test_an_absolute_path_is_found_again_below_the_folder_that_was_moved(tmp_path: Path) -> None:
    output = tmp_path / "new" / "outputs" / "sft-v1"
    output.mkdir(parents=True)
    (tmp_path / "new" / "data").mkdir()
    (tmp_path / "new" / "data" / "a.jsonl").write_text("{}")

    assert locate("/old/project/data/a.jsonl", output) == tmp_path / "new" / "data" / "a.jsonl"
    assert locate("/old/project/data/b.jsonl", output) is None


def test_a_hub_name_is_said_and_not_checked(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lineage = read(f"{PT}/lineage.json")
    lineage["inputs"]["base"] = {"path": "zai-org/glm", "sha256": None, "parent": None}
    lineage["inputs"]["tokenizer"] = describe_tokenizer("zai-org/glm")
    write_json(Path(PT, LINEAGE_FILE), lineage)
    complete = read(f"{PT}/COMPLETE")
    complete["sha256"]["lineage.json"] = sha256_of_file(Path(PT, LINEAGE_FILE))
    write_json(Path(PT, COMPLETE_FILE), complete)

    main(["verify", PT])

    out = capsys.readouterr().out
    assert "  hub      -            zai-org/glm: a name, not a folder; not checked\n" in out


def test_a_chain_that_leads_back_to_itself_is_refused(project: Path) -> None:
    for folder, base in ((PT, MERGED), (MERGED, PT)):
        value = {"path": base, "sha256": describe_weights(base)["sha256"], "parent": "0" * 64}
        inputs = {"stage": "merge", "base": value}
        write_json(Path(folder, LINEAGE_FILE), {"inputs": inputs})

    assert "that leads back to it" in refusal_of("show", PT)
    assert "that leads back to it" in refusal_of("data", PT)


# -- what is refused


def test_unfinished_work_is_refused(project: Path) -> None:
    Path(PT, COMPLETE_FILE).unlink()

    assert "found one without COMPLETE" in refusal_of("verify", PT)
    assert "found one without COMPLETE" in refusal_of("verify", SFT)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["verify"], "arguments are required: OUTPUT"),
        (["verify", SFT, "--allow"], "unrecognized arguments: --allow"),
        (["inspect", SFT], "invalid choice: 'inspect'"),
        (["verify", "outputs/none"], "outputs/none: expected the folder of a stage or a merge"),
        (["show", "base"], "found no base/lineage.json: nothing says what it was made from"),
        (["show", "data/pt/book.txt"], "found no data/pt/book.lineage.json"),
        (["models", "data/none.jsonl"], "data/none.jsonl: expected the data file"),
        (["models", "data/pt/book.txt", "--under", "none"], "--under none: expected the folder"),
    ],
)
def test_a_mistake_is_explained(in_chain: Path, words: list[str], expected: str) -> None:
    with pytest.raises((ConfigError, CheckpointError)) as error:
        main(words)

    assert expected in str(error.value)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"inputs": {"stage": "merge", "base": 1}}', '{"inputs": []}',
     '{"inputs": {"stage": "x", "data": {"a": 1}}}', '{"inputs": {"stage": "x"}, "outputs": 1}'],
)  # fmt: skip
def test_a_damaged_lineage_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / LINEAGE_FILE).write_text(text)
    (tmp_path / COMPLETE_FILE).write_text("{}")

    for command in ("verify", "show", "data"):
        assert refusal_of(command, str(tmp_path)).startswith(f"{tmp_path}/lineage.json: expected ")


# -- what a record says


def record_of(tmp_path: Path, inputs: dict, ledger: dict | None = None) -> Record:
    write_json(tmp_path / LINEAGE_FILE, {"inputs": {"stage": "supervised fine-tuning", **inputs}})
    if ledger is not None:
        write_json(tmp_path / "ledger.json", ledger)
    return read_record(tmp_path / LINEAGE_FILE, tmp_path)


def test_an_adapter_that_was_continued_is_part_of_the_chain(tmp_path: Path) -> None:
    adapter = {"path": "first", "sha256": "a" * 64, "parent": "b" * 64}
    base = {"path": "base", "sha256": "c" * 64, "parent": None, "adapter": adapter}

    found = record_of(tmp_path, {"base": base}).references()

    assert found == [
        Reference("adapter", "first", "a" * 64, "b" * 64),
        Reference("base", "base", "c" * 64, None),
    ]


@pytest.mark.parametrize(
    ("ledger", "used_for", "counts", "has_learnt"),
    [
        ({"train": 5, "validation": 1, "mixed": 0}, "training and validation", (9, 5, 70), True),
        ({"train": 0, "validation": 4, "mixed": 0}, "validation", (9, 0, 70), False),
        ({"train": 0, "validation": 0, "mixed": 8}, "mixed in", (9, None, None), True),
        ({"train": 0, "validation": 0, "mixed": 0}, "nothing", (9, 0, 70), False),
        ({}, "compared with", (None, 0, 0), False),  # the ledger tells files, and not this one
        (None, "unknown", (None, None, None), True),  # a ledger of an older medtune
    ],
)
def test_use_of_a_file_is_that_of_the_ledger(
    tmp_path: Path, ledger: dict | None, used_for: str, counts: tuple, has_learnt: bool
) -> None:
    file = {"path": "a.jsonl", "read": 9, "tokens": {"train": {"kept": 70}}, **(ledger or {})}
    files = {} if ledger is None else {"files": [file] * bool(ledger)}

    (use,) = find_uses(record_of(tmp_path, {"data": {"a.jsonl": "d" * 64}}, files))

    assert (use.used_for, use.rows_read, use.rows_trained, use.tokens) == (used_for, *counts)
    assert is_learnt(use) == has_learnt


def test_a_folder_without_hashes_of_its_files_is_said_to_be_unknown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record_of(tmp_path, {})
    (tmp_path / COMPLETE_FILE).write_text("{}")

    main(["verify", str(tmp_path)])

    lines = capsys.readouterr().out.splitlines()
    assert (
        lines[1] == f"  unknown  -            {tmp_path}: written by a medtune that kept no hashes"
    )
    assert lines[2].startswith("as recorded: 0 checked, 1 not; hashed 0 files, 0.0 MB")


# -- show, data, models


def test_show_prints_the_tree_to_the_base(
    in_chain: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["show", SFT])

    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    heads = [line.split("  [")[0] for line in lines if "outputs/" in line or "base:" in line]
    sha256 = describe_weights("base")["sha256"][:12]
    assert heads == [
        "outputs/sft-v1",
        "└── base: outputs/pt-merged",
        "    ├── adapter: outputs/pt-v1",
        f"    │   └── base: base, sha256 {sha256}",
        f"    └── base: base, sha256 {sha256}",
    ]
    assert re.fullmatch(
        rf"{SFT}  \[supervised fine-tuning, finished 20\S+\+00:00, 2 steps, [\d.]+ s\]", lines[0]
    )
    assert lines[1].startswith("├── options: learning_rate 2e-05, num_train_epochs 3")
    assert lines[1].endswith("lora_rank 8, lora_alpha 16.0, max_length 64, seed 42")
    assert re.match(r"├── code: medtune \d\.\d\.\d .*, torch 2\.", lines[2])
    a = sha256_of_file(Path("data/sft/a.jsonl"))[:12]
    tokens = read(f"{SFT}/ledger.json")["files"][0]["tokens"]["train"]["kept"]
    assert lines[3] == (
        f"├── data: data/sft/a.jsonl  [training, 7 rows read, 7 trained on, {tokens} tokens an "
        f"epoch]  sha256 {a}"
    )


def test_show_as_json_holds_the_same(in_chain: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["show", SFT, "--json"])

    value = json.loads(capsys.readouterr().out)
    assert (value["path"], value["steps"], value["is_finished"]) == (SFT, 2, True)
    assert [(use["path"], use["used_for"]) for use in value["data"]] == [
        ("data/sft/a.jsonl", "training"),
        ("data/sft/b.jsonl", "training"),
        ("data/validation.jsonl", "validation"),
        ("data/eval/finetune/c.jsonl", "compared with"),
    ]
    (merged,) = value["made_from"]
    assert (merged["role"], merged["made"]["stage"]) == ("base", "merge")
    roles = [(one["role"], one["path"], one["found"]) for one in merged["made"]["made_from"]]
    assert roles == [("adapter", PT, PT), ("base", "base", "base")]


def test_a_model_that_is_named_twice_is_shown_once(
    in_chain: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["show", SUMMARY])

    out = capsys.readouterr().out
    assert out.count(f"{MERGED}  [merge") == 1
    assert out.count(f"{MERGED}  [shown above]") == 2


def test_data_lists_every_file_of_the_chain(
    in_chain: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["data", SFT])

    lines = capsys.readouterr().out.splitlines()
    rows = [re.split(r"  +", line.strip()) for line in lines[2:7]]
    files = {
        file["path"]: file for out in (SFT, PT) for file in read(f"{out}/ledger.json")["files"]
    }

    def row(output: str, path: str, used_for: str, num_read: str) -> list[str]:
        file = files.get(path, {"train": 0, "tokens": {}})
        tokens = file["tokens"].get("train", {"kept": 0})["kept"]
        counts = [num_read, f"{file['train']}", f"{tokens:,}"]
        return [output, path, used_for, *counts, sha256_of_file(Path(path))[:12]]

    assert rows == [
        row(SFT, "data/sft/a.jsonl", "training", "7"),
        row(SFT, "data/sft/b.jsonl", "training", "3"),
        row(SFT, "data/validation.jsonl", "validation", "2"),
        row(SFT, "data/eval/finetune/c.jsonl", "compared with", "-"),
        row(PT, "data/pt/book.txt", "training and validation", "12"),
    ]
    trained = read(f"{SFT}/train_results.json")["num_tokens"]
    assert lines[7] == f"{SFT}: {trained:,} tokens trained on in 2 steps"


def test_models_tells_who_learnt_from_a_file_and_who_descends(
    in_chain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other_name = Path(shutil.copyfile("data/pt/book.txt", tmp_path / "renamed.txt"))

    main(["models", str(other_name)])

    assert capsys.readouterr().out.splitlines() == [
        f"training and validation: {PT}  [pretraining, as data/pt/book.txt]",
        f"through {PT}: {MERGED}  [merge]",
        f"through {MERGED}: {EVALUATION}  [evaluation]",
        f"through {MERGED}: {SFT}  [supervised fine-tuning]",
        f"through {MERGED}: {SUMMARY}  [evaluation]",
        f"sha256 {sha256_of_file(other_name)[:12]}, looked for in 6 lineages below outputs",
    ]


def test_what_only_measured_on_a_file_has_no_descendants(
    in_chain: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["models", "data/eval/finetune/c.jsonl", "--under", "outputs"])
    main(["models", "base/config.json"])

    lines = capsys.readouterr().out.splitlines()
    assert lines[:4] == [
        f"measured on: {BASE_EVALUATION}  [evaluation, as data/eval/finetune/c.jsonl]",
        f"measured on: {EVALUATION}  [evaluation, as data/eval/finetune/c.jsonl]",
        f"compared with: {SFT}  [supervised fine-tuning, as data/eval/finetune/c.jsonl]",
        f"measured on: {SUMMARY}  [evaluation, as data/eval/finetune/c.jsonl]",
    ]
    assert lines[5] == "nothing below outputs saw a file of this content"


def test_unfinished_and_damaged_folders_are_said(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(SFT, COMPLETE_FILE).unlink()
    Path(MERGED, LINEAGE_FILE).write_text("{")

    main(["models", "data/sft/a.jsonl"])

    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("[supervised fine-tuning, as data/sft/a.jsonl]  UNFINISHED")
    assert lines[1].endswith("looked for in 5 lineages below outputs")
    assert lines[2].startswith(f"left out: {MERGED}/lineage.json: expected a JSON object")
