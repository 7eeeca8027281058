"""Checkpoints that are whole or not there: commit, find, rotate.

A checkpoint exists once its `MANIFEST.json` does, which is written last and holds the size and the
SHA-256 of every file. What has none, or does not match it, is set aside and never resumed from.
"""
