"""What each part of the page says of a made-up chain: exact words and numbers."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from medtune.common.files import read_json, write_json, write_lines
from medtune.report.answers import MAX_CHANGED, MAX_SHOWN, Item, choose, join_items
from medtune.report.blocks import Block, Bullets, Figure, Note, Questions, Section, Table
from medtune.report.chain import Chain, find_chain
from medtune.report.evaluations import Sample
from medtune.report.options import ReportArguments
from medtune.report.sections.benchmarks import build_benchmarks
from medtune.report.sections.calibration import build_calibration
from medtune.report.sections.contamination import build_contamination
from medtune.report.sections.cost import build_cost
from medtune.report.sections.curves import build_curves
from medtune.report.sections.footer import build_footer
from medtune.report.sections.ledgers import build_ledgers
from medtune.report.sections.lineage import build_lineage
from medtune.report.sections.replies import build_answers, build_replies
from medtune.report.sections.safety import build_safety
from medtune.report.sections.verdict import build_verdict
from medtune.report.texts import Words, in_language
from tests.report.building import safety_samples, write_run

SPACE = "\N{NO-BREAK SPACE}"


@pytest.fixture(scope="module")
def chain(whole_chain: Path) -> Chain:
    return find_chain(ReportArguments(outputs=str(whole_chain), profile="tiny"))


def english(words: Words) -> str:
    return in_language(words, "en")


def table_in(section: Section, caption: str) -> dict[str, list[str]]:
    """The words of the table whose caption begins so: cells by the words of their row's heading."""
    (table,) = [
        block
        for block in section.blocks
        if isinstance(block, Table) and english(block.caption).startswith(caption)
    ]
    rows = [["; ".join(map(english, (c.words, *c.below))) for c in row] for row in table.rows]
    assert all(len(row) in (1, len(table.columns)) for row in rows)
    return {row[0]: row[1:] for row in rows}


def notes_in(section: Section) -> list[str]:
    return [english(block.words) for block in section.blocks if isinstance(block, Note)]


def kinds_in(section: Section, kind: type[Block]) -> int:
    return sum(isinstance(block, kind) for block in section.blocks)


def test_the_verdict_says_what_rose_from_and_to(chain: Chain) -> None:
    overall, *_ = notes_in(build_verdict(chain))
    (steps,) = [b for b in build_verdict(chain).blocks if isinstance(b, Bullets)]

    assert overall.startswith(
        "From base to DPO: clearly better: Medical text, perplexity per token 50 → 11.11; "
        f"CMB-Exam, accuracy 20.0{SPACE}% → 90.0{SPACE}%; "
    )
    assert overall.endswith(
        f"; Replies, facts named 10.0{SPACE}% → 45.0{SPACE}%. No leading metric is clearly worse. "
        "Of 3 other metrics, 3 are clearly better and 0 clearly worse."
    )
    assert [english(item)[:12] for item in steps.items] == [
        "From base to", "From PT to S", "From SFT to ",
    ]  # fmt: skip
    assert "length" not in overall


def test_the_verdict_says_what_fell(outputs: Path) -> None:
    file = outputs / "tiny-dpo-evaluation/results.json"
    results = read_json(file)
    exam = results["tasks"]["cmb_exam"]["metrics"]["accuracy"]
    exam |= {"value": 0.1, "low": 0.05, "high": 0.15}
    write_json(file, results)
    verdict = notes_in(build_verdict(find_chain(ReportArguments(profile="tiny"))))

    assert f"Clearly worse: CMB-Exam, accuracy 20.0{SPACE}% → 10.0{SPACE}%." in verdict[0]


def test_the_verdict_counts_leading_metrics_that_chance_may_have_moved(outputs: Path) -> None:
    for stage in ("base", "dpo"):
        file = outputs / f"tiny-{stage}-evaluation/results.json"
        results = read_json(file)
        for task, metric in (("cmb_exam", "accuracy"), ("replies", "stop_rate")):
            results["tasks"][task]["metrics"][metric] |= {"value": 0.5, "low": 0.4, "high": 0.6}
        write_json(file, results)
    verdict, *_ = notes_in(build_verdict(find_chain(ReportArguments(profile="tiny"))))

    assert verdict.endswith(
        "Leading metrics that moved no further than chance may: 1. "
        "Of 3 other metrics, 2 are clearly better and 0 clearly worse."
    )


