"""One logger for all of medtune: rank 0 only, coloured where a terminal can show it."""

import logging
import os
import sys
import warnings
from importlib.util import find_spec

import transformers
from rich.console import Console
from rich.logging import RichHandler

logger = logging.getLogger("medtune")


def is_main_process() -> bool:
    """True on the process that writes files and log lines (global rank 0)."""
    return int(os.environ.get("RANK", "0")) == 0


def set_up_logging() -> None:
    """Send medtune's messages to standard error and quieten the libraries beneath it.

    Other ranks keep warnings only: the same line from each process helps nobody.
    """
    if sys.stderr.isatty():
        handler: logging.Handler = RichHandler(
            console=Console(stderr=True),
            show_path=False,
            show_level=False,
            log_time_format="%H:%M:%S",
        )
    else:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
    logger.handlers[:] = [handler]
    logger.propagate = False
    logger.setLevel(logging.INFO if is_main_process() else logging.WARNING)
    libraries = ("transformers", "trl", "accelerate", "peft", "datasets", "httpx", "bitsandbytes")
    for library in libraries:
        logging.getLogger(library).setLevel(logging.ERROR)
    transformers.utils.logging.disable_progress_bar()
    if find_spec("datasets"):  # training alone does without
        import datasets

        datasets.disable_progress_bars()
    warnings.filterwarnings("ignore", category=FutureWarning)  # addressed to developers
