"""Numbers in arrays are those that a dictionary would give."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertolt.metrics import numbering
from bertolt.metrics.numbering import Numbering

KEYS = st.lists(st.one_of(st.integers(-(2**63), 2**63 - 1), st.integers(-3, 3)), max_size=60)


@given(KEYS, st.integers(1, 7))
def test_keys_have_the_numbers_of_a_dictionary(keys: list[int], held: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(numbering, "_HELD", held)
        numbers: dict[int, int] = {}
        ours = Numbering()
        for key in keys:
            assert ours.add(key) == numbers.setdefault(key, len(numbers))
            assert len(ours) == len(numbers)
        assert ours.keys.tolist() == list(numbers)
        expected = [numbers[key] for key in keys]
        assert ours.of(np.array(keys, np.int64)).tolist() == expected


@pytest.mark.parametrize("known", [[], [1, 5]])
@pytest.mark.parametrize("key", [0, 3, 9])
def test_a_key_that_was_never_added_has_no_number(known: list[int], key: int) -> None:
    ours = Numbering()
    for each in known:
        ours.add(each)
    with pytest.raises(KeyError, match="no number"):
        ours.of(np.array([key]))
