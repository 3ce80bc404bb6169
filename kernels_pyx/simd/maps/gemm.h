/* Small matrix products in registers, for every rung (see tile.h). The portable rung has none:
 * there the caller uses im2col and BLAS. */
#ifndef MINICOMP_GEMM_H
#define MINICOMP_GEMM_H

#include "ahead.h"

/* The operands of tile.h: floats at a, b, c; strides in floats; init: a row to start from, or 0 for
 * zeros; add: add to c instead of overwriting it; ahead: what to ask for meanwhile, or 0. */
typedef struct {
    const float *a; long am, as, ak;
    const float *b; long bs, bk;
    float *c; long cm;
    const float *init;
    long S, K, N;
    int add;
    Ahead *ahead;
} Tile;

#define GEMM_PER_LINE 32 /* multiply-adds of vectors for which a cache line is asked for */

#ifdef MINICOMP_X86

#define LANES 16
#define FN(name) name##_avx512
#define TARGET TARGET_AVX512
#define V __m512
#define M __mmask16
#define V_ZERO() _mm512_setzero_ps()
#define V_MASK(n) ((__mmask16)((n) >= 16 ? 0xffff : (1u << (n)) - 1))
#define V_LOAD(p) _mm512_loadu_ps(p)
#define V_LOADM(m, p) _mm512_maskz_loadu_ps(m, p)
#define V_STORE(p, x) _mm512_storeu_ps(p, x)
#define V_STOREM(p, m, x) _mm512_mask_storeu_ps(p, m, x)
#define V_SET1(p) _mm512_set1_ps(*(p))
#define V_ADD(x, y) _mm512_add_ps(x, y)
#define V_FMA(x, y, z) _mm512_fmadd_ps(x, y, z)
#include "tile.h"
#undef LANES
#undef FN
#undef TARGET
#undef V
#undef M
#undef V_ZERO
#undef V_MASK
#undef V_LOAD
#undef V_LOADM
#undef V_STORE
#undef V_STOREM
#undef V_SET1
#undef V_ADD
#undef V_FMA

/* -1 in the first n lanes: the mask that vmaskmovps wants. */
static const int avx2_lanes[16] = {-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0};

#define LANES 8
#define FN(name) name##_avx2
#define TARGET TARGET_AVX2
#define V __m256
#define M __m256i
#define V_ZERO() _mm256_setzero_ps()
#define V_MASK(n) _mm256_loadu_si256((const __m256i *)(avx2_lanes + 8 - ((n) >= 8 ? 8 : (n))))
#define V_LOAD(p) _mm256_loadu_ps(p)
#define V_LOADM(m, p) _mm256_maskload_ps(p, m)
#define V_STORE(p, x) _mm256_storeu_ps(p, x)
#define V_STOREM(p, m, x) _mm256_maskstore_ps(p, m, x)
#define V_SET1(p) _mm256_broadcast_ss(p)
#define V_ADD(x, y) _mm256_add_ps(x, y)
#define V_FMA(x, y, z) _mm256_fmadd_ps(x, y, z)
#include "tile.h"
#undef LANES
#undef FN
#undef TARGET
#undef V
#undef M
#undef V_ZERO
#undef V_MASK
#undef V_LOAD
#undef V_LOADM
#undef V_STORE
#undef V_STOREM
#undef V_SET1
#undef V_ADD
#undef V_FMA

#endif /* MINICOMP_X86 */
#endif
