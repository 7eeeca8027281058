"""The trainers' own options, none of which is declared again here."""

from trl import DPOConfig, SFTConfig

__all__ = ["DPOConfig", "SFTConfig"]
