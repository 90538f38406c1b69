"""The Triton kernels of BK-Core: pivots, walked by lanes.

A program works on a tile of one row: `LANES` lanes side by side, each walking `L` neighbouring
elements held in registers. With the inverse pivots `f_i = 1/d_i` from the left and `g_i = 1/e_i`
from the right,

    d_i = alpha_i - k_{i-1} f_{i-1},   e_i = alpha_i - k_i g_{i+1},
    G_i = 1 / (alpha_i - k_{i-1} f_{i-1} - k_i g_{i+1}),   X_i = G_i g_{i+1}.

A lane must know the f of the element before its first, and the g of the one after its last:

* `halo`: a pivot's dependence on the start of the recurrence shrinks with every element. So every
  lane walks its elements from f = 0, passes its last f to the next lane, and walks again, `PASSES`
  times in all: exact to rounding once `warm_up` elements lie between a lane and the start. The
  outermost lanes of a tile serve as that distance and do not write.
* `scan`: for any Im z. A walk is a Moebius map of f, that is a 2x2 matrix; the lanes' matrices
  are composed by a scan, and across tiles by `summarise` and `carry`.

The exact gradient is the same walk in dual numbers: with `alpha_i + t h_i`, where
`h = conj(dL/dG)`, the derivatives by t are `dL/dalpha = G'` and `dL/dk = -X'`, because
`dG_i/dalpha_j = dG_j/dalpha_i`. A number is a tuple (re, im), and (re, im, re', im') if `DUAL`.
"""

# mypy: ignore-errors
# ruff: noqa: N803, PLR0917, RET505, RUF005
# Triton's language: every function is compiled, and its own rules bind (an `else` after a
# `return` is how it branches at compile time, tuples grow by `+`).

import triton
import triton.language as tl

# Numbers: complex, or dual complex.


@triton.jit
def _times(x, y, DUAL: tl.constexpr):
    re = x[0] * y[0] - x[1] * y[1]
    im = x[0] * y[1] + x[1] * y[0]
    if DUAL:
        slope_re = x[0] * y[2] - x[1] * y[3] + x[2] * y[0] - x[3] * y[1]
        slope_im = x[0] * y[3] + x[1] * y[2] + x[2] * y[1] + x[3] * y[0]
        return re, im, slope_re, slope_im
    else:
        return re, im


@triton.jit
def _inverse(x, DUAL: tl.constexpr):
    scale = 1.0 / (x[0] * x[0] + x[1] * x[1])
    re = x[0] * scale
    im = -x[1] * scale
    if DUAL:
        square_re = re * re - im * im
        square_im = 2.0 * re * im
        slope_re = square_im * x[3] - square_re * x[2]
        slope_im = -(square_re * x[3] + square_im * x[2])
        return re, im, slope_re, slope_im
    else:
        return re, im


@triton.jit
def _minus(x, k, y, DUAL: tl.constexpr):
    """`x - k y`, k real."""
    if DUAL:
        return x[0] - k * y[0], x[1] - k * y[1], x[2] - k * y[2], x[3] - k * y[3]
    else:
        return x[0] - k * y[0], x[1] - k * y[1]


@triton.jit
def _plus(x, y, DUAL: tl.constexpr):
    if DUAL:
        return x[0] + y[0], x[1] + y[1], x[2] + y[2], x[3] + y[3]
    else:
        return x[0] + y[0], x[1] + y[1]


@triton.jit
def _constant(like, value, DUAL: tl.constexpr):
    zero = like * 0.0
    if DUAL:
        return zero + value, zero, zero, zero
    else:
        return zero + value, zero


@triton.jit
def _size(x):
    return tl.maximum(tl.abs(x[0]), tl.abs(x[1]))


@triton.jit
def _choose(where, x, y, DUAL: tl.constexpr):
    chosen = ()
    for part in tl.static_range(4 if DUAL else 2):
        chosen = chosen + (tl.where(where, x[part], y[part]),)
    return chosen


@triton.jit
def _taken(x, index, DUAL: tl.constexpr):
    """The value that another lane has."""
    taken = ()
    for part in tl.static_range(4 if DUAL else 2):
        taken = taken + (tl.gather(x[part], index, 0),)
    return taken


# Columns: a tile (LANES, L) as a tuple of L tensors (LANES,), and back, without memory.


