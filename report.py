"""Show what each stage of a chain did: one HTML page that opens from disk, and Markdown.

    python report.py --profile tiny
    python report.py --evaluations E1 E2 E3 --output_file FILE.html

The first shows what run_all.sh left in outputs/, the second the models of these evaluations.
"""

from medtune.common.errors import run_script
from medtune.parsing import parse_into
from medtune.report.options import ReportArguments
from medtune.report.writing import write_report


def main(argv: list[str]) -> None:
    """Write the report with these options."""
    (arguments,) = parse_into(argv, [ReportArguments], {})
    write_report(arguments)


if __name__ == "__main__":
    run_script(main)
