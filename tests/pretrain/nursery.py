"""The nursery of `tests/finetune`, for pretraining: other places to be killed at."""

from __future__ import annotations

from typing import Any

from tests.finetune.nursery import PLACES, at_file, counted, main


def in_measurement(number: int) -> None:
    """Kill after so many measured batches of the held-out text."""
    from bertolt.pretrain import measure

    sums, count = measure._sums, counted(number)

    def counting(*given: Any) -> Any:
        count()
        return sums(*given)

    measure._sums = counting


PLACES["in an evaluation"] = in_measurement
PLACES["in the result"] = at_file("/out/.m")  # the model, and metrics.json


if __name__ == "__main__":
    from bertolt.plan import Device
    from bertolt.pretrain import run, setup  # noqa: F401 - forked runs find it imported

    peak = Device(name="this machine", count=1, peak=1e11, memory=None, on_cpu=True)
    setup.this_device = lambda precision: peak
    main()
