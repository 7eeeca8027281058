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

# Land lines: most in texts are those of hospitals and makers.
PUBLIC = (
    "(?:医院|科室|急诊|热线|总机|咨询|服务|客服|预约|投诉|公司|厂|药业|护士站|门诊|中心|诊所|传真|官方|"
    "挂号|药店|派出所|学校|单位|值班|会诊|社区|卫生|院办|举报|监督|办公|企业|生产|注册|银行|部)"
)
CONTACT = r"(?i:电\s?话|座机|固话|宅电|致电|拨打?|联系|打到?|回电|来电|号码|家里|tel[.:： ]?)"
AREA = r"(?:[(（]0[1-9][0-9]{1,2}[)）]\s?|0[1-9][0-9]{1,2}[- ])"
LANDLINE_NUMBERS = [
    rf"(?<!{PUBLIC}[^。\n]{{0,16}})(?<={CONTACT}[^0-9。\n]{{0,8}}){NUMBER_START}"
    rf"{AREA}[2-8][0-9]{{6,7}}(?:(?:-|转)[0-9]{{1,5}})?{NUMBER_END}",
    rf"(?<!{PUBLIC}[^。\n]{{0,16}})(?<=(?:座机|固话|宅电|固定电话|家庭电话|住宅电话)[^0-9。\n]{{0,6}})"
    rf"{NUMBER_START}[2-8][0-9]{{6,7}}{NUMBER_END}",
]
DIGITS_OF_LANDLINE = re.compile("[2-8][0-9]{6}")

# Date and check digit tell an identity number from a table, so gaps may stand anywhere.
GAP = r"[\s-]?"
IDENTITY_NUMBER = (
    rf"{NUMBER_START}[1-9](?:{GAP}[0-9]){{5}}{GAP}[12]{GAP}[09](?:{GAP}[0-9]){{2}}{GAP}[01]"
    rf"(?:{GAP}[0-9]){{6}}{GAP}[0-9Xx](?![0-9A-Za-z_])"
)

# The numbers of before 1999 have no check digit: 6 + 6 + 3 digits count after a word for them.
OLD_IDENTITY_NUMBER = (
    rf"(?<=身份[^\n]{{0,12}})(?<![0-9A-Za-z_.-])"
    rf"(?:1[1-5]|2[1-3]|3[1-7]|4[1-6]|5[0-4]|6[1-5])[0-9]{{4}}"
    rf"[0-9]{{2}}(?:0[1-9]|1[0-2])(?:0[1-9]|[12][0-9]|3[01])[0-9]{{3}}{NUMBER_END}"
)

# Groups of four digits may be a row of a table: other issuers than UnionPay need a word for it.
CARD_LABEL = r"(?<=(?:卡|账户|账号|帐号|[工建农中]行|银行|信用社|[汇付退扣]|[Cc]ard)[^\n]{0,12}\n?)"
MONEY = (
    "(?:卡|付|款|钱|费|银行|[转汇存退刷扣划捐缴交收领]|津贴|补[助贴]|金|工资|报销|理赔|到账|账户|一张|"
    "这张|号)"
)
GROUPS = r"[0-9]{2}(?P<gap>[- \n])[0-9]{4}(?P=gap)[0-9]{4}(?P=gap)[0-9]{4}(?:(?P=gap)[0-9]{1,3})?"
BANK_CARDS = [
    "[3-69][0-9]{15,18}",
    rf"(?:62|95){GROUPS}",
    r"62[0-9]{4}[- \n][0-9]{10,13}",
    rf"{CARD_LABEL}[345][0-9]{GROUPS}",
    rf"(?<={MONEY}[^\n]{{0,12}})[345][0-9]{GROUPS}",
    rf"[345][0-9]{GROUPS}(?=[^\n0-9]{{0,12}}{MONEY})",
    "[345][0-9]{3}(?:-[0-9]{4}){3}",
]
BANK_CARDS = [rf"{NUMBER_START}(?=[3-69]){NO_FOREIGN_LABEL}{t}{NUMBER_END}" for t in BANK_CARDS]
# UnionPay, ICBC's older cards, Visa, Mastercard, JCB, each with its lengths.
CARD_ISSUER = re.compile(
    "62[0-9]{14,17}|9558[0-9]{12,15}|4[0-9]{15}|5[1-5][0-9]{14}|35(?:2[89]|[3-8][0-9])[0-9]{12}"
)

