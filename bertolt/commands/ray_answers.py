"""`bertolt predict --engine ray`: windows of texts answered on the machines of a Ray cluster."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from bertolt.base.cluster import cluster
from bertolt.data.parted import TooLongError
from bertolt.tasks.base import Example, NotFiniteError
from bertolt.tasks.predictor import Asked, Prediction, Predictor

_AHEAD = 1  # windows that wait beside those that are answered

_Answers = tuple[list[Prediction], Exception | None]
"""Answers of a window, and what stands against the next one."""


class _Answerer:
    """Answers windows in a process of a cluster, which has a copy of the model."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor

    def answer(self, window: list[Example]) -> _Answers:
        """The answers to a window; an error goes with those before it, as it would here."""
        answers: list[Prediction] = []
        try:
            answers.extend(self._predictor.predict(window, window=len(window)))
        except (NotFiniteError, TooLongError) as error:
            return answers, error
        return answers, None


def answers_on_ray(
    predictor: Predictor,
    texts: Iterable[Asked],
    *,
    window: int | None = None,
    between: Callable[[], object] | None = None,
) -> Iterator[Prediction]:
    """As `predictor.predict`, with the same bits from machines of one kind.

    The model goes to the cluster by Ray, so nothing but Bertolt itself has to be on its machines;
    files are read and written by this process alone. A few more windows than there are workers are
    in memory.

    Args:
        predictor: that answers by PyTorch.
        texts, window, between: as there.

    Raises:
        UsageError: Ray is not installed; or as `predict` does.
        BertoltError: Ray could not do its part.
    """
    with cluster() as (ray, workers):
        size = {"num_gpus": 1} if predictor.device.type == "cuda" else {"num_cpus": 1}
        if "num_gpus" in size:
            workers = max(1, int(ray.cluster_resources().get("GPU", 1)))
        shared, actor = ray.put(predictor), ray.remote(**size)(_Answerer)
        team = [actor.remote(shared) for _ in range(workers)]
        waiting: deque[Any] = deque()
        windows = enumerate(predictor.windows(texts, window))
        first = True
        while True:
            for number, part in windows:
                waiting.append(team[number % workers].answer.remote(part))
                if len(waiting) > workers + _AHEAD:
                    break
            if not waiting:
                return
            answers, error = ray.get(waiting.popleft())
            if between is not None and not first:
                between()
            first = False
            yield from answers
            if error is not None:
                raise error
