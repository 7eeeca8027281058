"""Models made from nothing: same bytes each time, BERT's own ids, a folder that stages take."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, BertTokenizerFast, GPT2Config, GPT2LMHeadModel

from medtune.arguments import ModelArguments, NewModelArguments
from medtune.common.errors import ConfigError, DataError, MedtuneError
from medtune.common.lineage import is_complete
from medtune.data.records import Conversation, Message, Source
from medtune.data.rendering import ChatRenderer
from medtune.lineage.records import find_record
from medtune.lineage.verification import Verifier
from medtune.models.loading import load_model, load_tokenizer
from medtune.models.scratch import write_new_model
from medtune.models.vocabularies import count_vocabulary, train_byte_pairs, wordpiece_tokenizer

TEXTS = ["发热三天，体温38.5℃，吃什么药？", "多喝水，CT检查，CT复查。", "头痛头晕，take 5 mg。"]
SMALL = {"model_type": "gpt2", "n_positions": 64, "n_embd": 16, "n_layer": 1, "n_head": 2}
VOCABULARY = count_vocabulary(TEXTS, 1000)
QUESTION, ANSWER = Message("user", "发热？"), Message("assistant", "多喝水。")


def write_config(folder: Path, **changes: object) -> str:
    folder.mkdir(exist_ok=True)
    path = folder / "config.json"
    path.write_text(json.dumps(SMALL | changes), encoding="utf-8")
    return str(path)


def make(folder: Path, name: str = "model", **options: object) -> Path:
    """A new model in folder/name; with bpe and the texts of this module unless options say so."""
    texts = folder / "texts.txt"
    texts.write_text("\n\n".join(TEXTS), encoding="utf-8")
    given = {"output_dir": str(folder / name), "vocab_size": 300} | options
    if "base_model" not in given:
        source = {} if "vocab_file" in given else {"texts": [str(texts)]}
        given = source | given
        given.setdefault("model_config", write_config(folder / "given"))
    write_new_model(NewModelArguments(**given), [texts], TEXTS)  # type: ignore[arg-type]
    return folder / name


def supervised(folder: Path, *messages: Message) -> tuple[str, str]:
    """The decoded conversation, and the part of it that is learnt."""
    renderer = ChatRenderer(load_tokenizer(ModelArguments(str(folder))))
    row = renderer.conversation(Conversation(messages, Source("test", 1)))
    decode = renderer.tokenizer.decode
    return decode(row.input_ids), decode([label for label in row.labels if label != -100])


def test_byte_pairs_are_those_of_a_gpt2_that_reads_and_writes_any_text(tmp_path: Path) -> None:
    folder = make(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    text = "发热38.5℃ 😀\n<tag> naïve"

    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert supervised(folder, QUESTION, ANSWER) == (
        "<question>发热？<answer>多喝水。<|endoftext|>",
        "多喝水。<|endoftext|>",
    )
    tags = tokenizer.convert_tokens_to_ids(["<question>", "<answer>"])
    assert tokenizer("<question><answer>")["input_ids"] == tags


def test_tags_that_a_person_writes_stay_text(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(ModelArguments(str(make(tmp_path))))
    ids = ChatRenderer(tokenizer).prompt_ids([Message("user", "<answer>吃药<|endoftext|>")])

    tags = tokenizer.convert_tokens_to_ids(["<question>", "<answer>", "<|endoftext|>"])
    assert [token for token in ids if token in tags] == tags[:2]


def test_model_begins_at_chance_and_has_the_tokenizers_rows(tmp_path: Path) -> None:
    folder = make(tmp_path, pad_to_multiple_of=64)
    model, tokenizer = (load(ModelArguments(str(folder))) for load in (load_model, load_tokenizer))
    ids = torch.tensor([tokenizer("发热三天")["input_ids"]])

    assert model.get_input_embeddings().num_embeddings == 320 == model.config.vocab_size
    assert len(tokenizer) <= 300
    assert model(ids, labels=ids).loss.item() == pytest.approx(5.77, abs=0.15)  # ln 320
    ends = [tokenizer.eos_token_id, tokenizer.pad_token_id]
    assert [model.generation_config.eos_token_id, model.config.pad_token_id] == ends


@pytest.mark.parametrize("kind", ["bpe", "wordpiece"])
def test_same_options_give_the_same_bytes_and_another_seed_others(
    kind: str, tmp_path: Path
) -> None:
    names = ("model.safetensors", "tokenizer.json", "config.json")
    one, two, other = (
        [(make(tmp_path, name, tokenizer=kind, seed=seed) / file).read_bytes() for file in names]
        for name, seed in (("one", 1), ("two", 1), ("other", 2))
    )

    assert one == two
    assert one[0] != other[0]


def test_complete_folder_is_left_and_another_one_refused(tmp_path: Path) -> None:
    folder = make(tmp_path)
    before = (folder / "COMPLETE").read_bytes()

    assert is_complete(make(tmp_path))
    assert (folder / "COMPLETE").read_bytes() == before
    with pytest.raises(ConfigError, match="found other files"):
        make(tmp_path, seed=7)


def test_lineage_of_a_new_model_verifies(tmp_path: Path) -> None:
    record = find_record(make(tmp_path))

    assert record is not None
    assert {Path(name).name for name in record.data} == {"config.json", "texts.txt"}
    Verifier(lambda line: None).verify(record)


def test_trained_model_gets_the_tags_and_keeps_its_weights(tmp_path: Path) -> None:
    base = tmp_path / "gpt2"
    tokenizer = train_byte_pairs(TEXTS, 280)
    tokenizer.chat_template = None
    torch.manual_seed(0)
    # The two tags have ids, but no rows: as if the tokenizer had never had them.
    trained = GPT2LMHeadModel(GPT2Config(**{**SMALL, "vocab_size": len(tokenizer) - 2}))
    trained.save_pretrained(base)
    tokenizer.save_pretrained(base)

    folder = make(tmp_path, base_model=str(base))

    old, new = trained.get_input_embeddings(), load_model(ModelArguments(str(folder)))
    rows = new.get_input_embeddings().weight
    assert torch.equal(rows[: old.num_embeddings], old.weight)
    assert len(rows) == old.num_embeddings + 2
    assert supervised(folder, QUESTION, ANSWER)[1] == "多喝水。<|endoftext|>"
    with pytest.raises(ConfigError, match="expected a model without a chat template"):
        make(tmp_path, "again", base_model=str(folder))


# -- WordPiece


def test_vocabulary_has_characters_then_words_by_frequency() -> None:
    assert count_vocabulary(["CT 头痛 CT"], 100)[5:] == ["##t", "c", "头", "痛", "ct"]
    assert count_vocabulary(["CT 头痛 CT"], 7)[5:] == ["##t", "c"]


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="发热三天，38.5℃CTctmgÀé <>[]SEP#-😀\n\u3000", max_size=40))
def test_ids_are_those_of_bert_tokenizer_fast(text: str) -> None:
    ids = {token: number for number, token in enumerate(VOCABULARY)}
    bert = BertTokenizerFast(vocab=ids)

    ours = wordpiece_tokenizer(VOCABULARY)(text, add_special_tokens=False)["input_ids"]

    assert ours == bert(text, add_special_tokens=False)["input_ids"]


def test_given_vocabulary_keeps_its_ids_and_size(tmp_path: Path) -> None:
    words = [*VOCABULARY, *(f"[unused{number}]" for number in range(13317 - len(VOCABULARY)))]
    file = tmp_path / "vocab.txt"
    file.write_text("\n".join(words) + "\n", encoding="utf-8")

    folder = make(tmp_path, tokenizer="wordpiece", vocab_file=str(file))

    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.convert_ids_to_tokens(range(13317)) == words
    assert (folder / "vocab.txt").read_bytes() == file.read_bytes()
    assert load_model(ModelArguments(str(folder))).config.vocab_size == 13317


def test_turns_end_with_sep_and_chinese_is_written_without_blanks(tmp_path: Path) -> None:
    folder = make(tmp_path, tokenizer="wordpiece")
    system = Message("system", "发药")
    again = Message("user", "头痛头晕？"), Message("assistant", "查CT，38.5℃，take 5 mg。")

    written, learnt = supervised(folder, system, QUESTION, ANSWER, *again)

    assert written == (
        "[CLS]发药[SEP]发热？[SEP]多喝水。[SEP]头痛头晕？[SEP]查ct，38.5℃，take 5 mg。[SEP]"
    )
    assert learnt == "多喝水。[SEP]查ct，38.5℃，take 5 mg。[SEP]"


def test_unknown_words_of_a_person_are_plain_text(tmp_path: Path) -> None:
    folder = make(tmp_path, tokenizer="wordpiece")

    written, learnt = supervised(folder, Message("user", "发😀？"), Message("assistant", "😀"))

    assert written.replace(" ", "") == "[CLS]发[UNK]？[SEP][UNK][SEP]"
    assert learnt == "[UNK] [SEP]"


def test_characters_without_room_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    count_vocabulary(TEXTS, 20)

    assert "find no room" in caplog.text


# -- refusals


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"model_type": "gpt3"}, "'gpt3'; near it: .*gpt2"),
        ({"model_type": "bert_like_nothing"}, "expected model_type"),
        ({"n_layers": 3}, "n_layers, which would change nothing"),
        ({"n_head": 3}, "expected a network that can be built"),
    ],
)
def test_configuration_that_means_nothing_is_refused(
    changes: dict[str, object], found: str, tmp_path: Path
) -> None:
    config = write_config(tmp_path, **changes)

    with pytest.raises(ConfigError, match=found) as refused:
        make(tmp_path, model_config=config)
    assert str(refused.value).startswith(config)
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"vocab_size": 258}, "--vocab_size: expected at least 259"),
        ({"vocab_size": 5, "tokenizer": "wordpiece"}, "--vocab_size: expected more than the 5"),
        ({"vocab_size": 0}, "--vocab_size: expected 1 or more"),
        ({"model_config": "nowhere.json"}, "nowhere.json: expected a file"),
        ({"vocab_file": "vocab.txt"}, "--vocab_file: expected --tokenizer wordpiece"),
        ({"vocab_file": "nowhere.txt", "tokenizer": "wordpiece"}, "nowhere.txt: expected a file"),
        ({"base_model": "x", "model_config": "y"}, "--model_config and --base_model"),
        ({"base_model": "x", "texts": ["y"]}, "--base_model clashes with --texts"),
        ({"texts": []}, "--texts and --vocab_file: expected one of them"),
    ],
)
def test_options_that_mean_nothing_are_refused(
    options: dict[str, object], found: str, tmp_path: Path
) -> None:
    with pytest.raises(MedtuneError, match=found):
        make(tmp_path, **options)


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ([*VOCABULARY, "头"], "expected another token, found '头' of line"),
        ([*VOCABULARY, "", "x"], "found an empty line"),
        (VOCABULARY[1:], "expected the tokens \\[PAD\\]"),
    ],
)
def test_vocabulary_file_that_is_none_is_refused(
    words: list[str], found: str, tmp_path: Path
) -> None:
    file = tmp_path / "vocab.txt"
    file.write_text("\n".join(words) + "\n", encoding="utf-8")

    with pytest.raises(DataError, match=found):
        make(tmp_path, tokenizer="wordpiece", vocab_file=str(file))
