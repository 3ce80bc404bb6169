#!/usr/bin/env bash
# joblib's dask backend takes no notice of n_jobs: n_jobs=1 runs on every worker of the cluster at once.
#
# Guess: n_jobs says at the most how many calls run at a time, whatever runs them, and n_jobs=1 means
# here and one after the other, as it does with joblib's own processes. A cluster can only make it less.
# Seen, joblib 1.6.0 with distributed 2026.8.0, a cluster of two workers of one thread: with n_jobs=1
# half of the calls run in each worker, none of them here, and two at a time. n_jobs=2 and -1 are the
# same; what counts is the cluster alone.
# Follows: to leave room on a shared cluster, or to measure one run at a time, make the cluster smaller.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder"
"$folder/bin/pip" install --quiet joblib==1.6.0 dask==2026.8.0 distributed==2026.8.0
cat > "$folder/jobs.py" <<'PY'
import os
import sys
import time

import distributed
import joblib
from joblib import Parallel, delayed, parallel_config


def spell(i):
    begin = time.time()
    time.sleep(0.4)
    return os.getpid(), begin, time.time()


def at_once(spells):
    # the most of the spells that one moment belongs to
    return max(sum(begin <= moment < end for _, begin, end in spells) for _, moment, _ in spells)


def seen(backend, n_jobs):
    with parallel_config(backend=backend, n_jobs=n_jobs):
        spells = Parallel(batch_size=1)(delayed(spell)(i) for i in range(6))
    pids = {pid for pid, *_ in spells}
    print(f"{backend}, n_jobs={n_jobs}: {at_once(spells)} at a time, in {len(pids)} processes"
          f"{', this one' if os.getpid() in pids else ''}")
    return at_once(spells), os.getpid() in pids


if __name__ == "__main__":
    print(f"joblib {joblib.__version__}, distributed {distributed.__version__}")
    own = seen("loky", 1)
    with distributed.Client(n_workers=2, threads_per_worker=1, dashboard_address=None):
        theirs = seen("dask", 1)
    same = own == (1, True) and theirs == (2, False)
    print("as found" if same else "CHANGED")
    sys.exit(0 if same else 1)
PY
cd "$folder" && "$folder/bin/python" -I "$folder/jobs.py"
