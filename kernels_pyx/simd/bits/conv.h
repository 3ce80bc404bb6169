/* Convolution of signs, channels last: bits -> int32 [-> bits].
 *
 *   x (H, W, words)   w (O, KH, KW, words), packed   y (Ho, Wo, O) int32, or (Ho, Wo, words of O)
 *
 * A pixel's channels begin a word each, so that windows are whole words and a convolution is a
 * product of windows and filters. What is padded is all +1 or all -1; where it is 0, it is -1 here,
 * and what that wrongly took from a window's sum, the weights that met padding, is given back: fix
 * has it by which rows and which columns of a filter lie outside.
 *
 *   1 x 1      the maps as they lie are the matrix
 *   columns    the windows of some pixels are copied side by side, COLUMNS bytes, which stay in a
 *              second-level cache, and multiplied; pixels of all images follow one another
 */
#ifndef MINICOMP_BITS_CONV_H
#define MINICOMP_BITS_CONV_H

#include "gemm.h"

enum { COLUMNS = 96 << 10 };

/* C channels; plus: padding is +1. Windows in row i and column j of the output meet padding as
 * number down[i] + across[j] of fix tells, 0 for none; where fix is 0, none is told. */
typedef struct {
    long H, W, C, O, KH, KW, sh, sw, ph, pw, Ho, Wo;
    int plus;
    const int32_t *fix, *down, *across;
} Conv;

static inline long conv_words(const Conv *d) { return (d->C + 63) / 64; }
static inline long conv_window(const Conv *d) { return d->KH * d->KW * conv_words(d); }
static int conv_is_product(const Conv *d) {
    return d->KH * d->KW == 1 && d->sh == 1 && d->sw == 1 && d->ph + d->pw == 0;
}

/* Pixels whose windows are copied at a time: whole tiles. */
static long conv_pixels(const Conv *d) {
    const long n = COLUMNS / (8 * conv_window(d)) / MOST_ROWS * MOST_ROWS;
    return n > MOST_ROWS ? n : MOST_ROWS;
}

/* Words that a thread needs beside: windows, and what each meets. */
static long conv_room(const Conv *d) {
    return conv_is_product(d) ? 0 : conv_pixels(d) * (conv_window(d) + 1);
}

/* Words are few; of a number known only here, memcpy would be a call. */
ALWAYS_INLINE uint64_t *copy_words(uint64_t *to, const uint64_t *from, long n) {
    for (; n >= 4; n -= 4, to += 4, from += 4) memcpy(to, from, 32);
    if (n & 2) {
        memcpy(to, from, 16);
        to += 2, from += 2;
    }
    if (n & 1) *to++ = *from;
    return to;
}

/* n pixels of padding. */
static uint64_t *conv_pad(const Conv *d, uint64_t *to, long n) {
    const long words = conv_words(d);
    for (; n > 0; n--)
        for (long c = 1; c <= words; c++)
            *to++ = !d->plus ? 0 : c < words || d->C % 64 == 0 ? ~(uint64_t)0
                                                               : ((uint64_t)1 << d->C % 64) - 1;
    return to;
}

/* The window of pixel (i, j) of the output of image x. */
static uint64_t *conv_copy(const Conv *d, const uint64_t *x, long i, long j, uint64_t *to) {
    const long words = conv_words(d), top = i * d->sh - d->ph, left = j * d->sw - d->pw;
    const long before = left >= 0 ? 0 : left + d->KW < 0 ? d->KW : -left;
    const long fit = d->W - left < d->KW ? d->W - left : d->KW;
    const long end = fit < before ? before : fit;
    for (long a = top; a < top + d->KH; a++) {
        if (a < 0 || a >= d->H) {
            to = conv_pad(d, to, d->KW);
            continue;
        }
        to = conv_pad(d, to, before);
        to = copy_words(to, x + (a * d->W + left + before) * words, (end - before) * words);
        to = conv_pad(d, to, d->KW - end);
    }
    return to;
}

/* Pixels m..end of the output of all images; p: a product that has what it takes but a and M.
 * room: conv_room words, of which the last hold two numbers each. */
static void conv_pixels_of(const Conv *d, const Product *p, const uint64_t *x, long m, long end,
                           uint64_t *room, int level) {
    const long most = conv_pixels(d), map = d->Ho * d->Wo, image = d->H * d->W * conv_words(d);
    int32_t *which = (int32_t *)(room + most * conv_window(d));
    const long groups = gemm_groups(p->O);
    for (; m < end; m += most) {
        Product some = *p;
        some.M = end - m < most ? end - m : most;
        some.a = room;
        uint64_t *to = room;
        for (long n = 0; n < some.M; n++) {
            const long at = (m + n) % map, i = at / d->Wo, j = at % d->Wo;
            to = conv_copy(d, x + (m + n) / map * image, i, j, to);
            if (d->fix) which[n] = d->down[i] + d->across[j];
        }
        some.which = which;
        if (p->bits) some.bits += m * groups;
        else some.sums += m * p->O;
        gemm(&some, 0, some.M, 0, groups, level);
    }
}

#endif
