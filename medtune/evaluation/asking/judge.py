"""Marks for consultations by another model, behind any address that speaks OpenAI's chat format.

The four aspects and the scale are those of CMB-Clin (Wang et al., CMB: A Comprehensive Medical
Benchmark in Chinese, 2023, section 4.2): fluency, relevance, completeness, medical proficiency, 1
to 5 each. The wording of the prompt is this project's own, so marks do not compare with published
ones. Nothing is sent anywhere unless an address is given.
"""

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from http.client import HTTPException
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from medtune.common.errors import ConfigError
from medtune.common.log import logger
from medtune.data.records import Message

ASPECTS = ("fluency", "relevance", "completeness", "proficiency")
KEY_VARIABLE = "MEDTUNE_JUDGE_KEY"
TIMEOUT_S = 60
TRIES = 3
RUBRIC = """你是一位资深临床医生，请评价一位医学助手对患者病例问题的回答。
从四个方面打分，每项1到5分，整数：
fluency（语言是否通顺、清楚）；relevance（是否紧扣问题和病例）；
completeness（与参考答案相比，要点是否齐全）；proficiency（医学上是否正确、专业、安全）。
1分很差，2分较差，3分一般，4分较好，5分很好。
只输出一个JSON对象，例如 {"fluency": 4, "relevance": 4, "completeness": 3, "proficiency": 3}。"""
# After an aspect's name: quotes and emphasis, a colon, the mark; no fraction, no other scale.
MARK = r"""[\s"'*_`]*[:：][\s"'*_`]*([1-5])(?:\.0+)?(?!\d|\.\d|\s*/(?!\s*5(?!\d)))"""
TRIAL = ([Message("user", "发热怎么办？")], "多喝水。", "休息，多喝水。")

# What a server, the way to it, or an answer of any form can raise.
FAILURES = (OSError, HTTPException, ValueError, LookupError, TypeError, RecursionError)


@dataclass(frozen=True)
class Judge:
    """A model that marks replies. url: up to /v1; the key comes from MEDTUNE_JUDGE_KEY.

    Raises ConfigError for an address that is none, or a key that cannot be sent.
    """

    url: str
    model: str

    def __post_init__(self) -> None:
        """Refuse what is no web address, and a key that is none."""
        if not is_address(self.url):
            # A password before the host or a key behind the path must not be shown.
            shown = self.url.rpartition("@")[2].partition("?")[0]
            raise ConfigError(
                "--judge_url: expected an address such as http://127.0.0.1:8000/v1, found "
                f"{shown!r}; mend it, a key goes into {KEY_VARIABLE}."
            )
        read_key()

    def check(self) -> None:
        """Ask once about a trivial case, before anything that takes long.

        Raises ConfigError unless a chat completion comes back; one without marks is warned of.
        """
        try:
            answer = self._ask(task_of(*TRIAL))
        except FAILURES as error:
            raise ConfigError(
                f"--judge_url {self.url}: expected a chat completion of {self.model}, found "
                f"{kind_of(error)}; mend the address, the model's name or {KEY_VARIABLE}, or start "
                "the server."
            ) from None
        if read_marks(answer) is None:
            logger.warning("the judge at %s gave no marks for a trivial case", self.url)

    def __call__(
        self, messages: Sequence[Message], reply: str, reference: str
    ) -> dict[str, float] | None:
        """Return the marks by aspect; None, with a warning, if none came after three tries."""
        task = task_of(messages, reply, reference)
        failure = ""
        for _ in range(TRIES):
            try:
                marks = read_marks(self._ask(task))
            except FAILURES as error:
                failure = kind_of(error)
                continue
            if marks:
                return marks
            failure = "an answer without the four marks"
        logger.warning("the judge at %s gave no marks: %s", self.url, failure)
        return None

    def _ask(self, task: str) -> str:
        body = {
            "model": self.model,
            "temperature": 0,
            "messages": [
                {"role": "system", "content": RUBRIC},
                {"role": "user", "content": task},
            ],
        }
        address = f"{self.url.rstrip('/')}/chat/completions"
        request = Request(address, json.dumps(body).encode(), {"Content-Type": "application/json"})
        if key := read_key():  # not for an address that the server sends us on to
            request.add_unredirected_header("Authorization", f"Bearer {key}")
        with urlopen(request, timeout=TIMEOUT_S) as response:
            content = json.load(response)["choices"][0]["message"]["content"]
        if not isinstance(content, str):
            raise TypeError("expected text")
        return content


def is_address(url: str) -> bool:
    """True for http or https with a host and, if any, a port and a path; nothing else."""
    try:
        parts = urlsplit(url)
        is_port = parts.port is None or parts.port > 0  # a port above 65535 or of letters raises
    except ValueError:
        return False
    is_clean = url.isprintable() and not any(sign in url for sign in " @?#")
    return parts.scheme in ("http", "https") and bool(parts.hostname) and is_port and is_clean


def read_key() -> str:
    """Return the key without blanks around it, "" for none.

    Raises ConfigError, without the key in it, for signs that no header may hold.
    """
    key = os.environ.get(KEY_VARIABLE, "").strip()
    if not (key.isascii() and key.isprintable()):
        raise ConfigError(
            f"{KEY_VARIABLE}: expected a key of printable ASCII, found other characters; set it "
            "again."
        )
    return key


def kind_of(error: Exception) -> str:
    """Return type and HTTP status of a failure; its text may hold the key or a patient's words."""
    if isinstance(error, HTTPError):
        return f"{type(error).__name__} {error.code}"
    if isinstance(error, URLError):
        return f"{type(error).__name__} of {type(error.reason).__name__}"
    return type(error).__name__


def task_of(messages: Sequence[Message], reply: str, reference: str) -> str:
    """Return what the judge is asked about one reply."""
    case = "\n".join(f"{message.role}: {message.content}" for message in messages)
    return f"病例与问题：\n{case}\n\n参考答案：\n{reference}\n\n待评回答：\n{reply}"


def read_marks(text: str) -> dict[str, float] | None:
    """Return the four marks of a judge's answer, or None if they are not all there, 1 to 5.

    Example: `**fluency**: 4`, `"fluency": "4"`, `fluency: 4.0` and `fluency: 4/5` are a 4; 4.5, 45
    and 4/10 are no mark.
    """
    marks = {}
    for aspect in ASPECTS:
        found = re.search(aspect + MARK, text, re.IGNORECASE)
        if not found:
            return None
        marks[aspect] = float(found[1])
    return marks