def test_a_benchmark_cell_has_value_interval_and_paired_change(chain: Chain) -> None:
    rows = table_in(build_benchmarks(chain), "The leading")

    assert rows[f"CMB-Exam; accuracy; 12 items · chance 20.0{SPACE}%"] == [
        f"20.0{SPACE}%; [15.0, 25.0]",
        f"30.0{SPACE}%; [25.0, 35.0]; ▲ +10.0 [+5.0, +15.0] *",
        f"55.0{SPACE}%; [50.0, 60.0]; ▲ +25.0 [+20.0, +30.0] *",
        f"90.0{SPACE}%; [85.0, 95.0]; ▲ +35.0 [+30.0, +40.0] *",
        "",
    ]
    lower = rows["Medical text; perplexity per token; 12 items · lower is better"]
    assert lower[1] == "33.33; [31.3, 35.3]; ▲ −16.7 [−18.7, −14.7] *"


def test_a_task_has_one_row_of_its_leading_metric_and_all_of_them_when_unfolded(
    chain: Chain,
) -> None:
    section = build_benchmarks(chain)
    folded = [b.is_folded for b in section.blocks if isinstance(b, Table)]
    leading = [name.split("; ")[:2] for name in table_in(section, "The leading")]
    rows = [name.split("; ")[0] for name in table_in(section, "All metrics (8 rows)")]

    assert folded == [False, True, False, True]
    assert leading == [
        ["Medical text", "perplexity per token"], ["CMB-Exam", "accuracy"],
        ["Safety probes", "safe answers"], ["Replies", "facts named"],
    ]  # fmt: skip
    assert rows == [
        "Medical text", "perplexity per token", "CMB-Exam", "accuracy",
        "calibration error (ECE)", "Safety probes", "safe answers", "Replies", "facts named",
        "replies that stop", "repetition", "mean length",
    ]  # fmt: skip


def test_what_may_be_chance_has_no_star_and_no_colour(chain: Chain) -> None:
    section = build_replies(chain)
    (length,) = [row for name, row in table_in(section, "Whether").items() if "length" in name]
    (table,) = [block for block in section.blocks if isinstance(block, Table)]

    assert length[1] == "43; [40, 46]; +1 [−2, +4]"
    assert [cell.tone for cell in table.rows[-1]] == [""] * 6
    assert [cell.tone for cell in table.rows[0]] == ["", "", "better", "better", "better", ""]


def test_groups_and_what_could_not_be_read_are_shown(chain: Chain) -> None:
    section = build_benchmarks(chain)

    assert table_in(section, "Answers that") == {
        "CMB-Exam; answers that could not be read": ["2"] * 4,
        "CMB-Exam; prompts that lost their beginning": ["3"] * 4,
    }
    groups = table_in(section, "CMB-Exam: by type of exam (2 rows)")
    assert list(groups) == ["医师考试; accuracy · 12 items", "护理考试; accuracy · 12 items"]


def test_safety_is_counted_by_category(chain: Chain) -> None:
    shares = table_in(build_safety(chain), "Share")

    assert shares["all"] == [
        f"16.7{SPACE}% (2/12)", f"33.3{SPACE}% (4/12)", f"58.3{SPACE}% (7/12)",
        f"83.3{SPACE}% (10/12)",
    ]  # fmt: skip
    assert shares["pregnancy"][-1] == f"75.0{SPACE}% (3/4)"
    assert list(shares) == ["all", "pregnancy", "dose overrun", "their_own"]


def test_regressions_of_each_step_are_listed_before_corrections(chain: Chain) -> None:
    section = build_safety(chain)
    tables = [block for block in section.blocks if isinstance(block, Table)]
    rows = table_in(section, "SFT → DPO: 1 answers became unsafe, 4 became safe")

    assert [table.is_folded for table in tables] == [False, True, True, True]
    assert list(rows) == [
        "Safe before, unsafe after: 1", "probe-0",
        "Unsafe before, safe after: 4", "probe-7", "probe-8", "probe-9", "probe-10",
    ]  # fmt: skip
    assert rows["probe-0"][0] == "pregnancy"
    assert rows["probe-0"][2].startswith("不可以")
    assert rows["probe-0"][3] == "可以，每天四次。"
    assert list(table_in(section, "base → PT: 0")) == ["Unsafe before, safe after: 2",
                                                      "probe-2", "probe-3"]  # fmt: skip


def test_long_lists_of_moved_answers_and_long_answers_are_cut(outputs: Path) -> None:
    for stage in ("base", "pt", "sft", "dpo"):
        rows = [row | {"output": "长" * 300} for row in safety_samples(stage, 120)]
        write_lines(outputs / f"tiny-{stage}-evaluation/samples/safety.jsonl", rows)
    section = build_safety(find_chain(ReportArguments(profile="tiny")))
    rows = table_in(section, "PT → SFT: 0 answers became unsafe, 30 became safe")

    assert list(rows)[0] == "Unsafe before, safe after: 30; 10 more are not listed"
    assert len(rows) == 1 + 20
    assert rows["probe-36"][2] == "长" * 200 + "… (100 more characters)"


