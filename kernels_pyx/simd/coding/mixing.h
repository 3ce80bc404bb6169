/* The mixing coder of tables of codes: contract and model are in minicomp/kernels/coding/mixing.py,
 * whose integers these are, names included.
 *
 * Every bit needs the interval, states and weights that the one before left behind, so there is one
 * rung. What depends on a column alone is turned into logits once a row; neighbours are not looked
 * for at every entry but hear of a kept one when it comes, which is seldom.
 */
#ifndef MINICOMP_MIXING_H
#define MINICOMP_MIXING_H
#include <stdlib.h>
#include "range_coder.h"

enum {
    MX_ONE = 1 << 12,             /* of a logit */
    MX_KEPT = 12, MX_SIGN = 11, MX_SIZE = 5, /* inputs of the three mixers */
    MX_INPUTS = MX_KEPT + MX_SIGN + MX_SIZE,
    MX_GROUPS = 11, MX_LEVELS = 7, MX_SLOW = 255, MX_SIZES = 256,
    MX_NEAR = 24 + 1, MX_FAR = 48 + 1
};

typedef struct {
    int8_t x, y;
    int16_t weight;
} mx_offset;

typedef struct {
    rc_coder coder;
    int64_t R, C, m, n, sides[2], width, block, height, kept_left;
    int64_t cost[2]; /* of pattern and codes, in 2^-12 bits */
    const int32_t *units;
    int32_t *column, *sign, *size;   /* kept, their signs, their sizes: by column, rows above */
    int32_t *around;                 /* kept of the columns around, weighed */
    int32_t *near, *far;             /* kept before it in its row and picture, weighed */
    int32_t *in_block, *sign_block;  /* kept and signs by block, rows above */
    int32_t *by_column[3], *by_block; /* logits: of column, around, units; of in_block */
    int32_t *group;                  /* of units */
    int32_t w[MX_INPUTS];
    int32_t d16, ld, bits, no_near, no_far;
    mx_offset before_near[MX_NEAR], before_far[MX_FAR], beside[MX_FAR], by[MX_NEAR];
    int before_nears, before_fars, besides, bys;
    int64_t near_sum, far_sum, beside_sum;
    rc_state places[16 * 16], grouped[MX_GROUPS], sides_seen[9 * 5], row_sides[5 * 3],
        group_sides[MX_GROUPS];
    rc_state all[2][MX_SIZES], rows[MX_SIZES][MX_LEVELS],
        spots[MX_SIZES][MX_LEVELS * MX_LEVELS], befores[MX_SIZES][8], groups[MX_SIZES][MX_GROUPS];
} mx_model;

/* log2 v in 12 fractional bits, straight between powers of 2; 1 <= v < 2^53. The bits of a double
 * are its exponent and then its mantissa: this very number. */
ALWAYS_INLINE int32_t mx_log(int64_t v) {
    double x = (double)v;
    uint64_t bits;
    memcpy(&bits, &x, 8);
    return (int32_t)((int64_t)(bits >> 40) - (1023 << 12));
}

/* log2(a / (n - a)), 0 < a < n */
ALWAYS_INLINE int32_t mx_logit(int64_t a, int64_t n) { return mx_log(a) - mx_log(n - a); }

ALWAYS_INLINE int32_t mx_clip(int32_t v, int32_t lo, int32_t hi) {
    return v < lo ? lo : v > hi ? hi : v;
}

/* 2^16 / (1 + 2^-x), the inverse of a logit */
ALWAYS_INLINE uint32_t mx_probability(int64_t x) {
    uint32_t y = (uint32_t)(x < 0 ? -x : x);
    if (x > 12 * MX_ONE - 1 || x < 1 - 12 * MX_ONE) y = 12 * MX_ONE - 1;
    uint32_t small = (1u << 28) / (MX_ONE + ((MX_ONE + (y & (MX_ONE - 1))) << (y >> 12)));
    small = small < 16 ? 16 : small;
    return x < 0 ? small : 65536 - small;
}

/* Codes one bit by n inputs f and their weights w, after a logit `base`; `rate` is the shift of
 * learning. */
