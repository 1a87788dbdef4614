"""A ``with`` statement closes, whatever happens inside."""

from __future__ import annotations

import pytest

from edgeflow.closing import Closing


class Door(Closing):
    def __init__(self) -> None:
        self.num_closed = 0

    def close(self) -> None:
        self.num_closed += 1


def test_it_is_closed_at_the_end() -> None:
    with Door() as door:
        assert door.num_closed == 0
    assert door.num_closed == 1


def test_it_is_closed_by_an_error_which_goes_on() -> None:
    door = Door()
    with pytest.raises(ZeroDivisionError), door:
        raise ZeroDivisionError
    assert door.num_closed == 1
