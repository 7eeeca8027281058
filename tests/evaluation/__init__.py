"""What evaluation measures: scorers against references, and that nothing generated stops them."""
