"""Compiled loops over text buffers: folding, shingles, sketches, comparing. Import it inside functions only.

Numba compiles each kernel once and keeps it on disk. Kernels take the buffers of `folding.buffer`, work on
rows `first` to `past`, write into arrays that the caller made, and release the interpreter's lock.

Belongs here: what must look at every byte. Not here: what the numbers mean (`near_duplicates.py`, `contamination.py`,
`rules.py`).
"""

from __future__ import annotations

import numpy as np
from numba import njit

_kernel = njit(cache=True, nogil=True)
_BASE = np.uint64(0x9E3779B97F4A7C15)
_ONE, _32 = np.uint64(1), np.uint64(32)
_LOW = np.uint64(0xFFFFFFFF)
_EMPTY = np.uint64(0xFFFFFFFFFFFFFFFF)
_ALONE = np.uint32(1 << 31)
_CODE = np.uint32((1 << 31) - 1)


@_kernel
def mix(value):
    """A 64-bit number scrambled (the finalizer of splitmix64)."""
    value = np.uint64(value)
    value ^= value >> np.uint64(30)
    value *= np.uint64(0xBF58476D1CE4E5B9)
    value ^= value >> np.uint64(27)
    value *= np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


@_kernel
def fold(data, start, end, table, out):
    """Folded characters of one text into `out`, which has room for two per byte; returns how many."""
    count = 0
    waiting = False
    at = start
    while at < end:
        lead = np.uint32(data[at])
        if lead < 0x80:
            code = lead
            at += 1
        elif lead < 0xE0:
            code = ((lead & np.uint32(0x1F)) << np.uint32(6)) | np.uint32(data[at + 1] & 0x3F)
            at += 2
        elif lead < 0xF0:
            code = ((lead & np.uint32(0x0F)) << np.uint32(12)) | (np.uint32(data[at + 1] & 0x3F) << np.uint32(6))
            code |= np.uint32(data[at + 2] & 0x3F)
            at += 3
        else:
            code = ((lead & np.uint32(0x07)) << np.uint32(18)) | (np.uint32(data[at + 1] & 0x3F) << np.uint32(12))
            code |= (np.uint32(data[at + 2] & 0x3F) << np.uint32(6)) | np.uint32(data[at + 3] & 0x3F)
            at += 4
        # Beyond the basic plane: pictures are no words, everything else is.
        folded = table[code] if code < 0x10000 else (np.uint32(32) if 0x1F000 <= code < 0x20000 else code)
        if folded == 0:
            continue
        if folded == 32:
            waiting = True
            continue
        alone = (folded & _ALONE) != 0
        if (waiting or alone) and count > 0 and out[count - 1] != 32:
            out[count] = 32
            count += 1
        waiting = alone
        out[count] = folded & _CODE
        count += 1
    return count


@_kernel
def shingles_of(letters, count, width, out):
    """Hashes of all runs of `width` letters into `out`; a shorter text is one run. Returns how many."""
    if count == 0:
        return 0
    width = min(width, count)
    power = _ONE
    for _ in range(width):
        power *= _BASE
    value = np.uint64(0)
    for i in range(count):
        value = value * _BASE + np.uint64(letters[i])
        if i >= width:
            value -= power * np.uint64(letters[i - width])
        if i >= width - 1:
            out[i - width + 1] = mix(value)
    return count - width + 1


@_kernel
def words_of(letters, count, hashes, starts):
    """Hash and first letter of each word of a folded text; returns how many words."""
    words = 0
    value = np.uint64(0)
    begin = 0
    for i in range(count + 1):
        if i == count or letters[i] == 32:
            if i > begin:
                hashes[words] = mix(value)
                starts[words] = begin
                words += 1
            value = np.uint64(0)
            begin = i + 1
        else:
            value = value * _BASE + np.uint64(letters[i]) + _ONE
    return words


@_kernel
def is_common(common, value):
    """Whether a shingle is boilerplate, by a table of bits."""
    slot = value & np.uint64(common.size * 8 - 1)
    return (common[slot >> np.uint64(3)] >> np.uint8(slot & np.uint64(7))) & np.uint8(1) != 0


@_kernel
def count_shingles(data, offsets, rows, table, width, counts, last):
    """Add to `counts` (a power of two of them) in how many of these rows a shingle falls in each slot."""
    longest = 0
    for row in rows:
        longest = max(longest, offsets[row + 1] - offsets[row])
    letters = np.empty(2 * longest + 2, np.uint32)
    hashes = np.empty(2 * longest + 2, np.uint64)
    slots = np.uint64(counts.size - 1)
    for row in rows:
        found = shingles_of(letters, fold(data, offsets[row], offsets[row + 1], table, letters), width, hashes)
        for i in range(found):
            slot = hashes[i] & slots
            if last[slot] != row:
                last[slot] = row
                counts[slot] += 1


