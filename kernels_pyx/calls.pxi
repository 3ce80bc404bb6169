# What every room's `Calls` are, whose struct Call has what runs it: kernel(const Call *), and
# n_threads.

ctypedef void (*Part)(const Call *c, long t) noexcept nogil


cdef void each(const Call *c, Part part, long parts) noexcept nogil:
    # Threads take parts each. One thread enters no parallel region: of a small net's kernel that
    # takes as long as the work.
    cdef long t
    if c.n_threads == 1 or parts == 1:
        for t in range(parts):
            part(c, t)
    else:
        for t in prange(parts, schedule="static", num_threads=c.n_threads):
            part(c, t)


cdef class Kept:
    """Kernels with their arguments, made ready one after the other and run in one go.

    at_once : each runs as it is called, and none is kept
    What is kept holds its arrays: it reads and writes the same memory each time. It is complete
    when it is run first.
    """

    cdef Call *calls
    cdef long count
    cdef bint at_once, complete
    cdef list held

    def __cinit__(self, bint at_once=False):
        self.calls, self.count, self.at_once, self.complete = NULL, 0, at_once, False
        self.held = []

    def __dealloc__(self):
        free(self.calls)

    def __len__(self):
        return self.count

    cdef int take(self, const Call *call) except -1:
        # Whether the call is kept, and its arrays must be.
        cdef Call *calls
        if self.at_once:
            with nogil:
                call.kernel(call)
            return 0
        if self.complete:
            raise ValueError("calls that have been run must stay as they are")
        calls = <Call *>realloc(self.calls, (self.count + 1) * sizeof(Call))
        if calls == NULL:
            raise MemoryError
        self.calls = calls
        self.calls[self.count] = call[0]
        self.count += 1
        return 1

    def run(self):
        """Runs all calls, in order."""
        self.run_all()

    cdef void run_all(self):
        cdef long i
        self.complete = True
        with nogil:
            for i in range(self.count):
                self.calls[i].kernel(&self.calls[i])
