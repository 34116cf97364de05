"""Delay and energy of language models at the edge: devices, links, sets of servers."""
