"""Marks for consultations by another model, behind any address that speaks OpenAI's chat format.

The four aspects are those of CMB-Clin (Wang et al., CMB: A Comprehensive Medical Benchmark in
Chinese, 2023, section 4.2): fluency, relevance, completeness, medical proficiency, 1 to 5 each.
Nothing is sent anywhere unless an address is given.
"""

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from medtune.common.errors import ConfigError
from medtune.common.log import logger
from medtune.data.records import Message

ASPECTS = ("fluency", "relevance", "completeness", "proficiency")
KEY_VARIABLE = "MEDTUNE_JUDGE_KEY"
TIMEOUT_S = 120
TRIES = 3
RUBRIC = """你是一位资深临床医生，请评价一位医学助手对患者病例问题的回答。
从四个方面打分，每项1到5分，整数：
fluency（语言是否通顺、清楚）；relevance（是否紧扣问题和病例）；
completeness（与参考答案相比，要点是否齐全）；proficiency（医学上是否正确、专业、安全）。
1分很差，2分较差，3分一般，4分较好，5分很好。
只输出一个JSON对象，例如 {"fluency": 4, "relevance": 4, "completeness": 3, "proficiency": 3}。"""


@dataclass(frozen=True)
class Judge:
    """A model that marks replies. url: up to /v1; the key comes from MEDTUNE_JUDGE_KEY.

    Raises ConfigError for an address that is none.
    """

    url: str
    model: str

    def __post_init__(self) -> None:
        """Refuse what is no web address."""
        if urlsplit(self.url).scheme not in ("http", "https"):
            raise ConfigError(
                f"--judge_url: expected an address such as http://127.0.0.1:8000/v1, found "
                f"{self.url}."
            )

    def __call__(
        self, messages: Sequence[Message], reply: str, reference: str
    ) -> dict[str, float] | None:
        """Return the marks by aspect; None, with a warning, if none came after three tries."""
        case = "\n".join(f"{message.role}: {message.content}" for message in messages)
        task = f"病例与问题：\n{case}\n\n参考答案：\n{reference}\n\n待评回答：\n{reply}"
        failure = ""
        for _ in range(TRIES):
            try:
                marks = read_marks(self._ask(task))
            except (URLError, TimeoutError, OSError, ValueError, LookupError, TypeError) as error:
                failure = f"{type(error).__name__}: {error}"
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
        headers = {"Content-Type": "application/json"}
        if key := os.environ.get(KEY_VARIABLE):
            headers["Authorization"] = f"Bearer {key}"
        address = f"{self.url.rstrip('/')}/chat/completions"
        request = Request(address, json.dumps(body).encode(), headers)
        with urlopen(request, timeout=TIMEOUT_S) as response:
            return str(json.load(response)["choices"][0]["message"]["content"])


def read_marks(text: str) -> dict[str, float] | None:
    """Return the four marks of a judge's answer, or None if they are not all there, 1 to 5."""
    marks = {}
    for aspect in ASPECTS:
        found = re.search(rf'"?{aspect}"?\s*[:：]\s*([1-5])(?![\d.])', text, re.IGNORECASE)
        if not found:
            return None
        marks[aspect] = float(found[1])
    return marks
