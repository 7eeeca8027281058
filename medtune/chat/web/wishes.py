"""A request in the form of OpenAI's chat completions, read into what a session is asked.

What cannot be done is refused by its name, never passed over: whoever asks for it would take the
answer for what it is not.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

from medtune.arguments import SamplingArguments
from medtune.chat.web.bodies import name_of
from medtune.chat.web.refusals import Refusal
from medtune.common.errors import ConfigError
from medtune.common.text import printable
from medtune.data.formats.checks import RowError, check_order, is_sound
from medtune.data.records import Message, Role

MAX_MESSAGES = 400
MAX_SIGNS = 1 << 18  # of a message
MAX_STOPS, MAX_STOP_SIGNS = 4, 100
MAX_NAME_SIGNS = 60  # of a field, repeated in a refusal

# Fields that choose how an answer is drawn: the option's name, and its type.
OPTIONS: dict[str, tuple[str, type]] = {
    "temperature": ("temperature", float),
    "top_p": ("top_p", float),
    "top_k": ("top_k", int),
    "repetition_penalty": ("repetition_penalty", float),
    "seed": ("seed", int),
    "max_tokens": ("max_new_tokens", int),
    "max_completion_tokens": ("max_new_tokens", int),
}
OTHERS = {"model", "messages", "stream", "stream_options", "stop"}
# Fields without a bearing on the answer.
HARMLESS = {"user", "metadata", "safety_identifier", "prompt_cache_key"}
# Fields that clients send with a value that asks for nothing.
NOTHING_ASKED: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "logit_bias": ({},),
    "tools": ([],),
    "tool_choice": ("none",),
    "functions": ([],),
    "response_format": ({"type": "text"},),
    "store": (False,),
}
ROLES: dict[str, Role] = {"system": "system", "user": "user", "assistant": "assistant"}


@dataclass(frozen=True)
class Wish:
    """What is asked for.

    stops: texts that end the answer and are no part of it.   with_usage: count tokens in a stream.
    """

    model: str
    messages: list[Message]
    options: SamplingArguments
    is_stream: bool
    with_usage: bool
    stops: tuple[str, ...]


def read_wish(body: dict[str, Any], models: Collection[str], defaults: SamplingArguments) -> Wish:
    """Return what a request asks for.

    models: their names, the default first.   defaults: of the options that the request leaves out.
    Raises Refusal: 404 no such model, 400 for all else.
    """
    check_fields(body)
    is_stream = read_flag(body, "stream")
    stream_options = body.get("stream_options")
    stream_options = {} if stream_options is None else stream_options
    if not isinstance(stream_options, dict) or stream_options.keys() - {"include_usage"}:
        raise wrong("stream_options", "an object with 'include_usage' alone")
    return Wish(
        model=read_model(body.get("model"), models),
        messages=read_messages(body.get("messages")),
        options=read_options(body, defaults),
        is_stream=is_stream,
        with_usage=read_flag(stream_options, "include_usage"),
        stops=read_stops(body.get("stop")),
    )


def wrong(param: str, expected: str, found: str = "", code: str | None = None) -> Refusal:
    """Return the Refusal of a field's value. found: what kind of thing it is, never the thing."""
    found = f", found {found}" if found else ""
    return Refusal(400, f"{param}: expected {expected}{found}.", param=param, code=code)


def check_fields(body: dict[str, Any]) -> None:
    """Raise Refusal for a field that asks for what is not done here. null asks for nothing."""
    for name, value in body.items():
        if value is None or name in OPTIONS or name in OTHERS or name in HARMLESS:
            continue
        if value in NOTHING_ASKED.get(name, ()):
            continue
        shown = printable(name[:MAX_NAME_SIGNS])[:MAX_NAME_SIGNS]
        raise Refusal(
            400,
            f"{shown}: not supported here, or not with this value; leave it out.",
            param=shown,
            code="unsupported_parameter",
        )


def read_model(name: Any, models: Collection[str]) -> str:
    """Return the name of a model, the first where none is given. Raises Refusal."""
    if name is None:
        return next(iter(models))
    if not isinstance(name, str) or name not in models:
        raise Refusal(
            404,
            f"model: expected one of {', '.join(models)}, found another.",
            param="model",
            code="model_not_found",
        )
    return name


