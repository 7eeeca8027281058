"""Write what was asked, each text once, and no answer: texts to read, as rows for pretraining.

    python recipes/chatglm2_ptuning_promptcblue/texts_of.py CONVERSATIONS.jsonl TEXTS.jsonl

A trained ChatGLM2 has read the field's words before it is tuned; the small stand-in has not.
"""

import json
import sys
from pathlib import Path


def main(argv: list[str]) -> None:
    """Read the conversations' first questions and write them as texts."""
    source, target = map(Path, argv)
    rows = map(json.loads, source.read_text(encoding="utf-8").splitlines())
    texts = dict.fromkeys(row["messages"][0]["content"] for row in rows)
    target.parent.mkdir(parents=True, exist_ok=True)
    lines = (json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts)
    target.write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
