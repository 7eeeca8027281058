"""A seeded set of invented sentences with and without patients' data, and what a scan of it finds.

    python -m tests.data.privacy_samples

prints the three tables of docs/privacy.md. All numbers are generated and all sentences were written
for this set. The patterns were mended until they found most of TEMPLATES, and then, once
FRESH_TEMPLATES had shown how little of other words they found, most of those. The sentences of
privacy_held_out.py are for measuring alone: nothing is mended for them.
"""

import random
import re
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import date, timedelta
from math import nan
from typing import NamedTuple

from medtune.data.privacy.scanner import Finding, Kind, scan_text
from tests.data.privacy_held_out import HELD_OUT_LOOK_ALIKES, HELD_OUT_TEMPLATES

SEED = 20240611
NUM_POSITIVES = 200  # sentences for each kind
QQ = "qq"  # the key of sentences for a messenger's number
NUM_LOOK_ALIKES = 24  # sentences for each template


class Sample(NamedTuple):
    """A sentence and the findings that are right for it."""

    text: str
    expected: tuple[Finding, ...]


class Score(NamedTuple):
    """Findings of one kind: right, wrong and missed ones."""

    right: int
    wrong: int
    missed: int

    @property
    def precision(self) -> float:
        return divide(self.right, self.right + self.wrong)

    @property
    def recall(self) -> float:
        return divide(self.right, self.right + self.missed)


def divide(part: int, whole: int) -> float:
    return part / whole if whole else nan


def words(text: str) -> list[str]:
    return text.split()


def digits(rng: random.Random, count: int) -> str:
    return "".join(rng.choices("0123456789", k=count))


def full_width(number: str) -> str:
    return "".join(chr(ord(sign) + 0xFEE0) if sign != " " else "\u3000" for sign in number)


def luhn_digit(number: str) -> str:
    """The digit that makes number + digit pass: counted by hand from the right, not by a slice."""
    total = 0
    for place, digit in enumerate(reversed(number)):
        value = int(digit) * (2 if place % 2 == 0 else 1)
        total += value - 9 if value > 9 else value
    return str(-total % 10)


def identity_check_digit(number: str) -> str:
    """The 18th character by ISO 7064 MOD 11-2: the weights are powers of two modulo 11."""
    total = sum(int(digit) * pow(2, 17 - place, 11) for place, digit in enumerate(number))
    return "0123456789X"[(12 - total % 11) % 11]


# -- one value of each kind

MOBILE_PREFIXES = words("130 133 135 136 138 139 145 147 150 152 155 158 159 166 172 176 177 178")
MOBILE_PREFIXES += words("180 181 183 186 188 189 191 193 195 198 199")
GIVEN_NAMES = words(
    "伟 芳 娜 敏 静 丽 强 磊 洋 艳 勇 军 杰 娟 涛 明 超 秀英 霞 平 刚 桂兰 建国 志强 晓明 海燕 "
    "玉珍 淑芬 "
    "国庆 小红 文博 子涵 梓轩 雨桐 欣怡 思远 佳慧 宇航 浩然 俊杰 婷婷 丹丹 春梅 凤英 德华 永康 瑞 "
    "琳 鹏 "
    "飞 辉 波 宁 云 莉 婧 翔 旭东 金凤 秋月 大勇 福生 长林 彩霞 晨曦 若兰 一诺 可欣 嘉怡 天佑 "
    "安琪 乐天"
)
FAMILY_NAMES = words(
    "王 李 张 刘 陈 杨 赵 黄 周 吴 徐 孙 胡 朱 高 林 何 郭 马 罗 梁 宋 郑 谢 韩 唐 冯 于 董 萧 程 "
    "曹 袁 邓 许 傅 "
    "沈 曾 彭 吕 苏 卢 蒋 蔡 贾 丁 魏 薛 叶 阎 余 潘 杜 戴 夏 钟 汪 田 任 姜 范 方 石 姚 谭 廖 邹 "
    "熊 金 陆 郝 孔 白 "
    "崔 康 毛 邱 秦 江 史 顾 侯 邵 孟 龙 万 段 雷 钱 汤 尹 黎 易 常 武 乔 贺 赖 龚 文 欧阳 上官 "
    "司马 诸葛 "
    "亓 逄 晁"
)
CITIES = (
    ("浙江省", "杭州市", "西湖区"), ("江苏省", "南京市", "鼓楼区"), ("四川省", "成都市", "武侯区"),
    ("湖北省", "武汉市", "江岸区"), ("广东省", "佛山市", "顺德区"), ("山东省", "青岛市", "市北区"),
    ("河南省", "洛阳市", "涧西区"), ("湖南省", "长沙市", "岳麓区"), ("陕西省", "西安市", "雁塔区"),
    ("", "上海市", "徐汇区"), ("", "北京市", "海淀区"), ("", "重庆市", "渝中区"),
    ("福建省", "泉州市", "晋江市"), ("河北省", "保定市", "清苑县"), ("云南省", "曲靖市", "宣威市"),
)  # fmt: skip
STREETS = words("青松路 学府大道 桃源街 望江东路 柳荫巷 建设二路 石板胡同 滨河南路 育才街 长乐中路")
ESTATES = words("翠竹小区 阳光花园 金桂苑 和平新村 锦绣家园 东湖公寓 铁路宿舍 香樟里")
TOWNS = words("清水镇 白石乡 大田镇 柳河镇 双桥街道 红旗乡")
VILLAGES = words("王家村 李庄 前进村 上湾村 张家屯 下河村")
WORDS = words("sunny blue tiger lucky apple green happy river moon cloud")


