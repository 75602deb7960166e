"""Compiled loops over text buffers: folding, shingles, sketches, comparing. Import it inside functions only.

Numba compiles each kernel once and keeps it on disk. Kernels take the buffers of `folding.text_buffer`, work on
rows `first` to `past`, write into arrays that the caller made, and release the interpreter's lock.

Belongs here: loops over every byte. They share one file because Numba's cache does not see a change in another one. Not
here: what the numbers mean (`near_duplicates.py`, `contamination.py`), languages (`language_kernels.py`).
"""

from __future__ import annotations

from typing import NamedTuple

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
    """Folded characters of one text.

    Args:
        data: UTF-8 bytes (`folding.Buffer`).
        start, end: Bytes between which the text lies.
        table: Of `folding.fold_table`.
        out: uint32, room for two characters per byte; written.

    Returns:
        How many characters were written.
    """
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
    """Hashes of all runs of letters; a text that is shorter than a run is one run.

    Args:
        letters: Of `fold`.
        count: How many there are.
        width: Letters of a run.
        out: uint64, room for `count` hashes; written.

    Returns:
        How many hashes were written.
    """
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
def words_of(letters, count, hashes):
    """Hash of each word of a folded text; returns how many words."""
    words = 0
    value = np.uint64(0)
    begin = 0
    for i in range(count + 1):
        if i == count or letters[i] == 32:
            if i > begin:
                hashes[words] = mix(value) | _ONE
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
    """Count in how many of these rows a shingle falls in each slot.

    Args:
        data, offsets: Texts of all rows (`folding.Buffer`).
        rows: Rows that are counted.
        table: Of `folding.fold_table`.
        width: Letters of a shingle.
        counts: By slot, a power of two of them; counted up.
        last: By slot: the last row that was counted there, -1 at first; written.
    """
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
    """Sketch each row: a hash of its folded text, and band hashes that similar texts are likely to share.

    One-permutation MinHash with optimal densification (Shrivastava, ICML 2017) over the shingles that are not
    common; over all of them where fewer than `least` or a tenth would be left.

    Args:
        data, offsets: Texts of all rows (`folding.Buffer`).
        first, past: Rows that are read, `past` not among them.
        longest: Bytes of the longest text of these rows.
        table: Of `folding.fold_table`.
        width: Letters of a shingle.
        common: Bits of the shingles that are boilerplate.
        bins: Minima of a row, at least `depth` for each band.
        depth: Minima that a band hashes.
        least: Fewest shingles that are sketched without the common ones.
        exact: (rows,) uint64: hash of the folded text, 0 without words; written.
        bands: (rows, bands) uint32: band hashes, 0 without words; written.
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
def jaccard_similarity(data, offsets, a, b, table, width, common, least, letters, hashes, keys, marks, stamp):
    """Jaccard similarity of two rows: the smaller one of that over all shingles and that over uncommon ones.

    `marks` stamps: `stamp` for a shingle of a, +1 for one of both, +2 for one of b. The caller raises the stamp by 3.

    Args:
        data, offsets: Texts of all rows (`folding.Buffer`).
        a, b: The two rows.
        table, width, common, least: As in `Shingles`.
        letters, hashes, keys, marks: Room for one comparison (`Scratch`).
        stamp: 1 or more; higher than all that `marks` holds.

    Returns:
        0..1. Uncommon shingles count where both texts have at least `least` of them, and a tenth of their shingles.
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


class Shingles(NamedTuple):
    """What a text's shingles are made by."""

    table: np.ndarray
    """Of `folding.fold_table`."""
    width: int
    """Letters of a shingle."""
    common: np.ndarray
    """Bits of the shingles that are boilerplate."""
    least: int
    """Uncommon shingles that two texts need to be compared by them alone."""


