/* Depthwise convolution of one image by 3 x 3 filters of stride 1 or 2, float32: the rung above
 * those of depthwise.h, whose layouts it has.
 *
 * The nine filter vectors stay in registers, and an entry of x is loaded once a kernel row, or once
 * for two rows of y, for all pixels whose windows meet it. Nothing is padded: a load outside the
 * map is one of no lanes.
 */
#ifndef MINICOMP_DEPTHWISE3_H
#define MINICOMP_DEPTHWISE3_H

#include "conv.h"

#ifdef MINICOMP_X86

ALWAYS_INLINE int depthwise_mask(long left) { return left >= 16 ? 0xffff : (1 << left) - 1; }

/* Whether the kernels below know it. */
static int depthwise_is_3x3(const Conv *d) {
    return d->KH == 3 && d->KW == 3 && d->sh == d->sw && d->sw <= 2 && d->ph <= 2 && d->pw <= 2;
}

/* Large maps are taken in the order of memory, runs of a few pixels with all their channels, for
 * which filters are loaded again and again; small ones, 16 channels of the whole map at once, whose
 * filters stay. Either way each access jumps from pixel to pixel, which no processor foresees: of
 * large maps the next row is asked for, of small ones what the caller says (ahead.h). */
ALWAYS_INLINE int depthwise_is_large(const Conv *d) { return d->H * d->W * d->C > 65536; }

/* Asks for n floats. Behind the last row of an image lies the next one, or nothing that is asked
 * for in vain. */
ALWAYS_INLINE void depthwise_ahead(const float *p, long n) {
    for (long k = 0; k < n; k += 16) AHEAD_LINE(p + k);
}

/* v[k] = pixel j + k of a row of W pixels, channels of the mask m; 0 outside the row, which at its
 * ENDs the first two and the last two can be. */
TARGET_AVX512 ALWAYS_INLINE void depthwise_pixels(const float *row, long j, long W, long C,
                                                  __mmask16 m, __m512 *v, const int N,
                                                  const int END) {
    UNROLL for (int k = 0; k < N; k++)
        v[k] = _mm512_maskz_loadu_ps(
            !END || (k > 1 && k < N - 2) || (unsigned long)(j + k) < (unsigned long)W ? m : 0,
            row + (j + k) * C);
}

/* How many pixels a run takes of those left: the power of two up to `most`. */
ALWAYS_INLINE int depthwise_run_length(long left, int most) {
    int n = most;
    while (n > left) n /= 2;
    return n;
}

/* The same body for a run of 8, 4, 2, 1, at a row's ends or inside. */
#define DEPTHWISE_RUNS(n, end, call) \
    switch (n) { \
        case 8: if (end) { call(8, 1); } else { call(8, 0); } break; \
        case 4: if (end) { call(4, 1); } else { call(4, 0); } break; \
        case 2: if (end) { call(2, 1); } else { call(2, 0); } break; \
        default: if (end) { call(1, 1); } else { call(1, 0); } \
    }

/* Pixels j .. j + R - 1 of N rows of y: row top + t of x meets tap row t - n S of row n. w: 9
 * vectors; rows: how many of the N there are. */
TARGET_AVX512 ALWAYS_INLINE void depthwise3_run(const Conv *d, const float *x, long top, long j,
                                                const __m512 *w, __m512 from, __mmask16 m,
                                                float *y, long rows, const int N, const int R,
                                                const int S, const int END) {
    const long C = d->C;
    __m512 acc[8], v[10];
    UNROLL for (int r = 0; r < N * R; r++) acc[r] = from;
    UNROLL for (int t = 0; t < 3 + (N - 1) * S; t++) {
        if (top + t < 0 || top + t >= d->H) continue;
        depthwise_pixels(x + (top + t) * d->W * C, j, d->W, C, m, v, (R - 1) * S + 3, END);
        UNROLL for (int n = 0; n < N; n++) {
            const int a = t - n * S;
            if (a < 0 || a > 2) continue;
            UNROLL for (int b = 0; b < 3; b++)
                UNROLL for (int r = 0; r < R; r++)
                    acc[n * R + r] = _mm512_fmadd_ps(v[r * S + b], w[a * 3 + b], acc[n * R + r]);
        }
    }
    UNROLL for (int n = 0; n < N; n++, y += d->Wo * C)
        if (n < rows)
            UNROLL for (int r = 0; r < R; r++)
                _mm512_mask_storeu_ps(y + r * C, m, acc[n * R + r]);
}

