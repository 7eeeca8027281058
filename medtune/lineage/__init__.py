"""What made a model, and whether it is still what it was: reads and recomputes `lineage.json`.

records reads one, chain goes from it to those it names, verification recomputes, uses says what
data was used for, report shows; `python -m medtune.lineage` prints it. See docs/lineage.md.
"""
