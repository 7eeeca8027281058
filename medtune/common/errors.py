"""Errors that a user can act on, their exit codes, and the wrapper that turns one into the other.

Exit codes: 0 complete, 1 error, 2 refused (configuration, data or checkpoint), 3 non-finite loss,
4 disk, 130/143 interrupted and resumable.
"""

import os
import sys
from collections.abc import Callable
from typing import NoReturn

import torch

from medtune.common.log import set_up_logging


class MedtuneError(Exception):
    """A failure explained to the user: what was expected, what was found, where, what to do."""

    exit_code = 1


class ConfigError(MedtuneError):
    """An option, a configuration file or an output folder is refused."""

    exit_code = 2


class DataError(MedtuneError):
    """A data file or a row of it is refused; the message starts with `file:line`."""

    exit_code = 2


class CheckpointError(MedtuneError):
    """A model, an adapter or a checkpoint is refused."""

    exit_code = 2


def run_script(main: Callable[[list[str]], None]) -> NoReturn:
    """Run `main(argv)` and leave with the exit code that its outcome deserves.

    A user's mistake prints its message and no traceback; an unforeseen exception keeps its
    traceback, because that is a defect to be reported.
    """
    set_up_logging()
    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")  # DeepSpeed would guess, and say so
    try:
        main(sys.argv[1:])
    except MedtuneError as error:
        if int(os.environ.get("LOCAL_RANK", "0")) == 0:  # every process finds the same mistake
            sys.stderr.write(f"error: {error}\n")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted: run the same command again to continue\n")
        sys.exit(130)
    sys.exit(0)
