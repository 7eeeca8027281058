"""A question of CMB-Exam to the prompt that its authors use.

Source: workers/base.py and src/generate_fewshot.py of https://github.com/FreedomIntelligence/CMB.
"""

from collections.abc import Callable, Mapping
from typing import Any

DIRECT = "不需要做任何分析和解释，直接输出答案选项。"
STEP_BY_STEP = "请分析每个选项，并最后给出答案。"

OPTION_RULES: dict[str, Callable[[str], bool]] = {
    "filled": lambda text: bool(text.strip()),
    "official": lambda text: len(text) > 1,
    "official_fewshot": lambda text: len(text) > 0 and text != " ",
}
"""Which options are shown. `official` hides those of one character, such as the five organs."""


def shown_options(item: Mapping[str, Any], option_rule: str = "filled") -> dict[str, str]:
    """Return the options of a question that its prompt shows, letter to text.

    option_rule: a name in OPTION_RULES.   Null counts as blank.
    """
    is_shown = OPTION_RULES[option_rule]
    options = item.get("option") or item.get("options") or {}
    texts = {str(letter): "" if text is None else str(text) for letter, text in options.items()}
    return {letter: text for letter, text in texts.items() if is_shown(text)}


def build_prompt(
    item: Mapping[str, Any], chain_of_thought: bool = False, option_rule: str = "filled"
) -> str:
    """Return the question as a prompt that asks for the letters, or for steps and then letters.

    item: question, question_type, option; exam_type and exam_class are left out of the sentence
    where they are null (the official code would write "None").
    """
    exam_type, exam_class = item.get("exam_type"), item.get("exam_class")
    is_known = exam_type and exam_class
    exam = f"{exam_type}中{exam_class}考试" if is_known else exam_type or "医学考试"
    how = STEP_BY_STEP if chain_of_thought else DIRECT
    lines = [f"以下是中国{exam}的一道{item['question_type']}，{how}", str(item["question"])]
    options = shown_options(item, option_rule)
    # The official code joins question and options even where no option is left.
    return "\n".join(lines) + "\n" + "\n".join(f"{k}. {text}" for k, text in options.items())


def build_answer(item: Mapping[str, Any], chain_of_thought: bool = False) -> str:
    """Return the answer of a worked example: "答案是B。", after its explanation if asked for."""
    if chain_of_thought:
        return f"{item.get('explanation') or ''}所以答案是{item['answer']}。"
    return f"答案是{item['answer']}。"
