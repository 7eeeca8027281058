"""What patients' data looks like in Chinese text: the regular expressions of each kind.

They are in the syntax of the package `regex`: what stands before `\\K` is context and stays in the
text, and a look-behind may be of any length. Digits and Latin letters are ASCII here, because a
text is normalised before it is searched.
"""

import re

HAN = "\u4e00-\u9fff"

# A number that touches a digit, a letter or a decimal point is part of something longer.
NUMBER_START = r"(?<![0-9A-Za-z_])(?<![0-9][.\-])"
NUMBER_END = r"(?![0-9A-Za-z_])(?![.\-][0-9])"

# Order, batch and book numbers may pass a check digit by chance: their label rules them out.
FOREIGN_LABEL = (
    "(?i:(?:单|流水|批准文|批|条|条形|序列|追溯|发票|合同|货|产品|注册证?|许可证?|备案|专利|标准|"
    "文|(?<!患者|病人)编|证书|设备|机身|型|防伪)编?[号码]|ISBN|ISSN|DOI|PMID)"
)
NO_FOREIGN_LABEL = rf"(?<!{FOREIGN_LABEL}[^0-9\n]{{0,4}})"

# -- numbers that are known by their shape

MOBILE_PREFIX = "1(?:3[0-9]|4[014-9]|5[0-35-9]|6[2567]|7[0-8]|8[0-9]|9[0-35-9])"
COUNTRY = r"(?:(?:\+|00)?86[- ]?)?"
# A value with spaces may be a row of a laboratory table.
NO_MEASURE = r"(?<![钠钾氯钙镁磷铁糖值数量率压酶素胞板白脂酐酸氮重]\s?)"
MOBILE_NUMBERS = [
    rf"{NUMBER_START}(?:{COUNTRY}|0){MOBILE_PREFIX}[0-9]{{8}}{NUMBER_END}",
    # 3-4-4, 3-8 and 4-4-3 digits: free spaces would join the values of a table.
    rf"{NUMBER_START}{COUNTRY}{MOBILE_PREFIX}(?:-[0-9]{{4}}-[0-9]{{4}}|-[0-9]{{8}}"
    rf"|[0-9]-[0-9]{{4}}-[0-9]{{3}}){NUMBER_END}",
    rf"{NUMBER_START}{NO_MEASURE}{COUNTRY}{MOBILE_PREFIX}(?: [0-9]{{4}} [0-9]{{4}}| [0-9]{{8}}"
    rf"|[0-9] [0-9]{{4}} [0-9]{{3}}){NUMBER_END}",
]
MOBILE_NUMBERS = [rf"(?=[+01-9]){NO_FOREIGN_LABEL}{pattern}" for pattern in MOBILE_NUMBERS]

# Date and check digit tell an identity number from a table, so gaps may stand anywhere.
GAP = r"[\s-]?"
IDENTITY_NUMBER = (
    rf"{NUMBER_START}[1-9](?:{GAP}[0-9]){{5}}{GAP}[12]{GAP}[09](?:{GAP}[0-9]){{2}}{GAP}[01]"
    rf"(?:{GAP}[0-9]){{6}}{GAP}[0-9Xx](?![0-9A-Za-z_])"
)

# Groups of four digits may be a row of a table: other issuers than UnionPay need a word for it.
CARD_LABEL = r"(?<=(?:卡|账户|账号|帐号|[工建农中]行|银行|信用社|[汇付退扣]|[Cc]ard)[^\n]{0,12}\n?)"
GROUPS = r"[0-9]{2}(?P<gap>[- \n])[0-9]{4}(?P=gap)[0-9]{4}(?P=gap)[0-9]{4}(?:(?P=gap)[0-9]{1,3})?"
BANK_CARDS = [
    "[3-69][0-9]{15,18}",
    rf"(?:62|95){GROUPS}",
    r"62[0-9]{4}[- \n][0-9]{10,13}",
    rf"{CARD_LABEL}[345][0-9]{GROUPS}",
    "[345][0-9]{3}(?:-[0-9]{4}){3}",
]
BANK_CARDS = [rf"{NUMBER_START}(?=[3-69]){NO_FOREIGN_LABEL}{t}{NUMBER_END}" for t in BANK_CARDS]
# UnionPay, ICBC's older cards, Visa, Mastercard, JCB, each with its lengths.
CARD_ISSUER = re.compile(
    "62[0-9]{14,17}|9558[0-9]{12,15}|4[0-9]{15}|5[1-5][0-9]{14}|35(?:2[89]|[3-8][0-9])[0-9]{12}"
)

