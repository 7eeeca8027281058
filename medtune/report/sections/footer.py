"""With what the page was made, from what, and what it does not say."""

from medtune.common.files import sha256_of_file
from medtune.common.lineage import describe_code, describe_packages
from medtune.lineage.report import describe_code as name_code
from medtune.lineage.verification import SHOWN
from medtune.report.blocks import Block, Note, Section, Table, exact_cell, text_cell
from medtune.report.chain import Chain
from medtune.report.evaluations import RESULTS
from medtune.report.texts import say


def build_footer(chain: Chain) -> Section:
    """Return versions, hashes of what was read, and the disclaimer."""
    code = name_code({"code": describe_code(), "packages": describe_packages()})
    files = [run.record.file for run in chain.runs]
    files += [one.folder / RESULTS for one in chain.evaluations]
    rows = [[text_cell(str(file)), exact_cell(sha256_of_file(file)[:SHOWN])] for file in files]
    blocks: list[Block] = [
        Note(say("footer.disclaimer"), "warning"),
        Note(say("footer.code", code=code)),
        Table(say("footer.caption"), [say("footer.file"), say("footer.hash")], rows, True),
    ]
    return Section("footer", say("section.footer"), blocks)