def make_mobile_number(rng: random.Random) -> str:
    number = rng.choice(MOBILE_PREFIXES) + digits(rng, 8)
    first, middle, last = number[:3], number[3:7], number[7:]
    return rng.choice(
        [
            *[number] * 5,
            f"{first} {middle} {last}",
            f"{first}-{middle}-{last}",
            f"+86 {number}",
            f"+86{number}",
            f"86-{number}",
            f"{number[:4]} {number[4:8]} {number[8:]}",
            f"{first} {middle}{last}",
            full_width(number),
        ]
    )


def make_identity_number(rng: random.Random) -> str:
    region = rng.choice(words("11 12 13 21 31 32 33 34 37 41 42 43 44 50 51 53 61 62 65"))
    birth = date(1935, 1, 1) + timedelta(days=rng.randrange(30000))
    number = region + digits(rng, 4) + birth.strftime("%Y%m%d") + digits(rng, 3)
    number += identity_check_digit(number)
    cut = rng.randrange(4, 15)
    return rng.choice(
        [
            *[number] * 5,
            number.lower(),
            f"{number[:6]} {number[6:14]} {number[14:]}",
            f"{number[:6]}-{number[6:14]}-{number[14:]}",
            f"{number[:cut]}\n{number[cut:]}",
            full_width(number),
        ]
    )


def make_bank_card(rng: random.Random) -> str:
    issuer, length = rng.choice(
        [("62", 19), ("62", 16), ("6217", 19), ("6228", 19), ("4", 16), ("52", 16), ("955880", 19)]
    )
    number = issuer + digits(rng, length - len(issuer) - 1)
    number += luhn_digit(number)
    grouped = " ".join(number[place : place + 4] for place in range(0, length, 4))
    return rng.choice(
        [number, number, number, grouped, grouped.replace(" ", "-"), full_width(number)]
    )


def make_email(rng: random.Random) -> str:
    name = rng.choice(WORDS) + rng.choice(["", ".", "_", "-"]) + rng.choice(WORDS)
    name += rng.choice(["", digits(rng, 2), digits(rng, 4)])
    hosts = ["163.com", "qq.com", "126.com", "mail.example.edu.cn", "example.org", "sina.com.cn"]
    address = rng.choice([name, digits(rng, 9)]) + "@" + rng.choice(hosts)
    return rng.choice([address, address, address, address.upper(), full_width(address)])


def make_landline_number(rng: random.Random) -> str:
    area = rng.choice(words("010 021 0571 0755 028 0931"))
    number = str(rng.randint(2, 8)) + digits(rng, rng.choice([6, 7]) if len(area) > 3 else 7)
    return rng.choice([f"{area}-{number}", f"({area}){number}", f"（{area}）{number}"])


def make_messenger(rng: random.Random) -> str:
    return rng.choice(
        [
            str(rng.randint(1, 9)) + digits(rng, rng.randint(5, 9)),
            rng.choice(WORDS) + "_" + digits(rng, 3),
            rng.choice(WORDS) + digits(rng, 4),
            "wxid_" + "".join(rng.choices("abcdefgh0123456789", k=12)),
        ]
    )


