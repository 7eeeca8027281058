"""What chat.py takes to be reached over HTTP, by a browser or by a program."""

import ipaddress
import math
import os
import re
from dataclasses import dataclass, field

from medtune.common.errors import ConfigError

TOKEN_VARIABLE = "MEDTUNE_TOKEN"
MIN_TOKEN_SIGNS = 16  # a network can try thousands of shorter ones a second


@dataclass(kw_only=True)
class ServingArguments:
    """Where the server listens, whom it answers, and what a request may cost."""

    web: bool = field(
        default=False, metadata={"help": "Serve a page to chat on in a browser, and the API."}
    )
    api: bool = field(
        default=False, metadata={"help": "Serve the API (OpenAI's chat completions) alone."}
    )
    host: str = field(
        default="127.0.0.1",
        metadata={"help": "Address to listen at; any but this machine's own demands a token."},
    )
    port: int = field(default=8000, metadata={"help": "Port to listen at; 0: a free one."})
    api_token: str | None = field(
        default=None,
        repr=False,
        metadata={
            "help": "What a client has to know, at least 16 signs. Other users of the machine see "
            f"a command's options: the environment variable {TOKEN_VARIABLE} hides it from them."
        },
    )
    allowed_hosts: list[str] = field(
        default_factory=list,
        metadata={
            "help": "More names by which clients may call the server (NAME or NAME:PORT), as "
            "behind a proxy."
        },
    )
    max_queue: int = field(
        default=64, metadata={"help": "Questions that may wait; with more the answer is 429."}
    )
    max_seconds: float = field(
        default=300.0,
        metadata={"help": "Longest time for an answer, with its wait; what came so far is sent."},
    )
    preferences_file: str = field(
        default="chat_votes/preferences.jsonl",
        metadata={
            "help": "File for the pairs that votes on the page make, readable by you alone; a row "
            "is data for DPO. None with --no_log True."
        },
    )

    def __post_init__(self) -> None:
        """Take the token from the environment, and refuse what cannot be meant."""
        if self.api_token is None:
            self.api_token = os.environ.get(TOKEN_VARIABLE)
        if self.api_token is not None and not re.fullmatch(
            rf"[!-~]{{{MIN_TOKEN_SIGNS},}}", self.api_token
        ):
            raise ConfigError(
                f"--api_token (or {TOKEN_VARIABLE}): expected at least {MIN_TOKEN_SIGNS} letters, "
                "digits and signs of ASCII without blanks, found something else. "
                "`python -c 'import secrets; print(secrets.token_urlsafe())'` makes one."
            )
        if self.api_token is None and not is_loopback(self.host):
            raise ConfigError(
                f"--host {self.host} is open to others and demands --api_token (or "
                f"{TOKEN_VARIABLE}): give one, or leave --host out."
            )
        limits = (
            ("port", self.port, 0 <= self.port <= 65535, "0 to 65535"),
            ("max_queue", self.max_queue, self.max_queue >= 1, "1 or more"),
            ("max_seconds", self.max_seconds, 0 < self.max_seconds < math.inf, "above 0"),
        )
        for name, value, is_sound, expected in limits:
            if not is_sound:
                raise ConfigError(f"--{name}: expected {expected}, found {value}.")


def is_loopback(host: str) -> bool:
    """True for a name or an address that only this machine itself can reach."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
