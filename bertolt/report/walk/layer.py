"""The first layer, one operation after the other, on the model's own weights.

This is the layer as papers and notes write it down: a padded row, a mask that hides the padding,
and plain tensor operations. The model itself computes the same without padding; a walk ends by
comparing the two.

Shapes: L columns of the one padded row, H hidden, N heads, D head size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from bertolt.models.bert import BertEmbeddings, BertLayer, BertModel, BertSelfOutput
from bertolt.report.walk.record import Grey, Step, shades

MOST_COLUMNS = 160
"""Columns beyond which a picture of the scores would be a blur."""
# Of a picture, the shade of the lowest score; only -inf is darker.
_LOWEST = 40

Output = TypeVar("Output", Tensor, tuple[Tensor, ...])


@dataclass(frozen=True)
class PaddedRow:
    """What the tokenizer gives for one text: each (1, L)."""

    input_ids: Tensor
    token_type_ids: Tensor
    attention_mask: Tensor


class _Notebook:
    """Writes down each operation: what went in, what came out, and whose memory it is."""

    def __init__(self, embeddings: BertEmbeddings) -> None:
        self.steps: list[Step] = []
        self.part = ""
        self._owners = {
            _address(embeddings.word_embeddings.weight): "the word table",
            _address(embeddings.position_embeddings.weight): "the position table",
            _address(embeddings.token_type_embeddings.weight): "the segment table",
        }
        # Memory that was freed would be given out again, and look shared where it is not.
        self._kept: list[Tensor] = []

    def __call__(
        self,
        operation: str,
        code: str,
        does: str,
        inputs: Sequence[Tensor],
        output: Output,
        picture: Grey | None = None,
    ) -> Output:
        outputs = output if isinstance(output, tuple) else (output,)
        first, number = outputs[0], len(self.steps) + 1
        address = _address(first)
        shared = any(_address(each) == address for each in inputs)
        if not shared:
            self._owners[address] = f"step {number}"
        self._kept += outputs
        self.steps.append(
            Step(
                number=number,
                part=self.part,
                operation=operation,
                code=code,
                does=does,
                inputs=tuple(tuple(each.shape) for each in inputs),
                output=tuple(first.shape),
                outputs=len(outputs),
                dtype=str(first.dtype).removeprefix("torch."),
                view_of=self._owners[address] if shared else "",
                contiguous=first.is_contiguous(),
                preview=_preview(first),
                picture=picture,
            )
        )
        return output


def walk_first_layer(model: BertModel, row: PaddedRow) -> tuple[tuple[Step, ...], Tensor]:
    """Run embeddings and first layer on a padded row, in evaluation mode.

    The code of each step runs as it stands, given `embeddings`, `layer` and the row's tensors.

    Args:
        model: on the CPU.
        row: of one text, with padding behind it or none.

    Returns:
        The steps, and the hidden states (1, length, H) behind the layer, the padding cut off.
    """
    layer = model.encoder.layer[0]
    assert isinstance(layer, BertLayer)
    note = _Notebook(model.embeddings)
    with torch.no_grad():
        hidden = _embed(note, model.embeddings, row)
        query, key, value = _project(note, layer, hidden)
        hide = _mask(note, row, causal=model.config.is_decoder)
        weights = _weigh(note, query, key, hide)
        joined = _mix(note, weights, value)
        attended = _attention_output(note, layer.attention.output, joined, hidden)
        out = _feed_forward(note, layer, attended, model.config.hidden_act)
        length = int(row.attention_mask.sum())
        kept = note(
            "narrow",
            f"kept = out.narrow(1, 0, {length})",
            "Cut the padding off: a window on the same memory, nothing is copied.",
            [out],
            out.narrow(1, 0, length),
        )
    return tuple(note.steps), kept


def _embed(note: _Notebook, embeddings: BertEmbeddings, row: PaddedRow) -> Tensor:
    """The sum of three tables, normalised: (1, L, H)."""
    note.part = "Embeddings"
    length, positions_table = row.input_ids.shape[1], embeddings.position_embeddings.weight
    words = note(
        "embedding",
        "words = embeddings.word_embeddings(input_ids)",
        "For each id, copy its row of the word table.",
        [embeddings.word_embeddings.weight, row.input_ids],
        embeddings.word_embeddings(row.input_ids),
    )
    positions = note(
        "narrow",
        f"positions = embeddings.position_embeddings.weight.narrow(0, 0, {length})",
        "Positions count from 0, so their rows are the first of the table: no copy is needed.",
        [positions_table],
        positions_table.narrow(0, 0, length),
    )
    segments = note(
        "embedding",
        "segments = embeddings.token_type_embeddings(token_type_ids)",
        "For each token, copy the row of its segment: first or second text.",
        [embeddings.token_type_embeddings.weight, row.token_type_ids],
        embeddings.token_type_embeddings(row.token_type_ids),
    )
    summed = note(
        "add",
        "summed = words + positions + segments",
        "Add the three. The positions have no batch dimension; it is broadcast.",
        [words, positions, segments],
        words + positions + segments,
    )
    hidden: Tensor = embeddings.LayerNorm(summed)
    return note(
        "layer_norm",
        "hidden = embeddings.LayerNorm(summed)",
        "Bring each token to mean 0 and variance 1, then scale and shift by learned weights.",
        [summed],
        hidden,
    )


def _project(note: _Notebook, layer: BertLayer, hidden: Tensor) -> tuple[Tensor, ...]:
    """Queries, keys and values, heads apart: (1, N, L, D) each."""
    note.part = "Queries, keys and values"
    projected = []
    for name, purpose in (
        ("query", "what each token looks for"),
        ("key", "what each token can be found by"),
        ("value", "what each token hands on"),
    ):
        module = getattr(layer.attention.self, name)
        code = f"{name[0]} = layer.attention.self.{name}(hidden)"
        inputs = [hidden, module.weight, module.bias]
        does = f"Project to the {name}: {purpose}."
        projected.append(note("linear", code, does, inputs, module(hidden)))
    together = note(
        "stack",
        "together = torch.stack([q, k, v])",
        "Lay the three behind each other in a new first dimension; this copies.",
        projected,
        torch.stack(projected),
    )
    heads, (length, width) = layer.attention.self.num_heads, hidden.shape[1:]
    split = note(
        "view",
        f"split = together.view(3, 1, {length}, {heads}, {width // heads})",
        "Read each row as one part for each head; only the shape changes.",
        [together],
        together.view(3, 1, length, heads, width // heads),
    )
    apart = note(
        "transpose",
        "apart = split.transpose(2, 3)",
        "Put heads before tokens by swapping strides; the elements stay where they are.",
        [split],
        split.transpose(2, 3),
    )
    return note(
        "unbind",
        "query, key, value = apart.unbind(0)",
        "Take the first dimension apart into three tensors, each a window on the same memory.",
        [apart],
        apart.unbind(0),
    )


def _mask(note: _Notebook, row: PaddedRow, *, causal: bool) -> Tensor:
    """True where no token may look: (1, 1, 1, L), or (1, 1, L, L) if causal."""
    note.part = "What must not be seen"
    length = row.attention_mask.shape[1]
    padding = note(
        "eq",
        "padding = attention_mask == 0",
        "True at the columns that only fill the row up.",
        [row.attention_mask],
        row.attention_mask == 0,
    )
    hide = note(
        "view",
        f"hide = padding.view(1, 1, 1, {length})",
        "Give the mask dimensions of size 1, which broadcast over all heads and queries.",
        [padding],
        padding.view(1, 1, 1, length),
    )
    if not causal:
        return hide
    later = note(
        "triu",
        f"later = torch.ones({length}, {length}, dtype=torch.bool).triu(1)",
        "True above the diagonal: this is a decoder, and no token sees a later one.",
        [],
        torch.ones(length, length, dtype=torch.bool).triu(1),
    )
    code = "hide = hide | later"
    return note("bitwise_or", code, "Hide what either hides.", [hide, later], hide | later)


def _weigh(note: _Notebook, query: Tensor, key: Tensor, hide: Tensor) -> Tensor:
    """Attention weights (1, N, L, L)."""
    note.part = "Attention"
    size = query.shape[-1]
    keys = note(
        "transpose",
        "keys = key.transpose(-1, -2)",
        "Turn the keys, so that a matrix product takes every query with every key.",
        [key],
        key.transpose(-1, -2),
    )
    products = note(
        "matmul",
        "products = torch.matmul(query, keys)",
        "How well each query fits each key, in every head at once.",
        [query, keys],
        torch.matmul(query, keys),
    )
    scores = products / math.sqrt(size)
    note(
        "div",
        f"scores = products / math.sqrt({size})",
        "Divide by the root of the head size, by which longer sums would be larger.",
        [products],
        scores,
        _score_picture(scores),
    )
    masked = scores.masked_fill(hide, -math.inf)
    share = float(hide.float().mean())
    note(
        "masked_fill",
        "masked = scores.masked_fill(hide, -math.inf)",
        f"Write -inf where the mask is True: here {100 * share:.0f}% of the scores.",
        [scores, hide],
        masked,
        _score_picture(masked),
    )
    weights = masked.softmax(dim=-1)
    return note(
        "softmax",
        "weights = masked.softmax(dim=-1)",
        "Exponentials of each row, divided by their sum: rows sum to 1, and -inf becomes 0.",
        [masked],
        weights,
        _weight_picture(weights),
    )


def _mix(note: _Notebook, weights: Tensor, value: Tensor) -> Tensor:
    """What the tokens found, heads joined again: (1, L, H)."""
    mixed = note(
        "matmul",
        "mixed = torch.matmul(weights, value)",
        "Each token gets the mean of all values, weighted by where it looks.",
        [weights, value],
        torch.matmul(weights, value),
    )
    back = note(
        "transpose",
        "back = mixed.transpose(1, 2)",
        "Put tokens before heads again; this is a view too.",
        [mixed],
        mixed.transpose(1, 2),
    )
    length = back.shape[1]
    return note(
        "reshape",
        f"joined = back.reshape(1, {length}, -1)",
        "Set the heads side by side. It copies where, as behind most transposes, no view will do.",
        [back],
        back.reshape(1, length, -1),
    )


def _attention_output(
    note: _Notebook, module: BertSelfOutput, joined: Tensor, hidden: Tensor
) -> Tensor:
    """Projection, residual sum and norm: (1, L, H)."""
    note.part = "Output of attention"
    found = note(
        "linear",
        "found = layer.attention.output.dense(joined)",
        "Mix what the heads found.",
        [joined, module.dense.weight, module.dense.bias],
        module.dense(joined),
    )
    summed = note(
        "add",
        "summed = found + hidden",
        "Add what went in, so that attention only has to learn the change.",
        [found, hidden],
        found + hidden,
    )
    attended: Tensor = module.LayerNorm(summed)
    return note(
        "layer_norm",
        "attended = layer.attention.output.LayerNorm(summed)",
        "Bring each token to mean 0 and variance 1 again.",
        [summed],
        attended,
    )


def _feed_forward(note: _Notebook, layer: BertLayer, attended: Tensor, activation: str) -> Tensor:
    """Widen, bend, narrow down; residual sum and norm: (1, L, H)."""
    note.part = "Feed-forward"
    first, second = layer.intermediate.dense, layer.output.dense
    wide = note(
        "linear",
        "wide = layer.intermediate.dense(attended)",
        "Widen each token, on its own.",
        [attended, first.weight, first.bias],
        first(attended),
    )
    bent = note(
        activation,
        "bent = layer.intermediate.activation(wide)",
        "Bend each number, on its own: without this, two linear steps would be one.",
        [wide],
        layer.intermediate.activation(wide),
    )
    change = note(
        "linear",
        "change = layer.output.dense(bent)",
        "Project back to the width of the hidden states.",
        [bent, second.weight, second.bias],
        second(bent),
    )
    summed = note(
        "add",
        "summed = change + attended",
        "Add what went in once more.",
        [change, attended],
        change + attended,
    )
    out: Tensor = layer.output.LayerNorm(summed)
    return note(
        "layer_norm",
        "out = layer.output.LayerNorm(summed)",
        "And normalise: these are the hidden states that the second layer gets.",
        [summed],
        out,
    )


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _preview(tensor: Tensor, first: int = 4, last: int = 2) -> str:
    """The first row of the last dimension, its middle left out."""
    row = tensor[(0,) * (tensor.dim() - 1)]
    values = [str(v) if row.dtype is torch.bool else f"{v:z.2f}" for v in row.tolist()]
    if len(values) > first + last + 1:
        values[first:-last] = ["…"]
    return "  ".join(values)


def _weight_picture(weights: Tensor) -> Grey | None:
    """The first head of weights (1, N, L, L)."""
    return shades(weights[0, 0].numpy()) if weights.shape[-1] <= MOST_COLUMNS else None


def _score_picture(scores: Tensor) -> Grey | None:
    """The first head of scores (1, N, L, L): 0 for -inf, the rest from lowest to highest."""
    if scores.shape[-1] > MOST_COLUMNS:
        return None
    values = scores[0, 0].numpy()
    seen = np.isfinite(values)
    low, high = values[seen].min(), values[seen].max()
    shares = np.where(seen, values - low, 0) / max(high - low, np.finfo(np.float32).tiny)
    return np.where(seen, np.rint(_LOWEST + (255 - _LOWEST) * shares), 0).astype(np.uint8)
