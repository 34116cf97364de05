"""MoE2: which experts at the edge answer together, within delay and energy."""
