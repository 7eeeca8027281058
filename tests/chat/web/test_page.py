"""The chat page in a headless Chromium, against a server whose answers are scripted.

What is typed, clicked and pressed goes through the browser's input, as a person's does.
"""

import re
import time
from pathlib import Path

import pytest

from medtune.data.reading import read_conversation_file
from tests.browser import BESIDE, CONTRAST, SHIFT
from tests.chat.web.conftest import IS_BUSY, ChatPage
from tests.chat.web.fake_server import ADVICE, DISCLAIMER, HOSTILE, PAGE
from tests.chat.web.serving import wait_until
from tests.conftest import REPO

BOTH_WIDTHS = pytest.mark.parametrize("page", [1280, 390], indirect=True)
OUTPUT = ".answer .text"
SMALL = """[...document.querySelectorAll("button, select, summary, input, textarea")]
  .filter((one) => one.checkVisibility())
  .filter((one) => {
    const { width, height } = one.getBoundingClientRect();
    return width < 44 || height < 44;
  }).map((one) => one.outerHTML.slice(0, 80))"""


def saved(chosen: str, rejected: str, question: str = "q") -> dict[str, object]:
    return {
        "system": "", "history": [], "question": question, "chosen": chosen, "rejected": rejected,
    }  # fmt: skip


# -- asking


@BOTH_WIDTHS
def test_an_answer_streams_and_is_there_after_a_reload(page: ChatPage) -> None:
    page.send("slow")
    page.wait_for(" 3", OUTPUT)
    early = page.answers()[0]
    page.wait_for(" 9", OUTPUT)
    page.browser.press("Escape")
    page.wait_for_answers()
    page.ask("second")
    kept = page.questions(), page.answers()

    assert page.answers()[0].startswith(early)
    assert page.questions() == ["slow", "second"]
    assert page.asked()[1] == ["slow", page.answers()[0], "second"]
    page.open(page.browser.evaluate("innerWidth"))
    assert (page.questions(), page.answers()) == kept
    assert page.browser.evaluate(BESIDE) == []
    assert page.browser.evaluate("document.documentElement.scrollWidth === innerWidth")


def test_stop_ends_the_request_and_keeps_what_was_said(page: ChatPage) -> None:
    page.send("slow")
    page.wait_for(" 3", OUTPUT)
    page.browser.click("#stop")
    page.wait_for_answers()

    assert page.texts(".notes") == ["Stopped."]
    assert " 3" in page.answers()[0] and " 99" not in page.answers()[0]
    deadline = time.monotonic() + 1
    while not page.server.num_left and time.monotonic() < deadline:
        time.sleep(0.01)
    assert page.server.num_left == 1


def test_retry_keeps_the_earlier_version_and_the_chat_goes_on_from_the_one_shown(
    page: ChatPage,
) -> None:
    page.ask("q")
    page.act("retry")
    page.wait_for("#43", OUTPUT)
    page.wait_for_answers()
    assert page.texts(".count") == ["2/2"]

    page.act("previous")
    assert page.answers() == ["tiny-glm on 1: q #42"]
    page.ask("and then?")
    assert page.asked()[-1] == ["q", "tiny-glm on 1: q #42", "and then?"]

    page.act("next", ".turn:first-child")
    assert page.answers()[0] == "tiny-glm on 1: q #43"
    assert page.texts(".turn:first-child .notes") == ["The conversation goes on from version 1."]


def test_a_version_that_says_the_same_is_named_so(page: ChatPage) -> None:
    page.browser.evaluate(
        "localStorage.setItem('medtune.settings', JSON.stringify({ options: { temperature: 0 } }))"
    )
    page.open()
    page.ask("q")
    page.act("retry")
    page.browser.wait("document.querySelector('.count').textContent === '2/2'")
    page.wait_for_answers()

    assert page.texts(".notes")[0].startswith("The same as the version before")