class Limits(NamedTuple):
    """When two rows are a pair, and how long one is looked for."""

    jaccard: np.ndarray
    """By row: the least similarity; a pair must reach the larger one."""
    part_jaccard: float
    """The least similarity of their parts, unless both are empty."""
    same_rest_jaccard: float
    """The same where the rest of both texts is equal."""
    nearest: int
    """Rows before it in its bucket that a row is compared with."""
    budget: int
    """Comparisons of one row, over all bands."""


class Scratch(NamedTuple):
    """Room for one comparison, of one thread."""

    letters: np.ndarray
    hashes: np.ndarray
    keys: np.ndarray
    marks: np.ndarray


@_kernel
def scratch_for(longest):
    """Room to compare texts of at most so many bytes."""
    size = 64
    while size < 5 * longest:
        size *= 2
    return Scratch(
        np.empty(2 * longest + 2, np.uint32),
        np.empty(2 * longest + 2, np.uint64),
        np.empty(size, np.uint64),
        np.zeros(size, np.int64),
    )


@_kernel
def _room_for(partners, other):
    """The free place among a row's partners, or -1 where `other` is one of them or all places are taken."""
    for i in range(partners.size):
        if partners[i] < 0:
            return i
        if partners[i] == other:
            return -1
    return -1


@_kernel
def _are_a_pair(text, part, rests, row, other, shingles, limits, no_common, scratch, stamp):
    """Whether two rows resemble each other, as texts and by their parts. Uses two stamps."""
    similar = jaccard_similarity(
        text.data, text.offsets, row, other, shingles.table, shingles.width, shingles.common, shingles.least,
        scratch.letters, scratch.hashes, scratch.keys, scratch.marks, stamp,
    )  # fmt: skip
    if similar < max(limits.jaccard[row], limits.jaccard[other]) - 1e-9:
        return False
    of_row, of_other = part.offsets[row + 1] - part.offsets[row], part.offsets[other + 1] - part.offsets[other]
    if of_row + of_other == 0:
        return True
    similar = jaccard_similarity(
        part.data, part.offsets, row, other, shingles.table, shingles.width, no_common, shingles.least,
        scratch.letters, scratch.hashes, scratch.keys, scratch.marks, stamp + 3,
    )  # fmt: skip
    return similar >= (limits.same_rest_jaccard if rests[row] == rests[other] else limits.part_jaccard) - 1e-9


@_kernel
def compare_buckets(text, part, rests, longest, shingles, limits, packed, first, past, order, fresh, tries, partners):
    """Verify candidates of one band: rows with the same band hash, in `packed` as hash << 32 | rank, sorted.

    Each row is compared with the best of its bucket and the `nearest` ones before it, while it has tries left
    and room among its `partners` (rows that it resembles; -1: none).

    Args:
        text, part: Buffers (`folding.Buffer`) of the rows' texts and of the parts that are compared again.
        rests: Hash of each text without its part.
        longest: Bytes of the longest text or part.
        order: Row of each rank.
        fresh: Which rows are new: two old ones were compared before.
        tries: Comparisons that each row has had; counted up.
        partners: (rows, places); written.
    """
    scratch = scratch_for(longest)
    stamp = 1
    no_common = np.zeros(8, np.uint8)
    at = first
    while at > 0 and at < past and (packed[at] >> _32) == (packed[at - 1] >> _32):
        at += 1  # the bucket belongs to the piece in which it begins
    while at < past:
        end = at + 1
        while end < packed.size and (packed[end] >> _32) == (packed[at] >> _32):
            end += 1
        for position in range(at + 1, end):
            row = order[packed[position] & _LOW]
            for step in range(limits.nearest + 1):
                other_at = at if step == 0 else position - step
                if other_at < at or (step > 0 and other_at == at):
                    break
                if tries[row] >= limits.budget or partners[row, partners.shape[1] - 1] >= 0:
                    break
                other = order[packed[other_at] & _LOW]
                room = _room_for(partners[row], other) if fresh[row] or fresh[other] else -1
                if room < 0:
                    continue
                tries[row] += 1
                if _are_a_pair(text, part, rests, row, other, shingles, limits, no_common, scratch, stamp):
                    partners[row, room] = other
                stamp += 6
        at = end


