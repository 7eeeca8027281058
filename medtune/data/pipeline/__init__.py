"""prepare_data.py's checks as datatrove steps, for corpora that outgrow one machine.

docs/large_corpora.md has a script that runs. Nothing else in medtune needs datatrove.
"""

from importlib.util import find_spec
from typing import Any

from medtune.common.errors import ConfigError

if find_spec("datatrove") is None or find_spec("loguru") is None:
    raise ConfigError(
        "medtune.data.pipeline: expected datatrove, found it not installed; run `bash setup.sh`, "
        "or pip install datatrove with the versions of constraints.txt."
    )

from loguru import logger as datatrove_logger


def leave_out_frames(record: Any) -> None:
    """Take the frames from a logged error: loguru shows their variables, which are rows.

    The error itself is logged, and raised as ever.
    """
    if record["exception"] is not None:
        record["exception"] = record["exception"]._replace(traceback=None)


datatrove_logger.configure(patcher=leave_out_frames)
