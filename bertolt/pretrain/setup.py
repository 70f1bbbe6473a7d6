"""From a corpus and options to all that a run works with, and what the user is told about it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from bertolt.base.console import say
from bertolt.base.distributed import ALONE, World
from bertolt.base.errors import CheckpointError, DataError, UsageError
from bertolt.base.format import millions, percent, plural
from bertolt.checkpoint import huggingface
from bertolt.corpus.options import Objective
from bertolt.corpus.shards import Corpus
from bertolt.data.batch import PackedBatch
from bertolt.models.config import BertConfig
from bertolt.models.heads import BertForMaskedLM, BertForPreTraining, LanguageModel
from bertolt.models.initialize import sinusoids
from bertolt.models.precision import PrecisionChoice, agree, choose_precision
from bertolt.models.shapes import SHAPES, find_config
from bertolt.pretrain.batches import Batches
from bertolt.pretrain.flops import training_flops
from bertolt.pretrain.log import Work
from bertolt.pretrain.measure import HELD_OUT_ROWS, HELD_OUT_SEED, HeldOut, token_entropy
from bertolt.pretrain.options import EPOCHS, PretrainOptions
from bertolt.pretrain.rates import this_device
from bertolt.pretrain.steps import MaskShare, Steps
from bertolt.tokenization import BertTokenizer
from bertolt.train.optim import AdamW, parameter_groups
from bertolt.train.schedules import get_scheduler

PASS_TOKENS = {"cpu": 4096, "cuda": 16_384}
"""Rows of a forward pass where neither the user nor the batch says less."""

_OFTEN = 20  # evaluations and checkpoints of a run


@dataclass(frozen=True, kw_only=True)
class Run:
    """What a run works with, once everything is read.

    Attributes:
        shards: the folder of the corpus.
        objective, max_length: as they were resolved.
        source: where the weights are from: a model folder, or a shape.
        dropout: what the saved config says of dropout, whatever pretraining used.
        data: the batches to train on.
        held_out: what is measured, or None where the corpus keeps nothing.
        steps, total_steps: how long.
        masks: the share of masked tokens in each step.
        entropy: of single tokens of the corpus, in nats.
        eval_every, save_every: steps between evaluations and checkpoints.
        world: the processes that train together.
    """

    shards: Path
    options: PretrainOptions
    corpus: Corpus
    objective: Objective
    max_length: int
    tokenizer: BertTokenizer
    model: LanguageModel
    source: str
    dropout: dict[str, float]
    data: Batches
    held_out: HeldOut | None
    steps: Steps
    total_steps: int
    masks: MaskShare
    optimizer: torch.optim.Optimizer
    scheduler: Any
    learning_rate: float
    warmup_steps: int
    precision: PrecisionChoice
    entropy: float
    eval_every: int
    save_every: int
    world: World

    @cached_property
    def work(self) -> Work:
        """What steps compute, and the machine's peak: measured when it is first asked for."""
        config, attended, masks = self.model.config, self.data.attended, self.masks
        peak = this_device("bf16" if self.precision.name == "bf16" else "fp32").peak
        return Work(
            flops=lambda step: training_flops(config, attended, masks.at(step)),
            peak=self.world.size * peak,
        )

    @property
    def pass_tokens(self) -> int:
        """Rows of a forward pass."""
        return self.options.batch_tokens // self.steps.passes

    def batches(self, done: int) -> Iterator[list[PackedBatch]]:
        """This process's batches of each step after step `done`."""
        for step in range(done + 1, self.total_steps + 1):
            share = self.masks.at(step)
            dealt = self.world.deal(self.steps.numbers(step), evenly=True)
            yield [
                replace(self.data.batch(number, share), stand_in=not own) for number, own in dealt
            ]

    def evaluate(self) -> dict[str, float]:
        """Measure the model on the held-out text."""
        assert self.held_out is not None, "asked only where there is some"
        return self.held_out.measure(self.model, self.precision, self.world)

    def deciding_settings(self) -> dict[str, Any]:
        """All that decides the result, by name: a run goes on with the same or not at all."""
        options = asdict(self.options)
        named = {"--" + name.replace("_", "-"): options[name] for name in _DECIDING}
        best = self.options.keep == "best"
        chosen_by = {"--eval-every": self.eval_every, "--eval-tokens": self.options.eval_tokens}
        # As it is saved: a file is compared by its content, and may have been moved.
        config = {**self.model.config.to_dict(), **self.dropout}
        return {
            **named,
            "--position-init": self.options.first_positions,
            "--keep": "best" if best else "a number",
            **(chosen_by if best else {}),
            "corpus": self.corpus.manifest.fingerprint,
            "objective": self.objective,
            "max_length": self.max_length,
            "weights": "new" if self.options.model is None else self.source,
            **{f"config.{name}": value for name, value in config.items()},
            "steps": self.total_steps,
            "--pass-tokens": self.pass_tokens,
            "precision": self.precision.name,
        }