/* The rows of the window of output row i that lie on the map: lo..hi-1 of 0..2. */
ALWAYS_INLINE void depthwise_rows(long top, long H, long *lo, long *hi) {
    *lo = top < 0 ? -top : 0;
    *hi = H - top < 3 ? H - top : 3;
}

TARGET_AVX512 ALWAYS_INLINE void depthwise3_taps(const float *w, long C, __mmask16 m, int turned,
                                                 __m512 *tap) {
    UNROLL for (int t = 0; t < 9; t++)
        tap[t] = _mm512_maskz_loadu_ps(m, w + (turned ? 8 - t : t) * C);
}

/* y = x * w + bias, N rows at a time, runs of up to MOST pixels; with `turned` the filters are read
 * from their last tap. */
TARGET_AVX512 ALWAYS_INLINE void depthwise3_any(const Conv *d, const float *x, const float *w,
                                                const float *bias, float *y, int turned,
                                                const int LARGE, const int S, const int N,
                                                const int MOST) {
    const long C = d->C, row = d->W * C, yrow = d->Wo * C;
    __m512 tap[9], from = _mm512_setzero_ps();
#define RUN(R, END) depthwise3_run(d, x + c, i * S - d->ph, at, tap, from, m, \
                                   y + i * yrow + j * C + c, d->Ho - i, N, R > MOST ? MOST : R, \
                                   S, END)
#define DEPTHWISE3_RUN \
    const long at = j * S - d->pw; \
    DEPTHWISE_RUNS(n, at < 0 || at + (n - 1) * S + 3 > d->W, RUN)
    if (LARGE) {
        for (long i = 0; i < d->Ho; i += N)
            for (long j = 0, n; j < d->Wo; j += n) {
                n = depthwise_run_length(d->Wo - j, MOST);
                const float *nx = x + (i * S - d->ph + 3 + (N - 1) * S) * row + j * S * C;
                const float *ny = y + (i + N) * yrow + j * C;
                for (long c = 0; c < C; c += 16, nx += n * S * 16, ny += n * 16) {
                    const __mmask16 m = (__mmask16)depthwise_mask(C - c);
                    for (int k = 0; k < N * S; k++) depthwise_ahead(nx + k * row, n * S * 16);
                    for (int k = 0; k < N; k++) depthwise_ahead(ny + k * yrow, n * 16);
                    if (bias) from = _mm512_maskz_loadu_ps(m, bias + c);
                    depthwise3_taps(w + c, C, m, turned, tap);
                    DEPTHWISE3_RUN
                }
            }
        return;
    }
    const long lines = ahead_share(d->ahead, (C + 15) / 16 * ((d->Ho + N - 1) / N));
    for (long c = 0; c < C; c += 16) {
        const __mmask16 m = (__mmask16)depthwise_mask(C - c);
        if (bias) from = _mm512_maskz_loadu_ps(m, bias + c);
        depthwise3_taps(w + c, C, m, turned, tap);
        for (long i = 0; i < d->Ho; i += N) {
            if (lines) ahead_ask(d->ahead, lines);
            for (long j = 0, n; j < d->Wo; j += n) {
                n = depthwise_run_length(d->Wo - j, MOST);
                DEPTHWISE3_RUN
            }
        }
    }
#undef DEPTHWISE3_RUN
#undef RUN
}

TARGET_AVX512 static void depthwise3_avx512(const Conv *d, const float *x, const float *w,
                                            const float *bias, float *y, int turned) {
    const int large = depthwise_is_large(d);
    if (d->sw == 2 && large) depthwise3_any(d, x, w, bias, y, turned, 1, 2, 1, 2);
    else if (d->sw == 2) depthwise3_any(d, x, w, bias, y, turned, 0, 2, 1, 4);
    else if (large) depthwise3_any(d, x, w, bias, y, turned, 1, 1, 2, 4);
    else if (d->Wo < 8) depthwise3_any(d, x, w, bias, y, turned, 0, 1, 2, 4);
    else depthwise3_any(d, x, w, bias, y, turned, 0, 1, 1, 8);
}

