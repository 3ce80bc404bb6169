/* The adaptive binary range coder of sparse tables of codes: contract and model are in
 * minicomp/kernels/coding/range_coder.py, whose integers these are.
 *
 * Every bit needs the interval and the states that the one before left behind, so there is one
 * rung: plain C takes some 8 ns a decision where Python takes 5 us.
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
    int32_t p; /* in 22 bits */
    uint16_t t, rate; /* bits seen, and how fast p moves then: at hand, for p waits for it */
} rc_state;

typedef struct {
    int encoding;
    uint64_t low; /* of the encoder: below 2^33, bit 32 is a carry */
    uint32_t range, code;
    uint8_t *out;
    const uint8_t *data;
    int64_t size, used; /* bytes of data; bytes put out or asked for */
} rc_interval;

typedef struct {
    rc_interval at;
    uint16_t rate[RC_LIMIT + 1];
    rc_state pattern[RC_DENSITIES * RC_NEIGHBOURS], highest[11], below[256];
} rc_coder;

ALWAYS_INLINE void rc_byte(rc_interval *c) {
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
ALWAYS_INLINE int rc_code(rc_interval *c, uint32_t p, int b) {
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
    s->p += (int32_t)((int64_t)(target - s->p) * s->rate >> 16); /* rounds down */
    if (s->t < limit) s->rate = c->rate[++s->t];
}

/* `at` is the coder's interval, in a variable of the loop's own so that it stays in registers. */
ALWAYS_INLINE int rc_bit(const rc_coder *c, rc_interval *at, rc_state *s, int b) {
    int32_t p = s->p >> 6;
    b = rc_code(at, (uint32_t)(p < 16 ? 16 : p > 65520 ? 65520 : p), b);
    rc_learn(c, s, b, RC_LIMIT);
    return b;
}

static void rc_start(rc_coder *c) {
    c->at.low = c->at.code = 0;
    c->at.range = 0xFFFFFFFFu;
    c->at.used = 0;
    for (int t = 0; t <= RC_LIMIT; t++) c->rate[t] = (uint16_t)((1 << 17) / (2 * t + 3));
    if (!c->at.encoding)
        for (int i = 0; i < 4; i++) rc_byte(&c->at);
}

/* Puts the number of the interval with most zeros at its end out; returns the bytes in all. */
static int64_t rc_finish(rc_interval *c) {
    uint64_t high = c->low + c->range - 1;
    int zeros = 32;
    while (high >> zeros << zeros < c->low) zeros--;
    c->low = high >> zeros << zeros;
    for (int i = 0; i < 4; i++) rc_byte(c);
    while (c->used && !c->out[c->used - 1]) c->used--;
    return c->used;
}

static void rc_fill(const rc_coder *c, rc_state *s, int64_t n, int64_t p, int t) {
    for (int64_t i = 0; i < n; i++)
        s[i].p = (int32_t)p, s[i].t = (uint16_t)t, s[i].rate = c->rate[t];
}

static void rc_begin(rc_coder *c, int64_t m, int64_t n) {
    rc_start(c);
    for (int q = 0; q < RC_DENSITIES; q++) {
        int octave = (q - RC_MIDDLE) >> 1, half = (q - RC_MIDDLE) & 1;
        int64_t p = (m << RC_P_BITS) / n * (half ? 7 : 5) / 4;
        p = octave >= 0 ? p << octave : p >> -octave;
        if (p < 1 << 9) p = 1 << 9;
        if (p > (1 << RC_P_BITS) - (1 << 18)) p = (1 << RC_P_BITS) - (1 << 18);
        rc_fill(c, c->pattern + q * RC_NEIGHBOURS, RC_NEIGHBOURS, p, 4);
    }
    rc_fill(c, c->highest, 11, 1 << (RC_P_BITS - 1), 0);
    rc_fill(c, c->below, 256, 1 << (RC_P_BITS - 1), 0);
}

/* (before + weight d) / ((places + weight) d), d = m / n, in 16 fractional bits rounded down, at
 * most 2^24. before n < 2^46 and weight m < 2^31, so the sum shifted stays below 2^63; a quotient
 * of integers below 2^53 is never rounded up to the next integer. */
ALWAYS_INLINE double rc_density(int64_t before, int64_t places, int64_t weight, int64_t m,
                                int64_t n) {
    int64_t above = (before * n + weight * m) << 16, below = (places + weight) * m;
    double d = above < (int64_t)1 << 53 ? (double)above / (double)below : (double)(above / below);
    return d < 1 << 24 ? (double)(int32_t)d : 1 << 24;
}

/* The class of a product of two densities: half octaves, from the exponent and the highest bit of
 * its mantissa. It is exact, below 2^49; what is below 2^25 is class 0. */
ALWAYS_INLINE int rc_half_octaves(double product) {
    uint64_t bits;
    memcpy(&bits, &product, 8);
    int q = (int)(bits >> 51) - 2 * (1023 + 32) + RC_MIDDLE;
    return q < 0 ? 0 : q >= RC_DENSITIES ? RC_DENSITIES - 1 : q;
}

/* Densities of columns by what they kept: most share one of few numbers, and a division takes as
 * long as all else. */
enum { RC_CACHED = 256 };
typedef struct {
    double density[RC_CACHED];
    int64_t row[RC_CACHED]; /* known for this row */
} rc_columns;

ALWAYS_INLINE double rc_column(rc_columns *known, int64_t kept, int64_t r, int64_t m, int64_t n) {
    if (kept >= RC_CACHED) return rc_density(kept, r, 8, m, n);
    if (known->row[kept] != r) {
        known->row[kept] = r;
        known->density[kept] = rc_density(kept, r, 8, m, n);
    }
    return known->density[kept];
}

/* Densities to the left of the next columns, all at once, as long as no more is kept. */
enum { RC_AHEAD = 8 };
ALWAYS_INLINE void rc_rows(double *density, int64_t kept, int64_t c, int64_t m, int64_t n) {
    if (kept * n + 20 * m >= (int64_t)1 << 37) {
        for (int i = 0; i < RC_AHEAD; i++) density[i] = rc_density(kept, c + i, 20, m, n);
        return;
    }
    double above = (double)((kept * n + 20 * m) << 16), below = (double)((c + 20) * m);
    for (int i = 0; i < RC_AHEAD; i++) {
        double d = above / (below + i * (double)m);
        density[i] = d < 1 << 24 ? (double)(int32_t)d : 1 << 24;
    }
}

/* The pattern: an entry that is kept becomes at least 1. column : room for C numbers, all 0. */
ALWAYS_INLINE void rc_pattern(rc_coder *coder, const int encoding, uint16_t *codes, int64_t R,
                              int64_t C, int64_t m, int64_t lag, int32_t *column) {
    rc_interval at = coder->at;
    at.encoding = encoding;
    rc_columns known;
    double density[RC_AHEAD];
    memset(known.row, -1, sizeof known.row);
    int64_t n = R * C;
    for (int64_t r = 0; r < R; r++) {
        uint16_t *row = codes + r * C;
        int64_t in_row = 0, ready = 0; /* up to where densities hold: none was kept since */
        for (int64_t c = 0; c < C; c++) {
            if (c >= ready) {
                ready = c + RC_AHEAD;
                rc_rows(density, in_row, c, m, n);
            }
            double product = rc_column(&known, column[c], r, m, n) * density[c + RC_AHEAD - ready];
            int k = c >= 1 && row[c - 1];
            if (lag) {
                k += c >= lag && row[c - lag];
                k += c >= lag + 1 && row[c - lag - 1];
                k += c >= lag - 1 && row[c - lag + 1];
            }
            rc_state *s = &coder->pattern[rc_half_octaves(product) * RC_NEIGHBOURS + k];
            if (!rc_bit(coder, &at, s, row[c] > 0)) continue;
            if (!row[c]) row[c] = 1; /* only a decoder writes */
            column[c]++;
            in_row++;
            ready = 0;
        }
    }
    coder->at = at;
}

ALWAYS_INLINE int rc_side(int code, int top) { return !code ? 0 : (code - 1) & top ? 1 : -1; }

ALWAYS_INLINE void rc_codes(rc_coder *coder, const int encoding, uint16_t *codes, int64_t R,
                            int64_t C, int bits, int64_t lag) {
    rc_interval at = coder->at;
    at.encoding = encoding;
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
                node = node << 1 | rc_bit(coder, &at, s, code >> i & 1);
            }
            if (!encoding) row[c] = (uint16_t)(node - (1 << bits) + 1);
            before = (row[c] - 1) & top ? 2 : 1;
        }
    }
    coder->at = at;
}

static int64_t rc_encode(uint16_t *codes, int64_t R, int64_t C, int64_t m, int bits, int64_t lag,
                         uint8_t *out, int32_t *column) {
    rc_coder coder;
    coder.at.encoding = 1;
    coder.at.out = out;
    rc_begin(&coder, m, R * C);
    rc_pattern(&coder, 1, codes, R, C, m, lag, column);
    if (bits) rc_codes(&coder, 1, codes, R, C, bits, lag);
    return rc_finish(&coder.at);
}

static int64_t rc_decode(const uint8_t *data, int64_t size, uint16_t *codes, int64_t R, int64_t C,
                         int64_t m, int bits, int64_t lag, int32_t *column, int64_t *split) {
    rc_coder coder;
    coder.at.encoding = 0;
    coder.at.data = data;
    coder.at.size = size;
    rc_begin(&coder, m, R * C);
    rc_pattern(&coder, 0, codes, R, C, m, lag, column);
    *split = coder.at.used - 4;
    if (bits) rc_codes(&coder, 0, codes, R, C, bits, lag);
    return coder.at.used;
}

#endif
