"""A run that no longer moves shows where it stands and ends; a launcher can start it anew."""

import faulthandler
import os
import sys
import threading
import time
from typing import Any

from transformers import TrainerCallback

EXIT_CODE = 1


class HangWatch(TrainerCallback):
    """Ends the process with the stacks of all threads if nothing has happened for a time.

    A step, a batch of an evaluation, a save and a log each count as something.
    """

    def __init__(self, timeout_s: float) -> None:
        """Wait for `timeout_s` seconds; 0 waits for ever."""
        self.timeout_s = timeout_s
        self._last = time.monotonic()
        self._ended = threading.Event()

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """Begin to watch."""
        self.beat()
        if self.timeout_s > 0:
            threading.Thread(target=self._watch, name="hang watch", daemon=True).start()

    def beat(self, *_: Any, **__: Any) -> None:
        """Note that something has happened."""
        self._last = time.monotonic()

    on_step_begin = on_step_end = on_substep_end = on_prediction_step = on_save = on_log = beat
    on_evaluate = on_epoch_begin = beat

    def close(self) -> None:
        """Watch no longer."""
        self._ended.set()

    def _watch(self) -> None:
        while not self._ended.wait(min(1.0, self.timeout_s / 4)):
            if time.monotonic() - self._last > self.timeout_s:
                rank = os.environ.get("RANK", "0")
                sys.stderr.write(
                    f"error: process {rank} has ended no step for {self.timeout_s:g} s "
                    "(--hang_timeout_s); what each thread does follows. Run the same command "
                    "again: it continues from the newest checkpoint.\n"
                )
                sys.stderr.flush()
                faulthandler.dump_traceback(all_threads=True)
                os._exit(EXIT_CODE)
