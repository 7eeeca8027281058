"""One hand-made row of each PromptCBLUE task, with the structure that it is read as."""

from typing import Any, NamedTuple

TASK_OF_2023_05 = "CMeIE"


class Case(NamedTuple):
    text: str
    answer: Any
    choices: list[str] | None = None


def entities(**types: list[str]) -> list[dict[str, str]]:
    return [{"entity": name, "type": kind} for kind, names in types.items() for name in names]


def node(role: str, relation: str, *triples: list[str]) -> dict[str, Any]:
    return {"role": role, "logical_rel": relation, "triples": list(triples)}


RELATION_TEXT = (
    "具有并发症关系的头尾实体对如下：头实体为麻疹，尾实体为肺炎。头实体为流感，尾实体为心肌炎。\n"
    "具有病因关系的头尾实体对如下：头实体为麻疹，尾实体为麻疹病毒。"
)
RELATIONS = [
    {"predicate": "并发症", "subject": "麻疹", "object": "肺炎"},
    {"predicate": "并发症", "subject": "流感", "object": "心肌炎"},
    {"predicate": "病因", "subject": "麻疹", "object": "麻疹病毒"},
]
STATES = ["有这个症状", "没有这个症状"]

CASES = {
    "CMeEE-V2": Case(
        "句子里的实体：\n疾病实体：麻疹，肺炎\n药物实体：利巴韦林",
        entities(疾病=["麻疹", "肺炎"], 药物=["利巴韦林"]),
        ["疾病", "药物", "部位"],
    ),
    "CMeIE-V2": Case(RELATION_TEXT, RELATIONS, ["并发症", "病因"]),
    TASK_OF_2023_05: Case(RELATION_TEXT, RELATIONS, ["并发症", "病因"]),
    "CHIP-CDN": Case(
        "标准词如下：\n胃炎，便秘",
        [{"entity": name, "type": "normalization"} for name in ("便秘", "胃炎")],
        ["胃炎", "便秘", "腹泻"],
    ),
    "CHIP-CDEE": Case(
        "事件如下：\n主体词：疼痛；发生状态：否定；描述词：剧烈，阵发；解剖部位：腹部",
        [
            {
                "主体词": "疼痛",
                "发生状态": "否定",
                "描述词": ["剧烈", "阵发"],
                "解剖部位": ["腹部"],
            }
        ],
    ),
    "IMCS-V2-NER": Case("实体：\n症状实体：咳嗽，流涕", entities(症状=["咳嗽", "流涕"]), ["症状"]),
    "CHIP-MDCFNPC": Case(
        "结果：\n发热：有这个症状\n呕吐：没有这个症状",
        [{"entity": "发热", "attr": STATES[0]}, {"entity": "呕吐", "attr": STATES[1]}],
        STATES,
    ),
    "IMCS-V2-SR": Case("结果：\n咳嗽：有这个症状", [{"entity": "咳嗽", "attr": STATES[0]}], STATES),
    "IMCS-V2-DAC": Case("给出诊断", "给出诊断", ["给出诊断", "关于病因的询问"]),
    "IMCS-V2-MRG": Case(
        "报告：\n主诉：咳嗽两天。\n诊断：上呼吸道感染\n建议：多喝水，休息。",
        {"主诉": "咳嗽两天。", "诊断": "上呼吸道感染", "建议": "多喝水，休息。"},
    ),
    "CHIP-CTC": Case(" 年龄\n", "年龄", ["年龄", "性别"]),
    "CHIP-STS": Case("不同", "不是", ["相同", "不同"]),
    "KUAKE-IR": Case("不相关", "不相关", ["相关", "不相关"]),
    "KUAKE-QIC": Case("病因分析", "病因分析", ["病因分析", "治疗方案"]),
    "KUAKE-QQR": Case("完全一致", "完全一致", ["完全一致", "语义无直接关联"]),
    "KUAKE-QTR": Case("部分匹配", "部分匹配", ["部分匹配", "完全匹配"]),
    "MedDG": Case("您好，咳嗽几天了？", "您好，咳嗽几天了？"),
    "Text2DT": Case(
        "根据给定的指南文本抽取的诊疗决策树如下：\n"
        '节点1：role=C；logical_rel=null；triples=[["患儿", "临床表现", "高热"]]\n'
        "节点2：role=D；logical_rel=or；triples=[['患儿', '治疗药物', '布洛芬'], "
        "('患儿', '治疗药物', '对乙酰氨基酚')]\n"
        "节点3：role=D；logical_rel=null；triples=[]",
        [
            node("C", "null", ["患儿", "临床表现", "高热"]),
            node("D", "or", ["患儿", "治疗药物", "布洛芬"], ["患儿", "治疗药物", "对乙酰氨基酚"]),
            node("D", "null"),
        ],
    ),
    "CMedCausal": Case(
        "因果关系三元组如下：\n头实体：吸烟；尾实体：咳嗽\n上下位关系三元组如下：\n"
        "头实体：感冒；尾实体：流感",
        [
            {"predicate": "因果关系", "subject": "吸烟", "object": "咳嗽"},
            {"predicate": "上下位关系", "subject": "感冒", "object": "流感"},
        ],
    ),
}
CLASSIFYING = [task for task, case in CASES.items() if isinstance(case.answer, str)][:-1]


def row_of(task: str, text: Any = None, sample_id: str = "0", **fields: Any) -> dict[str, Any]:
    """The gold row of a task, or the same row with another text."""
    return {
        "task_dataset": task,
        "sample_id": sample_id,
        "answer_choices": CASES[task].choices,
        "target": CASES[task].text if text is None else text,
        **fields,
    }
