"""What a model answers, with what is known of how: a plain string or number to everybody else."""


class GeneratedText(str):
    """A generated answer; stopped is False where the limit cut it."""

    stopped: bool
    num_tokens: int

    @classmethod
    def made_of(cls, text: str, stopped: bool, num_tokens: int) -> "GeneratedText":
        """Return the text with its length in tokens, its end included."""
        made = cls(text)
        made.stopped, made.num_tokens = stopped, num_tokens
        return made


class ScoredText(float):
    """The log-likelihood of a text in nats, and over how many tokens it is summed."""

    num_tokens: int

    @classmethod
    def made_of(cls, log_likelihood: float, num_tokens: int) -> "ScoredText":
        """Return the sum with its number of tokens."""
        made = cls(log_likelihood)
        made.num_tokens = num_tokens
        return made
