/* Max pooling of signs of one image, channels last.   x (H, W, words)   ->   y (Ho, Wo, words)
 *
 * The largest of +1 and -1 is +1 where one is: OR. Where a channel's flip is set it is the least
 * that is wanted, AND, which is OR of what is turned over, turned over. Padding never decides.
 * Lanes are words: the ladder is the same source, compiled for 1, 4 or 8 at a time.
 */
#ifndef MINICOMP_BITS_POOL_H
#define MINICOMP_BITS_POOL_H

#include <stdint.h>
#include "../isa.h"

typedef struct {
    long H, W, words, KH, KW, sh, sw, ph, pw, Ho, Wo;
    const uint64_t *flip;
} Pool;

/* Row i of the output; y is where it begins. */
ALWAYS_INLINE void pool_row_any(const Pool *d, const uint64_t *x, long i, uint64_t *RESTRICT y) {
    const long words = d->words, top = i * d->sh - d->ph;
    const long a0 = top < 0 ? 0 : top, a1 = top + d->KH > d->H ? d->H : top + d->KH;
    for (long j = 0; j < d->Wo; j++, y += words) {
        const long left = j * d->sw - d->pw;
        const long b0 = left < 0 ? 0 : left, b1 = left + d->KW > d->W ? d->W : left + d->KW;
        for (long c = 0; c < words; c++) y[c] = 0;
        for (long a = a0; a < a1; a++)
            for (long b = b0; b < b1; b++) {
                const uint64_t *v = x + (a * d->W + b) * words;
                for (long c = 0; c < words; c++) y[c] |= v[c] ^ d->flip[c];
            }
        for (long c = 0; c < words; c++) y[c] ^= d->flip[c];
    }
}

#ifdef MINICOMP_X86
TARGET_AVX2 static void pool_row_avx2(const Pool *d, const uint64_t *x, long i, uint64_t *y) {
    pool_row_any(d, x, i, y);
}
TARGET_AVX512 static void pool_row_avx512(const Pool *d, const uint64_t *x, long i, uint64_t *y) {
    pool_row_any(d, x, i, y);
}
#endif

static void pool_row(const Pool *d, const uint64_t *x, long i, uint64_t *y, int level) {
#ifdef MINICOMP_X86
    if (level >= ISA_AVX512) { pool_row_avx512(d, x, i, y); return; }
    if (level >= ISA_AVX2) { pool_row_avx2(d, x, i, y); return; }
#endif
    (void)level;
    pool_row_any(d, x, i, y);
}

#endif
