"""Which rungs of the kernels this processor runs (see simd/isa.h)."""

cdef extern from "simd/isa.h":
    int isa_level()


def level() -> int:
    """Returns the highest level that the compiler built and the processor runs."""
    return isa_level()


def has_openmp() -> bool:
    """Returns whether the kernels were compiled with OpenMP, so that n_threads means something."""
    return openmp_version() > 0


cdef extern from *:
    """
    #ifdef _OPENMP
    static int openmp_version(void) { return _OPENMP; }
    #else
    static int openmp_version(void) { return 0; }
    #endif
    """
    int openmp_version()