ALWAYS_INLINE int mx_bit(mx_model *x, int32_t *w, const int32_t *f, int n, int32_t base, int rate,
                         int which, int b) {
    int64_t dot = 0, other = 0;
    for (int i = 0; i + 1 < n; i += 2) {
        dot += (int64_t)w[i] * f[i];
        other += (int64_t)w[i + 1] * f[i + 1];
    }
    dot += n & 1 ? other + (int64_t)w[n - 1] * f[n - 1] : other;
    uint32_t p = mx_probability(base + (dot >> 24));
    b = rc_code(&x->coder.at, p, b);
    x->cost[which] += (16 << 12) - mx_log(b ? p : 65536 - p);
    int64_t error = ((int64_t)b << 16) - p;
    for (int i = 0; i < n; i++) {
        int64_t v = w[i] + (error * f[i] >> rate);
        w[i] = (int32_t)(v < -(1 << 27) ? -(1 << 27) : v > 1 << 27 ? 1 << 27 : v);
    }
    return b;
}

ALWAYS_INLINE int32_t mx_of(const rc_state *s) {
    int32_t p = s->p < 64 ? 64 : s->p > (1 << 22) - 64 ? (1 << 22) - 64 : s->p;
    return mx_logit(p, 1 << 22);
}

static int mx_offsets(mx_offset *list, int radius, int past, const uint8_t *by_square,
                      int64_t *sum) {
    int found = 0;
    *sum = 0;
    for (int y = past ? 0 : -radius; y <= radius; y++)
        for (int x = -radius; x <= radius; x++) {
            int weight = by_square[x * x + y * y];
            if (!weight || (past && y == 0 && x <= 0)) continue;
            list[found].x = (int8_t)x, list[found].y = (int8_t)y;
            list[found++].weight = (int16_t)weight;
            *sum += weight;
        }
    return found;
}

/* Calls for every neighbour of column c that is in the same picture: `at` is its column. */
#define MX_NEIGHBOURS(model, list, number, c, at, weight, does)                                    \
    do {                                                                                           \
        int64_t nx = (c) % (model)->width, ny = (c) % (model)->block / (model)->width;             \
        for (int ni = 0; ni < (number); ni++) {                                                    \
            int64_t mx_x = nx + (list)[ni].x, mx_y = ny + (list)[ni].y;                            \
            int64_t at = (c) + (list)[ni].x + (list)[ni].y * (model)->width;                       \
            int32_t weight = (list)[ni].weight;                                                    \
            if (mx_x < 0 || mx_x >= (model)->width || mx_y < 0 || mx_y >= (model)->height ||       \
                at < 0 || at >= (model)->C)                                                        \
                continue;                                                                          \
            does;                                                                                  \
        }                                                                                          \
    } while (0)

/* e^-q, e^-(q / 8), 1 / (1 + q) and e^-(q / 2) of the squared distance q, times 64 */
static const uint8_t MX_SHARP[33] = {0, 24, 9, 0, 1};
static const uint8_t MX_WIDE[33] = {0, 56, 50, 0, 39, 34, 0, 0, 24, 21, 18, 0, 0, 13, 0, 0, 9,
                                    8, 7, 0, 5, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 1};
static const uint8_t MX_FLAT[33] = {64, 32, 21, 0, 13, 11, 0, 0, 7, 6, 6, 0, 0, 5, 0, 0, 0, 0, 3};
static const uint8_t MX_BELL[33] = {64, 39, 24, 0, 9, 5, 0, 0, 1};

/* How many of the codes 0..size - 1 lie below the right child of a node of the tree, of those
 * below the node. */
ALWAYS_INLINE void mx_leaves(int node, int bits, int64_t size, int64_t *right, int64_t *both) {
    int depth = 0;
    while (node >> (depth + 1)) depth++;
    int64_t span = (int64_t)1 << (bits - depth), first = node * span - ((int64_t)1 << bits);
    int64_t middle = first + span / 2, last = first + span < size ? first + span : size;
    *both = last > first ? last - first : 0;
    *right = last > middle ? last - middle : 0;
}

