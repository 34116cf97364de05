"""Conformance checkers for channels, links and systems, for use outside too."""
