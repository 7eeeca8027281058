"""What is found of patients' data, what is not, and that nothing found is shown.

References: the specimen number of GB 11643-1999 and the Luhn example of ISO/IEC 7812-1, worked out
by hand; an invented set of sentences whose right findings are known because it was made from them
(tests/data/privacy_samples.py).
"""

import logging
import os
import random
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from medtune.data.privacy.check_digits import is_identity_number, is_luhn
from medtune.data.privacy.scanner import (
    PLACEHOLDERS,
    Finding,
    Kind,
    mask_record,
    mask_text,
    normalise,
    scan_record,
    scan_text,
)
from medtune.data.records import Conversation, Message, PreferencePair, Source, TextRecord
from tests.conftest import REPO
from tests.data.privacy_samples import (
    LOOK_ALIKES,
    NUM_LOOK_ALIKES,
    NUM_POSITIVES,
    compute_scores,
    full_width,
    identity_check_digit,
    lines_of,
    look_alikes,
    luhn_digit,
    make_bank_card,
    make_fresh_samples,
    make_held_out_samples,
    make_identity_number,
    make_samples,
    table,
)

SAMPLES = make_samples()
FRESH_SAMPLES = make_fresh_samples()
SCORES, FRESH_SCORES = compute_scores(SAMPLES), compute_scores(FRESH_SAMPLES)
OTHER_SCORES = compute_scores(make_samples(seed=7))
HAS_CHECK_DIGIT = (Kind.IDENTITY_NUMBER, Kind.BANK_CARD)
SOURCE = Source("a.jsonl", 1)
MOBILE = "13912345678"
SPECIMEN = "11010519491231002X"  # printed in the standard; nobody's


def kinds_of(text: str) -> list[str]:
    return [str(finding.kind) for finding in scan_text(text)]


def values_of(text: str) -> list[str]:
    return [text[finding.start : finding.end] for finding in scan_text(text)]


# -- how much is found


def test_the_set_is_as_large_as_it_says() -> None:
    expected = Counter(finding.kind for sample in SAMPLES for finding in sample.expected)

    assert NUM_POSITIVES >= 150
    assert expected == dict.fromkeys(Kind, NUM_POSITIVES)
    assert len(lines_of(LOOK_ALIKES)) * NUM_LOOK_ALIKES >= 1000


@pytest.mark.parametrize("kind", Kind)
def test_precision_and_recall(kind: Kind) -> None:
    score = SCORES[kind]
    least = 0.98 if kind in HAS_CHECK_DIGIT else 0.9

    assert score.precision >= least
    assert score.recall >= least


@pytest.mark.parametrize("kind", Kind)
def test_another_draw_of_the_set_scores_alike(kind: Kind) -> None:
    score = OTHER_SCORES[kind]
    least = 0.97 if kind in HAS_CHECK_DIGIT else 0.88  # 200 sentences: 1 % is two of them

    assert score.precision >= least
    assert score.recall >= least


@pytest.mark.parametrize("kind", Kind)
def test_precision_and_recall_in_other_words(kind: Kind) -> None:
    score = FRESH_SCORES[kind]
    least = 0.98 if kind in HAS_CHECK_DIGIT else 0.9

    assert score.precision >= least
    assert score.recall >= least


def test_the_tables_of_the_document_are_what_is_measured() -> None:
    page = (REPO / "docs/privacy.md").read_text(encoding="utf-8")

    assert table(SAMPLES) in page
    assert table(FRESH_SAMPLES) in page
    assert table(make_held_out_samples()) in page


def test_few_look_alikes_are_taken_for_patients_data() -> None:
    samples = look_alikes(random.Random(3))
    wrong = [sample.text for sample in samples if scan_text(sample.text)]

    assert len(wrong) <= len(samples) // 50


# -- check digits


def test_identity_number_of_the_standard() -> None:
    """1*7+1*9+0*10+1*5+0*8+5*4+1*2+9*1+4*6+9*3+1*7+2*9+3*10+1*5+0*8+0*4+2*2 = 167 = 2 (mod 11)."""
    assert is_identity_number(SPECIMEN)
    assert is_identity_number(SPECIMEN.lower())
    others = [SPECIMEN[:17] + digit for digit in "0123456789"]
    assert not any(map(is_identity_number, others))


@pytest.mark.parametrize(
    "number",
    ["110105194902300024", "110105194913010021", "990105194912310021", "110105299901010021"],
)
def test_identity_number_needs_a_date_of_birth_and_a_province(number: str) -> None:
    number = number[:17] + identity_check_digit(number[:17])

    assert not is_identity_number(number)


def test_luhn_example_of_the_standard() -> None:
    """7992739871 from the right, every other digit doubled: 2+7+7+9+6+7+4+9+9+7 = 67, so 3."""
    assert luhn_digit("7992739871") == "3"
    assert [digit for digit in "0123456789" if is_luhn(f"7992739871{digit}")] == ["3"]


