"""Experiments: a config becomes a run; a run is trained, kept, measured and shipped."""
