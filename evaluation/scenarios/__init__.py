"""What is tested, a module each. A scenario knows no store: it uses `evaluation.candidates.candidate` only."""
