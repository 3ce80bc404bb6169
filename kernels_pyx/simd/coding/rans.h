/* Interleaved rANS: see minicomp/kernels/coding/rans.py for the contract.
 *
 * A slot's entry says all that a step needs:
 *
 *   bits    0..7 symbol    8..19 f    20..31 slot - start
 *   x  ->   f (x >> 12) + (slot - start)
 *
 * One state waits some 15 cycles for itself; the 32 of a step wait side by side. AVX2 takes them
 * as four vectors of 8, AVX-512 as two of 16. Lanes that are short of bits take the next words in
 * their order: the words are spread over the lanes of a mask, by a table of permutations (AVX2) or
 * by an instruction (VPEXPANDD).
 *
 *   mask    1 0 0 1 1 0 1 0      words  a b c d ...      ->  a . . b c . d .
 */
#ifndef MINICOMP_RANS_H
#define MINICOMP_RANS_H
#include <stdint.h>
#include <string.h>
#include "../isa.h"

enum { RANS_BITS = 12, RANS_SLOTS = 1 << RANS_BITS, RANS_LANES = 32 };
#define RANS_LOWEST 65536u

typedef struct {
    uint32_t x[RANS_LANES];
    const uint8_t *data;
    int64_t size, at; /* bytes of data, the next one */
    uint32_t entry[RANS_SLOTS];
} rans_decoder;

static int64_t rans_encode_all(const uint8_t *symbols, int64_t n, const uint32_t *freq, int64_t k,
                               int lanes, uint8_t *out, int64_t room) {
    uint32_t x[RANS_LANES], start[256], sum = 0;
    for (int64_t s = 0; s < k; s++) start[s] = sum, sum += freq[s];
    for (int j = 0; j < lanes; j++) x[j] = RANS_LOWEST;
    int64_t at = room; /* words are written backwards from the end */
    for (int64_t i = n - 1; i >= 0; i--) {
        uint32_t s = symbols[i], f = freq[s], *state = &x[i % lanes];
        if (*state >= (uint64_t)f << (32 - RANS_BITS)) {
            out[--at] = (uint8_t)(*state >> 8);
            out[--at] = (uint8_t)*state;
            *state >>= 16;
        }
        *state = (*state / f << RANS_BITS) + start[s] + *state % f;
    }
    int64_t words = room - at;
    memmove(out + 4 * lanes, out + at, (size_t)words);
    for (int j = 0; j < lanes; j++)
        for (int b = 0; b < 4; b++) out[4 * j + b] = (uint8_t)(x[j] >> 8 * b);
    return 4 * lanes + words;
}

static uint32_t rans_byte(const rans_decoder *d, int64_t at) {
    return at < d->size ? d->data[at] : 0;
}

static void rans_begin(rans_decoder *d, const uint32_t *freq, int64_t k, int lanes) {
    uint32_t slot = 0;
    for (int64_t s = 0; s < k; s++)
        for (uint32_t i = 0; i < freq[s]; i++)
            d->entry[slot++] = (uint32_t)s | freq[s] << 8 | i << 20;
    d->at = 4 * lanes;
    for (int j = 0; j < lanes; j++) {
        d->x[j] = 0;
        for (int b = 0; b < 4; b++) d->x[j] |= rans_byte(d, 4 * j + b) << 8 * b;
    }
}

ALWAYS_INLINE uint32_t rans_step(rans_decoder *d, uint32_t x, uint8_t *symbol) {
    uint32_t e = d->entry[x & (RANS_SLOTS - 1)];
    *symbol = (uint8_t)e;
    x = (e >> 8 & (RANS_SLOTS - 1)) * (x >> RANS_BITS) + (e >> 20);
    if (x < RANS_LOWEST) {
        x = x << 16 | rans_byte(d, d->at) | rans_byte(d, d->at + 1) << 8;
        d->at += 2;
    }
    return x;
}

