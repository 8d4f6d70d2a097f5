"""Pairs of images whose 64-bit difference hashes differ in few bits, without comparing each with each.

Hashes at most d bits apart agree on at least d of 2d equal bands, whichever bits differ (pigeonhole). So each choice of
d bands is a key of about 32 bits, and only images with an equal key are compared: one sort per choice.
"""

import itertools
from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

NEAR_BITS = 3
"""At most so many of 64 bits differ between near-duplicates. Within it are 92 to 98 % of copies (JPEG 80, half size,
darker) of photographs and of rendered pills, and one of 4.1 million pairs of different pills. On an even backdrop,
whose bits are noise, few copies are within it."""

MAX_PAIRS = 2_000_000
"""Beyond, the images are too alike for their hashes to tell them apart; 48 MB of pairs."""

K = TypeVar("K", bound=Hashable)
Words = NDArray[np.uint64]
Indices = NDArray[np.int64]


def near_pairs(hashes: Sequence[str], within: Sequence[str] | None = None, bits: int = NEAR_BITS) -> Indices:
    """int64 [n, 2]: the pairs i < j whose hashes (16 hex digits) differ in at most `bits`, sorted; at most MAX_PAIRS.

    `within` limits them to pairs with an equal value there (their label). Equal hashes are chained (n - 1 pairs of n
    rows), not paired each with each: enough to join them, and a million equal images cost no more than a million.
    """
    words = np.array([int(value, 16) for value in hashes], dtype=np.uint64)
    scope = np.zeros(len(words), np.uint64)
    if within is not None:
        scope = np.unique(np.asarray(within, dtype=object).astype(str), return_inverse=True)[1].astype(np.uint64)
    order = np.lexsort((np.arange(len(words)), words, scope))
    fresh = np.ones(len(words), bool)
    fresh[1:] = (np.diff(words[order]) != 0) | (np.diff(scope[order]) != 0)
    chains = np.stack([order[:-1], order[1:]], axis=1)[~fresh[1:]]
    first = order[fresh]
    found = [chains.astype(np.int64), *_between(words[first], scope[first], first, bits)]
    pairs = np.sort(np.concatenate(found), axis=1)[:MAX_PAIRS]
    ordered: Indices = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
    return ordered


def _between(words: Words, scope: Words, rows: Indices, bits: int) -> Iterator[Indices]:
    """Pairs of `rows` with distinct hashes, each once, choice by choice, until there are MAX_PAIRS of them."""
    left = MAX_PAIRS
    tried: list[np.uint64] = []
    for mask in _masks(words, bits):
        for a, b in _equal_keys(words & mask, scope):
            differ = words[a] ^ words[b]
            new = popcount(differ) <= bits
            for earlier in tried:
                new &= (differ & earlier) != 0
            pairs = np.stack([rows[a[new]], rows[b[new]]], axis=1).astype(np.int64)
            yield pairs
            left -= len(pairs)
            if left <= 0:
                return
        tried.append(mask)


def _masks(words: Words, bits: int) -> Iterator[np.uint64]:
    """Every choice of `bits` of 2 x `bits` bands, as a mask; the bits that tell most are dealt evenly to the bands."""
    ones = [float(((words >> np.uint64(bit)) & np.uint64(1)).mean()) if len(words) else 0.0 for bit in range(64)]
    dealt = sorted(range(64), key=lambda bit: abs(ones[bit] - 0.5))
    bands = [sum(1 << bit for bit in dealt[band :: 2 * bits]) for band in range(2 * bits)]
    return (np.uint64(sum(chosen)) for chosen in itertools.combinations(bands, bits))


def _equal_keys(keys: Words, scope: Words) -> Iterator[tuple[Indices, Indices]]:
    """Index pairs with equal key and scope: neighbours in sorted order, then those two apart, and so on."""
    order = np.lexsort((keys, scope))
    keys, scope = keys[order], scope[order]
    active = np.arange(len(keys))
    for apart in itertools.count(1):
        active = active[active + apart < len(keys)]
        active = active[(keys[active] == keys[active + apart]) & (scope[active] == scope[active + apart])]
        if not len(active):
            return
        yield order[active], order[active + apart]


def popcount(words: Words) -> NDArray[np.uint8]:
    """Set bits of each word (Warren, Hacker's Delight, 5-1)."""
    pairs = words - ((words >> np.uint64(1)) & np.uint64(0x5555555555555555))
    nibbles = (pairs & np.uint64(0x3333333333333333)) + ((pairs >> np.uint64(2)) & np.uint64(0x3333333333333333))
    octets = (nibbles + (nibbles >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    counts: NDArray[np.uint8] = ((octets * np.uint64(0x0101010101010101)) >> np.uint64(56)).astype(np.uint8)
    return counts


def connected(pairs: Iterable[tuple[K, K]]) -> list[list[K]]:
    """The groups of two or more that chains of pairs connect: union-find, path halving (Tarjan & van Leeuwen 1984)."""
    parent: dict[K, K] = {}

    def root(item: K) -> K:
        while (above := parent.setdefault(item, item)) != item:
            parent[item] = parent[above]
            item = parent[item]
        return item

    for a, b in pairs:
        parent[root(a)] = root(b)
    groups: dict[K, list[K]] = {}
    for item in list(parent):
        groups.setdefault(root(item), []).append(item)
    return [members for members in groups.values() if len(members) > 1]
