"""PromptCBLUE: what is read of a text, what it scores, and what bad rows do. All hand-made."""

import json
from typing import Any

import numpy as np
import pytest

from medtune.common.errors import ConfigError, DataError
from medtune.data.records import Source
from medtune.evaluation.scorers.promptcblue import (
    HEAD,
    MAY_2023,
    STRICT,
    TASKS,
    counts,
    generation_of,
    metric_of,
    metrics_of,
    parse,
    score_rows,
)
from tests.evaluation.promptcblue_cases import (
    CASES,
    CLASSIFYING,
    STATES,
    TASK_OF_2023_05,
    entities,
    node,
    row_of,
)

NEVER_GOLD = "不标注"
NOT_MARKED = "无实际意义的不标注或者和病人当前的状态独立不标注"
TREE = CASES["Text2DT"].answer


def answer_of(task: str, text: str, **how: Any) -> Any:
    return parse(task, row_of(task), text, **how).answer


def scores_of(task: str, pairs: list[tuple[Any, Any]], mode: str = "official") -> dict[str, Any]:
    """Scores of structures that are given as such."""
    gold, predicted = zip(*pairs, strict=True)
    rows = [{"sample_id": str(i), "task_dataset": task} for i in range(len(pairs))]
    return score_rows(
        [row | {"answer": answer} for row, answer in zip(rows, gold, strict=True)],
        [row | {"answer": answer} for row, answer in zip(rows, predicted, strict=True)],
        mode,
    )[task]


def test_each_task_has_a_case_and_18_are_of_the_present_generation() -> None:
    assert set(CASES) == set(TASKS)
    assert len(set(TASKS) - {TASK_OF_2023_05}) == 18
    assert len(CLASSIFYING) == 7


@pytest.mark.parametrize("mode", ["official", "strict"])
@pytest.mark.parametrize("task", CASES)
def test_text_of_each_task_is_read_as_its_structure(task: str, mode: str) -> None:
    generation = generation_of([task])
    parsed = parse(task, row_of(task), CASES[task].text, generation, mode)

    assert parsed.answer == CASES[task].answer
    assert (parsed.malformed, parsed.unread) == (None, ())


@pytest.mark.parametrize("mode", ["official", "strict"])
@pytest.mark.parametrize("task", CASES)
def test_the_gold_text_of_each_task_scores_full_marks(task: str, mode: str) -> None:
    scores = score_rows([row_of(task)], [row_of(task)], mode)

    assert scores[task]["primary"] == pytest.approx(1.0, abs=1e-6)
    assert scores["official_score_map"]["score"] == pytest.approx(100.0, abs=1e-4)
    assert scores["malformed"] == scores["unread"] == scores["missing"] == 0


@pytest.mark.parametrize("task", CASES)
def test_a_text_that_is_none_scores_nothing_and_is_counted(task: str) -> None:
    for mode in ("official", "strict"):
        scores = score_rows([row_of(task)], [row_of(task) | {"target": None}], mode)

        assert scores[task]["primary"] == pytest.approx(0.0, abs=1e-6)
        assert scores[task]["malformed"] == 1
        assert scores[task]["malformed_reasons"] == ["expected a text, found NoneType"]


# -- reading


