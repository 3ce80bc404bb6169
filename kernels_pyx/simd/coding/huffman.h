/* Decoding canonical Huffman codes: see minicomp/kernels/coding/huffman.py for the contract.
 *
 * The next bits of a stream index a table: of up to six symbols a look-up, or of one. A look-up
 * waits some 8 cycles for the one before it in its stream; four streams overlap. 12 bits hold three
 * or four symbols of entropy 3.2, hardly two of 5.7, and one of 7 or more: codes longer on average
 * than LONG_CODE bits take one symbol a look-up, at 1.7 instead of 1.5 GB/s. All of it is plain C:
 * BMI2 shifts gained nothing, so there is no rung above the portable one.
 *
 * Where a code begins depends on all codes before it in its stream; only streams can overlap.
 *
 *   w    the next bits of a stream, the lowest first
 *   pos  their place: bit pos mod 8 of byte pos / 8
 */
#ifndef MINICOMP_HUFFMAN_H
#define MINICOMP_HUFFMAN_H
#include <stdint.h>
#include <string.h>
#include "../isa.h"

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "bit order is written for little-endian processors"
#endif

/* STEPS * WINDOW <= 56; a step writes 8 bytes and keeps up to PACKED */
enum { WINDOW = 12, LONGEST = 15, STEPS = 4, PACKED = 6 };
#define LONG_CODE 6.9

typedef struct {
    uint16_t one[1 << LONGEST]; /* symbol | length << 12, by the next `longest` bits */
    uint64_t many[1 << WINDOW]; /* bits | up to six symbols << 8 | their number << 56, by the next
                                   WINDOW bits */
    int longest, fits, mean_is_long;
} huffman_tables;

/* Entry `code` bits reversed, and every index whose low bits are it, gets the symbol. */
static void huffman_fill_one(huffman_tables *t, const uint8_t *lengths, int64_t k) {
    uint32_t count[LONGEST + 1] = {0}, next[LONGEST + 1], code = 0;
    double mean = 0;
    t->longest = 1;
    for (int64_t s = 0; s < k; s++) {
        if (!lengths[s]) continue;
        count[lengths[s]]++;
        mean += (double)lengths[s] / (1 << lengths[s]); /* the source for which the code is ideal */
        if (lengths[s] > t->longest) t->longest = lengths[s];
    }
    t->fits = t->longest <= WINDOW;
    t->mean_is_long = mean > LONG_CODE;
    for (int l = 1; l <= LONGEST; l++) {
        code = (code + (l > 1 ? count[l - 1] : 0)) << 1;
        next[l] = code;
    }
    int bits = t->fits ? WINDOW : t->longest;
    for (int64_t s = 0; s < k; s++) {
        int l = lengths[s];
        if (!l) continue;
        uint32_t c = next[l]++, reversed = 0;
        for (int b = 0; b < l; b++) reversed |= (c >> b & 1) << (l - 1 - b);
        for (uint32_t i = reversed; i < 1u << bits; i += 1u << l)
            t->one[i] = (uint16_t)(s | l << 12);
    }
}

/* Index i gets the symbols that it certainly holds: until a code would pass the WINDOW. */
static void huffman_fill_many(huffman_tables *t) {
    for (uint32_t i = 0; i < 1 << WINDOW; i++) {
        uint32_t left = i, used = 0, n = 0;
        uint64_t symbols = 0;
        while (n < PACKED && used + (t->one[left] >> 12) <= WINDOW) {
            uint32_t entry = t->one[left];
            symbols |= (uint64_t)(entry & 255) << 8 * n++;
            used += entry >> 12;
            left >>= entry >> 12;
        }
        t->many[i] = used | symbols << 8 | (uint64_t)n << 56;
    }
}

/* The next bits where fewer than 8 bytes may be left: those past the end are 0. */
ALWAYS_INLINE uint64_t huffman_load_end(const uint8_t *data, int64_t size, int64_t pos) {
    uint64_t w = 0;
    int64_t byte = pos >> 3, n = size - byte;
    if (n > 0) memcpy(&w, data + byte, n < 8 ? (size_t)n : 8);
    return w >> (pos & 7);
}

/* A stream in flight: `have` of the bits of w are known, and byte `p` follows them. What lies above
 * is right as well, so that filling up, to 56 bits or more, may set it again: the load need not
 * wait for the steps before. */
typedef struct {
    uint64_t w, have;
    const uint8_t *p;
    uint8_t *out, *end;
} huffman_stream;

#define FILL_UP(s)                      \
    {                                   \
        uint64_t x_;                    \
        memcpy(&x_, s.p, 8);            \
        s.w |= x_ << s.have;            \
        s.p += (63 - s.have) >> 3;      \
        s.have |= 56;                   \
    }
/* `taken` sums entries up: its low byte the bits, which stay below 256. */
#define STEP_MANY(s, taken)                                                  \
    {                                                                        \
        uint64_t e_ = t->many[s.w & ((1 << WINDOW) - 1)], symbols_ = e_ >> 8; \
        s.w >>= e_ & 63;                                                     \
        taken += e_;                                                         \
        memcpy(s.out, &symbols_, 8); /* always: how many count is known later */ \
        s.out += e_ >> 56;                                                   \
    }
#define STEP_ONE(s, taken)                               \
    {                                                    \
        uint32_t e_ = t->one[s.w & ((1 << WINDOW) - 1)]; \
        *s.out++ = (uint8_t)e_;                          \
        s.w >>= e_ >> 12;                                \
        taken += e_ >> 12;                               \
    }

