"""Batches become the ids and labels that ChatRenderer makes of one record at a time.

Reference: ChatRenderer itself, whose ids test_rendering.py compares with the stock tokenizer's.
"""

import json
import random
from collections.abc import Callable

import pytest
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from medtune.common.errors import DataError
from medtune.data.batching import BATCH_CHARACTERS, BATCH_RECORDS, Batch, BatchRenderer, batches_of
from medtune.data.records import Conversation, PreferencePair, Source, TextRecord
from medtune.data.rendering import ChatRenderer, PairIds, Rendered
from medtune.models.families import GLM
from medtune.models.tiny import CHAT_TEMPLATE
from tests.data.conftest import CHATML_TEMPLATE
from tests.data.test_rendering import (
    SOURCE,
    hostile_contents,
    random_content,
    talk,
    with_template,
)

NO_CONTROLS = (
    "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


def conversations(renderer: ChatRenderer, records: list[Conversation]) -> list[Rendered]:
    """What batches of three make of the records."""
    places = list(range(len(records)))
    batches = [Batch(places[n : n + 3], records[n : n + 3]) for n in range(0, len(records), 3)]
    found = list(BatchRenderer(renderer).conversations(batches))
    assert [batch for batch, _ in found] == batches
    return [rendered for _, batch in found for rendered in batch]


def pairs(renderer: ChatRenderer, records: list[PreferencePair]) -> list[PairIds]:
    """What one batch makes of the records."""
    ((_, rendered),) = BatchRenderer(renderer).pairs([Batch([0] * len(records), records)])
    return rendered


def random_talks(seed: int, count: int = 20) -> list[Conversation]:
    """Conversations of one to four replies; white space, controls and plain text in them."""
    rng = random.Random(seed)

    def content() -> str:
        if rng.random() < 0.2:
            return rng.choice(hostile_contents())
        text = random_content(rng)
        return text if rng.random() < 0.3 else text.strip() or "好"

    return [
        talk(
            *[content() for _ in range(2 * rng.randint(1, 4))],
            system=content() if rng.random() < 0.3 else None,
        )
        for _ in range(count)
    ]


def border_tokens(tokenizer: PreTrainedTokenizerFast) -> ChatRenderer:
    """A tokenizer that, like GLM-4's, has two line ends as one token."""
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    vocabulary, merges = backend["model"]["vocab"], backend["model"]["merges"]
    vocabulary["ĊĊ"] = vocabulary.pop("".join(merges.pop()))
    merges.append(["Ċ", "Ċ"])
    other = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(backend)), chat_template=CHAT_TEMPLATE
    )
    return ChatRenderer(other, GLM.turn_end)


RENDERERS: dict[str, Callable[[ChatRenderer, ChatRenderer], ChatRenderer]] = {
    "glm": lambda glm, _: glm,
    "chatml": lambda _, chatml: chatml,
    "strips": lambda glm, _: with_template(
        glm.tokenizer, CHAT_TEMPLATE.replace("message['content']", "message['content'] | trim")
    ),
    "two_line_ends_are_one_token": lambda glm, _: border_tokens(glm.tokenizer),
    "text_after_the_last_reply": lambda _, chatml: with_template(
        chatml.tokenizer, CHATML_TEMPLATE + "{% if not add_generation_prompt %}the end{% endif %}"
    ),
}


@pytest.fixture(params=RENDERERS)
def renderer(
    request: pytest.FixtureRequest, glm: ChatRenderer, chatml: ChatRenderer
) -> ChatRenderer:
    return RENDERERS[request.param](glm, chatml)


