"""The generations of the old format: their special tokens, stop tokens and chat templates."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from medtune.common.errors import CheckpointError, ConfigError
from medtune.models import families
from medtune.models.conversion.checking import check_ids
from medtune.models.conversion.sentencepiece_file import END, UNKNOWN, build_sentencepiece
from medtune.models.conversion.tiktoken_file import build_tiktoken
from medtune.models.tiny import SPECIAL_TOKENS
from medtune.models.weight_files import CONFIG, FETCH_AGAIN, TOKENIZER_CONFIG, read_if_there

TOKENIZER_MODEL = "tokenizer.model"
OLD_CODE = "tokenization_chatglm.py"
TIKTOKEN_LINE = re.compile(rb"[A-Za-z0-9+/]+=* \d+\r?\n")
ROLES = ("<|system|>", "<|user|>", "<|assistant|>", "<|observation|>")
# Published as `sop` and `eop`: these are GLM-4's names for the same tokens, see families.py.
MASKS = ("[MASK]", "[gMASK]", "[sMASK]", "<sop>", "<eop>")
PREFIX = ("[gMASK]", "<sop>")


@dataclass(frozen=True)
class Generation:
    """What the tokenizer of a generation adds to its vocabulary, and how it writes a chat.

    build: makes the fast tokenizer of a file, special tokens and the tokens that begin a text.
    """

    name: str
    build: Callable[[Path, Sequence[str], Sequence[str]], Tokenizer]
    special_tokens: tuple[str, ...]
    family: families.Family
    named: dict[str, str] = field(hash=False)


OF_SENTENCEPIECE = {"eos_token": END, "pad_token": UNKNOWN, "unk_token": UNKNOWN}
CHATGLM2 = Generation("chatglm2", build_sentencepiece, MASKS, families.CHATGLM2, OF_SENTENCEPIECE)
CHATGLM3 = Generation(
    "chatglm3", build_sentencepiece, (*MASKS, *ROLES), families.CHATGLM3, OF_SENTENCEPIECE
)
GLM4 = Generation(
    "glm4",
    build_tiktoken,
    SPECIAL_TOKENS,
    families.GLM,
    {"eos_token": SPECIAL_TOKENS[0], "pad_token": SPECIAL_TOKENS[0]},
)
GENERATIONS = {one.name: one for one in (CHATGLM2, CHATGLM3, GLM4)}


def find_generation(folder: Path, model_type: str) -> Generation:
    """Return the generation of a folder's tokenizer.

    The kind of its file tells GLM-4. ChatGLM2 and ChatGLM3 have the same file: what tells them
    apart is whether the folder's own files name the tokens of roles, or else the model's name.
    Nothing of these files is run.   model_type: what the user says, or auto.
    Raises CheckpointError (no tokenizer) and ConfigError (neither says it, or the user errs).
    """
    path = folder / TOKENIZER_MODEL
    if not path.is_file():
        raise CheckpointError(
            f"{folder}: expected the tokenizer of the model ({TOKENIZER_MODEL}), found none. "
            f"{FETCH_AGAIN}"
        )
    with path.open("rb") as file:
        is_tiktoken = bool(TIKTOKEN_LINE.fullmatch(file.readline(1024)))
    if model_type != "auto":
        if (model_type == GLM4.name) != is_tiktoken:
            found = "a tiktoken file (GLM-4)" if is_tiktoken else "a sentencepiece model"
            raise ConfigError(
                f"--model_type {model_type}: expected its kind of {TOKENIZER_MODEL}, found {found} "
                f"in {folder}."
            )
        return GENERATIONS[model_type]
    if is_tiktoken:
        return GLM4
    told = told_generation(folder)
    if told is None:
        raise ConfigError(
            f"{folder}: expected a folder that says whether it is ChatGLM2 or ChatGLM3 (by "
            f"{OLD_CODE}, {TOKENIZER_CONFIG} or a name), found none of that; give --model_type "
            "chatglm2 or chatglm3."
        )
    return told


def told_generation(folder: Path) -> Generation | None:
    """Return which of ChatGLM2 and 3 a folder says that it is, None if it does not."""
    texts = [
        (folder / name).read_text(encoding="utf-8", errors="replace")
        for name in (TOKENIZER_CONFIG, OLD_CODE)
        if (folder / name).is_file()
    ]
    if any("<|assistant|>" in text for text in texts):
        return CHATGLM3
    if (folder / OLD_CODE).is_file():
        return CHATGLM2
    names = [
        str(read_if_there(folder / TOKENIZER_CONFIG).get("name_or_path")),
        str(read_if_there(folder / CONFIG).get("_name_or_path")),
        folder.resolve().name,
    ]
    for name in names:
        for generation in (CHATGLM3, CHATGLM2):
            if generation.name in name.lower():
                return generation
    return None


def read_old_tokenizer(
    folder: Path, generation: Generation, max_length: int
) -> PreTrainedTokenizerFast:
    """Return the folder's tokenizer as a fast one, after a comparison with the library's own ids.

    Raises CheckpointError: a file that is damaged or of another kind, ids that cannot be kept.
    """
    path = folder / TOKENIZER_MODEL
    special_tokens = published_order(folder, generation)
    backend = generation.build(path, special_tokens, PREFIX)
    if generation is not GLM4:
        check_ids(path, backend)
    named = generation.named
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        **named,
        extra_special_tokens=[one for one in special_tokens if one not in named.values()],
        chat_template=generation.family.chat_template,
        padding_side="left",
        clean_up_tokenization_spaces=False,
        model_max_length=max_length,
    )


def published_order(folder: Path, generation: Generation) -> list[str]:
    """Return the special tokens in the order of their ids: GLM-4's files name more than are used.

    Raises CheckpointError if tokens that chats are written with are not among them.
    """
    listed = read_if_there(folder / TOKENIZER_CONFIG).get("added_tokens_decoder", {})
    if generation is not GLM4 or not listed:
        return list(generation.special_tokens)
    names = [token["content"] for _, token in sorted(listed.items(), key=lambda it: int(it[0]))]
    first = [int(number) for number in listed]
    if names[: len(SPECIAL_TOKENS)] != list(SPECIAL_TOKENS) or sorted(first) != list(
        range(min(first), min(first) + len(first))
    ):
        raise CheckpointError(
            f"{folder / TOKENIZER_CONFIG}: expected added_tokens_decoder to begin with "
            f"{', '.join(SPECIAL_TOKENS)}, found {names[:10]}: this is not GLM-4's tokenizer."
        )
    return names
