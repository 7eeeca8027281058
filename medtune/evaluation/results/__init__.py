"""From counts to numbers with intervals, their folder, comparisons and tables."""
