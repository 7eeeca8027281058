"""Errors that a user can act on, their exit codes, and the wrapper that turns one into the other.

Exit codes: 0 complete, 1 error, 2 refused (configuration, data or checkpoint), 3 non-finite loss,
4 disk, 5 worse than before (--fail_on_regression), 130/143 interrupted and resumable.
"""

import atexit
import errno
import os
import sys
from collections.abc import Callable
from typing import NoReturn

import torch

from medtune.common.log import set_up_logging

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


class MedtuneError(Exception):
    """A failure explained to the user: what was expected, what was found, where, what to do.

    is_of_one_process: True where other processes may not have found the same.
    """

    exit_code = 1
    is_of_one_process = False


class ConfigError(MedtuneError):
    """An option, a configuration file or an output folder is refused."""

    exit_code = 2


class DataError(MedtuneError):
    """A data file or a row of it is refused; the message starts with `file:line`."""

    exit_code = 2


class QuestionTooLong(DataError):
    """A question by itself has more tokens than the model has room for."""


class QueueFull(MedtuneError):
    """No place for a question: as many wait as may."""


class CheckpointError(MedtuneError):
    """A model, an adapter or a checkpoint is refused."""

    exit_code = 2


class MemoryExhausted(MedtuneError):
    """Memory ran out in a step, on this process at least."""

    is_of_one_process = True


class PeerLost(MedtuneError):
    """Another process of the run is gone."""

    is_of_one_process = True


class BatchTooLarge(ConfigError):
    """The longest batch does not fit into the memory of this process at least."""

    is_of_one_process = True


class NonFiniteError(MedtuneError):
    """Loss or gradient is no number, step after step."""

    exit_code = 3


class DiskError(MedtuneError):
    """The disk has no room; the message says how much is needed and how much there is."""

    exit_code = 4
    is_of_one_process = True


class RegressionError(MedtuneError):
    """A model is worse than the one that it was compared with, and the user asked to be told."""

    exit_code = 5


class Interrupted(MedtuneError):
    """A signal ended the run after a checkpoint; the same command continues it."""

    def __init__(self, message: str, signal_number: int) -> None:
        """Leave as a shell reports the signal: 130 or 143."""
        super().__init__(message)
        self.exit_code = 128 + signal_number


def run_script(main: Callable[[list[str]], None]) -> NoReturn:
    """Run `main(argv)` and leave with the exit code that its outcome deserves.

    A user's mistake prints its message and no traceback; an unforeseen exception keeps its
    traceback, because that is a defect to be reported.
    """
    set_up_logging()
    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")  # DeepSpeed would guess, and say so
    exit_code = 0
    try:
        main(sys.argv[1:])
    except MedtuneError as error:
        # Most mistakes every process finds, and one of them says it.
        if error.is_of_one_process or int(os.environ.get("LOCAL_RANK", "0")) == 0:
            sys.stderr.write(f"error: {error}\n")
        exit_code = error.exit_code
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        sys.stderr.write(f"error: the disk is full: {error}. Make room, run the command again.\n")
        exit_code = DiskError.exit_code
    except KeyboardInterrupt:
        sys.stderr.write("interrupted: run the same command again to continue\n")
        exit_code = 130
    except SystemExit as end:
        exit_code = int(end.code or 0)
    leave(exit_code)


def leave(exit_code: int) -> NoReturn:
    """End this process; one of several ends without tearing its interpreter down.

    Gloo's threads outlive `destroy_process_group`. One that drops its last tensor while the
    interpreter is torn down aborts the process, and torchrun then reports a finished run as
    failed (pytorch/pytorch#179291). multiprocessing ends its processes in the same way.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        sys.exit(exit_code)
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_code)