def test_an_edited_question_takes_the_place_of_all_that_came_after_it(page: ChatPage) -> None:
    for question in ("one", "two", "three"):
        page.ask(question)
    page.browser.click(".turn:nth-child(2) [data-action=edit]")
    page.browser.press("Escape")
    assert page.questions() == ["one", "two", "three"]

    page.browser.click(".turn:nth-child(2) [data-action=edit]")
    page.browser.type(" more")
    page.browser.press("Enter")
    page.wait_for_answers()

    assert page.questions() == ["one", "two more"]
    assert page.asked()[-1] == ["one", "tiny-glm on 1: one #42", "two more"]


def test_the_first_question_can_be_edited_and_names_the_conversation(page: ChatPage) -> None:
    page.ask("one")
    page.ask("two")
    page.browser.click(".turn:first-child [data-action=edit]")
    page.browser.type(" more")
    page.browser.press("Enter")
    page.wait_for("tiny-glm on 1: one more", OUTPUT)
    page.wait_for_answers()

    assert page.questions() == page.texts("#chats .open") == ["one more"]
    assert page.asked()[-1] == ["one more"]
    assert page.browser.evaluate("document.activeElement.id") == "ask"
    assert page.problems() == []


def test_clear_and_delete_can_be_undone(page: ChatPage) -> None:
    page.ask("first")
    page.browser.click("#new")
    page.ask("second")
    assert page.texts("#chats .open") == ["second", "first"]

    page.browser.click("#clear")
    assert (page.questions(), page.texts("#chats .open")) == ([], ["first"])
    page.browser.click("#notice button")
    assert (page.questions(), page.texts("#chats .open")) == (["second"], ["second", "first"])

    page.browser.click("#chats li:last-child [data-action=deleteChat]")
    page.open()
    assert page.texts("#chats .open") == ["second"]


def test_a_conversation_is_answered_while_another_is_read(page: ChatPage) -> None:
    page.ask("first")
    page.browser.click("#new")
    page.send("slow")
    page.wait_for(" 2", OUTPUT)
    page.browser.click("#chats li:last-child .open")
    assert page.questions() == ["first"]
    page.ask("more")
    page.browser.click("#chats li:last-child .open")
    assert page.questions() == ["slow"]
    assert page.browser.evaluate(IS_BUSY)
    page.browser.press("Escape")
    page.wait_for_answers()


def test_what_another_tab_asked_is_shown_here(page: ChatPage) -> None:
    page.ask("q")
    page.browser.evaluate("""(() => {
      const key = Object.keys(localStorage).find((one) => one.startsWith("medtune.chat."));
      const newValue = localStorage.getItem(key).replaceAll('"q"', '"changed"');
      dispatchEvent(new StorageEvent("storage", { key, newValue }));
    })()""")

    assert page.questions() == page.texts("#chats .open") == ["changed"]


def test_what_another_tab_deleted_and_brought_back_is_one_conversation(page: ChatPage) -> None:
    page.ask("q")
    page.browser.evaluate("""(() => {
      const key = Object.keys(localStorage).find((one) => one.startsWith("medtune.chat."));
      const stored = localStorage.getItem(key);
      for (const newValue of [null, stored.replaceAll('"q"', '"changed"')]) {
        dispatchEvent(new StorageEvent("storage", { key, newValue }));
      }
    })()""")
    page.ask("more")

    assert page.questions() == ["changed", "more"]
    assert page.texts("#chats .open") == ["changed"]


def test_an_example_is_asked_by_a_click(page: ChatPage) -> None:
    (example, *_) = page.texts("#examples button")
    page.browser.click("#examples button")
    page.wait_for_answers()

    assert page.asked() == [[example]]
    assert page.texts("#welcome") == []


# -- two models


