"""The numbers that a training log shows of a generated reply, see --predict_with_generate."""

from medtune.evaluation.scorers.rouge_bleu import score_pair

SHOWN = ("rouge-1", "rouge-2", "rouge-l", "bleu-4-char")


def score_reply(prediction: str, reference: str) -> dict[str, float]:
    """Return ROUGE-1/2/L and BLEU-4 over characters, as ChatGLM2-6B's training has them (0-100)."""
    counts = score_pair(prediction, reference).counts()
    return {name: counts[name] for name in SHOWN}
