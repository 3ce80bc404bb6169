#!/usr/bin/env bash
# dahuffman codes a stream of two equally frequent symbols in one and a half bits each.
#
# Guess: a Huffman codec marks the end of its stream at the price of a few bits a stream, so that the
# size is Huffman's optimum for the counts, and a little.
# Seen, dahuffman 0.4.2: the end mark is a further symbol of frequency 1 in the tree, and takes a
# leaf beside the rarest symbol: that symbol's code grows by a bit, in every place. Two symbols, half
# each: 1.5 bits where the optimum is 1; 0.7, 0.1, 0.1, 0.1: 7 % above; sixteen equal ones: 1.6 %.
# Follows: binary, ternary and strongly pruned weights are judged against the optimum computed from
# the counts (sum of count times code length), not against this codec's bytes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder"
"$folder/bin/pip" install --quiet dahuffman==0.4.2
"$folder/bin/python" - <<'PY'
import heapq
import sys
from importlib.metadata import version

from dahuffman import HuffmanCodec


def optimal_bits(counts):
    heap, total = list(counts), 0
    heapq.heapify(heap)
    while len(heap) > 1:
        both = heapq.heappop(heap) + heapq.heappop(heap)
        total += both
        heapq.heappush(heap, both)
    return total


print(f"dahuffman {version('dahuffman')}")
found = []
for counts in ([5000, 5000], [7000, 1000, 1000, 1000], [1000] * 16):
    data = [symbol for symbol, n in enumerate(counts) for _ in range(n)]
    codec = HuffmanCodec.from_data(data)
    coded = codec.encode(data)
    assert codec.decode(coded) == data
    found.append(8 * len(coded) / optimal_bits(counts))
    print(f"counts {counts}: {8 * len(coded):,} bits, optimum {optimal_bits(counts):,}, "
          f"ratio {found[-1]:.3f}")
same = [round(ratio, 2) for ratio in found] == [1.5, 1.07, 1.02]
print("as found" if same else "CHANGED")
sys.exit(not same)
PY