@pytest.mark.parametrize(
    ("task", "text", "answer"),
    [
        ("CMeEE-V2", "疾病实体:麻疹", entities(疾病=["疾病实体:麻疹"])),
        ("CMeEE-V2", "药物实体：甲，，乙 \n疾病实体：丙", entities(疾病=["丙"], 药物=["甲", "乙"])),
        ("CMeEE-V2", "没有", []),
        ("CHIP-CDN", "胃炎\n便秘，便秘，头痛", [{"entity": "便秘", "type": "normalization"}]),
        ("CMeIE-V2", "具有病因关系的头尾实体对如下：头实体为麻疹。", []),
        ("CHIP-MDCFNPC", "发热：有这个症状", []),  # the first line is an introduction
        ("CHIP-MDCFNPC", "：\n发热：有：这个症状", []),
        ("CHIP-MDCFNPC", "\n 发热 ：阳性", [{"entity": "发热", "attr": NEVER_GOLD}]),
        ("IMCS-V2-MRG", "主诉：咳嗽", {}),
        ("IMCS-V2-MRG", "x\n诊断：甲\n诊断：乙诊断：丙", {"诊断": "丙"}),
        ("CHIP-STS", "相同 ", "是的"),
        ("CHIP-STS", "相同。", "相同。"),
        ("MedDG", " 您好\n", "您好"),
        ("Text2DT", "", [node("D", "null")]),
        ("Text2DT", "1：role=C；triples=[]", [node("C；triples=[]", "null")]),
        ("Text2DT", "1：role=D；logical_rel=or；triples=[['a', 'b']]", [node("D", "or")]),
        ("Text2DT", "1：role=D；logical_rel=or；triples=[['a', 'b', 'c'], 3]", [node("D", "or")]),
        ("Text2DT", "1：role=D；logical_rel=or；triples=exit()", [node("D", "or")]),
        ("CMedCausal", "给定的文本没有指定关系的三元组", []),
    ],
)
def test_texts_that_are_not_quite_right_are_read_as_officially(
    task: str, text: str, answer: Any
) -> None:
    assert answer_of(task, text) == answer


def test_the_tail_of_a_condition_is_a_triple() -> None:
    text = (
        "条件关系三元组如下：\n头实体：高龄；尾三元组：头实体：跌倒；尾实体：骨折；关系：因果关系"
    )
    tail = {"predicate": "因果关系", "subject": "跌倒", "object": "骨折"}

    assert answer_of("CMedCausal", text) == [
        {"predicate": "条件关系", "subject": "高龄；尾三元组：", "object": tail}
    ]


def test_a_blank_line_is_an_event_of_its_own() -> None:
    empty = {"主体词": "", "发生状态": "", "描述词": [], "解剖部位": []}

    assert answer_of("CHIP-CDEE", "事件：\n\n发生状态：否定") == [
        empty,
        empty | {"发生状态": "否定"},
    ]


@pytest.mark.parametrize(
    ("task", "text", "reason"),
    [
        ("CMedCausal", "因果关系三元组如下：\n甲引起乙", "头实体"),
        ("CMedCausal", "条件关系三元组\n头实体：甲；尾实体：乙", "尾三元组"),
        (
            "CMedCausal",
            "条件关系三元组\n头实体：甲；尾三元组：头实体：乙；尾实体：丙；关系：别的",
            "别的",
        ),
        ("Text2DT", "这不是树", "：role="),
        ("Text2DT", "1：role=D；logical_rel=or；triples=[[1, 2, 3]]", "not three texts"),
        ("Text2DT", "1：role=D；logical_rel=or；triples=[{'a', 'b', 'c'}]", "not three texts"),
    ],
)
def test_what_stops_the_official_parser_is_named(task: str, text: str, reason: str) -> None:
    parsed = parse(task, row_of(task), text)

    assert parsed.answer is None
    assert reason in (parsed.malformed or "")


def test_code_in_a_tree_is_not_run(tmp_path: Any) -> None:
    trace = tmp_path / "trace"
    call = f"[__import__('pathlib').Path({str(trace)!r}).touch() or ['a', 'b', 'c']]"

    parsed = parse("Text2DT", {}, f"1：role=D；logical_rel=null；triples={call}")

    assert parsed.answer == [node("D", "null")]
    assert parsed.unread
    assert not trace.exists()


# -- the two generations


