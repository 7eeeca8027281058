"""CMB-Exam: prompts, the letters read in an answer, and scores; official ones and careful ones."""
