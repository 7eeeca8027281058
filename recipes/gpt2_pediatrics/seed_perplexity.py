"""Perplexity of held-out consultations: over tokens, and by the formula of seed 000.

    python recipes/gpt2_pediatrics/seed_perplexity.py VALIDATION.jsonl LIMIT MODEL [MODEL ...]

The seed takes exp(mean of p.predictions). The predictions are the logits: numbers before the
softmax, to which any constant may be added without changing a probability, and among which those of
the right tokens are one in 50,257. No label is looked at, so the number says nothing of the text.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))  # the checkout

import torch

from medtune.arguments import ModelArguments
from medtune.common.errors import run_script
from medtune.data.reading import read_conversation_file
from medtune.data.records import Conversation
from medtune.data.rendering import ChatRenderer
from medtune.evaluation.scorers.perplexity import SequenceLoss, measure_losses, sequence_loss
from medtune.models.families import family_of
from medtune.models.loading import load_model, load_tokenizer


@torch.no_grad()
def losses_of(name: str, records: list[Conversation]) -> list[SequenceLoss]:
    """Return the loss of each document under a model: all of its tokens but the first."""
    model, tokenizer = load_model(ModelArguments(name)).eval(), load_tokenizer(ModelArguments(name))
    renderer = ChatRenderer(tokenizer, family_of(tokenizer).turn_end)
    longest = model.config.max_position_embeddings
    documents = [renderer.conversation(record).input_ids[:longest] for record in records]
    return [sequence_loss(model(torch.tensor([ids])).logits[0].numpy(), ids) for ids in documents]


def main(argv: list[str]) -> None:
    """Print a line for each model."""
    path, limit, *models = argv
    found = [r for r in read_conversation_file(Path(path)) if isinstance(r, Conversation)]
    records = found[:: max(1, len(found) // int(limit))][: int(limit)]  # evenly spread
    print(f"\n{'model':<32}{'perplexity':>12}{'seed formula':>14}   of {len(records)} documents")
    for name in models:
        numbers = measure_losses(losses_of(name, records))
        seed = numbers["seed000_compute_metrics_value"]
        print(
            f"{name:<32}{numbers['perplexity']:>12.2f}{seed:>14.4g}   {numbers['tokens']:,} tokens"
        )


if __name__ == "__main__":
    run_script(main)
