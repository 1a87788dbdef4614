"""Measuring machines: operators, copies, frames, networks."""
