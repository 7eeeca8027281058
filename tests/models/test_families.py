"""Each family's conversation as exact ids, by hand and as the stock tokenizer writes them.

The tokenizers are small and made here: byte pairs, sentencepiece's way (a blank before each run,
bytes for what is unknown) and word pieces, with the control tokens of the family. The templates of
checkpoints that ship one are written anew, in the published format.
"""

import json
import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from peft import get_peft_model
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from tokenizers.trainers import BpeTrainer
from transformers import (
    AutoModelForCausalLM,
    Glm4Config,
    GlmConfig,
    GPT2Config,
    LlamaConfig,
    PretrainedConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
)
from trl.trainer.utils import add_fused_lm_head

from medtune.arguments import AdapterArguments, ModelArguments
from medtune.common.errors import ConfigError, DataError
from medtune.data.batching import Batch, BatchRenderer
from medtune.data.records import Conversation, Message, Source
from medtune.data.rendering import IGNORE_INDEX, ChatRenderer, Rendered
from medtune.models.adapters import load_trainable_model
from medtune.models.families import (
    FAMILIES,
    GENERIC,
    GLM4,
    LLAMA2,
    check_model_type,
    family_of,
    give_chat_template,
    stop_token_ids,
)
from medtune.models.tuners import lora_config
from medtune.training.packed.forward import install_packed_forward, why_not_packed
from tests.conftest import REPO

SOURCE = Source("rows.jsonl", 1)
TEXTS = ["多休息，多喝水。头痛三天怎么办？还痛就去医院。你是医生。Round people question"] * 3
TURNS = ("头痛怎么办？", "多休息。", "还痛", "就去医院。")
MARK = "¦"  # in a run: what stands behind it is supervised
BY_NAME = {family.name: family for family in FAMILIES}


# -- tokenizers


def finish(
    backend: Tokenizer, names: Sequence[str], plain: Sequence[str] = (), **options: Any
) -> PreTrainedTokenizerFast:
    """A tokenizer with these control tokens; `plain` ones are not flagged as special."""
    backend.add_special_tokens([AddedToken(name, special=True) for name in names])
    backend.add_tokens([AddedToken(name, special=False) for name in plain])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, clean_up_tokenization_spaces=False, **options
    )


def byte_level(*names: str, **options: Any) -> PreTrainedTokenizerFast:
    """Byte pairs, as GPT-2, Qwen, Llama 3 and GLM-4 have them."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = BpeTrainer(vocab_size=330, initial_alphabet=alphabet, show_progress=False)
    backend.train_from_iterator(TEXTS, trainer)
    return finish(backend, names, **options)


def sentencepiece(*names: str, **options: Any) -> PreTrainedTokenizerFast:
    """Sentencepiece's byte pairs, as ChatGLM2 and 3, Llama 2 and Baichuan have them."""
    learnt = Tokenizer(models.BPE())
    spaces = [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    learnt.normalizer = normalizers.Sequence(spaces)
    learnt.train_from_iterator(TEXTS, BpeTrainer(vocab_size=80, show_progress=False))
    model = json.loads(learnt.to_str())["model"]
    pieces = ["<unk>", *(f"<0x{n:02X}>" for n in range(256)), *model["vocab"]]
    backend = Tokenizer(
        models.BPE(
            {piece: number for number, piece in enumerate(pieces)},
            [tuple(pair) for pair in model["merges"]],
            byte_fallback=True,
            unk_token="<unk>",
        )
    )
    backend.normalizer = learnt.normalizer
    return finish(backend, ("<unk>", *names), unk_token="<unk>", eos_token="</s>", **options)


def word_pieces(*names: str, **options: Any) -> PreTrainedTokenizerFast:
    """A character of Chinese a token, as in BERT's Chinese vocabulary."""
    words = sorted({*"".join(TEXTS), *"[]<|>/_ "} - {" "})
    vocabulary = {piece: number for number, piece in enumerate([*names, *words])}
    backend = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    return finish(backend, names, unk_token="[UNK]", pad_token="[PAD]", **options)


# -- what each family writes

# Qwen2.5 writes a system message where a conversation has none.
DEFAULT_SYSTEM = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nBe helpful.<|im_end|>\n{% endif %}"
)
# Qwen3 puts a thinking block, empty or not, before what follows the last question, and none before
# earlier replies; asked not to think, it is given the empty block.
THINKING = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if m['role'] == 'assistant' %}{% set said = m['content'].split('</think>') %}"
    "{% if loop.last %}<think>\n{{ said[0].split('<think>')[-1].strip() if said[1:] }}\n</think>"
    "\n\n{% endif %}{{ said[-1] }}{% else %}{{ m['content'] }}{% endif %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}"
    "{% endif %}"
)
GLM_TOKENS = ("<|endoftext|>", "[MASK]", "[gMASK]", "[sMASK]", "<sop>", "<eop>",
              "<|system|>", "<|user|>", "<|assistant|>", "<|observation|>")  # fmt: skip
