"""Routing to experts over wireless links: world, reports, rewards, policies."""
