"""WDMoE: experts of a language model on devices around a base station."""
