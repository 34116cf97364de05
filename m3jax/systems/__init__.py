"""The papers' own ideas, one package each, and the generalist they start from."""
