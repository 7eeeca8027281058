"""Answers to exam questions as models write them, each with what a careful person reads in it.

TUNED was looked at while the reader was written; HELD_OUT was written before the reader and run
once it was done. None: no careful person could say which letter is meant.
"""

from typing import NamedTuple

LETTERS = "ABCDE"
ONE, SEVERAL = "单项选择题", "多项选择题"
VITAMINS = {"A": "维生素A", "B": "维生素D", "C": "维生素K", "D": "维生素C", "E": "维生素E"}
LUNGS = {
    "A": "肺炎链球菌肺炎",
    "B": "肺结核",
    "C": "支气管扩张",
    "D": "支气管肺癌",
    "E": "慢性支气管炎",
}


class Answer(NamedTuple):
    """What a model wrote, and what is read in it."""

    text: str
    question_type: str
    meant: str | None
    options: dict[str, str] | None = None


TUNED = (
    Answer("根据DNA检测及CT结果，应选B", ONE, "B"),
    Answer("Ｂ", ONE, "B"),
    Answer("答案：ｃ", ONE, "C"),
    Answer("The correct answer is D.", ONE, "D"),
    Answer("答案是B，而不是C", ONE, "B"),
    Answer("不是A", ONE, None),
    Answer("答案是维生素C。", ONE, None),
    Answer("答案是维生素C。", ONE, "D", VITAMINS),
    Answer("患者应诊断为肺结核。", ONE, "B", LUNGS),
    Answer("可能是肺结核或支气管扩张。", ONE, None, LUNGS),
    Answer("正确答案是A和C。", ONE, None),
    Answer("正确答案是C、A。", SEVERAL, "AC"),
    Answer("ACD", SEVERAL, "ACD"),
    Answer("A,B,D", SEVERAL, "ABD"),
    Answer("维生素B12缺乏会引起巨幼细胞贫血，故选E。", ONE, "E"),
    Answer("甲型H1N1流感首选奥司他韦。", ONE, None),
    Answer("C反应蛋白升高提示细菌感染。", ONE, None),
    Answer("A型血的人可以接受O型血，本题应选D。", ONE, "D"),
    Answer("IgA肾病最常见的表现是血尿。因此选A。", ONE, "A"),
    Answer("A错误，B错误，C错误，D正确，E错误。", ONE, "D"),
    Answer("A项正确；B项错误；C项正确；D项正确。", SEVERAL, "ACD"),
    Answer("A、C、E均正确，B、D不正确。", SEVERAL, "ACE"),
    Answer(
        "首先，我们来看题目。患者为老年男性，长期吸烟，痰中带血。\n\n1. **A选项**：肺炎链球菌肺炎多有"
        "高热、铁锈色痰，与本例不符。\n2. **B选项**：肺结核常有低热、盗汗，本例没有。\n3. **C选项**："
        "支气管扩张以大量脓痰为主。\n4. **D选项**：支气管肺癌，与老年、吸烟、痰中带血相符。\n5. "
        "**E选项**：慢性支气管炎一般不会有血痰。\n\n综上所述，正确答案是**D. 支气管肺癌**。",
        ONE,
        "D",
    ),
    Answer(
        "这道题考查的是糖尿病的诊断标准。空腹血糖≥7.0mmol/L，HbA1c≥6.5%。A选项是正常值，B选项是"
        "糖耐量减低，C选项达到了标准。\n所以，最符合题意的选项是C。",
        ONE,
        "C",
    ),
    Answer("起初考虑答案是A，但结合病史，最终答案应为B。", ONE, "B"),
    Answer("答案是A。答案是B。", ONE, None),
    Answer("不选A，选B。", ONE, "B"),
    Answer("选A还是选B很难说。", ONE, None),
    Answer("可以排除A、B、C，答案选D", ONE, "D"),
    Answer("\\boxed{C}", ONE, "C"),
    Answer("答案：B\n\n以下是中国医师考试中执业医师考试的一道单项选择题。\n答案：C", ONE, "B"),
    Answer("<think>A看起来对，但答案是C更好</think>\nB", ONE, "B"),
    Answer("A. 高血压\nC. 糖尿病", SEVERAL, "AC"),
    Answer("答案：A. 高血压\nB. 糖尿病\nD. 吸烟\n解析：E. 饮酒与之无关。", SEVERAL, "ABD"),
    Answer("答案：E。解析：A、B、C、D均为该病的表现。", ONE, "E"),
    Answer("我不知道这道题的答案。", ONE, None),
    Answer("答案是G。", ONE, None),
    Answer("B超检查是首选。", ONE, None),
    Answer("本题全选。", SEVERAL, "ABCDE"),
    Answer("Option B is correct because vitamin C deficiency causes scurvy.", ONE, "B"),
    Answer("A patient with HIV should be given ART. The answer is (E).", ONE, "E"),
    Answer("**B**", ONE, "B"),
    Answer("【答案】D", ONE, "D"),
    Answer("答案：D 【解析】本题考查抗菌药物。A、C可用于儿童。", ONE, "D"),
)

