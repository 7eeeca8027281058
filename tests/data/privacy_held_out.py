"""Sentences for measuring the scan of patients' data alone: the patterns are not mended for them.

One a line; / is a line end, {value} the data, other braces as in privacy_samples.py.
"""

HELD_OUT_TEMPLATES = {
    "mobile_number": """
        产科随访留的是{value}
        三天内可用{value}取消
    """,
    "identity_number": """
        退役军人优待登记：{value}
        核对完{value}后盖章
    """,
    "bank_card": """
        手术钱从{value}里出
        捐款请汇入{value}
    """,
    "email": """
        随访问卷会寄到{value}
        电子发票接收：{value}
    """,
    "messenger": """
        想看伤口就找我微信{value}
        出院后用微信{value}汇报血糖
    """,
    "qq": """
        老同学都用QQ找我：{value}
    """,
    "landline_number": """
        晚上打家里座机{value}
    """,
    "record_number": """
        调阅编号为{value}的病历
        封条上印着病案号{value}
    """,
    "name": """
        {value}把医保卡落在了收费处
        病房里就数{value}最乐观
        床头卡照着{value}的入院单抄
    """,
    "address": """
        这批血糖仪分发到{value}
        报警时只说了{value}
    """,
}
HELD_OUT_LOOK_ALIKES = """
    叶酸和铁剂分开服用，间隔{1-4}小时
    检验科窗口排到{10-99}号
    复印病历每页{1-5}元，最多{100-900}页
    温度计编号不详，读数3{6-9}.{d1}
"""
