"""The project's sample conversations as a table of consultations, like that of seed 000.

    python recipes/gpt2_pediatrics/sample_table.py data/finetune OUTPUT.csv

Written in gb18030 with the columns department, title, ask and answer. Each fiftieth row lacks its
answer, as rows of such tables do.
"""

import csv
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))  # the checkout

from medtune.common.errors import run_script
from medtune.data.reading import read_all, read_conversation_file

NO_ANSWER_EACH = 50


def main(argv: list[str]) -> None:
    """Write the table."""
    source, output = argv
    Path(output).parent.mkdir(parents=True, exist_ok=True)
    with open(output, "w", encoding="gb18030", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["department", "title", "ask", "answer"])
        for number, record in enumerate(read_all(source, read_conversation_file), start=1):
            *_, question, answer = record.texts
            said = "" if number % NO_ANSWER_EACH == 0 else answer
            writer.writerow(["科普", question, question, said])


if __name__ == "__main__":
    run_script(main)
