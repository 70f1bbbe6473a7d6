"""From a corpus and options to the parts of a run, with a description for the user."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from bertolt.base.console import info
from bertolt.base.distributed import World, join
from bertolt.base.errors import CheckpointError, DataError, UsageError
from bertolt.base.format import millions, percent, plural
from bertolt.base.options import deciding
from bertolt.checkpoint import huggingface
from bertolt.corpus.options import Objective
from bertolt.corpus.shards import Corpus
from bertolt.data.batch import PackedBatch
from bertolt.models.config import BertConfig
from bertolt.models.families.bert import BertForMaskedLM, BertForPreTraining
from bertolt.models.initialize import sinusoids
from bertolt.models.precision import PrecisionChoice
from bertolt.models.pretrained import PreTrainedModel
from bertolt.models.shapes import SHAPES, find_config
from bertolt.models.word_heads import LanguageModel
from bertolt.pretrain.batches import Batches
from bertolt.pretrain.flops import training_flops
from bertolt.pretrain.log import Work
from bertolt.pretrain.measure import HELD_OUT_ROWS, HELD_OUT_SEED, HeldOut, token_entropy
from bertolt.pretrain.options import EPOCHS, PretrainOptions
from bertolt.pretrain.rates import this_device
from bertolt.pretrain.steps import MaskShare, Steps
from bertolt.tokenization import BertTokenizer
from bertolt.train.arguments import TrainingArguments
from bertolt.train.job import Start
from bertolt.train.loop import Callback
from bertolt.train.trainer import Trainer

PASS_TOKENS = {"cpu": 4096, "cuda": 16_384}
"""Rows of a forward pass where neither the user nor the batch says less."""

_OFTEN = 20  # evaluations and checkpoints of a run


@dataclass(frozen=True, kw_only=True)
class CorpusBatches:
    """The corpus as a `BatchSource`: each step is so many forward passes of packed sequences.

    Attributes:
        corpus: they are read from.
        shape: objective, max_length, rows of a pass, and whether words are masked whole.
        data: all of them.
        steps: which of them make a step.
        masks: the share of masked tokens in each step.
        total_steps: of the whole run.
        world: the processes that share each step.
    """

    corpus: Corpus
    shape: Mapping[str, Any]
    data: Batches
    steps: Steps
    masks: MaskShare
    total_steps: int
    world: World

    @property
    def steps_per_epoch(self) -> int:
        """Steps that read the text once."""
        return self.steps.needed(math.ceil(self.data.per_epoch / self.data.passes))

    def after(self, step: int) -> Iterator[list[PackedBatch]]:
        """This process's batches of each step after step `step`."""
        for number in range(step + 1, self.total_steps + 1):
            share = self.masks.at(number)
            dealt = self.world.deal_out(self.steps.numbers(number), evenly=True)
            yield [
                replace(self.data.batch(index, share), is_placeholder=not own)
                for index, own in dealt
            ]

    def describe(self) -> dict[str, Any]:
        """The corpus, how it is read, and how many steps there are."""
        return {
            "steps": self.total_steps,
            "corpus": self.corpus.manifest.fingerprint,
            "objective": self.shape["objective"],
            "max_length": self.shape["max_length"],
            "--pass-tokens": self.shape["rows"],
        }


@dataclass(frozen=True, kw_only=True)
class Run:
    """The parts of a run, once everything is read.

    Attributes:
        shards: the folder of the corpus.
        objective, max_length: as they were resolved.
        source: where the weights are from: a model folder, or a shape.
        dropout: what the saved config says of dropout, whatever pretraining used.
        batches: what it trains on, and for how long.
        held_out: what is measured, or None where the corpus keeps nothing.
        entropy: of single tokens of the corpus, in nats.
        trainer: of the model.
    """

    shards: Path
    options: PretrainOptions
    corpus: Corpus
    objective: Objective
    max_length: int
    source: str
    dropout: dict[str, float]
    batches: CorpusBatches
    held_out: HeldOut | None
    entropy: float
    trainer: Trainer

    @property
    def model(self) -> PreTrainedModel:
        """The model in training."""
        model: PreTrainedModel = self.trainer.model
        return model

    @property
    def precision(self) -> PrecisionChoice:
        """The number format, and why."""
        return self.trainer.precision

    @property
    def data(self) -> Batches:
        """The batches to train on."""
        return self.batches.data

    @cached_property
    def work(self) -> Work:
        """What steps compute, and the machine's peak: measured when it is first asked for."""
        config, attended, masks = self.model.config, self.data.attended, self.batches.masks
        peak = this_device("bf16" if self.precision.name == "bf16" else "fp32").peak
        return Work(
            flops=lambda step: training_flops(config, attended, masks.at(step)),
            peak=self.trainer.world.size * peak,
        )

    @property
    def pass_tokens(self) -> int:
        """Rows of a forward pass."""
        return self.options.batch_tokens // self.batches.steps.passes


