"""A model frozen to answer: the encoder's weights copied once as this CPU reads them, calls fused.

A forward pass of the modules casts every weight again and makes a pass over memory for each bias,
activation and residual. For answering, weights stay as they are, so all that is done once: query,
key and value are one product, and oneDNN adds the bias, the activation or the residual while it
writes a product down. Modules stay what they are, and frozen layers stay what they were: who
changes the weights freezes again.

Shapes: B sequences, T packed tokens, H hidden, N heads, D head size.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bertolt.base import torch_private
from bertolt.base.errors import UsageError
from bertolt.base.torch_private import is_customised
from bertolt.data.batch import PackedBatch
from bertolt.models.attention import AttentionLayout, attention_of
from bertolt.models.bert import (
    ACTIVATIONS,
    Backbone,
    BertAttention,
    BertEncoder,
    BertIntermediate,
    BertLayer,
    BertSelfAttention,
    BertSelfOutput,
)
from bertolt.models.dropout import Dropout
from bertolt.models.forward_pass import OutputRows
from bertolt.models.outputs import ModelOutput
from bertolt.models.own_forward import answer_padded, has_own_forward
from bertolt.models.precision import beside_int8
from bertolt.models.pretrained import PreTrainedModel

# What oneDNN calls the activations, and how it computes them. Others run after the product.
_FUSED = {
    "gelu": ("gelu", "none"),
    "gelu_new": ("gelu", "tanh"),
    "gelu_pytorch_tanh": ("gelu", "tanh"),
    "relu": ("relu", ""),
    "tanh": ("tanh", ""),
}

# Input and residual, if any
Run = Callable[..., Tensor]
# Weight, bias, name of the activation behind it
MakeProduct = Callable[[Tensor, Tensor, str], Run]


class Product:
    """A product with a fixed weight (out, in), its bias, and what follows; in plain operations."""

    def __init__(self, weight: Tensor, bias: Tensor, dtype: torch.dtype) -> None:
        self.weight = weight.to(dtype, copy=True)
        self.bias, self.dtype = bias.to(dtype, copy=True), dtype

    def __call__(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """(T, in) to (T, out), added to the residual (T, out) if there is one."""
        out = F.linear(x.to(self.dtype), self.weight, self.bias)
        return out if residual is None else out + residual


class FusedProduct(Product):
    """The same by oneDNN, from a weight in the order that its kernels read."""

    def __init__(self, weight: Tensor, bias: Tensor, dtype: torch.dtype, activation: str) -> None:
        self.bias, self.dtype = bias.to(dtype, copy=True), dtype
        reorder, self.multiply, self.multiply_add = torch_private.fused_linear()
        self.weight = reorder(weight.to(dtype).contiguous())
        name, form = _FUSED.get(activation, ("none", ""))
        self.activation: tuple[str, list[object], str] = (name, [], form)

    def __call__(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """As `Product`, with the activation."""
        x = x if x.dtype == self.dtype else x.to(self.dtype)
        out: Tensor
        if residual is None:
            out = self.multiply(x, self.weight, self.bias, *self.activation)
        else:
            out = self.multiply_add(x, residual, self.weight, self.bias, "add")
        return out


class Int8Product:
    """Weights in 8 bits, a scale for each output; inputs in 8 bits, a scale for each call.

    What comes out is in `dtype`.
    """

    def __init__(self, weight: Tensor, bias: Tensor, activation: str, dtype: torch.dtype) -> None:
        most = torch_private.int8_levels()
        scale = (weight.float().abs().amax(1) / most).clamp(min=1e-12)
        levels = (weight.float() / scale[:, None]).round().to(torch.int8)
        prepack, self.multiply = torch_private.int8_linear()
        self.packed = prepack(levels, None)
        self.scale, self.zero = scale, torch.zeros(len(scale), dtype=torch.int32)
        self.bias, self.dtype = bias.to(torch.float32, copy=True), dtype
        self.activation = _FUSED.get(activation, ("none", ""))

    def __call__(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """As `Product`."""
        low, high = (float(end) for end in torch.aminmax(x))
        if not math.isfinite(high - low):
            return torch.full((len(x), len(self.scale)), math.nan, dtype=self.dtype)
        step, zero = _step_and_zero(low, high)
        out: Tensor = self.multiply(
            _levels(x, 1 / step, zero),
            step,
            zero,
            self.packed,
            self.scale,
            self.zero,
            self.bias,
            1.0,
            0,
            self.dtype,
            self.activation[0],
            [],
            self.activation[1],
        )
        return out if residual is None else out.add_(residual)


def _step_and_zero(low: float, high: float) -> tuple[float, int]:
    """What one of 256 levels is worth, and the level of 0, which is always one of them.

    With 254 steps no rounding leads beyond the ends, where a level would come out at the other one.
    """
    low, high = min(low, 0.0), max(high, 0.0)
    step = max(high - low, 1e-12) / 254
    return step, math.ceil(-low / step)


def _levels(x: Tensor, factor: float, zero: int) -> Tensor:
    """`x` times `factor`, moved by `zero` and rounded: uint8, made in parts that stay in cache.

    From 2²³ on fp32 has whole numbers alone, so adding that rounds, and the last byte of what comes
    is the level. Cutting integers to their last byte takes a third of converting floats.
    """
    levels = torch.empty(x.shape, dtype=torch.uint8)
    offset = torch.tensor([2.0**23 + zero], dtype=torch.float32)
    for part, out in zip(torch.split(x, _PART), torch.split(levels, _PART), strict=True):
        out.copy_(torch.add(offset, part, alpha=factor).view(torch.int32))
    return levels


_PART = 256  # rows


def product_maker(precision: str) -> MakeProduct:
    """How to make products of this precision here: "fp32", "bf16" or "int8"."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    if precision == "int8":
        return partial(Int8Product, dtype=beside_int8())
    if torch_private.has_fused_products(dtype):
        return lambda weight, bias, activation: FusedProduct(weight, bias, dtype, activation)
    return lambda weight, bias, activation: Product(weight, bias, dtype)


