"""From the options of report.py to the two files that it writes."""

from medtune.common.files import write_text
from medtune.common.log import logger
from medtune.report.blocks import Section
from medtune.report.chain import Chain, find_chain
from medtune.report.markdown import render_markdown
from medtune.report.options import ReportArguments
from medtune.report.page import render_page
from medtune.report.sections.benchmarks import build_benchmarks
from medtune.report.sections.calibration import build_calibration
from medtune.report.sections.contamination import build_contamination
from medtune.report.sections.cost import build_cost
from medtune.report.sections.curves import build_curves
from medtune.report.sections.footer import build_footer
from medtune.report.sections.ledgers import build_ledgers
from medtune.report.sections.lineage import build_lineage
from medtune.report.sections.replies import build_answers, build_replies
from medtune.report.sections.safety import build_safety
from medtune.report.sections.verdict import build_verdict
from medtune.report.texts import Text, say

BUILDERS = (
    build_verdict, build_benchmarks, build_safety, build_answers, build_replies, build_calibration,
    build_curves, build_ledgers, build_contamination, build_lineage, build_cost, build_footer,
)  # fmt: skip


def write_report(arguments: ReportArguments) -> None:
    """Write the page and, beside it, the Markdown.

    Raises ConfigError, CheckpointError and DataError before anything is written.
    """
    chain = find_chain(arguments)
    title, sections = build_sections(chain)
    page = render_page(title, sections, arguments.language)
    markdown = render_markdown(title, sections, arguments.language)
    path = arguments.page
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path.with_suffix(".md"), markdown)
    write_text(path, page)
    for missing in chain.missing:
        logger.info("%s", missing.en)
    logger.info("written: %s (%s kB) and %s", path, f"{len(page.encode()) / 1000:,.0f}",
                path.with_suffix(".md"))  # fmt: skip


def build_sections(chain: Chain) -> tuple[Text, list[Section]]:
    """Return the title of a report and its parts in their order."""
    return say("title", name=chain.name), [build(chain) for build in BUILDERS]
