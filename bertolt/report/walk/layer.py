"""The first layer, one operation after the other, on the model's own weights.

This is the layer as papers and notes write it down: a padded row, a mask that hides the padding,
and plain tensor operations. The model itself computes the same without padding; a walk ends by
comparing the two.

Shapes: L columns of the one padded row, H hidden, N heads, D head size.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from operator import attrgetter
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from bertolt.models.bert import Backbone, BertLayer
from bertolt.report.walk.record import Grey, Step, shades

MOST_COLUMNS = 160
"""Columns beyond which a picture of the scores would be a blur."""
# Of a picture, the shade of the lowest score; only -inf is darker.
_LOWEST = 40

# The layer, which runs as it stands here. Each step is three lines: its operation and the tensors
# that this takes, the code, and what the code does. A line above a step names the part that begins.
# Steps with `later` are a decoder's alone.
_NOTES = """\
Embeddings
embedding of embeddings.word_embeddings.weight, input_ids
words = embeddings.word_embeddings(input_ids)
For each id, copy its row of the word table.

narrow of embeddings.position_embeddings.weight
positions = embeddings.position_embeddings.weight.narrow(0, {first}, {length})
Positions count from {first}, and their rows stand together in the table: no copy is needed.

embedding of embeddings.token_type_embeddings.weight, token_type_ids
segments = embeddings.token_type_embeddings(token_type_ids)
For each token, copy the row of its segment: first or second text.

add of words, positions, segments
summed = words + positions + segments
Add the three. The positions have no batch dimension; it is broadcast.

layer_norm of summed
hidden = embeddings.LayerNorm(summed)
Bring each token to mean 0 and variance 1, then scale and shift by learned weights.

Queries, keys and values
linear of hidden, layer.attention.self.query.weight, layer.attention.self.query.bias
q = layer.attention.self.query(hidden)
Project to the query: what each token looks for.

linear of hidden, layer.attention.self.key.weight, layer.attention.self.key.bias
k = layer.attention.self.key(hidden)
Project to the key: what each token can be found by.

linear of hidden, layer.attention.self.value.weight, layer.attention.self.value.bias
v = layer.attention.self.value(hidden)
Project to the value: what each token hands on.

stack of q, k, v
together = torch.stack([q, k, v])
Lay the three behind each other in a new first dimension; this copies.

view of together
split = together.view(3, 1, {length}, {heads}, {size})
Read each row as one part for each head; only the shape changes.

transpose of split
apart = split.transpose(2, 3)
Put heads before tokens by swapping strides; the elements stay where they are.

unbind of apart
query, key, value = apart.unbind(0)
Take the first dimension apart into three tensors, each a window on the same memory.

What must not be seen
eq of attention_mask
padding = attention_mask == 0
True at the columns that only fill the row up.

view of padding
hide = padding.view(1, 1, 1, {length})
Give the mask dimensions of size 1, which broadcast over all heads and queries.

triu
later = torch.ones({length}, {length}, dtype=torch.bool).triu(1)
True above the diagonal: this is a decoder, and no token sees a later one.

bitwise_or of hide, later
hide = hide | later
Hide what either hides.

Attention
transpose of key
keys = key.transpose(-1, -2)
Turn the keys, so that a matrix product takes every query with every key.

matmul of query, keys
products = torch.matmul(query, keys)
How well each query fits each key, in every head at once.

div of products
scores = products / math.sqrt({size})
Divide by the root of the head size, by which longer sums would be larger.

masked_fill of scores, hide
masked = scores.masked_fill(hide, -math.inf)
Write -inf where the mask is True: here {{share:.0f}}% of the scores.

softmax of masked
weights = masked.softmax(dim=-1)
Exponentials of each row, divided by their sum: rows sum to 1, and -inf becomes 0.

matmul of weights, value
mixed = torch.matmul(weights, value)
Each token gets the mean of all values, weighted by where it looks.

transpose of mixed
back = mixed.transpose(1, 2)
Put tokens before heads again; this is a view too.

reshape of back
joined = back.reshape(1, {length}, -1)
Set the heads side by side. It copies where, as behind most transposes, no view will do.

Output of attention
linear of joined, layer.attention.output.dense.weight, layer.attention.output.dense.bias
change = layer.attention.output.dense(joined)
Mix what the heads give.

add of change, hidden
summed = change + hidden
Add what went in, so that attention only has to learn the change.

layer_norm of summed
attended = layer.attention.output.LayerNorm(summed)
Bring each token to mean 0 and variance 1 again.

Feed-forward
linear of attended, layer.intermediate.dense.weight, layer.intermediate.dense.bias
wide = layer.intermediate.dense(attended)
Widen each token, on its own.