def make_record_number(rng: random.Random) -> str:
    return rng.choice(
        [
            digits(rng, rng.randint(6, 10)),
            f"ZY{digits(rng, 10)}",
            f"{rng.randint(2015, 2023)}{digits(rng, 6)}",
            f"M{digits(rng, 3)}-{digits(rng, 5)}",
            f"0000{digits(rng, 6)}",
            full_width(digits(rng, 8)),
        ]
    )


def make_name(rng: random.Random) -> str:
    return rng.choice(FAMILY_NAMES) + rng.choice(GIVEN_NAMES)


def make_address(rng: random.Random) -> str:
    province, city, district = rng.choice(CITIES)
    number, room = rng.randint(1, 300), rng.randint(101, 2904)
    street, estate = rng.choice(STREETS), rng.choice(ESTATES)
    return rng.choice(
        [
            f"{province}{city}{district}{street}{number}号",
            f"{city}{district}{street}{number}号{rng.randint(1, 30)}栋{room}室",
            f"{district}{street}{number}号",
            f"{city}{estate}{rng.randint(1, 30)}栋{rng.randint(1, 6)}单元{room}室",
            f"{estate}{rng.randint(1, 30)}号楼{rng.randint(1, 6)}单元{room}",
            f"{province}{city}{rng.choice(TOWNS)}{rng.choice(VILLAGES)}{rng.randint(1, 12)}组",
            f"{district}{rng.choice(TOWNS)}{rng.choice(VILLAGES)}{number}号",
            f"{province}{city}{district}{estate}{rng.choice('ABC')}座{room}",
        ]
    )


# -- sentences around a value, one a line; / is a line end