# What a text must hold for such a number to be in it: most texts do not, and are passed over.
DIGITS_OF_IDENTITY_NUMBER = re.compile(r"(?:[0-9][\s-]?){17}")
DIGITS_OF_BANK_CARD = re.compile(r"(?:[0-9][- \n]?){16}")
DIGITS_OF_MOBILE_NUMBER = re.compile("(?:[0-9][- ]?){11}")

# ASCII only: Chinese text has no space before or after an address. The look-behind keeps the search
# linear on long runs of letters.
EMAIL = (
    r"(?<![A-Za-z0-9._%+-])[A-Za-z0-9_][A-Za-z0-9._%+-]{0,63}@"
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.){1,4}[A-Za-z]{2,12}(?![A-Za-z0-9-])"
)

# -- numbers that are known by the word before them

LINK = rf"[{HAN}\s:：，,（()）/]{{0,5}}?"  # 微信联系：, 微信，号是
NO_COUNT = "(?![人元个次万名年月天])"
QQ = rf"(?i:(?<![A-Za-z])QQ|扣扣|企鹅){LINK}\K[1-9][0-9]{{4,10}}(?!@){NUMBER_END}{NO_COUNT}"
WECHAT = (
    "(?i:微信(?<!公众微信)(?!公众|小程序|支付)|[威薇]信|V信|加微|(?<![A-Za-z])(?:wechat|weixin|vx|"
    "wx))"
    "(?:[/、和或与]?(?:QQ|手机))?"
)
LETTERS_OF_MESSENGER = re.compile("[A-Za-z0-9_-]{5}")
WECHAT_LABEL = r"\s?(?:账?号码?|[Ii][Dd]|[:：]|[是为叫])[\s:：是为叫(（]{0,3}"
WECHAT_END = r"(?![A-Za-z0-9_-]|@|\.[A-Za-z0-9])"
MESSENGERS = [
    QQ,
    rf"{WECHAT}{WECHAT_LABEL}\s?\K(?:[A-Za-z][A-Za-z0-9_-]{{5,19}}|[1-9][0-9]{{5,10}}){WECHAT_END}",
    # Without a label a name needs a digit, which words do not have.
    rf"{WECHAT}{LINK}\K(?=[A-Za-z_-]+[0-9_])[A-Za-z][A-Za-z0-9_-]{{5,19}}{WECHAT_END}",
    rf"{WECHAT}(?:{LINK}[:：)）号])?\s?\K[1-9][0-9]{{5,10}}{WECHAT_END}{NO_COUNT}",
    r"(?<![A-Za-z0-9_])wxid_[a-z0-9]{6,20}(?![A-Za-z0-9_])",
]

RECORD_NUMBER = (
    "(?i:(?:住院|病历|病案|病志|病员|门诊|急诊|就诊|诊疗|就医|医保|社保|医疗保险|社会保障|新农合|"
    "参保|健康|登记(?<!(?:注册|临床)登记)|检查|影像|检验|病理|标本|放射|超声|体检|患者|病人|医疗|"
    "挂号)"
    rf"[{HAN}]{{0,3}}?(?:号码?|编号|编码|序号|ID号?)|(?:医保|社保|就诊|诊疗|健康|住院|床头)卡|"
    rf"(?:住院|病房|门诊)(?:流水|登记)"
    r"|(?<![A-Za-z])(?:MRN|ID号|(?:CT|MRI?)号)|X线号)"
    r"[\s:：为是#(（]{0,4}(?:N[Oo]\.?\s?|№\s?)?"
    rf"\K[A-Za-z]{{0,4}}-?[0-9](?:-?[0-9A-Za-z]){{3,19}}{NUMBER_END}(?!\s?[年元])"
)
MIN_RECORD_DIGITS = 4
DIGITS_OF_RECORD = re.compile("[0-9](?:-?[0-9A-Za-z]){3}")
NO_RECORD = re.compile(
    r"(?:19|20)[0-9]{2}-[01]?[0-9]-[0-3]?[0-9]$|NCT|CHI?CTR|GB|ISO|YY", re.IGNORECASE
)

