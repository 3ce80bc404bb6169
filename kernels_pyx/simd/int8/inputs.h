/* From numbers to codes, and from planes to channels last (see minicomp/kernels/int8/inputs.py).
 *
 *   planes   r r r r ...  g g g g ...  b b b b ...   float32
 *   codes    r g b r g b r g b r g b ...             u8
 *
 * A few hundred pixels at a time become codes plane by plane, and are interleaved while they lie in
 * the nearest cache.
 *
 *   portable, avx2, avx512   the same source, for 4, 8, 16 lanes
 */
#ifndef MINICOMP_INT8_INPUTS_H
#define MINICOMP_INT8_INPUTS_H

#include <math.h>
#include <stdint.h>
#include "../isa.h"

enum { INPUT_PIXELS = 256, INPUT_PLANES = 4 };

typedef struct {
    long P, C;                /* pixels, planes of an image */
    const float *gain, *bias; /* (C,), or NULL both */
    float scale, zero, lo, hi;
} Input;

/* n numbers of channel c, to every `step`th byte of y. */
ALWAYS_INLINE void input_codes(const Input *d, const float *x, long n, long c, uint8_t *y,
                               const long step) {
    const float scale = d->scale, zero = d->zero, lo = d->lo, hi = d->hi;
    if (d->gain) {
        const float gain = d->gain[c], bias = d->bias[c];
        for (long k = 0; k < n; k++) {
            const float t = rintf((x[k] * gain + bias) / scale) + zero;
            y[k * step] = (uint8_t)(int32_t)(t < lo ? lo : t > hi ? hi : t);
        }
        return;
    }
    for (long k = 0; k < n; k++) {
        const float t = rintf(x[k] / scale) + zero;
        y[k * step] = (uint8_t)(int32_t)(t < lo ? lo : t > hi ? hi : t);
    }
}

/* C planes of codes, INPUT_PIXELS apart, side by side; C is a constant where this is inlined. */
ALWAYS_INLINE void input_interleaved(const uint8_t *RESTRICT plane, long n, const int C,
                                     uint8_t *RESTRICT y) {
    for (long k = 0; k < n; k++)
        for (int c = 0; c < C; c++) y[k * C + c] = plane[c * INPUT_PIXELS + k];
}

ALWAYS_INLINE void input_any(const Input *d, const float *x, uint8_t *y) {
    uint8_t plane[INPUT_PLANES * INPUT_PIXELS];
    if (d->C == 1) {
        input_codes(d, x, d->P, 0, y, 1);
        return;
    }
    for (long p = 0; p < d->P; p += INPUT_PIXELS) {
        const long n = d->P - p < INPUT_PIXELS ? d->P - p : INPUT_PIXELS;
        uint8_t *to = y + p * d->C;
        for (long c = 0; c < d->C; c++) {
            const float *from = x + c * d->P + p;
            if (d->C > INPUT_PLANES) input_codes(d, from, n, c, to + c, d->C);
            else input_codes(d, from, n, c, plane + c * INPUT_PIXELS, 1);
        }
        if (d->C == 2) input_interleaved(plane, n, 2, to);
        else if (d->C == 3) input_interleaved(plane, n, 3, to);
        else if (d->C == 4) input_interleaved(plane, n, 4, to);
    }
}

static void input_portable(const Input *d, const float *x, uint8_t *y) { input_any(d, x, y); }
#ifdef MINICOMP_X86
TARGET_AVX2 static void input_avx2(const Input *d, const float *x, uint8_t *y) {
    input_any(d, x, y);
}
TARGET_AVX512_WIDE static void input_avx512(const Input *d, const float *x, uint8_t *y) {
    input_any(d, x, y);
}
#endif

/* The codes of an image, (C, P) to (P, C). */
static void input_image(const Input *d, const float *x, uint8_t *y, int level) {
#ifdef MINICOMP_X86
    if (level >= ISA_AVX512) { input_avx512(d, x, y); return; }
    if (level >= ISA_AVX2) { input_avx2(d, x, y); return; }
#endif
    (void)level;
    input_portable(d, x, y);
}

#endif
