"""What an answer is worth: the official definitions and the strict ones. No model is needed."""
