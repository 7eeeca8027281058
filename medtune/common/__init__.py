"""What every layer may use: errors with exit codes, rank-0 logging, safe file writing, hashes."""
