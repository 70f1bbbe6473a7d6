"""The nursery of `tests/killing.py` for fine-tuning, with the places that only it has."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.killing import EVERYWHERE, at_file, counted, serve


def in_evaluation(number: int) -> None:
    """Kill after so many evaluated batches."""
    from bertolt.tasks import evaluation

    predict_batches, count = evaluation.predict_batches, counted(number)

    def batches(*given: Any, **named: Any) -> Iterator[Any]:
        for batch in predict_batches(*given, **named):
            count()
            yield batch

    evaluation.predict_batches = batches


if __name__ == "__main__":
    import matplotlib.figure  # noqa: F401 - forked runs find it imported

    import bertolt.commands.finetune.run  # noqa: F401

    serve(
        {
            **EVERYWHERE,
            "in an evaluation": in_evaluation,
            "in the result": at_file("/out/.result."),
            "in the record": at_file("runs.json"),
        }
    )
