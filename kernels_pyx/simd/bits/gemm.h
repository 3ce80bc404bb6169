/* Products of signs, for every rung:
 *
 *   sum[m][o] = sum over k of a[m][k] w[o][k] = K - 2 pop[m][o]        M rows, K inner, O out
 *   pop[m][o] = sum over words of popcount(a[m] ^ w[o])
 *
 * a and w are +1 and -1 as bits 1 and 0, 64 a word, bits behind the last k 0 in both. Weights are
 * packed beforehand (see minicomp/kernels/bits/xnor.py): 8 rows o side by side are the columns of a
 * panel, word by word, 64 bytes each, so that a tile reads its panel from the first to the last.
 * Rows of a are read where they lie.
 *
 * Eight panels are a group, 64 columns, a word of the output where sums become bits again. A row's
 * sums of a group pass through GROUP numbers on the stack, where they lie in the nearest cache.
 *
 * What is read again must lie near: a group is reused by all rows, rows by all groups. BLOCK bytes
 * of rows, about half of a second-level cache, go with one group after another.
 *
 *   portable   64 bits at a time are counted by adding neighbours, eight columns side by side
 *   popcnt     an instruction a word; 2 rows
 *   avx2       4 columns a vector: bytes looked up, 4 rows; long rows by Harley-Seal, one
 *   avx512     8 columns a vector: the same, with three-operand logic, 2 rows
 *   vpopcntdq  an instruction counts 8 words: 4 rows of 2 panels
 */
#ifndef MINICOMP_BITS_GEMM_H
#define MINICOMP_BITS_GEMM_H

#include <stdint.h>
#include <string.h>
#include "pack.h"

enum { GROUP = 64, MOST_ROWS = 4, BLOCK = 384 << 10 };

/* What a tile reads and writes: rows of W words, am apart, at a; panels of 8 W words at b; sums at
 * out, rows os apart. */
typedef struct {
    const uint64_t *a; long am;
    const uint64_t *b; long W;
    int32_t K;
    int32_t *out; long os;
} Tile;

/* A product: M rows of W words at a; O columns; to int32 at sums, rows O apart, or, where that is
 * 0, by t to bits at bits. Where fix is not 0 and which[m] neither, row which[m] of fix, O numbers,
 * is added to the sums of row m. */
typedef struct {
    const uint64_t *a, *b;
    long M, W, O;
    int32_t K;
    int32_t *sums;
    uint64_t *bits;
    const Limits *t;
    const int32_t *fix;
    const int32_t *which;
} Product;

/* ------------------------------------------------------------------------------------ portable */

/* Set bits of each byte; and the sum of eight bytes, of at most 2040. */
ALWAYS_INLINE uint64_t ones_portable(uint64_t x) {
    const uint64_t two = 0x3333333333333333u;
    x -= x >> 1 & 0x5555555555555555u;
    x = (x & two) + (x >> 2 & two);
    return (x + (x >> 4)) & 0x0f0f0f0f0f0f0f0fu;
}
ALWAYS_INLINE uint64_t sum_portable(uint64_t x) {
    const uint64_t even = 0x00ff00ff00ff00ffu;
    return ((x & even) + (x >> 8 & even)) * 0x0001000100010001u >> 48;
}

static void tile_portable(const Tile *t) { /* one row, one panel */
    uint64_t pop[8] = {0};
    for (long w = 0; w < t->W;) {
        const long end = t->W - w < 31 ? t->W : w + 31; /* bytes hold 31 times 8 */
        uint64_t bytes[8] = {0};
        for (; w < end; w++)
            for (int n = 0; n < 8; n++) bytes[n] += ones_portable(t->a[w] ^ t->b[8 * w + n]);
        for (int n = 0; n < 8; n++) pop[n] += sum_portable(bytes[n]);
    }
    for (int n = 0; n < 8; n++) t->out[n] = t->K - 2 * (int32_t)pop[n];
}

#ifdef MINICOMP_X86

/* -------------------------------------------------------------------------------------- popcnt */

TARGET_POPCNT ALWAYS_INLINE void tile_popcnt(const Tile *t, const int MR) {
    for (int n = 0; n < 8; n += 4) {
        int64_t pop[2][4] = {{0}};
        const uint64_t *b = t->b + n;
        for (long w = 0; w < t->W; w++, b += 8)
            UNROLL for (int r = 0; r < MR; r++)
                UNROLL for (int i = 0; i < 4; i++)
                    pop[r][i] += __builtin_popcountll(t->a[r * t->am + w] ^ b[i]);
        UNROLL for (int r = 0; r < MR; r++)
            UNROLL for (int i = 0; i < 4; i++)
                t->out[r * t->os + n + i] = t->K - 2 * (int32_t)pop[r][i];
    }
}
TARGET_POPCNT static void popcnt_1(const Tile *t) { tile_popcnt(t, 1); }
TARGET_POPCNT static void popcnt_2(const Tile *t) { tile_popcnt(t, 2); }

/* ---------------------------------------------------------------------------------------- avx2 */

