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
    packed, first, past, order, fresh, jaccard, part_data, part_offsets, rests, part_jaccard,
    same_rest_jaccard, nearest, budget, tries, partners,
):  # fmt: skip
    """Verify candidates of one band: rows whose band hash is the same, in `packed` as hash << 32 | rank, sorted.

    A pair must reach the larger of the two rows' `jaccard`; its parts, unless both are empty, `part_jaccard`, or
    `same_rest_jaccard` where what is beside the parts (`rests`, as hashes) is the same.

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
                if similar < max(jaccard[row], jaccard[other]) - 1e-9:
                    continue
                whole = part_offsets[row + 1] - part_offsets[row] + part_offsets[other + 1] - part_offsets[other]
                if whole > 0:
                    similar = resembling(
                        part_data, part_offsets, row, other, table, width, no_common, least, letters, hashes, keys, marks,
                        stamp,
                    )  # fmt: skip
                    stamp += 3
                    if similar < (same_rest_jaccard if rests[row] == rests[other] else part_jaccard) - 1e-9:
                        continue
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


@_kernel
def count_words(data, offsets, table, counts):
    """Words of every text, as `words_in` finds them."""
    longest = 0
    for row in range(counts.size):
        longest = max(longest, offsets[row + 1] - offsets[row])
    letters = np.empty(2 * longest + 2, np.uint32)
    hashes = np.empty(2 * longest + 2, np.uint64)
    for row in range(counts.size):
        counts[row] = words_of(letters, fold(data, offsets[row], offsets[row + 1], table, letters), hashes)


@_kernel
def words_in(data, offsets, table, starts, words):
    """Hashes of the words of every text, text after text: those of text i from `starts[i]` on."""
    longest = 0
    for row in range(starts.size - 1):
        longest = max(longest, offsets[row + 1] - offsets[row])
    letters = np.empty(2 * longest + 2, np.uint32)
    for row in range(starts.size - 1):
        words_of(letters, fold(data, offsets[row], offsets[row + 1], table, letters), words[starts[row] :])


@_kernel
def run_hash(words, first, past):
    """One number for a run of words."""
    value = np.uint64(past - first)
    for i in range(first, past):
        value = value * _BASE + words[i]
    return mix(value) | _ONE


@_kernel
def runs_in(starts, words, width, runs, owners):
    """Hash and text of all runs of `width` words (0: of whole texts); returns how many."""
    count = 0
    for text in range(starts.size - 1):
        first, past = starts[text], starts[text + 1]
        step = width if width > 0 else max(past - first, 1)
        for at in range(first, past - step + 1):
            runs[count] = run_hash(words, at, at + step)
            owners[count] = text
            count += 1
    return count


@_kernel
def put_all(keys, values, wanted, given):
    """Fill an open table (keys 0 are free, its size is a power of two); the first value of a key stays."""
    size = np.uint64(keys.size - 1)
    for i in range(wanted.size):
        slot = wanted[i] & size
        while keys[slot] != 0 and keys[slot] != wanted[i]:
            slot = (slot + _ONE) & size
        if keys[slot] == 0:
            keys[slot] = wanted[i]
            values[slot] = given[i]


@_kernel
def may_hold(bits, wanted):
    """Whether a table may hold a key, by a bit map small enough for the processor's cache."""
    slot = (wanted >> np.uint64(20)) & np.uint64(bits.size * 8 - 1)
    return (bits[slot >> np.uint64(3)] >> np.uint8(slot & np.uint64(7))) & np.uint8(1) != 0


@_kernel
def mark_all(bits, wanted):
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
    """Length of the longest common subsequence of two runs of words; `above` and `row` are room for the second."""
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


