/* Convolution of codes, channels last, u8 x s8 -> int32 [-> u8]:
 *
 *   x (H, W, C)   w (O, KH, KW, C/G), packed by group   y (Ho, Wo, O)   framed (H + 2 ph, W + 2 pw)
 *
 * What is padded is the zero point of x. In a channels-last map the KW C codes that a window covers
 * in one row are one run of memory, and the runs of neighbouring windows start sw C apart:
 *
 *   1 x 1        the map as it lies is the matrix: one product for all images
 *   in place     a run is a number of steps of four k: the tile of gemm.h reads it where it lies,
 *                nothing is copied. With groups a run is the C/G codes of one pixel
 *   columns      other runs, those of a first layer's 1 or 3 channels among them, are copied side
 *                by side, some rows of output at a time, and filled up to steps of four: 5 x 5 x 1
 *                is 7 steps instead of 10. Also where a row of output is too short for a tile and
 *                the weights are too many to be read for each
 */
#ifndef MINICOMP_INT8_CONV_H
#define MINICOMP_INT8_CONV_H

#include "gemm.h"

/* COLUMNS bytes are copied side by side at a time; SLACK may be read and written behind what is
 * meant; weights of NEAR bytes are in the nearest caches when they are read again. */
enum { COLUMNS = 96 << 10, SLACK = 64, NEAR = 32 << 10, SHORT = 4 };

typedef struct {
    long H, W, C, O, KH, KW, sh, sw, ph, pw, Ho, Wo, groups;
    int zero_point;
} Conv;

static int conv_is_product(const Conv *d) {
    return d->KH * d->KW == 1 && d->sh == 1 && d->sw == 1 && d->ph + d->pw == 0 && d->groups == 1;
}

/* Codes of a run, and of a window of one group; steps of four k of it. */
static long conv_run(const Conv *d) { return d->groups == 1 ? d->KW * d->C : d->C / d->groups; }
static long conv_window(const Conv *d) { return d->KH * d->KW * (d->C / d->groups); }
static long conv_steps(const Conv *d) { return (conv_window(d) + 3) / 4; }

static int conv_in_place(const Conv *d) {
    const long bytes = 64 * conv_steps(d) * gemm_vectors(d->O / d->groups);
    return conv_run(d) % 4 == 0 && (d->Wo >= SHORT || d->Ho == 1 || bytes <= NEAR);
}

/* The map with the zero point around it, in `out` (Hp, Wp, C); x itself where it may be read so. */
static const uint8_t *conv_frame(const Conv *d, const uint8_t *x, uint8_t *out) {
    if (d->ph + d->pw == 0 && conv_in_place(d)) return x;
    const long row = d->W * d->C, side = d->pw * d->C, wide = row + 2 * side;
    uint8_t *to = out;
    memset(to, d->zero_point, wide * d->ph);
    to += wide * d->ph;
    for (long i = 0; i < d->H; i++, to += wide, x += row) {
        memset(to, d->zero_point, side);
        memcpy(to + side, x, row);
        memset(to + side + row, d->zero_point, side);
    }
    memset(to, d->zero_point, wide * d->ph);
    return out;
}

/* Rows of output whose windows are copied at a time. */
static long conv_lines(const Conv *d) {
    const long lines = COLUMNS / (4 * conv_steps(d) * d->Wo);
    return lines < 1 ? 1 : lines < d->Ho ? lines : d->Ho;
}

static long conv_frame_bytes(const Conv *d) {
    if (conv_is_product(d) || (d->ph + d->pw == 0 && conv_in_place(d))) return 0;
    return ((d->H + 2 * d->ph) * (d->W + 2 * d->pw) * d->C + 2 * SLACK - 1) / SLACK * SLACK;
}

/* What a thread needs beside: a framed map and windows side by side. */
static long conv_room(const Conv *d) {
    if (conv_is_product(d) || conv_in_place(d)) return conv_frame_bytes(d);
    return conv_frame_bytes(d) + conv_lines(d) * d->Wo * 4 * conv_steps(d) + SLACK;
}

/* The windows of n pixels, `step` apart from x on, as rows of `row` codes: from each of KH rows of
 * the map, `wide` apart, `runs` runs of `run` codes, C apart. What fills a row up is multiplied by
 * 0. Up to 15 codes behind each run are copied too, and written over by the next. */
