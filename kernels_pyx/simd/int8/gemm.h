/* Products of codes, u8 x s8 -> int32 [-> u8], for every rung.
 *
 *   acc[m][o] = sum over k of a[m][k] w[o][k] + offset[o]      M rows, K inner, O out
 *
 * Weights are packed beforehand (see minicomp/kernels/int8/gemm.py): 16 channels are a vector, one
 * to four vectors a panel, in which a step of four k is 64 bytes of each vector, one after another:
 *
 *   panel      | k 0..3: vector 0 | vector 1 | .. | k 4..7: vector 0 | vector 1 | ..
 *
 * so that a tile reads its panel from the first byte to the last. Rows of a are read where they
 * lie. A panel's rows of sums pass through ACC_ROW numbers on the stack, where they lie in the
 * nearest cache, to the codes or int32 that they become.
 *
 * What is read again must lie near: a panel is reused by all rows, rows by all panels. BLOCK bytes
 * of rows, about half of a second-level cache, go with one panel after another.
 *
 *   portable   C, a channel at a time
 *   avx2       vpmaddwd, 3 rows of one vector
 *   avx512     vpmaddwd, 3 rows of 4 vectors .. 8 of one
 *   vnni       vpdpbusd, 6 rows of 4 vectors, 8 of 3, 12 of 2, 14 of one: four times the products
 *              an instruction. In assembler, since gcc 12 moves and spills the sums of the
 *              intrinsic.
 */
#ifndef MINICOMP_INT8_GEMM_H
#define MINICOMP_INT8_GEMM_H

#include <string.h>
#include "requantize.h"

enum { ACC_ROW = 64, ACC_ROWS = 14, BLOCK = 384 << 10 };

/* What a tile reads and writes: bytes at a, of which am, as, at are strides of rows, of S and of T
 * segments of K; packed weights at b, bk bytes a step of four; sums at acc, rows ACC_ROW apart. */
typedef struct {
    const uint8_t *a; long am, as, at;
    long S, T, K;
    const int8_t *b; long bk;
    int32_t *acc;
} Tile;

/* A product: M rows of a, where a tile finds them; O channels; to int32 at sums, or, where that is
 * 0, by r to codes at y; out is the stride of rows there. Channel 0 is number `first` of offset and
 * r. */
typedef struct {
    const uint8_t *a; long am, as, at;
    long S, T, K;
    const int8_t *b;
    long M, O, first;
    const int32_t *offset;
    int32_t *sums;
    uint8_t *y;
    long out;
    const Requant *r;
} Product;

static inline long gemm_vectors(long O) { return (O + 15) / 16; }

/* Panels, and the vectors of panel j: as equal as can be, at most 4. */
static inline long gemm_panels(long O) { return (gemm_vectors(O) + 3) / 4; }
static inline long gemm_panel(long O, long j) { /* its first vector */
    const long vectors = gemm_vectors(O), panels = gemm_panels(O);
    return panels ? (j * vectors + panels - 1) / panels : 0;
}

/* ------------------------------------------------------------------------------------ portable */

static void tile_portable(const Tile *t) { /* one row, one vector */
    int32_t acc[16] = {0};
    const int8_t *b = t->b;
    for (long s = 0; s < t->S; s++)
        for (long i = 0; i < t->T; i++) {
            const uint8_t *a = t->a + s * t->as + i * t->at;
            for (long k = 0; k < t->K; k += 4, b += t->bk) {
                const long four = t->K - k < 4 ? t->K - k : 4;
                for (long j = 0; j < four; j++)
                    for (int n = 0; n < 16; n++) acc[n] += a[k + j] * b[4 * n + j];
            }
        }
    memcpy(t->acc, acc, sizeof acc);
}

#ifdef MINICOMP_X86

typedef int32_t __attribute__((aligned(1), may_alias)) AnyFour; /* of a row, wherever it lies */
ALWAYS_INLINE int32_t load_four(const uint8_t *p) { return *(const AnyFour *)p; }
ALWAYS_INLINE int32_t load_rest(const uint8_t *p, long k) { /* k < 4 bytes and zeros */
    return k == 1 ? p[0] : k == 2 ? p[0] | p[1] << 8 : p[0] | p[1] << 8 | p[2] << 16;
}