@_kernel
def find_copies(
    data, offsets, first, past, longest, table, exact_least, width, containment, words_least, similar,
    whole_keys, whole_values, run_bits, run_keys, run_values, word_keys, word_values, posting_starts, postings,
    starts, words, longest_text, most_candidates, found, how,
):  # fmt: skip
    """Per row the evaluation text that it copies into `found` (-1: none), and how: 1 whole, 2 in runs, 3 edited."""
    letters = np.empty(2 * longest + 2, np.uint32)
    mine = np.empty(2 * longest + 2, np.uint64)
    ids = np.empty(2 * longest + 2, np.int64)
    rarity = np.empty(2 * longest + 2, np.int64)
    above = np.empty(longest_text + 1, np.int64)
    line = np.empty(longest_text + 1, np.int64)
    texts = starts.size - 1
    hits = np.zeros(texts, np.int64)
    seen = np.full(texts, -1, np.int64)
    touched = np.empty(2 * longest + 2, np.int64)
    for row in range(first, past):
        found[row] = -1
        how[row] = 0
        count = words_of(letters, fold(data, offsets[row], offsets[row + 1], table, letters), mine)
        if count < exact_least:
            continue
        text = look_up(whole_keys, whole_values, run_hash(mine, 0, count))
        if text >= 0:
            found[row] = text
            how[row] = 1
            continue
        if count >= max(width, words_least):
            all_hits, distinct, best = 0, 0, -1
            for at in range(count - width + 1):
                run = run_hash(mine, at, at + width)
                text = look_up(run_keys, run_values, run) if may_hold(run_bits, run) else -1
                if text >= 0:
                    all_hits += 1
                    if hits[text] == 0:
                        touched[distinct] = text
                        distinct += 1
                    hits[text] += 1
            for i in range(distinct):
                text = touched[i]
                of_text = starts[text + 1] - starts[text] - width + 1
                enough = all_hits >= containment * (count - width + 1)
                if of_text + width - 1 >= words_least and hits[text] >= containment * of_text:
                    enough = True
                if enough and (best < 0 or hits[text] > hits[best]):
                    best = text
            for i in range(distinct):
                hits[touched[i]] = 0
            if best >= 0:
                found[row] = best
                how[row] = 2
                continue
        if count < words_least or similar > 1 or similar * count > longest_text:
            continue
        # A copy leaves at most `spare` words unmatched: among any spare + 1 words one is matched, so the rarest do.
        spare = count - int(np.ceil(similar * count - 1e-9))
        unseen = 0
        for i in range(count):
            ids[i] = look_up(word_keys, word_values, mine[i])
            if ids[i] < 0:
                unseen += 1
                rarity[i] = 0
                if unseen > spare:
                    break
            else:
                rarity[i] = posting_starts[ids[i] + 1] - posting_starts[ids[i]]
        if unseen > spare:
            continue
        candidates = 0
        most = 0
        for _ in range(spare + 1 - unseen):
            at = -1
            for i in range(count):
                if rarity[i] > 0 and (at < 0 or rarity[i] < rarity[at]):
                    at = i
            if at < 0:
                break
            rarity[at] = 0
            for i in range(posting_starts[ids[at]], posting_starts[ids[at] + 1]):
                text = postings[i]
                length = starts[text + 1] - starts[text]
                if seen[text] == row or length < similar * count or count < similar * length:
                    continue
                seen[text] = row
                candidates += 1
                if candidates > most_candidates:
                    break
                common = common_in_order(mine, 0, count, words, starts[text], starts[text + 1], above, line)
                if common > most and common >= similar * max(count, length) - 1e-9:
                    most = common
                    found[row] = text
                    how[row] = 3