TEMPLATES = {
    Kind.MOBILE_NUMBER: """
        {value}
        有事请拨{value}，白天都在。
        打我手机{value}就行，谢谢医生
        您把报告发到{value}吧
        孩子爸爸的号码：{value}
        回访登记：{value}（母亲）
        Tel: {value}
        如需复查请致电{value}。
        留言/{value}/谢谢大夫
        他说明天上午联系{value}，在家等
        电话是{value}！
        手机/{value}
        白天打不通就打{value}或者留言
        （{value}）晚上八点以后方便
        门诊随访表最后一栏写着{value}
        护士站可以先联系他爱人{value}，再通知我
        您好，我的联系方式{value}，麻烦把化验单拍给我
        电话1：{value}；电话2：无
        预留号码为{value}的用户您好
        小孩外婆{value}，妈妈上班接不了
        随时可以找我，{value}
        该患者儿子电话号码已更新为{value}
        微信同号 {value}
        住院通知短信发到了{value}上
        值班留的号{value}，没人接
    """,
    Kind.IDENTITY_NUMBER: """
        {value}
        证件：{value}
        身份证号码{value}，已核对。
        公民身份号码 {value}
        本人{value}，来办理住院手续。
        实名信息/{value}/
        建档用的是{value}这个号
        监护人证件号为{value}；
        ID card: {value}.
        （{value}）信息无误
        参合人证号{value}
        户口本上是{value}没错
        挂号实名：{value}
        出生证明办理人{value}，现场核验
        证件类型：居民身份证  证件号码：{value}
        医保系统里登记的是{value}
        新生儿父亲{value}，母亲资料缺
        核酸检测 {value} 阴性
        身份号码：{value}。住址同前
    """,
    Kind.BANK_CARD: """
        {value}
        报销款请打到卡上：{value}
        卡号{value}，开户行在县里
        银行账户：{value}。
        建行 {value}，户名是我爱人
        退费请退回原卡/{value}/谢谢
        这张银行卡{value}绑定了医保
        缴费的卡是{value}，请查一下
        押金从{value}扣的
        农行储蓄卡尾号对不上，完整卡号{value}
        收款人账号 {value}
        汇到这个号就可以：{value}，谢谢
        绑定的借记卡（{value}）已过期
        互助金发放至{value}
        卡片正面数字：{value}
        这是老人的存折卡 {value}
        我用{value}付的款，怎么退
    """,
    Kind.EMAIL: """
        检查结果发{value}就好
        邮箱{value}谢谢
        Email：{value}
        {value}
        请把片子传到{value}。
        病友可以写信给我（{value}）
        留个地址：{value}，有空回我
        发件人/{value}/主题：复查
        通讯作者，E-mail:{value}
        影像资料请抄送{value}和科室
        我的电子邮件地址是{value}
        电子版病历发送至{value}，收到请回复
        收件：{value} 抄送：医务科
        如有疑问来信{value}，三日内答复
        账号{value}登录不了挂号平台
        联系邮箱:{value}；
    """,
    Kind.MESSENGER: """
        微信号：{value}
        WeChat ID: {value}
        我的vx是{value}，
        微信账号 {value} 可以发照片
        微信/号：{value}
        微信id:{value}谢谢
        wx：{value}
        V信号：{value}
        方便的话加微信：{value}
        要看伤口照片的话，微信搜{value}
        可以加我的微信，号是{value}
        有问题微信联系：{value}
        我微信{value}，随时问
        病友交流微信：{value}
        个人微信 {value}
        WeChat:{value}
        想进病友群先加我{value}，这是微信
        微信:{value}（护士小周）
        我把舌苔照片放微信了，号{value}
        联系方式（微信）{value}
        vx {value} 备注挂号
    """,
    Kind.RECORD_NUMBER: """
        住院号：{value}
        病案号{value}，请调阅。
        门诊号 {value}
        就诊卡号是{value}
        医保卡号：{value}
        MRN: {value}
        （住院号{value}）
        病理号/{value}
        社保号：{value}，异地
        影像号：{value}
        病历编号 {value} 已归档
        患者ID：{value}
        健康卡号{value}。
        标本编号：{value}
        住院号 No.{value}
        诊疗卡号为{value}
        登记号：{value}
        病房登记 {value}
        上次的住院号码是{value}
        病案首页编号：{value}
        ID号{value}，昨天做的CT
        在贵院的就诊号：{value}
        医保编号：{value}，职工医保
        检验单号{value}的结果出来了吗
        病历本号 {value}
        我的病历号{value}，能查到吗
        住院流水 {value}
        影像检查号:{value}
        医保卡{value}，今天刷不出来
        门诊病历号为：{value}
        床头卡 {value} 一级护理
    """,
    Kind.NAME: """
        姓名：{value}  性别：男
        患者{value}，男，{2-88}岁，反复咳嗽两周。
        病人{value}因胸痛入院。
        {value}，女，{2-88}岁，头晕三天。
        联系人：{value}（母子关系）
        家属{value}签字同意手术。
        患儿{value}，{2-11}个月，发热。
        我叫{value}，今年{2-88}岁。
        监护人 {value}
        姓    名：{value}/年    龄：{2-88}岁
        患者姓名:{value},科别:内科
        紧急联系人：{value} 电话见背面
        患者{value}于2021年3月无明显诱因出现腹痛
        会诊记录。{value}，男，{2-88}岁，术后第二天。
        产妇{value}，{20-45}岁，孕39周
        患者：{value}，女，{2-88}岁
        患者{value}的家属来院咨询
        孩子名叫{value}，夜里哭闹
        委托人：{value}/日期
        病员{value}今日出院
        床位3 {value} 二级护理
        病人姓名：{value}，住三楼
        我是{value}的妈妈，想问一下
        患者{value}，{2-88}岁女性，停经42天
        兹有患者{value}在我院就诊
        申请人：{value}
        患者 {value} 男 {20-80}岁 汉族
        这是我爸爸{value}的片子
        家长{value}陪同来诊
        患者姓名　{value}　性别　女
        死者{value}，男，殁年{20-80}岁
        患儿，{value}，女，{2-9}岁
        患者{value}，{20-80}岁，农民，因腹痛3天入院
        被检查人：{value}
        老人叫{value}，走失时穿蓝衣服
        {value}（男，{20-80}岁）因车祸送来
        家属：{value}，与患者系夫妻
        今天给{value}做了胃镜
        {value} 女 {20-80}岁 门诊
        报告属于{value}本人
        患者名字：{value}
    """,
    Kind.ADDRESS: """
        现住{value}。
        家庭住址：{value}
        户籍地 {value}
        {value}，邮编请查
        药请寄到{value}，谢谢
        我家在{value}，离医院远
        {value}
        地址/{value}/电话另附
        出院后住在{value}，由女儿照顾
        常住地为{value}；
        他从{value}赶来看病
        患者籍贯及住址为{value}。
        联系地址：{value}（夜间有人）
        病人目前居住在{value}
        快递发{value}，收件人写我妈
        我是{value}的居民，这几天被隔离
        住址 {value} 邮编待补
        急救车请到{value}，老人晕倒了
        籍贯：{value}
        户口所在地：{value}
        我们一家住{value}，楼上漏水
        救护车，快来，{value}，有人晕倒
        送药上门：{value}
        密接者家住{value}，已转运
    """,
    Kind.LANDLINE_NUMBER: """
        家里电话{value}
        联系电话：{value}
        座机{value}，白天有人
        患者家属电话 {value}
        固定电话：{value}
        打{value}找我妈
        Tel: {value}
        宅电{value}
    """,
    QQ: """
        QQ{value}
        扣扣：{value}，麻烦加一下
        QQ号码为{value}。
        QQ：{value}/请备注病友
        QQ {value}
        QQ联系{value}
        我的qq号{value}
        QQ号：{value}（工作时间在线）
    """,
}
# In words as far from those above as could be thought of.
FRESH_TEMPLATES = {
    Kind.MOBILE_NUMBER: """
        复诊提醒请发我老公{value}
        登记人留言：{value}（不识字，请打电话）
        主管护师转告{value}机主
        {value}是我姐的，急事打这个
        拨了三次{value}都占线
    """,
    Kind.IDENTITY_NUMBER: """
        证号 {value}，异地就医备案
        签字人{value}已到场
        疫苗接种人：{value}
        把{value}录进系统就能取号
    """,
    Kind.BANK_CARD: """
        工资卡号码为{value}
        理赔到账请用{value}
        老公的信用卡{value}分期付手术费
        家里只有这一张：{value}
    """,
    Kind.EMAIL: """
        病理切片扫描件转{value}
        投诉可写至 {value} 。
        邮箱地址填的是{value}，一直没收到
        {value}（主任邮箱）
    """,
    Kind.MESSENGER: """
        我的微信号码{value}，晚上在线
        家属群里加了{value}，是微信
        加V：{value}
        微信名片 {value}
        WECHAT {value}，麻烦通过
        微信私聊{value}发检查单
    """,
    Kind.RECORD_NUMBER: """
        请查一下住院病历：{value}
        诊疗号 {value} 的化验
        医保个人编号{value}
        病人档案号{value}，旧档在地下室
        CT号：{value}，对比前片
        条码贴的是{value}
    """,
    Kind.NAME: """
        您好医生，病人是我母亲，叫{value}
        患者系{value}，{20-80}岁，工人
        就诊卡姓名{value}，余额不足
        兹证明{value}，女，{20-80}岁，诊断属实
        {value}，{20-80}岁，确诊两年
        请{value}到三号诊室
        护士，{value}的点滴完了
        患者{value}由120送入抢救室
        陪护家属姓名：{value}
    """,
    Kind.ADDRESS: """
        暂住地{value}，房东代收
        上门护理地点：{value}
        病例活动轨迹：{value}至超市
        老家{value}，在外打工
        发病前一直住{value}
    """,
    Kind.LANDLINE_NUMBER: """
        手机不通就回电{value}
        老人家里的号码是{value}
        我家座机号为{value}，没有手机
        拨{value}能找到孩子奶奶
    """,
}
MAKERS: dict[Kind, Callable[[random.Random], str]] = {
    Kind.MOBILE_NUMBER: make_mobile_number,
    Kind.IDENTITY_NUMBER: make_identity_number,
    Kind.BANK_CARD: make_bank_card,
    Kind.EMAIL: make_email,
    Kind.LANDLINE_NUMBER: make_landline_number,
    Kind.MESSENGER: make_messenger,
    Kind.RECORD_NUMBER: make_record_number,
    Kind.NAME: make_name,
    Kind.ADDRESS: make_address,
}


