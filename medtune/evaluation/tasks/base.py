"""What all benchmarks share: items, prompts with examples, requests for lm-eval, samples.

A benchmark says what one item asks (`messages`), what the model has to do for it (`requests`) and
what an answer counts (`count`). lm-eval does the rest. Numbers are computed from the counts of the
samples by medtune.evaluation.results.statistics.
"""

import random
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from lm_eval.api.instance import Instance
from lm_eval.api.task import Task

from medtune.data.records import Message
from medtune.evaluation.results.statistics import Metric

Doc = dict[str, Any]
Items = Sequence[Mapping[str, float]]  # the counts of samples
Request = tuple[str, tuple[Any, ...]]  # kind, and what follows the prompt among its arguments
SCORE, GENERATE, ROLL = "loglikelihood", "generate_until", "loglikelihood_rolling"


@dataclass(frozen=True)
class TaskOptions:
    """How the benchmarks are asked.

    generation: max_gen_toks, and options of transformers' `generate`.   end_of_turn: what an answer
    ends with that is to include the end of the reply.   count_tokens: of a text.
    grade: a reply's marks by another model, None without one.
    """

    is_chat: bool = True
    num_fewshot: int = 0
    seed: int = 0
    chain_of_thought: bool = False
    generation: dict[str, Any] = field(default_factory=dict)
    end_of_turn: str = ""
    count_tokens: Callable[[str], int] = len
    grade: Callable[[Sequence[Message], str, str], dict[str, float] | None] | None = None


@dataclass
class Sample:
    """What came of one item, as samples/<task>.jsonl keeps it.

    malformed: why the answer could not be read, None if it could.
    """

    output: Any
    parsed: Any
    gold: Any
    counts: dict[str, float]
    malformed: str | None = None


class Benchmark(Task):
    """A benchmark to lm-eval.

    A doc has `id`, and `groups`: names of groups to the group that it belongs to.
    """

    VERSION = 1
    name: ClassVar[str]
    folder: ClassVar[str]  # below the data folder
    generates: ClassVar[bool] = False
    num_guarded: ClassVar[int] = 1  # leading metrics that --fail_on_regression looks at
    hub_name: ClassVar[str | None] = None

    def __init__(self, docs: list[Doc], options: TaskOptions, examples: Sequence[Doc] = ()) -> None:
        """Take the items, and those that worked examples are taken from."""
        self.docs = docs
        self.options = options
        self.examples = examples
        self.OUTPUT_TYPE = GENERATE if self.generates else SCORE
        config = {
            "task": self.name,
            "num_fewshot": options.num_fewshot,
            "output_type": self.OUTPUT_TYPE,
        }
        if self.generates:
            config["generation_kwargs"] = dict(options.generation)
        super().__init__(config=config)

    # -- what a benchmark says

    @classmethod
    @abstractmethod
    def read(cls, path: Path) -> list[Doc]:
        """Return the items of a folder or file. Raises DataError."""

    @abstractmethod
    def messages(self, doc: Doc) -> list[Message]:
        """Return the prompt of an item."""

    @abstractmethod
    def requests(self, doc: Doc) -> list[Request]:
        """Return what the model has to do."""

    @abstractmethod
    def count(self, doc: Doc, responses: list[Any]) -> Sample:
        """Return what the model's responses count; it never raises for what a model wrote."""

    @classmethod
    @abstractmethod
    def metrics(cls, items: Items) -> list[Metric]:
        """Return the numbers that these counts give, the most telling one first."""

    @classmethod
    def can_be_example(cls, doc: Doc) -> bool:
        """True if a worked example can be made of an item."""
        return True

    def example_answer(self, doc: Doc) -> str:
        """Return the model answer of a worked example."""
        raise NotImplementedError(f"{self.name} has no worked examples")

    def examples_for(self, doc: Doc) -> list[Doc]:
        """Return the worked examples before an item, of its own class where there are enough.

        Drawn by item and seed: the same ones whatever --limit is and however many processes there
        are, which lm-eval's sampler, one draw after the other, would not give.
        """
        others = [example for example in self.examples if example["id"] != doc["id"]]
        number = min(self.options.num_fewshot, len(others))
        alike = [e for e in others if e.get("exam_class") == doc.get("exam_class")]
        draw = random.Random(f"{self.options.seed} {doc['id']}")
        return draw.sample(alike if len(alike) >= number else others, number)

    # -- what lm-eval asks

    def download(self, *_: Any, **__: Any) -> None:
        """Do nothing: the items are here."""

    def has_training_docs(self) -> bool:
        """Return False: nothing is trained here."""
        return False

    has_validation_docs = has_training_docs

    def has_test_docs(self) -> bool:
        """Return True: all items are."""
        return True

    def test_docs(self) -> list[Doc]:
        """Return the items."""
        return self.docs

    def doc_to_text(self, doc: Doc) -> str:
        """Return nothing: the prompt is made of `messages`."""
        return ""

    def doc_to_target(self, doc: Doc) -> str:
        """Return the right answer, for lm-eval's listings."""
        return str(doc.get("answer", ""))

    def fewshot_context(self, doc: Doc, *_: Any, **options: Any) -> str:
        """Return the prompt with its worked examples: for chat as a template's input, else text."""
        shots = [
            message
            for example in self.examples_for(doc)
            for message in (
                *self.messages(example),
                Message("assistant", self.example_answer(example)),
            )
        ]
        messages = [*shots, *self.messages(doc)]
        if options.get("apply_chat_template"):
            return options["chat_template"]([message.to_dict() for message in messages])
        return "\n".join([message.content for message in messages]) + "\n" * bool(messages)

    def build_all_requests(self, *, rank: int, world_size: int, **options: Any) -> None:
        """Prepare the requests of this process's items."""
        self._instances = [
            request
            for number, doc in self.doc_iterator(rank=rank, world_size=world_size)
            for request in self.construct_requests(
                doc,
                self.fewshot_context(doc, **options),
                metadata=(self.name, number, 1),
            )
        ]

    def construct_requests(self, doc: Doc, ctx: str, **options: Any) -> list[Instance]:
        """Return lm-eval's requests for an item."""
        make = partial(Instance, doc=doc, metadata=options["metadata"])
        return [
            make(request_type=kind, arguments=(ctx, *rest) if kind != ROLL else rest, idx=number)
            for number, (kind, rest) in enumerate(self.requests(doc))
        ]

    def process_results(self, doc: Doc, results: list[Any]) -> dict[str, Sample]:
        """Return the sample of an item; the numbers are computed from all of them later."""
        return {"sample": self.count(doc, results)}

    def aggregation(self) -> dict[str, Callable[[list[Sample]], int]]:
        """Return how many samples there are."""
        return {"sample": len}

    def higher_is_better(self) -> dict[str, bool]:
        """Return what lm-eval prints an arrow for."""
        return {"sample": True}

    def generate(self) -> Request:
        """Return the request for one reply."""
        return GENERATE, (dict(self.options.generation),)
