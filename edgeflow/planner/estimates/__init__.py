"""Estimated costs under the cost model: strips, blocks, stretches in layouts, transfers and frames."""
