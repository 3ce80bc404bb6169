#!/usr/bin/env bash
# joblib's dask backend gives all tasks of a worker one array: what one task writes, the next one reads.
#
# Guess: as with joblib's own processes, a task's arguments are its own: small ones are copies, large
# ones a map of memory that cannot be written to. So a function that works on its argument in place
# gives the same with either backend.
# Seen, joblib 1.6.0 with distributed 2026.8.0: an array of more than 1,000 bytes that several calls
# get is sent to the cluster once and lies in a worker, writable. Eight calls that add 1 to it and
# return it give 1, 2, 3, .. 8 where all of them ran on one worker, as they mostly do, since the array
# is there; an array of 80 bytes is a copy for each batch of calls.
# Follows: what a sweep sends to dask must not be changed by a run; send the name of a data set, and
# let the run load it, or copy first.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder"
"$folder/bin/pip" install --quiet joblib==1.6.0 dask==2026.8.0 distributed==2026.8.0 numpy==2.4.6
cat > "$folder/shared.py" <<'PY'
import sys

import distributed
import joblib
import numpy as np
from joblib import Parallel, delayed, parallel_config


def plus_one(a):
    a[0] += 1
    return int(a[0])


def most(backend, entries):
    # the largest that eight calls, one a batch, make of an array of zeros
    with parallel_config(backend=backend, n_jobs=2):
        a = np.zeros(entries)
        return max(Parallel(batch_size=1)(delayed(plus_one)(a) for _ in range(8)))


if __name__ == "__main__":
    print(f"joblib {joblib.__version__}, distributed {distributed.__version__}")
    seen = {}
    with distributed.Client(n_workers=2, threads_per_worker=1, dashboard_address=None):
        for backend in ("loky", "dask"):
            for entries in (10, 10_000):
                seen[backend, entries] = most(backend, entries)
                print(f"{backend}: {entries} zeros, eight calls that add 1: at the most "
                      f"{seen[backend, entries]}")
    same = seen["dask", 10_000] >= 4 and {seen["loky", 10], seen["loky", 10_000],
                                          seen["dask", 10]} == {1}
    print("as found" if same else "CHANGED")
    sys.exit(0 if same else 1)
PY
cd "$folder" && "$folder/bin/python" -I "$folder/shared.py"