# -- names

COMPOUND_SURNAMES = (
    "欧阳|上官|司马|诸葛|夏侯|司徒|慕容|尉迟|皇甫|东方|令狐|公孙|长孙|宇文|端木|南宫|呼延|独孤|澹台"
)
SURNAMES = (
    "王李张刘陈杨黄赵吴周徐孙马朱胡郭何林高罗郑梁谢宋唐许韩冯邓曹彭曾肖萧田董袁潘于蒋蔡余杜叶程苏魏吕"
    "丁任沈姚卢姜崔钟谭陆汪范金石廖贾夏韦付傅方白邹孟熊秦邱江尹薛闫阎段雷侯龙史陶黎贺顾毛郝龚邵万钱严"
    "覃武戴莫孔向汤温康施文牛樊葛邢安齐易乔伍庞颜倪庄聂章鲁岳翟殷詹申欧耿关兰焦俞左柳甘祝包宁尚符舒阮"
    "柯纪梅童凌毕单季裴霍涂成苗谷盛曲翁冉骆蓝路游辛靳管柴蒙鲍华喻祁蒲房滕屈饶牟艾尤阳穆司卓古吉缪赖"
    "简车连芦麦褚娄窦戚岑景党宫费卜冷晏席卫米柏宗瞿桂佟臧闵苟邬卞姬仇栾隋刁沙荣巫寇桑郎甄丛"
    "仲虞敖巩佘池苑迟邝封谈匡鞠惠荆冀胥郁班储栗燕楚鄢谌奚冼蔺楼厉伊仝郜阚屠朴练廉禹丘常洪贝幸杭"
)
# Grammatical words, parts of the body and words of illness: a "name" with one of them is none.
NOT_IN_GIVEN_NAMES = (
    "某的了是有在不无未也就都而且与及或等者时后前内外性型病症炎痛热血疸剂药量片丸汤我你他她它们吗呢吧啊"
    "很请该此其这那哪什么怎会需被把给从到由对则虽但因于以为曾已各每再还又只最更较非必须将令使让"
    "肿瘤癌癜疮疹疡疼痒胀酸泻咳喘呕吐晕昏尿便带侧手脚腿足头颈胸腹背腰肩膝肘腕踝眼耳鼻喉舌口牙齿肝胆脾"
    "胃肠肺肾脑骨皮肤肌膏压糖脂氨醇酶素胞菌毒染切除术针灸穴脉节身体人重度轻级期次种类处排险"
    "些点样话说问看吃喝服用做去想感觉得谢院科室床诊断治疗查检测号先自"
)
TITLE = (
    "先生|女士|小姐|太太|医生|医师|主任|教授|护士|大夫|阿姨|大爷|大妈|大叔|奶奶|爷爷|老师|院长|"
    "师傅|同学|同志|氏|老[汉太师]"
)
NO_NAME = (
    "任何|万一|高龄|高中|高危|高空|高考|方便|安全|安排|安静|严格|石膏|孙[子女]|江苏|江西|安徽|甘肃|"
    "宁夏|吉林|武汉|成都|金华|温州|左右|关系|关于|全部|全家|全程|单位|单纯|单独|成年|成人|胡言|"
    "路过|文化|文盲|平时|白天|黄色|白色|常年|常规|常住|农民|司机|车祸|楼上|包括|施行|管理|同上|"
    "祝福|祝您|万分|康复|温和|安慰|金额|金银|马上|凌晨|于[家当本此今昨外是]|常常|乐观|方面|颜面|"
    "顾虑|毛[发囊]|易[疲怒于感受激]|连[续日夜]|左半|路边|尤其|向[家医我患]"
)
HERBS_AND_DRUGS = (
    "甘草|黄[芩芪连柏精]|牛黄|何首乌|贺普丁|龙胆|石[斛决榴]|白[术芍芷及芥茅]|柴胡|连[翘花]|金钱|"
    "麦[冬芽]|葛[根花]|马[勃齿鞭]|苏[子叶合木]|杜仲|秦[皮艽]|陈皮|艾[叶条灸滋]|蒲[公黄]|桂[枝皮]|"
    "郁[金闷结]|柏子|桑[叶白葚椹寄]|荆芥|沙[参眼]|祁[蛇门]|芦[根荟]|安[乃定宫神]|胡椒|党参|苗药|"
    "谷[丙草维]|路[优盖]|易[善瑞]|舒[必乐利]|康[复泰]|施[慧贵]"
)
GIVEN = rf"(?:(?![{NOT_IN_GIVEN_NAMES}])[{HAN}])"
NAME = (
    rf"\K(?!{NO_NAME}|{HERBS_AND_DRUGS})(?:(?:{COMPOUND_SURNAMES})(?!{TITLE}){GIVEN}{{1,2}}?"
    rf"|[{SURNAMES}](?!{TITLE}){GIVEN}{{1,2}}?)"
)
SEX_OR_AGE = r"(?:[男女](?![孩友士朋])|性别|年龄|[0-9]{1,3}\s?(?:周?岁|个?月|天))"
FIELDS = (
    "性别|年龄|电话|联系|手机|身份证|住址|地址|民族|职业|出生|科室|床号|住院|病历|门诊|病案|就诊|"
    "与患者|关系|先生|女士|小姐|今年|现年|同志"
)