HELD_OUT = (
    Answer("患者HIV抗体阳性，CD4细胞减少，应选C", ONE, "C"),
    Answer("正确答案：Ｄ", ONE, "D"),
    Answer("答案 e", ONE, "E"),
    Answer("answer: a", ONE, "A"),
    Answer("正确答案是C，不是D。", ONE, "C"),
    Answer("绝不是B。", ONE, None),
    Answer("答案是维生素A。", ONE, None),
    Answer("应补充维生素E", ONE, "E", VITAMINS),
    Answer("最可能的诊断：支气管肺癌", ONE, "D", LUNGS),
    Answer("不考虑肺结核。", ONE, None, LUNGS),
    Answer("选B、E。", ONE, None),
    Answer("选B、E。", SEVERAL, "BE"),
    Answer("EBA", SEVERAL, "ABE"),
    Answer("A B C", SEVERAL, "ABC"),
    Answer("答案是：A和D以及E。", SEVERAL, "ADE"),
    Answer("B族维生素缺乏可致脚气病，所以选择A。", ONE, "A"),
    Answer("丙型肝炎RNA阳性，ALT升高。", ONE, None),
    Answer("D-二聚体升高见于肺栓塞，正确选项为B。", ONE, "B"),
    Answer("ATP由线粒体产生，因此答案为C选项。", ONE, "C"),
    Answer("载脂蛋白B升高", ONE, None),
    Answer("A选项错误。B选项错误。C选项错误。D选项错误。E选项正确。", ONE, "E"),
    Answer("A对，B对，C错，D对，E错", SEVERAL, "ABD"),
    Answer("B和C都是对的，其余都不对。", SEVERAL, "BC"),
    Answer(
        "解题思路：\n\n（1）题干提示：妊娠期妇女，尿路感染。\n（2）A. 四环素：可致胎儿牙齿黄染，禁用；\n"
        "（3）B. 左氧氟沙星：影响软骨发育，不宜用；\n（4）C. 头孢克洛：属FDA妊娠B类，可以使用；\n"
        "（5）D. 庆大霉素：有耳毒性；\n（6）E. 氯霉素：可引起灰婴综合征。\n\n因此，本题的正确答案为：C。",
        ONE,
        "C",
    ),
    Answer(
        "让我们逐项分析：\nA：ACEI可致干咳，正确。\nB：β受体阻滞剂可诱发哮喘，正确。\nC：利尿剂可致"
        "低钾，正确。\nD：钙拮抗剂可致高钾，错误。\n题目问的是错误的一项，\n\n### 最终答案\n\nD",
        ONE,
        "D",
    ),
    Answer(
        "这是一个关于急腹症的问题。典型的转移性右下腹痛，麦氏点压痛，白细胞升高。B超可见阑尾肿大。"
        "鉴别诊断包括：消化性溃疡穿孔（A）、急性胆囊炎（C）、右侧输尿管结石（D）。但这些都不如急性"
        "阑尾炎典型。\n\n综合以上分析，应该选择B选项，即急性阑尾炎。",
        ONE,
        "B",
    ),
    Answer("刚才说答案是C，更正一下：答案应为D。", ONE, "D"),
    Answer("答案可能是A，也可能是C。", ONE, None),
    Answer("答案不是C，而是E。", ONE, "E"),
    Answer("排除法：A、B、D、E都不符合题意，只有C符合题意。", ONE, "C"),
    Answer("\\(\\boxed{\\text{A}}\\)", ONE, "A"),
    Answer("C\n\n问题：下列哪项不是抗凝药？\n答案：A", ONE, "C"),
    Answer("<think>\n先看A，再看B。\n</think>\n\n正确答案是 **E**。", ONE, "E"),
    Answer("正确答案：\nB. 咳嗽\nD. 咯血", SEVERAL, "BD"),
    Answer("选项C正确。C反应蛋白是急性时相反应蛋白，A、B、D都是干扰项。", ONE, "C"),
    Answer("这道题没有正确答案。", ONE, None),
    Answer("答案：F", ONE, None),
    Answer("CT", ONE, None),
    Answer("A、B、C、D、E全选", SEVERAL, "ABCDE"),
    Answer("(B) is the best choice for patients with type A influenza.", ONE, "B"),
    Answer("The best answer is B, not C.", ONE, "B"),
    Answer("答案：[A]", ONE, "A"),
    Answer("【正确答案】 ABD", SEVERAL, "ABD"),
    Answer("故本题选C。A为阳证，B为里证。", ONE, "C"),
)