@_kernel
def sketch(data, offsets, first, past, longest, table, width, common, bins, depth, least, exact, bands):
    """Per row: a hash of the folded text into `exact` (0: no words), and band hashes into `bands[row]` (0: none).

    One-permutation MinHash with optimal densification (Shrivastava, ICML 2017) over the shingles that are not
    common; over all of them where fewer than `least` or a tenth would be left.
    """
    letters = np.empty(2 * longest + 2, np.uint32)
    hashes = np.empty(2 * longest + 2, np.uint64)
    uncommon = np.empty(2 * longest + 2, np.uint64)
    lowest = np.empty(bins, np.uint64)
    filled = np.empty(bins, np.uint64)
    for row in range(first, past):
        count = fold(data, offsets[row], offsets[row + 1], table, letters)
        found = shingles_of(letters, count, width, hashes)
        exact[row] = 0
        bands[row, :] = 0
        if found == 0:
            continue
        whole = np.uint64(count)
        for i in range(count):
            whole = whole * _BASE + np.uint64(letters[i])
        exact[row] = mix(whole) | _ONE
        rare = 0
        for i in range(found):
            if not is_common(common, hashes[i]):
                uncommon[rare] = hashes[i]
                rare += 1
        chosen, count = (hashes, found) if rare < least or rare * 10 < found else (uncommon, rare)
        lowest[:] = _EMPTY
        for i in range(count):
            value = chosen[i]
            slot = ((value >> _32) * np.uint64(bins)) >> _32
            lowest[slot] = min(lowest[slot], value)
        for slot in range(bins):
            value = lowest[slot]
            attempt = np.uint64(0)
            while value == _EMPTY:
                attempt += _ONE
                value = lowest[mix(np.uint64(slot) * _BASE + attempt) % np.uint64(bins)]
            filled[slot] = value
        for band in range(bands.shape[1]):
            value = np.uint64(band)
            for i in range(band * depth, (band + 1) * depth):
                value = (value ^ filled[i]) * _BASE
                value ^= value >> _32
            bands[row, band] = np.uint32(value & _LOW) | np.uint32(1)


@_kernel
def _put(keys, marks, value, stamp):
    """Where `value` stands in an open table; a slot not of this or the next stamp counts as free."""
    size = np.uint64(keys.size - 1)
    slot = (value >> np.uint64(7)) & size
    while marks[slot] >= stamp and keys[slot] != value:
        slot = (slot + _ONE) & size
    return slot


@_kernel
def resembling(data, offsets, a, b, table, width, common, least, letters, hashes, keys, marks, stamp):
    """Jaccard similarity of two rows: the smaller one of that over all shingles and that over uncommon ones.

    `marks` stamps: `stamp` for a shingle of a, +1 for one of both, +2 for one of b. The caller raises the stamp by 3.
    """
    found = shingles_of(letters, fold(data, offsets[a], offsets[a + 1], table, letters), width, hashes)
    union, both, rare_union, rare_both, rare_a = 0, 0, 0, 0, 0
    for i in range(found):
        slot = _put(keys, marks, hashes[i], stamp)
        if marks[slot] < stamp:
            keys[slot] = hashes[i]
            marks[slot] = stamp
            union += 1
            rare_union += not is_common(common, hashes[i])
    rare_a = rare_union
    of_a = union
    found = shingles_of(letters, fold(data, offsets[b], offsets[b + 1], table, letters), width, hashes)
    of_b, rare_b = 0, 0
    for i in range(found):
        slot = _put(keys, marks, hashes[i], stamp)
        rare = not is_common(common, hashes[i])
        if marks[slot] < stamp:
            keys[slot] = hashes[i]
            marks[slot] = stamp + 2
            union += 1
            of_b += 1
            rare_union += rare
            rare_b += rare
        elif marks[slot] == stamp:
            marks[slot] = stamp + 1
            both += 1
            of_b += 1
            rare_both += rare
            rare_b += rare
    similar = both / union if union else 0.0
    if min(rare_a, rare_b) >= least and rare_a * 10 >= of_a and rare_b * 10 >= of_b:
        similar = min(similar, rare_both / rare_union)
    return similar


@_kernel
def compare_buckets(
    data, offsets, longest, table, width, common, least,
    packed, first, past, order, fresh, jaccard, nearest, budget, tries, partners,
):  # fmt: skip
    """Verify candidates of one band: rows whose band hash is the same, in `packed` as hash << 32 | rank, sorted.

    Each row is compared with the best of its bucket and the `nearest` ones before it, while it has tries left
    and room among its `partners` (rows that it resembles; -1: none). `order` gives the row of a rank, `fresh`
    says which rows are new: two old ones were compared before.
    """
    letters = np.empty(2 * longest + 2, np.uint32)
    hashes = np.empty(2 * longest + 2, np.uint64)
    size = 64
    while size < 5 * longest:
        size *= 2
    keys = np.empty(size, np.uint64)
    marks = np.zeros(size, np.int64)
    stamp = 1
    at = first
    while at > 0 and at < past and (packed[at] >> _32) == (packed[at - 1] >> _32):
        at += 1  # the bucket belongs to the piece in which it begins
    while at < past:
        end = at + 1
        while end < packed.size and (packed[end] >> _32) == (packed[at] >> _32):
            end += 1
        for position in range(at + 1, end):
            row = order[packed[position] & _LOW]
            for step in range(nearest + 1):
                other_at = at if step == 0 else position - step
                if other_at < at or (step > 0 and other_at == at):
                    break
                if tries[row] >= budget or partners[row, partners.shape[1] - 1] >= 0:
                    break
                other = order[packed[other_at] & _LOW]
                if not (fresh[row] or fresh[other]):
                    continue
                known = False
                room = 0
                for i in range(partners.shape[1]):
                    if partners[row, i] < 0:
                        break
                    known |= partners[row, i] == other
                    room = i + 1
                if known:
                    continue
                tries[row] += 1
                similar = resembling(
                    data, offsets, row, other, table, width, common, least, letters, hashes, keys, marks, stamp
                )
                stamp += 3
                if similar >= jaccard - 1e-9:
                    partners[row, room] = other
        at = end


@_kernel
def survivors(order, starts, partners, repeats):
    """In the order of rank, keep a row unless it resembles one that is kept; `repeats[row]` is the best such one or -1."""
    rank = np.empty(order.size, np.int64)
    for position in range(order.size):
        rank[order[position]] = position
    for position in range(order.size):
        row = order[position]
        best = -1
        for i in range(starts[row], starts[row + 1]):
            other = partners[i]
            if repeats[other] < 0 and rank[other] < position and (best < 0 or rank[other] < rank[best]):
                best = other
        repeats[row] = best
