"""Plans: the decision, how it was weighed, their check, and the programs that follow."""

from edgeflow.plan.decision import Decision
from edgeflow.plan.plan import Plan, verify_plan
from edgeflow.plan.stage import Piece, Shard, Stage
from edgeflow.plan.weighed import Candidate, Figures, Weighed

__all__ = [
    "Candidate",
    "Decision",
    "Figures",
    "Piece",
    "Plan",
    "Shard",
    "Stage",
    "Weighed",
    "verify_plan",
]
