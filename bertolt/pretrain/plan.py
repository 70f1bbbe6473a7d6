"""What a pretraining run will take, before it is started: operations, time, memory, room on disk.

Everything is computed from the shape of the model and from one number that is not arithmetic: the
share of its peak that the machine reaches, which is stated, measured here, or assumed and then said
to be. Only light modules are imported until something is measured.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

from bertolt.base.errors import UsageError, nearest
from bertolt.base.format import duration, number, percent, plural
from bertolt.base.options import above, at_least, check_options, share
from bertolt.models.config import BertConfig, Precision
from bertolt.models.shapes import find_config
from bertolt.pretrain.flops import GPUS, Device, count_parameters, training_flops

ASSUMED_EFFICIENCY = 0.25
"""Of a GPU's peak. Published for pretraining BERT-size encoders in bfloat16: about 24% (the usual
implementation, A100), 25% (ModernBERT-base, H100), 45 to 53% (BERT-large, A100)."""
FITS = 0.9
"""Share of a GPU's memory that a plan may fill; the rest goes to libraries and fragmentation."""
SHARD_TOKENS = 2_000_000
"""Tokens of one shard of a large prepared corpus, about: it has 8 million characters."""
_CPU_TOKENS = 4096
_GPU_TOKENS = 16_384
_MOST_SHARDS = 1 << 14
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9, "g": 10**9, "t": 10**12}


