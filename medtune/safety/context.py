"""Whether a sign found in a question is told of somebody now, or denied, past, or talked about.

没有胸痛，不胸痛，胸痛倒没有      negated
胸痛已经好了                      resolved
我奶奶三年前脑梗                  past
吃这个会引起吐血吗，怕大出血      feared: asked about or expected
如果胸痛应去哪个科                hypothetical
胸痛的鉴别诊断，如何预防脑卒中    discussed: knowledge, fiction, statistics
偶尔隐隐胸痛，好几年了            mild, and of long standing

What is not one of these stands. A negation reaches only the words right after it and the lists
"没有A、B和C", for whoever writes "没有发烧胸痛得厉害" is not to be left without advice.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass

REACH = 60  # characters before and after a sign that are read
BOUNDARY = re.compile(r"[,。!?;\n:]|\.(?!\d)")
SENTENCE_END = re.compile(r"[。!?;\n]|\.(?!\d)")

# -- negated

# No alternative is another one or the beginning of one: under a star, words that can be read in two
# ways take time that doubles with each.
FILLER = (
    r"(?:明显|什么|任何|特别|过|再|那种|这种|突然|伴|出现|感到|觉得|感觉|现在|目前|一直|也|都|急性"
    r"|典型|肉眼|的|剧烈|严重|太|很|怎么|想|要|打算|发生|发现|有|真|继续|去)"
)
SYMPTOM = (
    r"(?:发热|发烧|咳嗽|咳痰|胸闷|胸痛|气短|气促|心慌|心悸|恶心|呕吐|头晕|头痛|腹痛|腹泻|畏寒|寒战|乏力|咯血|黑便"
    r"|抽搐|昏迷)"
)
NOT = (
    r"(?:(?<!有)没有?|(?<![不毫])无(?!力)|未曾?|从未|从不|否认|并非|(?<![能没未])排除了?"
    r"|(?<![是会要能得可好])不(?![得但只单管论])(?:是|会|再|太|怎么|曾)?)"
)
NEGATED = re.compile(rf"{NOT}{FILLER}*$")
# "没有力气、胸痛": what is lacking is no symptom, so that the list tells of two.
LOSS = (
    r"(?:力|劲|食欲|胃口|精神|睡|吃|钱|时间|办法|意识|反应|知觉|尿|便|脉|心跳|月经|效|好转|缓解|退|停"
    r"|怎么)"
)
NEGATED_LIST = re.compile(
    rf"(?:(?:(?<!有)没有?|(?<!毫)无|未见|未诉|否认)(?:(?!{LOSS})[^,。]){{1,24}}(?:、|/|和|或者?|及|以及|与|跟)"
    rf"|(?:无|否认|未见){SYMPTOM}+){FILLER}*$"
)
DOUBLE_NEGATION = re.compile(
    r"(?:不是|并非|不能说|不可能|难道|不见得)(?:说)?(?:没有?|无|不)[^,。]{0,6}$"
    r"|没有?(?:一天|一刻|哪天|时候)?不[^,。]{0,4}$"
)
DENIED_AFTER = re.compile(
    r"的?(?:症状|情况|现象|感觉|念头|想法|这些|什么的|等)*(?:倒是?|也|都|暂时|目前|现在|从来)*[:,]?"
    r"(?:没有|没|无|否|阴性|\(-\))(?:了|过|出现|发生|吧|啊|呢|的)?(?:$|[,。!?;\n、])"
    r"|[^,。]{0,3}[?,](?:我|他|她)?(?:们)?(?:说|回答|答)?(?:没有|没)(?:$|[,。!;\n])"
)
ENGLISH_NEGATED = re.compile(
    r"(?<![a-z])(?:no|not|never|without|den(?:y|ies|ied)|don'?t have|doesn'?t have|didn'?t have"
    r"|do not have|isn'?t|free of)(?: (?:any|have|had|has|having|been|chest|pain|sign|signs|of|or"
    r"|and|trouble|the|severe|current))* $"
)

# -- past and resolved

PAST = re.compile(
    r"(?:[一二两三四五六七八九十几多\d半]个?多?(?:年|个?月)多?(?:之?前|以前)|去年|前年|小时候|年轻的?时候?|年轻时"
    r"|以前|从前|曾经?|既往|(?<![晕昏抽死憋睡])过去|当年|那年|上个月|\d岁(?:那年|时|的时候)|(?:19|20)\d\d年"
    r"|[得患]过|病史|年前|有一次|(?<!没)有一天|前一?段时间|那天|那次)"
)
PAST_AFTER = re.compile(
    r"的?(?:病史|史(?![^,。]{0,2}无前例)|家族史)|过?是[^,。]{0,6}(?:年前|以前)的事"
)
LATELY = r"今天|今早|今晚|今晨|刚才|刚刚|昨天|昨晚|昨夜|前天"
NOW = re.compile(
    rf"{LATELY}|现在|目前|最近|近来|这两天|这几天|又|再次|复发|仍|还是|一直|开始|至今|到现在|以来|越来越|加重|就"
)
RECENT = re.compile(rf"{LATELY}|突然|分钟|小时|早上|半夜|凌晨|上午|下午|晚上")
RESOLVED = re.compile(
    r"[^,。]{0,4},?(?:他|她|我)?(?:现在|后来|目前)?(?:已经?|早|都|就|全|完全|自己|慢慢|基本)*"
    r"(?:好了(?!又)|痊愈|治好|治愈|康复|恢复(?!过来)|消失|缓解了|没事了|没再|不再|没有再)"
)
RECURRED = re.compile(
    r"又(?!没)|复发|再次|再犯|(?:今天|现在|最近|昨天|刚才)[^,。]{0,6}(?:痛|疼|犯|发作|难受|厉害)"
)
ENGLISH_PAST = re.compile(
    r"years? ago|months? ago|last year|as a (?:child|kid)|history of|used to|in (?:19|20)\d\d"
    r"|previous(?:ly)?|in the past"
)

# -- feared, hypothetical, discussed

CAUSES = r"(?:引起|导致|造成|诱发|引发|变成|发展成|转变?成|并发)"
FEARED = re.compile(
    rf"(?:会不会|是否会|能不能|怕|担心|害怕|以防|恐|[会易能可]{CAUSES})"
    rf"(?:自己|以后|将来|突然|会|再|要|出现|发生|有|得|{CAUSES})*$"
)
MAY_ASKED = re.compile(r"(?:会|能)$")
ASKED_END = re.compile(r"[^,。]{0,3}吗")
NAMED = re.compile(r"[^,。]{0,4}是|[^,。]{0,6}会不会")  # "担心胸痛是心梗": the pain is there
HYPOTHETICAL = re.compile(r"如果|要是|假如|倘若|若是|一旦|万一|即使|遇到有?人|碰到|假设")
# What has happened, or a question what to do or whether to wait, is answered as if it were there.
HAPPENED = re.compile(
    r"[^,。]{0,4}了|.*(?:怎么办|怎么处理|怎么做|等到|能等|再等|观察|急救|要不要|能不能|该)"
)
KNOWLEDGE_BEFORE = re.compile(
    r"(?:什么是|何谓|何为|什么叫|简述|试述|论述|名词解释|解释|介绍|科普|预防|防止|防范|避免|远离|劝导"
    r"|哪些(?:疾病|病|药物|情况)|(?:能|可以)(?:治疗?|缓解|改善)|用于|主治|适用于|关于|鉴别)[^,。]{0,6}$"
)
KNOWLEDGE_AFTER = re.compile(
    r"(?:的|症状|现象|发作|患者|病人|行为|疾病|常见|主要|急性|倾向|前期|怎么|如何|怎样){0,3}(?:定义|概念|含义|什么意思|的意思|的?病因|发病机[制理]|机制|机理|鉴别|诊断标准|诊断要点|分类|分级|分型"
    r"|临床表现|的特点|的特征|征兆|的?前兆|先兆|早期信号|并发症|预后|发病率|死亡率|率|危险因素|高危|治疗原则"
    r"|护理|预防|后遗症|康复|恢复期|饮食|注意事项|指南|的?危害|有什么?区别|的区别|原理|知识|科普|竞赛|历史|法律|社会|研究"
    r"|文献|论文|新闻|英文|影响|的?原因(?:有|是|分析)|抢救原则|处理原则|遗传|传染|是什么样|(?:症状|表现)有?(?:哪|什么|是)"
    r"|有(?:什么|哪些|何)[^,。]{0,4}(?:症状|表现|前兆|特点)|这个?词|一词|那段|[^,。]{0,8}有(?:些什么|哪些))"
    r"|(?:的)?(?:患者|病人|人群|者)(?:能|可以|应|要|怎么|如何|吃|的|饮食|平时|为什么|有)"
)
FICTION = re.compile(
    r"小说|电影[里中]|电视剧?[里中上]|剧[里中]|主角|书名|新闻[里上说报]|歌词|论文|竞赛|动漫|漫画|历史上|古代|作文|书里|试题"
)
# Somebody in particular: then it is not a question about the matter in general.
PERSON = re.compile(
    r"我(?!国|院|校|们?国|们?[学班]|们?老师|就?想?(?:要|就|先)?(?:知道|了解|问|请教|咨询|查|学))|俺|(?<!其)他|她"
    r"|[爸妈爷奶姥哥姐弟妹]|老公|老婆|丈夫|妻子|儿子|女儿|(?<![a-z])(?:my|me|he|she|i'?m|i)(?![a-z])"
)
ENGLISH_KNOWLEDGE = re.compile(
    r"what (?:is|are|causes)|definition|causes? of|symptoms? of|signs? of|difference|prevent"
    r"|risk of|rates?|statistics|explain|treatments? (?:of|for)|guidelines|mechanism|define"
)
ENGLISH_AFTER = re.compile(r" (?:rates?|prevention|statistics|squad|definition|risk|symptoms)\b")

# -- mild

MILD = re.compile(r"隐隐|轻微|有点|有些|一点|轻度|稍微?|偶尔|有时|叹口气")
CHRONIC = re.compile(
    r"半年|[一二两三四五六七八九十几多\d]年|个月|多年|很久|长期|老毛病|一直都这样|检查都正常"
)
WORSE = re.compile(r"突然|加重|厉害|今天|越来越|剧|出汗|冷汗|放射|受不了")


@dataclass(frozen=True)
class Place:
    """The surroundings of a sign: of its clause and of its sentence, up to REACH characters."""

    clause_before: str
    clause_after: str
    before: str
    after: str
    """Up to REACH characters before and after, across clauses."""
    sentence_after: str
    sign: str


def place_of(text: str, start: int, end: int) -> Place:
    """Return the surroundings of text[start:end]."""
    before, after = text[max(0, start - REACH) : start], text[end : end + REACH]
    return Place(
        BOUNDARY.split(before)[-1],
        BOUNDARY.split(after)[0],
        before,
        after,
        SENTENCE_END.split(after)[0],
        text[start:end],
    )


def reading_of(place: Place, counts: Collection[str] = ()) -> str:
    """Return why a sign does not stand: the first reading that fits but for `counts`; or ""."""
    for name, fits in READINGS.items():
        if name not in counts and fits(place):
            return name
    return ""


def _is_negated(place: Place) -> bool:
    before = place.clause_before
    if DENIED_AFTER.match(place.after) or ENGLISH_NEGATED.search(before):
        return True
    if DOUBLE_NEGATION.search(before):
        return False
    return bool(NEGATED.search(before) or NEGATED_LIST.search(before))


def _is_past(place: Place) -> bool:
    before, after = place.clause_before, place.clause_after
    if RECURRED.search(place.sentence_after):
        return False
    if ENGLISH_PAST.search(before) or ENGLISH_PAST.search(after) or PAST_AFTER.match(after):
        return True
    return bool(PAST.search(before) and not NOW.search(before + place.sign + after))


def _is_resolved(place: Place) -> bool:
    return bool(
        RESOLVED.match(place.after)
        and not RECENT.search(place.clause_before + place.sign + place.clause_after)
        and not RECURRED.search(place.sentence_after)
    )


def _is_feared(place: Place) -> bool:
    return bool(FEARED.search(place.clause_before)) and not NAMED.match(place.clause_after)


def _is_hypothetical(place: Place) -> bool:
    return bool(HYPOTHETICAL.search(place.clause_before)) and not (
        HAPPENED.match(place.sentence_after) or "了" in place.sign
    )


def _is_discussed(place: Place) -> bool:
    before, after = place.clause_before, place.clause_after
    if PERSON.search(before + place.sign):
        return False
    return bool(
        KNOWLEDGE_BEFORE.search(before)
        or KNOWLEDGE_AFTER.match(after)
        or FICTION.search(before)
        or FICTION.search(after)
        or ENGLISH_KNOWLEDGE.search(before)
        or (MAY_ASKED.search(before) and ASKED_END.match(after))
        or ENGLISH_AFTER.match(after)
    )


def _is_mild(place: Place) -> bool:
    near = place.clause_before + place.sign + place.clause_after
    around = place.before + place.sign + place.after
    return bool(MILD.search(near) and CHRONIC.search(around) and not WORSE.search(around))


READINGS = {
    "negated": _is_negated,
    "past": _is_past,
    "resolved": _is_resolved,
    "feared": _is_feared,
    "hypothetical": _is_hypothetical,
    "discussed": _is_discussed,
    "mild": _is_mild,
}
