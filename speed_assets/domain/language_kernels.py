"""Compiled loops that detect the language of texts. Import it inside functions only.

Kernels work on rows `first` to `past`, write into arrays that the caller made, and release the interpreter's lock.

Belongs here: the loops of `language.py`, which says what their tables are. Not here: folding and sketches (`kernels.py`).
"""

from __future__ import annotations

import numpy as np
from numba import njit

_kernel = njit(cache=True, nogil=True)


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
        64, 47, 92, 95, 60, 62, 61, 123, 125, 124, 35, 36, 37, 91, 93, 94, 96, 126,
    )  # fmt: skip


@_kernel
def _word_end(data, begin, end):
    """Where the word that begins here ends, and whether it is a plain one: no address, number or code."""
    at = begin
    plain = True
    while at < end and data[at] > 32:
        letter = data[at]
        inside = (letter == 46 or letter == 58) and at > begin and at + 1 < end and data[at + 1] > 32
        if _no_plain(letter) or inside:
            plain = False
        at += 1
    return at, plain


@_kernel
def _copy_plain_words(data, begin, end, letters):
    """The plain words of a text into `letters`, capitals lowered where there is nothing else; returns their bytes."""
    count = 0
    shouted = True
    at = begin
    while at < end:
        first = at
        at, plain = _word_end(data, first, end)
        if plain and at > first:
            for i in range(first, at):
                letters[count] = data[i]
                if data[i] >= 97:
                    shouted = False
                count += 1
            if at < end:
                letters[count] = 32
                count += 1
        at += 1
    if shouted:
        for i in range(count):
            if 65 <= letters[i] <= 90:
                letters[i] += np.uint8(32)
    return count


@_kernel
def foreign(
    data, offsets, first, past, longest, moves, rows, features, weights, unit, priors, wanted, window, least, found
):  # fmt: skip
    """Per text the probability that it is in none of the wanted languages.

    Args:
        data, offsets: All texts (`folding.Buffer`).
        first, past: Texts that are read, `past` not among them.
        longest: Bytes of the longest of these texts.
        moves, rows, features: The automaton that reads bytes: its next state is `moves[(rows[state] << 8) + byte]`, and
            `features[state]` is the feature that ends there, or -1.
        weights: (features, languages): whole multiples of `unit`.
        unit: What a weight of 1 stands for.
        priors: (languages,): the score of each before anything is read.
        wanted: (languages,): whether it is wanted.
        window: Bytes of plain words that are read at the start, and at the end of a text longer than both.
        least: Bytes of plain words below which the probability is NaN.
        found: (texts,) float32: 0..1 or NaN; written.
    """
    letters = np.empty(longest + 2, np.uint8)
    counts = np.zeros(weights.shape[0], np.int32)
    seen = np.empty(longest + 2, np.int32)
    scores = np.empty(weights.shape[1], np.float32)
    logs = np.empty(window + 1, np.float32)
    for i in range(window + 1):
        logs[i] = np.float32(np.log1p(i))
    for row in range(first, past):
        found[row] = np.nan
        count = _copy_plain_words(data, offsets[row], offsets[row + 1], letters)
        if count < least:
            continue
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