@dataclass(frozen=True, kw_only=True)
class PlanOptions:
    """Settings of `plan`; the text below each field is the command's help."""

    config: str = "base"
    """Shape: tiny, small, medium, base, large, a config.json or a folder that holds one."""
    tokens: str = "100B"
    """Tokens to train on, counted as often as they are seen: 33M, 100B, 1.5T."""
    gpus: str | None = None
    """How many of which GPU: H100, 64xH100. Default: this machine, which is then measured."""
    efficiency: float | None = field(default=None, metadata=share(0.4, one=True))
    """Share of the peak that training reaches, as 0.4. Default: measured or assumed, as is said."""
    measure: bool = False
    """Train on this machine for some seconds, and plan with the efficiency that is found."""
    length: int = field(default=512, metadata=at_least(1))
    """Tokens of each sequence, all of them full."""
    masked: float = field(default=0.15, metadata=share(0.15, zero=True, one=True))
    """Share of the tokens that are masked: as BERT was trained; `pretrain` masks 0.2 by default."""
    batch_tokens: int | None = field(default=None, metadata=at_least(1))
    """Tokens of one step, over all GPUs. Default: what one pass on each of them takes."""
    pass_tokens: int | None = field(default=None, metadata=at_least(1))
    """Tokens of one forward pass on each GPU. Default: 16384; 4096 on a CPU."""
    bandwidth: float = field(default=50.0, metadata=above(0))
    """Gigabytes a second that each GPU exchanges with the others."""
    precision: Precision = "auto"
    """Number format of a measurement."""

    def __post_init__(self) -> None:
        check_options(self)
        if self.measure and self.efficiency is not None:
            raise UsageError(
                "--measure finds the efficiency, and --efficiency states it", fix="give one of them"
            )


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes on each device.

    Attributes:
        sharding: "DDP" or "FSDP2".
        weights: in fp32, and the bfloat16 copies that products read.
        gradients, optimizer: in fp32; AdamW has two values a weight.
        gathered: whole layers that are together for a moment; 0 where nothing is split.
        activations: kept for the backward pass.
        checkpointed: the same if each layer's inside is computed again there.
    """

    sharding: str
    weights: float
    gradients: float
    optimizer: float
    gathered: float
    activations: float
    checkpointed: float

    def all(self, *, recomputing: bool) -> float:
        """The sum, with one kind of activations or the other."""
        activations = self.checkpointed if recomputing else self.activations
        return self.weights + self.gradients + self.optimizer + self.gathered + activations


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A run, computed.

    Attributes:
        config: name of the shape.
        parameters: of the model, ties counted once.
        tokens: to train on.
        flops_per_token, flops: operations of the matrix products.
        device, count, peak: what runs it; operations a second of each.
        efficiency: share of the peak.
        efficiency_source: of that share, as a phrase.
        tokens_per_second: of all devices.
        seconds: of the whole run.
        batch_tokens, pass_tokens, passes, steps: how the tokens are cut up.
        compute_seconds: of a step.
        exchange_bytes, exchange_seconds: of the gradients of a step, for each device; the exchange
            runs beside the backward pass, so the longer of the two counts.
        memory: for each sharding.
        device_memory: bytes of each device; None where nobody tells.
        fewest_shards: GPUs over which FSDP2 has to split the model before it fits; None if it never
            does, or nobody tells the memory.
        checkpoint_bytes: of one that training can go on from.
        model_bytes: of the model alone.
        corpus_shards, corpus_bytes: of the prepared tokens, if each is seen once.
    """

    config: str
    parameters: int
    tokens: int
    flops_per_token: float
    flops: float
    device: str
    count: int
    peak: float
    efficiency: float
    efficiency_source: str
    tokens_per_second: float
    seconds: float
    batch_tokens: int
    pass_tokens: int
    passes: int
    steps: int
    compute_seconds: float
    exchange_bytes: float
    exchange_seconds: float
    memory: list[Memory]
    device_memory: float | None
    fewest_shards: int | None
    checkpoint_bytes: int
    model_bytes: int
    corpus_shards: int
    corpus_bytes: int

    def to_dict(self) -> dict[str, Any]:
        """The plan as plain values."""
        return asdict(self)

    def __str__(self) -> str:
        return "\n".join([*_rows(self._run()), "", *self._memory(), "", *_rows(self._disk())])

    def _run(self) -> dict[str, str]:
        passes = plural(self.passes, "pass", "passes")
        rows = {
            "model": f"{self.config}, {self.parameters / 1e6:,.1f} M parameters",
            "tokens": f"{self.tokens:,}, {self.flops_per_token / 1e6:,.0f} MFLOP each",
            "operations": f"{self.flops:.3g} FLOP",
            "machine": f"{self.count} × {self.device}, {self.peak / 1e12:,.4g} TFLOP/s each",
            "efficiency": f"{percent(self.efficiency)}: {self.efficiency_source}",
            "step": f"{self.batch_tokens:,} tokens: {self.count} × {passes} of "
            f"{self.pass_tokens:,}",
        }
        if self.count > 1:
            rows["exchange"] = self._exchange()
        rows["rate"] = f"{number(self.tokens_per_second)} tokens/s"
        rows["time"] = f"{duration(self.seconds)}, {plural(self.steps, 'step')}"
        return rows

    def _exchange(self) -> str:
        exchange, compute = 1e3 * self.exchange_seconds, 1e3 * self.compute_seconds
        return (
            f"{_gigabytes(self.exchange_bytes)} a step and device, {exchange:.1f} ms beside "
            f"{compute:.1f} ms of computing"
            + ("; it decides the time: a larger --batch-tokens helps" if exchange > compute else "")
        )

    def _memory(self) -> list[str]:
        columns = ("weights", "gradients", "optimizer", "gathered", "activations", "all")
        lines = [f"{'a device':<22}" + "".join(f"{name:>13}" for name in columns)]
        for each in self.memory:
            state = [each.weights, each.gradients, each.optimizer, each.gathered]
            for suffix, activations in (
                ("", each.activations),
                (", recomputing", each.checkpointed),
            ):
                values = map(_gigabytes, [*state, activations, each.all(recomputing=bool(suffix))])
                lines.append(f"{each.sharding + suffix:<22}" + "".join(f"{v:>13}" for v in values))
        return [*lines, *self._fits()]

    def _fits(self) -> list[str]:
        if self.device_memory is None:
            return []
        room = FITS * self.device_memory
        parts = []
        for each in self.memory:
            fits = "fits with gradient checkpointing"
            if each.all(recomputing=False) <= room:
                fits = "fits"
            elif each.all(recomputing=True) > room:
                fits = "does not fit"
            parts.append(f"{each.sharding} {fits}")
        if self.fewest_shards is None:
            parts.append("no number of shards is enough at this --pass-tokens")
        elif self.fewest_shards > 1:
            parts.append(f"FSDP2 fits from {self.fewest_shards} shards on, recomputing")
        return [f"of {_gigabytes(self.device_memory)} each: {'; '.join(parts)}"]

    def _disk(self) -> dict[str, str]:
        corpus = f"{plural(self.corpus_shards, 'shard')}, {_gigabytes(self.corpus_bytes)}"
        return {
            "checkpoint": f"{_gigabytes(self.checkpoint_bytes)}, to go on from",
            "model": f"{_gigabytes(self.model_bytes)}, to use",
            "corpus": f"{corpus}, if each token is seen once",
        }


