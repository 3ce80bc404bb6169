/* Convolution of one image that lies channels-last, float32.
 *
 *   x (H, W, C)   w (O, C, KH, KW)   y, g (Ho, Wo, O)        padded: Hp = H + 2 ph, Wp = W + 2 pw
 *
 * In a channels-last image the KW C numbers that a window covers in one row are one run of memory,
 * and the runs of neighbouring windows start sw C apart. The ladder:
 *
 *   ref          im2col of all images at once, in NumPy, and BLAS
 *   portable     those runs are copied, a block of images that fits L2 at a time, and BLAS
 *                multiplies: 1.4 to 2.4 times the reference on the layers of LeNet-5
 *   avx2         the tile of gemm.h reads the runs in place, nothing is copied: the rung below's
 *                speed where BLAS is at its best, twice that on matrices as thin as a first layer's
 *   avx512       the same tile with 16 lanes and 32 registers; channel counts such as 20 and 50 are
 *                masks instead of remainders: twice the avx2 rung
 */
#ifndef MINICOMP_CONV_H
#define MINICOMP_CONV_H

#include <string.h>
#include "gemm.h"

typedef struct { long H, W, C, O, KH, KW, sh, sw, ph, pw, Ho, Wo; } Conv;

static long conv_lanes(long n) { return (n + 15) / 16 * 16; }

/* The image with zeros around it, in `out` (Hp, Wp, C); x itself where there is no padding. */
static const float *conv_pad(const Conv *d, const float *x, float *out) {
    if (d->ph == 0 && d->pw == 0) return x;
    const long row = d->W * d->C, wide = (d->W + 2 * d->pw) * d->C, side = d->pw * d->C;
    memset(out, 0, sizeof(float) * wide * d->ph);
    out += wide * d->ph;
    for (long i = 0; i < d->H; i++, out += wide, x += row) {
        memset(out, 0, sizeof(float) * side);
        memcpy(out + side, x, sizeof(float) * row);
        memset(out + side + row, 0, sizeof(float) * side);
    }
    memset(out, 0, sizeof(float) * wide * d->ph);
    return out - wide * (d->ph + d->H);
}

/* ------------------------------------------------------------------------------------ portable */

/* The windows of a padded image as rows of `columns`, (Ho Wo, KH KW C). */
static void conv_im2col(const Conv *d, const float *x, float *columns) {
    const long wide = (d->W + 2 * d->pw) * d->C, run = d->KW * d->C;
    for (long i = 0; i < d->Ho; i++)
        for (long j = 0; j < d->Wo; j++)
            for (long a = 0; a < d->KH; a++, columns += run)
                memcpy(columns, x + (i * d->sh + a) * wide + j * d->sw * d->C, sizeof(float) * run);
}

/* Adds each entry of `columns` to the place of the padded image from where im2col takes it. */
static void conv_col2im(const Conv *d, const float *columns, float *dx) {
    const long wide = (d->W + 2 * d->pw) * d->C, run = d->KW * d->C;
    for (long i = 0; i < d->Ho; i++)
        for (long j = 0; j < d->Wo; j++)
            for (long a = 0; a < d->KH; a++, columns += run) {
                float *to = dx + (i * d->sh + a) * wide + j * d->sw * d->C;
                for (long k = 0; k < run; k++) to[k] += columns[k];
            }
}

/* The inside of a padded image. */
static void conv_crop(const Conv *d, const float *padded, float *x) {
    const long row = d->W * d->C, wide = (d->W + 2 * d->pw) * d->C;
    for (long i = 0; i < d->H; i++)
        memcpy(x + i * row, padded + (i + d->ph) * wide + d->pw * d->C, sizeof(float) * row);
}

/* ----------------------------------------------------------------------------- weights in order */

/* w (O, C, KH, KW) as (KH, KW, C, O) with rows of `ld` floats, zeros behind the O: lanes are o. */
static void conv_pack_o(const Conv *d, const float *w, float *out, long ld) {
    const long taps = d->KH * d->KW;
    for (long t = 0; t < taps; t++)
        for (long c = 0; c < d->C; c++, out += ld) {
            for (long o = 0; o < d->O; o++) out[o] = w[(o * d->C + c) * taps + t];
            memset(out + d->O, 0, sizeof(float) * (ld - d->O));
        }
}

/* w (O, C, KH, KW) as (KH, O, KW, C) with rows of `ld` floats: lanes are (kw, c). */
static void conv_pack_c(const Conv *d, const float *w, float *out, long ld) {
    const long run = d->KW * d->C;
    for (long a = 0; a < d->KH; a++)
        for (long o = 0; o < d->O; o++, out += ld) {
            for (long b = 0; b < d->KW; b++)
                for (long c = 0; c < d->C; c++)
                    out[b * d->C + c] = w[((o * d->C + c) * d->KH + a) * d->KW + b];
            memset(out + run, 0, sizeof(float) * (ld - run));
        }
}

/* Whether the weight gradient is computed as (KH, KW, C, O) rather than as (KH, O, KW, C): what
 * leaves fewer lanes empty. */