{activation} of wide
bent = layer.intermediate.activation(wide)
Bend each number, on its own: without this, two linear steps would be one.

linear of bent, layer.output.dense.weight, layer.output.dense.bias
change = layer.output.dense(bent)
Project back to the width of the hidden states.

add of change, attended
summed = change + attended
Add what went in once more.

layer_norm of summed
out = layer.output.LayerNorm(summed)
And normalise: these are the hidden states that the second layer gets.

narrow of out
states = out.narrow(1, 0, {real})
Cut the padding off: a window on the same memory, nothing is copied.
"""


@dataclass(frozen=True)
class PaddedRow:
    """What the tokenizer gives for one text: each (1, L)."""

    input_ids: Tensor
    token_type_ids: Tensor
    attention_mask: Tensor


class _Line(NamedTuple):
    part: str
    operation: str
    inputs: list[str]
    code: str
    does: str


def walk_first_layer(model: Backbone, row: PaddedRow) -> tuple[tuple[Step, ...], Tensor]:
    """Run embeddings and first layer on a padded row, in evaluation mode.

    The code of each step runs as it stands, given `embeddings`, `layer` and the row's tensors.

    Args:
        model: on the CPU.
        row: of one text, with padding behind it or none.

    Returns:
        The steps, and the hidden states (1, length, H) behind the layer, the padding cut off.
    """
    layer, embeddings = model.encoder.layer[0], model.embeddings
    assert isinstance(layer, BertLayer)
    names = SimpleNamespace(torch=torch, math=math, embeddings=embeddings, layer=layer, **vars(row))
    owners = {
        _address(embeddings.word_embeddings.weight): "the word table",
        _address(embeddings.position_embeddings.weight): "the position table",
        _address(embeddings.token_type_embeddings.weight): "the segment table",
    }
    with torch.no_grad():
        lines = enumerate(_lines(model, row), start=1)
        steps = tuple(_run(line, number, names, owners) for number, line in lines)
    return steps, names.states


def _lines(model: Backbone, row: PaddedRow) -> Iterator[_Line]:
    """The notes, with the sizes of this model and row."""
    config = model.config
    notes = _NOTES.format(
        activation=config.hidden_act,
        heads=config.num_attention_heads,
        size=config.hidden_size // config.num_attention_heads,
        first=config.position_offset,
        length=row.input_ids.shape[1],
        real=int(row.attention_mask.sum()),
    )
    part = ""
    for block in notes.strip().split("\n\n"):
        *heading, takes, code, does = block.splitlines()
        part = heading[0] if heading else part
        operation, _, inputs = takes.partition(" of ")
        if config.is_decoder or "later" not in code:
            yield _Line(part, operation, inputs.split(", ") if inputs else [], code, does)


def _run(line: _Line, number: int, names: SimpleNamespace, owners: dict[int, str]) -> Step:
    """Run a line among the names so far: what went in, what came out, and whose memory it is."""
    inputs: list[Tensor] = [attrgetter(name)(names) for name in line.inputs]
    exec(line.code, vars(names))  # a line of `_NOTES`, filled in with nothing but whole numbers
    outputs = [getattr(names, name) for name in line.code.partition(" = ")[0].split(", ")]
    first: Tensor = outputs[0]
    address = _address(first)
    shared = any(_address(each) == address for each in inputs)
    if not shared:
        owners[address] = f"step {number}"
    share = 100 * float(names.hide.float().mean()) if hasattr(names, "hide") else 0.0
    return Step(
        number=number,
        part=line.part,
        operation=line.operation,
        code=line.code,
        does=line.does.format(share=share),
        inputs=tuple(tuple(each.shape) for each in inputs),
        output=tuple(first.shape),
        outputs=len(outputs),
        dtype=str(first.dtype).removeprefix("torch."),
        view_of=owners[address] if shared else "",
        contiguous=first.is_contiguous(),
        preview=_preview(first),
        picture=_picture(line.operation, first),
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


def _picture(operation: str, output: Tensor) -> Grey | None:
    """The first head of weights or scores (1, N, L, L); a score's -inf is 0, the lowest is not."""
    pictured = operation in ("div", "masked_fill", "softmax")
    if not pictured or output.shape[-1] > MOST_COLUMNS:
        return None
    values = output[0, 0].numpy()
    if operation == "softmax":
        return shades(values)
    seen = np.isfinite(values)
    low, high = values[seen].min(), values[seen].max()
    shares = np.where(seen, values - low, 0) / max(high - low, np.finfo(np.float32).tiny)
    return np.where(seen, np.rint(_LOWEST + (255 - _LOWEST) * shares), 0).astype(np.uint8)