@pytest.mark.parametrize("make", [make_identity_number, make_bank_card])
@pytest.mark.parametrize("seed", range(20))
def test_one_wrong_digit_is_no_number(make, seed: int) -> None:  # type: ignore[no-untyped-def]
    rng = random.Random(seed)
    number = re.sub(r"[\s-]", "", normalise(make(rng)))
    place = rng.randrange(6, len(number) - 1)
    other = number[:place] + str((int(number[place]) + 1) % 10) + number[place + 1 :]

    assert values_of(number) == [number]
    assert values_of(other) == []


# -- exact places


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("电话13912345678。", "mobile_number", "13912345678"),
        ("电话＋８６１３９１２３４５６７８。", "mobile_number", "＋８６１３９１２３４５６７８"),
        ("拨 139 1234 5678 找我", "mobile_number", "139 1234 5678"),
        (f"证件{SPECIMEN}号", "identity_number", SPECIMEN),
        ("证件110105\n19491231\n002X", "identity_number", "110105\n19491231\n002X"),
        ("发到li_si.2@mail.example.edu.cn谢谢", "email", "li_si.2@mail.example.edu.cn"),
        ("微信号：blue_tiger", "messenger", "blue_tiger"),
        ("QQ12345678", "messenger", "12345678"),
        ("住院号：ZY-00123456，三床", "record_number", "ZY-00123456"),
        ("患者欧阳文博，男，30岁", "name", "欧阳文博"),
        ("姓名：李明\n性别：男", "name", "李明"),
        ("家住杭州市西湖区青松路12号3栋501室。", "address", "杭州市西湖区青松路12号3栋501室"),
        ("老家西湖区青松路12号", "address", "西湖区青松路12号"),
        ("救护车开到团结小区3号楼2单元楼下", "address", "团结小区3号楼2单元"),
        ("身份证号330106491231002", "identity_number", "330106491231002"),
        ("我家座机0571-88886666", "landline_number", "0571-88886666"),
        ("电话（010）58886666转12", "landline_number", "（010）58886666转12"),
        ("blue_tiger1是我的微信", "messenger", "blue_tiger1"),
        ("腕带上写的是00123456", "record_number", "00123456"),
        ("昨天陪王海燕去医院", "name", "王海燕"),
        ("我儿子方平今年三岁", "name", "方平"),
        ("陈国庆的化验单忘拿了", "name", "陈国庆"),
        ("刘洋明天出院", "name", "刘洋"),
        ("患者（签字）：亓若兰", "name", "亓若兰"),
    ],
)
def test_value_is_found_without_the_words_around_it(text: str, kind: str, value: str) -> None:
    assert kinds_of(text) == [kind]
    assert values_of(text) == [value]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (f"微信{MOBILE}", "mobile_number"),
        (f"微信号：{MOBILE}", "mobile_number"),
        ("QQ：123456@qq.com", "email"),
        (f"{MOBILE}@163.com", "email"),
        (f"医保号：{SPECIMEN}", "identity_number"),
        (f"住院号：{MOBILE}", "record_number"),
    ],
)
def test_of_two_kinds_the_more_specific_one_is_found(text: str, kind: str) -> None:
    assert kinds_of(text) == [kind]


@pytest.mark.parametrize(
    "text",
    [
        f"1{MOBILE}",
        f"{MOBILE}0",
        f"0.{MOBILE}",
        f"rs{MOBILE}",
        f"{SPECIMEN}5",
        "12012345678",
        "患者高热不退，男，40岁",
        "患者张某某，男，40岁",
        "联系人：王女士",
        "患者：谢谢医生\n医生：不客气",
        "国药准字H20030123",
        "",
        "头痛三天",
        "330106491231002",
        "身份证号330106491331002",
        "医院总机电话010-58886666",
        "0571-88886666",
        "张仲景说，温水送服",
        "每3周发生一次，周三复查",
        "向医生咨询，于昨日出院",
        "患者：白痰\n医生：加金银花",
        "小儿柴胡退热颗粒，桑菊感冒片",
        "杭州市第一人民医院3号楼5层",
        "条形码6901234567892",
    ],
)
def test_look_alike_is_not_found(text: str) -> None:
    assert scan_text(text) == []


def test_every_name_of_a_row_is_found() -> None:
    assert values_of("紧急联系人：王芳、李明，邻居赵磊") == ["王芳", "李明", "赵磊"]


def test_findings_are_in_order_and_do_not_overlap() -> None:
    for text in ["".join(s.text for s in random.Random(n).sample(SAMPLES, 30)) for n in range(30)]:
        findings = scan_text(text)
        ends = [0, *(end for _, _, end in findings)]
        assert all(
            end <= start < stop for end, (_, start, stop) in zip(ends, findings, strict=False)
        )


