"""Evaluation: SNR sweeps, tidy records, tables and plots."""