ALWAYS_INLINE void conv_windows(const uint8_t *x, long n, long step, long KH, long wide, long runs,
                                long C, const long run, long row, uint8_t *out) {
    for (long j = 0; j < n; j++, x += step, out += row) {
        const uint8_t *line = x;
        uint8_t *to = out;
        for (long a = 0; a < KH; a++, line += wide)
            for (long b = 0; b < runs; b++, to += run) {
                const uint8_t *from = line + b * C;
                if (run <= 8) memcpy(to, from, 8);
                else for (long i = 0; i < run; i += 16) memcpy(to + i, from + i, 16);
            }
    }
}

/* The windows of rows i..end of output, of one group. x: its first channel in a framed map. */
static void conv_columns(const Conv *d, const uint8_t *x, long i, long end, uint8_t *out) {
    const long wide = (d->W + 2 * d->pw) * d->C, run = conv_run(d), row = 4 * conv_steps(d);
    const long runs = d->groups == 1 ? 1 : d->KW, step = d->sw * d->C, n = d->Wo, KH = d->KH;
    for (; i < end; i++, out += n * row) {
        const uint8_t *from = x + i * d->sh * wide;
        if (runs > 1) conv_windows(from, n, step, KH, wide, runs, d->C, run, row, out);
        else if (run == 5 && KH == 5) conv_windows(from, n, step, 5, wide, 1, 0, 5, 28, out);
        else if (run == 9 && KH == 3) conv_windows(from, n, step, 3, wide, 1, 0, 9, 28, out);
        else conv_windows(from, n, step, KH, wide, 1, 0, run, row, out);
    }
}

/* Where a convolution's weights are and its results go: int32 at sums, or by r codes at y. */
typedef struct {
    const int8_t *w;
    const int32_t *offset;
    int32_t *sums;
    uint8_t *y;
    const Requant *r;
} Target;

/* Rows i..end of the output of one group; x: its first channel in a framed map. */
static void conv_group(const Conv *d, Product *p, const uint8_t *x, long i, long end,
                       uint8_t *columns, int level) {
    const long wide = (d->W + 2 * d->pw) * d->C, panels = gemm_panels(p->O);
    const long here = conv_in_place(d), lines = here ? 1 : conv_lines(d);
    int32_t *sums = p->sums;
    uint8_t *y = p->y;
    for (; i < end; i += lines) {
        const long to = end - i < lines ? end : i + lines;
        p->a = here ? x + i * d->sh * wide : columns;
        if (!here) conv_columns(d, x, i, to, columns);
        p->M = (to - i) * d->Wo;
        if (sums) p->sums = sums + i * d->Wo * d->O;
        else p->y = y + i * d->Wo * d->O;
        gemm(p, 0, p->M, 0, panels, level);
    }
}

/* Rows i..end of the output of one image. room: conv_room bytes. */
static void conv_image(const Conv *d, const uint8_t *x, const Target *t, long i, long end,
                       uint8_t *room, int level) {
    const long O = d->O / d->groups, C = d->C / d->groups;
    const long bytes = 64 * conv_steps(d) * gemm_vectors(O), wide = (d->W + 2 * d->pw) * d->C;
    const uint8_t *framed = conv_frame(d, x, room);
    for (long g = 0; g < d->groups; g++) {
        Product p = {0};
        p.O = O, p.first = g * O, p.out = d->O, p.b = t->w + g * bytes;
        p.offset = t->offset, p.r = t->r;
        if (t->sums) p.sums = t->sums + g * O;
        else p.y = t->y + g * O;
        if (conv_in_place(d)) {
            p.am = d->sw * d->C, p.as = wide, p.at = d->C;
            p.S = d->KH, p.T = d->groups == 1 ? 1 : d->KW, p.K = conv_run(d);
        } else {
            p.S = p.T = 1, p.K = p.am = 4 * conv_steps(d);
        }
        conv_group(d, &p, framed + g * C, i, end, room + conv_frame_bytes(d), level);
    }
}

/* A 1 x 1 convolution of N images as the product that it is; a linear layer too. */
static Product conv_product(const uint8_t *x, long M, long K, long O, const Target *t) {
    Product p = {x, K, 0, 0, 1, 1, K, t->w, M, O, 0, t->offset, t->sums, t->y, O, t->r};
    return p;
}

#endif
