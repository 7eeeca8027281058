"""The gate that keeps evaluation items out of the training data."""
