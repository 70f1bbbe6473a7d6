"""The kernels of `bertolt.models.fused`, in Triton.

Sums are in fp32. Numbers are rounded to the format of the rows where eager PyTorch writes them down
as well. Kernels that sum over rows give each program every so many of them, and write what each has
found to a row of its own.
"""

# Triton reads these functions as a language of its own: annotations mean something else there.
# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"

import triton
import triton.language as tl


@triton.jit
def _kept(seed, row, THRESHOLD: tl.constexpr, BLOCK: tl.constexpr):
    """Which of a row's elements dropout leaves: four for each draw of the generator."""
    draws = row * (BLOCK // 4) + tl.arange(0, BLOCK // 4)  # in 32 bits, or it draws 64
    a, b, c, d = tl.randint4x(seed, draws, 7)
    return tl.reshape(tl.join(tl.join(a, b), tl.join(c, d)), (BLOCK,)) >= THRESHOLD


@triton.jit
def norm_forward(
    found,
    residual,
    before,
    weight,
    bias,
    out,
    summed,
    means,
    scales,
    seeds,
    kept_scale,
    width,
    eps,
    BLOCK: tl.constexpr,
    THRESHOLD: tl.constexpr,
    BIASED: tl.constexpr,
    SAVES: tl.constexpr,
):
    """One row a program; what the backward pass needs is written with `SAVES` alone."""
    row = tl.program_id(0)
    columns = tl.arange(0, BLOCK)
    real = columns < width
    place = row.to(tl.int64) * width + columns
    x = tl.load(found + place, mask=real, other=0.0).to(tl.float32)
    if BIASED:
        x += tl.load(before + columns, mask=real, other=0.0).to(tl.float32)
    if THRESHOLD > 0:
        keep = _kept(tl.load(seeds), row, THRESHOLD, BLOCK)
        x = tl.where(keep, x * kept_scale, 0.0)
    x += tl.load(residual + place, mask=real, other=0.0).to(tl.float32)
    written = x.to(out.dtype.element_ty)
    x = written.to(tl.float32)
    mean = tl.sum(x, axis=0) / width
    apart = tl.where(real, x - mean, 0.0)
    scale = 1.0 / tl.sqrt(tl.sum(apart * apart, axis=0) / width + eps)
    if SAVES:
        tl.store(summed + place, written, mask=real)
        tl.store(means + row, mean)
        tl.store(scales + row, scale)
    w = tl.load(weight + columns, mask=real, other=0.0).to(tl.float32)
    b = tl.load(bias + columns, mask=real, other=0.0).to(tl.float32)
    tl.store(out + place, (apart * scale * w + b).to(out.dtype.element_ty), mask=real)


@triton.jit
def norm_backward(
    gradient,
    summed,
    means,
    scales,
    weight,
    seeds,
    to_found,
    to_residual,
    parts,
    kept_scale,
    rows,
    width,
    BLOCK: tl.constexpr,
    THRESHOLD: tl.constexpr,
    BIASED: tl.constexpr,
):
    """Both gradients of the rows, and parts of those of the weight, the bias and the one before."""
    first = tl.program_id(0)
    count = tl.num_programs(0)
    columns = tl.arange(0, BLOCK)
    real = columns < width
    w = tl.load(weight + columns, mask=real, other=0.0).to(tl.float32)
    weight_sum = tl.zeros((BLOCK,), tl.float32)
    bias_sum = tl.zeros((BLOCK,), tl.float32)
    before_sum = tl.zeros((BLOCK,), tl.float32)
    if THRESHOLD > 0:
        seed = tl.load(seeds)
    for row in range(first, rows, count):
        place = tl.cast(row, tl.int64) * width + columns
        g = tl.load(gradient + place, mask=real, other=0.0).to(tl.float32)
        x = tl.load(summed + place, mask=real, other=0.0).to(tl.float32)
        mean, scale = tl.load(means + row), tl.load(scales + row)
        normed = tl.where(real, (x - mean) * scale, 0.0)
        weight_sum += g * normed
        bias_sum += g
        g = g * w
        along = tl.sum(g * normed, axis=0) / width
        g = (g - normed * along - tl.sum(g, axis=0) / width) * scale
        tl.store(to_residual + place, g.to(to_residual.dtype.element_ty), mask=real)
        if THRESHOLD > 0:
            keep = _kept(seed, row, THRESHOLD, BLOCK)
            g = tl.where(keep, g * kept_scale, 0.0)
            tl.store(to_found + place, g.to(to_found.dtype.element_ty), mask=real)
        if BIASED:
            before_sum += g
    tl.store(parts + first * width + columns, weight_sum, mask=real)
    tl.store(parts + (count + first) * width + columns, bias_sum, mask=real)
    if BIASED:
        tl.store(parts + (2 * count + first) * width + columns, before_sum, mask=real)


@triton.jit
def _normal(h):
    """The share of a standard normal below `h`, to 7.5e-8, and its density there.

    Both from one exponential: M. Abramowitz, I. Stegun, "Handbook of mathematical functions",
    7.1.26.
    """
    peak = tl.exp(-0.5 * h * h)
    t = 1.0 / (1.0 + 0.3275911 * 0.7071067811865476 * tl.abs(h))
    sum_ = -0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))
    above = 0.5 * peak * t * (0.254829592 + t * sum_)
    return tl.where(h >= 0.0, 1.0 - above, above), peak * 0.3989422804014327


