"""The nursery of `tests/killing.py` for pretraining, with the places that only it has."""

from __future__ import annotations

from typing import Any

from tests.killing import EVERYWHERE, at_file, counted, serve


def in_measurement(number: int) -> None:
    """Kill after so many measured batches of the held-out text."""
    from bertolt.pretrain import measure

    sums, count = measure._sums, counted(number)

    def counting(*given: Any) -> Any:
        count()
        return sums(*given)

    measure._sums = counting


if __name__ == "__main__":
    import matplotlib.figure  # noqa: F401 - forked runs find it imported

    from bertolt.pretrain import run, setup  # noqa: F401
    from bertolt.pretrain.plan import Device

    peak = Device(name="this machine", count=1, peak=1e11, memory=None, on_cpu=True)
    setup.this_device = lambda precision: peak
    places = {
        "in an evaluation": in_measurement,
        "in the log": at_file("/out/.log.jsonl"),
        "in the result": at_file("/out/.result."),
    }
    serve({**EVERYWHERE, **places})