/* Rounds of STEPS for which every stream has 8 bytes to load and room to write. */
ALWAYS_INLINE int64_t huffman_rounds(const huffman_stream *s, const uint8_t *last) {
    int64_t bytes = last - s->p, room = s->end - s->out - 8;
    if (bytes < 0 || room < 0) return 0;
    bytes = bytes / (STEPS * WINDOW / 8 + 1) + 1, room = room / (STEPS * PACKED);
    return bytes < room ? bytes : room;
}

#define ROUNDS(STEP)                                                                   \
    for (int64_t r; (r = huffman_least(huffman_rounds(&a, last), huffman_rounds(&b, last),     \
                               huffman_rounds(&c, last), huffman_rounds(&d, last)));)  \
        while (r--) {                                                                  \
            uint64_t na = 0, nb = 0, nc = 0, nd = 0;                                   \
            FILL_UP(a) FILL_UP(b) FILL_UP(c) FILL_UP(d)                                \
            STEP(a, na) STEP(b, nb) STEP(c, nc) STEP(d, nd)                            \
            STEP(a, na) STEP(b, nb) STEP(c, nc) STEP(d, nd)                            \
            STEP(a, na) STEP(b, nb) STEP(c, nc) STEP(d, nd)                            \
            STEP(a, na) STEP(b, nb) STEP(c, nc) STEP(d, nd)                            \
            a.have -= (uint8_t)na, b.have -= (uint8_t)nb, c.have -= (uint8_t)nc,       \
                d.have -= (uint8_t)nd;                                                 \
        }

ALWAYS_INLINE int64_t huffman_least(int64_t a, int64_t b, int64_t c, int64_t d) {
    a = a < b ? a : b, c = c < d ? c : d;
    return a < c ? a : c;
}

/* Four streams of bytes side by side, nearly to the end of the first that ends. */
static void huffman_four_streams(const huffman_tables *RESTRICT t, const uint8_t *data,
                                 int64_t size, huffman_stream *s) {
    if (size < 8) return;
    const uint8_t *last = data + size - 8;
    huffman_stream a = s[0], b = s[1], c = s[2], d = s[3];
    if (t->mean_is_long) {
        ROUNDS(STEP_ONE)
    } else {
        ROUNDS(STEP_MANY)
    }
    s[0] = a, s[1] = b, s[2] = c, s[3] = d;
}

static int64_t huffman_one_stream(const huffman_tables *t, const uint8_t *data, int64_t size,
                                  huffman_stream s, int many) {
    const uint8_t *last = size >= 8 ? data + size - 8 : NULL;
    for (int64_t r; many && last && (r = huffman_rounds(&s, last));)
        while (r--) {
            uint64_t n = 0;
            FILL_UP(s)
            STEP_MANY(s, n) STEP_MANY(s, n) STEP_MANY(s, n) STEP_MANY(s, n)
            s.have -= (uint8_t)n;
        }
    int64_t pos = 8 * (s.p - data) - (int64_t)s.have;
    uint32_t mask = (1u << (t->fits ? WINDOW : t->longest)) - 1;
    while (s.out < s.end) {
        uint32_t e = t->one[(uint32_t)huffman_load_end(data, size, pos) & mask];
        *s.out++ = (uint8_t)e;
        pos += e >> 12;
    }
    return pos;
}

/* A stream that begins at bit `start`, for `count` symbols. */
static huffman_stream huffman_begin(const uint8_t *data, int64_t start, uint8_t *out,
                                    int64_t count) {
    huffman_stream s = {0, 0, data + (start >> 3), out, out + count};
    if (start & 7) s.have = 8 - (start & 7), s.w = *s.p++ >> (start & 7);
    return s;
}

static void huffman_decode8(const uint8_t *data, int64_t size, const int64_t *starts,
                            const int64_t *counts, int64_t streams, const uint8_t *lengths,
                            int64_t k, uint8_t *symbols, int64_t *ends) {
    huffman_tables tables, *t = &tables;
    huffman_fill_one(t, lengths, k);
    /* The larger table pays from some thousand symbols on. */
    int64_t n = 0;
    for (int64_t s = 0; s < streams; s++) n += counts[s];
    int many = t->fits && n >= 1 << WINDOW;
    if (many) huffman_fill_many(t);
    int64_t s = 0;
    for (; many && s + 4 <= streams; s += 4) {
        huffman_stream four[4];
        for (int j = 0; j < 4; symbols += counts[s + j], j++)
            four[j] = huffman_begin(data, starts[s + j], symbols, counts[s + j]);
        huffman_four_streams(t, data, size, four);
        for (int j = 0; j < 4; j++) ends[s + j] = huffman_one_stream(t, data, size, four[j], 1);
    }
    for (; s < streams; symbols += counts[s], s++)
        ends[s] = huffman_one_stream(t, data, size,
                                     huffman_begin(data, starts[s], symbols, counts[s]), many);
}

/* Alphabets above 256, from codebooks of so many centroids, are rare: one symbol a look-up. */
static void huffman_decode16(const uint8_t *data, int64_t size, const int64_t *starts,
                             const int64_t *counts, int64_t streams, const uint8_t *lengths,
                             int64_t k, uint16_t *symbols, int64_t *ends) {
    huffman_tables tables, *t = &tables;
    huffman_fill_one(t, lengths, k);
    uint32_t mask = (1u << (t->fits ? WINDOW : t->longest)) - 1;
    for (int64_t s = 0; s < streams; s++) {
        int64_t pos = starts[s];
        for (int64_t i = 0; i < counts[s]; i++) {
            uint32_t e = t->one[(uint32_t)huffman_load_end(data, size, pos) & mask];
            *symbols++ = e & 4095;
            pos += e >> 12;
        }
        ends[s] = pos;
    }
}

#undef FILL_UP
#undef STEP_MANY
#undef STEP_ONE
#undef ROUNDS
#endif