# What a text must hold for such a number to be in it: most texts do not, and are passed over.
DIGITS_OF_IDENTITY_NUMBER = re.compile(r"(?:[0-9][\s-]?){15}")
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
LONG_LINK = rf"[{HAN}\s:：，,（()）/“\"？?【\[-]{{0,8}}?"
WECHAT_WORD = "微信(?!支付|转账|群|公众)|wechat|weixin|vx"
QQ_WORD = "(?i:(?<![A-Za-z])Q ?Q|[加我]Q|扣扣|企鹅|球球|Q[:：号])"
QQ = rf"{QQ_WORD}{LINK}\K[1-9][0-9]{{4,10}}(?!@){NUMBER_END}{NO_COUNT}"
WECHAT = (
    "(?i:微 ?信(?<!公众微信)(?!公众|小程序|支付|步数|缴费|付款|转账|运动)|[威薇维]信|V信|绿泡泡|"
    r"加[我他她你您]?个?[微薇V+]|(?<![A-Za-z])[+加]?(?:wechat|weixin|vx|wx|v(?=\s?[:：是号]))|"
    r"\+V)"
    "(?:[/、和或与]?(?:QQ|手机))?"
)
LETTERS_OF_MESSENGER = re.compile("[A-Za-z0-9_-]{5}")
WECHAT_LABEL = r"\s?(?:账?号码?|[Ii][Dd]|[:：]|[是为叫])[\s:：是为叫填写的(（【\[就-]{0,4}"
WECHAT_END = r"(?![A-Za-z0-9_-]|@|\.[A-Za-z0-9])"
WECHAT_NAME = rf"[A-Za-z][A-Za-z0-9_-]{{5,19}}{WECHAT_END}"
# Without a label a name needs a digit or a line, which words do not have.
ODD_NAME = rf"(?=[A-Za-z_-]+[0-9_]){WECHAT_NAME}"
DIGITS_NAME = rf"[1-9][0-9]{{5,10}}{WECHAT_END}{NO_COUNT}"
OWN = r"(?:(?:就)?[是为]|[，,、]?\s?(?:这|那|此)?(?:个|就)?[是为]?|[（(])"
MESSENGERS = [
    QQ,
    rf"{WECHAT}{WECHAT_LABEL}\s?\K(?:[A-Za-z][A-Za-z0-9_-]{{5,19}}|[1-9][0-9]{{5,10}}){WECHAT_END}",
    rf"{WECHAT}{LONG_LINK}\K{ODD_NAME}",
    rf"{WECHAT}{LONG_LINK}\K{DIGITS_NAME}",
    # The number first: 123456是我的微信.
    rf"(?<![A-Za-z0-9_@.-])(?:{ODD_NAME}|{DIGITS_NAME})(?={OWN}\s?[我他她你您本]?[人家]?的?"
    rf"(?:(?i:{WECHAT_WORD}|QQ)|扣扣))",
    r"(?<![A-Za-z0-9_])wxid_[a-z0-9]{6,20}(?![A-Za-z0-9_])",
]