@pytest.mark.parametrize(
    "number", ["0" * 5000, "1" * 5000, "6222 " * 1000, "a" * 5000, "一" * 5000, "于" * 5000]
)
def test_long_runs_are_scanned_and_hold_nothing(number: str) -> None:
    assert scan_text(number) == []


def test_normalised_text_is_as_long() -> None:
    text = "Ａ１＠　：，（\u00a0）痛" + full_width("0123 xyz")

    assert normalise(text) == "A1@ ：，（ ）痛0123 xyz"
    assert len(normalise(text)) == len(text)


# -- masking


def test_each_finding_becomes_the_placeholder_of_its_kind() -> None:
    text = f"姓名：李明，电话{MOBILE}，住院号00123456"

    masked = mask_text(text, scan_text(text))

    assert masked == "姓名：【姓名】，电话【手机号】，住院号【病历号】"


def test_masked_text_holds_nothing_more_and_no_value() -> None:
    for text, expected in SAMPLES:
        findings = scan_text(text)
        masked = mask_text(text, findings)
        assert scan_text(masked) == []
        assert not [f for f in findings if f in expected and text[f.start : f.end] in masked]


def test_every_kind_has_a_placeholder_of_its_own() -> None:
    assert set(PLACEHOLDERS) == set(Kind)
    assert len(set(PLACEHOLDERS.values())) == len(Kind)


def test_text_without_findings_is_the_same() -> None:
    assert mask_text("头痛三天", []) == "头痛三天"


# -- records


def test_every_text_of_a_conversation_is_scanned_and_masked() -> None:
    texts = ("你是医生", f"电话{MOBILE}", "微信号：blue_tiger，姓名：李明")
    roles = ("system", "user", "assistant")
    record = Conversation(tuple(map(Message, roles, texts)), SOURCE)  # type: ignore[arg-type]

    assert scan_record(record) == {Kind.MOBILE_NUMBER: 1, Kind.MESSENGER: 1, Kind.NAME: 1}
    masked = mask_record(record)
    assert [m.content for m in masked.messages] == [
        "你是医生",
        "电话【手机号】",
        "微信号：【社交账号】，姓名：【姓名】",
    ]
    assert [m.role for m in masked.messages] == list(roles)
    assert masked.source == SOURCE


def test_prompt_and_both_answers_of_a_pair_are_scanned_and_masked() -> None:
    prompt = (Message("user", f"我是{SPECIMEN}"),)
    record = PreferencePair(prompt, f"拨{MOBILE}", f"写a_b@163.com或拨{MOBILE}", SOURCE)

    assert scan_record(record) == {
        Kind.IDENTITY_NUMBER: 1,
        Kind.MOBILE_NUMBER: 2,
        Kind.EMAIL: 1,
    }
    assert mask_record(record) == PreferencePair(
        (Message("user", "我是【身份证号】"),), "拨【手机号】", "写【邮箱】或拨【手机号】", SOURCE
    )


def test_document_is_scanned_and_masked() -> None:
    record = TextRecord(f"一\n{MOBILE}\n二", SOURCE)

    assert scan_record(record) == {Kind.MOBILE_NUMBER: 1}
    assert mask_record(record) == TextRecord("一\n【手机号】\n二", SOURCE)


def test_record_without_findings_is_returned_itself() -> None:
    record = TextRecord("头痛三天", SOURCE)

    assert scan_record(record) == Counter()
    assert mask_record(record) is record


# -- discretion

ALONE = """
import os, socket, sys, tempfile

def refuse(*_):
    sys.exit("the network was asked for")

socket.socket.connect = socket.getaddrinfo = refuse
from medtune.data.privacy.scanner import scan_text
assert "presidio_analyzer" not in sys.modules, "loaded before the first scan"
assert len(scan_text("a@163.com, 13912345678")) == 2
assert "jieba" not in sys.modules, "loaded before a doubtful name"
assert len(scan_text("昨天陪王海燕去医院")) == 1
assert os.listdir(tempfile.gettempdir()) == [], "jieba left its cache"
"""


def test_libraries_are_loaded_late_and_leave_network_and_disk_alone(tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}

    done = subprocess.run(
        [sys.executable, "-c", ALONE],
        cwd=REPO,
        env=environment,
        check=True,
        timeout=60,
        capture_output=True,
    )

    assert (done.stdout, done.stderr) == (b"", b"")


def test_nothing_that_is_found_is_shown(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    record = TextRecord(f"姓名：李明，电话{MOBILE}", SOURCE)

    with caplog.at_level(logging.DEBUG):
        findings = scan_text(record.text)
        scan_record(record)
        mask_record(record)

    assert caplog.text == ""
    assert tuple(capsys.readouterr()) == ("", "")
    assert findings == [
        Finding(Kind.NAME, 3, 5),
        Finding(Kind.MOBILE_NUMBER, 8, 19),
    ]
    assert not [value for value in ("李明", MOBILE) if value in repr(findings)]