class Norm:
    """A copy of a layer norm."""

    def __init__(self, norm: nn.LayerNorm) -> None:
        self.weight, self.bias = norm.weight.clone(), norm.bias.clone()
        self.shape, self.eps = list(norm.normalized_shape), norm.eps

    def __call__(self, x: Tensor) -> Tensor:
        """(T, H) to (T, H)."""
        return F.layer_norm(x, self.shape, self.weight, self.bias, self.eps)


@dataclass(frozen=True)
class FrozenLayer:
    """One layer: the products and norms of a `BertLayer`.

    Attributes:
        joined: query, key and value, (T, H) to (T, 3·H).
        query, key_value: apart, for the last layer of a head that reads the first tokens alone.
        mixed, wide, narrow: the product behind attention, and the two of the feed-forward part.
        activate: what `wide` has not done itself.
        heads: N.
    """

    joined: Run
    query: Run
    key_value: Run
    mixed: Run
    wide: Run
    narrow: Run
    activate: Callable[[Tensor], Tensor] | None
    norms: tuple[Norm, Norm]
    heads: int

    @classmethod
    def of(cls, layer: BertLayer, make: MakeProduct, activation: str, last: bool) -> FrozenLayer:
        """Made of a layer; only the last one needs the query apart."""
        own = layer.attention.self
        parts = (own.query, own.key, own.value)

        # Scores are divided by √D; done to the query's weights, it costs no pass.
        scale = 1.0 / math.sqrt(own.query.out_features // own.num_heads)

        def joined(*linears: nn.Linear) -> Run:
            scales = [scale if each is own.query else 1.0 for each in linears]
            return make(
                torch.cat([x.weight * s for x, s in zip(linears, scales, strict=True)]),
                torch.cat([x.bias * s for x, s in zip(linears, scales, strict=True)]),
                "",
            )

        def alone(linear: nn.Linear, activation: str = "") -> Run:
            return make(linear.weight, linear.bias, activation)

        whole = joined(*parts)
        wide = alone(layer.intermediate.dense, activation)
        done = not isinstance(wide, Product) or isinstance(wide, FusedProduct)
        done = done and activation in _FUSED
        return cls(
            joined=whole,
            query=joined(own.query) if last else whole,
            key_value=joined(own.key, own.value) if last else whole,
            mixed=alone(layer.attention.output.dense),
            wide=wide,
            narrow=alone(layer.output.dense),
            activate=None if done else layer.intermediate.activation,
            norms=(Norm(layer.attention.output.LayerNorm), Norm(layer.output.LayerNorm)),
            heads=own.num_heads,
        )

    def __call__(self, hidden: Tensor, layout: AttentionLayout, only: OutputRows | None) -> Tensor:
        """(T, H) to (T, H), or to the (R, H) of the rows that are needed."""
        residual = hidden if only is None else hidden.index_select(0, only.rows)
        if only is not None and only.first_tokens:
            queries = self._heads(self.query(residual), 1).squeeze(1)
            found = attention_of(self._heads(self.key_value(hidden), 2), layout, first=queries)
        else:
            found = attention_of(self._heads(self.joined(hidden), 3), layout)
            found = found if only is None else found.index_select(0, only.rows)
        mixed = self.norms[0](self.mixed(found.flatten(1), residual))
        wide = self.wide(mixed)
        wide = wide if self.activate is None else self.activate(wide)
        return self.norms[1](self.narrow(wide, mixed))

    def _heads(self, x: Tensor, parts: int) -> Tensor:
        return x.view(x.shape[0], parts, self.heads, -1)


class FrozenEncoder:
    """The layers of an encoder as they are now; for `torch.inference_mode`.

    Args:
        base: whose weights are copied; it is not changed, and its later changes are not seen.
        precision: "fp32", "bf16" or "int8".
    """

    def __init__(self, base: Backbone, precision: str) -> None:
        encoder, activation = base.encoder, base.config.hidden_act
        make, last = product_maker(precision), len(encoder.layer) - 1
        with torch.inference_mode():
            self.layers = [
                FrozenLayer.of(layer, make, activation, number == last)
                for number, layer in enumerate(encoder.layer)
                if isinstance(layer, BertLayer)
            ]

    def __call__(
        self, hidden: Tensor, layout: AttentionLayout, only: OutputRows | None = None
    ) -> Tensor:
        """(T, H) to (T, H), or to the (R, H) of the rows that are needed."""
        last = len(self.layers) - 1
        for number, layer in enumerate(self.layers):
            hidden = layer(hidden, layout, only if number == last else None)
        return hidden


@dataclass(frozen=True)
class FrozenModel:
    """A model, and the frozen layers that answer in place of its encoder's own.

    Embeddings, pooler and head are the model's own.

    Attributes:
        model: that answers.
        encoder: its layers as they were; None: the model answers as it is called.
        why_not: why it has no frozen layers; empty if it has.
        own_forward: whether it takes padded batches alone.
    """

    model: PreTrainedModel
    encoder: FrozenEncoder | None
    why_not: str = ""
    own_forward: bool = False

    @property
    def name(self) -> str:
        """As an `Engine`."""
        return "torch"

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.model.parameters()).device

    def __call__(self, batch: PackedBatch) -> ModelOutput:
        """What the model returns for a packed batch of B sequences; for `torch.inference_mode`."""
        if self.encoder is not None:
            return self.model.answer(batch, self.encoder)
        output: ModelOutput = (
            answer_padded(self.model, batch) if self.own_forward else self.model(batch)
        )
        return output


