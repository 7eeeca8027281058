"""Training rows in PromptCBLUE's form, made from the tables that the sample data are made from.

python recipes/chatglm2_ptuning_promptcblue/sample_rows.py data/source OUT.jsonl

A row of thirteen of the eighteen tasks for each disease, asked as the rows of data/eval/promptcblue
are, which hold other diseases' texts and were written by hand. They show the forms of the answers.
"""

import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

INTENTS = {
    "treatment": "治疗方案",
    "symptoms": "病情诊断",
    "lifestyle": "注意事项",
    "causes": "病因分析",
    "department": "就医建议",
}
PRESENT, ABSENT = "已有症状疾病或者假设未来可能发生的疾病等", "未患有症状疾病"
Made = dict[str, tuple[dict[str, str], list[str] | None, list[str]]]


def entities(kinds: dict[str, list[str]]) -> list[str]:
    """Return the lines of an answer that lists entities by kind."""
    lines = [f"{kind}实体：{'，'.join(found)}" for kind, found in kinds.items()]
    return ["上述句子中的实体包含：", *lines]


def relation(kind: str, head: str, tails: list[str]) -> str:
    """Return the line of an answer that lists pairs with one relation."""
    pairs = "".join(f"头实体为{head}，尾实体为{tail}。" for tail in tails)
    return f"具有{kind}关系的头尾实体对如下：{pairs}"


def texts_of(row: dict[str, Any], other: dict[str, Any], rng: random.Random) -> Made:
    """Return slots, choices and lines of the answer by task, of tasks that take a text."""
    name, department = row["name"], row["department"]
    one, two = rng.sample(row["symptoms"], 2)
    test, cause = rng.choice(row["tests"]), rng.choice(row["causes"])
    kinds = {
        "疾病": [name],
        "临床表现": [one, two],
        "医学检验项目": [test],
        "医院科室": [department],
    }
    names = rng.sample([name, other["name"], "健康查体"], 3)
    spoken = f"患者：我{one}两天了。\n医生：有没有{two}？\n患者：没有。"
    acts = {
        f"医生：有没有{two}？": "关于症状的询问",
        f"患者：{one}两天了，晚上更重。": "关于症状的回答",
        f"医生：可以{row['treatment']}。": "关于用药建议的解答",
        f"医生：最好到{department}看一看。": "关于就医建议的解答",
    }
    said = rng.choice(list(acts))
    return {
        "CMeEE-V2": (
            {"text": f"{name}病人多有{one}和{two}，可到{department}就诊，先做{test}。"},
            list(kinds),
            entities(kinds),
        ),
        "CMeIE-V2": (
            {"text": f"{name}@{cause}可以引起{name}，病人常有{one}和{two}。"},
            ["病因", "临床表现"],
            [relation("病因", name, [cause]), relation("临床表现", name, [one, two])],
        ),
        "CHIP-CDN": ({"text": f"考虑{name}，待查"}, names, [name]),
        "CHIP-MDCFNPC": (
            {"text": spoken},
            None,
            [
                "上述对话中临床发现实体以及其阴阳性判别如下：",
                f"{one}：{PRESENT}",
                f"{two}：{ABSENT}",
            ],
        ),
        "IMCS-V2-NER": (
            {"text": f"孩子{one}两天了，要不要查{test}？"},
            None,
            entities({"症状": [one], "药品名": [], "医学检查检验": [test]}),
        ),
        "IMCS-V2-DAC": ({"text": said}, None, [acts[said]]),
        "IMCS-V2-SR": (
            {"a": "医生：孩子哪里不舒服？", "b": f"家长：有{one}，没有{two}。"},
            None,
            [
                "当前对话中的症状及其阴阳性判断为：",
                f"{one}：患有该症状",
                f"{two}：没有患有该症状",
            ],
        ),
        "CMedCausal": (
            {"text": f"{cause}会导致{name}。"},
            None,
            ["因果关系三元组如下：", f"头实体：{cause}；尾实体：{name}"],
        ),
    }


def pairs_of(
    row: dict[str, Any], other: dict[str, Any], asked: dict[str, list[str]], rng: random.Random
) -> Made:
    """Return the same of tasks that compare two texts, or ask what a question is after."""
    about, second = rng.sample(list(INTENTS), 2)
    one, same = (question.format(n=row["name"]) for question in rng.sample(asked[about], 2))
    far = asked[about][0].format(n=other["name"])
    near = asked[second][0].format(n=row["name"])
    is_same = rng.random() < 0.5
    degree, title = rng.choice(
        [
            ("完全匹配", same),
            ("很少匹配有一些参考价值", near),
            ("完全不匹配或者没有参考价值", far),
        ]
    )
    found = row if is_same else other
    text = f"{found['name']}的常见表现有{'、'.join(found['symptoms'])}。"
    search = f"{row['name']}有什么症状"
    return {
        "CHIP-STS": ({"a": one, "b": same if is_same else near}, None, [yes(is_same)]),
        "KUAKE-QIC": ({"text": one}, None, [INTENTS[about]]),
        "KUAKE-QTR": ({"a": one, "b": title}, None, [degree]),
        "KUAKE-IR": ({"a": search, "b": text}, None, ["相关" if is_same else "不相关"]),
        "KUAKE-QQR": (
            {"a": one, "b": same if is_same else far},
            None,
            ["完全一致" if is_same else "语义无直接关联"],
        ),
    }


def yes(value: bool) -> str:
    """Return the answer of CHIP-STS."""
    return "是的" if value else "不是"


def rows_of(source: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows, disease by disease."""
    diseases, tasks, wording = (
        json.loads((source / f"{name}.json").read_text(encoding="utf-8"))
        for name in ("diseases", "promptcblue", "wording")
    )
    asked = wording["questions"]["disease"]
    rng = random.Random(42)
    for number, row in enumerate(diseases):
        other = rng.choice(diseases[:number] + diseases[number + 1 :])
        made = texts_of(row, other, rng) | pairs_of(row, other, asked, rng)
        for task, (slots, own_choices, lines) in made.items():
            choices = own_choices or tasks[task].get("choices")
            yield {
                "input": tasks[task]["ask"].format(choices="，".join(choices or []), **slots),
                "target": "\n".join(lines),
                "answer_choices": choices,
                "task_type": tasks[task]["type"],
                "task_dataset": task,
                "sample_id": f"sample-{task}-{number}",
            }


if __name__ == "__main__":
    output = Path(sys.argv[2])
    output.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows_of(Path(sys.argv[1]))]
    output.write_text("".join(lines), encoding="utf-8")
