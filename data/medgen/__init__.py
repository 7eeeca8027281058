"""Generator of the sample data: tables in, texts, conversations and preference pairs out."""