static void mx_begin(mx_model *x) {
    rc_start(&x->coder);
    x->n = x->R * x->C;
    x->kept_left = x->m;
    x->cost[0] = x->cost[1] = 0;
    int64_t d = (x->m << 16) / x->n;
    x->d16 = (int32_t)(d < 1 ? 1 : d > 65535 ? 65535 : d);
    x->ld = mx_logit(x->d16, 1 << 16);
    int64_t ignored;
    x->before_nears = mx_offsets(x->before_near, 2, 1, MX_SHARP, &x->near_sum);
    x->before_fars = mx_offsets(x->before_far, 4, 1, MX_WIDE, &x->far_sum);
    x->besides = mx_offsets(x->beside, 3, 0, MX_FLAT, &x->beside_sum);
    x->bys = mx_offsets(x->by, 2, 0, MX_BELL, &ignored);
    int64_t sum = 0;
    for (int64_t c = 0; c < x->C; c++) sum += x->units ? x->units[c] : 0;
    for (int64_t c = 0; c < x->C; c++) {
        int64_t u = x->units ? x->units[c] : 0;
        if (x->units)
            x->by_column[2][c] = mx_log(5 * u + 1) - mx_log(5 * sum + x->C) + mx_log(x->C);
        x->group[c] = (!x->units ? 0 : !u ? 1 :
                      2 + mx_clip(((mx_log(u) + mx_log(x->C) - mx_log(sum)) >> 12) + 4,
                              x->R > 1 ? 0 : 3, x->R > 1 ? 8 : 4));
    }
    for (int i = 0; i < 16 * 16; i++) /* as if the two opinions were right, and independent */
        rc_fill(&x->coder, x->places + i, 1,
                (int64_t)mx_probability(x->ld + (i / 16 + i % 16 - 16) * (MX_ONE / 2)) << 6, 4);
    rc_fill(&x->coder, x->grouped, MX_GROUPS, (int64_t)x->d16 << 6, 1);
    rc_fill(&x->coder, x->sides_seen, 9 * 5, 1 << 21, 0);
    rc_fill(&x->coder, x->row_sides, 5 * 3, 1 << 21, 0);
    rc_fill(&x->coder, x->group_sides, MX_GROUPS, 1 << 21, 0);
    int64_t most = x->sides[0] > x->sides[1] ? x->sides[0] : x->sides[1];
    for (x->bits = 0; (int64_t)1 << x->bits < most;) x->bits++;
    for (int node = 1; node < 1 << x->bits; node++) {
        int64_t right, both;
        for (int side = 0; side < 2; side++) {
            mx_leaves(node, x->bits, x->sides[side], &right, &both);
            rc_fill(&x->coder, &x->all[side][node], 1, both ? (right << 22) / both : 0, 2);
        }
        mx_leaves(node, x->bits, most, &right, &both);
        int64_t p = both ? (right << 22) / both : 0;
        rc_fill(&x->coder, x->rows[node], MX_LEVELS, p, 2);
        rc_fill(&x->coder, x->spots[node], MX_LEVELS * MX_LEVELS, p, 2);
        rc_fill(&x->coder, x->befores[node], 8, p, 2);
        rc_fill(&x->coder, x->groups[node], MX_GROUPS, p, 2);
    }
}

/* What the columns say, once a row. */
static void mx_columns(mx_model *x, int64_t r) {
    int32_t *kept = x->by_column[0], *around = x->by_column[1];
    int64_t beside = (x->beside_sum * r << 10) + (8 << 16);
    for (int64_t first = 0; first < x->C; first += x->block) {
        int64_t b = first / x->block, last = first + x->block < x->C ? first + x->block : x->C;
        int64_t p = (((int64_t)x->in_block[b] << 16) + 8 * (int64_t)x->d16) / (r * x->block + 8);
        p = p < 1 ? 1 : p > 65535 ? 65535 : p;
        x->by_block[b] = mx_logit(p, 1 << 16) - x->ld;
        for (int64_t c = first; c < last; c++) {
            kept[c] = mx_logit(((int64_t)x->column[c] << 16) + 8 * p, (r + 8) << 16) - x->ld;
            if (x->width)
                around[c] = mx_logit(((int64_t)x->around[c] << 10) + 8 * p, beside) - x->ld;
        }
    }
}

ALWAYS_INLINE int32_t mx_half(int32_t f) { return mx_clip(((2 * f + 2048) >> 12) + 8, 0, 15); }

/* s / n in 12 fractional bits, towards zero */
ALWAYS_INLINE int32_t mx_ratio(int64_t s, int64_t n) { return (int32_t)(s * MX_ONE / n); }