@_kernel
def find_best_repeated(order, starts, partners, repeats):
    """In the order of rank, keep a row unless it resembles one that is kept.

    Args:
        order: Rows, the best one first.
        starts: (rows + 1,): the partners of row i are `partners[starts[i]:starts[i + 1]]`.
        partners: Rows that a row resembles.
        repeats: (rows,): the best kept row that a row resembles, or -1; written.
    """
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


@_kernel
def count_words(data, offsets, table, counts):
    """Words of every text, as `words_in` finds them.

    Args:
        data, offsets: The texts (`folding.Buffer`).
        table: Of `folding.fold_table`.
        counts: (texts,): words of each; written.
    """
    longest = 0
    for row in range(counts.size):
        longest = max(longest, offsets[row + 1] - offsets[row])
    letters = np.empty(2 * longest + 2, np.uint32)
    hashes = np.empty(2 * longest + 2, np.uint64)
    for row in range(counts.size):
        counts[row] = words_of(letters, fold(data, offsets[row], offsets[row + 1], table, letters), hashes)


@_kernel
def words_in(data, offsets, table, starts, words):
    """Hashes of the words of every text, text after text.

    Args:
        data, offsets: The texts (`folding.Buffer`).
        table: Of `folding.fold_table`.
        starts: (texts + 1,): where the words of each text begin in `words`, by `count_words`.
        words: uint64, room for all words; written.
    """
    longest = 0
    for row in range(starts.size - 1):
        longest = max(longest, offsets[row + 1] - offsets[row])
    letters = np.empty(2 * longest + 2, np.uint32)
    for row in range(starts.size - 1):
        words_of(letters, fold(data, offsets[row], offsets[row + 1], table, letters), words[starts[row] :])


@_kernel
def hash_of_run(words, first, past):
    """One number for a run of words."""
    value = np.uint64(past - first)
    for i in range(first, past):
        value = value * _BASE + words[i]
    return mix(value) | _ONE


@_kernel
def runs_in(starts, words, width, runs, owners):
    """Hash and text of all runs of words.

    Args:
        starts, words: As in `Sets`.
        width: Words of a run; 0 takes each text as one run.
        runs: uint64, room for all runs; written.
        owners: By run: its text; written.

    Returns:
        How many runs were written.
    """
    count = 0
    for text in range(starts.size - 1):
        first, past = starts[text], starts[text + 1]
        step = width if width > 0 else max(past - first, 1)
        for at in range(first, past - step + 1):
            runs[count] = hash_of_run(words, at, at + step)
            owners[count] = text
            count += 1
    return count


@_kernel
def fill_table(keys, values, wanted, given):
    """Fill an open table; the first value of a key stays.

    Args:
        keys, values: The table (`Table`), with more slots than keys; written.
        wanted: uint64 keys to put in, none of them 0.
        given: The value of each.
    """
    size = np.uint64(keys.size - 1)
    for i in range(wanted.size):
        slot = wanted[i] & size
        while keys[slot] != 0 and keys[slot] != wanted[i]:
            slot = (slot + _ONE) & size
        if keys[slot] == 0:
            keys[slot] = wanted[i]
            values[slot] = given[i]


@_kernel
def key_bit_is_set(bits, wanted):
    """Whether a table may hold a key, by a bit map small enough for the processor's cache."""
    slot = (wanted >> np.uint64(20)) & np.uint64(bits.size * 8 - 1)
    return (bits[slot >> np.uint64(3)] >> np.uint8(slot & np.uint64(7))) & np.uint8(1) != 0


@_kernel
def set_key_bits(bits, wanted):
    """Set the bit of every key."""
    for i in range(wanted.size):
        slot = (wanted[i] >> np.uint64(20)) & np.uint64(bits.size * 8 - 1)
        bits[slot >> np.uint64(3)] |= np.uint8(1) << np.uint8(slot & np.uint64(7))


