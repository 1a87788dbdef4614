"""Searching: estimates, bounds, the spaces that are searched, and the searches."""
