"""How a model is asked: its likelihoods and replies, kept over interruptions; the judge."""