/* dx of stride 2, by pairs of columns: column 2 q - p meets g[q] by tap 0 and g[q - 1] by tap 2,
 * the one after it g[q] by tap 1. from[a]: the row of g that tap row a meets, or 0. */
TARGET_AVX512 ALWAYS_INLINE void depthwise3_dx_run(const float *const *from, const __m512 *tap,
                                                   long c, long q, const Conv *d, __mmask16 m,
                                                   float *dx, const int R, const int END) {
    __m512 one[4], two[4], v[5];
    UNROLL for (int r = 0; r < R; r++) one[r] = two[r] = _mm512_setzero_ps();
    UNROLL for (int a = 0; a < 3; a++) {
        if (!from[a]) continue;
        depthwise_pixels(from[a] + c, q - 1, d->Wo, d->C, m, v, R + 1, END);
        UNROLL for (int r = 0; r < R; r++) {
            one[r] = _mm512_fmadd_ps(v[r + 1], tap[3 * a], one[r]);
            one[r] = _mm512_fmadd_ps(v[r], tap[3 * a + 2], one[r]);
            two[r] = _mm512_fmadd_ps(v[r + 1], tap[3 * a + 1], two[r]);
        }
    }
    UNROLL for (int r = 0; r < R; r++) {
        const long j = 2 * (q + r) - d->pw;
        if (!END || (j >= 0 && j < d->W)) _mm512_mask_storeu_ps(dx + c + j * d->C, m, one[r]);
        if (!END || (j >= -1 && j + 1 < d->W))
            _mm512_mask_storeu_ps(dx + c + (j + 1) * d->C, m, two[r]);
    }
}

/* from[a] of row i of dx. */
ALWAYS_INLINE void depthwise3_dx_rows(const Conv *d, const float *g, long i, const float **from) {
    for (long a = 0; a < 3; a++) {
        const long r = i + d->ph - a;
        from[a] = r >= 0 && r % 2 == 0 && r / 2 < d->Ho ? g + r / 2 * d->Wo * d->C : 0;
    }
}

TARGET_AVX512 static void depthwise3_dx2_avx512(const Conv *d, const float *g, const float *w,
                                                float *dx) {
    const long C = d->C, row = d->W * C, pairs = (d->W - 1 + d->pw) / 2 + 1;
    const float *from[3];
    __m512 tap[9];
#define RUN(R, END) depthwise3_dx_run(from, tap, c, q, d, m, dx + i * row, R > 4 ? 4 : R, END)
#define DEPTHWISE3_DX_RUN \
    DEPTHWISE_RUNS(n, q == 0 || q + n > d->Wo || 2 * (q + n) - d->pw > d->W, RUN)
    if (depthwise_is_large(d)) {
        for (long i = 0; i < d->H; i++) {
            depthwise3_dx_rows(d, g, i, from);
            for (long q = 0, n; q < pairs; q += n) {
                n = depthwise_run_length(pairs - q, 2);
                const float *ng = g + ((i / 2 + 1) * d->Wo + q) * C;
                const float *nx = dx + ((i + 1) * d->W + 2 * q) * C;
                for (long c = 0; c < C; c += 16, ng += n * 8, nx += n * 32) {
                    const __mmask16 m = (__mmask16)depthwise_mask(C - c);
                    depthwise_ahead(ng, n * 8);
                    depthwise_ahead(nx, n * 32);
                    depthwise3_taps(w + c, C, m, 0, tap);
                    DEPTHWISE3_DX_RUN
                }
            }
        }
        return;
    }
    const long lines = ahead_share(d->ahead, (C + 15) / 16 * d->H);
    for (long c = 0; c < C; c += 16) {
        const __mmask16 m = (__mmask16)depthwise_mask(C - c);
        depthwise3_taps(w + c, C, m, 0, tap);
        for (long i = 0; i < d->H; i++) {
            depthwise3_dx_rows(d, g, i, from);
            if (lines) ahead_ask(d->ahead, lines);
            for (long q = 0, n; q < pairs; q += n) {
                n = depthwise_run_length(pairs - q, 4);
                DEPTHWISE3_DX_RUN
            }
        }
    }
#undef DEPTHWISE3_DX_RUN
#undef RUN
}

