/* Decoding canonical Huffman codes: see minicomp/kernels/coding/huffman.py for the contract.
 *
 * The next bits of a stream index a table. Times the speed of zlib's Huffman-only inflate, on 4-bit
 * symbols of entropy 3.2 and on 8-bit symbols of entropy 7:
 *
 *   up to four symbols a look-up, one stream      3.5   1.4   12 bits hold three or four of them
 *   one symbol a look-up, four streams            4.3   5.2   a look-up waits some 8 cycles for the
 *                                                             one before it; the streams' overlap
 *   up to four symbols a look-up, four streams    9     4.5   both
 *
 * so long codes (on average more than LONG_CODE bits) take the second, the rest the third. All of
 * it is plain C: BMI2 shifts gained 0..3 %, so there is no rung above the portable one.
 *
 * Where a code begins depends on all codes before it in its stream; only streams can overlap.
 *
 *   w    the next bits of a stream, the lowest first; at least 57 of the 64 loaded are valid
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

/* STEPS * WINDOW <= 57, and STEPS * 4 bytes are written */
enum { WINDOW = 12, LONGEST = 15, STEPS = 4, ROOM = 16 };
#define LONG_CODE 6.6

typedef struct {
    uint16_t one[1 << LONGEST]; /* symbol | length << 12, by the next `longest` bits */
    uint32_t four[1 << WINDOW]; /* up to four symbols, by the next WINDOW bits */
    uint8_t step[1 << WINDOW];  /* their bits | (their number - 1) << 6 */
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

/* Index i gets the symbols that i certainly holds: until a code would pass the WINDOW. */
static void huffman_fill_four(huffman_tables *t) {
    for (uint32_t i = 0; i < 1 << WINDOW; i++) {
        uint32_t left = i, symbols = 0, used = 0, n = 0;
        while (n < 4 && used + (t->one[left] >> 12) <= WINDOW) {
            uint32_t entry = t->one[left];
            symbols |= (entry & 255) << 8 * n++;
            used += entry >> 12;
            left >>= entry >> 12;
        }
        t->four[i] = symbols;
        t->step[i] = (uint8_t)(used | (n - 1) << 6);
    }
}

ALWAYS_INLINE uint64_t huffman_load(const uint8_t *data, int64_t pos) {
    uint64_t w;
    memcpy(&w, data + (pos >> 3), 8);
    return w >> (pos & 7);
}

/* The same where fewer than 8 bytes may be left: bits past the end are 0. */
ALWAYS_INLINE uint64_t huffman_load_end(const uint8_t *data, int64_t size, int64_t pos) {
    uint64_t w = 0;
    int64_t byte = pos >> 3, n = size - byte;
    if (n > 0) memcpy(&w, data + byte, n < 8 ? (size_t)n : 8);
    return w >> (pos & 7);
}

#define STEP_FOUR(w, pos, out)                                                         \
    {                                                                                  \
        uint32_t i_ = (uint32_t)w & ((1 << WINDOW) - 1), m_ = t->step[i_];             \
        memcpy(out, &t->four[i_], 4); /* always four: how many count is known later */ \
        w >>= m_ & 63;                                                                 \
        pos += m_ & 63;                                                                \
        out += (m_ >> 6) + 1;                                                          \
    }
#define STEP_ONE(w, pos, out)                                    \
    {                                                            \
        uint32_t e_ = t->one[(uint32_t)w & ((1 << WINDOW) - 1)]; \
        out[r] = (uint8_t)e_;                                    \
        w >>= e_ >> 12;                                          \
        pos += e_ >> 12;                                         \
    }

/* Four streams of bytes side by side, while every one has 8 bytes to load and ROOM to write. */
#define SIDE_BY_SIDE(BODY, NEXT)                                                             \
    while (end[0] - o0 >= ROOM && end[1] - o1 >= ROOM && end[2] - o2 >= ROOM                 \
           && end[3] - o3 >= ROOM && p0 <= last && p1 <= last && p2 <= last && p3 <= last) { \
        uint64_t w0 = huffman_load(data, p0), w1 = huffman_load(data, p1);                   \
        uint64_t w2 = huffman_load(data, p2), w3 = huffman_load(data, p3);                   \
        for (int r = 0; r < STEPS; r++) {                                                    \
            BODY                                                                             \
        }                                                                                    \
        NEXT                                                                                 \
    }
static void huffman_four_streams(const huffman_tables *RESTRICT t, const uint8_t *RESTRICT data,
                                 int64_t size, int64_t *pos, uint8_t **out, uint8_t *const *end) {
    int64_t p0 = pos[0], p1 = pos[1], p2 = pos[2], p3 = pos[3], last = 8 * (size - 8);
    uint8_t *o0 = out[0], *o1 = out[1], *o2 = out[2], *o3 = out[3];
    if (t->mean_is_long) {
        SIDE_BY_SIDE(STEP_ONE(w0, p0, o0) STEP_ONE(w1, p1, o1) STEP_ONE(w2, p2, o2)
                         STEP_ONE(w3, p3, o3),
                     o0 += STEPS; o1 += STEPS; o2 += STEPS; o3 += STEPS;)
    } else {
        SIDE_BY_SIDE(STEP_FOUR(w0, p0, o0) STEP_FOUR(w1, p1, o1) STEP_FOUR(w2, p2, o2)
                         STEP_FOUR(w3, p3, o3),)
    }
    pos[0] = p0, pos[1] = p1, pos[2] = p2, pos[3] = p3;
    out[0] = o0, out[1] = o1, out[2] = o2, out[3] = o3;
}

static int64_t huffman_one_stream(const huffman_tables *t, const uint8_t *data, int64_t size,
                                  int64_t pos, uint8_t *out, uint8_t *end, int multi) {
    int64_t last = 8 * (size - 8);
    while (multi && end - out >= ROOM && pos <= last) {
        uint64_t w = huffman_load(data, pos);
        for (int r = 0; r < STEPS; r++) STEP_FOUR(w, pos, out)
    }
    uint32_t mask = (1u << (t->fits ? WINDOW : t->longest)) - 1;
    while (out < end) {
        uint32_t e = t->one[(uint32_t)huffman_load_end(data, size, pos) & mask];
        *out++ = (uint8_t)e;
        pos += e >> 12;
    }
    return pos;
}

static void huffman_decode8(const uint8_t *data, int64_t size, const int64_t *starts,
                            const int64_t *counts, int64_t streams, const uint8_t *lengths,
                            int64_t k, uint8_t *symbols, int64_t *ends) {
    huffman_tables tables, *t = &tables;
    huffman_fill_one(t, lengths, k);
    /* The larger table pays from some thousand symbols on. */
    int64_t n = 0;
    for (int64_t s = 0; s < streams; s++) n += counts[s];
    int multi = t->fits && n >= 1 << WINDOW;
    if (multi) huffman_fill_four(t);
    int64_t s = 0;
    uint8_t *out = symbols;
    for (; multi && s + 4 <= streams; s += 4) {
        uint8_t *at[4], *end[4];
        int64_t pos[4];
        for (int j = 0; j < 4; j++) {
            pos[j] = starts[s + j];
            at[j] = out;
            end[j] = out += counts[s + j];
        }
        huffman_four_streams(t, data, size, pos, at, end);
        for (int j = 0; j < 4; j++)
            ends[s + j] = huffman_one_stream(t, data, size, pos[j], at[j], end[j], 1);
    }
    for (; s < streams; s++, out += counts[s - 1])
        ends[s] = huffman_one_stream(t, data, size, starts[s], out, out + counts[s], multi);
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

#undef STEP_FOUR
#undef STEP_ONE
#undef SIDE_BY_SIDE
#endif