@_kernel
def look_up(keys, values, wanted):
    """The value of a key, or -1."""
    size = np.uint64(keys.size - 1)
    slot = wanted & size
    while keys[slot] != 0:
        if keys[slot] == wanted:
            return values[slot]
        slot = (slot + _ONE) & size
    return -1


@_kernel
def common_in_order(words, first, past, others, other_first, other_past, above, row):
    """Length of the longest common subsequence of two runs of words.

    Args:
        words, first, past: The first run: hashes of words, and the places between which it lies.
        others, other_first, other_past: The second run.
        above, row: Room for one number more than the second run has words; written.
    """
    count = other_past - other_first
    above[: count + 1] = 0
    row[0] = 0
    for i in range(first, past):
        for j in range(count):
            if words[i] == others[other_first + j]:
                row[j + 1] = above[j] + 1
            else:
                row[j + 1] = max(above[j + 1], row[j])
        above[: count + 1] = row[: count + 1]
    return above[count]


class Table(NamedTuple):
    """An open table from a 64-bit key to a number; key 0 is a free slot, the size is a power of two."""

    keys: np.ndarray
    values: np.ndarray


class Sets(NamedTuple):
    """Evaluation texts, ready to be found."""

    starts: np.ndarray
    """Where the words of text i begin in `words`; those of the last end at the last entry."""
    words: np.ndarray
    """Hashes of all words, text after text."""
    whole: Table
    """From the hash of all words of a text to the text."""
    runs: Table
    """From the hash of a run of words to its text."""
    run_bits: np.ndarray
    """Bits of the keys of `runs`, small enough for the processor's cache."""
    vocabulary: Table
    """From a word to its place in `posting_starts`."""
    posting_starts: np.ndarray
    postings: np.ndarray
    """Texts of each word, word after word."""
    longest: int
    """Words of the longest text."""


class CopyLimits(NamedTuple):
    """When a row is a copy (see `contamination.Limits`)."""

    exact_least: int
    width: int
    """Words of a run."""
    containment: float
    words_least: int
    similar: float
    """Share of words in the same order that an edited copy has; above 1: edited copies are not looked for."""
    most_candidates: int


class CopyScratch(NamedTuple):
    """Room for one row, of one thread."""

    ids: np.ndarray
    rarity: np.ndarray
    touched: np.ndarray
    above: np.ndarray
    line: np.ndarray
    hits: np.ndarray
    """Runs in each evaluation text; zeros between rows."""
    seen: np.ndarray
    """The last row that each evaluation text was compared with."""


@_kernel
def _copied_in_runs(mine, count, sets, limits, scratch):
    """The evaluation text with the most runs of the row, if the runs are enough of the row or of the text; else -1."""
    all_hits, distinct, best = 0, 0, -1
    for at in range(count - limits.width + 1):
        run = hash_of_run(mine, at, at + limits.width)
        text = look_up(sets.runs.keys, sets.runs.values, run) if key_bit_is_set(sets.run_bits, run) else -1
        if text >= 0:
            all_hits += 1
            if scratch.hits[text] == 0:
                scratch.touched[distinct] = text
                distinct += 1
            scratch.hits[text] += 1
    for i in range(distinct):
        text = scratch.touched[i]
        of_text = sets.starts[text + 1] - sets.starts[text] - limits.width + 1
        enough = all_hits >= limits.containment * (count - limits.width + 1)
        if of_text + limits.width - 1 >= limits.words_least and scratch.hits[text] >= limits.containment * of_text:
            enough = True
        if enough and (best < 0 or scratch.hits[text] > scratch.hits[best]):
            best = text
    for i in range(distinct):
        scratch.hits[scratch.touched[i]] = 0
    return best