typedef struct {
    int64_t kept, signs, sizes, kept_block, sign_block;
    int64_t block, at; /* which block this is, and where in it */
    int before_side, before_size;
    int32_t kept_log; /* log2 of what f2 counts, which seldom changes */
} mx_row;

/* near or far where nothing was heard */
ALWAYS_INLINE int32_t mx_nothing(int64_t sum, int64_t d, int64_t prior) {
    return mx_logit(prior * d, (sum << 10) + (prior << 16));
}

ALWAYS_INLINE int32_t mx_near(const mx_model *x, int64_t c) {
    return mx_logit(((int64_t)x->near[c] << 10) + x->d16, (x->near_sum << 10) + (1 << 16)) - x->ld;
}

ALWAYS_INLINE int32_t mx_far(const mx_model *x, int64_t c) {
    return mx_logit(((int64_t)x->far[c] << 10) + 2 * x->d16, (x->far_sum << 10) + (2 << 16)) -
           x->ld;
}

ALWAYS_INLINE int mx_kept(mx_model *x, const mx_row *row, int64_t c, int64_t left, int b) {
    int32_t f[MX_KEPT];
    int64_t d = x->d16, kept = (row->kept << 16) + 40 * d;
    f[0] = MX_ONE;
    f[1] = x->by_column[0][c];
    f[2] = row->kept_log - mx_log(((c + 40) << 16) - kept) - x->ld;
    f[3] = x->by_block[row->block];
    f[4] = mx_logit(4 * x->kept_left + 1, 4 * left + 2) - x->ld;
    f[5] = x->by_column[2][c];
    f[6] = f[7] = f[8] = f[9] = 0;
    if (x->width) {
        f[6] = mx_logit((row->kept_block << 16) + 12 * d, (row->at + 12) << 16) - x->ld;
        f[7] = x->near[c] ? mx_near(x, c) : x->no_near;
        f[8] = x->far[c] ? mx_far(x, c) : x->no_far; /* none in most rows of a pruned layer */
        f[9] = x->by_column[1][c];
    }
    rc_state *place = &x->places[mx_half(f[1]) * 16 + mx_half(f[2])];
    rc_state *group = &x->grouped[x->group[c]];
    f[10] = mx_of(place) - x->ld;
    f[11] = x->units ? mx_of(group) - x->ld : 0;
    b = mx_bit(x, x->w, f, MX_KEPT, x->ld, 13, 0, b);
    rc_learn(&x->coder, place, b, MX_SLOW);
    rc_learn(&x->coder, group, b, MX_SLOW);
    return b;
}

typedef struct {
    int64_t sign, size, weight; /* of kept neighbours in the row */
    int64_t col_sign, col_size, col_weight; /* of the columns around */
} mx_spot;

/* Neighbours of a kept entry; in a table without pictures the columns beside it. */
static void mx_look(mx_model *x, const uint16_t *row, int64_t c, mx_spot *s) {
    memset(s, 0, sizeof *s);
    int64_t low = x->sides[0];
    if (!x->width) {
        for (int64_t at = c ? c - 1 : 0; at <= c + 1 && at < x->C; at++)
            s->col_sign += 64 * (int64_t)x->sign[at], s->col_size += 64 * (int64_t)x->size[at],
                s->col_weight += 64 * (int64_t)x->column[at];
        return;
    }
    MX_NEIGHBOURS(x, x->by, x->bys, c, at, weight, {
        s->col_sign += weight * (int64_t)x->sign[at];
        s->col_size += weight * (int64_t)x->size[at];
        s->col_weight += weight * (int64_t)x->column[at];
        if (at < c && row[at]) {
            int64_t code = row[at];
            s->sign += code > low ? weight : -weight;
            s->size += weight * (code > low ? code - low : low + 1 - code);
            s->weight += weight;
        }
    });
}