@BOTH_WIDTHS
def test_two_models_answer_side_by_side_each_with_its_own_history(page: ChatPage) -> None:
    page.compare("dpo")
    page.ask("q")
    page.ask("more")

    assert page.texts(".model") == ["tiny-glm", "dpo"] * 2
    # The two are asked at the same time.
    assert sorted(page.asked()[2:]) == [
        ["q", "dpo on 1: q #42", "more"],
        ["q", "tiny-glm on 1: q #42", "more"],
    ]
    left, right = page.browser.evaluate(
        "[...document.querySelectorAll('.turn:last-child .answer')].map((one) => "
        "{ const { left, top } = one.getBoundingClientRect(); return { left, top }; })"
    )
    is_wide = page.browser.evaluate("innerWidth") == 1280
    assert (left["top"] == right["top"]) is is_wide
    assert (left["left"] == right["left"]) is not is_wide
    assert page.browser.evaluate(BESIDE) == []


def test_the_same_model_beside_itself_draws_another_answer(page: ChatPage) -> None:
    page.compare("tiny-glm")
    page.ask("q")

    assert page.answers() == ["tiny-glm on 1: q #42", "tiny-glm on 1: q #43"]


# -- votes


@BOTH_WIDTHS
def test_an_up_on_one_of_two_models_saves_the_pair_once(page: ChatPage) -> None:
    page.compare("dpo")
    page.ask("q")
    page.act("up", ".answer:last-child")
    page.wait_for("Saved as a training pair.", ".hint")
    page.act("up", ".answer:last-child")
    page.act("up", ".answer:first-child")
    page.open(page.browser.evaluate("innerWidth"))

    assert page.server.preferences == [saved("dpo on 1: q #42", "tiny-glm on 1: q #42")]
    assert page.texts(".hint") == ["Saved as a training pair."] * 2


def test_two_versions_with_opposite_thumbs_make_a_pair(page: ChatPage) -> None:
    page.ask("q")
    page.act("down")
    page.wait_for("With a second answer", ".hint")
    page.act("retry")
    page.wait_for("#43", OUTPUT)
    page.wait_for_answers()
    assert page.server.preferences == []
    page.act("up")
    page.wait_for("Saved as a training pair.", ".hint")

    assert page.server.preferences == [saved("tiny-glm on 1: q #43", "tiny-glm on 1: q #42")]


def test_answers_after_different_histories_make_no_pair(page: ChatPage) -> None:
    page.compare("dpo")
    page.ask("q")
    page.ask("more")
    page.act("up")
    page.wait_for("The answers follow different conversations", ".hint")

    assert page.server.preferences == []


def test_an_answer_that_was_cut_off_is_no_better_one_and_a_stopped_one_is_not_judged(
    page: ChatPage,
) -> None:
    page.ask("cut")
    page.act("up")
    assert (
        page.browser.evaluate("document.querySelector('[data-action=up]').ariaPressed") == "false"
    )
    stored = page.browser.evaluate("Object.values(localStorage).join()")
    assert re.findall(r'"vote":(-?\d)', stored) == ["0"]
    page.send("slow")
    page.wait_for(" 2", OUTPUT)
    page.browser.press("Escape")
    page.wait_for_answers()

    assert page.texts(".turn:last-child [data-action=up]") == []


def test_a_pair_that_was_not_saved_can_be_saved_by_another_press(page: ChatPage) -> None:
    page.compare("dpo")
    page.ask("q")
    page.server.failures = [503]
    page.act("up")
    page.wait_for("Not saved.", ".hint")
    assert page.server.preferences == []
    page.act("up")
    page.wait_for("Saved as a training pair.", ".hint")

    assert len(page.server.preferences) == 1


@pytest.mark.parametrize("num_saved", [0, 1])
def test_of_several_pairs_those_that_were_not_saved_are_by_another_press(
    page: ChatPage, num_saved: int
) -> None:
    page.ask("q")
    for seed in (43, 44):
        page.act("down")
        page.act("retry")
        page.wait_for(f"#{seed}", OUTPUT)
        page.wait_for_answers()
    page.server.failures = [0] * num_saved + [503]
    page.act("up")
    page.wait_for("Not saved.", ".hint")
    assert len(page.server.preferences) == num_saved
    page.act("up")
    page.wait_for("Saved as a training pair.", ".hint")

    better, *worse = (f"tiny-glm on 1: q #{seed}" for seed in (44, 42, 43))
    assert page.server.preferences == [saved(better, one) for one in worse]