static int conv_lanes_are_o(const Conv *d) {
    return conv_lanes(d->O) * d->KW * d->C < conv_lanes(d->KW * d->C) * d->O;
}

/* The weight gradient from the order in which it was summed to (O, C, KH, KW). */
static void conv_unpack(const Conv *d, const float *sum, float *dw) {
    const long by_o = conv_lanes_are_o(d);
    for (long o = 0; o < d->O; o++)
        for (long c = 0; c < d->C; c++)
            for (long a = 0; a < d->KH; a++)
                for (long b = 0; b < d->KW; b++)
                    *dw++ = by_o ? sum[((a * d->KW + b) * d->C + c) * d->O + o]
                                 : sum[((a * d->O + o) * d->KW + b) * d->C + c];
}

/* -------------------------------------------------------------------------------- avx2, avx512 */

#ifdef MINICOMP_X86

static void conv_gemm(const Tile *t, long rows, int level) {
    if (level >= ISA_AVX512) gemm_avx512(t, rows); else gemm_avx2(t, rows);
}

/* y = x * w + bias. w: by conv_pack_o; bias: (O,) or 0; room: for a padded image. A row of y is one
 * product: its pixels are the tile's rows, s runs over kernel rows, k over (kw, c). */
static void conv_image(const Conv *d, const float *x, const float *w, const float *bias, float *y,
                       float *room, int level) {
    x = conv_pad(d, x, room);
    const long wide = (d->W + 2 * d->pw) * d->C, run = d->KW * d->C, ld = conv_lanes(d->O);
    for (long i = 0; i < d->Ho; i++) {
        const Tile t = {x + i * d->sh * wide, d->sw * d->C, wide, 1,
                        w, run * ld, ld, y + i * d->Wo * d->O, d->O, bias, d->KH, run, d->O, 0};
        conv_gemm(&t, d->Wo, level);
    }
}

/* dx for g. w: by conv_pack_c; none: 0; room: for Wp C floats. A row of dx sums the rows h of g
 * that met it, from the last down, each with its row a = r - h sh of the kernel; lanes are (kw, c),
 * so neighbouring pixels of g add to overlapping runs of dx. */
static void conv_image_dx(const Conv *d, const float *g, const float *w, const float *none,
                          float *dx, float *room, int level) {
    const long wide = (d->W + 2 * d->pw) * d->C, run = d->KW * d->C, ld = conv_lanes(run);
    for (long i = 0; i < d->H; i++, dx += d->W * d->C) {
        const long r = i + d->ph, over = r - d->KH + 1;
        const long hi = r / d->sh < d->Ho ? r / d->sh : d->Ho - 1;
        const long lo = over > 0 ? (over + d->sh - 1) / d->sh : 0;
        float *to = d->pw ? room : dx;
        memset(to, 0, sizeof(float) * wide);
        const Tile t = {g + hi * d->Wo * d->O, d->O, -d->Wo * d->O, 1,
                        w + (r - hi * d->sh) * d->O * ld, d->sh * d->O * ld, ld,
                        to, d->sw * d->C, 0, hi - lo + 1, d->O, run, 1};
        if (hi >= lo) conv_gemm(&t, d->Wo, level);
        if (d->pw) memcpy(dx, room + d->pw * d->C, sizeof(float) * d->W * d->C);
    }
}

/* Adds one image's part of dw to `sum`, in the order that conv_unpack takes, and of the bias
 * gradient to db (or 0). room: for a padded image. Pixels are summed over: s runs over the rows of
 * g, k along them. The bias gradient is the product of a row of ones with g. */
static void conv_image_dw(const Conv *d, const float *x, const float *g, float *sum, float *db,
                          float *room, int level) {
    static const float one = 1.0f;
    x = conv_pad(d, x, room);
    const long wide = (d->W + 2 * d->pw) * d->C, run = d->KW * d->C, line = d->Wo * d->O;
    for (long a = 0; a < d->KH; a++) {
        const float *from = x + a * wide;
        if (conv_lanes_are_o(d)) {
            const Tile t = {from, 1, d->sh * wide, d->sw * d->C, g, line, d->O,
                            sum + a * run * d->O, d->O, 0, d->Ho, d->Wo, d->O, 1};
            conv_gemm(&t, run, level);
        } else {
            const Tile t = {g, 1, line, d->O, from, d->sh * wide, d->sw * d->C,
                            sum + a * d->O * run, run, 0, d->Ho, d->Wo, run, 1};
            conv_gemm(&t, d->O, level);
        }
    }
    const Tile t = {&one, 0, 0, 0, g, line, d->O, db, d->O, 0, d->Ho, d->Wo, d->O, 1};
    if (db) conv_gemm(&t, 1, level);
}

#else /* never called: levels above portable do not exist here */

static void conv_image(const Conv *d, const float *x, const float *w, const float *bias, float *y,
                       float *room, int level) {}
static void conv_image_dx(const Conv *d, const float *g, const float *w, const float *none,
                          float *dx, float *room, int level) {}
static void conv_image_dw(const Conv *d, const float *x, const float *g, float *sum, float *db,
                          float *room, int level) {}

#endif
#endif
