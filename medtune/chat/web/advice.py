"""The fixed advice before an answer is the program's word, and never the model's."""

from collections.abc import Callable

# From a question to the advice that precedes its answer, "" for none.
AdviceFor = Callable[[str], str]


def add_advice(advice: str, answer: str) -> str:
    """Return an answer as clients get it."""
    return f"{advice}\n\n{answer}" if advice else answer


def without_advice(answer: str, question: str, advice_for: AdviceFor) -> str:
    """Return an answer that a client sent back as the model gave it."""
    advice = advice_for(question)
    if not advice or not answer.startswith(advice):
        return answer
    return answer.removeprefix(advice).lstrip()