def test_there_are_no_thumbs_where_preferences_are_not_collected(page: ChatPage) -> None:
    page.server.collects_preferences = False
    page.open()
    page.ask("q")

    assert page.texts("[data-action=up], [data-action=down]") == []


# -- safety


@BOTH_WIDTHS
def test_what_a_model_wrote_does_not_run(page: ChatPage) -> None:
    page.browser.evaluate("window.ran = []; window.alert = (words) => ran.push(words)")
    page.ask("hostile")
    assert page.browser.evaluate("ran") == []
    assert page.browser.requests
    assert all(one.startswith(page.server.address) for one in page.browser.requests)
    page.open(page.browser.evaluate("innerWidth"))
    names = page.browser.evaluate(
        "[...document.querySelectorAll('.answer .text *')].map((one) => one.localName)"
    )
    shown = page.answers()[0]

    assert set(names) == {"p", "br", "ul", "li", "code", "strong", "pre"}
    assert "<script>alert(2)</script>" in shown and "[x](javascript:alert(3))" in shown
    assert re.sub(r"[`*\s-]|```html", "", HOSTILE).replace("html<img", "<img") == re.sub(
        r"[-\s]", "", shown
    )
    assert {path for path in page.server.paths if "in-" in path or path == "/x"} == set()
    assert page.browser.requests
    assert all(one.startswith(page.server.address) for one in page.browser.requests)


def test_advice_stands_as_an_alert_before_the_answer_and_not_in_it(page: ChatPage) -> None:
    page.ask("I have chest pain")

    assert page.texts(".advice[role=alert]") == [ADVICE]
    assert page.answers() == ["tiny-glm on 1: I have chest pain #42"]
    assert page.browser.evaluate(
        "document.querySelector('.advice').compareDocumentPosition("
        "document.querySelector('.answer .text')) === Node.DOCUMENT_POSITION_FOLLOWING"
    )
    page.open()
    assert page.texts(".advice[role=note]") == [ADVICE]


@BOTH_WIDTHS
def test_the_disclaimer_is_always_there_in_one_line_and_whole_behind_a_tap(page: ChatPage) -> None:
    page.ask("a list")
    height = "document.querySelector('#disclaimer summary').getBoundingClientRect().height"

    assert page.texts("#disclaimer") == ["Not a medical device. In an emergency call 120."]
    assert page.browser.evaluate(height) < 46
    page.browser.click("#disclaimer summary")
    assert page.texts("#disclaimer p") == [DISCLAIMER["zh"], DISCLAIMER["en"]]


def test_the_page_knows_the_disclaimer_before_the_server_says_it() -> None:
    lines = (REPO / "medtune/chat/disclaimer.txt").read_text("utf-8").splitlines()
    texts = re.sub(r'" \+\s*"', "", (PAGE / "texts.js").read_text("utf-8"))

    assert len(lines) == 2
    assert all(f'"{line}"' in texts for line in lines)


def test_lists_bold_and_code_become_elements(page: ChatPage) -> None:
    page.ask("a list")
    shown = page.browser.evaluate("document.querySelector('.answer .text').innerHTML")

    assert '<ol><li value="1"><strong>少盐</strong>：每天不超过 5 克。</li><li value="2">' in shown
    assert "<p>血压的单位写作 <code>mmHg</code>。具体目标由医生决定。</p>" in shown


# -- what goes wrong


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (429, "Too many answers are being written. Try again in about 3 s."),
        (400, "The server refused this request: scripted 400"),
        (403, "The server does not know this address."),
        (413, "The question is too long"),
        (503, "The server failed (503)."),
    ],
)
def test_an_error_is_a_sentence_with_a_way_to_try_again(
    page: ChatPage, status: int, words: str
) -> None:
    page.server.failures = [status]
    page.ask("q")
    assert words in page.texts(".failure[role=alert]")[0]
    page.browser.click(".again")
    page.wait_for("tiny-glm on 1: q", OUTPUT)
    page.wait_for_answers()

    assert (page.texts(".failure"), page.texts(".count")) == ([], [])


