"""EdgeText: generated text tasks of nine domains, each exactly checkable."""
