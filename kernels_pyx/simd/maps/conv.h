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
 *                masks instead of remainders: twice the avx2 rung. The last 2 channels of 50, which
 *                would fill an eighth of a vector, are dot products along the window: 1.25 times
 */
#ifndef MINICOMP_CONV_H
#define MINICOMP_CONV_H

#include <string.h>
#include "gemm.h"

/* ahead: what a kernel asks for meanwhile, or 0. */
typedef struct { long H, W, C, O, KH, KW, sh, sw, ph, pw, Ho, Wo; Ahead *ahead; } Conv;

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

/* How many of the last output channels are computed as dot products along (kw, c) instead of in a
 * vector of their own, where they would leave 12 or more of 16 lanes empty. */
static long conv_rest(const Conv *d, int level) {
    const long rest = d->O % 16;
    return level >= ISA_AVX512 && d->O > 16 && rest <= 4 && d->KW * d->C >= 64 ? rest : 0;
}

/* w (O, C, KH, KW) as (KH, KW, C, O) with rows of whole vectors, zeros behind the O: lanes are o.
 * Without the rest of the channels, which follows as (rest, KH, KW C), rows of whole vectors. */
static void conv_pack_o(const Conv *d, const float *w, float *out, int level) {
    const long taps = d->KH * d->KW, run = d->KW * d->C, rest = conv_rest(d, level);
    const long O = d->O - rest, ld = conv_lanes(O);
    for (long t = 0; t < taps; t++)
        for (long c = 0; c < d->C; c++, out += ld) {
            for (long o = 0; o < O; o++) out[o] = w[(o * d->C + c) * taps + t];
            memset(out + O, 0, sizeof(float) * (ld - O));
        }
    for (long o = O; o < d->O; o++)
        for (long a = 0; a < d->KH; a++, out += conv_lanes(run)) {
            for (long k = 0; k < run; k++)
                out[k] = w[((o * d->C + k % d->C) * d->KH + a) * d->KW + k / d->C];
            memset(out + run, 0, sizeof(float) * (conv_lanes(run) - run));
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

/* P neighbouring pixels of T output channels as dot products: acc[p][t] += x[p][s][k] w[t][s][k],
 * lanes are k. w: (T, KH, lanes(run)). */
TARGET_AVX512 ALWAYS_INLINE void conv_dots(const Conv *d, const float *x, const float *w,
                                           const float *bias, float *y, const int P, const int T) {
    const long wide = (d->W + 2 * d->pw) * d->C, run = d->KW * d->C, ld = conv_lanes(run);
    const long step = d->sw * d->C;
    __m512 acc[4][4];
    UNROLL for (int p = 0; p < P; p++)
        UNROLL for (int t = 0; t < T; t++) acc[p][t] = _mm512_setzero_ps();
    for (long s = 0; s < d->KH; s++)
        for (long k = 0; k < run; k += 16) {
            const __mmask16 m = (__mmask16)(run - k >= 16 ? 0xffff : (1u << (run - k)) - 1);
            __m512 row[4];
            UNROLL for (int t = 0; t < T; t++)
                row[t] = _mm512_loadu_ps(w + (t * d->KH + s) * ld + k);
            UNROLL for (int p = 0; p < P; p++) {
                const __m512 v = _mm512_maskz_loadu_ps(m, x + s * wide + p * step + k);
                UNROLL for (int t = 0; t < T; t++)
                    acc[p][t] = _mm512_fmadd_ps(v, row[t], acc[p][t]);
            }
        }
    UNROLL for (int p = 0; p < P; p++)
        UNROLL for (int t = 0; t < T; t++)
            y[p * d->O + t] = _mm512_reduce_add_ps(acc[p][t]) + (bias ? bias[t] : 0.0f);
}

#define CONV_DOTS(T) \
    TARGET_AVX512 static void conv_dots_##T(const Conv *d, const float *x, const float *w, \
                                            const float *bias, float *y) { \
        long j = 0; \
        for (; j + 4 <= d->Wo; j += 4, x += 4 * d->sw * d->C, y += 4 * d->O) \
            conv_dots(d, x, w, bias, y, 4, T); \
        for (; j < d->Wo; j++, x += d->sw * d->C, y += d->O) conv_dots(d, x, w, bias, y, 1, T); \
    }
CONV_DOTS(1)
CONV_DOTS(2)
CONV_DOTS(3)
CONV_DOTS(4)
static void (*const conv_dots_of[4])(const Conv *, const float *, const float *, const float *,
                                     float *) = {conv_dots_1, conv_dots_2, conv_dots_3,
                                                 conv_dots_4};

/* y = x * w + bias. w: by conv_pack_o; bias: (O,) or 0; room: for a padded image. A row of y is one
 * product: its pixels are the tile's rows, s runs over kernel rows, k over (kw, c). */
static void conv_image(const Conv *d, const float *x, const float *w, const float *bias, float *y,
                       float *room, int level) {
    x = conv_pad(d, x, room);
    const long wide = (d->W + 2 * d->pw) * d->C, run = d->KW * d->C;
    const long rest = conv_rest(d, level), O = d->O - rest, ld = conv_lanes(O);
    for (long i = 0; i < d->Ho; i++, x += d->sh * wide, y += d->Wo * d->O) {
        const Tile t = {x, d->sw * d->C, wide, 1, w, run * ld, ld, y, d->O, bias,
                        d->KH, run, O, 0, d->ahead};
        conv_gemm(&t, d->Wo, level);
        if (rest) conv_dots_of[rest - 1](d, x, w + d->KH * run * ld, bias ? bias + O : 0, y + O);
    }
}

/* dx for g. w: by conv_pack_c; none: 0; room: for Wp C floats. A row of dx sums the rows h of g
 * that met it, from the last down, each with its row a = r - h sh of the kernel; lanes are (kw, c),
 * so neighbouring pixels of g add to overlapping runs of dx; where windows lie side by side and
 * cover the row, nothing is added to. */
static void conv_image_dx(const Conv *d, const float *g, const float *w, const float *none,
                          float *dx, float *room, int level) {
    const long wide = (d->W + 2 * d->pw) * d->C, run = d->KW * d->C, ld = conv_lanes(run);
    const int apart = d->pw == 0 && d->KW == d->sw && d->Wo * d->sw == d->W;
    for (long i = 0; i < d->H; i++, dx += d->W * d->C) {
        const long r = i + d->ph, over = r - d->KH + 1;
        const long hi = r / d->sh < d->Ho ? r / d->sh : d->Ho - 1;
        const long lo = over > 0 ? (over + d->sh - 1) / d->sh : 0;
        float *to = d->pw ? room : dx;
        if (!apart || hi < lo) memset(to, 0, sizeof(float) * wide);
        const Tile t = {g + hi * d->Wo * d->O, d->O, -d->Wo * d->O, 1,
                        w + (r - hi * d->sh) * d->O * ld, d->sh * d->O * ld, ld,
                        to, d->sw * d->C, 0, hi - lo + 1, d->O, run, !apart, d->ahead};
        if (hi >= lo) conv_gemm(&t, d->Wo, level);
        if (d->pw) memcpy(dx, room + d->pw * d->C, sizeof(float) * d->W * d->C);
    }
}

/* Adds the sum of n rows of O floats to db: four rows at a time, so that additions to one register
 * need not wait for each other. */
TARGET_AVX512 static void conv_rows_avx512(const float *g, long n, long O, float *db) {
    for (long o = 0; o < O; o += 16) {
        const __mmask16 m = (__mmask16)(O - o >= 16 ? 0xffff : (1u << (O - o)) - 1);
        __m512 acc[4];
        long p = 0;
        UNROLL for (int r = 0; r < 4; r++) acc[r] = _mm512_setzero_ps();
        for (; p + 4 <= n; p += 4)
            UNROLL for (int r = 0; r < 4; r++)
                acc[r] = _mm512_add_ps(acc[r], _mm512_maskz_loadu_ps(m, g + (p + r) * O + o));
        for (; p < n; p++)
            acc[0] = _mm512_add_ps(acc[0], _mm512_maskz_loadu_ps(m, g + p * O + o));
        const __m512 sum = _mm512_add_ps(_mm512_add_ps(acc[0], acc[1]),
                                         _mm512_add_ps(acc[2], acc[3]));
        _mm512_mask_storeu_ps(db + o, m, _mm512_add_ps(_mm512_maskz_loadu_ps(m, db + o), sum));
    }
}

static void conv_rows(const float *g, long n, long O, float *db, int level) {
    if (level >= ISA_AVX512) {
        conv_rows_avx512(g, n, O, db);
        return;
    }
    for (long p = 0; p < n; p++)
        for (long o = 0; o < O; o++) db[o] += g[p * O + o];
}

/* Adds one image's part of dw to `sum`, in the order that conv_unpack takes, and of the bias
 * gradient to db (or 0). room: for a padded image. Pixels are summed over: s runs over the rows of
 * g, k along them. */
static void conv_image_dw(const Conv *d, const float *x, const float *g, float *sum, float *db,
                          float *room, int level) {
    x = conv_pad(d, x, room);
    const long wide = (d->W + 2 * d->pw) * d->C, run = d->KW * d->C, line = d->Wo * d->O;
    for (long a = 0; a < d->KH; a++) {
        const float *from = x + a * wide;
        if (conv_lanes_are_o(d)) {
            const Tile t = {from, 1, d->sh * wide, d->sw * d->C, g, line, d->O,
                            sum + a * run * d->O, d->O, 0, d->Ho, d->Wo, d->O, 1, d->ahead};
            conv_gemm(&t, run, level);
        } else {
            const Tile t = {g, 1, line, d->O, from, d->sh * wide, d->sw * d->C,
                            sum + a * d->O * run, run, 0, d->Ho, d->Wo, run, 1, d->ahead};
            conv_gemm(&t, d->O, level);
        }
    }
    if (db) conv_rows(g, d->Ho * d->Wo, d->O, db, level);
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