TARGET_AVX2 ALWAYS_INLINE void put_avx2(int32_t *p, __m256i pop, int32_t K) {
    const __m256i even = _mm256_setr_epi32(0, 2, 4, 6, 0, 2, 4, 6);
    const __m128i low = _mm256_castsi256_si128(_mm256_permutevar8x32_epi32(pop, even));
    _mm_storeu_si128((__m128i *)p, _mm_sub_epi32(_mm_set1_epi32(K), _mm_slli_epi32(low, 1)));
}

#define FN(name) name##_avx2
#define TARGET TARGET_AVX2
#define V __m256i
#define LANES 4
#define TERNARY 0
#define V_LOAD(p) _mm256_loadu_si256((const __m256i *)(p))
#define V_WORD(p) _mm256_set1_epi64x((long long)*(p))
#define V_BYTES(n) _mm256_set1_epi8(n)
#define V_TABLE() _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4, \
                                   0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4)
#define V_LOOK(table, x) _mm256_shuffle_epi8(table, x)
#define V_SHIFT4(x) _mm256_srli_epi16(x, 4)
#define V_SHIFT_LEFT4(x) _mm256_slli_epi64(x, 4)
#define V_AND(x, y) _mm256_and_si256(x, y)
#define V_OR(x, y) _mm256_or_si256(x, y)
#define V_XOR(x, y) _mm256_xor_si256(x, y)
#define V_ADD8(x, y) _mm256_add_epi8(x, y)
#define V_ADD64(x, y) _mm256_add_epi64(x, y)
#define V_SAD(x) _mm256_sad_epu8(x, _mm256_setzero_si256())
#define V_PUT(p, pop, K) put_avx2(p, pop, K)
#include "tile.h"
TILE(bytes, 1) TILE(bytes, 2) TILE(bytes, 3) TILE(bytes, 4) TILE(harley, 1)
#include "tile_end.h"

/* -------------------------------------------------------------------------------------- avx512 */

TARGET_AVX512 ALWAYS_INLINE void put_avx512(int32_t *p, __m512i pop, int32_t K) {
    const __m256i low = _mm512_cvtepi64_epi32(pop);
    _mm256_storeu_si256((__m256i *)p,
                        _mm256_sub_epi32(_mm256_set1_epi32(K), _mm256_slli_epi32(low, 1)));
}

#define FN(name) name##_avx512
#define TARGET TARGET_AVX512
#define V __m512i
#define LANES 8
#define TERNARY 1
#define V_LOAD(p) _mm512_loadu_si512(p)
#define V_WORD(p) _mm512_set1_epi64((long long)*(p))
#define V_BYTES(n) _mm512_set1_epi8(n)
#define V_TABLE() \
    _mm512_broadcast_i32x4(_mm_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4))
#define V_LOOK(table, x) _mm512_shuffle_epi8(table, x)
#define V_SHIFT4(x) _mm512_srli_epi16(x, 4)
#define V_SHIFT_LEFT4(x) _mm512_slli_epi64(x, 4)
#define V_AND(x, y) _mm512_and_si512(x, y)
#define V_XOR(x, y) _mm512_xor_si512(x, y)
#define V_XOR3(x, y, z) _mm512_ternarylogic_epi64(x, y, z, 0x96)
#define V_MAJOR(x, y, z) _mm512_ternarylogic_epi64(x, y, z, 0xe8)
#define V_ADD8(x, y) _mm512_add_epi8(x, y)
#define V_ADD64(x, y) _mm512_add_epi64(x, y)
#define V_SAD(x) _mm512_sad_epu8(x, _mm512_setzero_si512())
#define V_PUT(p, pop, K) put_avx512(p, pop, K)
#include "tile.h"
TILE(bytes, 1) TILE(bytes, 2) TILE(bytes, 3) TILE(bytes, 4) TILE(harley, 1) TILE(harley, 2)
#include "tile_end.h"

/* ----------------------------------------------------------------------------------- vpopcntdq */

/* MR rows of NV panels; both are constants where this is inlined. */
TARGET_VPOPCNTDQ ALWAYS_INLINE void tile_vpopcntdq(const Tile *t, const int MR, const int NV) {
    __m512i pop[MOST_ROWS][2];
    UNROLL for (int r = 0; r < MR; r++)
        UNROLL for (int v = 0; v < NV; v++) pop[r][v] = _mm512_setzero_si512();
    const long am = t->am, W = t->W;
    const uint64_t *a = t->a, *b = t->b;
    for (long w = 0; w < W; w++, a++, b += 8) {
        __m512i column[2];
        UNROLL for (int v = 0; v < NV; v++) column[v] = _mm512_loadu_si512(b + 8 * W * v);
        UNROLL for (int r = 0; r < MR; r++) {
            const __m512i row = _mm512_set1_epi64((long long)a[r * am]);
            UNROLL for (int v = 0; v < NV; v++)
                pop[r][v] = _mm512_add_epi64(
                    pop[r][v], _mm512_popcnt_epi64(_mm512_xor_si512(row, column[v])));
        }
    }
    UNROLL for (int r = 0; r < MR; r++)
        UNROLL for (int v = 0; v < NV; v++)
            put_avx512(t->out + r * t->os + 8 * v, pop[r][v], t->K);
}
#define TILE(MR, NV)                                                                               \
    TARGET_VPOPCNTDQ static void vpopcntdq_##MR##x##NV(const Tile *t) { tile_vpopcntdq(t, MR, NV); }