@pytest.mark.parametrize("seed", range(8))
def test_batched_conversations_are_those_rendered_one_by_one(
    renderer: ChatRenderer, seed: int
) -> None:
    records = random_talks(seed)

    expected: list[Rendered | str] = []
    for record in records:
        try:
            expected.append(renderer.conversation(record))
        except DataError as error:
            expected.append(str(error))

    refused = [value for value in expected if isinstance(value, str)]
    if refused:  # the whole batch ends with the error of its first refused record
        with pytest.raises(DataError) as caught:
            conversations(renderer, records)
        assert str(caught.value) == refused[0]
    good = [n for n, value in enumerate(expected) if isinstance(value, Rendered)]
    assert conversations(renderer, [records[n] for n in good]) == [expected[n] for n in good]


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("family", ["glm", "chatml"])
def test_batched_pairs_are_those_rendered_one_by_one(
    request: pytest.FixtureRequest, family: str, seed: int
) -> None:
    renderer = request.getfixturevalue(family)
    rng = random.Random(seed)
    records = [
        PreferencePair(
            talk_.messages[:-1], talk_.messages[-1].content, random_content(rng) + "。", SOURCE
        )
        for talk_ in random_talks(seed)
    ]

    assert pairs(renderer, records) == [renderer.pair(record) for record in records]


def test_usual_conversations_are_not_rendered_one_by_one(
    glm: ChatRenderer, chatml: ChatRenderer, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = [talk("头痛", "休息。"), talk("a<|user|>b", "c", "d", "e", system="你是医生")]
    expected = {id(r): [r.conversation(record) for record in records] for r in (glm, chatml)}
    monkeypatch.delattr(ChatRenderer, "conversation")

    for renderer in (glm, chatml):
        assert conversations(renderer, records) == expected[id(renderer)]


def test_batches_remember_what_ends_replies(glm: ChatRenderer) -> None:
    renderer = ChatRenderer(glm.tokenizer, glm.turn_end)

    conversations(renderer, [talk("头痛", "休息")])

    assert renderer.turn_ends == {glm.tokenizer.convert_tokens_to_ids("<|user|>")}


@pytest.mark.parametrize(
    "template",
    [
        "{{ messages | length }}" + CHATML_TEMPLATE,
        CHATML_TEMPLATE.replace("<|im_end|>\n", "{% if loop.last %}!{% endif %}<|im_end|>\n"),
        CHATML_TEMPLATE.replace("assistant\n{% endif %}", "doctor\n{% endif %}"),
        CHATML_TEMPLATE.replace("message['content']", "message['content'] | upper"),
        "{{ raise_exception('no') }}",
        NO_CONTROLS,
    ],
    ids=["counts", "marks-the-last", "another-role", "rewrites", "raises", "no-end-token"],
)
def test_templates_are_refused_in_the_same_words(chatml: ChatRenderer, template: str) -> None:
    renderer = with_template(chatml.tokenizer, template)
    record = talk("fever", "rest", "pain", "see a doctor")

    with pytest.raises(DataError) as alone:
        renderer.conversation(record)
    with pytest.raises(DataError) as batched:
        conversations(renderer, [record])
    assert str(batched.value) == str(alone.value)


def test_a_template_that_writes_another_date_is_followed(glm: ChatRenderer) -> None:
    """A run over midnight: what the template writes changes between two batches."""
    renderer = with_template(glm.tokenizer, CHAT_TEMPLATE)
    batched = BatchRenderer(renderer)
    batch = [Batch([0], [talk("头痛", "休息")])]
    list(batched.conversations(batch))
    changed = "2 May" + CHAT_TEMPLATE
    renderer.tokenizer.chat_template = changed

    expected = with_template(glm.tokenizer, changed).conversation(batch[0].records[0])
    for _ in range(2):
        ((_, rendered),) = batched.conversations(batch)
        assert rendered == [expected]


def test_batches_are_bounded_by_records_and_by_characters() -> None:
    short = [(n, TextRecord("甲", Source("a", n))) for n in range(2 * BATCH_RECORDS + 1)]
    long = [(n, TextRecord("甲" * (BATCH_CHARACTERS // 2), Source("a", n))) for n in range(5)]

    assert [len(b.places) for b in batches_of(short)] == [BATCH_RECORDS, BATCH_RECORDS, 1]
    assert [b.places for b in batches_of(long)] == [[0, 1], [2, 3], [4]]
    assert [r for b in batches_of(short) for r in b.records] == [record for _, record in short]
