"""Variable-length flash attention on CUDA: the kernel, and whether it can be used here.

The kernel is the one that `torch.nn.attention.varlen` and torch's nested tensors call. It is called
by the name that torch's core has for it: that one takes dropout, which BERT trains with, and has
its gradient in C++, where the public wrapper adds Python to each of many short calls.

Shapes: Q rows of queries, K rows of keys, S sequences, N heads, D head size.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bertolt.base import torch_private
from bertolt.data.batch import PackedBatch

DTYPES: tuple[torch.dtype, ...] = (torch.bfloat16, torch.float16)
"""Number formats that the kernel takes."""

_CAPABILITY = (8, 0)
_LARGEST_HEAD = 128  # larger ones exist, but not with dropout and a gradient on every such GPU
_HEAD_MULTIPLE = 8
_HOPPER = 9
_BLOCK_ROWS = 8192
_BLOCK_LENGTH = 128


def flash(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_q: Tensor,
    cu_k: Tensor,
    max_q: int,
    max_k: int,
    dropout_p: float,
    causal: bool,
) -> Tensor:
    """Attention of each sequence's queries to its own keys.

    Args:
        q: (Q, N, D), of one of `DTYPES`, as the keys and values are.
        k, v: (K, N, D).
        cu_q, cu_k: (S+1,) int32, where the queries and the keys of each sequence start. Rows that
            belong to no sequence are left undefined in the result and in the gradients.
        max_q, max_k: most queries and most keys of a sequence.
        dropout_p: share of attention weights dropped, which the kernel rounds to 1/255.
        causal: no query sees a later key.

    Returns:
        (Q, N, D).
    """
    return torch_private.flash_attention(q, k, v, cu_q, cu_k, max_q, max_k, dropout_p, causal)


def takes_blocks(q: Tensor, batch: PackedBatch, causal: bool) -> bool:
    """Whether `flash_of_blocks` takes a training batch like this: all sequences equally long.

    With many of them and long ones, and on Hopper, where it was measured: it prepares itself once
    for each shape, and that takes longer than several steps.
    """
    return (
        torch.is_grad_enabled()
        and not causal
        and q.shape[0] >= _BLOCK_ROWS
        # All rows are tokens, and as many as if each sequence were as long as the longest may be.
        and q.shape[0] == batch.num_tokens == batch.num_sequences * batch.max_seqlen
        and batch.max_seqlen >= _BLOCK_LENGTH
        and torch_private.CUDNN_ATTENTION.on
        and torch.backends.cuda.cudnn_sdp_enabled()  # type: ignore[no-untyped-call]
        and torch.cuda.get_device_capability(q.device)[0] == _HOPPER
    )


def flash_of_blocks(q: Tensor, k: Tensor, v: Tensor, length: int, dropout_p: float) -> Tensor:
    """The same for sequences that are all of one length, by cuDNN's kernels: (Q, N, D).

    Forward and backward together they are faster there than the packed kernels are.
    """
    query, key, value = (x.view(-1, length, *x.shape[1:]).transpose(1, 2) for x in (q, k, v))
    out = torch_private.cudnn_attention(query, key, value, dropout_p)
    return out.transpose(1, 2).reshape(q.shape)


def why_not(device: torch.device, head_size: int, dtype: torch.dtype | None = None) -> str | None:
    """What stands against flash attention, in words for the user; None: nothing.

    Args:
        device: where the model is.
        head_size: D.
        dtype: the number format of queries, keys and values, if it is known yet.
    """
    if device.type != "cuda":
        return f"variable-length flash attention runs on CUDA, and this is {device.type}"
    if torch.version.cuda is None:
        return "variable-length flash attention is tried on NVIDIA's GPUs alone"
    if not torch.backends.cuda.is_flash_attention_available():
        return f"torch {torch.__version__} has no variable-length flash attention built in"
    if not torch_private.FLASH_ATTENTION.on:
        return f"no variable-length flash attention: {torch_private.FLASH_ATTENTION.why_not}"
    capability = torch.cuda.get_device_capability(device)
    if capability < _CAPABILITY:
        return (
            f"flash attention needs compute capability {_dotted(_CAPABILITY)}, and this GPU has "
            f"{_dotted(capability)}"
        )
    if head_size % _HEAD_MULTIPLE or head_size > _LARGEST_HEAD:
        return (
            f"flash attention takes head sizes that are multiples of {_HEAD_MULTIPLE} up to "
            f"{_LARGEST_HEAD}, and this model's is {head_size}"
        )
    if dtype is not None and dtype not in DTYPES:
        name = str(dtype).removeprefix("torch.")
        return f"flash attention takes bfloat16 and float16, and this is {name}"
    return None


def _dotted(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))
