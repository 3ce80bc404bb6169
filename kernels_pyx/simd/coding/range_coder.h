/* The adaptive binary range coder of sparse tables of codes: contract and model are in
 * minicomp/kernels/coding/range_coder.py, whose integers these are.
 *
 * Every bit needs the interval and the states that the one before left behind, so there is one
 * rung: plain C takes some 30 ns a decision where Python takes 5 us.
 *
 *   R rows, C columns, m kept, n = R C
 */
#ifndef MINICOMP_RANGE_CODER_H
#define MINICOMP_RANGE_CODER_H
#include <stdint.h>
#include <string.h>
#include "../isa.h"

enum { RC_DENSITIES = 24, RC_NEIGHBOURS = 5, RC_MIDDLE = 14, RC_P_BITS = 22, RC_LIMIT = 1023 };

typedef struct {
    int32_t p, t;
} rc_state; /* p in 22 bits, bits seen */

typedef struct {
    int encoding;
    uint64_t low; /* of the encoder: below 2^33, bit 32 is a carry */
    uint32_t range, code;
    uint8_t *out;
    const uint8_t *data;
    int64_t size, used; /* bytes of data; bytes put out or asked for */
    int32_t rate[RC_LIMIT + 1];
    rc_state pattern[RC_DENSITIES * RC_NEIGHBOURS], highest[11], below[256];
} rc_coder;

static void rc_byte(rc_coder *c) {
    if (!c->encoding) {
        c->code = c->code << 8 | (c->used < c->size ? c->data[c->used] : 0);
        c->used++;
        return;
    }
    if (c->low >> 32) { /* the carry: 255s turn to 0, and one before them counts up */
        int64_t i = c->used - 1;
        while (c->out[i] == 255) c->out[i--] = 0;
        c->out[i]++;
    }
    c->out[c->used++] = (uint8_t)(c->low >> 24);
    c->low = c->low << 8 & 0xFFFFFFFFu;
}

/* Codes bit b, whose probability to be 1 is p of 2^16, or decodes and returns it. */
ALWAYS_INLINE int rc_code(rc_coder *c, uint32_t p, int b) {
    uint32_t bound = (uint32_t)((uint64_t)c->range * p >> 16);
    if (!c->encoding) b = c->code < bound;
    if (b) {
        c->range = bound;
    } else {
        c->range -= bound;
        if (c->encoding) c->low += bound;
        else c->code -= bound;
    }
    while (c->range < 1u << 24) {
        rc_byte(c);
        c->range <<= 8;
    }
    return b;
}

/* p moves towards b by 1 / (t + 3/2) of the way; t counts up to `limit`. */
ALWAYS_INLINE void rc_learn(const rc_coder *c, rc_state *s, int b, int limit) {
    int32_t target = b ? (1 << RC_P_BITS) - 1 : 0;
    s->p += (int32_t)((int64_t)(target - s->p) * c->rate[s->t] >> 16); /* rounds down */
    if (s->t < limit) s->t++;
}

ALWAYS_INLINE int rc_bit(rc_coder *c, rc_state *s, int b) {
    int32_t p = s->p >> 6;
    b = rc_code(c, (uint32_t)(p < 16 ? 16 : p > 65520 ? 65520 : p), b);
    rc_learn(c, s, b, RC_LIMIT);
    return b;
}

static void rc_start(rc_coder *c) {
    c->low = c->code = 0;
    c->range = 0xFFFFFFFFu;
    c->used = 0;
    for (int t = 0; t <= RC_LIMIT; t++) c->rate[t] = (1 << 17) / (2 * t + 3);
    if (!c->encoding)
        for (int i = 0; i < 4; i++) rc_byte(c);
}

/* Puts the number of the interval with most zeros at its end out; returns the bytes in all. */
static int64_t rc_finish(rc_coder *c) {
    uint64_t high = c->low + c->range - 1;
    int zeros = 32;
    while (high >> zeros << zeros < c->low) zeros--;
    c->low = high >> zeros << zeros;
    for (int i = 0; i < 4; i++) rc_byte(c);
    while (c->used && !c->out[c->used - 1]) c->used--;
    return c->used;
}

static void rc_begin(rc_coder *c, int64_t m, int64_t n) {
    rc_start(c);
    for (int q = 0; q < RC_DENSITIES; q++) {
        int octave = (q - RC_MIDDLE) >> 1, half = (q - RC_MIDDLE) & 1;
        int64_t p = (m << RC_P_BITS) / n * (half ? 7 : 5) / 4;
        p = octave >= 0 ? p << octave : p >> -octave;
        if (p < 1 << 9) p = 1 << 9;
        if (p > (1 << RC_P_BITS) - (1 << 18)) p = (1 << RC_P_BITS) - (1 << 18);
        for (int k = 0; k < RC_NEIGHBOURS; k++) {
            c->pattern[q * RC_NEIGHBOURS + k].p = (int32_t)p;
            c->pattern[q * RC_NEIGHBOURS + k].t = 4;
        }
    }
    for (int i = 0; i < 11; i++) c->highest[i].p = 1 << (RC_P_BITS - 1), c->highest[i].t = 0;
    for (int i = 0; i < 256; i++) c->below[i].p = 1 << (RC_P_BITS - 1), c->below[i].t = 0;
}

