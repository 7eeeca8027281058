"""Chinese answers as clauses, and whether a clause asserts the words that are found in it.

不要自己吃四环素       "吃四环素" is negated
不是不能吃四环素       double negation, read as 可以吃四环素
能吃四环素吗？         a question asserts nothing
别以为没事，可以再等   the negation of a belief holds to the end of the sentence
直接停药是错误的       denied afterwards
"""

import re
from dataclasses import dataclass

from medtune.common.text import nfkc

MARKUP = re.compile(r"[*#`_~|>]+|^\s*(?:\d{1,2}[.、)]|[-•·])\s*", re.MULTILINE)
QUOTED = re.compile(r"[“\"「『《‘'][^”\"」』》’'\n]{2,60}[”\"」』》’']")
SENTENCE = re.compile(r"[^。!?;\n…]+[。!?;\n…]*")
CLAUSE_END = re.compile(r"[,:—]+|--+")

# Two negations are one permission or one duty, and are read as such from here on.
DOUBLE_NEGATIONS = (
    (
        re.compile(
            r"(?<!是)(?:并?不是|并非|不见得|未必|没有?说|不代表|没什么)(?:就|说|一定|完全|绝对|什么)*"
            r"(?:不能|不可以?|不行|不许|不准|不要(?!紧)|不宜|禁用|禁止)"
        ),
        "可以",
    ),
    (
        re.compile(r"(?:不需要|不用|不必|无需|没必要|没有必要)(?:刻意|特意)?(?:避免|禁|忌口?)"),
        "可以",
    ),
    (re.compile(r"(?:不能|不可以?|不得|不应该?|不要|别|不该)不(?!良|适|足|明|当|舒服)"), "必须"),
)

SOOTHING = r"(?:太|过度|过于)?(?:担心|紧张|着急|害怕|怕|慌|顾虑|犹豫|焦虑|难过|自责|客气)"
NEGATION = re.compile(
    r"(?:不要(?!紧|命)|不能|不可(?!避免|思议|逆|忽视)|不应|不宜|不该|不得(?![了已不])|不准|不许|不建议"
    r"|不推荐|不提倡|不主张|不适合|不会|不用|不必|不需|不再|不想|不敢|不让|不给|不予|不支持|不同意"
    r"|不允许|不赞成|不等于|不代表|不意味|不值得|不靠|不去|不看|不找|不随便|不擅自|不自行|不轻易"
    r"|(?<![特分区个级识辨鉴性类告离])别(?![的人处名嘌])|勿|切忌|忌(?!口)|严禁|禁止|禁用|禁服|避免|杜绝|拒绝"
    r"|反对|停止|停用|没必要|没有任何|没法|无法|难以|无需|无须|绝不|决不|切莫|怎么能|哪能|岂能|何必|用不着"
    r"|犯不着|替代|代替|而不|误以为|以为|误认为|没(?:有)?(?:必要|说|证据|依据|办法|推荐)|(?<!是)不是"
    rf"|并非)(?!{SOOTHING})"
)
NEGATION_REACH = 18  # characters between a negation and what it still negates

# "不要以为没事，可以再等": what follows is the belief, up to a word that turns back to advice.
BELIEF = re.compile(
    r"(?:不要|别|不能|不可|切勿|请勿|千万别)(?:因为|以为|觉得|认为|误以为|想着|听信|相信|轻信|信)"
    r"|误以为|误认为|^(?:很多|不少|有些|有的)?(?:人|老人|患者)?(?:总|常|都)?以为"
)
TURN = re.compile(
    r"^(?:而|应|请|但|需|必须|建议|其实|实际|正确|最好|否则|因此|所以|务必|马上|立即)"
)
REPORT = re.compile(
    r"(?:有人|网上|老人|老一辈|很多人|不少人|有些人|常听|传言|民间|电视|听说|俗话|邻居|朋友|婆婆|奶奶)"
    r"[^,]{0,4}(?:说|认为|觉得|以为|传|讲|演)"
)
DENIAL_WORDS = (
    r"(?:(?<!没)错|不对|误区|误解|误传|谣言|假的|不实|没有?根据|没有?依据|不成立|不正确|不准确)"
)
DENIED = re.compile(rf"(?:的|是|说法|想法|做法|观点|这话).{{0,8}}{DENIAL_WORDS}")
DISAPPROVAL_WORDS = (
    r"(?:(?<![不没])危险|(?<!没)有害|不可取|不行|不妥|要不得|不安全|不合适|不科学|没有?用|不管用|不够"
    r"|行不通|不可行|使不得|有.{0,3}风险|不会(?:好|更|变|让|有)|没有?作用|无效|不沾|不负责任|中毒|过量|违法|弊.{0,3}大于利|收起|不好(?!的?话)|没有?道理|不应该?|不可以|不能|禁用|禁忌|避免|慎用|会害|不值得)"
)
# What comes of an action tells against it: "喂它可能引起窒息", "突然停掉，会复发".
HARM = (
    r"(?:可能|会|容易|极易|只会|将|反而|能)[^,]{0,6}(?:引起|造成|导致|诱发|引发|损伤|损害|伤|中毒|致命|致畸|影响"
    r"|加重|增加|降低|心慌|呕吐|腹泻|过敏|恶化|过量|超量|出现|反弹|复发|窒息|危及|丧命|更高|出血|昏迷|休克|耽误|耐药|没命|抑制)"
)
HARM_NEXT = re.compile(r"^(?:这|那|就|也|都|很|更|还)?" + HARM)
# "用胰岛素时", "用胰岛素要注意": the words only name the occasion of what follows.
OCCASION = re.compile(r"^的?(?:(?:时候?|期间)(?:$|要|需|应|请)|(?:要|需要?|应|请)?注意)")
DISAPPROVED = re.compile("|".join((DISAPPROVAL_WORDS, DENIAL_WORDS, HARM)))
REFERS_BACK = re.compile(r"^(?:这|那|此|该|都|也是|是)(?!样就|就|会儿)")
QUESTION = re.compile(
    r"是否|能否|可否|能不能|可不可以|是不是|要不要|该不该|行不行|会不会|需不需要|有没有|用不用|难道"
)
QUESTION_END = re.compile(r"(?:吗|么|呢|吧)$")
CONDITION = re.compile(r"如果|若(?!干)|一旦|要是|假如|倘若|万一|除非|即使|哪怕")
CONSEQUENCE = re.compile(r"可以|就|请|应|要|必须|马上|立即|尽快|立刻|需|也")
DEFERRAL = re.compile(
    r"(?:再|才|顺便|有空|明天|后天|过[一两几三]?[天日]|几天|周末|下周|天亮|改天|下次|以后|的时候|之后)"
    r"[^,]{0,8}$"
)