def _rows(rows: Mapping[str, str]) -> list[str]:
    return [f"{name:<12}{value}" for name, value in rows.items()]


def _gigabytes(count: float) -> str:
    return f"{count / 1e9:,.3g} GB" if count < 1e12 else f"{count / 1e12:,.3g} TB"


def plan(options: PlanOptions) -> Plan:
    """Compute a run.

    Raises:
        UsageError: an option that cannot be read, or a measurement of a GPU that is not here.
        CheckpointError: the config cannot be used.
    """
    config = find_config(options.config)
    if options.length > config.max_position_embeddings:
        raise UsageError(
            f"--length is {options.length}, and the model has {config.max_position_embeddings} "
            "positions",
            fix="give a smaller one, or another --config",
        )
    tokens = parse_tokens(options.tokens)  # before a minute of measuring
    device, efficiency, source = _machine(config, options)
    return _compute(config, options, tokens, device, efficiency, source)


def _machine(config: BertConfig, options: PlanOptions) -> tuple[Device, float, str]:
    """The machine of the run, the share of its peak that it reaches, and the share's source."""
    named = None if options.gpus is None else parse_gpus(options.gpus)
    if named is not None and not options.measure:
        if options.efficiency is not None:
            return named, options.efficiency, "as stated"
        return named, ASSUMED_EFFICIENCY, "assumed, not measured; --efficiency states another"

    from bertolt.pretrain.rates import gpu_here, measure_training, this_device

    if named is not None and gpu_here() != named.name:
        raise UsageError(
            f"--measure measures this machine, which has no {named.name}",
            fix="run it on one, or state --efficiency",
        )
    here = this_device(options.precision)
    if options.efficiency is not None:
        return here, options.efficiency, "as stated"
    rate = measure_training(
        config,
        options.precision,
        length=options.length,
        masked=options.masked,
        tokens=_pass(options, here),
    )
    device = named or here
    share = rate * training_flops(config, options.length, options.masked) / device.peak
    return device, share, f"measured here, {rate:,.0f} tokens/s"


def _compute(
    config: BertConfig,
    options: PlanOptions,
    tokens: int,
    device: Device,
    efficiency: float,
    source: str,
) -> Plan:
    counts = count_parameters(config)
    each = training_flops(config, options.length, options.masked)
    passing, passes, batch = _cut(options, device)
    compute = passing * passes * each / (device.peak * efficiency)
    # Summed in a ring: every value is sent once on its way to its sum, and once as a part of it.
    exchange = 2 * 4 * counts.total * (device.count - 1) / device.count
    steps = math.ceil(tokens / batch)
    exchange_seconds = exchange / (1e9 * options.bandwidth)
    seconds = tokens / batch * max(compute, exchange_seconds)
    memory = partial(_memory, config, options, passing, device.on_cpu)
    return Plan(
        config=options.config,
        parameters=counts.total,
        tokens=tokens,
        flops_per_token=each,
        flops=tokens * each,
        device=device.name,
        count=device.count,
        peak=device.peak,
        efficiency=efficiency,
        efficiency_source=source,
        tokens_per_second=tokens / seconds,
        seconds=seconds,
        batch_tokens=batch,
        pass_tokens=passing,
        passes=passes,
        steps=steps,
        compute_seconds=compute,
        exchange_bytes=exchange,
        exchange_seconds=exchange_seconds,
        memory=[memory(shards) for shards in sorted({1, device.count})],
        device_memory=device.memory,
        fewest_shards=_fewest_shards(memory, device.memory),
        checkpoint_bytes=3 * 4 * counts.total,
        model_bytes=4 * counts.total,
        corpus_shards=math.ceil(tokens / SHARD_TOKENS),
        corpus_bytes=tokens * (2 if config.vocab_size <= 1 << 16 else 4),
    )


def _pass(options: PlanOptions, device: Device) -> int:
    return options.pass_tokens or (_CPU_TOKENS if device.on_cpu else _GPU_TOKENS)