/* (before + weight d) / ((places + weight) d), d = m / n, in 16 fractional bits, at most 2^24.
 * before n < 2^46 and weight m < 2^31, so the sum shifted stays below 2^63. */
ALWAYS_INLINE int64_t rc_density(int64_t before, int64_t places, int64_t weight, int64_t m,
                                 int64_t n) {
    int64_t d = ((before * n + weight * m) << 16) / ((places + weight) * m);
    return d < 1 << 24 ? d : 1 << 24;
}

ALWAYS_INLINE int rc_half_octaves(int64_t product) {
    uint64_t v = (uint64_t)product | 1;
    int top = 0;
    for (int s = 32; s; s >>= 1) /* floor(log2 v) */
        if (v >> (top + s)) top += s;
    int q = 2 * (top - 16) + (top ? (int)(v >> (top - 1) & 1) : 0) + RC_MIDDLE;
    return q < 0 ? 0 : q >= RC_DENSITIES ? RC_DENSITIES - 1 : q;
}

/* The pattern: an entry that is kept becomes at least 1. column : room for C numbers, all 0. */
static void rc_pattern(rc_coder *coder, uint16_t *codes, int64_t R, int64_t C, int64_t m,
                       int64_t lag, int32_t *column) {
    int64_t n = R * C;
    for (int64_t r = 0; r < R; r++) {
        uint16_t *row = codes + r * C;
        int64_t in_row = 0;
        for (int64_t c = 0; c < C; c++) {
            int64_t product =
                rc_density(column[c], r, 8, m, n) * rc_density(in_row, c, 20, m, n) >> 16;
            int k = c >= 1 && row[c - 1];
            if (lag) {
                k += c >= lag && row[c - lag];
                k += c >= lag + 1 && row[c - lag - 1];
                k += c >= lag - 1 && row[c - lag + 1];
            }
            int b = rc_bit(coder, &coder->pattern[rc_half_octaves(product) * RC_NEIGHBOURS + k],
                           row[c] > 0);
            if (b && !row[c]) row[c] = 1; /* only a decoder writes */
            column[c] += b;
            in_row += b;
        }
    }
}

ALWAYS_INLINE int rc_side(int code, int top) { return !code ? 0 : (code - 1) & top ? 1 : -1; }

static void rc_codes(rc_coder *coder, uint16_t *codes, int64_t R, int64_t C, int bits,
                     int64_t lag) {
    int top = (1 << bits) >> 1, before = 0;
    for (int64_t r = 0; r < R; r++) {
        uint16_t *row = codes + r * C;
        for (int64_t c = 0; c < C; c++) {
            if (!row[c]) continue;
            int side = c >= 1 ? rc_side(row[c - 1], top) : 0;
            if (lag) {
                side += c >= lag ? rc_side(row[c - lag], top) : 0;
                side += c >= lag + 1 ? rc_side(row[c - lag - 1], top) : 0;
                side += c >= lag - 1 ? rc_side(row[c - lag + 1], top) : 0;
            }
            int context = side || !before ? side + 4 : 9 + (before == 1);
            int node = 1, code = row[c] - 1;
            for (int i = bits - 1; i >= 0; i--) {
                rc_state *s = node == 1 ? &coder->highest[context] : &coder->below[node];
                node = node << 1 | rc_bit(coder, s, code >> i & 1);
            }
            if (!coder->encoding) row[c] = (uint16_t)(node - (1 << bits) + 1);
            before = (row[c] - 1) & top ? 2 : 1;
        }
    }
}

static int64_t rc_encode(uint16_t *codes, int64_t R, int64_t C, int64_t m, int bits, int64_t lag,
                         uint8_t *out, int32_t *column) {
    rc_coder coder;
    coder.encoding = 1;
    coder.out = out;
    rc_begin(&coder, m, R * C);
    rc_pattern(&coder, codes, R, C, m, lag, column);
    if (bits) rc_codes(&coder, codes, R, C, bits, lag);
    return rc_finish(&coder);
}

static int64_t rc_decode(const uint8_t *data, int64_t size, uint16_t *codes, int64_t R, int64_t C,
                         int64_t m, int bits, int64_t lag, int32_t *column, int64_t *split) {
    rc_coder coder;
    coder.encoding = 0;
    coder.data = data;
    coder.size = size;
    rc_begin(&coder, m, R * C);
    rc_pattern(&coder, codes, R, C, m, lag, column);
    *split = coder.used - 4;
    if (bits) rc_codes(&coder, codes, R, C, bits, lag);
    return coder.used;
}

#endif
