"""What every metric of `load_metric` has in common: adding, computing, starting again."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from typing import Any

from bertolt.base.errors import BertoltError, UsageError, meant


class Metric(ABC):
    """Takes predictions as they come and computes one result over all of them.

    Args:
        name: the name it is known by, which is also the key of its result.
        config: defaults for the options of `compute`.
    """

    def __init__(self, name: str, **config: Any) -> None:
        self.name = name
        self._check_options(config)
        self._config = config
        self.reset()

    def add(self, *, prediction: Any, reference: Any) -> None:
        """Add one example."""
        self.add_batch(predictions=[prediction], references=[reference])

    def add_batch(self, *, predictions: Any, references: Any) -> None:
        """Add a batch of examples. A batch that is refused leaves nothing behind.

        Raises:
            UsageError: the predictions and the references do not fit each other or the metric.
        """
        if predictions is None or references is None:
            lacking = "predictions" if predictions is None else "references"
            raise UsageError(
                f"{lacking} are missing", place=self._place, fix=f"pass {lacking}=... as well"
            )
        self._added += self._add(predictions, references)

    def compute(
        self, *, predictions: Any = None, references: Any = None, **options: Any
    ) -> dict[str, Any]:
        """The result over all that was added, and over the examples given here; then start again.

        It holds plain numbers, lists and dictionaries, which `json.dumps` takes.

        When no result can be computed, what was added before stays, unless examples were given
        in this very call: repeating the call would count them twice, so all is forgotten.

        Raises:
            UsageError: an option that the metric lacks, or nothing was added.
        """
        self._check_options(options)
        has_examples = predictions is not None or references is not None
        if has_examples:
            self.add_batch(predictions=predictions, references=references)
        try:
            if not self._added:
                raise UsageError(
                    "no predictions were added",
                    place=self._place,
                    fix="call add_batch first, or compute(predictions=..., references=...)",
                )
            result = self._result(**{**self._config, **options})
        except BertoltError:
            if has_examples:
                self.reset()
            raise
        self.reset()
        return result

    def reset(self) -> None:
        """Forget everything added so far."""
        self._added = 0
        self._clear()

    @property
    def _place(self) -> str:
        return f"metric {self.name!r}"

    def _check_options(self, options: dict[str, Any]) -> None:
        known = list(inspect.signature(self._result).parameters)
        for option in options:
            if option not in known:
                names = [*known, "predictions", "references"]
                has = f"it has {', '.join(known)}" if known else "it has none"
                raise UsageError(
                    f"there is no option {option!r}; {has}",
                    place=self._place,
                    fix=meant(option, names, f"leave {option!r} out"),
                )

    @abstractmethod
    def _clear(self) -> None:
        """Forget all examples: set the counts or sums to 0, or drop the values."""

    @abstractmethod
    def _add(self, predictions: Any, references: Any) -> int:
        """Check a batch, then take it in whole; return how many examples it had."""

    @abstractmethod
    def _result(self, *args: Any, **options: Any) -> dict[str, Any]:
        """The result over what was added; its keyword arguments are the options of `compute`."""
