"""What differs between model families, by token name: ids are looked up, never written down.

A family is one entry of FAMILIES. docs/adding_things.md shows how one is added.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from transformers import PreTrainedTokenizerBase

from medtune.common.errors import ConfigError
from medtune.common.log import logger

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
GATED_MLP = ("gate_proj", "up_proj", "down_proj")
GENERATION_PROMPT = "{% if add_generation_prompt %}"


@dataclass(frozen=True)
class Family:
    """How a family of chat models is known, writes a conversation and ends a reply.

    control_tokens: those that all of its tokenizers have, and by which it is found.
    is_exact: they must have no others (the unknown and the padding token apart).
    turn_end: the token that closes a reply where the chat template writes none, else None.
    stop_tokens: what generation stops at; the tokenizer's own end-of-text token is always added.
    lora_targets: the names of its linear layers, which `--target_modules all` means.
    model_types: the values of config.model_type that the family has.
    aliases: what --model_type may say beside `name`.
    chat_template: for a tokenizer that comes without one (base models, mostly).
    """

    name: str
    control_tokens: tuple[str, ...] = ()
    is_exact: bool = False
    turn_end: str | None = None
    stop_tokens: tuple[str, ...] = ()
    lora_targets: tuple[str, ...] = ATTENTION + GATED_MLP
    model_types: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    chat_template: str | None = None


# A GLM reply has no end token of its own: it ends where the next role token begins.
GLM = Family(
    name="glm",
    control_tokens=(
        "[gMASK]",
        "<sop>",
        "<|endoftext|>",
        "<|user|>",
        "<|assistant|>",
        "<|observation|>",
    ),
    turn_end="<|user|>",
    stop_tokens=("<|endoftext|>", "<|user|>", "<|observation|>"),
    lora_targets=(*ATTENTION, "gate_up_proj", "down_proj"),
    model_types=("glm",),
    aliases=("chatglm",),
    chat_template=(
        "[gMASK]<sop>{% for message in messages %}<|{{ message['role'] }}|>\n"
        "{{ message['content'] }}{% endfor %}" + GENERATION_PROMPT + "<|assistant|>{% endif %}"
    ),
)
# GLM-4-0414: GLM's tokens in a model with two norms more in each layer. Its tokenizer cannot be
# told from GLM's, and need not be.
GLM4 = replace(GLM, name="glm4", model_types=("glm4",), aliases=())
# Converted to the native format, in which `sop` is called `<sop>`: a fast tokenizer would find the
# former in "esophagus". The blank is what sentencepiece puts before a text, which each content is.
CHATGLM3 = replace(
    GLM,
    name="chatglm3",
    control_tokens=("[gMASK]", "<sop>", "</s>", "<|user|>", "<|assistant|>", "<|observation|>"),
    stop_tokens=("</s>", "<|user|>", "<|observation|>"),
    chat_template=(
        "[gMASK]<sop>{% for message in messages %}<|{{ message['role'] }}|>\n "
        "{{ message['content'] }}{% endfor %}" + GENERATION_PROMPT + "<|assistant|>{% endif %}"
    ),
)
# Rounds in plain words. Only what stands at the very end is ended by a token, so that of several
# replies the last one alone can be learnt. The blank before an answer is the one that an answer is
# encoded with in ChatGLM2's own training.
CHATGLM2 = replace(
    GLM,
    name="chatglm2",
    control_tokens=("[gMASK]", "<sop>", "</s>"),
    turn_end="</s>",
    stop_tokens=("</s>",),
    chat_template=(
        "[gMASK]<sop>{% set round = namespace(number=0) %}{% for message in messages %}"
        "{% if message['role'] == 'assistant' %} {{ message['content'] }}"
        "{% elif message['role'] == 'user' %}{% set round.number = round.number + 1 %}"
        "{% if not loop.first %}{{ '\n\n' }}{% endif %}"
        "[Round {{ round.number }}]\n\n问：{{ message['content'] }}\n\n答："
        "{% else %}{{ message['content'] }}{% endif %}{% endfor %}"
    ),
)
QWEN2 = Family(
    name="qwen2",
    control_tokens=("<|im_start|>", "<|im_end|>", "<|endoftext|>"),
    stop_tokens=("<|im_end|>", "<|endoftext|>"),
    model_types=("qwen2",),
    chat_template=(
        "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}"
        "<|im_end|>\n{% endfor %}" + GENERATION_PROMPT + "<|im_start|>assistant\n{% endif %}"
    ),
)
# Its own template writes an empty thinking block before the last reply, and none before others.
QWEN3 = replace(
    QWEN2,
    name="qwen3",
    control_tokens=(*QWEN2.control_tokens, "<think>", "</think>"),
    model_types=("qwen3",),
)
LLAMA3 = Family(
    name="llama3",
    control_tokens=("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    stop_tokens=("<|end_of_text|>", "<|eot_id|>", "<|eom_id|>"),
    model_types=("llama",),
    aliases=("llama",),
    chat_template=(
        "<|begin_of_text|>{% for message in messages %}<|start_header_id|>{{ message['role'] }}"
        "<|end_header_id|>\n\n{{ message['content'] | trim }}<|eot_id|>{% endfor %}"
        + GENERATION_PROMPT
        + "<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
    ),
)
LLAMA2 = Family(
    name="llama2",
    control_tokens=("<s>", "</s>"),
    is_exact=True,
    stop_tokens=("</s>",),
    model_types=("llama",),
    aliases=("llama",),
    chat_template=(
        "{% for message in messages %}{% if message['role'] == 'system' %}<s>[INST] <<SYS>>\n"
        "{{ message['content'] }}\n<</SYS>>\n\n{% elif message['role'] == 'user' %}"
        "{% if loop.first or loop.previtem['role'] != 'system' %}<s>[INST] {% endif %}"
        "{{ message['content'] | trim }} [/INST]{% else %} {{ message['content'] | trim }} </s>"
        "{% endif %}{% endfor %}"
    ),
)
# The role tokens of Baichuan's chat models, on a model of llama's shape: its own code is never run.
# Its own training has </s> where the next question's token stands; that stops a reply as well.
BAICHUAN = Family(
    name="baichuan",
    control_tokens=("<reserved_106>", "<reserved_107>"),
    turn_end="<reserved_106>",
    stop_tokens=("</s>", "<reserved_106>"),
    model_types=("llama",),
    chat_template=(
        "{% for message in messages %}{% if message['role'] == 'user' %}<reserved_106>"
        "{% elif message['role'] == 'assistant' %}<reserved_107>{% endif %}{{ message['content'] }}"
        "{% endfor %}" + GENERATION_PROMPT + "<reserved_107>{% endif %}"
    ),
)
# GPT-2 has no chat format of its own: questions and answers in words, each answer ended as a text.
GPT2 = Family(
    name="gpt2",
    control_tokens=("<|endoftext|>",),
    is_exact=True,
    stop_tokens=("<|endoftext|>",),
    lora_targets=("c_attn", "c_proj", "c_fc"),
    model_types=("gpt2",),
    chat_template=(
        "{% for message in messages %}{% if message['role'] == 'user' %}问：\n"
        "{{ message['content'] | trim }}\n答：\n{% elif message['role'] == 'assistant' %}"
        "{{ message['content'] | trim }}<|endoftext|>"
        "{% else %}{{ message['content'] | trim }}\n{% endif %}{% endfor %}"
    ),
)
# The same with control tokens, which nobody can write in a question: models of new_model.py.
GPT2_QUESTIONS = replace(
    GPT2,
    name="gpt2_questions",
    control_tokens=("<|endoftext|>", "<question>", "<answer>"),
    aliases=("gpt2",),
    chat_template=(
        "{% for message in messages %}{% if message['role'] == 'user' %}<question>"
        "{{ message['content'] }}{% elif message['role'] == 'assistant' %}<answer>"
        "{{ message['content'] }}<|endoftext|>{% else %}{{ message['content'] }}\n{% endif %}"
        "{% endfor %}" + GENERATION_PROMPT + "<answer>{% endif %}"
    ),
)
# Chinese GPT-2 with BERT's vocabulary: [CLS], then the turns in order, each closed by [SEP].
GPT2_WORDPIECE = replace(
    GPT2,
    name="gpt2_wordpiece",
    control_tokens=("[CLS]", "[SEP]"),
    is_exact=False,
    stop_tokens=("[SEP]",),
    aliases=("gpt2",),
    chat_template=("[CLS]{% for message in messages %}{{ message['content'] }}[SEP]{% endfor %}"),
)
# The first whose control tokens a tokenizer has is its family: those that have more come first.
FAMILIES = (
    GLM, GLM4, CHATGLM3, CHATGLM2, QWEN3, QWEN2, LLAMA3, BAICHUAN, GPT2_WORDPIECE, GPT2_QUESTIONS,
    GPT2, LLAMA2,
)  # fmt: skip
GENERIC = Family(name="generic")


def family_of(tokenizer: PreTrainedTokenizerBase) -> Family:
    """Return the family that the tokenizer's control tokens belong to, GENERIC if to none."""
    spare = {tokenizer.pad_token, tokenizer.unk_token} - {tokenizer.eos_token}
    added = tokenizer.get_added_vocab().keys() - spare
    for family in FAMILIES:
        names = set(family.control_tokens)
        if names == added or (names < added and not family.is_exact):
            return family
    return GENERIC


