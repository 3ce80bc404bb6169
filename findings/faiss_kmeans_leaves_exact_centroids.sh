#!/usr/bin/env bash
# faiss' k-means, started at centroids without error, ends with an error.
#
# Guess: with more centroids than distinct vectors the error is 0, and no iteration of Lloyd's raises
# it: k-means that starts at the distinct vectors themselves stays there.
# Seen, faiss-cpu 1.15.1: a centroid without members takes half of another's, and both of them are
# that centroid times 1 - 1/1024 and 1 + 1/1024, which is no step of Lloyd's; where the members are
# equal they all go to one of the two, the other is empty again, and so on for ever. Four distinct
# vectors, eight centroids, two at each: the error before is 0, after 25 iterations 7.6e-5, and no
# vector comes back exactly.
# Follows: for weights of few values (ternary, already shared) ask for no more centroids than there
# are values; compare squared errors with a bound, not with 0.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder"
"$folder/bin/pip" install --quiet faiss-cpu==1.15.1 numpy==2.4.6
"$folder/bin/python" -I - <<'PY'
import sys

import faiss
import numpy as np

print(f"faiss {faiss.__version__}, numpy {np.__version__}")
distinct = np.eye(4, dtype=np.float32)
x = np.repeat(distinct, 20, axis=0)
found = {}
for times in (1, 2):
    starts = np.concatenate([distinct] * times)
    for iterations in (0, 1, 25):
        km = faiss.Kmeans(4, len(starts), niter=iterations, min_points_per_centroid=1)
        km.train(x, init_centroids=starts)
        found[times, iterations] = float(km.index.search(x, 1)[0].sum())
        print(f"{len(starts)} centroids that start at the 4 distinct vectors, {iterations} "
              f"iterations: squared error {found[times, iterations]:.3g}")
off = sorted({round(float(c), 5) for c in np.abs(km.centroids).max(axis=1)})
print(f"largest entries of the centroids: {off}")
same = not any(found[1, i] for i in (0, 1, 25)) and found[2, 0] == 0 and found[2, 25] > 1e-5
print("as found" if same else "CHANGED")
sys.exit(not same)
PY
