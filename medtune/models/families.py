"""What differs between model families, by token name: ids are looked up, never written down."""

from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from medtune.common.errors import ConfigError


@dataclass(frozen=True)
class Family:
    """How a family of chat models ends a reply.

    turn_end: the token that closes a reply where the chat template writes none, else None.
    stop_tokens: what generation stops at; the tokenizer's own end-of-text token is always added.
    model_types: the values of --model_type and of config.model_type that mean this family.
    """

    name: str
    turn_end: str | None = None
    stop_tokens: tuple[str, ...] = ()
    model_types: tuple[str, ...] = ()


# A GLM reply has no end token of its own: it ends where the next role token begins.
GLM = Family(
    name="glm",
    turn_end="<|user|>",
    stop_tokens=("<|endoftext|>", "<|user|>", "<|observation|>"),
    model_types=("glm", "chatglm"),
)
# Converted from the older format. ChatGLM2 writes rounds of plain text and no token after a reply.
CHATGLM3 = Family(
    name="chatglm3",
    turn_end="<|user|>",
    stop_tokens=("</s>", "<|user|>", "<|observation|>"),
)
CHATGLM2 = Family(name="chatglm2", turn_end="</s>", stop_tokens=("</s>",))
GENERIC = Family(name="generic")


def family_of(tokenizer: PreTrainedTokenizerBase) -> Family:
    """Return the family that the tokenizer's control tokens belong to."""
    added = tokenizer.get_added_vocab().keys()
    fitting = (one for one in (GLM, CHATGLM3, CHATGLM2) if {"[gMASK]", *one.stop_tokens} <= added)
    return next(fitting, GENERIC)


def stop_token_ids(tokenizer: PreTrainedTokenizerBase, turn_ends: set[int]) -> list[int]:
    """Return the ids that end a generation, sorted: the family's, end-of-text, and `turn_ends`.

    turn_ends: the control tokens that close supervised replies, as found in the training data.
    """
    names = family_of(tokenizer).stop_tokens
    ids = {tokenizer.convert_tokens_to_ids(name) for name in names} | turn_ends
    if tokenizer.eos_token_id is not None:
        ids.add(tokenizer.eos_token_id)
    return sorted(ids)


def check_model_type(model_type: str, config_type: str) -> None:
    """Raise ConfigError if the model is not what --model_type says, or needs its own code."""
    if config_type == "chatglm":
        raise ConfigError(
            "expected a native checkpoint (config.json with model_type glm), found the older "
            "chatglm format, which needs code from the checkpoint to run. Convert it first: "
            "python convert_chatglm.py --model_dir OLD --output_dir NEW."
        )
    allowed = GLM.model_types if model_type in GLM.model_types else (model_type,)
    if model_type != "auto" and config_type not in allowed:
        raise ConfigError(
            f"--model_type {model_type}: expected a model of that family, found {config_type!r} in "
            "its config.json; pass --model_type auto or the right model."
        )