/* ---------------------------------------------------------------------------------------- vnni */

#define FN(name) name##_vnni
#define TARGET TARGET_VNNI
#define PARTS 1
#define MAX_NV 4
#define MAX_MR 14
#define V_A __m512i
#define V_B __m512i
#define V_ACC __m512i
#define V_ZERO() _mm512_setzero_si512()
#define V_SET_A(x) _mm512_set1_epi32(x)
#define V_LOAD_B(p) _mm512_loadu_si512(p)
#define V_ADD(x, y) _mm512_add_epi32(x, y)
/* u8 is the first factor, s8 the second: four products and a sum a lane, without saturation. */
#define V_DOT(acc, a, b) __asm__("vpdpbusd %2, %1, %0" : "+v"(acc) : "v"(a), "v"(b))
#define V_PUT(p, acc) _mm512_storeu_si512(p, (acc)[0])
#include "tile.h"
TILE(1, 1) TILE(2, 1) TILE(3, 1) TILE(4, 1) TILE(5, 1) TILE(6, 1) TILE(7, 1) TILE(8, 1) TILE(9, 1)
TILE(10, 1) TILE(11, 1) TILE(12, 1) TILE(13, 1) TILE(14, 1)
TILE(1, 2) TILE(2, 2) TILE(3, 2) TILE(4, 2) TILE(5, 2) TILE(6, 2) TILE(7, 2) TILE(8, 2) TILE(9, 2)
TILE(10, 2) TILE(11, 2) TILE(12, 2)
TILE(1, 3) TILE(2, 3) TILE(3, 3) TILE(4, 3) TILE(5, 3) TILE(6, 3) TILE(7, 3) TILE(8, 3)
TILE(1, 4) TILE(2, 4) TILE(3, 4) TILE(4, 4) TILE(5, 4) TILE(6, 4)
#include "tile_end.h"

/* -------------------------------------------------------------------------------------- avx512 */

/* Sums of pairs of 16 channels, two lanes each, in two registers: even lanes and odd ones. */
TARGET_AVX512 ALWAYS_INLINE void put_avx512(int32_t *p, const __m512i *acc) {
    const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28,
                                           30);
    const __m512i odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
    _mm512_storeu_si512(p, _mm512_add_epi32(_mm512_permutex2var_epi32(acc[0], even, acc[1]),
                                            _mm512_permutex2var_epi32(acc[0], odd, acc[1])));
}

#define FN(name) name##_avx512
#define TARGET TARGET_AVX512
#define PARTS 2
#define MAX_NV 4
#define MAX_MR 8
#define V_A __m512i
#define V_B __m512i
#define V_ACC __m512i
#define V_ZERO() _mm512_setzero_si512()
#define V_SET_A(x) _mm512_cvtepu8_epi16(_mm256_set1_epi32(x))
#define V_LOAD_B(p) _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)(p)))
#define V_ADD(x, y) _mm512_add_epi32(x, y)
#define V_DOT(acc, a, b) acc = _mm512_add_epi32(acc, _mm512_madd_epi16(a, b))
#define V_PUT(p, acc) put_avx512(p, acc)
#include "tile.h"
TILE(1, 1) TILE(2, 1) TILE(3, 1) TILE(4, 1) TILE(5, 1) TILE(6, 1) TILE(7, 1) TILE(8, 1)
TILE(1, 2) TILE(2, 2) TILE(3, 2) TILE(4, 2) TILE(5, 2)
TILE(1, 3) TILE(2, 3) TILE(3, 3) TILE(4, 3)
TILE(1, 4) TILE(2, 4) TILE(3, 4)
#include "tile_end.h"

/* ---------------------------------------------------------------------------------------- avx2 */

/* The same in four registers: pairs are added within halves of a register, whose middle quarters
 * then change places. */
