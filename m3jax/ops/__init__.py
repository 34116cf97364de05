"""Pure mathematics: units, masks, losses and intervals; no networks."""
