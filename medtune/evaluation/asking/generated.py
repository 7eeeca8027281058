"""A generated answer with what is known of how it was made."""


class GeneratedText(str):
    """A generated answer that knows how it ended; a plain string to everybody else."""

    stopped: bool
    num_tokens: int

    @classmethod
    def made_of(cls, text: str, stopped: bool, num_tokens: int) -> "GeneratedText":
        """Return the text with its length in tokens; stopped False: the limit cut it."""
        made = cls(text)
        made.stopped, made.num_tokens = stopped, num_tokens
        return made