def give_chat_template(tokenizer: PreTrainedTokenizerBase) -> None:
    """Give a tokenizer without a chat template its family's, if that has one; say so once."""
    family = family_of(tokenizer)
    if tokenizer.chat_template or family.chat_template is None:
        return
    tokenizer.chat_template = family.chat_template
    logger.info(
        "%s has no chat template: that of the family %s is taken, and saved with what is trained",
        tokenizer.name_or_path,
        family.name,
    )


def stop_token_ids(tokenizer: PreTrainedTokenizerBase, turn_ends: Iterable[int]) -> list[int]:
    """Return the ids that end a generation, sorted: the family's, end-of-text, and `turn_ends`.

    turn_ends: the control tokens that close supervised replies, as found in the training data.
    """
    added = tokenizer.get_added_vocab()
    ids = {added[name] for name in family_of(tokenizer).stop_tokens if name in added}
    ids.update(turn_ends)
    if tokenizer.eos_token_id is not None:
        ids.add(tokenizer.eos_token_id)
    return sorted(ids)


def check_model_type(model_type: str, config_type: str) -> None:
    """Raise ConfigError if the model is not what --model_type says, or needs its own code.

    model_type: auto, the name or an alias of a family, or a config.model_type that none has.
    """
    if config_type == "chatglm":
        raise ConfigError(
            "expected a native checkpoint (config.json with model_type glm), found the older "
            "chatglm format, which needs code from the checkpoint to run. Convert it first: "
            "python convert_chatglm.py --model_dir OLD --output_dir NEW."
        )
    meant = [family for family in FAMILIES if model_type in (family.name, *family.aliases)]
    allowed = {name for family in meant for name in family.model_types} or {model_type}
    if model_type != "auto" and config_type not in allowed:
        raise ConfigError(
            f"--model_type {model_type}: expected a model of that family, found {config_type!r} in "
            "its config.json; pass --model_type auto or the right model."
        )