static void rans_plain(rans_decoder *d, uint8_t *symbols, int64_t n, int lanes) {
    if (lanes == 1) {
        uint32_t x = d->x[0];
        for (int64_t i = 0; i < n; i++) x = rans_step(d, x, &symbols[i]);
        d->x[0] = x;
        return;
    }
    int64_t i = 0;
    for (; i + RANS_LANES <= n && d->size - d->at >= 2 * RANS_LANES; i += RANS_LANES) {
        const uint8_t *at = d->data + d->at; /* a step's words are there: no look at the end, and */
        for (int j = 0; j < RANS_LANES; j++) { /* no branch that is seldom guessed */
            uint32_t e = d->entry[d->x[j] & (RANS_SLOTS - 1)];
            symbols[i + j] = (uint8_t)e;
            uint32_t x = (e >> 8 & (RANS_SLOTS - 1)) * (d->x[j] >> RANS_BITS) + (e >> 20);
            uint32_t word = at[0] | (uint32_t)at[1] << 8, is_short = x < RANS_LOWEST;
            d->x[j] = is_short ? x << 16 | word : x;
            at += 2 * is_short;
        }
        d->at = at - d->data;
    }
    for (; i < n; i++) {
        uint32_t *x = &d->x[i & (RANS_LANES - 1)];
        *x = rans_step(d, *x, &symbols[i]);
    }
}

#ifdef MINICOMP_X86
/* Both return how many symbols they decoded: whole steps, while a step's words are certainly there.
 */
TARGET_AVX512 static int64_t rans_avx512(rans_decoder *d, uint8_t *symbols, int64_t n) {
    if (d->size - d->at < 2 * RANS_LANES) return 0;
    const __m512i low = _mm512_set1_epi32(RANS_SLOTS - 1), lowest = _mm512_set1_epi32(RANS_LOWEST);
    __m512i a = _mm512_loadu_si512(d->x), b = _mm512_loadu_si512(d->x + 16);
    const uint8_t *at = d->data + d->at, *last = d->data + d->size - 2 * RANS_LANES;
    int64_t i = 0;
    for (; i + RANS_LANES <= n && at <= last; i += RANS_LANES) {
        __m512i ea = _mm512_i32gather_epi32(_mm512_and_si512(a, low), d->entry, 4);
        __m512i eb = _mm512_i32gather_epi32(_mm512_and_si512(b, low), d->entry, 4);
        _mm_storeu_si128((__m128i *)(symbols + i), _mm512_cvtepi32_epi8(ea));
        _mm_storeu_si128((__m128i *)(symbols + i + 16), _mm512_cvtepi32_epi8(eb));
        __m512i fa = _mm512_and_si512(_mm512_srli_epi32(ea, 8), low);
        __m512i fb = _mm512_and_si512(_mm512_srli_epi32(eb, 8), low);
        a = _mm512_add_epi32(_mm512_mullo_epi32(fa, _mm512_srli_epi32(a, RANS_BITS)),
                             _mm512_srli_epi32(ea, 20));
        b = _mm512_add_epi32(_mm512_mullo_epi32(fb, _mm512_srli_epi32(b, RANS_BITS)),
                             _mm512_srli_epi32(eb, 20));
        __mmask16 ma = _mm512_cmplt_epu32_mask(a, lowest), mb = _mm512_cmplt_epu32_mask(b, lowest);
        const uint8_t *then = at + 2 * __builtin_popcount(ma);
        __m512i wa = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)at));
        __m512i wb = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)then));
        wa = _mm512_maskz_expand_epi32(ma, wa);
        wb = _mm512_maskz_expand_epi32(mb, wb);
        a = _mm512_mask_or_epi32(a, ma, _mm512_slli_epi32(a, 16), wa);
        b = _mm512_mask_or_epi32(b, mb, _mm512_slli_epi32(b, 16), wb);
        at = then + 2 * __builtin_popcount(mb);
    }
    _mm512_storeu_si512(d->x, a);
    _mm512_storeu_si512(d->x + 16, b);
    d->at = at - d->data;
    return i;
}

