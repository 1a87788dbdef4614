"""The DECISION: plans, their check, and the programs that follow from them."""

from edgeflow.plan.plan import Candidate, Plan
from edgeflow.plan.stage import Piece, Shard, Stage
from edgeflow.plan.verify import verify_plan

__all__ = ["Candidate", "Piece", "Plan", "Shard", "Stage", "verify_plan"]
