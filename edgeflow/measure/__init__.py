"""Measuring machines: operators, copies, frames, networks, and what sharing a machine costs."""