CHATGLM_TOKENS = ("<s>", "</s>", "[MASK]", "[gMASK]", "[sMASK]", "<sop>", "<eop>")
QWEN_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
LLAMA3_TOKENS = ("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>",
                 "<|end_header_id|>", "<|eom_id|>", "<|eot_id|>")  # fmt: skip


class Case(NamedTuple):
    """A family's tokenizer, and what two turns are: control tokens and runs of text.

    written: a control token after MARK is supervised, as is what stands behind MARK in a run.
    template: of the checkpoints; None if they ship none, so that the family's is taken.
    """

    family: str
    tokenizer: PreTrainedTokenizerFast
    written: list[str]
    stops: list[str]
    system: str | None = "你是医生"
    template: str | None = None


GLM_WRITTEN = [
    "[gMASK]", "<sop>", "<|system|>", "\n你是医生", "<|user|>", "\n头痛怎么办？", "<|assistant|>",
    "¦\n多休息。", "¦<|user|>", "\n还痛", "<|assistant|>", "¦\n就去医院。", "¦<|user|>",
]  # fmt: skip
CHATML_WRITTEN = [
    "<|im_start|>", "system\n你是医生", "<|im_end|>", "\n", "<|im_start|>", "user\n头痛怎么办？",
    "<|im_end|>", "\n", "<|im_start|>", "assistant\n¦多休息。", "¦<|im_end|>", "\n",
    "<|im_start|>", "user\n还痛", "<|im_end|>", "\n", "<|im_start|>", "assistant\n¦就去医院。",
    "¦<|im_end|>",
]  # fmt: skip
CASES = {
    "glm": Case(
        "glm", byte_level(*GLM_TOKENS, eos_token="<|endoftext|>"), GLM_WRITTEN,
        ["<|endoftext|>", "<|user|>", "<|observation|>"],
    ),
    "chatglm3": Case(
        "chatglm3",
        sentencepiece(*CHATGLM_TOKENS, "<|system|>", "<|user|>", "<|assistant|>",
                      "<|observation|>"),
        ["[gMASK]", "<sop>", "<|system|>", "\n 你是医生", "<|user|>", "\n 头痛怎么办？",
         "<|assistant|>", "¦\n 多休息。", "¦<|user|>", "\n 还痛", "<|assistant|>",
         "¦\n 就去医院。", "¦<|user|>"],
        ["</s>", "<|user|>", "<|observation|>"],
    ),
    "chatglm2": Case(
        "chatglm2", sentencepiece(*CHATGLM_TOKENS),
        ["[gMASK]", "<sop>", "[Round 1]\n\n问：头痛怎么办？\n\n答： 多休息。\n\n"
         "[Round 2]\n\n问：还痛\n\n答：¦ 就去医院。", "¦</s>"],
        ["</s>"], system=None,
    ),
    "qwen2": Case(
        "qwen2", byte_level(*QWEN_TOKENS, eos_token="<|im_end|>"), CHATML_WRITTEN,
        ["<|endoftext|>", "<|im_end|>"],
        template=DEFAULT_SYSTEM + str(BY_NAME["qwen2"].chat_template),
    ),
    "qwen2 without a system message": Case(
        "qwen2", byte_level(*QWEN_TOKENS, eos_token="<|im_end|>"),
        ["<|im_start|>", "system\nBe helpful.", *CHATML_WRITTEN[2:]],
        ["<|endoftext|>", "<|im_end|>"], system=None,
        template=DEFAULT_SYSTEM + str(BY_NAME["qwen2"].chat_template),
    ),
    "qwen3": Case(
        "qwen3",
        byte_level(*QWEN_TOKENS, plain=("<think>", "</think>"), eos_token="<|im_end|>"),
        [*CHATML_WRITTEN[:9], "assistant\n多休息。", "<|im_end|>", *CHATML_WRITTEN[11:17],
         "assistant\n", "<think>", "\n\n", "</think>", "\n\n¦就去医院。", "¦<|im_end|>"],
        ["<|endoftext|>", "<|im_end|>"], template=THINKING,
    ),
    "llama3": Case(
        "llama3", byte_level(*LLAMA3_TOKENS, eos_token="<|eot_id|>"),
        ["<|begin_of_text|>",
         "<|start_header_id|>", "system", "<|end_header_id|>", "\n\n你是医生", "<|eot_id|>",
         "<|start_header_id|>", "user", "<|end_header_id|>", "\n\n头痛怎么办？", "<|eot_id|>",
         "<|start_header_id|>", "assistant", "<|end_header_id|>", "\n\n¦多休息。", "¦<|eot_id|>",
         "<|start_header_id|>", "user", "<|end_header_id|>", "\n\n还痛", "<|eot_id|>",
         "<|start_header_id|>", "assistant", "<|end_header_id|>", "\n\n¦就去医院。", "¦<|eot_id|>"],
        ["<|end_of_text|>", "<|eot_id|>", "<|eom_id|>"],
    ),
    "llama2": Case(
        "llama2", sentencepiece("<s>", "</s>"),
        ["<s>", "[INST] <<SYS>>\n你是医生\n<</SYS>>\n\n头痛怎么办？ [/INST]¦ 多休息。 ", "¦</s>",
         "<s>", "[INST] 还痛 [/INST]¦ 就去医院。 ", "¦</s>"],
        ["</s>"],
    ),
    "baichuan": Case(
        "baichuan", sentencepiece("<s>", "</s>", "<reserved_106>", "<reserved_107>"),
        ["你是医生", "<reserved_106>", "头痛怎么办？", "<reserved_107>", "¦多休息。",
         "¦<reserved_106>", "还痛", "<reserved_107>", "¦就去医院。", "¦<reserved_106>"],
        ["</s>", "<reserved_106>"],
    ),
    "gpt2": Case(
        "gpt2", byte_level("<|endoftext|>", eos_token="<|endoftext|>", unk_token="<|endoftext|>"),
        ["你是医生\n问：\n头痛怎么办？\n答：\n¦多休息。", "¦<|endoftext|>",
         "问：\n还痛\n答：\n¦就去医院。", "¦<|endoftext|>"],
        ["<|endoftext|>"],
    ),
    "gpt2 with tags": Case(
        "gpt2_questions",
        byte_level("<|endoftext|>", "<question>", "<answer>", eos_token="<|endoftext|>"),
        ["你是医生\n", "<question>", "头痛怎么办？", "<answer>", "¦多休息。", "¦<|endoftext|>",
         "<question>", "还痛", "<answer>", "¦就去医院。", "¦<|endoftext|>"],
        ["<|endoftext|>"],
    ),
    "gpt2 with word pieces": Case(
        "gpt2_wordpiece", word_pieces("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
        ["[CLS]", "头痛怎么办？", "[SEP]", "¦多休息。", "¦[SEP]", "还痛", "[SEP]", "¦就去医院。",
         "¦[SEP]"],
        ["[SEP]"], system=None,
    ),
}  # fmt: skip


@pytest.fixture(params=CASES.values(), ids=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    """A family, its tokenizer with the chat template that it is used with."""
    found: Case = request.param
    found.tokenizer.chat_template = found.template
    give_chat_template(found.tokenizer)
    return found


def renderer_of(case: Case) -> ChatRenderer:
    return ChatRenderer(case.tokenizer, family_of(case.tokenizer).turn_end)


def talk(system: str | None, *turns: str) -> Conversation:
    roles = ("user", "assistant") * len(turns)
    messages = [Message(role, turn) for role, turn in zip(roles, turns, strict=False)]  # type: ignore[arg-type]
    return Conversation((*([Message("system", system)] if system else []), *messages), SOURCE)


def spell(tokenizer: PreTrainedTokenizerFast, written: Sequence[str]) -> Rendered:
    """The ids and labels of control tokens and runs that were put together by hand."""
    spelled = Rendered([], [])
    controls = tokenizer.get_added_vocab()
    for part in written:
        before, mark, _ = part.partition(MARK)
        text = part.replace(MARK, "")
        ids, given = (
            [controls[one]] if one in controls else encode(tokenizer, one) for one in (text, before)
        )
        num_given = len(given) if mark else len(ids)
        assert ids[:num_given] == given[:num_given]
        spelled.input_ids += ids
        spelled.labels += [IGNORE_INDEX] * num_given + ids[num_given:]
    return spelled


def encode(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"] if text else []


# -- ids


def test_family_is_found_by_its_control_tokens(case: Case) -> None:
    assert family_of(case.tokenizer) is BY_NAME[case.family]


def test_two_turns_are_exactly_these_ids_and_labels(case: Case) -> None:
    record = talk(case.system, *TURNS)
    expected = spell(case.tokenizer, case.written)

    assert renderer_of(case).conversation(record) == expected
    batch = Batch([0], [record])
    assert list(BatchRenderer(renderer_of(case)).conversations([batch])) == [(batch, [expected])]


def test_ids_are_those_of_the_stock_tokenizer_and_begin_with_the_prompt(case: Case) -> None:
    renderer, record = renderer_of(case), talk(case.system, *TURNS)
    ids = renderer.conversation(record).input_ids

    def stock(messages: Sequence[Message], for_reply: bool) -> list[int]:
        return case.tokenizer.apply_chat_template(
            [message.to_dict() for message in messages],
            return_dict=False, add_generation_prompt=for_reply, enable_thinking=False,
        )  # fmt: skip

    # Where the template writes no end token there is one more; what follows the end is left out.
    whole = stock(record.messages, False)
    length = len(ids) - (BY_NAME[case.family].turn_end is not None)
    assert ids[:length] == whole[:length]
    prompt = renderer.prompt_ids(record.messages[:-1])
    assert prompt == stock(record.messages[:-1], True)
    assert ids[: len(prompt)] == prompt


def test_generation_stops_at_exactly_these_tokens(case: Case) -> None:
    renderer = renderer_of(case)
    renderer.conversation(talk(case.system, *TURNS))
    expected = sorted(case.tokenizer.convert_tokens_to_ids(case.stops))

    assert stop_token_ids(case.tokenizer, renderer.turn_ends) == expected
    assert stop_token_ids(case.tokenizer, set()) == expected


def test_control_text_of_a_person_stays_text(case: Case) -> None:
    renderer = renderer_of(case)
    names = list(case.tokenizer.get_added_vocab())
    random.Random(1).shuffle(names)
    for content in (*names, "".join(names), "people", "people 多eop休息", "</think>多休息"):
        if case.family == "qwen3" and "</think>" in content:
            continue  # its template takes what stands before out: see below
        plain, hostile = (
            renderer.conversation(talk(case.system, said, "多休息。", said, "就去医院。"))
            for said in ("头痛", content)
        )
        controls = [
            [token for token in one.input_ids if token in renderer.encoder.control_ids]
            for one in (plain, hostile)
        ]
        assert controls[0] == controls[1], content


def test_words_that_hold_a_control_token_are_encoded_as_words() -> None:
    """ChatGLM's `eop` stands in `people`; cut there, sentencepiece would put a blank into it."""
    free, named = sentencepiece("</s>"), sentencepiece("</s>", "sop", "eop")
    named.chat_template = CASES["chatglm3"].tokenizer.chat_template

    ids = ChatRenderer(named, "</s>").encoder.ids("people sop")
    assert named.convert_ids_to_tokens(ids) == free.tokenize("people sop")


@pytest.mark.parametrize("said", ["<think>\n多喝水\n</think>\n\n多休息。", "</think>多休息。"])
def test_thinking_in_a_reply_is_refused_by_name(said: str) -> None:
    case = CASES["qwen3"]
    case.tokenizer.chat_template = case.template

    with pytest.raises(DataError, match="take <think> blocks out of replies"):
        renderer_of(case).conversation(talk(None, "头痛", said))


def test_templates_of_families_are_given_and_those_of_checkpoints_kept(case: Case) -> None:
    own = case.tokenizer.chat_template
    give_chat_template(case.tokenizer)

    assert case.tokenizer.chat_template == own
    assert own == (case.template or BY_NAME[case.family].chat_template)


def test_unknown_tokenizer_is_of_no_family_and_gets_no_template() -> None:
    for tokenizer in (byte_level("<|end|>"), sentencepiece("<s>", "</s>", "<tool>"), byte_level()):
        give_chat_template(tokenizer)

        assert family_of(tokenizer) is GENERIC
        assert tokenizer.chat_template is None


# -- models

SIZES = {
    "vocab_size": 352, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "pad_token_id": 0,
    "max_position_embeddings": 64,
}  # fmt: skip
CONFIGS: dict[str, PretrainedConfig] = {
    "glm": GlmConfig(**SIZES),
    "glm4": Glm4Config(**SIZES),
    "qwen2": Qwen2Config(**SIZES),
    "qwen3": Qwen3Config(**SIZES),
    "llama": LlamaConfig(**SIZES),
    "gpt2": GPT2Config(vocab_size=352, n_embd=32, n_layer=2, n_head=4, n_positions=64),
}
FAMILY_CONFIGS = [(family, kind) for family in FAMILIES for kind in family.model_types]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder with an untrained model of each kind."""
    root = tmp_path_factory.mktemp("families")
    for kind, config in CONFIGS.items():
        torch.manual_seed(5)
        AutoModelForCausalLM.from_config(config).save_pretrained(root / kind)
    return {kind: root / kind for kind in CONFIGS}


@pytest.mark.parametrize(("family", "kind"), FAMILY_CONFIGS)
def test_all_linear_layers_are_the_family_s_targets(family: Any, kind: str) -> None:
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(CONFIGS[kind])
    adapted = get_peft_model(model, lora_config(AdapterArguments()))
    names = {name.rpartition(".")[2] for name in adapted.base_model.targeted_module_names}

    assert names == set(family.lora_targets)


X = IGNORE_INDEX
ROWS = [
    ([5, 6, 7, 8, 9, 10], [X, X, X, 8, 9, 10]),
    ([5, 6, 7, 11, 12], [X, X, X, 11, 12]),
    ([20, 21, 22, 23, 24, 25, 26], [X, 21, 22, X, X, 25, 26]),
    ([20, 21, 30, 31], [X, 21, 30, 31]),
]  # the 2nd half answers the prompts of the 1st, where a prefix is shared: rows 0, 2 and 1, 3


def batch_of(rows: Sequence[tuple[list[int], list[int]]]) -> dict[str, torch.Tensor]:
    width = max(len(ids) for ids, _ in rows)
    return {
        name: torch.tensor([values[n] + [filler] * (width - len(values[n])) for values in rows])
        for n, (name, filler) in enumerate((("input_ids", 0), ("labels", X)))
    } | {"attention_mask": torch.tensor([[1] * len(i) + [0] * (width - len(i)) for i, _ in rows])}


@pytest.mark.parametrize("share_prefix", [False, True], ids=["rows", "pairs"])
@pytest.mark.parametrize("kind", CONFIGS)
def test_packed_loss_and_gradients_are_those_of_the_padded_forward(
    folders: dict[str, Path], kind: str, share_prefix: bool
) -> None:
    batch = batch_of([ROWS[n] for n in ((0, 2, 1, 3) if share_prefix else range(4))])
    results = []
    for is_packed in (True, False):
        arguments = ModelArguments(str(folders[kind]), model_type=kind, dtype="float32")
        options, tokenizer = AdapterArguments(lora_dropout=0.0), sentencepiece("</s>")
        trainable = load_trainable_model(arguments, options, tokenizer)
        base = trainable.model
        assert why_not_packed(base) is None
        add_fused_lm_head(base, outputs=("log_probs", "entropy", "is_top1", "mean_logits"))
        torch.manual_seed(7)
        model = get_peft_model(base, trainable.new_adapter)
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=0.1)
        if is_packed:
            install_packed_forward(base, share_prefix)
        model.eval()  # GPT-2 drops at random by default
        loss = model(**batch, use_cache=False, fused_lm_head=True).loss
        loss.backward()
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        results.append((loss.detach(), gradients))

    (packed, packed_grads), (padded, padded_grads) = results
    torch.testing.assert_close(packed, padded, rtol=0, atol=1e-5)
    assert len(packed_grads) == len(padded_grads) > 0
    for one, other in zip(packed_grads, padded_grads, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


# -- names


@pytest.mark.parametrize(
    ("model_type", "config_types"),
    [
        ("glm", ["glm"]),
        ("chatglm", ["glm"]),
        ("chatglm2", ["glm"]),
        ("chatglm3", ["glm"]),
        ("glm4", ["glm4"]),
        ("gpt2", ["gpt2"]),
        ("qwen2", ["qwen2"]),
        ("qwen3", ["qwen3"]),
        ("llama", ["llama"]),
        ("llama2", ["llama"]),
        ("llama3", ["llama"]),
        ("baichuan", ["llama"]),
        ("mistral", ["mistral"]),  # no family's: the model's own name
        ("auto", [*CONFIGS, "mistral"]),
    ],
)
def test_model_type_allows_exactly_these_models(model_type: str, config_types: list[str]) -> None:
    for kind in (*CONFIGS, "mistral"):
        if kind in config_types:
            check_model_type(model_type, kind)
        else:
            with pytest.raises(ConfigError, match=f"--model_type {model_type}: .* found '{kind}'"):
                check_model_type(model_type, kind)


def test_families_with_the_same_tokens_say_the_same_of_a_conversation() -> None:
    glm = BY_NAME["glm"]
    assert (GLM4.turn_end, GLM4.stop_tokens) == (glm.turn_end, glm.stop_tokens)
    assert GLM4.chat_template == glm.chat_template
    assert len({family.name for family in FAMILIES}) == len(FAMILIES)
    assert LLAMA2 is FAMILIES[-1]


def test_entry_that_the_documentation_shows_is_the_real_one() -> None:
    page = (REPO / "docs/adding_things.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)

    assert shown in (REPO / "medtune/models/families.py").read_text(encoding="utf-8")
    (pieces,) = re.findall(r"```text\n(.*?)```", page, re.DOTALL)
    assert json.loads(f"[{pieces}]") == CASES["qwen2"].written[-7:]
