"""The page that shows what each stage of a chain did, from the files that the stages left.

evaluations and stages read, comparing asks what differs, sections say it in blocks, page and
markdown write the blocks; all words are in texts.json. See `report.py`.
"""