def lines_of(templates: str) -> list[str]:
    return [line.strip().replace("/", "\n") for line in templates.strip().splitlines()]


def fill(rng: random.Random, template: str) -> str:
    """A template with {90-190} as a number between the two and {d8} as eight digits."""

    def value_of(match: re.Match[str]) -> str:
        slot = match[1]
        if slot in SLOTS:
            return SLOTS[slot](rng)
        if slot.startswith("d"):
            return digits(rng, int(slot[1:]))
        low, high = map(int, slot.split("-"))
        return str(rng.randint(low, high))

    return re.sub(r"\{([a-z_0-9-]+)\}", value_of, template)


def positives(rng: random.Random, kind: Kind, sentences: Mapping[str, str]) -> list[Sample]:
    """NUM_POSITIVES sentences with one value of a kind each."""
    samples = []
    for _ in range(NUM_POSITIVES):
        value, templates = MAKERS[kind](rng), sentences[kind]
        is_number = kind is Kind.MESSENGER and value.isdigit()
        if is_number and QQ in sentences and rng.random() < 0.8:
            templates = sentences[QQ]
        before, after = rng.choice(lines_of(templates)).split("{value}")
        before, after = fill(rng, before), fill(rng, after)
        found = Finding(kind, len(before), len(before) + len(value))
        samples.append(Sample(before + value + after, (found,)))
    return samples