TILE(1, 1) TILE(2, 1) TILE(3, 1) TILE(4, 1) TILE(1, 2) TILE(2, 2) TILE(3, 2) TILE(4, 2)
#undef TILE
#endif /* MINICOMP_X86 */

/* --------------------------------------------------------------------------------------- tiles */

typedef void (*TileKernel)(const Tile *);
typedef struct { /* the tiles of a rung: at most so many rows and panels */
    int rows, panels;
    TileKernel tiles[2][MOST_ROWS];
} Tiles;

static const Tiles tiles_portable = {1, 1, {{tile_portable}}};
#ifdef MINICOMP_X86
static const Tiles tiles_popcnt = {2, 1, {{popcnt_1, popcnt_2}}};
static const Tiles tiles_bytes_avx2 = {
    4, 1, {{bytes_1_avx2, bytes_2_avx2, bytes_3_avx2, bytes_4_avx2}}};
static const Tiles tiles_harley_avx2 = {1, 1, {{harley_1_avx2}}};
static const Tiles tiles_bytes_avx512 = {
    4, 1, {{bytes_1_avx512, bytes_2_avx512, bytes_3_avx512, bytes_4_avx512}}};
static const Tiles tiles_harley_avx512 = {2, 1, {{harley_1_avx512, harley_2_avx512}}};
static const Tiles tiles_vpopcntdq = {4, 2, {
    {vpopcntdq_1x1, vpopcntdq_2x1, vpopcntdq_3x1, vpopcntdq_4x1},
    {vpopcntdq_1x2, vpopcntdq_2x2, vpopcntdq_3x2, vpopcntdq_4x2}}};
#endif

/* The tiles for rows of W words. Harley-Seal ends in four words of carries a row to look up, which
 * some 32 words are needed to repay without three-operand logic, and with it the first 16. */
static inline const Tiles *gemm_tiles(int level, long W) {
#ifdef MINICOMP_X86
    if (level >= ISA_VPOPCNTDQ) return &tiles_vpopcntdq;
    if (level >= ISA_AVX512) return W >= 16 ? &tiles_harley_avx512 : &tiles_bytes_avx512;
    if (level >= ISA_AVX2) return W >= 32 ? &tiles_harley_avx2 : &tiles_bytes_avx2;
    if (level >= ISA_POPCNT) return &tiles_popcnt;
#endif
    (void)level, (void)W;
    return &tiles_portable;
}

/* ------------------------------------------------------------------------------------ products */

static inline long gemm_groups(long O) { return (O + GROUP - 1) / GROUP; }

/* rows of sums in acc, of n columns of group g: to where the product wants them, from row m on. */
static void gemm_put(const Product *p, int32_t *acc, long m, long rows, long g, long n, int level) {
    for (long r = 0; r < rows; r++, acc += GROUP, m++) {
        if (p->fix && p->which[m]) {
            const int32_t *fix = p->fix + p->which[m] * p->O + GROUP * g;
            for (long c = 0; c < n; c++) acc[c] += fix[c];
        }
        if (p->bits) p->bits[m * gemm_groups(p->O) + g] = limit_word(acc, p->t, g, level);
        else memcpy(p->sums + m * p->O + GROUP * g, acc, (size_t)n * sizeof *acc);
    }
}

/* `rows` rows from m on, of group g, by way of acc. */
static void gemm_tile(const Product *p, const Tiles *tiles, long m, long rows, long g, int32_t *acc,
                      int level) {
    const long n = p->O - GROUP * g < GROUP ? p->O - GROUP * g : GROUP, panels = (n + 7) / 8;
    Tile t = {p->a + m * p->W, p->W, p->b + 8 * p->W * 8 * g, p->W, p->K, acc, GROUP};
    for (long v = 0; v < panels; v += tiles->panels) {
        const long nv = panels - v < tiles->panels ? panels - v : tiles->panels;
        t.out = acc + 8 * v;
        tiles->tiles[nv - 1][rows - 1](&t);
        t.b += 8 * p->W * nv;
    }
    gemm_put(p, acc, m, rows, g, n, level);
}

/* Rows m..end of groups g..last. */
static void gemm(const Product *p, long m, long end, long g, long last, int level) {
    int32_t acc[MOST_ROWS * GROUP] = {0};
    const Tiles *tiles = gemm_tiles(level, p->W);
    const long most = BLOCK / (8 * p->W + 1) / 4 * 4, step = most > 4 ? most : 4;
    for (; m < end; m += step) {
        const long to = end - m < step ? end : m + step;
        for (long i = g; i < last; i++)
            for (long j = m; j < to; j += tiles->rows)
                gemm_tile(p, tiles, j, to - j < tiles->rows ? to - j : tiles->rows, i, acc, level);
    }
}

#endif
