"""Try a chat template before it is used: in a child process, with limits on time and memory.

A template is a program that comes with the model. Its sandbox keeps it from files, not from
looping for hours or filling the memory. So two short conversations are rendered where that harms
nobody. What a template does with other conversations is not known from that.
"""

import hashlib
import json
import math
import multiprocessing
import sys
from multiprocessing.connection import Connection
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from medtune.common.errors import CheckpointError
from medtune.common.lineage import TEMPLATE_FILE
from medtune.models.weight_files import TOKENIZER_CONFIG

LIMIT_SECONDS: float = 5
LIMIT_MIB = 512
LIMIT_CHARACTERS = 100_000
LONGEST_ANSWER_BYTES = 16 * LIMIT_CHARACTERS  # a character takes 12 as two escapes
TURNS = [
    {"role": "user", "content": "发热三天，怎么办？"},
    {"role": "assistant", "content": "多休息，多喝水。"},
    {"role": "user", "content": "Thank you."},
]
# Some families know no system message, so this one may fail, but not hang.
TURNS_WITH_SYSTEM = [{"role": "system", "content": "你是医生。"}, TURNS[0]]
CHECKED: set[str] = set()  # SHA-256 of the templates that have passed in this process


class TemplateFailure(Exception):
    """What happened to a template, as a phrase."""


def check_templates(name: str, tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse a tokenizer with a chat template that fails, hangs or needs too much memory.

    name: the folder or hub name that it was loaded from, for the message. A template that has
    passed is not tried again in this process. Of several named templates the default one must
    render; the others, which may need tools or documents, must only keep to the limits.
    Raises CheckpointError.
    """
    templates = tokenizer.chat_template or {}
    if isinstance(templates, str):
        templates = {"default": templates}
    for key, template in templates.items():
        digest = hashlib.sha256(f"{key}\0{template}".encode()).hexdigest()
        if digest in CHECKED:
            continue
        try:
            render_safely(tokenizer, template, must_render=key == "default")
        except TemplateFailure as failure:
            raise CheckpointError(
                f"{describe_source(name)}: expected a chat template that renders a conversation "
                f"of two turns within {LIMIT_SECONDS} s and {LIMIT_MIB} MiB, found that the "
                f"{key} template {failure}. Use the template that the model's publisher gives."
            ) from failure
        CHECKED.add(digest)


def describe_source(name: str) -> str:
    """Return the file that the template of a folder came from; of a hub name only the name."""
    folder = Path(name)
    files = [folder / TEMPLATE_FILE, folder / TOKENIZER_CONFIG]
    return str(next((path for path in files if path.is_file()), name))


def render_safely(
    tokenizer: PreTrainedTokenizerBase, template: str, must_render: bool = True
) -> list[str]:
    """Return the two conversations as rendered by a child process that is ended when over a limit.

    must_render: whether an error of the template is a failure, too. The conversation with a system
    message may always raise one; it is then left out.
    Raises TemplateFailure. On systems other than Linux only time is limited.
    """
    if sys.platform == "linux":
        context = multiprocessing.get_context("fork")
    else:
        context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=render_in_child, args=(sender, tokenizer, template), daemon=True)
    child.start()
    sender.close()  # the child has its own: when it ends, reading ends
    try:
        if not receiver.poll(LIMIT_SECONDS):
            raise TemplateFailure(f"took longer than {LIMIT_SECONDS} s")
        # Text, not objects: reading what the child sends must not run anything.
        answer = json.loads(receiver.recv_bytes(LONGEST_ANSWER_BYTES))
    except (EOFError, OSError) as error:
        child.join(1)
        raise TemplateFailure(f"ended its process (exit code {child.exitcode})") from error
    finally:
        child.kill()
        child.join()
        receiver.close()
    if "limit" in answer or (must_render and "error" in answer):
        raise TemplateFailure(answer.get("limit") or answer["error"])
    return answer.get("rendered", [])


def render_in_child(sender: Connection, tokenizer: PreTrainedTokenizerBase, template: str) -> None:
    """Render, with limits on this process, and send a JSON object: rendered, error or limit."""
    limit_this_process()
    answer: dict[str, str | list[str]]
    try:
        rendered = render_turns(tokenizer, template)
        num_characters = sum(map(len, rendered))
        if num_characters > LIMIT_CHARACTERS:
            answer = {"limit": f"writes {num_characters:,} characters for a few words"}
        else:
            answer = {"rendered": rendered}
    except MemoryError:
        answer = {"limit": f"needs more than {LIMIT_MIB} MiB"}
    except Exception as error:  # a template is a program: it may raise anything
        answer = {"error": f"raises {type(error).__name__}: {str(error)[:500]}"}
    sender.send_bytes(json.dumps(answer).encode())


def render_turns(tokenizer: PreTrainedTokenizerBase, template: str) -> list[str]:
    """Return the conversation of two turns and, if the template takes it, the one with a system."""

    def render(messages: list[dict[str, str]]) -> str:
        return tokenizer.apply_chat_template(
            messages, chat_template=template, tokenize=False, add_generation_prompt=True
        )

    rendered = [render(TURNS)]
    try:
        return [*rendered, render(TURNS_WITH_SYSTEM)]
    except MemoryError:
        raise
    except Exception:  # "system role not supported", in whatever words
        return rendered


def limit_this_process() -> None:
    """Lower what this process may use: memory from here on, and seconds of the processor.

    The second is for the case that the parent is no longer there to end it.
    """
    if sys.platform != "linux":
        return
    import resource

    page_count = int(Path("/proc/self/statm").read_text().split()[0])
    limits = {
        resource.RLIMIT_AS: page_count * resource.getpagesize() + LIMIT_MIB * 2**20,
        resource.RLIMIT_CPU: math.ceil(LIMIT_SECONDS) + 1,
    }
    for kind, limit in limits.items():
        soft, hard = resource.getrlimit(kind)
        allowed = [value for value in (soft, hard, limit) if value != resource.RLIM_INFINITY]
        resource.setrlimit(kind, (min(allowed), hard))
