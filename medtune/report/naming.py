"""Which stage made the model that an evaluation measured, by its lineage."""

from collections import Counter
from dataclasses import replace

from medtune.lineage.chain import Link, find_links, locate
from medtune.lineage.records import Record, find_record
from medtune.report.evaluations import Evaluation
from medtune.report.runs import MERGE, SHORT_NAMES

BASE = "base"


def with_stages(evaluations: list[Evaluation]) -> list[Evaluation]:
    """Return evaluations under the names of the stages that made their models.

    Two of one stage, and what no lineage names, go by their folders; where these have the same
    name too, by their paths.
    """
    choices = [
        (find_stage(one) or one.folder.name, one.folder.name, str(one.folder))
        for one in evaluations
    ]
    stages, folders = (Counter(names[place] for names in choices) for place in (0, 1))
    return [
        replace(one, name=stage if stages[stage] == 1 else folder if folders[folder] == 1 else path)
        for one, (stage, folder, path) in zip(evaluations, choices, strict=True)
    ]


def find_stage(evaluation: Evaluation) -> str | None:
    """Return base, pt, sft or dpo, as the results say or as the lineage does; None: unknown."""
    stage = evaluation.results.text("model", "stage")
    if stage is not None:
        return SHORT_NAMES.get(stage, stage)
    record = find_record(evaluation.folder)
    links = find_links(record) if record else []
    return stage_of(links[0]) if links else None


def stage_of(link: Link) -> str | None:
    """Return the stage that made a model or an adapter; of a merge, that of its last adapter."""
    made = link.read()
    if made is None:
        return None if link.reference.parent else BASE
    if made.stage != MERGE:
        return SHORT_NAMES.get(made.stage)
    adapters = [one for one in find_links(made) if one.reference.role == "adapter"]
    return stage_of(adapters[-1]) if adapters else None


def find_roots(evaluation: Evaluation) -> list[Record]:
    """Return the lineage of what was evaluated; of its folder where the evaluation kept none."""
    record = find_record(evaluation.folder)
    if record is not None:
        return [record]
    places = [
        locate(path, evaluation.folder)
        for path in (evaluation.model_path, evaluation.adapter)
        if path
    ]
    found = [find_record(place) for place in places if place]
    return [record for record in found if record is not None]
