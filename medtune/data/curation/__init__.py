"""Files of any known kind to train, validation and test sets: options, judge, report and the sets.

`sets.curate` is what prepare_data.py runs.
"""