TARGET_AVX2 static int64_t rans_avx2(rans_decoder *d, uint8_t *symbols, int64_t n) {
    if (d->size - d->at < 2 * RANS_LANES) return 0;
    const __m256i low = _mm256_set1_epi32(RANS_SLOTS - 1), zero = _mm256_setzero_si256();
    const __m256i byte = _mm256_set1_epi32(255), order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    uint32_t spread[256][8]; /* which word each lane of a mask takes */
    for (int mask = 0; mask < 256; mask++)
        for (int j = 0, taken = 0; j < 8; j++) {
            taken += mask >> j & 1;
            spread[mask][j] = (uint32_t)taken - 1;
        }
    __m256i x[4], e[4];
    for (int v = 0; v < 4; v++) x[v] = _mm256_loadu_si256((const __m256i *)(d->x + 8 * v));
    const uint8_t *at = d->data + d->at, *last = d->data + d->size - 2 * RANS_LANES;
    int64_t i = 0;
    for (; i + RANS_LANES <= n && at <= last; i += RANS_LANES) {
        UNROLL for (int v = 0; v < 4; v++) {
            e[v] = _mm256_i32gather_epi32((const int *)d->entry, _mm256_and_si256(x[v], low), 4);
            __m256i f = _mm256_and_si256(_mm256_srli_epi32(e[v], 8), low);
            x[v] = _mm256_add_epi32(_mm256_mullo_epi32(f, _mm256_srli_epi32(x[v], RANS_BITS)),
                                    _mm256_srli_epi32(e[v], 20));
        }
        UNROLL for (int v = 0; v < 4; v++) {
            __m256i is_short = _mm256_cmpeq_epi32(_mm256_srli_epi32(x[v], 16), zero);
            int mask = _mm256_movemask_ps(_mm256_castsi256_ps(is_short));
            __m256i words = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)at));
            words = _mm256_permutevar8x32_epi32(
                words, _mm256_loadu_si256((const __m256i *)spread[mask]));
            __m256i longer = _mm256_or_si256(_mm256_slli_epi32(x[v], 16), words);
            x[v] = _mm256_blendv_epi8(x[v], longer, is_short);
            at += 2 * __builtin_popcount((unsigned)mask);
        }
        UNROLL for (int v = 0; v < 4; v++) e[v] = _mm256_and_si256(e[v], byte);
        __m256i ab = _mm256_packus_epi32(e[0], e[1]), cd = _mm256_packus_epi32(e[2], e[3]);
        __m256i all = _mm256_permutevar8x32_epi32(_mm256_packus_epi16(ab, cd), order);
        _mm256_storeu_si256((__m256i *)(symbols + i), all);
    }
    for (int v = 0; v < 4; v++) _mm256_storeu_si256((__m256i *)(d->x + 8 * v), x[v]);
    d->at = at - d->data;
    return i;
}
#endif

/* Returns the bytes asked for; `whole` : whether every lane ends where a coder begins. */
static int64_t rans_decode_all(const uint8_t *data, int64_t size, const uint32_t *freq, int64_t k,
                               int lanes, uint8_t *symbols, int64_t n, int level, int *whole) {
    rans_decoder d;
    d.data = data, d.size = size;
    rans_begin(&d, freq, k, lanes);
    int64_t done = 0;
#ifdef MINICOMP_X86
    if (lanes == RANS_LANES && size) {
        if (level >= ISA_AVX512) done = rans_avx512(&d, symbols, n);
        else if (level >= ISA_AVX2) done = rans_avx2(&d, symbols, n);
    }
#else
    (void)level;
#endif
    rans_plain(&d, symbols + done, n - done, lanes);
    *whole = 1;
    for (int j = 0; j < lanes; j++) *whole &= d.x[j] == RANS_LOWEST;
    return d.at;
}

#endif
