"""The letters that CMB's own code takes from an answer, with its faults.

It is there to publish numbers that compare with others'; `reading.py` reads what is meant.
Source: match_choice and extract_ans of src/utils.py, https://github.com/FreedomIntelligence/CMB.
"""

import re
from collections import Counter
from collections.abc import Sequence

SEVERAL_ANSWERS = "多项选择题"
STATEMENT = re.compile(r"(?:答案|正确选项)(?:是|：|为|应该是|应该为)(.*?)(?:。|\.|$)", re.DOTALL)
NOT_A_LETTER = re.compile("[^A-G]")


def official_choice(text: str) -> str:
    """Return the capitals A to G behind the first "答案是", or else those of the whole text.

    In order of appearance, repeats kept.   Example: "做CT和DNA检测，选B" -> "CDAB".
    """
    found = STATEMENT.search(text)
    return NOT_A_LETTER.sub("", found[1] if found else text)


def official_answer(texts: Sequence[str], question_type: str) -> str:
    """Return the commonest choice of several samples; "" where none holds a letter.

    Ties go to the one seen first. Unless several answers are asked for, a choice is its first
    letter before it is counted.
    """
    choices = [official_choice(text) for text in texts]
    if question_type != SEVERAL_ANSWERS:
        choices = [choice[:1] for choice in choices]
    counted = Counter(choice for choice in choices if choice)
    return counted.most_common(1)[0][0] if counted else ""