def test_a_question_too_long_for_the_context_and_a_broken_stream_are_said(page: ChatPage) -> None:
    page.ask("too long")
    page.ask("lost")
    first, second = page.texts(".failure")

    assert first.startswith("The question is too long for the model's context.")
    assert second.startswith("The connection broke: the answer is incomplete.")
    assert page.asked()[-1] == ["lost"]


def test_only_the_last_answer_can_be_tried_again(page: ChatPage) -> None:
    page.ask("lost")
    assert page.texts(".again") == ["Try again"]
    page.ask("more")

    assert page.texts(".again") == []
    assert page.texts(".failure") == ["The connection broke: the answer is incomplete."]


def test_a_server_that_is_gone_is_said(page: ChatPage) -> None:
    offline = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    page.browser.call("Network.emulateNetworkConditions", offline=True, **offline)
    page.ask("q")
    page.browser.call("Network.emulateNetworkConditions", offline=False, **offline)

    assert page.texts(".failure")[0].startswith("The server cannot be reached.")


def test_the_token_is_asked_for_and_kept_for_the_tab(page: ChatPage) -> None:
    page.server.token = "secret"
    page.open()
    page.send("q")
    page.wait_for("The server asks for a token.", ".failure")
    page.browser.click(".again")
    page.browser.type("secret")
    page.browser.press("Enter")
    page.browser.wait("document.querySelector('#model').options.length === 3")
    assert "/v1/chat/completions" not in page.server.paths
    page.browser.click("#send")
    page.wait_for_answers()
    page.open()

    assert page.texts(".failure") == []
    assert page.answers() == ["tiny-glm on 1: q #42"]
    assert "secret" not in page.browser.evaluate("JSON.stringify(localStorage)")


def test_a_token_in_the_fragment_is_taken_and_no_longer_shown(page: ChatPage) -> None:
    page.server.token = "secret"
    page.open(fragment="#token=secret")
    page.ask("q")

    assert page.answers() == ["tiny-glm on 1: q #42"]
    assert page.browser.evaluate("location.href") == page.server.address


def test_full_storage_is_said_and_the_chat_goes_on(page: ChatPage) -> None:
    page.browser.evaluate(
        "Storage.prototype.setItem = () => { throw new DOMException('', 'QuotaExceededError'); }"
    )
    page.ask("q")

    assert page.answers() == ["tiny-glm on 1: q #42"]
    assert page.texts("#notice")[0].startswith("The browser's storage is full")


def test_a_stored_conversation_that_cannot_be_read_is_counted_and_left_alone(
    page: ChatPage,
) -> None:
    page.ask("q")
    page.browser.evaluate("""for (const text of ["{", "null", '{"id":"c","turns":[{}]}']) {
      localStorage.setItem(`medtune.chat.${text.length}`, text);
    }""")
    page.open()

    assert page.texts("#chats .open") == ["q"]
    assert page.texts("#notice") == ["3 stored conversations cannot be read and are not shown."]
    assert page.browser.evaluate("localStorage.getItem('medtune.chat.1')") == "{"


# -- settings and export


def test_settings_that_are_given_are_sent_and_others_are_not(page: ChatPage) -> None:
    page.browser.click("#settings")
    page.browser.type("Be brief.")
    page.browser.evaluate("document.forms[1].elements.top_p.value = '7'")
    page.browser.press("Tab")
    page.browser.type("0.5")
    page.browser.press("Enter")
    assert page.browser.evaluate("document.querySelector('#sampling').open")
    page.browser.evaluate("document.forms[1].elements.top_p.value = ''")
    page.browser.press("Enter")
    page.ask("q")

    system = {"role": "system", "content": "Be brief."}
    question = {"role": "user", "content": "q"}
    assert page.server.asked == [
        {"model": "tiny-glm", "messages": [system, question], "temperature": 0.5, "seed": 42,
         "stream": True},
    ]  # fmt: skip
    page.browser.click("#settings")
    page.browser.click("#reset")
    page.browser.click("#sampling [type=submit]")
    page.ask("r")
    assert page.server.asked[1].keys() == {"model", "messages", "seed", "stream"}


