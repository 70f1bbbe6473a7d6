"""What a user sets for `pretrain`. Only light modules are imported."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from bertolt.base.errors import UsageError
from bertolt.base.options import (
    FREE,
    SEED,
    above,
    at_least,
    check_options,
    flag,
    seen_in,
    share,
)
from bertolt.corpus.options import Objective
from bertolt.models.config import Precision
from bertolt.pretrain.plan import parse_tokens
from bertolt.train.arguments import Schedule
from bertolt.train.trackers import tracker_names

PretrainSchedule = Schedule | Literal["warmup_stable_decay"]
PositionInit = Literal["sinusoid", "normal"]
EPOCHS = 8.0
"""Passes over the corpus where nothing else says how long to train."""


@dataclass(frozen=True, kw_only=True)
class PretrainOptions:
    """Settings of `pretrain`; the text below each field is the command's help.

    A run that is resumed has to have the same as it began with, but for those that are free.

    Raises:
        UsageError: a value out of its range, or two that exclude each other; the message names the
            option.
    """

    model: str | None = field(default=None, metadata=seen_in("weights"))
    """Encoder to go on with: a folder, or an id on the hub. Default: a new one, see --config."""
    config: str | None = field(default=None, metadata=seen_in("config."))
    """Shape of a new one: tiny, small, medium, base, large, or a JSON file. Default: small."""
    objective: Objective | None = field(default=None, metadata=seen_in("objective"))
    """mlm: masked tokens. mlm+nsp: pairs of sentences as well. Default: as it was prepared for."""
    tokens: str | None = field(default=None, metadata=seen_in("steps"))
    """How long: so many tokens, as 33M or 100B, counted as often as they are seen."""
    steps: int | None = field(default=None, metadata=at_least(1) | seen_in("steps"))
    """How long: so many steps."""
    epochs: float | None = field(default=None, metadata=above(0) | seen_in("steps"))
    """How long: so many passes over the corpus. Default: 8, without --tokens and --steps."""
    batch_tokens: int = field(default=4096, metadata=at_least(1))
    """Tokens of one step, over all processes; filler is counted."""
    pass_tokens: int | None = field(default=None, metadata=at_least(1) | seen_in("--pass-tokens"))
    """Tokens of one forward pass of a process. Default: 4096 on a CPU, 16384 on a GPU, or less, so
    that a step has a whole number for the processes; a run that is resumed keeps its own."""
    batch_warmup: int = field(default=0, metadata=at_least(0))
    """Steps over which a step of several passes grows from one of them to --batch-tokens."""
    max_length: int | None = field(default=None, metadata=at_least(8) | seen_in("max_length"))
    """Tokens of a sequence at most. Default: as it was prepared for."""
    positions: int | None = field(
        default=None, metadata=at_least(8) | seen_in("config.max_position_embeddings")
    )
    """Rows of a new model's position table. Default: --max-length; more would stay untrained."""
    position_init: PositionInit | None = field(default=None, metadata=seen_in("--position-init"))
    """A new model's position table at the start: with sinusoid the loss falls sooner, normal is as
    published. Default: sinusoid."""
    mask: float = field(default=0.2, metadata=share(0.2))
    """Share of the tokens that are masked."""
    mask_end: float | None = field(default=None, metadata=share(0.2))
    """Share at the end of the run, reached in a straight line. Default: as --mask."""
    whole_words: bool = False
    """Mask all pieces of a word or none."""
    nsp_weight: float = field(default=0.1, metadata=above(0))
    """Weight of the pairs' loss beside that of masked tokens while training; 1 as published."""
    lr: float | None = field(default=None, metadata=above(0))
    """Peak learning rate. Default: 1e-3 up to hidden size 256, less for wider models."""
    schedule: PretrainSchedule = "linear"
    """Course of the learning rate after warmup."""
    warmup: float = field(default=0.08, metadata=at_least(0))
    """Warmup: a share of all steps if below 1, else steps."""
    decay: float = field(default=0.2, metadata=share(0.2, one=True))
    """Share of the steps that warmup_stable_decay falls in."""
    weight_decay: float = field(default=0.01, metadata=at_least(0))
    """Decay of all weights but biases and layer norms."""
    beta2: float = field(default=0.98, metadata=share(0.98))
    """Second moment's decay of AdamW."""
    clip: float = field(default=1.0, metadata=at_least(0))
    """Gradients are scaled down to this norm; 0: not clipped."""
    dropout: float = field(default=0.0, metadata=share(0.1, zero=True))
    """Dropout while pretraining; what is saved keeps the shape's own, for fine-tuning."""
    eval_every: int | None = field(default=None, metadata=at_least(1) | seen_in("--eval-every"))
    """Steps between measurements of the held-out loss. Default: a twentieth of the run."""
    eval_tokens: int = field(default=200_000, metadata=at_least(1) | seen_in("--eval-tokens"))
    """Held-out tokens that are measured, at most."""
    save_every: int | None = field(default=None, metadata=at_least(1) | FREE)
    """Steps between checkpoints. Default: a twentieth of the run."""
    keep: int | Literal["best"] = field(default=2, metadata=at_least(1) | seen_in("--keep"))
    """Newest checkpoints to keep; best: the newest and that of the lowest held-out loss, which then
    is the result."""
    shard: bool = field(default=False, metadata=FREE)
    """Started by torchrun: split weights, gradients and optimizer over the processes (FSDP2)."""
    resume: bool = field(default=False, metadata=FREE)
    """Go on from the last whole checkpoint in --out; where there is none, begin."""
    track: str | None = field(default=None, metadata=FREE)
    """Trackers to tell, in --out alone: tensorboard, mlflow, wandb, with commas between them."""
    tensorboard: bool = field(default=False, metadata=FREE)
    """The same as --track tensorboard."""
    seed: int = field(default=42, metadata=SEED)
    """Seed of new weights, order, pairs, masks and dropout."""
    precision: Precision = field(default="auto", metadata=seen_in("precision"))
    """Number format: auto measures whether bfloat16 is faster here."""
    out: Path = field(default=Path("out"), metadata=FREE)
    """Folder for checkpoints, the model, its log and its report."""
    overwrite: bool = field(default=False, metadata=FREE)
    """Replace what an earlier run left in that folder, checkpoints too, unless it is resumed; its
    model goes when there is another."""

    def __post_init__(self) -> None:
        check_options(self)
        _require_one(model=self.model, config=self.config)
        _require_one(model=self.model, positions=self.positions)
        _require_one(model=self.model, position_init=self.position_init)
        _require_one(tokens=self.tokens, steps=self.steps, epochs=self.epochs)
        if self.tokens is not None:
            parse_tokens(self.tokens)
        tracker_names(self.track, "--track")

    @property
    def trackers(self) -> tuple[str, ...]:
        """The names of the trackers to tell."""
        also = ",tensorboard" if self.tensorboard else ""
        return tracker_names((self.track or "") + also, "--track")

    @property
    def token_goal(self) -> int | None:
        """Tokens to train on, if these say how long."""
        return None if self.tokens is None else parse_tokens(self.tokens)

    @property
    def first_positions(self) -> PositionInit | None:
        """How a new model's position table starts; None where the model is not new."""
        return None if self.model is not None else self.position_init or "sinusoid"

    def peak_rate(self, hidden_size: int) -> float:
        """The learning rate that is asked for, or one that falls as models get wider.

        1e-3 was measured to work at 256; one part in the width is the rule of G. Yang et al.,
        "Tensor Programs V", 2022, arXiv:2203.03466, for hidden weights under Adam.
        """
        return self.lr or 1e-3 * min(1.0, 256 / hidden_size)


def _require_one(**given: object) -> None:
    named = [flag(name) for name, value in given.items() if value is not None]
    if len(named) > 1:
        raise UsageError(f"{' and '.join(named)} were given", fix="give one of them")