ALWAYS_INLINE int mx_sign(mx_model *x, const mx_row *row, const mx_spot *s, const int64_t *seen,
                          int64_t c, int b) {
    int64_t block = row->block;
    int32_t f[MX_SIGN] = {
        mx_ratio(2 * (int64_t)x->sign[c], 2 * (int64_t)x->column[c] + 3),
        mx_ratio(row->signs, row->kept + 2),
        mx_ratio(s->sign, s->weight + 45),
        x->width ? mx_ratio(2 * row->sign_block, 2 * row->kept_block + 3) : 0,
        mx_ratio(x->sign_block[block], x->in_block[block] + 2),
        mx_ratio(s->col_sign, s->col_weight + 96),
        row->before_side * MX_ONE,
        mx_log(seen[1] + 1) - mx_log(seen[0] + 1)};
    int32_t near = mx_clip((int32_t)((2 * s->sign + 32) >> 6), -4, 4) + 4;
    int32_t column = mx_clip(x->sign[c], -2, 2) + 2;
    int32_t in_row = mx_clip((int32_t)((row->signs + 1) >> 1), -2, 2) + 2;
    rc_state *states[3] = {&x->sides_seen[near * 5 + column],
                           &x->row_sides[in_row * 3 + row->before_side + 1],
                           &x->group_sides[x->group[c]]};
    for (int i = 0; i < 3; i++) f[8 + i] = i < 2 || x->units ? mx_of(states[i]) : 0;
    b = mx_bit(x, x->w + MX_KEPT, f, MX_SIGN, 0, 12, 1, b);
    for (int i = 0; i < 3; i++) rc_learn(&x->coder, states[i], b, MX_SLOW);
    return b;
}

/* How large the sizes of `weight` entries are that sum to `sum`, against the mean of all: 0..6 */
ALWAYS_INLINE int mx_level(int64_t sum, int64_t weight, int64_t prior, int64_t mean) {
    int64_t log = mx_log((sum << 8) + prior * mean) - mx_log((weight + prior) * mean);
    return mx_clip((int32_t)((5 * log + 4096) >> 13) + 3, 0, MX_LEVELS - 1);
}

ALWAYS_INLINE int mx_size(mx_model *x, const mx_row *row, const mx_spot *s, int64_t mean, int64_t c,
                          int side, int value) {
    int in_row = mx_level(row->sizes, row->kept, 2, mean);
    int spot = mx_level(s->size, s->weight, 64, mean) * MX_LEVELS +
               mx_level(s->col_size, s->col_weight, 128, mean);
    int before = row->before_size < 7 ? row->before_size : 7, node = 1;
    for (int i = x->bits - 1; i >= 0; i--) {
        int64_t right, both;
        mx_leaves(node, x->bits, x->sides[side], &right, &both);
        if (!right) {
            node <<= 1;
            continue;
        }
        rc_state *states[MX_SIZE] = {&x->all[side][node], &x->rows[node][in_row],
                                     &x->spots[node][spot], &x->befores[node][before],
                                     &x->groups[node][x->group[c]]};
        int32_t f[MX_SIZE] = {mx_of(states[0])};
        for (int j = 1; j < MX_SIZE; j++) {
            int sure = states[j]->t < 8 ? 2 * states[j]->t + 1 : 16;
            f[j] = j < 4 || x->units ? ((mx_of(states[j]) - f[0]) * sure) >> 4 : 0;
        }
        int b = mx_bit(x, x->w + MX_KEPT + MX_SIGN, f, MX_SIZE, 0, 11, 1, value >> i & 1);
        for (int j = 0; j < MX_SIZE; j++) rc_learn(&x->coder, states[j], b, MX_SLOW);
        node = node << 1 | b;
    }
    return node - (1 << x->bits);
}

static void mx_heard(mx_model *x, int64_t c) {
    MX_NEIGHBOURS(x, x->before_near, x->before_nears, c, at, weight, x->near[at] += weight);
    MX_NEIGHBOURS(x, x->before_far, x->before_fars, c, at, weight, x->far[at] += weight);
}

/* A row is over: its kept entries become part of what their columns know. */
static void mx_ended(mx_model *x, const uint16_t *row) {
    int64_t low = x->sides[0];
    for (int64_t c = 0; c < x->C; c++) {
        int64_t code = row[c], b = c / x->block;
        if (!code) continue;
        int side = code > low ? 1 : -1;
        x->column[c]++;
        x->in_block[b]++;
        x->sign[c] += side;
        x->sign_block[b] += side;
        x->size[c] += (int32_t)(code > low ? code - low : low + 1 - code);
        if (x->width)
            MX_NEIGHBOURS(x, x->beside, x->besides, c, at, weight, x->around[at] += weight);
    }
}