RECORD_WORD = (
    "住院|病历|病案|病志|病员|门诊|急诊|就诊|诊疗|就医|医保(?!编码|代码|目录)|社保|"
    "医疗(?!器|设|废)|社会保障|农合|参合|参保|健康|登记(?<!(?:注册|临床)登记)|检查|影像|检验|"
    "化验|病理|标本|切片|蜡块|放射|超声|内镜|体检|患者|病人|挂号|处方|申请单|报告|档案|建档|腕带|"
    "手环|床头|取药|透析|血透|慢病|特病|慢特病|残疾|出生|保健|母子|孕产|随访|会诊|麻醉|手术|输血|"
    "采样|样本|条码(?<!(?:商品|产品|药品|货物)条码)|电子病历|居民|救助|低保|个人|预约|"
    "[胃肠喉支内阴]镜|核磁|磁共振|CT|B超|彩超|心电图?|脑电图?|钼靶|造影|活检|穿刺|PACS|HIS|LIS|"
    "放疗|化疗|受试者|门[(（]急[)）]诊|RIS|EMR|床位|婴儿|产检|入院|出院|留观|护理|治疗|康复|接种|核酸"
)
RECORD_LABEL = rf"(?:{RECORD_WORD})[{HAN}]{{0,8}}?"
RECORD_SIGN = (
    "(?<!电话|手机|联系|微信|证件|身份证|预留|[账帐Qq])"
    "(?i:号码?(?!段|源|牌|规则)|编号|编码|序号|条形?码|识别码|ID号?)"
)
RECORD_CARRIER = (
    "病历|病案|病历本|档案|腕带|手环|(?<!商品|产品|药品|货物|包装)条形?码|床头卡|切片|蜡块|"
    "医保卡?|社保卡?|就诊卡|诊疗卡|健康卡|住院卡|住院证|医保本|处方|申请单|检查单|化验单|报告单|"
    "挂号单|就诊码"
)
RECORD_LINK = rf"(?:(?![电拨打机信快订账单请共第规限])[{HAN}\s:：，,？?（(【「『\[“\"#/-]){{0,8}}?"
RECORD_NUMBER = r"[A-Za-z]{0,4}-?[0-9](?:-?[0-9A-Za-z]){3,19}" + NUMBER_END
RECORD_NUMBERS = [
    rf"(?:{RECORD_LABEL}{RECORD_SIGN}|{RECORD_CARRIER}|"
    r"(?:住院|病房|门诊)(?:流水|登记)|(?<![医法学])院号|"
    r"(?i:(?:medical|patient|hospital|admission)[ ]?(?:records?|file)?[ ]?(?:number|no\.?|id))|"
    r"(?i:(?<![A-Za-z])(?:MRN?|(?<!(?:微信|wechat|weixin|vx|qq|用户|抖音|快手)\s?)ID号?|PID|"
    r"(?:CT|MRI?|PACS|HIS|LIS|DR)(?:检查)?(?:号码?|编号))|X[线光]片?号))"
    rf"{RECORD_LINK}(?:N[Oo]\.?[:：]?\s?|№\s?)?\K(?<![0-9A-Za-z]){RECORD_NUMBER}"
    r"(?!\s?[年元块人份例个次种万岁%]|[ ]?m[glm])",
    # The number first: 复印00356144这份病历.
    rf"{NUMBER_START}(?=[A-Z0-9-]{{6}}){RECORD_NUMBER}(?=\s?(?:[是为的号（(]|这[份本个张条])"
    r"\s?[我他她您]?的?(?:病历|病案|档案|住院号|就诊号|门诊号|腕带|化验单|检验单|报告单))",
]
MIN_RECORD_DIGITS = 4
DIGITS_OF_RECORD = re.compile("[0-9](?:-?[0-9A-Za-z]){3}")
NO_RECORD = re.compile(
    r"(?:19|20)[0-9]{2}-[01]?[0-9]-[0-3]?[0-9]$|NCT|CHI?CTR|GB|ISO|YY|"
    "69[0-9]{11}$|[A-Z]+[0-9]+-[A-Z]",  # a bar code of things, a range
    re.IGNORECASE,
)

# -- addresses

# Verbs and prepositions stand before an address and in no name of a place.
PLACE = rf"(?:(?![住址在到从是为了发寄送请往，的])[{HAN}])"
NUMERAL = r"(?:[0-9]{1,5}(?:-[0-9]{1,4}){0,2}|[一二三四五六七八九十百]{1,5}|[A-Za-z])"
UNIT = "(?:号楼(?![上下道])|号院|号|弄|栋|幢|座|单元|组|室|楼(?![上下道])|层|房|队)"
ADDRESS_END = re.compile(
    r"(?<![0-9A-Za-z.一二三四五六七八九十百第])"
    rf"{NUMERAL}{UNIT}(?:[，, ]?{NUMERAL}{UNIT}){{0,4}}"
    r"(?:[- ]?[0-9]{3,4}(?![0-9岁年月日元.]))?"
)
NUMBERED_UNIT = re.compile(NUMERAL + UNIT)
# What may stand before an address without a sign between them; the address begins after it.
ADDRESS_LEAD = re.compile(
    "(?:[老娘婆我你他她咱俺]|外婆|奶奶|姥姥|爷爷|父母|爸妈|儿子|女儿|亲戚|朋友|同事|自己|本人|患者|病人|舅舅|叔叔|姑姑|哥哥|姐姐|弟弟|妹妹|岳父|岳母)家里?|"
    "[籍在生住居的送寄发货驻务派地]地|地[址点]|址|[送寄发邮转运移迁搬达行抵投驶赶]至|"
    "[现旧定寓租旅独久移侨迁暂常]居(?!里|苑|村)|居于|位于|采样点?|轨迹|上门|现在|目前|一直|平时|"
    "长期|原籍|籍贯|(?:户籍|户口|祖籍)(?:所在)?地?|隔离|给|搬|我|你|您|他|她|们|回到|回|赶去|去|"
    "来自|患者|病人|家属|父母|救护车|急救|快递|轮椅|(?:收货|收件|邮寄|配送|投递|寄送)[地到至]?|"
    "住宅|家庭|单位|同住|租房|出院后?|入院前?|发病前?|密接|(?:暂|常|居|借|寄|现|长|租)住[地于]?|"
    "路过|途经|接诊|出诊|前往|自|由|让|叫|找|就|赶|填|写|系"
)
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
    "(?:生产|注册|办公|单位|经营)地址)"
)
INSTITUTION_BEFORE = re.compile(INSTITUTION + r"[^。；;\n住家户]*$")
INSTITUTION_AFTER = re.compile(r"[^。；;，,\n]{0,10}?" + INSTITUTION)
INSTITUTION_REACH = 24
