"""Tests of medtune/evaluation."""