@_kernel
def _count_rarity(mine, count, spare, sets, scratch):
    """Texts of each word into `rarity`; returns how many words no text has, at most one more than `spare`."""
    unseen = 0
    for i in range(count):
        scratch.ids[i] = look_up(sets.vocabulary.keys, sets.vocabulary.values, mine[i])
        scratch.rarity[i] = 0
        if scratch.ids[i] >= 0:
            word = scratch.ids[i]
            scratch.rarity[i] = sets.posting_starts[word + 1] - sets.posting_starts[word]
            continue
        unseen += 1
        if unseen > spare:
            break
    return unseen


@_kernel
def _rarest(rarity, count):
    """The place of the rarest word that is left, or -1."""
    at = -1
    for i in range(count):
        if rarity[i] > 0 and (at < 0 or rarity[i] < rarity[at]):
            at = i
    return at


@_kernel
def _edited_copy(mine, count, row, sets, limits, scratch):
    """The evaluation text of about the same length that has the most words in the same order; -1 if none has enough."""
    # A copy leaves at most `spare` words unmatched: among any spare + 1 words one is matched, so the rarest do.
    spare = count - int(np.ceil(limits.similar * count - 1e-9))
    unseen = _count_rarity(mine, count, spare, sets, scratch)
    candidates, most, best = 0, 0, -1
    for _ in range(spare + 1 - unseen):
        at = _rarest(scratch.rarity, count)
        if at < 0:
            break
        scratch.rarity[at] = 0
        word = scratch.ids[at]
        for i in range(sets.posting_starts[word], sets.posting_starts[word + 1]):
            text = sets.postings[i]
            length = sets.starts[text + 1] - sets.starts[text]
            if scratch.seen[text] == row or length < limits.similar * count or count < limits.similar * length:
                continue
            scratch.seen[text] = row
            candidates += 1
            if candidates > limits.most_candidates:
                break
            common = common_in_order(
                mine, 0, count, sets.words, sets.starts[text], sets.starts[text + 1], scratch.above, scratch.line
            )
            if common > most and common >= limits.similar * max(count, length) - 1e-9:
                most, best = common, text
    return best


@_kernel
def find_copies(data, offsets, first, past, longest, table, sets, limits, found, how):
    """Find the evaluation text that each row copies.

    Args:
        data, offsets: Texts of all rows (`folding.Buffer`).
        first, past: Rows that are read, `past` not among them.
        longest: Bytes of the longest text of these rows.
        table: Of `folding.fold_table`.
        sets: The evaluation texts.
        limits: When a row is a copy.
        found: (rows,): the evaluation text, -1: none; written.
        how: (rows,): 1 whole, 2 in runs, 3 edited, 0: no copy; written.
    """
    letters = np.empty(2 * longest + 2, np.uint32)
    mine = np.empty(2 * longest + 2, np.uint64)
    texts = sets.starts.size - 1
    scratch = CopyScratch(
        np.empty(2 * longest + 2, np.int64), np.empty(2 * longest + 2, np.int64), np.empty(2 * longest + 2, np.int64),
        np.empty(sets.longest + 1, np.int64), np.empty(sets.longest + 1, np.int64),
        np.zeros(texts, np.int64), np.full(texts, -1, np.int64),
    )  # fmt: skip
    for row in range(first, past):
        found[row] = -1
        how[row] = 0
        count = words_of(letters, fold(data, offsets[row], offsets[row + 1], table, letters), mine)
        if count < limits.exact_least:
            continue
        text = look_up(sets.whole.keys, sets.whole.values, hash_of_run(mine, 0, count))
        kind = 1
        if text < 0 and count >= max(limits.width, limits.words_least):
            text = _copied_in_runs(mine, count, sets, limits, scratch)
            kind = 2
        looked_for = limits.similar <= 1 and limits.similar * count <= sets.longest
        if text < 0 and count >= limits.words_least and looked_for:
            text = _edited_copy(mine, count, row, sets, limits, scratch)
            kind = 3
        if text >= 0:
            found[row] = text
            how[row] = kind
