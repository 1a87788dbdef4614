"""Resolve the MODEL argument to a captured graph with inputs and a reference answer."""