def test_the_export_is_a_row_to_train_on_for_each_model(page: ChatPage, tmp_path: Path) -> None:
    page.browser.call("Page.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    page.ask("q")
    page.browser.click("#export")
    one = wait_for_rows(tmp_path)
    page.compare("dpo")
    page.ask("r")
    page.browser.click("#export")
    two = wait_for_rows(tmp_path)

    first = [("user", "q"), ("assistant", "tiny-glm on 1: q #42"), ("user", "r")]
    assert one == [first[:2]]
    assert two == [[*first, ("assistant", f"{name} on 3: r #42")] for name in ("tiny-glm", "dpo")]


def wait_for_rows(folder: Path) -> list[list[tuple[str, str]]]:
    """The conversations of the file that arrives in a folder, as training reads them."""
    assert wait_until(lambda: list(folder.glob("medtune-*.json")), 20)
    (file,) = folder.glob("medtune-*.json")
    rows = list(read_conversation_file(file))
    file.unlink()
    return [[(one.role, one.content) for one in row.messages] for row in rows]


def test_copy_gives_the_text_as_the_model_wrote_it(page: ChatPage) -> None:
    page.browser.evaluate(
        "Object.defineProperty(navigator, 'clipboard', "
        "{ value: { writeText: async (text) => { window.copied = text; } } })"
    )
    page.ask("a list")
    page.act("copy")
    page.wait_for("Copied.", "#notice")

    assert "1. **少盐**" in page.browser.evaluate("window.copied")


# -- language, theme, keyboard, screen reader


@BOTH_WIDTHS
def test_the_language_is_that_of_the_browser_until_it_is_chosen(page: ChatPage) -> None:
    state = "[document.documentElement.lang, document.title]"
    assert page.browser.evaluate(state) == ["en", "medtune chat"]
    page.ask("q")
    page.browser.click("#language")
    assert page.browser.evaluate(state) == ["zh-CN", "medtune 对话"]
    page.open(page.browser.evaluate("innerWidth"))

    assert page.browser.evaluate(state) == ["zh-CN", "medtune 对话"]
    assert page.answers() == ["tiny-glm on 1: q #42"]
    assert page.browser.evaluate(BESIDE) == []


def test_both_languages_have_every_text_that_is_used(page: ChatPage) -> None:
    keys = page.browser.evaluate(
        "import('/texts.js').then(({ TEXTS }) => [Object.keys(TEXTS.zh), Object.keys(TEXTS.en)])"
    )
    sources = "".join(path.read_text("utf-8") for path in PAGE.iterdir())
    used = set(re.findall(r'(?:say\(|data-(?:text|label|placeholder)=)"([\w.]+)"', sources))

    used |= {f"ended.{end}" for end in ("length", "context", "repetition", "time", "cancel")}
    used |= set(re.findall(r'"((?:error|hint)\.\w+)"', sources))

    assert keys[0] == keys[1]
    assert used - set(keys[0]) == set()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground_in_both_themes(page: ChatPage, scheme: str) -> None:
    media = [{"name": "prefers-color-scheme", "value": scheme}]
    ground = "getComputedStyle(document.body).backgroundColor"
    page.browser.call("Emulation.setEmulatedMedia", features=media)
    page.ask("chest pain")
    page.server.failures = [503]
    page.ask("r")
    of_system, low = page.browser.evaluate(ground), page.browser.evaluate(CONTRAST)
    page.browser.click("#theme")
    page.open()
    chosen, low_too = page.browser.evaluate(ground), page.browser.evaluate(CONTRAST)
    page.browser.call("Emulation.setEmulatedMedia", features=[])

    assert (low, low_too) == ([], [])
    assert {of_system, chosen} == {"rgb(251, 252, 253)", "rgb(18, 23, 28)"}
    assert (of_system == "rgb(18, 23, 28)") is (scheme == "dark")


def test_the_keyboard_alone_asks_stops_and_begins_anew(page: ChatPage) -> None:
    page.browser.press("Tab")
    assert page.texts(":focus-visible") == ["Skip to the question field"]
    page.browser.press("Enter")
    page.browser.type("slow")
    page.browser.press("Enter", SHIFT)
    page.browser.type("line")
    assert page.server.asked == []
    page.browser.press("Enter")
    page.wait_for(" 2", OUTPUT)
    page.browser.press("Escape")
    page.wait_for_answers()
    assert page.asked() == [["slow\nline"]]

    page.browser.press("Tab", SHIFT)
    assert page.browser.evaluate("document.activeElement.dataset.action") == "retry"
    page.browser.press("Enter")
    page.browser.wait(IS_BUSY)
    assert page.browser.evaluate("document.activeElement.dataset.action") == "retry"
    page.browser.press("Escape")
    page.wait_for_answers()


def test_a_control_that_goes_away_leaves_the_focus_in_the_conversation(page: ChatPage) -> None:
    focused = "document.activeElement.id"
    page.ask("first")
    page.browser.click("#new")
    page.ask("second")
    page.browser.evaluate("document.querySelector('#chats li:last-child .open').focus()")
    page.browser.press("Enter")
    assert page.questions() == ["first"]
    assert page.browser.evaluate(focused) == "conversation"
    page.browser.click("#clear")
    page.browser.press("Enter")

    assert page.questions() == ["first"]
    assert page.browser.evaluate(focused) == "conversation"


def test_enter_that_ends_the_composing_of_a_word_does_not_send(page: ChatPage) -> None:
    page.browser.click("#ask")
    page.browser.call("Input.imeSetComposition", text="tou teng", selectionStart=8, selectionEnd=8)
    page.browser.press("Enter")
    page.browser.evaluate("""document.getElementById("ask").dispatchEvent(
      new KeyboardEvent("keydown", { key: "Enter", keyCode: 229, bubbles: true }))""")
    assert page.server.asked == []
    assert page.questions() == []
    page.browser.type("头痛")
    page.browser.press("Enter")
    page.wait_for_answers()

    assert page.asked() == [["头痛"]]


def test_the_finished_answer_is_announced_and_its_pieces_are_not(page: ChatPage) -> None:
    page.browser.evaluate("""(() => {
      window.announced = [];
      const note = () => announced.push(document.getElementById("announcer").textContent);
      new MutationObserver(note).observe(document.getElementById("announcer"), { childList: true });
    })()""")
    page.ask("q")

    assert page.browser.evaluate("announced") == ["tiny-glm has answered: tiny-glm on 1: q #42"]
    assert page.browser.evaluate("document.querySelector('main').closest('[aria-live]')") is None


@BOTH_WIDTHS
def test_every_control_has_a_name_and_room_for_a_finger(page: ChatPage) -> None:
    page.ask("q")
    page.act("retry")
    page.wait_for("2/2", ".count")
    page.wait_for_answers()
    if page.browser.evaluate("innerWidth") == 390:
        page.browser.click("header .phone")
    nodes = page.browser.call("Accessibility.getFullAXTree")["nodes"]
    controls = [
        (one["role"]["value"], one["name"]["value"])
        for one in nodes
        if one.get("role", {}).get("value") in {"button", "combobox", "textbox", "navigation"}
    ]

    assert len(controls) > 12
    assert [one for one in controls if not one[1]] == []
    assert page.browser.evaluate(SMALL) == []


def test_nothing_is_loaded_from_anywhere_else(page: ChatPage) -> None:
    sources = "".join(path.read_text("utf-8") for path in PAGE.iterdir())
    addresses = set(re.findall(r"https?://[\w./-]+", sources))

    assert addresses == {"http://www.w3.org/2000/svg"}
    assert not re.search(r"innerHTML|insertAdjacentHTML|outerHTML|document\.write|eval\(", sources)
    assert page.browser.requests
    assert all(one.startswith((page.server.address, "data:")) for one in page.browser.requests)
