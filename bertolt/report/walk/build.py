"""`walk_through`: a model and a text in, a `Walk` out."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from bertolt.base.format import plural
from bertolt.base.threads import ignored_warnings
from bertolt.models.config import BertConfig
from bertolt.models.pretrained import PreTrainedModel
from bertolt.report.walk.layer import PaddedRow, walk_first_layer
from bertolt.report.walk.record import Answer, AttentionMaps, Token, Walk
from bertolt.tokenization import BertTokenizer
from bertolt.tokenization.batch_encoding import BatchEncoding

PADDING = 3
"""Columns of padding behind the text, so that the mask has something to hide."""
MOST_TOKENS = 128
"""Tokens that the attention maps show; of a longer text, the first."""


def walk_through(
    model: PreTrainedModel,
    tokenizer: BertTokenizer,
    text: str,
    pair: str | None = None,
    *,
    name: str,
    limit: int,
    answer: Answer | None = None,
    remarks: Sequence[str] = (),
) -> Walk:
    """Send one input through a model, watching the first layer and all attention.

    Args:
        model: any of the family, on the CPU.
        tokenizer: that fits it.
        text: the input.
        pair: a second text, which becomes segment 1.
        name: what the model is called.
        limit: most tokens of an input; a longer one is cut.
        answer: what the model's task says of the input, if it has one.
        remarks: what a reader has to know beside what the walk sees itself.

    Raises:
        DataError: the input has segments that the model does not know.
    """
    config = model.config
    encoder = model.base_model
    encoded = _encode(tokenizer, text, pair, limit)
    filler = tokenizer.convert_ids_to_tokens(config.pad_token_id) or "[PAD]"
    row, tokens = _padded(encoded, config, filler)
    with torch.no_grad():
        # The model first: it refuses ids that it has no row for, in words. Attention is watched in
        # a second run, because that one is padded inside and so no other way to the same numbers.
        states = encoder(**vars(row), output_hidden_states=True).hidden_states
        maps = encoder(**vars(row), output_attentions=True).attentions
    steps, walked = walk_first_layer(encoder, row)
    length = walked.shape[1]
    shown = min(length, MOST_TOKENS)
    return Walk(
        model=name,
        architecture=", ".join(config.architectures) or type(model).__name__,
        shape=f"{plural(config.num_hidden_layers, 'layer')}, hidden {config.hidden_size:,}, "
        f"{plural(config.num_attention_heads, 'head')}",
        text=text,
        pair=pair,
        tokens=tokens,
        limit=limit,
        tokens_cut=encoded.truncated.tokens,
        steps=steps,
        difference=float((walked - states[1][:, :length]).abs().max()),
        attention=AttentionMaps.of([each[0, :, :shown, :shown].numpy() for each in maps]),
        answer=answer,
        remarks=(*_about_encoder(model), *remarks),
    )


def _encode(tokenizer: BertTokenizer, text: str, pair: str | None, limit: int) -> BatchEncoding:
    with ignored_warnings(kind=UserWarning):  # of a cut, which the walk carries
        return tokenizer(text, pair, truncation=True, max_length=limit, return_token_type_ids=True)


def _padded(
    encoded: BatchEncoding, config: BertConfig, filler: str
) -> tuple[PaddedRow, tuple[Token, ...]]:
    """The row with padding behind it, as far as the position table reaches, and its columns."""
    ids, segments, words = encoded["input_ids"], encoded["token_type_ids"], encoded.tokens()
    spare = min(PADDING, config.max_tokens - len(ids))
    mask = [1] * len(ids) + [0] * spare
    ids, segments = [*ids, *[config.pad_token_id] * spare], [*segments, *[0] * spare]
    columns = zip([*words, *[filler] * spare], ids, segments, mask, strict=True)
    tokens = tuple(
        Token(text=word, id=number, segment=segment, position=position, padding=not real)
        for position, (word, number, segment, real) in enumerate(columns)
    )
    row = PaddedRow(*(torch.tensor([values]) for values in (ids, segments, mask)))
    return row, tokens


def _about_encoder(model: PreTrainedModel) -> list[str]:
    """A remark if some of the encoder was initialised and not loaded."""
    prefix = "" if model.base_model is model else f"{model.base_model_prefix}."
    missing = model.load_report.missing if model.load_report else []
    new = [key for key in missing if key.startswith((f"{prefix}embeddings.", f"{prefix}encoder."))]
    if not new:
        return []
    return [
        f"{plural(len(new), 'tensor')} of the encoder not in the file, {new[0]} for one: what is "
        "seen here is partly the noise that they were initialised with."
    ]
