"""Pretraining by a careful loop on the model of `transformers`: what one writes to be fast.

Full blocks of one length, so that nothing is padded; masked positions alone go through the head;
autocast, fused AdamW, no dropout. Nothing of Bertolt's models is imported here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import transformers
from torch.nn import functional

from benchmarks.job import BLOCKS, Found, Job, StepClock

MASKED = 0.2  # of the tokens, as `bertolt pretrain` masks by default
_LEARNING_RATE, _WARMUP = 1e-3, 0.08


def pretrain(job: Job, started: float, seed: int, *, attention: str) -> Found:
    """Steps of masked language modelling, from scratch."""
    transformers.set_seed(seed)
    tokenizer = transformers.AutoTokenizer.from_pretrained(job.model)
    blocks = torch.from_numpy(np.load(job.path(BLOCKS)).astype(np.int64))
    model = _model(job, attention)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=_LEARNING_RATE, betas=(0.9, 0.98), fused=True
    )
    steps = job.warmup + job.steps
    schedule = transformers.get_linear_schedule_with_warmup(
        optimizer, round(_WARMUP * steps), steps
    )
    clock = StepClock(job, started)
    for _ in range(steps):
        rows = torch.randint(len(blocks), (job.batch_size,))
        _step(model, *_mask(blocks[rows], tokenizer), optimizer)
        schedule.step()
        clock.tick()
    tokens = [job.batch_size * blocks.shape[1]] * steps
    return clock.found([job.batch_size] * steps, tokens, tokens)


def _model(job: Job, attention: str) -> Any:
    shape = transformers.BertConfig.from_pretrained(
        job.model, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0
    )
    shape._attn_implementation = attention
    return transformers.BertForMaskedLM(shape).train()


def _mask(ids: torch.Tensor, tokenizer: Any) -> tuple[torch.Tensor, ...]:
    """Ids with some masked, where those are, and what stood there: 80% [MASK], 10% another."""
    special = (ids == tokenizer.cls_token_id) | (ids == tokenizer.sep_token_id)
    chosen = (torch.rand(ids.shape) < MASKED) & ~special
    share = torch.rand(ids.shape)
    masked = torch.where(chosen & (share < 0.8), tokenizer.mask_token_id, ids)
    others = torch.randint(len(tokenizer), ids.shape)
    masked = torch.where(chosen & (share >= 0.9), others, masked)
    return masked, chosen, ids[chosen]


def _step(
    model: Any,
    masked: torch.Tensor,
    chosen: torch.Tensor,
    labels: torch.Tensor,
    optimizer: torch.optim.Optimizer,
) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        hidden = model.bert(input_ids=masked).last_hidden_state
        logits = model.cls(hidden[chosen])
        loss = functional.cross_entropy(logits.float(), labels)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    loss.item()  # so that a loss can be logged, as everyone does
