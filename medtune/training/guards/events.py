"""What happened to a run beside its steps: one line each in `events.jsonl`."""

import json
import time
from pathlib import Path
from typing import Any

from medtune.common.log import is_main_process, logger

EVENTS_FILE = "events.jsonl"


def record_event(folder: Path, kind: str, **facts: Any) -> None:
    """Append an event on the main process, and log it."""
    if not is_main_process():
        return
    event = {"event": kind, "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), **facts}
    with (folder / EVENTS_FILE).open("a", encoding="utf-8") as file:
        file.write(json.dumps(event, ensure_ascii=False) + "\n")
    shown = ", ".join(f"{name} {value}" for name, value in facts.items())
    logger.warning("%s: %s", kind, shown[:500])
