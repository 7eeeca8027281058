"""The report as one HTML file that needs nothing else: styles, script and drawings are in it.

The policy in its head allows this very style and script, told by their hashes, and nothing more:
no request leaves the page, and what a model wrote cannot run even if escaping had a hole.
"""

import base64
import hashlib
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from medtune.report.blocks import Block, Figure, Section
from medtune.report.marking import name_it, tell
from medtune.report.texts import Text, say

TEMPLATES = Path(__file__).parent / "templates"


def render_page(title: Text, sections: list[Section], language: str) -> str:
    """Return the page. language: zh or en, what it opens in."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"tell": tell, "name_it": name_it, "join_figures": join_figures}
    style, script = read("style.css"), read("page.js")
    policy = (
        f"default-src 'none'; style-src '{hash_source(style)}'; "
        f"script-src '{hash_source(script)}'; base-uri 'none'; form-action 'none'"
    )
    return environment.get_template("page.html").render(
        title=title,
        sections=sections,
        language=language,
        say=say,
        policy=policy,
        # Both are files of this package; escaping would break them.
        style=Markup(style),
        script=Markup(script),
    )


def read(name: str) -> str:
    """Return a file of the templates."""
    return (TEMPLATES / name).read_text(encoding="utf-8")


def hash_source(text: str) -> str:
    """Return what a content security policy names an inline style or script by."""
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"


def join_figures(blocks: list[Block]) -> list[list[Block]]:
    """Return the blocks in runs: figures that follow each other together, all else alone."""
    runs: list[list[Block]] = []
    for block in blocks:
        if runs and block.kind == runs[-1][0].kind == Figure.kind:
            runs[-1].append(block)
        else:
            runs.append([block])
    return runs
