"""medtune: continued pretraining, supervised fine-tuning and DPO for medical chat models."""

__version__ = "0.1.0"