_DECIDING = (
    "batch_tokens",
    "batch_warmup",
    "mask",
    "mask_end",
    "whole_words",
    "nsp_weight",
    "lr",
    "schedule",
    "warmup",
    "decay",
    "weight_decay",
    "beta2",
    "clip",
    "dropout",
    "seed",
)


def prepare(
    shards: Path,
    options: PretrainOptions,
    precision: PrecisionChoice | None = None,
    world: World = ALONE,
) -> Run:
    """Open the corpus, build or load the model, lay out the run, and tell the user.

    Args:
        shards: folder of a prepared corpus.
        options: settings.
        precision: of the run that is resumed; None: as the options say.
        world: the processes that train together.

    Raises:
        BertoltError: something in the corpus, the model or the options cannot be used.
    """
    corpus = Corpus.open(shards)
    tokenizer = BertTokenizer.from_pretrained(corpus.tokenizer_folder)
    objective = options.objective or corpus.manifest.objective
    max_length = options.max_length or corpus.manifest.max_length
    if not corpus.train:
        raise DataError(
            "the corpus has no text to train on",
            place=str(shards),
            fix="prepare it with more documents, or with a smaller --held-out",
        )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    precision = precision or agree(choose_precision(options.precision, device), world)
    model, source, dropout = _model(options, tokenizer, objective, max_length)
    if isinstance(model, BertForPreTraining):
        model.next_sentence_weight = options.nsp_weight
    rows, steps = _passes(options, max_length, device, world)
    settings: dict[str, Any] = {
        "objective": objective,
        "max_length": max_length,
        "rows": rows,
        "whole_words": options.whole_words,
    }
    data = Batches(corpus.train, tokenizer, seed=options.seed, **settings)
    total = _total(options, steps, data)
    masks = MaskShare(options.mask, options.mask_end or options.mask, total)
    model.move(device, precision.dtype)
    if options.shard:
        world.shard(model)
    counts = data.count_tokens()
    rate = options.peak_rate(model.config.hidden_size)
    optimizer, scheduler, warmup = _optimizer(options, model, rate, total)
    run = Run(
        shards=shards,
        options=options,
        corpus=corpus,
        objective=objective,
        max_length=max_length,
        tokenizer=tokenizer,
        model=model,
        source=source,
        dropout=dropout,
        data=data,
        held_out=_held_out(corpus, tokenizer, options, settings),
        steps=steps,
        total_steps=total,
        masks=masks,
        optimizer=optimizer,
        scheduler=scheduler,
        learning_rate=rate,
        warmup_steps=warmup,
        precision=precision,
        entropy=token_entropy(counts, data.maskable),
        eval_every=options.eval_every or max(1, total // _OFTEN),
        save_every=options.save_every or max(1, total // _OFTEN),
        world=world,
    )
    _tell(run)
    if options.whole_words:
        share = float(counts[data.continuing].sum()) / max(1, int(counts.sum()))
        say(
            f"Whole words: {percent(share)} of the tokens go on with the word before them; "
            "a Chinese character is a word by itself"
        )
    return run


def _model(
    options: PretrainOptions, tokenizer: BertTokenizer, objective: Objective, max_length: int
) -> tuple[LanguageModel, str, dict[str, float]]:
    """The model, where it is from, and the dropout that its saved config is to have."""
    kind = BertForMaskedLM if objective == "mlm" else BertForPreTraining
    if options.model is None:
        source = options.config or "small"
        config = _new_config(options, source, tokenizer, max_length)
    else:
        folder = huggingface.resolve(options.model)
        _require_same_tokens(folder, tokenizer)
        source, config = str(folder), BertConfig.from_pretrained(folder)
    tokenizer.check_fits(config.vocab_size)
    if max_length > config.max_position_embeddings:
        raise UsageError(
            f"sequences have up to {max_length} tokens, and the position table of {source} "
            f"has {config.max_position_embeddings} rows",
            fix=f"give --max-length {config.max_position_embeddings}",
        )
    names = ("hidden_dropout_prob", "attention_probs_dropout_prob")
    own = {name: float(getattr(config, name)) for name in names}
    now: dict[str, Any] = dict.fromkeys(names, options.dropout)
    if options.model is not None:
        model: LanguageModel = kind.from_pretrained(source, seed=options.seed, **now)
        return model, source, own
    torch.manual_seed(options.seed)
    model = kind(config.changed(**now))
    if options.first_positions == "sinusoid":
        table = model.bert.embeddings.position_embeddings.weight
        with torch.no_grad():
            rows, width = table.shape
            table.copy_(sinusoids(rows, width, config.initializer_range))
    return model, source, own


def _require_same_tokens(folder: Path, tokenizer: BertTokenizer) -> None:
    """Refuse a model whose ids mean other tokens than those of the corpus.

    Raises:
        UsageError: its tokenizer has another vocabulary.
    """
    try:
        own = BertTokenizer.from_pretrained(folder)
    except CheckpointError as error:
        say(f"Caution: whether {folder} knows the corpus's tokens cannot be seen: {error.problem}")
        return
    if own.get_vocab() != tokenizer.get_vocab():
        raise UsageError(
            "the model's tokenizer has another vocabulary than the one that made the corpus",
            place=str(folder),
            fix=f"prepare the corpus with --tokenizer {folder}",
        )


def _new_config(
    options: PretrainOptions, shape: str, tokenizer: BertTokenizer, max_length: int
) -> BertConfig:
    config = find_config(shape)
    positions = max_length if shape in SHAPES else config.max_position_embeddings
    return config.changed(
        vocab_size=1 + max(tokenizer.get_vocab().values()),
        max_position_embeddings=options.positions or positions,
        pad_token_id=tokenizer.pad_token_id,
    )


def _passes(
    options: PretrainOptions, max_length: int, device: torch.device, world: World
) -> tuple[int, Steps]:
    """Rows of a forward pass, and how many make a step, on all processes together."""
    most = min(options.batch_tokens // world.size, PASS_TOKENS[device.type])
    rows = options.pass_tokens or _even_rows(options.batch_tokens, most, 2 * max_length)
    passes, odd = divmod(options.batch_tokens, rows)
    if odd or not passes:
        raise UsageError(
            f"--batch-tokens is {options.batch_tokens}, which is no multiple of the {rows} of a "
            "forward pass",
            fix=f"give {max(1, round(options.batch_tokens / rows)) * rows}, or another "
            "--pass-tokens",
        )
    if passes < world.size:
        say(
            f"Caution: a step has {plural(passes, 'forward pass', 'forward passes')} for "
            f"{world.size} processes, so that some of them add nothing"
        )
    if options.batch_warmup and passes == 1:
        raise UsageError(
            f"--batch-warmup is {options.batch_warmup}, and a step is a single forward pass, which "
            "is the least",
            fix="give a --pass-tokens that is less than --batch-tokens, or no --batch-warmup",
        )
    return rows, Steps(passes, options.batch_warmup)


def _even_rows(batch_tokens: int, most: int, least: int) -> int:
    """Rows of which a whole number makes a batch: `most` or a little less, but `least` in any case.

    Where there are none, `most`, which the caller refuses.
    """
    most = max(most, least)
    few = max(least, most // 2)
    even = (rows for rows in range(most, few - 1, -1) if batch_tokens % rows == 0)
    return next(even, min(most, batch_tokens))


def _total(options: PretrainOptions, steps: Steps, data: Batches) -> int:
    """Steps of the run."""
    if options.steps is not None:
        return options.steps
    if options.token_goal is not None:
        return steps.needed(math.ceil(options.token_goal / data.tokens))
    return steps.needed(math.ceil((options.epochs or EPOCHS) * data.per_epoch / data.passes))


def _optimizer(
    options: PretrainOptions, model: LanguageModel, rate: float, total: int
) -> tuple[torch.optim.Optimizer, Any, int]:
    optimizer = AdamW(
        parameter_groups(model, options.weight_decay), lr=rate, betas=(0.9, options.beta2)
    )
    share = options.warmup < 1
    warmup = min(total, math.ceil(total * options.warmup) if share else int(options.warmup))
    falling = {"num_decay_steps": min(total - warmup, math.ceil(total * options.decay))}
    scheduler = get_scheduler(
        options.schedule,
        optimizer,
        num_warmup_steps=warmup,
        num_training_steps=total,
        scheduler_specific_kwargs=falling if options.schedule == "warmup_stable_decay" else None,
    )
    return optimizer, scheduler, warmup


def _held_out(
    corpus: Corpus, tokenizer: BertTokenizer, options: PretrainOptions, settings: dict[str, Any]
) -> HeldOut | None:
    shards = corpus.held_out
    if not shards:
        say("Caution: the corpus holds no text out, so there is no held-out loss")
        return None
    settings = {**settings, "rows": max(HELD_OUT_ROWS, 2 * settings["max_length"])}
    try:
        batches = Batches(shards, tokenizer, seed=HELD_OUT_SEED, **settings)
    except DataError as error:
        say(f"Of the held-out text only masked tokens are measured: {error.problem}")
        settings = {**settings, "objective": "mlm"}
        batches = Batches(shards, tokenizer, seed=HELD_OUT_SEED, **settings)
    return HeldOut(batches, options.mask, options.eval_tokens)


def _tell(run: Run) -> None:
    data, config, options = run.data, run.model.config, run.options
    counts, held_out = run.corpus.manifest.train, run.corpus.manifest.held_out
    say(
        f"Corpus: {plural(counts.tokens, 'token')} in {plural(counts.documents, 'document')}, "
        f"and {plural(held_out.tokens, 'token')} held out"
    )
    say(
        f"Model: {plural(config.num_hidden_layers, 'layer')}, hidden {config.hidden_size}, "
        f"{config.vocab_size:,} tokens, {config.max_position_embeddings} positions, "
        f"{millions(run.model.num_parameters())} parameters, from {run.source}"
    )
    seen = run.steps.before(run.total_steps + 1)
    epochs = seen / data.per_epoch * data.passes
    say(
        f"Run: {plural(run.total_steps, 'step')} of up to {run.steps.passes} × "
        f"{run.pass_tokens:,} tokens, "
        f"{seen * data.tokens / 1e6:,.1f} million in all: {epochs:.1f} epochs"
    )
    why = "as given" if options.lr else f"for hidden size {config.hidden_size}"
    say(f"Learning rate {run.learning_rate:.2g}, {why}; {plural(run.warmup_steps, 'warmup step')}")
    ends = "" if run.masks.end == run.masks.start else f" to {percent(run.masks.end)}"
    say(f"Masked: {percent(run.masks.start)}{ends} of the tokens; objective {run.objective}")
    say(f"Entropy of single tokens: {run.entropy:.3f}; a loss near it has learned no context yet")
    say(f"Precision {run.precision.name}: {run.precision.reason}")
    say(f"Attention {run.model.attention_backend.name}: {run.model.attention_backend.reason}")
