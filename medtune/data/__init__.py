"""From files to batches, in this order:

formats (rows of one file) -> loading (records of a folder, checked, counted, split)
-> rendering (input_ids + labels) -> grouping (blocks and batches).
"""
