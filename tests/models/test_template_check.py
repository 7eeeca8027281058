"""A chat template that hangs, eats memory or fails is refused; what families use is not."""

import multiprocessing
import os
import shutil
import time
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from medtune.arguments import MergeArguments, ModelArguments
from medtune.common.errors import CheckpointError
from medtune.models import template_check
from medtune.models.families import GLM
from medtune.models.loading import load_tokenizer
from medtune.models.merging import find_tokenizer
from medtune.models.template_check import TemplateFailure, render_safely
from medtune.models.tiny import CHAT_TEMPLATE
from tests.conftest import take_chat_format
from tests.data.conftest import CHATML_TEMPLATE

LOOP = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
WRITING_LOOP = LOOP.replace("{% endfor %}{% endfor %}", "x{% endfor %}{% endfor %}")
NO_SYSTEM = (
    "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system') }}"
    "{% endif %}{{ m['content'] }}{% endfor %}"
)
USER = "发热三天，怎么办？"


@pytest.fixture(autouse=True)
def nothing_checked_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template_check, "CHECKED", set())


def put_template(folder: Path, template: str) -> Path:
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    return folder


@pytest.fixture
def folder(small_model_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(small_model_folder, tmp_path / "model"))


def test_glm_and_chatml_render_as_in_this_process(tokenizer: PreTrainedTokenizerFast) -> None:
    assert render_safely(tokenizer, CHAT_TEMPLATE) == [
        f"[gMASK]<sop><|user|>\n{USER}<|assistant|>\n多休息，多喝水。<|user|>\nThank you."
        "<|assistant|>",
        f"[gMASK]<sop><|system|>\n你是医生。<|user|>\n{USER}<|assistant|>",
    ]
    assert render_safely(tokenizer, CHATML_TEMPLATE)[1] == (
        f"<|im_start|>system\n你是医生。<|im_end|>\n<|im_start|>user\n{USER}<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_template_that_knows_no_system_message_passes(tokenizer: PreTrainedTokenizerFast) -> None:
    assert render_safely(tokenizer, NO_SYSTEM) == [f"{USER}多休息，多喝水。Thank you."]


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{{ 'a' * 3000000000 }}", "needs more than 512 MiB"),
        (
            NO_SYSTEM.replace("raise_exception('no system')", "'a' * 3000000000"),
            "more than 512 MiB",
        ),
        ("{{ 'a' * 3000000 }}", "writes 6,000,000 characters for a few words"),
        ("{% for m in", "raises TemplateSyntaxError"),
        ("{{ messages[7]['content'] }}", "raises UndefinedError"),
        ("{{ raise_exception('not today') }}", "raises TemplateError: not today"),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "raises SecurityError"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "raises RecursionError"),
    ],
)
def test_template_is_refused_with_the_file_and_what_happened(
    folder: Path, template: str, words: str
) -> None:
    put_template(folder, template)

    for load in (
        lambda: load_tokenizer(ModelArguments(str(folder))),
        lambda: find_tokenizer(MergeArguments("base", ["adapter"], "out", str(folder)), "base"),
    ):
        with pytest.raises(CheckpointError, match=words) as error:
            load()
        assert str(error.value).startswith(f"{folder / 'chat_template.jinja'}: expected a chat")
        assert error.value.exit_code == 2


@pytest.mark.parametrize("template", [LOOP, WRITING_LOOP])
def test_endless_template_is_ended_at_the_limit(
    tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch, template: str
) -> None:
    monkeypatch.setattr(template_check, "LIMIT_SECONDS", 0.5)
    started = time.monotonic()

    with pytest.raises(TemplateFailure, match=r"took longer than 0.5 s|needs more than 512 MiB"):
        render_safely(tokenizer, template)

    assert time.monotonic() - started < 3
    assert multiprocessing.active_children() == []


def test_child_that_dies_is_a_failure(
    tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(template_check, "limit_this_process", lambda: os._exit(7))

    with pytest.raises(TemplateFailure, match=r"ended its process \(exit code 7\)"):
        render_safely(tokenizer, CHAT_TEMPLATE)


def test_template_is_tried_once_in_a_process(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []
    monkeypatch.setattr(
        template_check, "render_safely", lambda _, template, must_render: tried.append(template)
    )

    for template in (CHAT_TEMPLATE, CHAT_TEMPLATE, CHATML_TEMPLATE, CHAT_TEMPLATE):
        load_tokenizer(ModelArguments(str(put_template(folder, template))))

    assert tried == [CHAT_TEMPLATE, CHATML_TEMPLATE]


def test_template_that_failed_is_refused_again(folder: Path) -> None:
    put_template(folder, "{% for m in")

    for _ in range(2):
        with pytest.raises(CheckpointError, match="TemplateSyntaxError"):
            load_tokenizer(ModelArguments(str(folder)))


def test_of_several_templates_the_default_one_must_render(folder: Path) -> None:
    put_template(folder, CHAT_TEMPLATE)
    others = folder / "additional_chat_templates"
    others.mkdir()
    (others / "rag.jinja").write_text("{{ documents[0]['text'] }}")
    load_tokenizer(ModelArguments(str(folder)))

    (others / "rag.jinja").write_text("{{ 'a' * 3000000000 }}")
    with pytest.raises(CheckpointError, match="the rag template needs more than 512 MiB"):
        load_tokenizer(ModelArguments(str(folder)))


def test_tokenizer_without_a_template_gets_its_family_s(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink()
    assert load_tokenizer(ModelArguments(str(folder))).chat_template == GLM.chat_template


def test_tokenizer_without_a_template_or_a_family_is_loaded(folder: Path) -> None:
    take_chat_format(folder)
    assert load_tokenizer(ModelArguments(str(folder))).chat_template is None