def test_the_generation_follows_from_the_tasks_and_an_option_wins() -> None:
    assert generation_of(["CMeEE-V2", "CMeIE-V2"]) == HEAD
    assert generation_of(["CMeEE-V2", "CMeIE"]) == MAY_2023
    old, other = row_of("CMeIE", sample_id="1"), row_of("CMeEE-V2", "疾病实体:麻疹,肺炎")
    # A full-width colon and comma in the generation of 2023-05, an entity of that name at head.
    right = row_of("CMeEE-V2", "疾病实体：麻疹，肺炎")

    assert score_rows([old, right], [old, other])["CMeEE-V2"]["f1"] == 1.0
    forced = score_rows([old, right], [old, other], generation=HEAD)
    assert forced["CMeEE-V2"]["f1"] == 0.0
    assert (forced["CMeIE"]["f1"], forced["CMeIE"]["malformed"]) == (0.0, 1)


def test_an_unknown_state_is_another_one_in_2023_05() -> None:
    text = "：\n发热：不知道"

    assert answer_of("CHIP-MDCFNPC", text)[0]["attr"] == NEVER_GOLD
    assert answer_of("CHIP-MDCFNPC", text, generation=MAY_2023)[0]["attr"] == NOT_MARKED


def test_only_the_first_hundred_marks_of_a_kind_are_turned() -> None:
    text = "疾病实体：" + "甲," * 101 + "乙"
    names = ["甲"] * 100 + ["甲,乙"]

    assert answer_of("CMeEE-V2", text, generation=MAY_2023) == entities(疾病=names)


def test_a_tree_is_read_alike_in_both_generations() -> None:
    assert answer_of("Text2DT", CASES["Text2DT"].text, generation=MAY_2023) == TREE


# -- strict


def test_an_empty_text_is_the_first_label_officially_and_wrong_in_strict() -> None:
    gold = [row_of("KUAKE-QQR", "完全一致")]
    empty = [row_of("KUAKE-QQR", " ")]

    official, strict = (score_rows(gold, empty, mode)["KUAKE-QQR"] for mode in ("official", STRICT))

    assert (official["f1"], strict["f1"]) == (1.0, 0.0)
    assert (official["unread"], strict["unread"]) == (1, 1)


@pytest.mark.parametrize(
    ("task", "label"),
    [
        ("CHIP-CTC", "非上述类型"),
        ("CHIP-STS", "是的"),
        ("IMCS-V2-DAC", "非上述类型"),
        ("KUAKE-IR", "相关"),
        ("KUAKE-QIC", "非上述类型"),
        ("KUAKE-QQR", "完全一致"),
        ("KUAKE-QTR", "完全不匹配或者没有参考价值"),
    ],
)
def test_each_task_of_labels_has_its_own_first_label(task: str, label: str) -> None:
    assert counts(task, "x", "") == {json.dumps(["x", label], ensure_ascii=False): 1.0}
    assert counts(task, "x", "", STRICT) == {'["x", ""]': 1.0}


def test_an_unknown_state_that_stands_for_a_gold_one_is_wrong_in_strict() -> None:
    choices = [*STATES, "无法根据上下文确定病人是否患有该症状"]
    gold = [row_of("IMCS-V2-SR", f"：\n咳嗽：{choices[2]}", answer_choices=choices)]
    predicted = [row_of("IMCS-V2-SR", "：\n咳嗽：不知道")]

    assert score_rows(gold, predicted)["IMCS-V2-SR"]["f1"] == 1.0
    strict = score_rows(gold, predicted, STRICT)["IMCS-V2-SR"]
    assert (strict["f1"], strict["unread"]) == (0.0, 1)


def test_terms_that_were_not_offered_are_dropped_officially_and_wrong_in_strict() -> None:
    predicted = [row_of("CHIP-CDN", "胃炎，便秘，头痛")]

    assert score_rows([row_of("CHIP-CDN")], predicted)["CHIP-CDN"]["precision"] == 1.0
    strict = score_rows([row_of("CHIP-CDN")], predicted, STRICT)["CHIP-CDN"]
    assert strict["precision"] == pytest.approx(2 / 3)


