"""Dynamic programming over stretches: the best layout of each, by estimates, given that of the one before.

The state is the layout of the stretch just done; a step costs its estimate and the transfers that the change
needs. Layouts that leave the same tensors in the same places are one state, and layouts that need the same
are one question, so that far fewer transfers are estimated than there are pairs of layouts.

O(stretches x (layouts + owned x needed)) estimates, where owned and needed count the distinct ones. Exact
under the estimates, but for tensors that skip a stretch, which are taken to lie as their own stretch would
have left them in the same layout.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import inf

from edgeflow.cost.model import CostModel
from edgeflow.plan.program import CLIENT
from edgeflow.plan.stage import Piece
from edgeflow.planner.analysis import Analysis
from edgeflow.planner.estimate import Estimate, Estimator, Needs, Ownership
from edgeflow.planner.layout import Layout

#: Layout of every stretch.
Choice = tuple[Layout, ...]


class Search:
    """Searches of one task, which share what they found out.

    Args:
        layouts: All that any search may use.
    """

    def __init__(self, analysis: Analysis, cost: CostModel, layouts: Sequence[Layout]) -> None:
        self._analysis = analysis
        self.estimator = Estimator(analysis, cost)
        self.estimates: list[Mapping[Layout, Estimate]] = [
            {layout: self.estimator.estimate(stretch, layout) for layout in layouts}
            for stretch in analysis.stretches
        ]
        self._made_in = {
            name: index
            for index, stretch in enumerate(analysis.stretches)
            for op in stretch
            for name in op.outputs
        }
        self._moves: dict[object, tuple[float, float]] = {}
        self._keys: dict[int, object] = {}

    def best(
        self, allowed: Sequence[Sequence[Layout]], *, seconds: float = 1.0, joules: float = 0.0
    ) -> Choice:
        """Return the layouts with the least weighted sum of estimated seconds and joules.

        Args:
            allowed: Layouts of each stretch, at least one.
            seconds: Weight of a second.
            joules: Weight of a joule.
        """

        def weigh(figures: tuple[float, float]) -> float:
            return seconds * figures[0] + joules * figures[1]

        best: dict[Layout, float] = {}
        back: list[dict[Layout, Layout]] = []
        for index, layouts in enumerate(allowed):
            steps: dict[Layout, float] = {}
            choices: dict[Layout, Layout] = {}
            arrivals: dict[object, tuple[float, Layout | None]] = {}
            before = self._states(index, best)
            for layout in layouts:
                estimate = self.estimates[index][layout]
                key = self._key(estimate.needs)
                if key not in arrivals:
                    arrivals[key] = self._arrival(index, estimate, before, weigh)
                cost, source = arrivals[key]
                steps[layout] = cost + weigh((estimate.seconds, estimate.energy_j))
                if source is not None:
                    choices[layout] = source
            best = steps
            back.append(choices)
        last = {
            layout: cost + weigh(self._answer(self.estimates[-1][layout])) for layout, cost in best.items()
        }
        path = [min(last, key=last.__getitem__)]
        for choices in reversed(back[1:]):
            path.append(choices[path[-1]])
        return tuple(reversed(path))

    def seconds(self, choice: Choice) -> float:
        """Return the estimated seconds of a choice, which need not be of the search's own layouts."""
        total, owned = 0.0, dict[str, Mapping[int, Piece]]()
        for stretch, layout in zip(self._analysis.stretches, choice, strict=True):
            estimate = self.estimator.estimate(stretch, layout)
            moved_s, _ = self._transfers(estimate.needs, owned)
            total += estimate.seconds + moved_s
            owned |= estimate.owned
        return total + self._answer(estimate)[0]

    def _states(self, index: int, best: Mapping[Layout, float]) -> list[tuple[object, float, Layout | None]]:
        """What the stretch before may have left, and the cheapest way to each: key, cost, layout; by cost."""
        if index == 0:
            return [(None, 0.0, None)]
        states: dict[object, tuple[object, float, Layout | None]] = {}
        for layout, cost in best.items():
            key = self._key(self.estimates[index - 1][layout].owned)
            if self._skips(index):  # what lies further back depends on the layout itself
                key = (key, layout)
            if key not in states or cost < states[key][1]:
                states[key] = (key, cost, layout)
        return sorted(states.values(), key=lambda state: state[1])

    def _arrival(
        self,
        index: int,
        after: Estimate,
        before: Sequence[tuple[object, float, Layout | None]],
        weigh: Callable[[tuple[float, float]], float],
    ) -> tuple[float, Layout | None]:
        """The cheapest way to what stretch ``index`` needs: its cost, and the layout before."""
        least, origin = inf, before[0][2]
        for owned, cost, layout in before:
            if cost >= least:
                break  # the others cost no less, even before anything is moved
            cost += weigh(self._move(index, after, owned, layout))
            if cost < least:
                least, origin = cost, layout
        return least, origin

    def _skips(self, index: int) -> bool:
        """Whether the stretch reads something that was made before the one before it."""
        any_layout = next(iter(self.estimates[index].values()))
        return any(self._made_in.get(name, index - 1) != index - 1 for name in any_layout.needs)

    def _move(self, index: int, after: Estimate, key: object, before: Layout | None) -> tuple[float, float]:
        """Seconds and joules of the transfers when stretch ``index`` follows one in layout ``before``."""
        question = (index, key, self._key(after.needs))
        known = self._moves.get(question)
        if known is None:
            owned: dict[str, Mapping[int, Piece]] = {}
            for name in after.needs:
                if before is not None and name in self._made_in:
                    owned[name] = self.estimates[self._made_in[name]][before].owned[name]
            known = self._moves[question] = self._transfers(after.needs, owned)
        return known

    def _answer(self, last: Estimate) -> tuple[float, float]:
        wanted = {
            name: {CLIENT: self._analysis.full(name)}
            for name in self._analysis.graph.outputs
            if name in last.owned
        }
        return self._transfers(wanted, last.owned)

    def _transfers(self, needs: Needs, owned: Ownership) -> tuple[float, float]:
        return self.estimator.network.moved(needs, owned)

    def _key(self, regions: Needs | Ownership) -> object:
        """What two layouts have alike when they need, or leave, the same."""
        known = self._keys.get(id(regions))
        if known is None:
            known = self._keys[id(regions)] = tuple(
                (name, tuple(sorted(by_rank.items(), key=lambda item: item[0])))
                for name, by_rank in sorted(regions.items())
            )
        return known
