"""What `benchmarks.gpu` measures, each function in a process of its own.

Weights are random and words are made up: shapes and lengths decide the speed, and nothing has to be
fetched. Both sides train in bfloat16 with dropout, fp32 weights and fused AdamW; clocks start
behind the warm-up and stop when the GPU is done.
"""

from __future__ import annotations

import importlib
import importlib.util
import random
import string
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

LONGEST = 512
MASKED = 0.15
VOCABULARY = 30_528
"""30,522 words, rounded up to a multiple of 64 as `resize_token_embeddings` offers it."""

Found = dict[str, Any]


@dataclass(frozen=True)
class Scale:
    """How much of everything; the defaults are for a large GPU.

    Attributes:
        device: to run on.
        warmup, steps: steps of fine-tuning left out, and timed; a third of each in pretraining.
        tokens: of a pretraining step.
        product: rows and columns of the product that is the yardstick.
        texts: for prediction.
        sizes: layers, hidden size, heads of "base" and "large".
        batches: sequences of a fine-tuning step.
    """

    device: str = "cuda"
    warmup: int = 30
    steps: int = 60
    tokens: int = 128 * LONGEST
    product: int = 8192
    texts: int = 20_000
    sizes: tuple[tuple[str, tuple[int, int, int]], ...] = (
        ("base", (12, 768, 12)),
        ("large", (24, 1024, 16)),
    )
    batches: tuple[int, int] = (32, 256)

    def fewer(self) -> Scale:
        """The same with a third of the steps, which are longer."""
        return replace(self, warmup=-(-self.warmup // 3), steps=-(-self.steps // 3))


SMOKE = Scale(
    device="cpu",
    warmup=1,
    steps=2,
    tokens=LONGEST,
    product=256,
    texts=40,
    sizes=(("base", (1, 64, 1)), ("large", (2, 64, 1))),
    batches=(2, 4),
)


# ---- what both sides work on ----


def shape_of(scale: Scale, size: str, vocab_size: int = VOCABULARY) -> dict[str, int]:
    """The config's fields for a size."""
    layers, hidden, heads = dict(scale.sizes)[size]
    return {
        "vocab_size": vocab_size,
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "num_attention_heads": heads,
        "intermediate_size": 4 * hidden,
    }


def lengths_of(kind: str, count: int, seed: int = 0) -> list[int]:
    """Tokens of texts: "full" all of 512, "mixed" with a long tail, "short" as single sentences."""
    if kind == "full":
        return [LONGEST] * count
    middle, spread, low, high = {"mixed": (4.6, 0.9, 8, LONGEST), "short": (3.2, 0.45, 5, 64)}[kind]
    draw = random.Random(seed)
    return [min(high, max(low, round(draw.lognormvariate(middle, spread)))) for _ in range(count)]


def words(count: int = VOCABULARY - 5) -> list[str]:
    """Made-up words, all different."""
    draw = random.Random(0)
    found: dict[str, None] = {}
    while len(found) < count:
        found["".join(draw.choices(string.ascii_lowercase, k=draw.randint(2, 9)))] = None
    return list(found)


def texts_of(kind: str, count: int) -> list[str]:
    """Texts of these lengths, two special tokens counted."""
    vocabulary, draw = words(), random.Random(1)
    return [" ".join(draw.choices(vocabulary, k=n - 2)) for n in lengths_of(kind, count)]


def vocabulary_folder() -> str:
    """A folder with a `vocab.txt` of the words, for both tokenizers."""
    folder = tempfile.mkdtemp(prefix="bertolt-gpu-")
    lines = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words()]
    (Path(folder) / "vocab.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


@dataclass
class Clock:
    """Times the steps behind the warm-up; a callback of Bertolt's loop.

    Attributes:
        scale: says how many steps are left out, and where to wait.
        tokens, sequences, rows: of the timed steps; rows are tokens and padding.
        seconds: they took.
    """

    scale: Scale
    tokens: int = 0
    sequences: int = 0
    rows: int = 0
    seconds: float = 0.0
    _start: float = field(default=0.0, repr=False)

    def start(self) -> None:
        """Behind the warm-up."""
        self._start = now(self.scale)

    def stop(self) -> None:
        """Behind the last step."""
        self.seconds = now(self.scale) - self._start

    def on_step(self, log: Any, total_steps: int) -> None:
        if log.step == self.scale.warmup:
            self.start()
        elif log.step > self.scale.warmup:
            self.tokens += log.tokens
            self.sequences += log.sequences
            self.rows += log.rows

    def on_evaluate(self, step: int, metrics: dict[str, float]) -> None: ...

    def on_end(self, history: Any) -> None:
        self.stop()

    def found(self, **more: Any) -> Found:
        """Rates and peak memory."""
        import torch

        memory = torch.cuda.max_memory_allocated() if self.scale.device == "cuda" else 0
        return {
            "tokens_per_second": self.tokens / self.seconds,
            "sequences_per_second": self.sequences / self.seconds,
            "step_ms": 1000 * self.seconds / self.scale.steps,
            "filler_share": 1 - self.tokens / max(1, self.rows),
            "memory_gb": memory / 2**30,
            **more,
        }


def now(scale: Scale) -> float:
    """The time at which the GPU has nothing left to do."""
    import torch

    if scale.device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def bf16() -> Any:
    """The number format of every run."""
    from bertolt.models.precision import PrecisionChoice

    return PrecisionChoice("bf16", "for everyone")


# ---- measurements ----


def products(scale: Scale) -> Found:
    """The yardstick: operations a second of a large product of random numbers, and of BERT's."""
    import torch

    def rate(rows: int, inner: int, columns: int) -> float:
        a = torch.randn(rows, inner, device=scale.device, dtype=torch.bfloat16)
        b = torch.randn(columns, inner, device=scale.device, dtype=torch.bfloat16)
        for _ in range(3):
            torch.nn.functional.linear(a, b)
        start = now(scale)
        for _ in range(20):
            torch.nn.functional.linear(a, b)
        return 20 * 2 * rows * inner * columns / (now(scale) - start) / 1e12

    side, hidden = scale.product, dict(scale.sizes)["base"][1]
    return {
        "tflops": rate(side, side, side),
        "base_square_tflops": rate(scale.tokens, hidden, hidden),
        "base_wide_tflops": rate(scale.tokens, hidden, 4 * hidden),
        "machine": machine(scale),
    }


def machine(scale: Scale) -> Found:
    """What it runs on."""
    import torch

    from bertolt.pretrain.flops import GPUS, find_gpu

    name = torch.cuda.get_device_name() if scale.device == "cuda" else "no GPU: a smoke test"
    known = find_gpu(name)
    peer = importlib.util.find_spec("transformers") and importlib.import_module("transformers")
    return {
        "gpu": name,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "transformers": peer and peer.__version__,
        "paper_peak": known and 1e12 * GPUS[known].teraflops,
    }


class Words:
    """What the masking collator needs to know of a tokenizer."""

    mask_token_id, pad_token_id, padding_side = 4, 0, "right"
    all_special_ids = (0, 1, 2, 3, 4)

    def get_vocab(self) -> dict[str, int]:
        return {str(number): number for number in range(VOCABULARY - 6)}


def pretraining_steps(scale: Scale, kind: str, seen: dict[str, float]) -> Iterator[list[Any]]:
    """Batches of as many whole texts as fit the tokens of a step, masked as they are made."""
    import numpy as np

    from bertolt.data.masking import DataCollatorForLanguageModeling

    collate = DataCollatorForLanguageModeling(Words(), packed=True, mlm_probability=MASKED)
    generator = np.random.default_rng(0)
    waiting = iter(lengths_of(kind, 1_000_000))
    length = next(waiting)
    while True:
        rows, total = [], 0
        while total + length <= scale.tokens:
            rows.append(generator.integers(5, VOCABULARY - 6, length))
            seen["squares"] = seen.get("squares", 0) + length**2
            total, length = total + length, next(waiting)
        seen["tokens"] = seen.get("tokens", 0) + total
        yield [collate(rows)]


def pretrain(
    scale: Scale,
    size: str,
    lengths: str,
    compiled: bool = False,
    vocab_size: int = VOCABULARY,
) -> Found:
    """Masked-LM training, packed; TFLOP/s are of the products that are computed."""
    import torch

    from bertolt import AdamW, BertConfig, BertForMaskedLM
    from bertolt.pretrain.flops import training_flops
    from bertolt.train.loop import fit
    from bertolt.train.optim import parameter_groups

    torch.manual_seed(0)
    scale = scale.fewer()
    shape = shape_of(scale, size, vocab_size)
    model = BertForMaskedLM(BertConfig(**shape)).move(torch.device(scale.device), torch.bfloat16)
    if compiled:
        for layer in model.bert.encoder.layer:
            layer.compile(backend="inductor" if scale.device == "cuda" else "aot_eager")
    clock, seen = Clock(scale), {}
    history = fit(
        model,
        pretraining_steps(scale, lengths, seen),
        AdamW(parameter_groups(model, 0.01), lr=1e-4),
        None,
        total_steps=scale.warmup + scale.steps,
        max_grad_norm=1.0,
        precision=bf16(),
        callbacks=[clock],
    )
    if history.failure is not None:
        raise history.failure
    found = clock.found(attention=str(model.attention_backend.name))
    each = training_flops(BertConfig(**shape), seen["squares"] / seen["tokens"], MASKED)
    return found | {
        "why": model.attention_backend.reason,
        "tflops": each * found["tokens_per_second"] / 1e12,
    }


def peer_pretrain(scale: Scale) -> Found:
    """The peer's base-size model in a plain loop: texts of 512, and so without padding."""
    import numpy as np
    import torch
    import transformers

    from bertolt import BertConfig
    from bertolt.pretrain.flops import forward_flops

    torch.manual_seed(0)
    scale = scale.fewer()
    shape = shape_of(scale, "base")
    model = transformers.AutoModelForMaskedLM.from_config(
        transformers.BertConfig(**shape), attn_implementation="sdpa"
    )
    model = model.to(scale.device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    count = scale.tokens // LONGEST
    ids = torch.randint(5, VOCABULARY, (count, LONGEST), device=scale.device)
    labels = ids.masked_fill(torch.rand(ids.shape, device=scale.device) >= MASKED, -100)
    clock = Clock(scale)
    for step in range(scale.warmup + scale.steps):
        if step == scale.warmup:
            clock.start()
        with torch.autocast(scale.device, dtype=torch.bfloat16):
            loss = model(input_ids=ids, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    clock.stop()
    clock.tokens = clock.rows = scale.steps * ids.numel()
    clock.sequences = scale.steps * count
    found = clock.found(attention="sdpa")
    # It computes the place in the vocabulary of every token, and not of the masked ones alone.
    each = 3 * forward_flops(BertConfig(**shape), np.array([LONGEST]), labelled=1.0)
    return found | {"tflops": each * found["tokens_per_second"] / 1e12}


def finetune(scale: Scale, batch: int) -> Found:
    """Bertolt's Trainer on single sentences."""
    import numpy as np
    import torch

    from bertolt import (
        BertConfig,
        BertForSequenceClassification,
        BertTokenizer,
        Trainer,
        TrainingArguments,
    )
    from bertolt.data.encode import encode_texts

    torch.manual_seed(0)
    steps = scale.warmup + scale.steps
    texts = texts_of("short", scale.batches[batch] * steps)
    tokenizer = BertTokenizer.from_pretrained(vocabulary_folder())
    clock = Clock(scale)
    args = TrainingArguments(
        per_device_train_batch_size=scale.batches[batch],
        max_steps=steps,
        learning_rate=1e-5,
        weight_decay=0.01,
        precision="bf16",
        disable_tqdm=True,
        use_cpu=scale.device == "cpu",
    )
    model = BertForSequenceClassification(BertConfig(**shape_of(scale, "base")))
    rows = encode_texts(tokenizer, texts, LONGEST, np.arange(len(texts)) % 2)
    trainer = Trainer(model, args, train_dataset=rows, callbacks=[clock])
    trainer.train()
    chosen = trainer.model.attention_backend
    return clock.found(attention=chosen.name, why=chosen.reason)


def peer_finetune(scale: Scale, batch: int, attention: str, grouped: bool) -> Found:
    """The peer's Trainer on the same texts: bfloat16, dynamic padding, two loading processes."""
    import torch
    import transformers

    if attention == "flash_attention_2" and importlib.util.find_spec("flash_attn") is None:
        raise SystemExit("the package flash_attn is not installed")
    torch.manual_seed(0)
    steps, size = scale.warmup + scale.steps, scale.batches[batch]
    tokenizer = transformers.BertTokenizerFast.from_pretrained(vocabulary_folder())
    encoded = tokenizer(texts_of("short", size * steps), truncation=True, max_length=LONGEST)
    rows = [
        {"input_ids": ids, "labels": number % 2} for number, ids in enumerate(encoded["input_ids"])
    ]
    model = transformers.AutoModelForSequenceClassification.from_config(
        transformers.BertConfig(**shape_of(scale, "base")), attn_implementation=attention
    )
    clock = Clock(scale)
    clock.sequences = scale.steps * size
    mean = sum(map(len, encoded["input_ids"])) / len(rows)
    clock.tokens = clock.rows = round(clock.sequences * mean)

    class Watch(transformers.TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
            if state.global_step == scale.warmup:
                clock.start()
            elif state.global_step == steps:
                clock.stop()

    settings = transformers.TrainingArguments(
        output_dir=tempfile.mkdtemp(prefix="bertolt-gpu-"),
        per_device_train_batch_size=size,
        max_steps=steps,
        learning_rate=1e-5,
        weight_decay=0.01,
        bf16=True,
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=scale.device == "cpu",
        dataloader_num_workers=2 if scale.device == "cuda" else 0,
        dataloader_pin_memory=scale.device == "cuda",
        **({"train_sampling_strategy": "group_by_length"} if grouped else {}),
    )
    transformers.Trainer(
        model=model,
        args=settings,
        train_dataset=rows,
        data_collator=transformers.DataCollatorWithPadding(tokenizer, pad_to_multiple_of=8),
        callbacks=[Watch()],
    ).train()
    return clock.found(attention=attention, filler_share=None)


def predict(scale: Scale, kind: str) -> Found:
    """Bertolt's Predictor, from texts to labels."""
    import torch

    from bertolt import BertConfig, BertForSequenceClassification, BertTokenizer
    from bertolt.tasks.predictor import Predictor

    torch.manual_seed(0)
    texts = texts_of(kind, scale.texts)
    predictor = Predictor(
        BertForSequenceClassification(BertConfig(**shape_of(scale, "base"))),
        BertTokenizer.from_pretrained(vocabulary_folder()),
        precision="bf16",
        device=torch.device(scale.device),
    )
    chosen = predictor.model.attention_backend
    return answer(scale, kind, texts, lambda few: list(predictor.predict(few))) | {
        "attention": chosen.name,
        "why": chosen.reason,
    }


def peer_predict(scale: Scale, kind: str, ordered: bool, batch: int) -> Found:
    """The peer's pipeline with weights of bfloat16, on texts as they come or sorted by length."""
    import torch
    import transformers

    torch.manual_seed(0)
    texts = texts_of(kind, scale.texts // 4 or 1)  # it takes longer, and its rate is steady
    texts = sorted(texts, key=len, reverse=True) if ordered else texts
    model = transformers.AutoModelForSequenceClassification.from_config(
        transformers.BertConfig(**shape_of(scale, "base")), attn_implementation="sdpa"
    )
    classify = transformers.pipeline(
        "text-classification",
        model=model.to(torch.bfloat16).eval(),
        tokenizer=transformers.BertTokenizerFast.from_pretrained(vocabulary_folder()),
        device=torch.device(scale.device),
        batch_size=min(batch, scale.texts),
    )
    found = answer(
        scale,
        kind,
        texts,
        lambda few: classify(few, truncation=True, max_length=LONGEST),
    )
    return found | {"attention": "sdpa"}


def answer(scale: Scale, kind: str, texts: list[str], run: Callable[[list[str]], object]) -> Found:
    """Time the answers to all texts, a part of them answered before to warm up."""
    run(texts[: len(texts) // 8 or 1])
    clock = Clock(scale)
    clock.start()
    run(texts)
    clock.stop()
    clock.sequences = len(texts)
    clock.tokens = clock.rows = sum(lengths_of(kind, len(texts)))
    return clock.found(step_ms=None, filler_share=None)
