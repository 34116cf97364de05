"""Offloading between edge and cloud as an environment (MSAO)."""