def _cut(options: PlanOptions, device: Device) -> tuple[int, int, int]:
    """Tokens of a pass, passes of a step on each device, tokens of a step on all of them."""
    passing = _pass(options, device)
    share = (options.batch_tokens or passing * device.count) / device.count
    passes = math.ceil(share / passing)
    passing = math.ceil(share / passes)
    return passing, passes, passing * passes * device.count


def _memory(
    config: BertConfig, options: PlanOptions, tokens: int, on_cpu: bool, shards: int
) -> Memory:
    """Bytes on each of `shards` devices that share one model."""
    counts = count_parameters(config)
    kept, recomputed = activation_bytes(config, options.length, options.masked, on_cpu=on_cpu)
    whole = 4.0 * counts.total
    # Embeddings and head stay together through a step; of the layers one is used and one fetched,
    # and each has its whole gradient until that is summed and split.
    gathered = 0.0 if shards == 1 else 4.0 * (2 * counts.outside + 3 * counts.layer)
    return Memory(
        sharding="DDP" if shards == 1 else "FSDP2",
        weights=whole / shards + 2.0 * counts.products,
        gradients=whole / shards,
        optimizer=2 * whole / shards,
        gathered=gathered,
        activations=tokens * kept,
        checkpointed=tokens * recomputed,
    )


def _fewest_shards(memory: Callable[[int], Memory], room: float | None) -> int | None:
    """The first power of two that is enough, when everything is computed again that can be."""
    if room is None:
        return None
    numbers = (2**power for power in range(_MOST_SHARDS.bit_length()))
    fits = (n for n in numbers if memory(n).all(recomputing=True) <= FITS * room)
    return next(fits, None)


def activation_bytes(
    config: BertConfig, length: int, masked: float, *, on_cpu: bool = False
) -> tuple[float, float]:
    """Bytes that each token keeps for the backward pass in bfloat16: all, or recomputed.

    Of a layer 22d + 4f: the 34d of Korthikanti et al., 2022, arXiv:2205.05198, for f = 4d, and 2d
    more for each of two norms, which are computed in fp32. Attention matrices are not kept where a
    flash kernel runs; a CPU keeps 5 bytes for each of N·s. With gradient checkpointing a layer
    keeps its input, 2d, and one at a time all of it. A masked token has its row of the vocabulary:
    bfloat16, fp32 and its gradient.

    Args:
        config: shape of the model.
        length: s.
        masked: share of the tokens whose place in the vocabulary is computed.
        on_cpu: also count the attention matrices.
    """
    d, f, layers = config.hidden_size, config.intermediate_size, config.num_hidden_layers
    layer = 22.0 * d + 4.0 * f
    if on_cpu:
        layer += 5.0 * config.num_attention_heads * length
    ends = 10.0 * d + masked * (10.0 * config.vocab_size + 20.0 * d)
    return layers * layer + ends, layers * 2.0 * d + layer + ends


def parse_tokens(text: str) -> int:
    """33M, 100B or 1.5T as a number.

    Raises:
        UsageError: it is not a number of 1 or more.
    """
    match = re.fullmatch(r"(\d[\d_,]*(?:\.\d+)?)\s*([kmbgt]?)", text.strip().lower())
    value = 0.0 if match is None else float(re.sub("[_,]", "", match[1])) * _UNITS[match[2]]
    if value < 1:
        raise UsageError(f"--tokens is {text!r}", fix="give a number, as 33M, 100B or 1.5T")
    return round(value)


def parse_gpus(text: str) -> Device:
    """A device from a text such as 64xH100.

    Raises:
        UsageError: the text names no known GPU.
    """
    match = re.fullmatch(r"(?:(\d+)\s*[x×*]\s*)?(\S+)", text.strip(), flags=re.IGNORECASE)
    names = {name.upper(): name for name in GPUS}
    name = None if match is None else names.get(match[2].upper())
    if match is None or name is None or (match[1] is not None and int(match[1]) < 1):
        close = nearest(match[2], list(GPUS)) if match else ""
        raise UsageError(
            f"--gpus is {text!r}, and the GPUs that are known are {', '.join(GPUS)}",
            fix=f"give a number and one of them, as 8x{close or 'H100'}",
        )
    gpu = GPUS[name]
    return Device(
        name=name,
        count=int(match[1] or 1),
        peak=1e12 * gpu.teraflops,
        memory=1e9 * gpu.gigabytes,
    )
