"""Measuring models: perplexity, preferences, replies, and the table over the stages."""