def test_a_section_that_is_not_there_is_no_match_for_the_word_nothing_in_strict() -> None:
    gold = [row_of("IMCS-V2-MRG", "报告：\n主诉：咳嗽\n既往史：无。")]
    predicted = [row_of("IMCS-V2-MRG", "报告：\n主诉：咳嗽")]

    assert score_rows(gold, predicted)["IMCS-V2-MRG"]["rougeL"] == pytest.approx(1, abs=1e-6)
    assert score_rows(gold, predicted, STRICT)["IMCS-V2-MRG"]["rougeL"] == pytest.approx(0.5)


def test_choices_in_a_string_stop_the_official_parser_and_are_read_in_strict() -> None:
    row = row_of("CMeEE-V2", answer_choices=str(CASES["CMeEE-V2"].choices))

    official, strict = (score_rows([row], [row], mode)["CMeEE-V2"] for mode in ("official", STRICT))

    assert (official["f1"], official["malformed"]) == (0.0, 1)
    assert (strict["f1"], strict["malformed"]) == (1.0, 0)


def test_strict_reads_the_choices_of_the_gold_row() -> None:
    predicted = [row_of("CMeEE-V2", answer_choices=["别的"])]

    official, strict = (
        score_rows([row_of("CMeEE-V2")], predicted, mode)["CMeEE-V2"]["f1"]
        for mode in ("official", STRICT)
    )

    assert (official, strict) == (0.0, 1.0)


# -- scores


def test_tuples_are_sets_of_values_summed_over_samples() -> None:
    one, two, three = entities(疾病=["甲", "乙", "丙"])
    renamed = {"b": one["type"], "a": one["entity"]}  # keys only give the order of the values
    scores = scores_of("CMeEE-V2", [([one, two], [renamed, one, three]), ([three], [])])

    # One hit, one false one, and two that were not found.
    assert (scores["precision"], scores["recall"]) == (1 / 2, 1 / 3)
    assert scores["f1"] == pytest.approx(2 / 5)


def test_micro_of_labels_is_the_weighted_average_and_macro_counts_stray_labels() -> None:
    pairs = [("甲", "甲"), ("甲", "乙"), ("甲", "甲"), ("乙", "丙")]

    # F1: 甲 4/5 of 3 rows, 乙 0 of 1 row, 丙 0 of none.
    assert scores_of("KUAKE-QTR", pairs)["f1"] == pytest.approx(0.6)
    assert scores_of("KUAKE-QIC", pairs)["f1"] == pytest.approx(0.8 / 3)


def test_rouge_of_a_hand_counted_pair() -> None:
    # 4 characters against 3: one unigram apart, one of two bigrams, "ab" hits as one word.
    scores = scores_of("MedDG", [("头痛ab，", "头疼AB")])

    f1 = 2 * (2 / 3 * 2 / 4) / (2 / 3 + 2 / 4)
    assert scores["rouge1"] == scores["rougeL"] == pytest.approx(f1, abs=1e-7)
    assert scores["rouge2"] == 0.0


def test_sections_are_averaged_over_all_of_the_gold_ones() -> None:
    pairs = [
        ({"主诉": "咳", "诊断": "热"}, {"主诉": "咳", "建议": "x"}),
        ({"主诉": "甲"}, {"主诉": "乙"}),
    ]

    assert scores_of("IMCS-V2-MRG", pairs)["rougeL"] == pytest.approx(1 / 3, abs=1e-7)


def test_a_tree_is_measured_by_edits_over_all_trees() -> None:
    leaf = [node("D", "or", ["a", "b", "c"])]
    other = [node("D", "and", ["a", "b", "C"], ["x", "y", "z"])]
    tree = [node("C", "null", ["a", "b", "c"]), node("D", "or", ["d", "e", "f"]), node("D", "null")]

    # Relation and triple differ; the sizes are 1 + 2 and 2 + 2.
    assert scores_of("Text2DT", [(leaf, other)])["primary"] == pytest.approx(1 - 2 / 7)
    # No node is right, and the smoothing is what remains: 1e-6 of one node on either side.
    assert scores_of("Text2DT", [(leaf, other)])["node_f1"] == pytest.approx(1e-6, rel=1e-5)
    # Role and relation of the root; both children are new: 1 + 1 + 1 triple, and 1.
    assert scores_of("Text2DT", [(tree, leaf)])["primary"] == pytest.approx(1 - 6 / (6 + 3))
    both = scores_of("Text2DT", [(leaf, other), (tree, leaf)])
    assert both["primary"] == pytest.approx(1 - 8 / 16)


