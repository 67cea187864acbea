"""Principals, tokens and what they may do."""
