"""One small function for each form in which files, rows and texts come.

files: bytes to numbered rows.   texts, conversations, preferences: a row to a canonical record.
options: what a user may say instead of having it found.   checks: the rules that all rows keep.
"""
