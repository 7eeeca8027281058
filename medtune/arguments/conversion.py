"""What convert_chatglm.py takes."""

from dataclasses import dataclass, field

from medtune.common.errors import ConfigError

GENERATIONS = ("chatglm2", "chatglm3", "glm4")


@dataclass
class ConversionArguments:
    """What convert_chatglm.py takes."""

    model_dir: str = field(
        metadata={
            "help": "Folder of a ChatGLM2, ChatGLM3 or GLM-4 model in the old chatglm format, of a "
            "LoRA adapter or a P-Tuning v2 prefix for one, or `tiny-chatglm2`."
        }
    )
    output_dir: str = field(metadata={"help": "Folder for what comes out; must be new or empty."})
    base_model: str | None = field(
        default=None,
        metadata={
            "help": "For adapters: the folder of the model that the output shall belong to, or of "
            "the old one. Default: the one that adapter_config.json names, if it is here."
        },
    )
    model_type: str = field(
        default="auto",
        metadata={
            "help": "chatglm2, chatglm3 or glm4, where the folder does not say it itself (2 and 3 "
            "differ in their chat format alone)."
        },
    )
    reverse: bool = field(
        default=False, metadata={"help": "Make a native LoRA adapter into one for the old format."}
    )

    def __post_init__(self) -> None:
        """Refuse a generation that is not known."""
        if self.model_type not in ("auto", *GENERATIONS):
            raise ConfigError(
                f"--model_type {self.model_type}: expected auto, {', '.join(GENERATIONS)}."
            )
