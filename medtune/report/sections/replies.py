"""What the models say: answers side by side, whether they end, how long they are."""

from medtune.report.answers import build_question, choose, join_items
from medtune.report.blocks import Block, Note, Question, Questions, Section
from medtune.report.chain import Chain
from medtune.report.evaluations import REPLIES, SAFETY
from medtune.report.sections.benchmarks import find_metrics, row_of, table_of_scores
from medtune.report.texts import Words, label, say

SHOWN_TASKS = (REPLIES, SAFETY)
SHAPE = ("stop_rate", "repetition", "length_tokens", "length_characters")


def build_answers(chain: Chain) -> Section:
    """Return the same questions answered by each model."""
    title = say("section.answers")
    questions: list[Question] = []
    tasks: list[tuple[str, Words]] = []
    notes: list[Block] = []
    for task in SHOWN_TASKS:
        items = join_items(chain.evaluations, task)
        if not items:
            continue
        chosen = choose(items)
        questions += [build_question(chain.evaluations, task, item) for item in chosen]
        name = label("task", task)
        tasks.append((task, name))
        if len(items) > len(chosen):
            more = len(items) - len(chosen)
            notes.append(Note(say("answers.more", task=name, num=len(chosen), more=more)))
    if not questions:
        return Section("answers", title, [Note(say("answers.none"))])
    return Section("answers", title, [*notes, Questions(tasks, questions)])


def build_replies(chain: Chain) -> Section:
    """Return whether replies stop by themselves, repeat themselves, and how long they are."""
    title = say("section.replies")
    measured = find_metrics(chain.evaluations, REPLIES)
    rows = [
        row_of(chain, REPLIES, metric, label("metric", metric))
        for metric in SHAPE
        if metric in measured
    ]
    if not rows:
        return Section("replies", title, [Note(say("replies.none"))])
    return Section("replies", title, [table_of_scores(chain, say("replies.caption"), rows)])