def read_flag(fields: dict[str, Any], name: str) -> bool:
    """Return true or false, the latter where nothing is given. Raises Refusal."""
    value = fields.get(name)
    if value is not None and not isinstance(value, bool):
        raise wrong(name, "true or false", name_of(value))
    return bool(value)


def read_options(body: dict[str, Any], defaults: SamplingArguments) -> SamplingArguments:
    """Return the defaults with what the request says instead. Raises Refusal."""
    options = defaults
    for name, (option, kind) in OPTIONS.items():
        value = body.get(name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | kind):
            raise wrong(name, "a whole number" if kind is int else "a number", name_of(value))
        try:
            options = replace(options, **{option: kind(value)})
        except ConfigError as error:
            raise Refusal(400, f"{name}: {str(error).partition(': ')[2]}", param=name) from error
        except OverflowError as error:
            raise wrong(name, "a number", "one beyond all measure") from error
    limits = {body.get("max_tokens"), body.get("max_completion_tokens")} - {None}
    if len(limits) > 1:
        raise wrong("max_tokens", "the same number as in max_completion_tokens", "another")
    return options


def read_stops(value: Any) -> tuple[str, ...]:
    """Return the texts that end the answer. Raises Refusal."""
    if value is None:
        return ()
    texts = [value] if isinstance(value, str) else value
    is_list = isinstance(texts, list) and len(texts) <= MAX_STOPS
    if not is_list or not all(isinstance(t, str) and 0 < len(t) <= MAX_STOP_SIGNS for t in texts):
        raise wrong("stop", f"up to {MAX_STOPS} texts of 1 to {MAX_STOP_SIGNS} characters")
    return tuple(texts)


# -- messages


def read_messages(value: Any) -> list[Message]:
    """Return the conversation: a system message perhaps, then user and assistant in turn, the user
    last. A blank system message is none. Raises Refusal.
    """
    if not isinstance(value, list) or not 0 < len(value) <= MAX_MESSAGES:
        found = f"{len(value):,}" if isinstance(value, list) else name_of(value)
        raise wrong("messages", f"a list of 1 to {MAX_MESSAGES}", found)
    messages = [read_message(turn, f"messages[{n}]") for n, turn in enumerate(value)]
    if messages[0] == Message("system", ""):
        messages = messages[1:]
    if not messages:
        raise wrong("messages", "a question", "none")
    try:
        check_order(tuple(messages), last="user")
    except RowError as error:
        raise Refusal(400, f"messages: {error}", param="messages") from error
    return messages


def read_message(value: Any, place: str) -> Message:
    """Return one turn. Raises Refusal."""
    if not isinstance(value, dict):
        raise wrong(place, "an object", name_of(value))
    for name in value.keys() - {"role", "content"}:
        if value[name] is not None:
            shown = printable(name[:MAX_NAME_SIGNS])[:MAX_NAME_SIGNS]
            raise wrong(f"{place}.{shown}", "no such field", code="unsupported_parameter")
    role = value.get("role")
    if not isinstance(role, str) or role not in ROLES:
        raise wrong(f"{place}.role", f"one of {', '.join(ROLES)}", "another")
    content = "\n".join(texts_of(value.get("content"), f"{place}.content"))
    if len(content) > MAX_SIGNS:
        found = f"{len(content):,}"
        raise wrong(
            f"{place}.content",
            f"at most {MAX_SIGNS:,} characters",
            found,
            "string_above_max_length",
        )
    if role == "system" and not content.strip():
        return Message("system", "")
    if not is_sound(content):
        found = "half a character" if content.strip() else "blanks or nothing"
        raise wrong(f"{place}.content", "text", found)
    return Message(ROLES[role], content)


def texts_of(content: Any, place: str) -> list[str]:
    """Return the texts of a content, which may be in parts. Raises Refusal for images and such."""
    if isinstance(content, str):
        return [content]
    if not isinstance(content, list):
        raise wrong(place, "text or a list of parts", name_of(content))
    for number, part in enumerate(content):
        is_text = isinstance(part, dict) and part.get("type") == "text"
        if not is_text or not isinstance(part.get("text"), str):
            raise wrong(f"{place}[{number}]", "a part of the type 'text'", "another")
    return [part["text"] for part in content]