ALWAYS_INLINE void mx_walk(mx_model *x, uint16_t *codes) {
    int64_t left = x->n, low = x->sides[0], seen[2] = {0, 0}, all = 1, number = 1;
    for (int64_t r = 0; r < x->R && x->kept_left; r++) {
        uint16_t *at = codes + r * x->C;
        mx_row row = {0};
        mx_columns(x, r);
        if (x->width) {
            memset(x->near, 0, (size_t)x->C * sizeof *x->near);
            memset(x->far, 0, (size_t)x->C * sizeof *x->far);
        }
        row.block = -1;
        row.at = x->block - 1;
        row.kept_log = mx_log(40 * (int64_t)x->d16);
        if (x->width) x->no_near = mx_nothing(x->near_sum, x->d16, 1) - x->ld;
        if (x->width) x->no_far = mx_nothing(x->far_sum, x->d16, 2) - x->ld;
        for (int64_t c = 0; c < x->C && x->kept_left; c++, left--) {
            if (++row.at == x->block) {
                row.at = row.kept_block = row.sign_block = 0;
                row.block++;
            }
            int kept = left == x->kept_left ? 1 : mx_kept(x, &row, c, left, at[c] > 0);
            if (!kept) continue;
            x->kept_left--;
            mx_spot spot;
            mx_look(x, at, c, &spot);
            int side = !low ? 1 : !x->sides[1] ? 0
                     : mx_sign(x, &row, &spot, seen, c, at[c] > low);
            int64_t code = at[c], size = side ? code - low - 1 : low - code;
            size = mx_size(x, &row, &spot, (all << 8) / number, c, side, (int)size);
            if (!x->coder.at.encoding) at[c] = (uint16_t)(side ? low + 1 + size : low - size);
            seen[side]++;
            all += size + 1;
            number++;
            row.kept++;
            row.kept_log = mx_log((row.kept << 16) + 40 * (int64_t)x->d16);
            row.kept_block++;
            row.signs += side ? 1 : -1;
            row.sign_block += side ? 1 : -1;
            row.sizes += size + 1;
            row.before_side = side ? 1 : -1;
            row.before_size = (int)size + 1;
            if (x->width) mx_heard(x, c);
        }
        mx_ended(x, at);
    }
}

/* Room for what is known of columns, 12 numbers each; NULL where there is none. */
static int32_t *mx_room(mx_model *x) {
    int32_t *room = calloc((size_t)x->C * 12, sizeof *room), *next = room;
    int32_t **arrays[] = {&x->column, &x->sign, &x->size, &x->around, &x->near, &x->far,
                          &x->in_block, &x->sign_block, &x->by_column[0], &x->by_column[1],
                          &x->by_column[2], &x->by_block};
    for (int i = 0; room && i < 12; i++, next += x->C) *arrays[i] = next;
    return room;
}

/* Returns the bytes put out or asked for, -1 where memory is short. Decoding: codes are all 0. */
static int64_t mx_run(int encoding, uint16_t *codes, int64_t R, int64_t C, int64_t m,
                      int64_t low, int64_t high, int64_t width, int64_t block,
                      const int32_t *weights, const int32_t *units, const uint8_t *data,
                      int64_t size, uint8_t *out, int64_t *cost) {
    mx_model *x = calloc(1, sizeof *x);
    if (!x) return -1;
    x->R = R, x->C = C, x->m = m, x->sides[0] = low, x->sides[1] = high;
    x->width = width, x->block = block, x->height = width ? (block + width - 1) / width : 1;
    x->units = units;
    memcpy(x->w, weights, sizeof x->w);
    x->coder.at.encoding = encoding, x->coder.at.out = out;
    x->coder.at.data = data, x->coder.at.size = size;
    int32_t *room = mx_room(x);
    x->group = calloc((size_t)C, sizeof *x->group);
    int64_t used = -1;
    if (room && x->group) {
        mx_begin(x);
        mx_walk(x, codes);
        used = encoding ? rc_finish(&x->coder.at) : x->coder.at.used;
        cost[0] = x->cost[0], cost[1] = x->cost[1];
    }
    free(x->group);
    free(room);
    free(x);
    return used;
}

#endif