# A form field, whose value ends where the word ends.
LABELLED_NAME = (
    r"(?:姓\s{0,4}名|联系人|监护人|就诊人|就诊者|收件人|收货人|陪护人|陪同人|委托人|代理人|申请人|"
    r"经办人|当事人|户主|[被受送报][检查测试告]{0,2}[人者]|名字(?=\s?[:：])|签[字名]|[患病]者名|"
    r"参保人|被保险人|法定代表人)"
    rf"(?:[（(][{HAN}/]{{1,6}}[）)])?(?:\s{{0,4}}[:：]\s{{0,4}}|\s{{1,4}}|[是为叫]\s?){NAME}"
    rf"(?=[^{HAN}]|$|{SEX_OR_AGE}|{FIELDS})"
)
INTRODUCED_NAME = (
    r"(?:我|他|她|老人|老太太?|[男女][孩子婴]|小孩|婴儿|病友|朋友|同事|邻居|伤者|死者|孩子|宝宝|"
    r"患者|患儿|病人|儿子|女儿|母亲|父亲|妈妈|爸爸|爱人|老伴|丈夫|妻子|本人)"
    rf"(?:的?名字[叫是]|的?姓名[叫是]|名?叫做?){NAME}(?=[^{HAN}]|$|今年|现年|{SEX_OR_AGE})"
)
KIN = (
    "(?:妈妈?|爸爸?|母亲|父亲|儿子|女儿|丈夫|妻子|爱人|老伴|老公|老婆|爷爷|奶奶|外婆|外公|姥姥|"
    "姥爷|哥哥|姐姐|弟弟|妹妹|家属|家长|孩子|宝宝|女婿|儿媳|孙[子女])"
)
KIN_NAME = (
    rf"我是{NAME}(?=的{KIN})|(?<=[我他她的]{KIN})(?!的){NAME}(?=的|[^{HAN}]|$|今年|现年|[因在于]|"
    rf"{SEX_OR_AGE})"
)
# Without a form field, what follows must be said of a person: 患者高热 is no name.
PERSON_NAME = (
    r"(?:患者|病人|患儿|病患|患[儿者]家[属长]|家属|家长|亲属|产妇|孕妇|死者|伤者|伤员|受试者|病员|"
    r"住户)"
    rf"\s?[:：]?\s?[（(“\"]?{NAME}"
    rf"(?=[”\"）)]?\s?[，,、;；（(]?\s?(?:{SEX_OR_AGE}|(?<=[，,（(])(?:与|系|[电手][话机]|联系|"
    rf"身份证|住址|家住))"
    r"|因|于[0-9今昨前本]|[今昨][日天晨早]|自?诉|自述|主诉|反映|来[院诊我电]|[入出]院|就诊|今年|"
    r"现年|家住|确诊|联系|手机|电话"
    r"|的(?:家属|家人|妻子|丈夫|儿子|女儿|母亲|父亲|配偶|电话|手机|住院|身份证|病历|主治)"
    r"|(?:同意|拒绝|要求|签[字名]|办理|已签|知情|先生|女士|告知|陪同|陪伴|在[我本贵你]))"
)
# The way a case begins: 王小明，男，35岁. What follows is tried first: it is rarer than a name.
CASE_NAME = (
    rf"(?<![{HAN}0-9A-Za-z])(?=[{HAN}]{{2,4}}\s?[，,、（( ]\s?[男女]){NAME}"
    r"(?=\s?[，,、（( ]\s?[男女]性?\s?[，,、 ]\s?(?:年龄[:：]?)?[0-9]{1,3}\s?(?:周?岁|个?月|天))"
)
NAMES = [LABELLED_NAME, INTRODUCED_NAME, KIN_NAME, PERSON_NAME, CASE_NAME]

