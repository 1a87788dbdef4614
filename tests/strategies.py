"""Strategies that plan any model; `brute_force`, the oracle for tiny inputs, refuses most."""

from __future__ import annotations

import edgeflow as ef

STRATEGIES = tuple(name for name in ef.strategies() if name != "brute_force")