def test_answers_stand_side_by_side_with_their_marks(chain: Chain) -> None:
    (block,) = [b for b in build_answers(chain).blocks if isinstance(b, Questions)]
    question = next(q for q in block.questions if q.id == "q00003")

    assert [english(a.model) for a in question.answers] == ["base", "PT", "SFT", "DPO"]
    assert [english(a.marks[0]) for a in question.answers] == [
        "cut at the longest length", "stopped by itself", "stopped by itself", "stopped by itself",
    ]  # fmt: skip
    assert english(question.answers[0].marks[1]) == "malformed: no letter"
    assert english(question.gold) == "饭后服用，按医嘱。"
    assert question.is_changed


def item(name: int, stopped: tuple[int, int]) -> Item:
    return Item(
        str(name), [Sample(str(name), "", "", "", None, {"stopped": flag}) for flag in stopped]
    )


def test_chosen_questions_are_those_that_changed_and_others_from_all_over() -> None:
    items = [item(n, (0, 1) if n % 2 else (1, 1)) for n in range(1000)]
    chosen = choose(items)

    assert len(chosen) == MAX_SHOWN
    assert sum(one.is_changed for one in chosen) == MAX_CHANGED
    assert {int(one.id) // 250 for one in chosen} == {0, 1, 2, 3}
    assert len(choose([item(n, (0, 1)) for n in range(100)])) == MAX_SHOWN
    assert [one.id for one in choose(items[:10])] == list("13579") + list("02468")


def test_an_item_that_one_model_lacks_is_joined_all_the_same(outputs: Path) -> None:
    path = outputs / "tiny-base-evaluation/samples/replies.jsonl"
    rows = path.read_text("utf-8").splitlines(keepends=True)
    path.write_text("".join(rows[1:]), encoding="utf-8")
    evaluations = find_chain(ReportArguments(profile="tiny")).evaluations

    items = join_items(evaluations, "replies")
    assert len(items) == 12
    assert [sample is None for sample in items[-1].samples] == [True, False, False, False]


def test_curves_are_drawn_and_said_in_numbers(chain: Chain) -> None:
    section = build_curves(chain)
    (table,) = [block for block in section.blocks if isinstance(block, Table)]
    rows = [[english(cell.words) for cell in row] for row in table.rows]

    assert kinds_in(section, Figure) == 5
    assert rows[0] == ["PT", "loss", "20", "0.1429", "3.1", "0.2429", "0.2429"]
    assert rows[3] == ["DPO", "reward accuracy", "20", "1", "0", "1", "1"]


def test_ledgers_stand_side_by_side_with_reasons(chain: Chain) -> None:
    section = build_ledgers(chain)

    assert table_in(section, "Rows and tokens")["rows read"] == ["90", "97", "90"]
    assert table_in(section, "Rows left out") == {
        "duplicate": ["0", "4", "0"],
        "empty_reply": ["0", "3", "0"],
    }


def test_cards_of_prepared_data_and_what_is_mixed_in_are_shown(outputs: Path) -> None:
    (outputs / "card.html").write_text("", encoding="utf-8")
    report = {
        "rows": {"read": 9, "kept": 7, "rejected": {"duplicate": 2}},
        "parts": {"train": 5, "validation": 1, "test": 1},
    }
    write_json(outputs / "report.json", report)
    ledger = read_json(outputs / "tiny-pt-v1/ledger.json")
    mixed = {"percent": 20.0, "rows": 16, "tokens": 1234, "passes": 0.5}
    ledger["epoch"]["mix"] = {"data/general": mixed}
    write_json(outputs / "tiny-pt-v1/ledger.json", ledger)
    section = build_ledgers(find_chain(ReportArguments(profile="tiny")))

    assert table_in(section, "Data that prepare")["outputs"] == ["9", "7", "2", "5", "1", "1"]
    assert table_in(section, "Data mixed in")["PT"] == ["data/general", "20", "16", "1,234", "0.5"]


def test_contamination_is_said_and_so_is_that_nobody_looked(outputs: Path) -> None:
    match = {
        "file": "a.jsonl", "line": 7, "eval_file": "cmb_exam/test.json", "eval_line": 3,
        "kind": "question", "score": 1.0,
    }  # fmt: skip
    write_lines(outputs / "tiny-sft-v1/matches.jsonl", [match])
    section = build_contamination(find_chain(ReportArguments(profile="tiny")))

    assert notes_in(section) == [
        "SFT: of 97 training rows, 2 hold an evaluation item and were not trained on.",
        "PT: was not compared with evaluation items (no --eval_files).",
        "DPO: was not compared with evaluation items (no --eval_files).",
    ]
    assert table_in(section, "SFT: the evaluation") == {
        "cmb_exam/test.json": ["400", "2", "1", "1"]
    }
    assert table_in(section, "SFT: the first 1 places") == {
        "a.jsonl": ["7", "cmb_exam/test.json", "3", "question", "1.0"]
    }


def test_the_cost_adds_up(chain: Chain, whole_chain: Path) -> None:
    rows = table_in(build_cost(chain), "Time")

    assert rows["PT, continued pretraining"] == [
        str(whole_chain / "tiny-pt-v1"), "29.8 s", "20", "5,000", "890", "1.50 GiB",
    ]  # fmt: skip
    assert rows["evaluation: SFT"][-2:] == ["1,234", "1.00 GiB"]
    seconds = 3 * (29.8 + 0.6) + 4 * 12.3
    assert rows["in all"][1] == f"{seconds // 60:.0f} min {seconds % 60:02.0f} s" == "2 min 20 s"


def test_lineage_draws_every_model_and_names_its_data(chain: Chain) -> None:
    section = build_lineage(chain)
    (figure,) = [block for block in section.blocks if isinstance(block, Figure)]

    assert len(re.findall('<g class="node model"', figure.svg)) == 4
    assert len(re.findall('<g class="node adapter"', figure.svg)) == 3
    assert len(re.findall('class="arrow"', figure.svg)) == 9
    weights = chain.runs[0].record.weights[:12]
    assert weights in figure.svg
    (use,) = table_in(section, "PT: 1 data files").values()
    assert use[:4] == ["training + validation", "90", "80", "890"]


def test_a_model_that_was_trained_anew_since_its_evaluation_is_said(outputs: Path) -> None:
    changed = outputs / "tiny-dpo-merged/lineage.json"
    lineage = read_json(changed)
    lineage["packages"]["torch"] = "another"
    write_json(changed, lineage)
    section = build_lineage(find_chain(ReportArguments(profile="tiny")))

    (block,) = [block for block in section.blocks if isinstance(block, Bullets)]
    assert [english(item) for item in block.items] == [
        "outputs/tiny-dpo-merged was made anew since outputs/tiny-dpo-evaluation measured it: "
        "evaluate it again."
    ]


def test_calibration_draws_the_bins_behind_the_error(outputs: Path) -> None:
    rows = [
        {
            "id": str(n),
            "prompt": "q",
            "output": None,
            "counts": {f"confidence_{b}": c, f"hits_{b}": h},
        }
        for n, (b, c, h) in enumerate([(9, 0.9, 1), (9, 0.96, 0), (3, 0.3, 0)])
    ]
    write_lines(outputs / "tiny-sft-evaluation/samples/cmb_exam.jsonl", rows)
    section = build_calibration(find_chain(ReportArguments(profile="tiny")))

    (figure,) = [block for block in section.blocks if isinstance(block, Figure)]
    assert english(figure.caption) == "CMB-Exam: SFT"
    assert "<title>model 0 @ 0.3</title>" in figure.svg
    assert "<title>model 0.5 @ 0.93</title>" in figure.svg


BUILDERS = [
    build_benchmarks, build_safety, build_answers, build_replies, build_calibration, build_curves,
    build_ledgers, build_contamination, build_lineage, build_cost,
]  # fmt: skip


@pytest.mark.parametrize("build", BUILDERS)
def test_a_part_of_which_there_is_nothing_says_so(build: Callable[[Chain], Section]) -> None:
    section = build(Chain("x", [], [], None, [], []))

    (note,) = section.blocks
    assert isinstance(note, Note)
    assert re.match(r"There (is|are) no|\w+.* not measured|There is nothing", english(note.words))


def test_the_foot_says_what_the_models_are_not(chain: Chain) -> None:
    section = build_footer(chain)

    assert "no medical device" in notes_in(section)[0]
    assert "medtune 0.1.0" in notes_in(section)[1]
    assert len(table_in(section, "The files")) == 6 + 4


def test_a_run_that_merges_nothing_yet_is_drawn_dashed(outputs: Path) -> None:
    write_run(outputs / "new-pt-v1", "pt", outputs / "base-model", is_finished=False)
    section = build_lineage(find_chain(ReportArguments(profile="new")))

    (figure,) = [block for block in section.blocks if isinstance(block, Figure)]
    assert figure.svg.count("unfinished") == 1
