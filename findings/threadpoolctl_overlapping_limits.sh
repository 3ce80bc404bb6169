#!/usr/bin/env bash
# Two threadpool limits that overlap without nesting leave BLAS at one thread for the whole process.
#
# Guess: a limit counts while it is held; when the last one is given back, BLAS has again the threads
# that it had before the first.
# Seen, threadpoolctl 3.6.0 with NumPy 2.4.6 (OpenBLAS): each limit remembers what it found and puts
# that back. Of two limits of 1, A taken, B taken, A given back, B given back (what two threads that
# train at the same time do), A's end gives B all threads while B still holds its limit, and B's end
# leaves 1 thread for good.
# Follows: one limiter a process, counted under a lock, where fits may run in several threads.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder"
"$folder/bin/pip" install --quiet threadpoolctl==3.6.0 numpy==2.4.6
OPENBLAS_NUM_THREADS=2 "$folder/bin/python" - <<'PY'
import sys
import threading

import numpy as np
import threadpoolctl
from threadpoolctl import threadpool_info, threadpool_limits


def threads():
    return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"][0]


def trains(entered, may_enter, may_leave, left, seen, name):
    may_enter.wait()
    with threadpool_limits(1, user_api="blas"):
        seen[f"{name} inside"] = threads()
        entered.set()
        may_leave.wait()
        seen[f"{name} before its end"] = threads()
    seen[f"after {name}"] = threads()
    left.set()


print(f"threadpoolctl {threadpoolctl.__version__}, numpy {np.__version__}")
a_in, b_in, a_out, b_out, go = (threading.Event() for _ in range(5))
go.set()
seen = {"at the start": threads()}
pair = [threading.Thread(target=trains, args=(a_in, go, b_in, a_out, seen, "A")),
        threading.Thread(target=trains, args=(b_in, a_in, a_out, b_out, seen, "B"))]
for t in pair:
    t.start()
for t in pair:
    t.join()
for what, n in seen.items():
    print(f"{what}: {n}")
same = (seen["at the start"], seen["B before its end"], seen["after B"]) == (2, 2, 1)
print("as found" if same else "CHANGED")
sys.exit(not same)
PY