@_kernel
def _foreign_part(
    letters, begin, end, moves, rows, features, weights, unit, priors, wanted, logs, counts, seen, scores
):
    """Probability that these bytes are in none of the wanted languages; `counts` holds zeros and is left so."""
    state = 0
    found = 0
    for at in range(begin, end):
        state = moves[(rows[state] << 8) + letters[at]]
        feature = features[state]
        if feature >= 0:
            if counts[feature] == 0:
                seen[found] = feature
                found += 1
            counts[feature] += 1
    scores[:] = priors
    # The table is larger than the caches and the reads are scattered: four rows are read at a time, and added in order.
    i = 0
    while i + 4 <= found:
        a, b, c, d = seen[i], seen[i + 1], seen[i + 2], seen[i + 3]
        often_a, often_b, often_c, often_d = logs[counts[a]], logs[counts[b]], logs[counts[c]], logs[counts[d]]
        of_a, of_b, of_c, of_d = weights[a], weights[b], weights[c], weights[d]
        for language in range(scores.size):
            score = scores[language] + often_a * (np.float32(of_a[language]) * unit)
            score += often_b * (np.float32(of_b[language]) * unit)
            score += often_c * (np.float32(of_c[language]) * unit)
            scores[language] = score + often_d * (np.float32(of_d[language]) * unit)
        i += 4
    while i < found:
        often = logs[counts[seen[i]]]
        of_feature = weights[seen[i]]
        for language in range(scores.size):
            scores[language] += often * (np.float32(of_feature[language]) * unit)
        i += 1
    for i in range(found):
        counts[seen[i]] = 0
    # The model's own temperature keeps the figures comparable between lengths.
    cold = np.float32(1.0 / np.sqrt(max(end - begin, 1)))
    best = scores.max()
    inside, whole = 0.0, 0.0
    for language in range(scores.size):
        behind = (scores[language] - best) * cold
        if behind > -45.0:  # less is lost in the rounding of a sum of at least 1
            part = np.exp(behind)
            whole += part
            if wanted[language]:
                inside += part
    return 1.0 - inside / whole


@_kernel
def _no_plain(letter):
    """Whether a byte makes the word that it stands in no plain one."""
    return (48 <= letter <= 57) or letter in (
        64,
        47,
        92,
        95,
        60,
        62,
        61,
        123,
        125,
        124,
        35,
        36,
        37,
        91,
        93,
        94,
        96,
        126,
    )


@_kernel
def foreign(
    data, offsets, first, past, longest, moves, rows, features, weights, unit, priors, wanted, window, least, found
):  # fmt: skip
    """Per text the probability that it is in none of the wanted languages into `found`; NaN below `least` bytes."""
    letters = np.empty(longest + 2, np.uint8)
    counts = np.zeros(weights.shape[0], np.int32)
    seen = np.empty(longest + 2, np.int32)
    scores = np.empty(weights.shape[1], np.float32)
    logs = np.empty(window + 1, np.float32)
    for i in range(window + 1):
        logs[i] = np.float32(np.log1p(i))
    for row in range(first, past):
        found[row] = np.nan
        count = 0
        shouted = True
        at, end = offsets[row], offsets[row + 1]
        while at < end:
            begin = at
            plain = True
            while at < end and data[at] > 32:
                letter = data[at]
                inside = (letter == 46 or letter == 58) and at > begin and at + 1 < end and data[at + 1] > 32
                if _no_plain(letter) or inside:
                    plain = False
                at += 1
            if plain and at > begin:
                for i in range(begin, at):
                    letters[count] = data[i]
                    if data[i] >= 97:
                        shouted = False
                    count += 1
                if at < end:
                    letters[count] = 32
                    count += 1
            at += 1
        if count < least:
            continue
        if shouted:
            for i in range(count):
                if 65 <= letters[i] <= 90:
                    letters[i] += np.uint8(32)
        part = min(window, count)
        sure = _foreign_part(
            letters, 0, part, moves, rows, features, weights, unit, priors, wanted, logs, counts, seen, scores
        )
        if count > 2 * window:
            late = _foreign_part(
                letters, count - window, count,
                moves, rows, features, weights, unit, priors, wanted, logs, counts, seen, scores,
            )  # fmt: skip
            sure = max(sure, late)
        found[row] = sure
