"""The command end to end at a small size, the commands for other programs, the page of results."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from bench import measure
from bench.cases import Case, build_cases
from bench.external import (
    NotInstalled,
    Programs,
    llamafactory_command,
    medicalgpt_command,
    run_external,
    write_conversations,
)
from bench.report import main as report
from bench.run import keep, main, one_line
from medtune.data.records import Conversation, Message, Source

CASE = build_cases()["sft_S_bs8"]
TALK = Conversation((Message("user", "头痛？"), Message("assistant", "休息。")), Source("f", 1))


# -- the command


def call(monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    monkeypatch.setattr(sys, "argv", ["bench/run.py", *words])
    main()


def test_list_names_every_case(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    call(monkeypatch, "--list")

    listed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in listed] == list(build_cases())


def test_unknown_cases_folders_and_counts_are_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="no case sft_S_bs9"):
        call(monkeypatch, "--cases", "sft_S_bs9")
    with pytest.raises(SystemExit, match="found none at nowhere"):
        call(monkeypatch, "--cases", "pt_S", "--data", "nowhere")
    with pytest.raises(SystemExit):
        call(monkeypatch, "--repeats", "0")
    assert "expected a whole number from 1 on, found '0'" in capsys.readouterr().err


def measure_in_this_process(
    job_file: Path, result_file: Path, log: Path, environment: dict[str, str]
) -> int:
    """Stand in for a process of its own, which takes seconds to import its libraries."""
    measure.main(str(job_file), str(result_file))
    return 0


@pytest.mark.parametrize(
    "case",
    [
        Case("sft", "sft", "tiny", 2, 4, max_length_tokens=64),
        Case("dpo", "dpo", "tiny", 2, 4, max_length_tokens=64),
        Case("pt", "pt", "tiny", 2, 4, "ours", "trl_padding_free", max_length_tokens=64),
        Case("bfd", "sft", "tiny", 2, 4, "ours", "trl_bfd", max_length_tokens=64),
        Case("once", "dpo", "tiny", 2, 4, "ours_precompute", "trl_precompute", 2, 64),
    ],
    ids=lambda case: case.name,
)
def test_a_case_comes_out_with_its_gate_and_its_ratio(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, case: Case
) -> None:
    monkeypatch.setattr("bench.run.start_measurement", measure_in_this_process)
    monkeypatch.setattr("bench.run.build_cases", lambda: {case.name: case})
    out = tmp_path / "bench.json"
    threads = str(torch.get_num_threads())

    call(monkeypatch, "--repeats", "2", "--threads", threads, "--out", str(out))

    (entry,) = json.loads(out.read_text(encoding="utf-8"))
    assert entry["status"] == "ok", entry["reason"]
    assert entry["gate_max_abs_diff"] <= 1e-4
    if case.name != "bfd":
        assert entry["gate_loss_max_rel_diff"] <= 1e-4
    assert 0 < entry["ratio_min"] <= entry["ratio_median"] <= entry["ratio_max"]
    assert [len(runs) for runs in entry["runs"].values()] == [2, 2]
    assert entry["environment"]["threads"] == int(threads)


def test_a_measurement_has_a_process_of_its_own_and_a_failure_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    case = Case("sft", "sft", "tiny", 2, 4, "no_such_system")
    monkeypatch.setattr("bench.run.build_cases", lambda: {case.name: case})
    out = tmp_path / "bench.json"

    call(monkeypatch, "--out", str(out))

    (entry,) = json.loads(out.read_text(encoding="utf-8"))
    assert (entry["status"], entry["ratio_median"]) == ("error", None)
    assert entry["reason"].startswith("no_such_system (gate) left with code 1:")
    assert entry["reason"].endswith("KeyError: 'no_such_system'")


def test_a_program_that_is_missing_is_reported(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    out = tmp_path / "bench.json"
    call(monkeypatch, "--cases", "sft_S_bs8_vs_medicalgpt", "--out", str(out))

    (entry,) = json.loads(out.read_text(encoding="utf-8"))
    assert entry["status"] == "not installed" and entry["ratio_median"] is None


def test_a_new_entry_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    out = tmp_path / "new" / "bench.json"
    for number, name in enumerate(["a", "b", "a"]):
        keep({"case": name, "number": number}, out)

    kept = json.loads(out.read_text(encoding="utf-8"))
    assert kept == [{"case": "b", "number": 1}, {"case": "a", "number": 2}]


# -- other programs


def test_conversations_are_written_as_both_programs_read_them(tmp_path: Path) -> None:
    write_conversations([TALK], tmp_path)

    turns = [{"from": "human", "value": "头痛？"}, {"from": "gpt", "value": "休息。"}]
    row = json.loads((tmp_path / "train.jsonl").read_text(encoding="utf-8"))
    register = json.loads((tmp_path / "dataset_info.json").read_text(encoding="utf-8"))
    assert row == {"conversations": turns}
    assert register == {"bench": {"file_name": "train.jsonl", "formatting": "sharegpt"}}


def test_medicalgpt_gets_the_same_batch_and_adapter(tmp_path: Path) -> None:
    script = tmp_path / "supervised_finetuning.py"
    script.touch()
    folders = (tmp_path / "model", tmp_path / "data", tmp_path / "out")
    command = medicalgpt_command(CASE, Programs(medicalgpt=tmp_path), *folders)

    options = dict(zip(command[2::2], command[3::2], strict=True))
    assert command[1] == str(script)
    assert options["--per_device_train_batch_size"] == "8"
    assert options["--model_max_length"] == "768"
    assert (options["--lora_rank"], options["--lora_dropout"]) == ("8", "0.0")
    assert options["--model_name_or_path"] == str(tmp_path / "model")


def test_llamafactory_gets_a_yaml(tmp_path: Path) -> None:
    folders = (tmp_path / "model", tmp_path / "data", tmp_path / "out")
    command = llamafactory_command(CASE, Programs(llamafactory=sys.executable), *folders)

    options = yaml.safe_load(Path(command[2]).read_text(encoding="utf-8"))
    assert command[:2] == [sys.executable, "train"]
    assert options["per_device_train_batch_size"] == 8
    assert options["cutoff_len"] == 768
    assert options["dataset_dir"] == str(tmp_path / "data")


def test_a_program_that_is_not_there_is_not_installed(tmp_path: Path) -> None:
    folders = (tmp_path, tmp_path, tmp_path)
    for command, programs in (
        (medicalgpt_command, Programs()),
        (medicalgpt_command, Programs(medicalgpt=tmp_path)),
        (llamafactory_command, Programs()),
        (llamafactory_command, Programs(llamafactory="no-such-program")),
    ):
        with pytest.raises(NotInstalled):
            command(CASE, programs, *folders)


def test_a_program_is_measured_by_its_own_training_time(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write = "import pathlib, sys; p = pathlib.Path(sys.argv[1]); p.mkdir(); "
    write += "(p / 'train_results.json').write_text('{\"train_runtime\": 2.5}')"

    measured = run_external([sys.executable, "-c", write, str(out)], out, {})
    assert measured["train_seconds"] == 2.5
    assert measured["memory_peak_mb"] > 1
    with pytest.raises(RuntimeError, match="no such thing"):
        run_external([sys.executable, "-c", "raise SystemExit('no such thing')"], out, {})


# -- the page


def entry_of(name: str, **changes: Any) -> dict[str, Any]:
    rates = dict.fromkeys(
        ("seconds", "real_tokens_per_second", "trained_tokens_per_second", "rows_per_second"), 1.0
    )
    rates |= {"memory_peak_mb": 900.0, "utilisation": 0.4}
    environment = {
        "time": "2030-01-02T03:04:05", "commit": "c" * 40, "threads": 2, "cores": 2,
        "machine": "m", "torch": "1", "transformers": "1", "trl": "1", "peft": "1",
    }  # fmt: skip
    return {
        "case": name, "system": "ours", "baseline": "trl", "status": "ok", "reason": "",
        "ratio_median": 3.0, "ratio_min": 2.5, "ratio_max": 3.25, "memory_ratio": 0.5,
        "gate_max_abs_diff": 2e-5, "rates": {"ours": rates, "trl": rates},
        "environment": environment, **changes,
    }  # fmt: skip


def test_page_shows_ratios_failures_and_what_is_not_the_same_work(tmp_path: Path) -> None:
    page, picture, results = (tmp_path / name for name in ("p.md", "p.png", "r.json"))
    page.write_text("before\n<!-- bench:begin -->\nold\n<!-- bench:end -->\nafter\n")
    failed = {"status": "gate failed", "reason": "log-probabilities differ by 1e-2", "rates": {}}
    entries = [
        entry_of("good"), entry_of("bad", **failed), entry_of("other", gate_max_abs_diff=None),
    ]  # fmt: skip
    results.write_text(json.dumps(entries), encoding="utf-8")

    report(results, page, picture)
    report(results, page, picture)  # writing again changes nothing

    text = page.read_text(encoding="utf-8")
    assert text.startswith(
        "before\n<!-- bench:begin -->\nMeasured 2030-01-02, commit cccccccccccc,"
    )
    assert text.endswith("<!-- bench:end -->\nafter\n") and "old" not in text
    assert "| good | trl | 3.00 (2.50 to 3.25) | 0.50x | 40 % | 2e-05 |" in text
    assert "| bad | trl | gate failed: log-probabilities differ by 1e-2 | | | |" in text
    assert text.count("not the same work") == 1
    assert text.count("| good |") == 3
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_program_of_its_own_has_no_gate_to_show() -> None:
    entry = entry_of("other", gate_max_abs_diff=None, reason="its own template")

    assert "its own template" in one_line(entry)
    assert "gate 2e-05" in one_line(entry_of("good"))