@triton.jit
def _columns(tile, L: tl.constexpr):
    if L == 1:
        return (tl.reshape(tile, (tile.shape[0],)),)
    else:
        halves = tl.permute(tl.reshape(tile, (tile.shape[0], 2, L // 2)), (0, 2, 1))
        first, second = tl.split(halves)
        return _columns(first, L // 2) + _columns(second, L // 2)


@triton.jit
def _tile(columns, L: tl.constexpr):
    if L == 1:
        return tl.expand_dims(columns[0], 1)
    else:
        half: tl.constexpr = L // 2
        first = _tile(columns[:half], half)
        second = _tile(columns[half:], half)
        halves = tl.permute(tl.join(first, second), (0, 2, 1))
        return tl.reshape(halves, (first.shape[0], L))


@triton.jit
def _load(
    a_ptr, a_row, a_step, b_ptr, b_row, b_step, c_ptr, c_row, c_step, shift_ptr, length, h_ptr,
    row, start,
    LANES: tl.constexpr, L: tl.constexpr, DUAL: tl.constexpr,
):  # fmt: skip
    """The lanes' alpha as columns of numbers, and their couplings: L + 1 columns, k_{i-1} first.

    Outside the row alpha is 1 and nothing couples.
    """
    lane = tl.arange(0, LANES)
    i = start + lane[:, None] * L + tl.arange(0, L)[None, :]
    inside = (i >= 0) & (i < length)
    a = tl.load(a_ptr + row * a_row + i * a_step, mask=inside, other=1.0)
    z_re = tl.load(shift_ptr).to(a.dtype)
    z_im = tl.load(shift_ptr + 1).to(a.dtype)
    reals = _columns(tl.where(inside, a - z_re, 1.0), L)
    imaginaries = _columns(tl.where(inside, -z_im, 0.0), L)
    alpha = ()
    if DUAL:
        j = start * 2 + lane[:, None] * (2 * L) + tl.arange(0, 2 * L)[None, :]
        there = (j >= 0) & (j < 2 * length)
        pairs = tl.load(h_ptr + row * 2 * length + j, mask=there, other=0.0)
        h_re, h_im = tl.split(tl.reshape(pairs, (LANES, L, 2)))
        res = _columns(h_re, L)
        ims = _columns(h_im, L)
        for s in tl.static_range(L):
            alpha = alpha + ((reals[s], imaginaries[s], res[s], -ims[s]),)
    else:
        for s in tl.static_range(L):
            alpha = alpha + ((reals[s], imaginaries[s]),)
    linked = (i >= 1) & (i < length)
    b = tl.load(b_ptr + row * b_row + (i - 1) * b_step, mask=linked, other=0.0)
    c = tl.load(c_ptr + row * c_row + (i - 1) * c_step, mask=linked, other=0.0)
    last = start + lane * L + L - 1
    follows = (last >= 0) & (last < length - 1)
    b_last = tl.load(b_ptr + row * b_row + last * b_step, mask=follows, other=0.0)
    c_last = tl.load(c_ptr + row * c_row + last * c_step, mask=follows, other=0.0)
    return alpha, _columns(b * c, L) + (b_last * c_last,)


@triton.jit
def _store(
    alpha, k, f, g, out_ptr, factors_ptr, length, row, start, writes,
    LANES: tl.constexpr, L: tl.constexpr, DUAL: tl.constexpr, FACTORS: tl.constexpr,
):  # fmt: skip
    """From the f before each lane and the g behind it, G (or G' and -X') of the lane's elements."""
    lefts = ()
    for s in tl.static_range(L):
        left = _minus(alpha[s], k[s], f, DUAL)
        lefts = lefts + (left,)
        f = _inverse(left, DUAL)
    res = ()
    ims = ()
    factors = ()
    for t in tl.static_range(L):
        right = k[L - t]
        green = _inverse(_minus(lefts[L - 1 - t], right, g, DUAL), DUAL)
        if DUAL:
            factor = _times(green, g, DUAL)
            factors = (-factor[2],) + factors
            res = (green[2],) + res
            ims = (green[3],) + ims
        else:
            res = (green[0],) + res
            ims = (green[1],) + ims
        g = _inverse(_minus(alpha[L - 1 - t], right, g, DUAL), DUAL)
    lane = tl.arange(0, LANES)[:, None]
    both = tl.reshape(tl.join(_tile(res, L), _tile(ims, L)), (LANES, 2 * L))
    i = start * 2 + lane * (2 * L) + tl.arange(0, 2 * L)[None, :]
    mask = writes[:, None] & (i >= 0) & (i < 2 * length)
    tl.store(out_ptr + row * 2 * length + i, both, mask=mask)
    if FACTORS:
        i = start + lane * L + tl.arange(0, L)[None, :]
        mask = writes[:, None] & (i >= 0) & (i < length)
        tl.store(factors_ptr + row * length + i, _tile(factors, L), mask=mask)


@triton.jit
def halo(
    a_ptr, a_row, a_step, b_ptr, b_row, b_step, c_ptr, c_row, c_step, shift_ptr, length, h_ptr,
    out_ptr, factors_ptr, tiles,
    PASSES: tl.constexpr, LANES: tl.constexpr, L: tl.constexpr,
    DUAL: tl.constexpr, FACTORS: tl.constexpr,
):  # fmt: skip
    """One tile: pass f and g from lane to lane, then write G (or its derivatives)."""
    row = (tl.program_id(0) // tiles).to(tl.int64)
    halo: tl.constexpr = PASSES - 1
    start = (tl.program_id(0) % tiles) * ((LANES - 2 * halo) * L) - halo * L
    alpha, k = _load(
        a_ptr, a_row, a_step, b_ptr, b_row, b_step, c_ptr, c_row, c_step, shift_ptr, length, h_ptr,
        row, start, LANES, L, DUAL,
    )  # fmt: skip
    lane = tl.arange(0, LANES)
    nothing = _constant(alpha[0][0], 0.0, DUAL)
    f = nothing
    g = nothing
    for _ in tl.static_range(PASSES - 1):
        for s in tl.static_range(L):
            f = _inverse(_minus(alpha[s], k[s], f, DUAL), DUAL)
            g = _inverse(_minus(alpha[L - 1 - s], k[L - s], g, DUAL), DUAL)
        before = _taken(f, tl.maximum(lane - 1, 0), DUAL)
        behind = _taken(g, tl.minimum(lane + 1, LANES - 1), DUAL)
        f = _choose(lane > 0, before, nothing, DUAL)
        g = _choose(lane < LANES - 1, behind, nothing, DUAL)
    writes = (lane >= halo) & (lane < LANES - halo)
    _store(
        alpha, k, f, g, out_ptr, factors_ptr, length, row, start, writes, LANES, L, DUAL, FACTORS
    )


# Moebius maps: matrices (a, b, c, d) that send an inverse pivot's (1, f) to the next one's.


@triton.jit
def _compose(mine, other, DUAL: tl.constexpr):
    """`mine @ other`, scaled to a largest entry of 1."""
    a = _plus(_times(mine[0], other[0], DUAL), _times(mine[1], other[2], DUAL), DUAL)
    b = _plus(_times(mine[0], other[1], DUAL), _times(mine[1], other[3], DUAL), DUAL)
    c = _plus(_times(mine[2], other[0], DUAL), _times(mine[3], other[2], DUAL), DUAL)
    d = _plus(_times(mine[2], other[1], DUAL), _times(mine[3], other[3], DUAL), DUAL)
    return _normalised((a, b, c, d), DUAL)


@triton.jit
def _normalised(entries, DUAL: tl.constexpr):
    a, b, c, d = entries
    factor = 1.0 / tl.maximum(tl.maximum(_size(a), _size(b)), tl.maximum(_size(c), _size(d)))
    scaled = ()
    for entry in tl.static_range(4):
        number = ()
        for part in tl.static_range(4 if DUAL else 2):
            number = number + (entries[entry][part] * factor,)
        scaled = scaled + (number,)
    return scaled


@triton.jit
def _walk_map(alpha, k, L: tl.constexpr, UPWARDS: tl.constexpr, DUAL: tl.constexpr):
    """The map of a walk over a lane's elements, downwards for f, upwards for g."""
    a = _constant(alpha[0][0], 1.0, DUAL)
    b = _constant(alpha[0][0], 0.0, DUAL)
    c = b
    d = a
    for t in tl.static_range(L):
        x = alpha[L - 1 - t] if UPWARDS else alpha[t]
        coupling = k[L - t] if UPWARDS else k[t]
        top_a = _minus(_times(x, a, DUAL), coupling, c, DUAL)
        top_b = _minus(_times(x, b, DUAL), coupling, d, DUAL)
        if t % 4 == 3:
            a, b, c, d = _normalised((top_a, top_b, a, b), DUAL)
        else:
            c = a
            d = b
            a = top_a
            b = top_b
    return a, b, c, d


@triton.jit
def _scan_maps(maps, LANES: tl.constexpr, UPWARDS: tl.constexpr, DUAL: tl.constexpr):
    """Each lane's map composed with those of all lanes before it (upwards: behind it)."""
    lane = tl.arange(0, LANES)
    for step in tl.static_range(13):
        if (1 << step) < LANES:
            source = lane + (1 << step) if UPWARDS else lane - (1 << step)
            there = (source >= 0) & (source < LANES)
            source = tl.minimum(tl.maximum(source, 0), LANES - 1)
            other = ()
            for entry in tl.static_range(4):
                other = other + (_taken(maps[entry], source, DUAL),)
            composed = _compose(maps, other, DUAL)
            scanned = ()
            for entry in tl.static_range(4):
                scanned = scanned + (_choose(there, composed[entry], maps[entry], DUAL),)
            maps = scanned
    return maps


@triton.jit
def _entered(maps, outside, LANES: tl.constexpr, UPWARDS: tl.constexpr, DUAL: tl.constexpr):
    """The inverse pivot that enters each lane when `outside` enters the first (upwards: last)."""
    lane = tl.arange(0, LANES)
    a, b, c, d = _scan_maps(maps, LANES, UPWARDS, DUAL)
    top = _plus(a, _times(b, outside, DUAL), DUAL)
    bottom = _plus(c, _times(d, outside, DUAL), DUAL)
    leaving = _times(bottom, _inverse(top, DUAL), DUAL)
    source = tl.minimum(lane + 1, LANES - 1) if UPWARDS else tl.maximum(lane - 1, 0)
    there = lane < LANES - 1 if UPWARDS else lane > 0
    return _choose(there, _taken(leaving, source, DUAL), outside, DUAL)


@triton.jit
def _load_number(ptr, like, DUAL: tl.constexpr):
    number = ()
    for part in tl.static_range(4 if DUAL else 2):
        number = number + (like * 0.0 + tl.load(ptr + part),)
    return number


@triton.jit
def _store_number(ptr, x, mask, DUAL: tl.constexpr):
    for part in tl.static_range(4 if DUAL else 2):
        tl.store(ptr + part, x[part], mask=mask)


@triton.jit
def scan(
    a_ptr, a_row, a_step, b_ptr, b_row, b_step, c_ptr, c_row, c_step, shift_ptr, length, h_ptr,
    out_ptr, factors_ptr, entries_ptr, rows, tiles,
    LANES: tl.constexpr, L: tl.constexpr, DUAL: tl.constexpr, FACTORS: tl.constexpr,
):  # fmt: skip
    """One tile: what enters each lane by a scan over the lanes' maps, then write as `halo`."""
    row = (tl.program_id(0) // tiles).to(tl.int64)
    start = (tl.program_id(0) % tiles) * (LANES * L)
    alpha, k = _load(
        a_ptr, a_row, a_step, b_ptr, b_row, b_step, c_ptr, c_row, c_step, shift_ptr, length, h_ptr,
        row, start, LANES, L, DUAL,
    )  # fmt: skip
    entry = entries_ptr + tl.program_id(0) * 4
    like = alpha[0][0]
    before = _load_number(entry, like, DUAL)
    behind = _load_number(entry + rows * tiles * 4, like, DUAL)
    f = _entered(_walk_map(alpha, k, L, False, DUAL), before, LANES, False, DUAL)
    g = _entered(_walk_map(alpha, k, L, True, DUAL), behind, LANES, True, DUAL)
    writes = tl.arange(0, LANES) >= 0
    _store(
        alpha, k, f, g, out_ptr, factors_ptr, length, row, start, writes, LANES, L, DUAL, FACTORS
    )


@triton.jit
def summarise(
    a_ptr, a_row, a_step, b_ptr, b_row, b_step, c_ptr, c_row, c_step, shift_ptr, length, h_ptr,
    maps_ptr, rows, tiles,
    LANES: tl.constexpr, L: tl.constexpr, DUAL: tl.constexpr,
):  # fmt: skip
    """Every tile's map, downwards and upwards."""
    row = (tl.program_id(0) // tiles).to(tl.int64)
    start = (tl.program_id(0) % tiles) * (LANES * L)
    alpha, k = _load(
        a_ptr, a_row, a_step, b_ptr, b_row, b_step, c_ptr, c_row, c_step, shift_ptr, length, h_ptr,
        row, start, LANES, L, DUAL,
    )  # fmt: skip
    lane = tl.arange(0, LANES)
    for upwards in tl.static_range(2):
        maps = _scan_maps(_walk_map(alpha, k, L, upwards == 1, DUAL), LANES, upwards == 1, DUAL)
        whole = lane == 0 if upwards == 1 else lane == LANES - 1
        place = maps_ptr + (upwards * rows * tiles + tl.program_id(0)) * 16 + lane * 0
        for entry in tl.static_range(4):
            _store_number(place + entry * 4, maps[entry], whole, DUAL)


@triton.jit
def carry(maps_ptr, entries_ptr, rows, tiles, TILES: tl.constexpr, DUAL: tl.constexpr):
    """The inverse pivots that enter every tile of a row from outside."""
    row = tl.program_id(0)
    tile = tl.arange(0, TILES)
    inside = tile < tiles
    for upwards in tl.static_range(2):
        place = (upwards * rows + row) * tiles + tile
        maps = ()
        for entry in tl.static_range(4):
            number = ()
            for part in tl.static_range(4 if DUAL else 2):
                ptr = maps_ptr + place * 16 + entry * 4 + part
                identity = 1.0 if (entry % 3 == 0) and (part == 0) else 0.0
                number = number + (tl.load(ptr, mask=inside, other=identity),)
            maps = maps + (number,)
        outside = _constant(maps[0][0], 0.0, DUAL)
        entering = _entered(maps, outside, TILES, upwards == 1, DUAL)
        _store_number(entries_ptr + place * 4, entering, inside, DUAL)