/* Adds to acc, tap rows lo..hi-1 of dw, what R pixels of a row of g give. */
TARGET_AVX512 ALWAYS_INLINE void depthwise3_dw_run(const float *x, long j, long W, long C,
                                                   const float *g, long lo, long hi, __mmask16 m,
                                                   __m512 *acc, const int R, const int S,
                                                   const int END) {
    __m512 u[8], v[10];
    UNROLL for (int r = 0; r < R; r++) u[r] = _mm512_maskz_loadu_ps(m, g + r * C);
    UNROLL for (int a = 0; a < 3; a++) {
        if (a < lo || a >= hi) continue;
        depthwise_pixels(x + a * W * C, j, W, C, m, v, (R - 1) * S + 3, END);
        UNROLL for (int r = 0; r < R; r++)
            UNROLL for (int b = 0; b < 3; b++)
                acc[a * 3 + b] = _mm512_fmadd_ps(v[r * S + b], u[r], acc[a * 3 + b]);
    }
}

TARGET_AVX512 ALWAYS_INLINE void depthwise3_put(const __m512 *acc, long C, __mmask16 m, float *dw) {
    UNROLL for (int t = 0; t < 9; t++) _mm512_mask_storeu_ps(dw + t * C, m, acc[t]);
}

TARGET_AVX512 ALWAYS_INLINE void depthwise3_dw_any(const Conv *d, const float *x, const float *g,
                                                   float *dw, const int S) {
    const long C = d->C, row = d->W * C;
    __m512 acc[9];
#define DEPTHWISE3_RUN(run) \
    const long top = i * S - d->ph, at = j * S - d->pw; \
    long lo, hi; \
    depthwise_rows(top, d->H, &lo, &hi); \
    DEPTHWISE_RUNS(n, at < 0 || at + (n - 1) * S + 3 > d->W, run)
#define RUN(R, END) depthwise3_dw_run(x + top * row + c, at, d->W, C, \
                                      g + (i * d->Wo + j) * C + c, lo, hi, m, acc, \
                                      R * S > 8 ? 4 : R, S, END)
    if (depthwise_is_large(d)) {
        for (long i = 0; i < d->Ho; i++)
            for (long j = 0, n; j < d->Wo; j += n) {
                n = depthwise_run_length(d->Wo - j, 4 / S);
                const float *nx = x + (i * S - d->ph + 3) * row + j * S * C;
                const float *ng = g + ((i + 1) * d->Wo + j) * C;
                for (long c = 0; c < C; c += 16, nx += n * S * 16, ng += n * 16) {
                    const __mmask16 m = (__mmask16)depthwise_mask(C - c);
                    for (int s = 0; s < S; s++) depthwise_ahead(nx + s * row, n * S * 16);
                    depthwise_ahead(ng, n * 16);
                    depthwise3_taps(dw + c, C, m, 0, acc);
                    DEPTHWISE3_RUN(RUN)
                    depthwise3_put(acc, C, m, dw + c);
                }
            }
        return;
    }
    const long lines = ahead_share(d->ahead, (C + 15) / 16 * d->Ho);
    for (long c = 0; c < C; c += 16) {
        const __mmask16 m = (__mmask16)depthwise_mask(C - c);
        depthwise3_taps(dw + c, C, m, 0, acc);
        for (long i = 0; i < d->Ho; i++) {
            if (lines) ahead_ask(d->ahead, lines);
            for (long j = 0, n; j < d->Wo; j += n) {
                n = depthwise_run_length(d->Wo - j, 8 / S);
                DEPTHWISE3_RUN(RUN)
            }
        }
        depthwise3_put(acc, C, m, dw + c);
    }
#undef DEPTHWISE3_RUN
#undef RUN
}

TARGET_AVX512 static void depthwise3_dw_avx512(const Conv *d, const float *x, const float *g,
                                               float *dw) {
    if (d->sw == 1) depthwise3_dw_any(d, x, g, dw, 1);
    else depthwise3_dw_any(d, x, g, dw, 2);
}

#endif

#endif
