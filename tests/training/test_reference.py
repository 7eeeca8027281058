"""Reference log-probabilities: as the online ones, kept, continued, never taken for others."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from datasets import Dataset

from medtune.training.reference import append_scores, cache_path, read_scores

Stage = Callable[..., Path]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MEDTUNE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def files(cache: Path) -> list[Path]:
    return sorted(cache.glob("reference-*.jsonl"))


def losses(folder: Path) -> list[float]:
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [entry["loss"] for entry in map(json.loads, lines) if "loss" in entry]


def result(folder: Path) -> dict[str, float]:
    return json.loads((folder / "eval_results.json").read_text(encoding="utf-8"))


COMMON = ("--max_steps=3", "--lora_dropout=0", "--logging_steps=1", "--beta=0.3")
ONCE = "--precompute_ref_log_probs=True"


@pytest.mark.parametrize("options", [(), ("--use_peft=False",), ("--packed_forward=off",)])
def test_a_run_with_the_reference_computed_once_is_the_same_run(
    run_stage: Stage, cache: Path, options: tuple[str, ...]
) -> None:
    online, once = run_stage("dpo", "online", *COMMON, *options), None
    once = run_stage("dpo", "once", *COMMON, ONCE, *options)
    # float32 log-probabilities near -100 in batches of another layout
    assert losses(once) == pytest.approx(losses(online), abs=1e-5)
    for name in ("eval_loss", "perplexity", "eval_rewards/accuracies"):
        assert result(once)[name] == pytest.approx(result(online)[name], rel=1e-5)
    assert len(files(cache)) == 2  # the training pairs and the validation pairs


def test_a_second_run_reads_what_the_first_computed(
    run_stage: Stage, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    first = run_stage("dpo", "first", *COMMON, ONCE)
    before = [path.read_bytes() for path in files(cache)]
    assert "read from" not in caplog.text
    caplog.clear()
    second = run_stage("dpo", "second", *COMMON, ONCE, "--learning_rate=1e-3")
    assert losses(second) == losses(first)
    assert caplog.text.count("reference log-probabilities") == 2
    assert caplog.text.count("reference log-probabilities (training): read from") == 1
    assert caplog.text.count("reference log-probabilities (validation): read from") == 1
    assert [path.read_bytes() for path in files(cache)] == before


def test_an_interrupted_computation_goes_on(run_stage: Stage, cache: Path) -> None:
    first = run_stage("dpo", "first", *COMMON, ONCE)
    whole = {path: read_scores(path, 100) for path in files(cache)}
    path = max(whole, key=lambda path: len(whole[path]))
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    assert len(lines) > 1
    path.write_text(lines[0] + lines[1][:9], encoding="utf-8")  # cut off in the second line

    second = run_stage("dpo", "second", *COMMON, ONCE)

    # the rest is computed again in batches of another layout
    assert losses(second) == pytest.approx(losses(first), abs=1e-5)
    assert read_scores(path, 100).keys() == whole[path].keys()
    assert path.read_text(encoding="utf-8").startswith(lines[0])


def test_other_pairs_or_another_reference_have_files_of_their_own(
    run_stage: Stage, cache: Path, data: Path, small_model_folder: Path, tmp_path: Path
) -> None:
    run_stage("dpo", "first", *COMMON, ONCE)
    assert len(files(cache)) == 2
    trained = run_stage("dpo", "full", *COMMON, "--use_peft=False")
    run_stage("dpo", "second", *COMMON, ONCE, f"--model_name_or_path={trained}")
    assert len(files(cache)) == 4  # other weights, same pairs
    pairs = data / "dpo" / "a.jsonl"
    text = pairs.read_text(encoding="utf-8").replace("随便吃。", "随便。")
    pairs.write_text(text, encoding="utf-8")
    run_stage("dpo", "third", *COMMON, ONCE)
    assert len(files(cache)) == 6


def test_a_line_that_was_cut_off_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    append_scores(path, {0: (-1.5, -2.25), 7: (-3.0, -4.0)})
    append_scores(path, {1: (-0.1, -0.2)})
    assert read_scores(path, 8) == {0: (-1.5, -2.25), 7: (-3.0, -4.0), 1: (-0.1, -0.2)}
    path.write_text(path.read_text(encoding="utf-8")[:-6], encoding="utf-8")
    assert read_scores(path, 8) == {0: (-1.5, -2.25), 7: (-3.0, -4.0)}
    assert path.read_text(encoding="utf-8").count("\n") == 1


def test_another_commit_of_a_hub_model_has_a_file_of_its_own() -> None:
    rows = Dataset.from_list([{"prompt_ids": [1], "chosen_ids": [2], "rejected_ids": [3]}])

    def path(
        commit: str | None, dtype: torch.dtype = torch.float32, words: tuple[str, ...] = ()
    ) -> Path:
        model = SimpleNamespace(config=SimpleNamespace(_commit_hash=commit), dtype=dtype)
        tokenizer = SimpleNamespace(get_added_vocab=lambda: dict.fromkeys(words, 0))
        trainer: Any = SimpleNamespace(
            model=model,
            ld_alpha=None,
            args=SimpleNamespace(bf16=False),
            processing_class=tokenizer,
        )
        return cache_path(trainer, rows, ["some/model"])

    others = {path("two"), path(None), path("one", torch.bfloat16), path("one", words=("word",))}
    assert path("one") == path("one")
    assert len(others - {path("one")}) == 4
