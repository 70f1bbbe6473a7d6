"""What answers packed batches in place of a model's own call: copies of its layers, or a graph.

A graph takes padded tensors. They are made here and nowhere else, of sequences of near lengths, and
what comes out is packed again, so that everything around an engine knows packed batches alone.

Shapes: B sequences, T packed tokens, L padded length, C classes, V vocabulary, M labelled tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from bertolt.base.errors import CheckpointError, DataError
from bertolt.data.batch import PackedBatch
from bertolt.models.outputs import ModelOutput
from bertolt.models.precision import PrecisionChoice
from bertolt.models.pretrained import PreTrainedModel

PADDING = 1 / 8
"""The most of a run of sequences side by side that may be padding; or:"""
RUN_COST = 128
"""Tokens of padding that cost about what one more run does."""

Feed = dict[str, NDArray[np.int64]]
Run = Callable[[Feed], Mapping[str, NDArray[np.float32]]]
"""Padded inputs by name to outputs by name; called from several threads at once."""


class Engine(Protocol):
    """What `predict_batches` runs; one batch at a time, each by a call."""

    @property
    def name(self) -> str:
        """The runtime, as `--engine` has it."""

    @property
    def device(self) -> torch.device:
        """Where batches have to be."""

    def __call__(self, batch: PackedBatch) -> Any:
        """What the model would return for a packed batch, its loss terms with it, where the batch
        has targets; in `torch.inference_mode`."""


class GraphEngine:
    """A graph of a model, run by another runtime on the CPU.

    Args:
        model: that the graph is of, for what its outputs mean; its weights are not read.
        name: of the runtime.
        inputs, outputs: names of what the graph takes and gives.
        open: opens the graph; called again where the engine comes into another process.
        precision: of the products, and why.

    Attributes:
        model, name, precision: see above.
        device: the CPU.
        watch: called with what the graph is given, before each run.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        name: str,
        inputs: tuple[str, ...],
        outputs: tuple[str, ...],
        open: Callable[[], Run],
        precision: PrecisionChoice,
    ) -> None:
        self.model, self.name, self.precision = model, name, precision
        self.device = torch.device("cpu")
        self._inputs, self._outputs, self._open = inputs, outputs, open
        self._run = open()
        self.watch: Callable[[Feed], None] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """All but what is opened, which belongs to one process."""
        return {name: value for name, value in self.__dict__.items() if name != "_run"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._run = self._open()

    def require_outputs(self, *, windows: bool, place: str, fix: str) -> None:
        """Refuse a graph that does not give what answers are made of.

        Args:
            windows: whether texts beyond the limit are read in several.
            place, fix: of the error.

        Raises:
            CheckpointError: an output is missing.
        """
        needed = self.model.answering_outputs(windows=windows)
        missing = [name for name in needed if name not in self._outputs]
        if not missing:
            return
        whose = "answers are"
        if not set(missing) & set(self.model.answering_outputs(windows=False)):
            whose = "the answer to a text in several windows is"
        raise CheckpointError(
            f"the graph gives {', '.join(self._outputs) or 'nothing'}, and no "
            f"{' and no '.join(missing)}, of which {whose} made",
            place=place,
            fix=fix,
        )

    def __call__(self, batch: PackedBatch) -> ModelOutput:
        """The output of the graph for a packed batch of B sequences, and its loss terms.

        Raises:
            DataError: as `in_one_run`.
        """
        return self._answer(batch, near_lengths(_lengths(batch)))

    def in_one_run(self, batch: PackedBatch) -> ModelOutput:
        """The same with all sequences side by side, whatever their lengths.

        Raises:
            DataError: positions that do not count from the start of each sequence, or embeddings in
                place of ids: a graph has neither.
        """
        return self._answer(batch, [np.arange(batch.num_sequences)])

    def _answer(self, batch: PackedBatch, runs: list[NDArray[np.int64]]) -> ModelOutput:
        if not _count_from_each_start(batch):
            raise DataError("a graph counts positions by itself", fix="leave position_ids out")
        if batch.inputs_embeds is not None:
            raise DataError("a graph takes ids", fix="leave inputs_embeds out")
        fields: dict[str, NDArray[np.float32]] = {}
        for members in runs:
            padded = _Padded(batch, members, self.model.config.pad_token_id)
            feed = {name: padded.inputs[name] for name in self._inputs if name != "places"}
            if "places" in self._inputs:
                padded.ask(_asked(batch), batch.num_tokens)
                feed["places"] = padded.places
                if not len(padded.places):
                    continue
            if self.watch is not None:
                self.watch(feed)
            for name, values in self._run(feed).items():
                self._require_shape(name, values, padded)
                rows, values = self._rows(padded, values)
                if name not in fields:
                    count = self._count(batch)
                    fields[name] = np.empty((count, *values.shape[1:]), dtype=np.float32)
                fields[name][rows] = values
        if not fields:  # no token of the batch is asked for
            fields["logits"] = np.empty((0, self.model.config.vocab_size), dtype=np.float32)
        return self.model.read_graph(
            {name: torch.from_numpy(values) for name, values in fields.items()}, batch
        )

    def _require_shape(self, name: str, values: NDArray[np.float32], padded: _Padded) -> None:
        """Refuse an output that is not of the sequences, tokens or places that were given.

        Raises:
            CheckpointError: it would be read as the answers to others.
        """
        due = padded.real.shape if self.model.logits_per_token else padded.real.shape[:1]
        if "places" in self._inputs:
            due = (len(padded.places),)
        if values.shape[: len(due)] == due:
            return
        raise CheckpointError(
            f"its {name} are {' × '.join(map(str, values.shape))} numbers, and "
            f"{' × '.join(map(str, due))} are asked for",
            place=f"the graph of {self.name}",
            fix="copy the whole folder again, or export the model again",
        )

    def _rows(
        self, padded: _Padded, values: NDArray[np.float32]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Which rows of the packed output these values are, and the values without padding."""
        if "places" in self._inputs:
            return padded.place_rows, values
        if self.model.logits_per_token:
            return padded.rows, values[padded.real]
        return padded.members, values

    def _count(self, batch: PackedBatch) -> int:
        if "places" in self._inputs:
            return len(_asked(batch))
        return batch.num_tokens if self.model.logits_per_token else batch.num_sequences


def _lengths(batch: PackedBatch) -> NDArray[np.int32]:
    """(B,) tokens of each sequence."""
    starts: NDArray[np.int32] = batch.cu_seqlens.numpy()
    return starts[1:] - starts[:-1]


def _count_from_each_start(batch: PackedBatch) -> bool:
    """Whether positions are places within each sequence."""
    total = batch.num_tokens
    column = np.arange(total) - np.repeat(batch.cu_seqlens.numpy()[:-1], _lengths(batch))
    return np.array_equal(batch.position_ids.numpy()[:total], column)


def _asked(batch: PackedBatch) -> NDArray[np.int64]:
    """Rows of the tokens whose words are asked for: the labelled ones, or all."""
    if batch.labelled_rows is None:
        return np.arange(batch.num_tokens)
    rows: NDArray[np.int64] = batch.labelled_rows.numpy()
    return rows


class _Padded:
    """Some sequences of a packed batch side by side.

    Attributes:
        members: (G,) the sequences.
        real: (G, L) where there is a token.
        rows: packed row of each token, row by row.
        inputs: (G, L) tensors by name.
        places, place_rows: of the tokens that are read, their places in (G, L), counted row by row,
            and which of those that are read in the batch they are.
    """

    def __init__(self, batch: PackedBatch, members: NDArray[np.int64], filler: int) -> None:
        starts, lengths = batch.cu_seqlens.numpy()[:-1], _lengths(batch)
        column = np.arange(int(lengths[members].max()))
        self.members = members
        self.real = column < lengths[members, None]
        self.rows = (starts[members, None] + column)[self.real]
        self.inputs = {
            "input_ids": self._laid_out(batch.input_ids.numpy(), filler),
            "attention_mask": self.real.astype(np.int64),
            "token_type_ids": self._laid_out(batch.token_type_ids.numpy(), 0),
        }

    def ask(self, read: NDArray[np.int64], count: int) -> None:
        """Set `places` of the packed rows that are read, of so many in the batch."""
        place_of = np.full(count, -1)
        place_of[self.rows] = np.flatnonzero(self.real)
        self.place_rows = np.flatnonzero(place_of[read] >= 0)
        self.places = place_of[read][self.place_rows]

    def _laid_out(self, values: NDArray[np.int64], filler: int) -> NDArray[np.int64]:
        table = np.full(self.real.shape, filler, dtype=np.int64)
        table[self.real] = values[self.rows]
        return table


def near_lengths(lengths: NDArray[np.integer[Any]]) -> list[NDArray[np.int64]]:
    """Numbers of sequences in runs of near lengths, the longest first.

    Args:
        lengths: (B,) tokens of each.
    """
    order = np.argsort(-lengths, kind="stable")
    runs, begin, padding = [], 0, 0
    for end in range(1, len(order)):
        longest = int(lengths[order[begin]])
        padding += longest - int(lengths[order[end]])
        if padding > max(RUN_COST, PADDING * (end + 1 - begin) * longest):
            runs.append(order[begin:end])
            begin, padding = end, 0
    runs.append(order[begin:])
    return runs