TARGET_AVX2 ALWAYS_INLINE void put_avx2(int32_t *p, const __m256i *acc) {
    const __m256i x = _mm256_hadd_epi32(acc[0], acc[1]), y = _mm256_hadd_epi32(acc[2], acc[3]);
    _mm256_storeu_si256((__m256i *)p, _mm256_permute4x64_epi64(x, 0xd8));
    _mm256_storeu_si256((__m256i *)(p + 8), _mm256_permute4x64_epi64(y, 0xd8));
}

#define FN(name) name##_avx2
#define TARGET TARGET_AVX2
#define PARTS 4
#define MAX_NV 1
#define MAX_MR 3
#define V_A __m256i
#define V_B __m256i
#define V_ACC __m256i
#define V_ZERO() _mm256_setzero_si256()
#define V_SET_A(x) _mm256_cvtepu8_epi16(_mm_set1_epi32(x))
#define V_LOAD_B(p) _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(p)))
#define V_ADD(x, y) _mm256_add_epi32(x, y)
#define V_DOT(acc, a, b) acc = _mm256_add_epi32(acc, _mm256_madd_epi16(a, b))
#define V_PUT(p, acc) put_avx2(p, acc)
#include "tile.h"
TILE(1, 1) TILE(2, 1) TILE(3, 1)
#include "tile_end.h"
#endif /* MINICOMP_X86 */

/* --------------------------------------------------------------------------------------- tiles */

typedef void (*TileKernel)(const Tile *);
/* The tiles of a rung: at most nv vectors, and of v vectors at most rows[v - 1] rows. */
typedef struct {
    int nv, rows[4];
    TileKernel tiles[4][ACC_ROWS];
} Tiles;

static const Tiles tiles_portable = {1, {1}, {{tile_portable}}};
#ifdef MINICOMP_X86
static const Tiles tiles_avx2 = {1, {3}, {{tile_1x1_avx2, tile_2x1_avx2, tile_3x1_avx2}}};
static const Tiles tiles_avx512 = {4, {8, 5, 4, 3}, {
    {tile_1x1_avx512, tile_2x1_avx512, tile_3x1_avx512, tile_4x1_avx512, tile_5x1_avx512,
     tile_6x1_avx512, tile_7x1_avx512, tile_8x1_avx512},
    {tile_1x2_avx512, tile_2x2_avx512, tile_3x2_avx512, tile_4x2_avx512, tile_5x2_avx512},
    {tile_1x3_avx512, tile_2x3_avx512, tile_3x3_avx512, tile_4x3_avx512},
    {tile_1x4_avx512, tile_2x4_avx512, tile_3x4_avx512}}};
static const Tiles tiles_vnni = {4, {14, 12, 8, 6}, {
    {tile_1x1_vnni, tile_2x1_vnni, tile_3x1_vnni, tile_4x1_vnni, tile_5x1_vnni, tile_6x1_vnni,
     tile_7x1_vnni, tile_8x1_vnni, tile_9x1_vnni, tile_10x1_vnni, tile_11x1_vnni, tile_12x1_vnni,
     tile_13x1_vnni, tile_14x1_vnni},
    {tile_1x2_vnni, tile_2x2_vnni, tile_3x2_vnni, tile_4x2_vnni, tile_5x2_vnni, tile_6x2_vnni,
     tile_7x2_vnni, tile_8x2_vnni, tile_9x2_vnni, tile_10x2_vnni, tile_11x2_vnni, tile_12x2_vnni},
    {tile_1x3_vnni, tile_2x3_vnni, tile_3x3_vnni, tile_4x3_vnni, tile_5x3_vnni, tile_6x3_vnni,
     tile_7x3_vnni, tile_8x3_vnni},
    {tile_1x4_vnni, tile_2x4_vnni, tile_3x4_vnni, tile_4x4_vnni, tile_5x4_vnni, tile_6x4_vnni}}};
#endif

static inline const Tiles *gemm_tiles(int level) {
#ifdef MINICOMP_X86
    if (level >= ISA_VNNI) return &tiles_vnni;
    if (level >= ISA_AVX512) return &tiles_avx512;
    if (level >= ISA_AVX2) return &tiles_avx2;
#endif
    return &tiles_portable;
}