@triton.jit
def gelu_forward(x, bias, out, width, BLOCK: tl.constexpr):
    """So many columns of one row a program."""
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    real = columns < width
    place = tl.program_id(0).to(tl.int64) * width + columns
    h = tl.load(x + place, mask=real, other=0.0).to(tl.float32)
    h += tl.load(bias + columns, mask=real, other=0.0).to(tl.float32)
    below, _ = _normal(h)
    tl.store(out + place, (h * below).to(out.dtype.element_ty), mask=real)


@triton.jit
def gelu_backward(
    gradient, x, bias, found, parts, rows, width, BLOCK: tl.constexpr, ROWS: tl.constexpr
):
    """The gradient of the rows, `ROWS` at a time, and parts of the bias's."""
    first = tl.program_id(0)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    real = columns < width
    b = tl.load(bias + columns, mask=real, other=0.0).to(tl.float32)
    total = tl.zeros((ROWS, BLOCK), tl.float32)
    for start in range(first * ROWS, rows, tl.num_programs(0) * ROWS):
        row = start + tl.arange(0, ROWS)
        place = row.to(tl.int64)[:, None] * width + columns[None, :]
        there = (row < rows)[:, None] & real[None, :]
        g = tl.load(gradient + place, mask=there, other=0.0).to(tl.float32)
        h = tl.load(x + place, mask=there, other=0.0).to(tl.float32) + b[None, :]
        below, density = _normal(h)
        g *= below + h * density
        tl.store(found + place, g.to(found.dtype.element_ty), mask=there)
        total += g
    tl.store(parts + first * width + columns, tl.sum(total, axis=0), mask=real)


@triton.jit
def column_sums(x, parts, rows, width, BLOCK: tl.constexpr, ROWS: tl.constexpr):
    """Parts of the sums over the rows, `ROWS` at a time."""
    first = tl.program_id(0)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    real = columns < width
    total = tl.zeros((ROWS, BLOCK), tl.float32)
    for start in range(first * ROWS, rows, tl.num_programs(0) * ROWS):
        row = start + tl.arange(0, ROWS)
        place = row.to(tl.int64)[:, None] * width + columns[None, :]
        there = (row < rows)[:, None] & real[None, :]
        total += tl.load(x + place, mask=there, other=0.0).to(tl.float32)
    tl.store(parts + first * width + columns, tl.sum(total, axis=0), mask=real)


@triton.jit
def cross_entropy_forward(
    logits, labels, losses, log_sums, width, IGNORED: tl.constexpr, BLOCK: tl.constexpr
):
    """One row a program: its loss, and the logarithm of its sum of exponentials."""
    row = tl.program_id(0)
    start = row.to(tl.int64) * width
    label = tl.load(labels + row)
    columns = tl.arange(0, BLOCK)
    highest = tl.full((), -float("inf"), tl.float32)
    total = tl.full((), 0.0, tl.float32)
    for place in range(0, width, BLOCK):
        real = place + columns < width
        x = tl.load(logits + start + place + columns, mask=real, other=-float("inf"))
        x = x.to(tl.float32)
        higher = tl.maximum(highest, tl.max(x, axis=0))
        against = tl.where(higher == -float("inf"), 0.0, higher)  # nothing but -inf so far
        total = total * tl.exp(highest - against) + tl.sum(tl.exp(x - against), axis=0)
        highest = higher
    log_sum = highest + tl.log(total)
    inside = (label >= 0) & (label < width)
    chosen = tl.load(logits + start + label, mask=inside, other=float("nan")).to(tl.float32)
    tl.store(losses + row, tl.where(label != IGNORED, log_sum - chosen, 0.0))
    tl.store(log_sums + row, log_sum)


@triton.jit
def cross_entropy_backward(
    logits, labels, log_sums, factors, gradient, width, IGNORED: tl.constexpr, BLOCK: tl.constexpr
):
    """So many columns of one row a program."""
    row = tl.program_id(0)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    real = columns < width
    place = row.to(tl.int64) * width + columns
    label = tl.load(labels + row)
    x = tl.load(logits + place, mask=real, other=0.0).to(tl.float32)
    share = tl.exp(x - tl.load(log_sums + row)) - tl.where(columns == label, 1.0, 0.0)
    # Chosen and not multiplied: a row that is ignored may be infinite.
    share = tl.where(label != IGNORED, share * tl.load(factors), 0.0)
    tl.store(gradient + place, share.to(gradient.dtype.element_ty), mask=real)
