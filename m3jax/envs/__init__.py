"""Environments with the calls of gymnax 1.0: routing to experts over wireless links."""