/* ------------------------------------------------------------------------------------ products */

/* rows of n sums, and their offset, to rows of `to`, which are `apart` entries apart. */
ALWAYS_INLINE void put_sums(const int32_t *acc, const int32_t *offset, long rows, long n,
                            int32_t *to, long apart) {
    for (long i = 0; i < rows; i++, to += apart)
        for (long c = 0; c < n; c++) to[c] = acc[i * ACC_ROW + c] + offset[c];
}

#ifdef MINICOMP_X86
TARGET_AVX512 static void put_sums_avx512(const int32_t *acc, const int32_t *offset, long rows,
                                          long n, int32_t *to, long apart) {
    for (long c = 0; c < n; c += 16) {
        const __mmask16 m = (__mmask16)(n - c >= 16 ? 0xffff : (1u << (n - c)) - 1);
        const __m512i add = _mm512_maskz_loadu_epi32(m, offset + c);
        for (long i = 0; i < rows; i++)
            _mm512_mask_storeu_epi32(to + i * apart + c, m, _mm512_add_epi32(
                add, _mm512_loadu_si512(acc + i * ACC_ROW + c)));
    }
}
#endif

/* rows of sums in acc, of n channels from o on: to where the product wants them, from row m on. */
static void gemm_put(const Product *p, const int32_t *acc, long m, long rows, long o, long n,
                     int level) {
    if (p->sums) {
        const int32_t *offset = p->offset + p->first + o;
        int32_t *to = p->sums + m * p->out + o;
#ifdef MINICOMP_X86
        if (level >= ISA_AVX512) {
            put_sums_avx512(acc, offset, rows, n, to, p->out);
            return;
        }
#endif
        put_sums(acc, offset, rows, n, to, p->out);
        return;
    }
    const Accumulators a = {acc, ACC_ROW, p->offset, rows, n, p->first + o,
                            p->y + m * p->out + o, p->out};
    requantize(&a, p->r, level);
}

/* Rows m..end of vectors v..v + nv, which are `apart` bytes a step in memory. */
static void gemm_block(const Product *p, const Tiles *tiles, long m, long end, long v, long nv,
                       const int8_t *b, long apart, int level) {
#ifdef MINICOMP_X86
    int32_t acc[ACC_ROWS * ACC_ROW] __attribute__((aligned(64)));
#else
    int32_t acc[ACC_ROWS * ACC_ROW];
#endif
    Tile t = {p->a, p->am, p->as, p->at, p->S, p->T, p->K, b, apart, acc};
    const long max = tiles->rows[nv - 1], parts = (end - m + max - 1) / max;
    const long n = p->O - 16 * v < 16 * nv ? p->O - 16 * v : 16 * nv;
    for (long i = 0; i < parts; i++) {
        const long rows = (end - m + parts - i - 1) / (parts - i);
        t.a = p->a + m * p->am;
        tiles->tiles[nv - 1][rows - 1](&t);
        gemm_put(p, acc, m, rows, 16 * v, n, level);
        m += rows;
    }
}

/* Rows m..end of panels j..last. */
static void gemm(const Product *p, long m, long end, long j, long last, int level) {
    const Tiles *tiles = gemm_tiles(level);
    const long steps = p->S * p->T * ((p->K + 3) / 4), row = p->S * p->T * p->K;
    const long most = BLOCK / (row + 1) / 24 * 24, step = most > 24 ? most : 24;
    for (; m < end; m += step) {
        const long to = end - m < step ? end : m + step;
        for (long i = j; i < last; i++) {
            const long v = gemm_panel(p->O, i), nv = gemm_panel(p->O, i + 1) - v;
            const int8_t *b = p->b + 64 * steps * v;
            for (long u = 0; u < nv; u += tiles->nv)
                gemm_block(p, tiles, m, to, v + u, nv - u < tiles->nv ? nv - u : tiles->nv,
                           b + 64 * u, 64 * nv, level);
        }
    }
}

#endif
