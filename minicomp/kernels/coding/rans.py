"""Range asymmetric numeral systems (Duda 2013, arXiv 1311.2540), interleaved, with a table.

    encode(symbols, freq, lanes) -> data
    decode(data, n, freq, lanes) -> symbols, used, whole

All of a message is one number x. Symbol s has f of M = 4096 *slots*, from `start` on; to append it,

    x -> M (x div f) + start + x mod f

which grows x by the factor M / f, that is by -log2 p bits, and to take it back, the slot x mod M
says which symbol it was:

    slot = x mod M,  x -> f (x div M) + slot - start

x is kept in [2^16, 2^32): before it would grow past that, its low 16 bits are put out as a *word*;
when it has shrunk below, the next word is taken in. What went in last comes out first, so the coder
walks the symbols from the last to the first and its words are turned round at the end.

One state waits for itself at every symbol. So there are several *lanes*, symbol i belonging to lane
i mod lanes, which take their words from one stream in the order in which they need them: of 32 that
a vector holds, the table look-ups are one gather. All begin at 2^16, which a decoder finds again at
the end if nothing was damaged.

The data: the state of each lane, 4 bytes, low byte first, then the words.
"""

from __future__ import annotations

import numpy as np

from .. import cpu, doors
from ..threads import threads

Array = np.ndarray
BITS = 12
SLOTS = 1 << BITS  # M
LOWEST = 1 << 16  # of a state
MAX_SYMBOLS = 256
MAX_LANES = 32
MOST = 2**31 - 1  # symbols


def encode(symbols: Array, freq: Array, lanes: int = MAX_LANES, *, isa: str = "auto",
           n_threads: int = 1) -> Array:
    """Returns the bytes of a message, uint8 (B,).

    symbols : (N,) integers below K        freq : (K,) slots of each symbol, 0..4095, in all 4096;
        K <= 256        lanes : 1 or 32
    isa : rung, see kernels/cpu.py        n_threads : no effect
    Raises ValueError where a symbol has no slot, or freq or lanes are out of range.
    """
    threads(n_threads)
    freq, lanes = _checked(freq, lanes)
    doors.integers("symbols", symbols, 1, least=0, most=len(freq) - 1)
    if len(symbols) and not freq[symbols].all():
        raise ValueError("a symbol has no slot")
    symbols = np.ascontiguousarray(symbols, np.uint8)
    if cpu.resolve(isa, "coding") == 0:
        return encode_ref(symbols, freq, lanes)
    out = np.empty(2 * len(symbols) + 4 * lanes, np.uint8)  # a symbol puts out one word at most
    size = cpu.kernel_module("coding").rans_encode(symbols, freq, lanes, out)
    return out[:size].copy()


def decode(data: Array, n: int, freq: Array, lanes: int = MAX_LANES, *, isa: str = "auto",
           n_threads: int = 1) -> tuple[Array, int, bool]:
    """Returns (symbols uint8 (n,), used, whole) of what `encode` returned.

    data : uint8 (B,)        freq, lanes : as encoded
    used : bytes asked for; past the end they are 0        whole : whether every lane ends where it
        began
    Any bytes decode to something; a caller compares used with B and asks for whole.
    Raises ValueError where n, freq or lanes are out of range.
    """
    threads(n_threads)
    data = doors.stream("data", data)
    n = doors.whole("n", n, 0, MOST)
    freq, lanes = _checked(freq, lanes)
    level = cpu.resolve(isa, "coding")
    if level == 0:
        return decode_ref(data, n, freq, lanes)
    symbols = np.empty(n, np.uint8)
    used, whole = cpu.kernel_module("coding").rans_decode(data, freq, lanes, symbols, level)
    return symbols, used, bool(whole)


def _checked(freq: Array, lanes: int) -> tuple[Array, int]:
    doors.integers("freq", freq, 1, least=0, most=SLOTS - 1)
    if not 2 <= len(freq) <= MAX_SYMBOLS or int(freq.sum()) != SLOTS:
        raise ValueError(f"freq must be 2..{MAX_SYMBOLS} numbers that sum to {SLOTS}, got "
                         f"{len(freq)} that sum to {freq.sum()}")
    lanes = doors.whole("lanes", lanes, 1, MAX_LANES)
    if lanes not in (1, MAX_LANES):
        raise ValueError(f"lanes must be 1 or {MAX_LANES}, got {lanes}")
    return np.ascontiguousarray(freq, np.uint32), lanes


def encode_ref(symbols: Array, freq: Array, lanes: int) -> Array:
    """Returns what `encode` returns, all lanes at a time."""
    freq = freq.astype(np.uint64)
    start = np.cumsum(freq) - freq
    x, words = np.full(lanes, LOWEST, np.uint64), []
    for first in range((len(symbols) - 1) // lanes * lanes, -1, -lanes):
        s = symbols[first : first + lanes]
        state, f = x[: len(s)], freq[s]
        full = state >= f << np.uint64(32 - BITS)
        words.append(state[full][::-1] & np.uint64(0xFFFF))
        state[full] >>= np.uint64(16)
        state[:] = (state // f << np.uint64(BITS)) + start[s] + state % f
    stream = np.concatenate([np.zeros(0, np.uint64), *words])[::-1]
    return np.concatenate([x.astype("<u4").view(np.uint8), stream.astype("<u2").view(np.uint8)])


def decode_ref(data: Array, n: int, freq: Array, lanes: int) -> tuple[Array, int, bool]:
    """Returns what `decode` returns, all lanes at a time."""
    head = np.zeros(4 * lanes, np.uint8)
    head[: min(len(data), len(head))] = data[: len(head)]
    rest = data[4 * lanes :]
    words = np.append(rest, np.zeros(len(rest) % 2, np.uint8)).view("<u2").astype(np.uint32)
    x, freq = head.view("<u4").astype(np.uint32), freq.astype(np.uint32)
    start = (np.cumsum(freq) - freq).astype(np.uint32)
    table, taken = np.repeat(np.arange(len(freq), dtype=np.uint8), freq), 0
    symbols = np.empty(n, np.uint8)
    for first in range(0, n, lanes):
        state = x[: min(lanes, n - first)]
        slot = state & np.uint32(SLOTS - 1)
        s = symbols[first : first + lanes] = table[slot]
        state[:] = freq[s] * (state >> np.uint32(BITS)) + slot - start[s]
        short = np.flatnonzero(state < LOWEST)
        word = np.zeros(len(short), np.uint32)
        there = words[taken : taken + len(short)]
        word[: len(there)] = there
        state[short] = state[short] << np.uint32(16) | word
        taken += len(short)
    return symbols, 4 * lanes + 2 * taken, bool((x == LOWEST).all())
