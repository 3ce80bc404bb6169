"""Kernels of a float program on one image, kept with their arguments and run in one go: the twin of
minicomp/deploy/one_image.py.

Maps lie channels-last, (P, C), P = H W. The kernels are those of maps.pyx, a row's apart; on one
image checks, allocations and calls from Python take longer than they do.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t
from libc.stdlib cimport free, realloc

cdef extern from "simd/maps/conv.h" nogil:
    ctypedef struct Conv:
        long H, W, C, O, KH, KW, sh, sw, ph, pw, Ho, Wo
    void conv_pack_o(const Conv *d, const float *w, float *out, int level)

ctypedef void (*ImageKernel)(const Conv *d, const float *x, const float *w, const float *bias,
                             float *y, float *room, int level) noexcept nogil

cdef extern from "simd/maps/depthwise.h" nogil:
    ImageKernel conv_image, depthwise_image

cdef extern from "simd/maps/pool.h" nogil:
    ctypedef struct Pool:
        long H, W, C, KH, KW, sh, sw, ph, pw, Ho, Wo
    void max_pool_image(const Pool *d, const float *x, uint8_t *index, float *y, int level)
    void avg_pool_image(const Pool *d, const float *x, uint8_t *index, float *y, int level)

cdef extern from "simd/maps/norm.h" nogil:
    void norm_affine(const float *x, const float *a, const float *b, int gated, long M, long C,
                     float top, float *y, int level)

cdef extern from "simd/floats/row.h" nogil:
    void row_product(const float *x, const float *w, const float *b, long I, long O, float *y,
                     int level)
    void row_channels_last(const float *x, const float *gain, const float *bias, long C, long P,
                           float *y)
    void row_planes(const float *x, long P, long C, float *y)
    void row_add(const float *x, const float *other, long n, float *y)
    void row_clamp(float *y, long n, int how)

cdef extern from "simd/sparse/sparse.h" nogil:
    enum: SPARSE_BYTE
    enum: SPARSE_WORD
    enum: SPARSE_VALUE
    ctypedef struct Lanes:
        const uint8_t *byte
        const uint16_t *word
        const float *value
        const int32_t *base
        const float *table
        long k
    void lanes_group(const Lanes *p, int kind, const int64_t *start, const int32_t *row, long g,
                     const float *x, float *y, int level)

# A kernel with its arguments; P pixels of C channels, y of `size` floats, clamped by `then`.
cdef struct Call:
    void (*kernel)(const Call *c) noexcept nogil
    int level, then
    const float *x
    const float *other
    const float *w
    const float *b
    float *y
    long size, P, C
    Conv conv
    Pool pool
    Lanes lanes
    int kind
    const int64_t *start
    const int32_t *row
    float *room
    float *map
    uint8_t *index


cdef void input_call(const Call *c) noexcept nogil:
    row_channels_last(c.x, c.w, c.b, c.C, c.P, c.y)


cdef void affine_call(const Call *c) noexcept nogil:
    norm_affine(c.x, c.w, c.b, 0, c.P, c.C, 0, c.y, c.level)


cdef void conv_call(const Call *c) noexcept nogil:
    conv_image(&c.conv, c.x, c.w, c.b, c.y, c.room, c.level)


cdef void depthwise_call(const Call *c) noexcept nogil:
    depthwise_image(&c.conv, c.x, c.w, c.b, c.y, c.room, c.level)


cdef void conv_pool_call(const Call *c) noexcept nogil:
    conv_image(&c.conv, c.x, c.w, c.b, c.map, c.room, c.level)
    max_pool_image(&c.pool, c.map, c.index, c.y, c.level)


cdef void max_pool_call(const Call *c) noexcept nogil:
    max_pool_image(&c.pool, c.x, c.index, c.y, c.level)


cdef void avg_pool_call(const Call *c) noexcept nogil:
    avg_pool_image(&c.pool, c.x, NULL, c.y, c.level)


cdef void row_call(const Call *c) noexcept nogil:
    row_product(c.x, c.w, c.b, c.C, c.size, c.y, c.level)


cdef void lanes_call(const Call *c) noexcept nogil:
    cdef long g
    for g in range(c.P):
        lanes_group(&c.lanes, c.kind, c.start, c.row, g, c.x, c.y, c.level)


cdef void planes_call(const Call *c) noexcept nogil:
    row_planes(c.x, c.P, c.C, c.y)


cdef void add_call(const Call *c) noexcept nogil:
    row_add(c.x, c.other, c.size, c.y)


cdef const float *or_null(const float[::1] v) noexcept:
    return &v[0] if v is not None else NULL


cdef Conv conv_of(sizes) except *:
    # sizes: H, W, C, O, KH, KW, sh, sw, ph, pw, Ho, Wo
    cdef Conv d
    d.H, d.W, d.C, d.O, d.KH, d.KW, d.sh, d.sw, d.ph, d.pw, d.Ho, d.Wo = sizes
    return d


cdef Pool pool_of(sizes) except *:
    # sizes: H, W, C, KH, KW, sh, sw, ph, pw, Ho, Wo
    cdef Pool d
    d.H, d.W, d.C, d.KH, d.KW, d.sh, d.sw, d.ph, d.pw, d.Ho, d.Wo = sizes
    return d


def pack(
    const float[:, :, :, ::1] w,   # IN (O, C, KH, KW)
    sizes,
    float[::1] packed,             # OUT (KH KW C lanes(O),)
    int level,
):
    """The weights as `conv` wants them."""
    cdef Conv d = conv_of(sizes)
    conv_pack_o(&d, &w[0, 0, 0, 0], &packed[0], level)


cdef class Calls:
    """Kernels made ready one after the other, then run in one go.

    Arrays are flat float32; they are held, and read and written at each run.
    """

    cdef Call *calls
    cdef long count, entries
    cdef int level
    cdef list held

    def __cinit__(self, int level):
        self.calls, self.count, self.entries, self.level, self.held = NULL, 0, 0, level, []

    def __dealloc__(self):
        free(self.calls)

    cdef int take(self, Call *call, float[::1] y, int then, held) except -1:
        cdef Call *calls = <Call *>realloc(self.calls, (self.count + 1) * sizeof(Call))
        if calls == NULL:
            raise MemoryError
        call.level, call.then, call.y, call.size = self.level, then, &y[0], y.shape[0]
        self.calls, self.calls[self.count] = calls, call[0]
        self.count += 1
        self.held.append((y, held))
        return 0

    def run(self, const float[::1] x):
        """Runs all calls, in order; the first reads x, the image as it was given, (C, P)."""
        cdef long i
        if x.shape[0] != self.entries:
            raise ValueError(f"x must have {self.entries} entries, got {x.shape[0]}")
        self.calls[0].x = &x[0]
        with nogil:
            for i in range(self.count):
                self.calls[i].kernel(&self.calls[i])
                if self.calls[i].then:
                    row_clamp(self.calls[i].y, self.calls[i].size, self.calls[i].then)

    def input(
        self,
        const float[::1] gain,    # IN (C,), or None, as bias
        const float[::1] bias,
        long C,
        float[::1] y,             # OUT (P C,)
        int then,
    ):
        """The image channels last, times gain plus bias: the first call."""
        cdef Call c
        self.entries = y.shape[0]
        c.kernel, c.C, c.P, c.w, c.b = input_call, C, y.shape[0] // C, or_null(gain), or_null(bias)
        self.take(&c, y, then, (gain, bias))

    def affine(
        self,
        const float[::1] x,      # IN (P C,)
        const float[::1] gain,   # IN (C,)
        const float[::1] bias,   # IN (C,)
        float[::1] y,            # OUT (P C,)
        int then,
    ):
        """y = x gain + bias."""
        cdef Call c
        c.kernel, c.x, c.w, c.b, c.C = affine_call, &x[0], &gain[0], &bias[0], gain.shape[0]
        c.P = x.shape[0] // c.C
        self.take(&c, y, then, (x, gain, bias))

    def conv(
        self,
        const float[::1] x,      # IN (H W C,)
        const float[::1] w,      # IN packed; of a depthwise one (KH KW C,)
        const float[::1] bias,   # IN (O,) or None
        sizes,
        float[::1] room,         # for a padded image
        float[::1] y,            # OUT (Ho Wo O,)
        int then,
        bint depthwise,
    ):
        """y = x * w + bias."""
        cdef Call c
        c.kernel = depthwise_call if depthwise else conv_call
        c.x, c.w, c.b, c.conv, c.room = &x[0], &w[0], or_null(bias), conv_of(sizes), &room[0]
        self.take(&c, y, then, (x, w, bias, room))

    def conv_pool(
        self,
        const float[::1] x,      # IN (H W C,)
        const float[::1] w,      # IN packed
        const float[::1] bias,   # IN (O,) or None
        sizes,
        pool_sizes,
        float[::1] room,         # for a padded image
        float[::1] map,          # room for what is pooled
        uint8_t[::1] index,      # room for positions, (Ho Wo O,)
        float[::1] y,            # OUT (Ho Wo O,)
        int then,
    ):
        """y = the largest entries of the windows of x * w + bias."""
        cdef Call c
        c.kernel, c.x, c.w, c.b = conv_pool_call, &x[0], &w[0], or_null(bias)
        c.conv, c.pool = conv_of(sizes), pool_of(pool_sizes)
        c.room, c.map, c.index = &room[0], &map[0], &index[0]
        self.take(&c, y, then, (x, w, bias, room, map, index))

    def max_pool(
        self,
        const float[::1] x,   # IN (H W C,)
        sizes,
        uint8_t[::1] index,   # room for positions, (Ho Wo C,)
        float[::1] y,         # OUT (Ho Wo C,)
        int then,
    ):
        """The largest entry of each window."""
        cdef Call c
        c.kernel, c.x, c.pool, c.index = max_pool_call, &x[0], pool_of(sizes), &index[0]
        self.take(&c, y, then, (x, index))

    def avg_pool(
        self,
        const float[::1] x,   # IN (H W C,)
        sizes,
        float[::1] y,         # OUT (Ho Wo C,)
        int then,
    ):
        """The mean of each window."""
        cdef Call c
        c.kernel, c.x, c.pool = avg_pool_call, &x[0], pool_of(sizes)
        self.take(&c, y, then, x)

    def row(
        self,
        const float[::1] x,      # IN (I,)
        const float[:, ::1] w,   # IN (O, I)
        const float[::1] bias,   # IN (O,) or None
        float[::1] y,            # OUT (O,)
        int then,
    ):
        """y = w x + bias."""
        cdef Call c
        c.kernel, c.x, c.w, c.b, c.C = row_call, &x[0], &w[0, 0], or_null(bias), w.shape[1]
        self.take(&c, y, then, (x, w, bias))

    def lanes(
        self,
        const float[::1] x,            # IN (I,), 16 at least
        entry,                         # IN (steps, 16) uint8 or uint16: place, or place | code << 4
        const float[:, ::1] value,     # IN (steps, 16), or None where entries hold codes
        const float[::1] table,        # IN (k padded to 16,)
        const int32_t[::1] base,       # IN (steps,)
        const int64_t[::1] start,      # IN (groups + 1,)
        const int32_t[::1] row,        # IN (groups 16,)
        float[::1] y,                  # OUT (O,)
        int then,
        int level,                     # of the ladder "sparse"
    ):
        """y = W x of W in lanes (kernels/sparse/lanes.py)."""
        cdef Call c
        cdef const uint8_t[:, ::1] byte
        cdef const uint16_t[:, ::1] word
        c.kernel, c.x, c.P, c.start, c.row = lanes_call, &x[0], start.shape[0] - 1, &start[0], NULL
        c.lanes.base, c.lanes.table, c.lanes.k = NULL, &table[0], table.shape[0]
        c.lanes.byte, c.lanes.word, c.lanes.value, c.kind = NULL, NULL, NULL, SPARSE_BYTE
        if row.shape[0]:
            c.row = &row[0]
        if base.shape[0]:
            c.lanes.base = &base[0]
            if entry.itemsize == 2:
                word, c.kind = entry, SPARSE_WORD
                c.lanes.word = &word[0, 0]
            else:
                byte = entry
                c.lanes.byte = &byte[0, 0]
            if value is not None:
                # the table is loaded, not used: any 16 floats
                c.kind, c.lanes.value, c.lanes.table, c.lanes.k = (
                    SPARSE_VALUE, &value[0, 0], &value[0, 0], 16)
        self.take(&c, y, then, (x, entry, value, table, base, start, row))
        self.calls[self.count - 1].level = level

    def planes(
        self,
        const float[::1] x,   # IN (P C,)
        long C,
        float[::1] y,         # OUT (C P,)
        int then,
    ):
        """The map as planes, one after the other."""
        cdef Call c
        c.kernel, c.x, c.C, c.P = planes_call, &x[0], C, x.shape[0] // C
        self.take(&c, y, then, x)

    def add(
        self,
        const float[::1] x,       # IN (n,)
        const float[::1] other,   # IN (n,)
        float[::1] y,             # OUT (n,), may be x
        int then,
    ):
        """y = x + other."""
        cdef Call c
        c.kernel, c.x, c.other = add_call, &x[0], &other[0]
        self.take(&c, y, then, (x, other))