@dataclass(frozen=True)
class Sentence:
    """The clauses of a sentence, without punctuation, and whether it ends with a question mark."""

    clauses: tuple[str, ...]
    is_question: bool


@dataclass(frozen=True)
class Found:
    """Words found in a clause: clause number `at` of the sentence, characters start to end."""

    sentence: Sentence
    at: int
    start: int
    end: int

    @property
    def clause(self) -> str:
        """The clause that the words are in."""
        return self.sentence.clauses[self.at]


def sentences_of(answer: str) -> list[Sentence]:
    """Return an answer's sentences: one width of signs, no markup, quotations left out.

    What is quoted is spoken about, mostly to deny it. Double negations are resolved.
    """
    text = QUOTED.sub("", MARKUP.sub("", nfkc(answer).casefold()))
    text = re.sub(r"[ \t\u3000]+", "", text)
    for pattern, plain in DOUBLE_NEGATIONS:
        text = pattern.sub(plain, text)
    sentences = []
    for match in SENTENCE.finditer(text):
        body = match.group().rstrip("。!?;\n…")
        clauses = tuple(clause for clause in CLAUSE_END.split(body) if clause)
        if clauses:
            sentences.append(Sentence(clauses, "?" in match.group()))
    return sentences


def is_stated(found: Found) -> bool:
    """True if the words are said by the answer itself: not asked, negated, reported or denied."""
    return not (_is_asked(found) or _is_negated(found) or _is_reported(found) or _is_denied(found))


def is_advised(found: Found) -> bool:
    """True if the words are stated, not a mere hypothesis, and not disapproved of afterwards."""
    after = found.clause[found.end :]
    return is_stated(found) and not (
        _is_hypothesis(found)
        or OCCASION.search(after)
        or DISAPPROVED.search(after)
        or _next_says(found, DISAPPROVED)
        or any(HARM_NEXT.search(clause) for clause in _next(found))
    )


def is_urged_now(found: Found) -> bool:
    """True if the words are stated without a condition and without delay."""
    so_far = found.sentence.clauses[: found.at]
    before = found.clause[: found.start]
    is_conditional = any(CONDITION.search(clause) for clause in (*so_far, before))
    return is_stated(found) and not is_conditional and not DEFERRAL.search(before)


def _is_asked(found: Found) -> bool:
    is_last = found.at == len(found.sentence.clauses) - 1
    if is_last and found.sentence.is_question:
        return True
    before = found.clause[: found.end]
    ends_asking = QUESTION_END.search(found.clause) and not found.clause.endswith("吧")
    return bool(QUESTION.search(before) or ends_asking)


def _is_negated(found: Found) -> bool:
    for match in NEGATION.finditer(found.clause):
        if match.start() < found.start and found.start - match.end() <= NEGATION_REACH:
            return True
    return _follows_belief(found)


def _follows_belief(found: Found) -> bool:
    is_belief = False
    for clause in found.sentence.clauses[: found.at]:
        is_belief = bool(BELIEF.search(clause)) or (is_belief and not TURN.search(clause))
    return is_belief and not TURN.search(found.clause)


def _is_reported(found: Found) -> bool:
    return bool(REPORT.search(found.clause[: found.start]))


def _is_denied(found: Found) -> bool:
    return bool(DENIED.search(found.clause[found.end :])) or _next_says(
        found, re.compile(DENIAL_WORDS)
    )


def _next_says(found: Found, pattern: re.Pattern[str]) -> bool:
    """True if the next clause speaks of this one ("这样…") and says it."""
    return any(REFERS_BACK.search(clause) and pattern.search(clause) for clause in _next(found))


def _next(found: Found) -> tuple[str, ...]:
    return found.sentence.clauses[found.at + 1 : found.at + 2]


def _is_hypothesis(found: Found) -> bool:
    match = CONDITION.search(found.clause[: found.start])
    return match is not None and not CONSEQUENCE.search(found.clause[match.end() : found.end])
