"""Scorers, the scoring command and what a careful person reads in an answer."""
