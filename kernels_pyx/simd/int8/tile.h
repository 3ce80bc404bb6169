/* The register tile on which the products of codes stand. Included by gemm.h once per rung, with
 * FN, TARGET, PARTS, MAX_NV and the V_ macros defined for it.
 *
 *   acc[m][n] = sum over s < S, t < T, k < K of a[m am + s as + t at + k] w[n][(s T + t) K + k]
 *
 * Output channels n lie along the lanes, four k of each side by side, as a dot product of bytes
 * takes them; four bytes of a row of a are broadcast to all of them:
 *
 *       lanes ->   | w[0][k..k+3] | w[1][k..k+3] | ... | w[15][k..k+3] |     64 bytes, a vector
 *       a[0][k..k+3] x    acc[0][0]      acc[0][1]         acc[0][15]        MR rows, NV vectors
 *
 * With VNNI a vector of 16 channels is one register of sums. Without it bytes are widened to 16
 * bits, of which an instruction multiplies and adds pairs: a channel's sum lies in two lanes (k and
 * k + 1, k + 2 and k + 3), so that a vector takes PARTS = 2 registers of AVX-512 and 4 of AVX2,
 * and halves are added at the end. (vpmaddubsw, which multiplies bytes, saturates: 32767 < 255 127
 * 2.)
 *
 * Fewer than 8 sums wait for each other, so that few rows are split into even and odd steps.
 */

/* Four k: b's vectors stay in registers and rows pass by, or (PARTS > 1) the other way round. */
#if PARTS == 1
#define STEP(u, load)                                                                              \
    {                                                                                              \
        V_B row[4];                                                                                \
        UNROLL for (int v = 0; v < NV; v++) row[v] = V_LOAD_B(b + v * 64);                         \
        UNROLL for (int r = 0; r < MR; r++) {                                                      \
            const V_A x = V_SET_A(load(a[r / 3] + r % 3 * am));                                    \
            UNROLL for (int v = 0; v < NV; v++) V_DOT(acc[u][r][v], x, row[v]);                    \
        }                                                                                          \
    }
#else
#define STEP(u, load)                                                                              \
    {                                                                                              \
        V_A x[MAX_MR];                                                                             \
        UNROLL for (int r = 0; r < MR; r++) x[r] = V_SET_A(load(a[r / 3] + r % 3 * am));           \
        UNROLL for (int v = 0; v < NV * PARTS; v++) {                                              \
            const V_B row = V_LOAD_B(b + v * (64 / PARTS));                                        \
            UNROLL for (int r = 0; r < MR; r++) V_DOT(acc[u][r][v], x[r], row);                    \
        }                                                                                          \
    }
#endif
#define NEXT()                                                                                     \
    {                                                                                              \
        b += bk;                                                                                   \
        UNROLL for (int q = 0; q < (MR + 2) / 3; q++) a[q] += 4;                                   \
    }
#define REST(p) load_rest(p, k)

/* One tile of MR rows and NV vectors; MR and NV are constants where this is inlined. */
TARGET ALWAYS_INLINE void FN(tile)(const Tile *t, const int MR, const int NV) {
    const int split = MR * NV * PARTS <= 4 ? 2 : 1;
    const long am = t->am, bk = t->bk;
    V_ACC acc[2][MAX_MR][MAX_NV * PARTS];
    UNROLL for (int u = 0; u < split; u++)
        UNROLL for (int r = 0; r < MR; r++)
            UNROLL for (int v = 0; v < NV * PARTS; v++) acc[u][r][v] = V_ZERO();
    const int8_t *b = t->b;
    for (long s = 0; s < t->S; s++)
        for (long i = 0; i < t->T; i++) {
            const uint8_t *a[(MAX_MR + 2) / 3];
            UNROLL for (int q = 0; q < (MR + 2) / 3; q++)
                a[q] = t->a + s * t->as + i * t->at + 3 * q * am;
            long k = t->K;
            if (split == 2)
                for (; k >= 8; k -= 8) {
                    STEP(0, load_four)
                    NEXT()
                    STEP(1, load_four)
                    NEXT()
                }
            for (; k >= 4; k -= 4) {
                STEP(0, load_four)
                NEXT()
            }
            if (k > 0) {
                STEP(0, REST)
                NEXT()
            }
        }
    UNROLL for (int r = 0; r < MR; r++)
        UNROLL for (int v = 0; v < NV; v++) {
            if (split == 2)
                UNROLL for (int p = 0; p < PARTS; p++)
                    acc[0][r][v * PARTS + p] = V_ADD(acc[0][r][v * PARTS + p],
                                                     acc[1][r][v * PARTS + p]);
            V_PUT(t->acc + r * ACC_ROW + v * 16, acc[0][r] + v * PARTS);
        }
}
#undef STEP
#undef NEXT
#undef REST

#define TILE(MR, NV) TARGET static void FN(tile_##MR##x##NV)(const Tile *t) { FN(tile)(t, MR, NV); }
