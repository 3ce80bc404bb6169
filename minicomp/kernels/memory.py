"""Where arrays start, and how long their memory is kept: what the kernels ask of the allocator."""

from __future__ import annotations

import math
from ctypes import addressof, c_char

import numpy as np

Array = np.ndarray


def aligned(*shape: int) -> Array:
    """Returns an uninitialised float32 array that starts at a cache line.

    NumPy's own start at a multiple of 16 bytes, where every 64-byte load would touch two lines.
    """
    size = math.prod(shape)
    room = np.empty(size + 16, np.float32)
    start = -addressof(c_char.from_buffer(room)) % 64 // 4  # a fifth of what NumPy's own ways take
    return room[start: start + size].reshape(shape)


def keep_freed_memory() -> None:
    """Lets glibc keep up to 64 MB of freed arrays for the next ones instead of returning them.

    A training step frees and allocates the same maps again and again. glibc returns memory to the
    system beyond twice the largest block that it has mapped and freed so far, and the step then
    faults every page in again: a third of the time of LeNet-5. One such block of 31 MB, never
    touched, raises the limit. Other C libraries do not notice.
    """
    np.empty(31 << 20, np.uint8)
