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
from typing import Any

from edgeflow.plan.program import CLIENT
from edgeflow.plan.stage import Piece
from edgeflow.planner.estimates.estimator import Estimate, Estimator
from edgeflow.planner.estimates.network import Needs, Ownership
from edgeflow.planner.layouts.layout import Layout

#: Layout of every stretch.
Choice = tuple[Layout, ...]


class Search:
    """Searches of one task; they share estimates.

    Args:
        layouts: All that any search may use.
    """

    def __init__(self, estimator: Estimator, layouts: Sequence[Layout]) -> None:
        self._analysis = analysis = estimator.analysis
        self.estimator = estimator
        self.estimates: list[dict[Layout, Estimate]] = [
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
        #: Numbers of mappings from rank to piece or region: by the mapping's identity, and by its content.
        self._numbers: dict[int, int] = {}
        self._number_of: dict[object, int] = {}

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
                    arrivals[key] = self._arrival(estimate, before, weigh)
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
        for stretch, layout, known in zip(self._analysis.stretches, choice, self.estimates, strict=True):
            estimate = known.get(layout)
            if estimate is None:
                estimate = known[layout] = self.estimator.estimate(stretch, layout)
            total += estimate.seconds + self._moved(estimate.needs, owned)[0]
            owned |= estimate.owned
        return total + self._answer(self.estimates[-1][choice[-1]])[0]

    def _states(self, index: int, best: Mapping[Layout, float]) -> list[tuple[float, Layout | None]]:
        """Return the cheapest cost and layout for each distinct result of the stretch before, by cost."""
        if index == 0:
            return [(0.0, None)]
        states: dict[object, tuple[float, Layout | None]] = {}
        for layout, cost in best.items():
            key = self._key(self.estimates[index - 1][layout].owned)
            if self._skips(index):  # what lies further back depends on the layout itself
                key = (key, layout)
            if key not in states or cost < states[key][0]:
                states[key] = (cost, layout)
        return sorted(states.values(), key=lambda state: state[0])

    def _arrival(
        self,
        after: Estimate,
        before: Sequence[tuple[float, Layout | None]],
        weigh: Callable[[tuple[float, float]], float],
    ) -> tuple[float, Layout | None]:
        """Return the least cost until a stretch has what it needs, and the layout before."""
        least, origin = inf, before[0][1]
        for cost, layout in before:
            if cost >= least:
                break  # the others cost no less, even before anything is moved
            cost += weigh(self._move(after, layout))
            if cost < least:
                least, origin = cost, layout
        return least, origin

    def _skips(self, index: int) -> bool:
        """Return whether the stretch reads something older than the stretch before it."""
        any_layout = next(iter(self.estimates[index].values()))
        return any(self._made_in.get(name, index - 1) != index - 1 for name in any_layout.needs)

    def _move(self, after: Estimate, before: Layout | None) -> tuple[float, float]:
        """Seconds and joules of the transfers when a stretch follows one in layout ``before``."""
        owned: dict[str, Mapping[int, Piece]] = {}
        if before is not None:
            for name in after.needs:
                if name in self._made_in:
                    owned[name] = self.estimates[self._made_in[name]][before].owned[name]
        return self._moved(after.needs, owned)

    def _moved(self, needs: Needs, owned: Ownership) -> tuple[float, float]:
        network = self.estimator.network
        # What the tensors are called does not matter: models repeat blocks.
        question = tuple(
            [
                (network.itemsizes[name], self._number(readers), self._number(owned.get(name)))
                for name, readers in needs.items()
            ]
        )
        known = self._moves.get(question)
        if known is None:
            known = self._moves[question] = network.moved(needs, owned)
        return known

    def _answer(self, last: Estimate) -> tuple[float, float]:
        wanted = {
            name: {CLIENT: self._analysis.full(name)}
            for name in self._analysis.graph.outputs
            if name in last.owned
        }
        return self.estimator.network.moved(wanted, last.owned)

    def _key(self, regions: Needs | Ownership) -> object:
        """Return a key that is equal for layouts that need, or leave, the same."""
        return tuple([(name, self._number(by_rank)) for name, by_rank in sorted(regions.items())])

    def _number(self, by_rank: Mapping[int, Any] | None) -> int:
        """Return a number for what each rank has, or needs, of a tensor; -1: the client has it.

        Args:
            by_rank: A mapping of an estimate; estimates live as long as the estimator, so ids are not reused.
        """
        if by_rank is None:
            return -1
        known = self._numbers.get(id(by_rank))
        if known is None:
            value = tuple(sorted(by_rank.items(), key=lambda item: item[0]))
            known = self._number_of.setdefault(value, len(self._number_of))
            self._numbers[id(by_rank)] = known
        return known
