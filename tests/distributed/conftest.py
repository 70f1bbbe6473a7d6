"""What all these tests share: the machine's peak is known, as in the processes that are forked."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bertolt.pretrain.plan import Device


@pytest.fixture(scope="session", autouse=True)
def quick_peak() -> Iterator[None]:
    """Take the peak as known, and not as something to measure for two seconds."""
    device = Device(name="this machine", count=1, peak=1e11, memory=None, on_cpu=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bertolt.pretrain.setup.this_device", lambda precision: device)
        yield