@dataclass(frozen=True)
class _Beside:
    """Writes beside a saved model what fine-tuning starts from: tokenizer and usual dropout."""

    tokenizer: BertTokenizer
    dropout: dict[str, float]

    def save_pretrained(self, folder: Path) -> None:
        self.tokenizer.save_pretrained(folder)
        if (folder / "config.json").is_file():  # a checkpoint in parts has none
            config = BertConfig.from_pretrained(folder)
            config.changed(**self.dropout).save_pretrained(folder)


def set_up_run(
    shards: Path, options: PretrainOptions, start: Start, callbacks: Sequence[Callback] = ()
) -> Run:
    """Open the corpus, build or load the model, lay out the run, and tell the user.

    Args:
        shards: folder of a prepared corpus.
        options: settings.
        start: what the run begins with.
        callbacks: to watch the run.

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
            fix="prepare it with more documents, or hold fewer out: bertolt prepare … --held-out",
        )
    model, source, dropout = _model(options, tokenizer, objective, max_length)
    if isinstance(model, BertForPreTraining):
        model.next_sentence_weight = options.nsp_weight
    batches = _batches(corpus, tokenizer, options, objective, max_length)
    data = batches.data
    counts = data.count_tokens()
    held_out = _held_out(batches, tokenizer, options)
    args = _arguments(options, model, batches.total_steps, evaluates=held_out is not None)
    origin = {"weights": "new" if options.model is None else source}
    # As it is saved: a file is compared by its content, and may have been moved.
    shown = {f"config.{key}": value for key, value in (model.config.to_dict() | dropout).items()}
    trainer = Trainer(
        model,
        args,
        processing_class=_Beside(tokenizer, dropout),
        callbacks=callbacks,
        batches=batches,
        evaluate=None if held_out is None else _measuring(held_out),
        settings=origin | _settings(options, args) | batches.describe() | shown,
        store=start.store,
        precision=start.precision,
    )
    run = Run(
        shards=shards,
        options=options,
        corpus=corpus,
        objective=objective,
        max_length=max_length,
        source=source,
        dropout=dropout,
        batches=batches,
        held_out=held_out,
        entropy=token_entropy(counts, data.maskable),
        trainer=trainer,
    )
    _describe_run(run)
    if options.whole_words:
        share = float(counts[data.continuing].sum()) / max(1, int(counts.sum()))
        info(
            f"Whole words: {percent(share)} of the tokens go on with the word before them; "
            "a Chinese character is a word by itself"
        )
    return run


def _batches(
    corpus: Corpus,
    tokenizer: BertTokenizer,
    options: PretrainOptions,
    objective: Objective,
    max_length: int,
) -> CorpusBatches:
    """The batches of the run, and its number of steps."""
    world = join()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    rows, steps = _passes(options, max_length, device, world)
    shape: dict[str, Any] = {
        "objective": objective,
        "max_length": max_length,
        "rows": rows,
        "whole_words": options.whole_words,
    }
    data = Batches(corpus.train, tokenizer, seed=options.seed, **shape)
    total = _total(options, steps, data)
    return CorpusBatches(
        corpus=corpus,
        shape=shape,
        data=data,
        steps=steps,
        masks=MaskShare(options.mask, options.mask_end or options.mask, total),
        total_steps=total,
        world=world,
    )


def _measuring(held_out: HeldOut) -> Callable[[Trainer], dict[str, float]]:
    """An evaluation on the held-out text."""
    return lambda trainer: held_out.measure(trainer.model, trainer.precision, trainer.world)


def _settings(options: PretrainOptions, args: TrainingArguments) -> dict[str, Any]:
    """The options that decide the result, by name."""
    best = options.keep == "best"
    chosen_by = {"--eval-every": args.eval_steps, "--eval-tokens": options.eval_tokens}
    return {
        **deciding(options),
        "--position-init": options.first_positions,
        "--keep": "best" if best else "a number",
        **(chosen_by if best else {}),
    }


def _model(
    options: PretrainOptions, tokenizer: BertTokenizer, objective: Objective, max_length: int
) -> tuple[LanguageModel, str, dict[str, float]]:
    """The model, its source, and the dropout of its saved config."""
    kind = BertForMaskedLM if objective == "mlm" else BertForPreTraining
    if options.model is None:
        source = options.config or "small"
        config = _new_config(options, source, tokenizer, max_length)
    else:
        folder = huggingface.resolve(options.model)
        source, config = str(folder), BertConfig.from_pretrained(folder)
        _require_same_tokens(folder, tokenizer)
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
        table = model.base_model.embeddings.position_embeddings.weight
        with torch.no_grad():
            rows, width = table.shape
            table.copy_(sinusoids(rows, width, config.initializer_range))
    return model, source, own


def _require_same_tokens(folder: Path, tokenizer: BertTokenizer) -> None:
    """Refuse a model whose ids mean other tokens than in the corpus.

    Raises:
        UsageError: its tokenizer has another vocabulary.
    """
    try:
        own = BertTokenizer.from_pretrained(folder)
    except CheckpointError as error:
        info(f"Caution: whether {folder} knows the corpus's tokens cannot be seen: {error.problem}")
        return
    if own.get_vocab() != tokenizer.get_vocab():
        raise UsageError(
            "the model's tokenizer has another vocabulary than the one that made the corpus",
            place=str(folder),
            fix=f"prepare the corpus with its own: bertolt prepare … --tokenizer {folder}",
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
        info(
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
    """The largest divisor of the batch from `most` down to half of it, and not below `least`.

    Where there is no such divisor, `most`, which the caller refuses.
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