def test_paths_and_nodes_of_trees_are_counted_with_their_turns() -> None:
    root, left, right = TREE
    turned = [root, right, left]
    broken = [root, left, right, right]
    whole = {"correct": 2.0, "predicted": 2.0, "gold": 2.0}

    assert paths_of(TREE, TREE) == whole
    assert paths_of(TREE, turned) == whole | {"correct": 0.0}
    # The last node hangs nowhere: none is correct, and the gold paths are not counted.
    assert paths_of(TREE, broken) == {"correct": 0.0, "predicted": 2.0, "gold": 0.0}
    assert counts("Text2DT", TREE, turned)["node_correct"] == 2
    assert counts("Text2DT", TREE, [root, root])["node_correct"] == 2  # a pair each


def paths_of(gold: Any, predicted: Any) -> dict[str, float]:
    found = counts("Text2DT", gold, predicted)
    return {name: found[f"path_{name}"] for name in ("correct", "predicted", "gold")}


def test_conditions_within_conditions_take_their_nearest_leaves() -> None:
    deep = [node("C", "null", [str(i)] * 3) for i in range(50)] + [node("D", "null")] * 51

    assert paths_of(deep, deep) == {"correct": 51.0, "predicted": 51.0, "gold": 51.0}


@pytest.mark.parametrize("task", CASES)
def test_metrics_are_functions_of_summed_counts(task: str) -> None:
    text = CASES[task].text
    texts = [text, text[: len(text) // 2], "", text.replace("；", "，")]
    predictions = [row_of(task, t, str(i)) for i, t in enumerate(texts)]
    gold = [row_of(task, sample_id=str(i)) for i in range(len(texts))]
    generation = generation_of([task])
    items = [
        counts(task, CASES[task].answer, parse(task, row, row["target"], generation).answer)
        for row in predictions
    ]
    scores = score_rows(gold, predictions)[task]

    for name, metric in metrics_of(task, items).items():
        table = np.array([[item.get(column, 0.0) for column in metric.columns] for item in items])
        # Two resamplings at once: all items, and the first alone.
        sums = np.stack([table.sum(0), table[0]])
        assert metric.of_sums(sums) == pytest.approx([scores[name], 1.0], abs=1e-5)
        assert metric.of_sums(sums)[0] == pytest.approx(scores[name], abs=1e-12)
    assert metric_of(task, items).name in scores


def test_the_mean_is_over_the_tasks_that_have_rows() -> None:
    gold = [row_of("CHIP-STS"), row_of("KUAKE-IR")]
    scores = score_rows(gold, [gold[1]])

    assert scores["Overall"] == pytest.approx((scores["CHIP-STS"]["f1"] + 1) / 2)
    assert scores["official_score_map"] == {
        "CHIP-STS-Micro-F1": 0.0,
        "KUAKE-IR-Micro-F1": 100.0,
        "score": 50.0,
    }
    assert json.loads(json.dumps(scores)) == scores


# -- rows


def test_predictions_are_joined_by_id_wherever_their_text_stands() -> None:
    gold = [row_of("CHIP-STS", sample_id=str(i)) for i in range(4)]
    names = ("target", "prediction", "output", "predict")
    rows = [{"sample_id": i, name: "不同"} for i, name in enumerate(names)]

    scores = score_rows(gold, rows[::-1])

    assert scores["CHIP-STS"]["f1"] == 1.0
    assert scores["missing"] == scores["unused_predictions"] == 0


def test_a_prediction_wins_over_a_gold_text_in_the_same_row() -> None:
    row = row_of("CHIP-STS", "不同") | {"prediction": "相同"}

    assert score_rows([row_of("CHIP-STS")], [row])["CHIP-STS"]["f1"] == 0.0


def test_rows_that_cannot_be_used_are_counted() -> None:
    gold = [row_of("CHIP-STS"), row_of("CHIP-STS", sample_id="1"), row_of("KUAKE-IR")]
    rows = ["text", None, {}, {"sample_id": []}, row_of("CHIP-STS"), row_of("CHIP-STS", "相同")]

    scores = score_rows(gold, [*rows, {"sample_id": "1", "answer": ["不是"]}])
    # The ids of two tasks may be equal: the row of the one is no prediction for the other.

    assert (scores["unused_predictions"], scores["duplicate_ids"]) == (5, 1)
    assert (scores["missing"], scores["malformed"]) == (1, 1)
    assert scores["CHIP-STS"]["recall"] == 0.5


def test_an_empty_gold_label_is_a_class_officially_and_refused_in_strict() -> None:
    gold = [row_of("KUAKE-IR", "  "), row_of("KUAKE-IR", "相关", sample_id="2")]

    assert score_rows(gold, gold, "official")["KUAKE-IR"]["primary"] < 1
    with pytest.raises(DataError, match="expected a label of KUAKE-IR"):
        score_rows(gold, gold, STRICT)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("text", "gold.jsonl:2: expected an object, found str"),
        (row_of("CHIP-STS"), "gold.jsonl:2: sample_id '0' of CHIP-STS was seen in gold.jsonl:1,"),
        (row_of("CHIP-STS") | {"task_dataset": "STS"}, "gold.jsonl:2: task_dataset: expected"),
        (row_of("CHIP-STS", sample_id=None), "gold.jsonl:2: sample_id: expected a text"),  # type: ignore[arg-type]
        (row_of("KUAKE-IR") | {"target": 3}, "gold.jsonl:2: target: expected a text, found 3"),
        (row_of("CMedCausal", "甲"), "gold.jsonl:2: no gold answer of CMedCausal: no '头实体：'"),
        (row_of("CMeEE-V2", answer_choices=None), "gold.jsonl:2: no gold answer of CMeEE-V2"),
        ({"task_dataset": "Text2DT", "sample_id": "1", "answer": []}, "gold.jsonl:2: answer: not"),
    ],
)
def test_a_gold_row_that_cannot_be_used_is_refused_by_line(row: Any, message: str) -> None:
    with pytest.raises(DataError) as error:
        score_rows(
            [row_of("CHIP-STS"), row],
            [],
            sources=[Source("gold.jsonl", 1), Source("gold.jsonl", 2)],
        )

    assert str(error.value).startswith(message)


def test_no_gold_rows_and_unknown_options_are_refused() -> None:
    with pytest.raises(DataError, match="gold: no rows"):
        score_rows([], [])
    with pytest.raises(ConfigError, match="mode: expected one of official, strict, found 'loose'"):
        score_rows([row_of("CHIP-STS")], [], "loose")
    with pytest.raises(ConfigError, match="generation: expected one of head, 2023-05"):
        score_rows([row_of("CHIP-STS")], [], generation="2024")


def test_ids_are_told_apart_by_task_when_duplicates_are_counted() -> None:
    gold = [row_of("CHIP-STS"), row_of("KUAKE-IR")]
    unnamed = {"sample_id": "0", "prediction": "不同"}
    unknown = {"sample_id": "9"}
    rows = [*gold, gold[1], unnamed, unnamed, unknown, unknown]
    scores = score_rows(gold, rows)

    assert (scores["unused_predictions"], scores["duplicate_ids"]) == (5, 3)
    # Rows that name no task serve every sample of their id, and the first of them counts.
    assert score_rows(gold, [unnamed, unnamed])["duplicate_ids"] == 1