# -- sentences in which there is nothing to find


def wrong_identity_number(rng: random.Random) -> str:
    number = f"33010619{rng.randint(40, 99)}0{rng.randint(1, 9)}1{digits(rng, 4)}"
    right = identity_check_digit(number)
    return number + rng.choice([digit for digit in "0123456789" if digit != right])


def wrong_bank_card(rng: random.Random) -> str:
    number = "62" + digits(rng, 16)
    return number + str((int(luhn_digit(number)) + rng.randint(1, 9)) % 10)


SURNAME_WORDS = words(
    "白血病 黄疸 高血压 方剂 金银花 白癜风 黄体酮 高脂血症 石膏 牛黄 马齿苋 何首乌 温病 白带 "
    "毛囊炎 "
    "包皮过长 关节炎 水痘 安眠药 易疲劳 左侧肢体 单侧 严重 乐观 于是 何时 万一 高热 黄芩 白术 "
    "龙胆草 "
    "全身 常规 平时 胡言乱语 雷尼替丁 甘草 孟鲁司特 贺普丁 尤其 应该 高龄 任何 施行 明显 路过 解痉 "
    "成人 农药 计划"
)
SLOTS: dict[str, Callable[[random.Random], str]] = {
    "mobile": lambda rng: rng.choice(MOBILE_PREFIXES) + digits(rng, 8),
    "long": lambda rng: digits(rng, rng.randint(16, 19)),
    "wrong_identity_number": wrong_identity_number,
    "wrong_bank_card": wrong_bank_card,
    "surname": lambda rng: rng.choice("张李王刘陈"),
    "masked": lambda rng: rng.choice(["某", "某某", "XX", "**", "×"]),
    "title": lambda rng: rng.choice(words("医生 主任 教授 先生 女士 护士 老师")),
    "word": lambda rng: rng.choice(SURNAME_WORDS),
    "city": lambda rng: rng.choice(CITIES)[1],
    "place": lambda rng: "".join(rng.choice(CITIES)),
    "street": lambda rng: rng.choice(STREETS),
}
# Doses, laboratory values and dates; numbers of things; public numbers; codes; masked names and
# words that begin like a name; places that are nobody's home.
LOOK_ALIKES = """
    阿莫西林胶囊0.{d2}g×{1-3}，每日{1-4}次，共{3-14}天
    血压{90-190}／{60-110}mmHg，心率{55-120}次每分
    白细胞{2-20}.{d2}×10^9，血小板{50-400}×10^9，CRP {d3}mg
    {2001-2023}-{10-12}-{10-28} 08:{d2} 体温3{6-9}.5
    血钠{130-150} {1000-1990} {1000-2000}/钾{3-5}.{d2}
    乙肝病毒DNA 2{d10} IU
    细胞计数为{1-9}.{d11}，重复三次
    参考值0.{mobile}，结果正常
    {d4} {d4} {d4}（每日步数，连续三天）
    体重记录：{50-90} {50-90} {50-90} {50-90}公斤
    订单号：{mobile}，已发货
    快递单号 {mobile}
    订单编号{long}，请收好
    交易流水号：62{d17}
    药品追溯码8{d19}
    商品条码：69{d11}
    国药准字H{d8}，批号：{d8}
    国药准字Z{d8} 产品批号{mobile}
    ISBN 978-7-{d3}-{d5}-{d1}，内科学第{3-9}版
    ISBN：9787{d9}
    doi:10.{d4}-cma.j.issn.{d4}-{d4}.2020.{d2}.0{d2}
    注册号 ChiCTR{d10}；NCT{d8}
    临床登记号：NCT{d8}
    序列号SN{d12}，呼吸机型号V{d3}
    长数字{mobile}{d6}不是电话
    编号{wrong_identity_number}是样品条形码
    随机数{wrong_bank_card}
    随机序列 {d22}
    医疗器械注册证编号：国械注准{2014-2023}3{d6}
    急救请拨120，火警119，咨询热线400-{d3}-{d4}
    卫生热线12320，心理援助热线{400-401}{d7}
    医院总机010-{5-8}{d7}转{d3}
    关注微信公众号jiankang{d4}了解科普
    扫微信二维码缴费，第{1-9}诊室排队{1-90}号
    用户@sunny{d2}提问：{1-9}@{d2}是什么意思
    CYP2C{d2}基因rs{d8}位点，HLA-B*{d4}阳性
    ICD-10编码I{d2}.{d3}，评分{1-15}分
    染色体{1-22}号，外显子{1-30}号缺失
    门诊号源{10-99}个，住院部{1-9}号楼{1-20}层
    住院号码牌共{10-99}块，门诊号只在当天有效
    检查编号规则见{2015-2023}年版手册
    患者{surname}{masked}，男，{20-80}岁
    {surname}{title}建议{1-9}周后复查
    联系人：{surname}{title}
    患者{word}就诊，{20-80}岁
    患者{word}，{1-9}天后好转
    病人{word}因此就诊，{20-80}岁
    病人{word}入院怎么办
    患者：{word}/医生：多休息{1-9}天
    家属{word}要求复查
    {word}，男性多见，{20-80}岁以上高发
    {word}，女，{20-80}岁，请问怎么治
    孩子叫救护车，{2-9}岁
    {city}第三人民医院{1-20}楼内科
    某某医院地址：{place}{street}{1-300}号
    生产企业：康宁药业有限公司，生产地址：{place}{street}{1-300}号
    他住在{city}，{1-12}月{1-28}号来复查
    消化道{1-9}号切片，尿路{1-9}号标本，病区{1-60}号床
"""