def _arguments(
    options: PretrainOptions, model: LanguageModel, total: int, *, evaluates: bool
) -> TrainingArguments:
    """The options as the Trainer takes them."""
    share = options.warmup < 1
    warmup = min(total, math.ceil(total * options.warmup) if share else int(options.warmup))
    falling = {"num_decay_steps": min(total - warmup, math.ceil(total * options.decay))}
    often = max(1, total // _OFTEN)
    return TrainingArguments(
        output_dir=str(options.out),
        max_steps=total,
        learning_rate=options.peak_rate(model.config.hidden_size),
        weight_decay=options.weight_decay,
        adam_beta2=options.beta2,
        adam_epsilon=1e-6,  # as published for BERT
        max_grad_norm=options.clip,
        fsdp=options.shard,
        lr_scheduler_type=options.schedule,
        lr_scheduler_kwargs=falling if options.schedule == "warmup_stable_decay" else {},
        warmup_steps=warmup,
        eval_strategy="steps" if evaluates else "no",
        eval_steps=options.eval_every or often,
        seed=options.seed,
        precision=options.precision,
        disable_tqdm=True,  # what shows the progress counts tokens
        save_strategy="steps",
        save_steps=options.save_every or often,
        load_best_model_at_end=options.keep == "best" and evaluates,
    )


def _held_out(
    trained: CorpusBatches, tokenizer: BertTokenizer, options: PretrainOptions
) -> HeldOut | None:
    shards = trained.corpus.held_out
    if not shards:
        info("Caution: the corpus holds no text out, so there is no held-out loss")
        return None
    settings = dict(trained.shape)
    settings["rows"] = max(HELD_OUT_ROWS, 2 * settings["max_length"])
    try:
        batches = Batches(shards, tokenizer, seed=HELD_OUT_SEED, **settings)
    except DataError as error:
        info(f"Of the held-out text only masked tokens are measured: {error.problem}")
        settings = {**settings, "objective": "mlm"}
        batches = Batches(shards, tokenizer, seed=HELD_OUT_SEED, **settings)
    return HeldOut(batches, options.mask, options.eval_tokens)


def _describe_run(run: Run) -> None:
    data, config, options = run.data, run.model.config, run.options
    steps, masks, total, args = (
        run.batches.steps,
        run.batches.masks,
        run.batches.total_steps,
        run.trainer.args,
    )
    counts, held_out = run.corpus.manifest.train, run.corpus.manifest.held_out
    info(
        f"Corpus: {plural(counts.tokens, 'token')} in {plural(counts.documents, 'document')}, "
        f"and {plural(held_out.tokens, 'token')} held out"
    )
    info(
        f"Model: {plural(config.num_hidden_layers, 'layer')}, hidden {config.hidden_size}, "
        f"{config.vocab_size:,} tokens, {config.max_position_embeddings} positions, "
        f"{millions(run.model.num_parameters())} parameters, from {run.source}"
    )
    seen = steps.before(total + 1)
    epochs = seen / data.per_epoch * data.passes
    info(
        f"Run: {plural(total, 'step')} of up to {steps.passes} × "
        f"{run.pass_tokens:,} tokens, "
        f"{seen * data.tokens / 1e6:,.1f} million in all: {epochs:.1f} epochs"
    )
    why = "as given" if options.lr else f"for hidden size {config.hidden_size}"
    warmup = plural(int(args.warmup_steps), "warmup step")
    info(f"Learning rate {args.learning_rate:.2g}, {why}; {warmup}")
    ends = "" if masks.end == masks.start else f" to {percent(masks.end)}"
    info(f"Masked: {percent(masks.start)}{ends} of the tokens; objective {run.objective}")
    info(f"Entropy of single tokens: {run.entropy:.3f}; a loss near it has learned no context yet")
    info(f"Precision {run.precision.name}: {run.precision.reason}")
    info(f"Attention {run.model.attention_backend.name}: {run.model.attention_backend.reason}")
