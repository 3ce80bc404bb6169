import threading

import pytest
from threadpoolctl import threadpool_info

from minicomp.kernels.threads import blas


def now():
    return {library["num_threads"] for library in threadpool_info()
            if library["user_api"] == "blas"}


def test_the_innermost_limit_counts_and_each_is_taken_back():
    before = now()
    with blas(2):
        outer = now()
        with blas(1):
            assert now() == {1}
            with blas(2):
                assert now() == outer
            assert now() == {1}
        assert now() == outer
    assert now() == before


@pytest.mark.parametrize("first_leaves_first", [True, False])
def test_of_threads_the_least_holds_until_the_last_leaves(first_leaves_first):
    before, entered, leave = now(), threading.Event(), threading.Event()

    def other():
        with blas(1):
            entered.set()
            leave.wait(20)

    thread = threading.Thread(target=other)
    with blas(2):
        thread.start()
        assert entered.wait(20) and now() == {1}
        if not first_leaves_first:
            leave.set()
            thread.join()
    assert now() == ({1} if first_leaves_first else before)
    leave.set()
    thread.join()
    assert now() == before


@pytest.mark.parametrize("n", [0, -1, 257, True, 1.5, None])
def test_a_number_that_is_none_changes_nothing(n):
    before = now()
    with pytest.raises(ValueError, match="n must be"), blas(n):
        pass
    assert now() == before


def test_a_larger_limit_of_another_thread_raises_none():
    seen = []

    def other():
        with blas(2):
            seen.append(now())

    with blas(1):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        seen.append(now())
    assert seen == [{1}, {1}]
