"""Strategies, one a file: each is a function from a task to a plan."""
