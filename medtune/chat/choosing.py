"""How the next token is chosen."""

from collections.abc import Sequence

import torch
from transformers import (
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from medtune.arguments import SamplingArguments
from medtune.common.errors import NonFiniteError


class TokenChooser:
    """Chooses the next token as transformers' `generate` does with the same options."""

    def __init__(self, options: SamplingArguments, device: torch.device) -> None:
        """Seed the generator that this answer is drawn from."""
        self.is_greedy = options.temperature == 0
        self.has_penalty = options.repetition_penalty != 1
        self.generator = torch.Generator(device).manual_seed(options.seed)
        self.processors = LogitsProcessorList()
        if self.has_penalty:
            self.processors.append(RepetitionPenaltyLogitsProcessor(options.repetition_penalty))
        if self.is_greedy:
            return
        if options.temperature != 1:
            self.processors.append(TemperatureLogitsWarper(options.temperature))
        if options.top_k:
            self.processors.append(TopKLogitsWarper(options.top_k))
        if options.top_p < 1:
            self.processors.append(TopPLogitsWarper(options.top_p))

    def __call__(self, prompt_ids: Sequence[int], ids: Sequence[int], logits: torch.Tensor) -> int:
        """Return the token after the prompt and the `ids` answered so far.

        Raises NonFiniteError where options as extreme as a repetition penalty of 1e-40 leave no
        token with a probability.
        """
        if self.is_greedy and not self.has_penalty:
            return int(logits.argmax(-1))
        seen = [[*prompt_ids, *ids]] if self.has_penalty else [[]]
        scores = self.processors(torch.tensor(seen, dtype=torch.long, device=logits.device), logits)
        if self.is_greedy:
            return int(scores.argmax(-1))
        probabilities = scores.softmax(-1)
        if not bool(probabilities.isfinite().all()):
            raise NonFiniteError(
                "expected scores that a token can be drawn from, found some that are not finite: "
                "give a temperature and a repetition penalty nearer to 1."
            )
        return int(torch.multinomial(probabilities, 1, generator=self.generator))
