"""How far an evaluation is, how fast, and when it will be done."""

import sys
import time
from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from medtune.common.log import is_main_process, logger

SECONDS_BETWEEN_LINES = 10
SizedT = TypeVar("SizedT", bound=list)


def with_progress(batches: Iterable[SizedT], total: int, what: str) -> Iterator[SizedT]:
    """Yield the batches; each counts as done when the next one is asked for.

    A terminal shows a bar, a file gets a line every ten seconds; other processes are silent.
    """
    if not is_main_process():
        yield from batches
    elif sys.stderr.isatty():
        yield from _with_bar(batches, total, what)
    else:
        yield from _with_lines(batches, total, what)


def _with_bar(batches: Iterable[SizedT], total: int, what: str) -> Iterator[SizedT]:
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
        TextColumn("ETA"), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total)
        for batch in batches:
            yield batch
            bar.advance(task, len(batch))


def _with_lines(batches: Iterable[SizedT], total: int, what: str) -> Iterator[SizedT]:
    started = said = time.monotonic()
    done = 0
    for batch in batches:
        yield batch
        done += len(batch)
        now = time.monotonic()
        if now - said >= SECONDS_BETWEEN_LINES and done < total:
            said = now
            speed = done / (now - started)
            left = timedelta(seconds=round((total - done) / speed))
            logger.info("%s: %s of %s, %s a minute, ETA %s", what, f"{done:,}", f"{total:,}",
                        f"{60 * speed:,.0f}", left)  # fmt: skip
