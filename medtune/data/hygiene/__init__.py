"""Rules about what rows say: which say nothing, say it twice, or contradict each other."""