def look_alikes(rng: random.Random, templates: str = LOOK_ALIKES) -> list[Sample]:
    """NUM_LOOK_ALIKES sentences of each template, in which nothing is to be found."""
    return [Sample(fill(rng, line), ()) for line in lines_of(templates) * NUM_LOOK_ALIKES]


def make_samples(
    seed: int = SEED, sentences: Mapping[str, str] = TEMPLATES, others: str = LOOK_ALIKES
) -> list[Sample]:
    """The whole set: the positives of every kind that has sentences, then the look-alikes."""
    rng = random.Random(seed)
    kinds = [kind for kind in Kind if kind in sentences]
    return [s for kind in kinds for s in positives(rng, kind, sentences)] + look_alikes(rng, others)


def make_fresh_samples(seed: int = SEED) -> list[Sample]:
    """Positives of every kind in other words, and the same look-alikes."""
    return make_samples(seed, FRESH_TEMPLATES)


def make_held_out_samples(seed: int = SEED) -> list[Sample]:
    """Positives and look-alikes that nothing was mended for."""
    return make_samples(seed, HELD_OUT_TEMPLATES, HELD_OUT_LOOK_ALIKES)


def compute_scores(samples: list[Sample]) -> dict[Kind, Score]:
    """Score a scan of the samples; a finding is right if its kind and both its ends are."""
    right: Counter[Kind] = Counter()
    wrong: Counter[Kind] = Counter()
    missed: Counter[Kind] = Counter()
    for text, expected in samples:
        found = set(scan_text(text))
        right.update(finding.kind for finding in found & set(expected))
        wrong.update(finding.kind for finding in found - set(expected))
        missed.update(finding.kind for finding in set(expected) - found)
    return {kind: Score(right[kind], wrong[kind], missed[kind]) for kind in Kind}


def table(samples: list[Sample]) -> str:
    """The Markdown table of docs/privacy.md."""
    lines = [
        "| kind | right | wrong | missed | precision | recall |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for kind, score in compute_scores(samples).items():
        if not any(score):
            continue
        rates = f"{score.precision:.3f} | {score.recall:.3f}"
        lines.append(f"| `{kind}` | {score.right} | {score.wrong} | {score.missed} | {rates} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    samples = (make_samples(), make_fresh_samples(), make_held_out_samples())
    sys.stdout.write("\n".join(map(table, samples)))
