/* The register tile on which convolution and the linear layer stand. Included by gemm.h once per
 * rung, with LANES, V and the V_ macros defined for it.
 *
 *   c[m][n] (+)= sum_{s < S, k < K} a[m am + s as + k ak] * b[s bs + k bk + n]     m < M, n < N
 *
 * Rows of b lie along the vector lanes, entries of a are broadcast to all of them:
 *
 *       lanes ->   | b[k][0..15] | b[k][16..31] |        NV vectors, the last one masked to N
 *       a[0][k] x  | acc[0][0]   | acc[0][1]    |
 *       a[1][k] x  | acc[1][0]   | acc[1][1]    |        MR rows
 *
 * Per k: NV loads and MR broadcasts feed MR NV multiply-adds. The accumulators never leave the
 * registers (32 of AVX-512: 6 x 4, 8 x 3, 12 x 2 leave room for b and one a; 16 of AVX2: 6 x 2).
 * Fewer than 8 accumulators wait for each other: a multiply-add takes 4 cycles, two start in each.
 *
 * That a is addressed by three strides is what makes one tile serve everything without im2col:
 *
 *                     rows m          s               k             lanes n
 *   conv              output pixels   kernel row      (kw, c)       o
 *   conv, dx          output pixels   kernel row      o             (kw, c)
 *   conv, dw          (kw, c) or o    output row      output pixel  o or (kw, c)
 *   matmul            rows            -               k             columns
 */

/* One tile of MR x NV vectors; MR and NV are constants where this is inlined. */
TARGET ALWAYS_INLINE void FN(tile)(const Tile *t, const int MR, const int NV) {
    V acc[14][4];
    const float *a[5];
    const M last = V_MASK(t->N - (NV - 1) * LANES);
    UNROLL for (int r = 0; r < MR; r++)
        UNROLL for (int v = 0; v < NV; v++)
            acc[r][v] = t->init == 0 ? V_ZERO() : v < NV - 1 ? V_LOAD(t->init + v * LANES)
                                                : V_LOADM(last, t->init + v * LANES);
    for (long s = 0; s < t->S; s++) {
        const float *b = t->b + s * t->bs;
        UNROLL for (int q = 0; q < (MR + 2) / 3; q++) a[q] = t->a + s * t->as + 3 * q * t->am;
        for (long k = 0; k < t->K; k++) {
            V row[4];
            UNROLL for (int v = 0; v < NV - 1; v++) row[v] = V_LOAD(b + v * LANES);
            row[NV - 1] = V_LOADM(last, b + (NV - 1) * LANES);
            UNROLL for (int r = 0; r < MR; r++) {
                const V x = V_SET1(a[r / 3] + r % 3 * t->am);
                UNROLL for (int v = 0; v < NV; v++) acc[r][v] = V_FMA(x, row[v], acc[r][v]);
            }
            b += t->bk;
            UNROLL for (int q = 0; q < (MR + 2) / 3; q++) a[q] += t->ak;
        }
    }
    /* Row by row: where rows of c overlap (conv, dx), each adds to what the one before left. */
    UNROLL for (int r = 0; r < MR; r++) {
        float *c = t->c + r * t->cm;
        UNROLL for (int v = 0; v < NV - 1; v++)
            V_STORE(c + v * LANES, t->add ? V_ADD(V_LOAD(c + v * LANES), acc[r][v]) : acc[r][v]);
        c += (NV - 1) * LANES;
        V_STOREM(c, last, t->add ? V_ADD(V_LOADM(last, c), acc[r][NV - 1]) : acc[r][NV - 1]);
    }
}

#define TILE(MR, NV) TARGET static void FN(tile_##MR##x##NV)(const Tile *t) { FN(tile)(t, MR, NV); }
#define TILES6(NV) TILE(1, NV) TILE(2, NV) TILE(3, NV) TILE(4, NV) TILE(5, NV) TILE(6, NV)
#define NAMES6(NV) FN(tile_1x##NV), FN(tile_2x##NV), FN(tile_3x##NV), FN(tile_4x##NV), \
                   FN(tile_5x##NV), FN(tile_6x##NV)
TILES6(1) TILES6(2) TILE(7, 1) TILE(8, 1) TILE(9, 1) TILE(10, 1) TILE(11, 1) TILE(12, 1)
#if LANES == 16
TILES6(3) TILES6(4) TILE(7, 2) TILE(8, 2) TILE(9, 2) TILE(10, 2) TILE(11, 2) TILE(12, 2)
TILE(7, 3) TILE(8, 3)
static const int FN(max_rows)[4] = {12, 12, 8, 6};
#define MAX_NV 4
#else
static const int FN(max_rows)[2] = {12, 6};
#define MAX_NV 2
#endif
static void (*const FN(tiles)[MAX_NV][12])(const Tile *) = {
    {NAMES6(1), FN(tile_7x1), FN(tile_8x1), FN(tile_9x1), FN(tile_10x1), FN(tile_11x1),
     FN(tile_12x1)},
#if LANES == 16
    {NAMES6(2), FN(tile_7x2), FN(tile_8x2), FN(tile_9x2), FN(tile_10x2), FN(tile_11x2),
     FN(tile_12x2)},
    {NAMES6(3), FN(tile_7x3), FN(tile_8x3)},
    {NAMES6(4)},
#else
    {NAMES6(2)},
#endif
};

/* All of c: columns in chunks of up to MAX_NV vectors, rows in equal parts of at most max_rows.
 * b's chunk is read once per part and stays in the caches; equal parts, because a part of one or
 * two rows would wait for its own accumulators. */
static inline void FN(gemm)(const Tile *whole, long rows) {
    Tile t = *whole;
    const long chunks = (whole->N + MAX_NV * LANES - 1) / (MAX_NV * LANES);
    const long vectors = (whole->N + LANES - 1) / LANES;
    for (long j = 0, v = 0; j < chunks; j++) {
        const long nv = (vectors - v + chunks - j - 1) / (chunks - j);
        const long max = FN(max_rows)[nv - 1], parts = (rows + max - 1) / max;
        t.b = whole->b + v * LANES;
        t.init = whole->init ? whole->init + v * LANES : 0;
        t.N = whole->N - v * LANES < nv * LANES ? whole->N - v * LANES : nv * LANES;
        for (long p = 0, m = 0; p < parts; p++) {
            const long mr = (rows - m + parts - p - 1) / (parts - p);
            t.a = whole->a + m * whole->am;
            t.c = whole->c + m * whole->cm + v * LANES;
            FN(tiles)[nv - 1][mr - 1](&t);
            if (t.ahead) ahead_ask(t.ahead, mr * nv * t.S * t.K / GEMM_PER_LINE);
            m += mr;
        }
        v += nv;
    }
}
#undef TILE
#undef TILES6
#undef NAMES6
#undef MAX_NV
