"""Searches: the spaces of layouts, bounds, and the searches that strategies share."""