# -- addresses

# Verbs and prepositions stand before an address and in no name of a place.
PLACE = rf"(?:(?![住址在到从是为了发寄送请往，的])[{HAN}])"
NUMERAL = r"(?:[0-9]{1,5}(?:-[0-9]{1,4}){0,2}|[一二三四五六七八九十百]{1,5}|[A-Za-z])"
UNIT = "(?:号楼|号院|号|弄|栋|幢|座|单元|组|室|楼|层|房|队)"
ADDRESS_END = re.compile(
    r"(?<![0-9A-Za-z.一二三四五六七八九十百第])"
    rf"{NUMERAL}{UNIT}(?:[，, ]?{NUMERAL}{UNIT}){{0,4}}"
    r"(?:[- ]?[0-9]{3,4}(?![0-9岁年月日元.]))?"
)
NUMBERED_UNIT = re.compile(NUMERAL + UNIT)
MAX_ADDRESS_START = 48
PROVINCES = (
    "北京|上海|天津|重庆|河北|山西|辽宁|吉林|黑龙江|江苏|浙江|安徽|福建|江西|山东|河南|湖北|湖南|"
    "广东|海南|四川|贵州|云南|陕西|甘肃|青海|台湾|内蒙古|广西|西藏|宁夏|新疆|香港|澳门"
)
# Searched in what stands before the number; each group that took part makes it more specific.
ADDRESS_START = re.compile(
    rf"(?P<province>(?:{PROVINCES})(?:省|市|[{HAN}]{{0,3}}自治区)?)?[ ,，]?"
    rf"(?P<city>{PLACE}{{2,6}}?(?:市|自治州|地区|盟))?[ ,，]?"
    rf"(?P<district>{PLACE}{{1,6}}?(?:区(?<![小社病]区)|县|旗|市))?[ ,，]?"
    rf"(?P<town>{PLACE}{{1,7}}?(?:镇|乡|街道|开发区|办事处))?[ ,，]?"
    rf"(?P<street>(?:{PLACE}|[0-9A-Z]){{1,10}}?(?:路|街|大道|道|巷|胡同|弄|里|村|屯|庄|寨|小区|"
    rf"花园|苑|公寓|"
    r"家园|社区|大厦|新城|家属院|宿舍|庭|府|湾|"
    r"坊)(?:[东西南北中]?[一二三四五六]?[路段区街里期])?)?[ ,，]?$"
)
# The addresses of hospitals and makers are printed on every leaflet and are nobody's home.
INSTITUTION = (
    "(?:医院|公司|药厂|厂址|制药|药业|企业|诊所|卫生[院室]|门诊部|大学|学院|研究[所院]|院址|"
    "(?:生产|注册|通[信讯]|办公|单位|经营)地址)"
)
INSTITUTION_BEFORE = re.compile(INSTITUTION + r"[^。；;\n住家户]*$")
INSTITUTION_AFTER = re.compile(r"[^。；;，,\n]{0,10}?" + INSTITUTION)
INSTITUTION_REACH = 24
