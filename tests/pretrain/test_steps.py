"""Which batches make which step."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertolt.pretrain.steps import MaskShare, Steps

steps = st.builds(Steps, st.integers(1, 9), st.integers(0, 20))


@given(steps=steps)
def test_steps_go_through_all_batches_in_turn(steps: Steps) -> None:
    seen = 0
    for step in range(1, 40):
        assert steps.before(step) == seen
        assert steps.numbers(step) == range(seen, seen + steps.count(step))
        seen += steps.count(step)


@given(steps=steps, batches=st.integers(1, 500))
def test_steps_needed_are_just_enough(steps: Steps, batches: int) -> None:
    needed = steps.needed(batches)
    assert steps.before(needed) < batches <= steps.before(needed + 1)


def test_a_batch_is_warmed_up_evenly() -> None:
    counts = [Steps(4, 8).count(step) for step in range(1, 12)]
    assert counts == [1, 1, 1, 2, 2, 2, 3, 3, 4, 4, 4]
    assert [Steps(4).count(step) for step in (1, 2)] == [4, 4]


def test_the_share_of_masks_goes_in_a_straight_line() -> None:
    share = MaskShare(0.3, 0.1, 5)
    assert [share.at(step) for step in range(1, 6)] == pytest.approx([0.3, 0.25, 0.2, 0.15, 0.1])
    assert MaskShare(0.2, 0.2, 1).at(1) == 0.2
