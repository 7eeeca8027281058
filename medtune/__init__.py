"""medtune: continued pretraining, supervised fine-tuning and DPO for medical chat models."""

import logging

__version__ = "0.1.0"

# While it is imported (PEFT does that) it tells what a CPU has to do without.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