def freeze(model: PreTrainedModel, precision: str) -> FrozenModel:
    """Copy the layers of a model's encoder to answer by, where that can be done.

    It can on a CPU, for encoders in fp32 as Bertolt builds them; hooks, other layers or methods,
    decoders, and an attention backend that the user asked for keep to the modules.

    Args:
        model: to answer with. It is looked at once: freeze it again when it has changed.
        precision: of its products, "fp32", "bf16" or "int8".

    Raises:
        UsageError: "int8" where it cannot be done.
    """
    against = _why_not(model)
    if against and precision == "int8":
        raise UsageError(f"int8 is not for this model: {against}", fix="use another precision")
    encoder = None if against else FrozenEncoder(model.base_model, precision)
    return FrozenModel(model, encoder, against, has_own_forward(model))


def _why_not(model: nn.Module) -> str:
    """Why a model cannot be frozen; empty if it can."""
    if not isinstance(model, PreTrainedModel):
        return f"it is a {type(model).__name__}"
    if is_customised(model) or type(model).forward is not PreTrainedModel.forward:
        return "it has hooks, is compiled or has another forward"
    if model.config.output_hidden_states or model.config.output_attentions:
        return "its config asks for hidden states or attention maps"
    encoders = [module for module in model.modules() if isinstance(module, Backbone)]
    base = model.base_model
    if len(encoders) != 1 or encoders[0] is not base:
        return f"it has {len(encoders)} encoders"
    return _why_not_base(base) or _why_not_layers(base)


def _why_not_base(base: Backbone) -> str:
    if is_customised(base):
        return "its encoder has hooks, is compiled or has another forward"
    if base.device.type != "cpu":
        return f"it is on {base.device.type}"
    if base.config.is_decoder:
        return "it is a decoder"
    if any(parameter.dtype != torch.float32 for parameter in base.encoder.parameters()):
        return "its weights are not in fp32"
    if base.attention_backend.name != "grouped" or base.attention_backend.requested:
        return f"attention runs as {base.attention_backend.name}, as requested"
    return ""


def _why_not_layers(base: Backbone) -> str:
    activation = ACTIVATIONS[base.config.hidden_act]
    for name, module in base.encoder.named_modules():
        if type(module) not in _KNOWN:
            return f"encoder.{name} is a {type(module).__name__}"
        if is_customised(module):
            return f"encoder.{name} has hooks, is compiled or has another forward"
        if missing := [part for part in ("weight", "bias") if getattr(module, part, 0) is None]:
            return f"encoder.{name} has no {missing[0]}"
        if getattr(module, "activation", activation) is not activation:
            return f"encoder.{name} has another activation"
    return ""


_KNOWN = {
    BertEncoder,
    BertLayer,
    BertAttention,
    BertSelfAttention,
    BertSelfOutput,
    BertIntermediate,
    Dropout,
    nn.ModuleList,
    nn.Linear,
    nn.LayerNorm,
}
