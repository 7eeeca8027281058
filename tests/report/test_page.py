"""The page and the Markdown: safe to open, whole, small, and the same in both languages."""

import base64
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from medtune.common.files import write_lines
from medtune.report.chain import find_chain
from medtune.report.markdown import escape
from medtune.report.options import ReportArguments
from medtune.report.texts import load_texts
from medtune.report.writing import build_sections, write_report
from tests.report.building import HOSTILE, reply_samples

EMPTY = {"meta", "input", "br"}
SECTIONS = [key for key in load_texts() if key.startswith("section.")]
MAX_BYTES = 3_000_000


class Reader(HTMLParser):
    """The elements of a page with their attributes; asserts that each that opens closes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in EMPTY:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def attributes(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def page(whole_chain: Path) -> str:
    write_report(ReportArguments(outputs=str(whole_chain), profile="tiny"))
    return (whole_chain / "tiny-report.html").read_text("utf-8")


@pytest.fixture(scope="module")
def markdown(page: str, whole_chain: Path) -> str:
    return (whole_chain / "tiny-report.md").read_text("utf-8")


# -- safe


def test_what_a_model_wrote_stays_text(page: str) -> None:
    reader = Reader(page)

    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") > 3
    assert len(reader.attributes("script")) == 1
    assert reader.attributes("img") == []
    assert not [a for _, a in reader.elements if any(name.startswith("on") for name in a)]
    assert not [a for a in reader.attributes("a") if not str(a["href"]).startswith("#")]


def test_paths_and_names_of_files_stay_text_too(tmp_path: Path, outputs: Path) -> None:
    folder = outputs / "<b>name"
    (outputs / "tiny-sft-evaluation").rename(folder)
    chosen = ReportArguments(evaluations=[str(folder)], output_file=str(outputs / "x.html"))
    write_report(chosen)

    shown = (outputs / "x.html").read_text("utf-8")
    assert "&lt;b&gt;name" in shown and "<b>name" not in shown


def test_nothing_is_loaded_from_anywhere(page: str) -> None:
    reader = Reader(page)
    loading = {"src", "srcset", "data", "poster", "background", "action", "style"}

    assert [a for _, a in reader.elements if loading & a.keys()] == []
    assert reader.attributes("link") == []
    assert "url(" not in page.replace("url(#tip)", "") and "@import" not in page
    assert not re.search(r"https?://|fetch\(|XMLHttpRequest|import\(", page)


def test_the_policy_allows_the_style_and_the_script_of_the_page_alone(page: str) -> None:
    (policy,) = [str(a["content"]) for a in Reader(page).attributes("meta") if "http-equiv" in a]
    for tag in ("style", "script"):
        (source,) = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy


def test_markdown_gives_no_meaning_to_what_a_model_wrote(markdown: str) -> None:
    unescaped = re.sub(r"\\[\\`*_\[\]<>|~&]", "", markdown)

    assert not re.search(r"[<>`\[\]]", unescaped)
    assert escape(HOSTILE, "en").count("\\<") == HOSTILE.count("<")
    assert escape("a\n\n# b", "en") == "a # b"


# -- whole


def test_every_section_has_its_heading_in_both_languages(page: str) -> None:
    titles = [load_texts()[key] for key in SECTIONS]
    headings = re.findall(r"<h2 [^>]*>(.*?)</h2>", page)

    assert len(SECTIONS) == len(headings) == 12
    for title in titles:
        spans = (
            f'<span class="zh" lang="zh-CN">{title.zh}</span>'
            f'<span class="en" lang="en">{title.en}</span>'
        )
        assert spans in headings


def test_headings_are_in_order_and_ids_are_unique(page: str) -> None:
    reader = Reader(page)
    levels = [int(tag[1]) for tag, _ in reader.elements if re.fullmatch("h[1-6]", tag)]
    ids = [a["id"] for _, a in reader.elements if "id" in a]
    targets = {str(a["href"])[1:] for a in reader.attributes("a")}

    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after - before <= 1 for before, after in zip(levels, levels[1:], strict=False))
    assert len(ids) == len(set(ids))
    assert targets <= set(ids)


def test_every_table_has_a_caption_and_a_named_box_that_the_keyboard_reaches(page: str) -> None:
    reader = Reader(page)
    boxes = [a for a in reader.attributes("div") if a.get("class") == "scroll"]
    tables = len(reader.attributes("table"))

    assert tables == len(reader.attributes("caption")) == len(boxes) > 10
    assert all(a["tabindex"] == "0" and a["aria-label"] for a in boxes)
    assert {a.get("scope") for a in reader.attributes("th")} == {"row", "rowgroup", "col"}
    assert all(a.get("role") == "img" and a["aria-label"] or a.get("aria-hidden") == "true"
               for a in reader.attributes("svg"))  # fmt: skip


@pytest.mark.parametrize(("language", "heading"), [("zh", "## 结论"), ("en", "## Verdict")])
def test_the_language_is_that_of_the_markdown_and_what_the_page_opens_in(
    outputs: Path, language: str, heading: str
) -> None:
    write_report(ReportArguments(profile="tiny", language=language))

    assert heading in (outputs / "tiny-report.md").read_text("utf-8")
    assert f'data-language="{language}"' in (outputs / "tiny-report.html").read_text("utf-8")


def test_the_rows_of_a_markdown_table_have_the_columns_of_its_head(markdown: str) -> None:
    tables = re.findall(r"(?:^\|.*\|\n)+", markdown, re.MULTILINE)

    assert len(tables) > 10
    for table in tables:
        head, rule, *rows = [len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()]
        assert {head, rule, *rows} == {head}
        assert rows


def test_english_markdown_has_chinese_in_data_alone(outputs: Path) -> None:
    write_report(ReportArguments(profile="tiny", language="en"))
    lines = (outputs / "tiny-report.md").read_text("utf-8").splitlines()
    labels = [line for line in lines if line.startswith(("#", "**")) or "---" in line]

    assert not re.search(r"[\u4e00-\u9fff]", "\n".join(labels))


# -- small


def test_ten_thousand_samples_make_a_small_page_that_says_what_it_leaves_out(
    outputs: Path,
) -> None:
    for stage in ("base", "pt", "sft", "dpo"):
        rows = [
            row | {"output": row["output"] * 200, "prompt": row["prompt"] * 50}
            for row in reply_samples(stage, 10_000)
        ]
        write_lines(outputs / f"tiny-{stage}-evaluation/samples/replies.jsonl", rows)
    write_report(ReportArguments(profile="tiny"))

    shown = (outputs / "tiny-report.html").read_text("utf-8")
    assert len(shown.encode()) < MAX_BYTES
    assert "60 questions are here, 9,940 are left out" in shown
    assert shown.count('data-task="replies"') == 60
    assert "more characters)" in shown


def test_the_same_chain_gives_the_same_page(outputs: Path) -> None:
    chain = find_chain(ReportArguments(profile="tiny"))

    assert build_sections(chain) == build_sections(chain)
