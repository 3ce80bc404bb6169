/* Tiles of rungs that count bits by looking bytes up. Included by gemm.h once per rung, with FN,
 * TARGET, V, LANES, TERNARY and the V_ macros defined for it.
 *
 *   pop[m][n] = sum over w < W of popcount(a[m][w] ^ b[w][n])
 *
 * A panel's 8 columns n lie along the lanes, word by word, and a word of a row of a is broadcast to
 * all of them; what differs must be counted in each lane:
 *
 *       lanes ->   | b[w][0] | b[w][1] | ... | b[w][7] |      64 bytes: a vector, or two of AVX2
 *       a[0][w] ^    x[0]      x[1]            x[7]
 *
 * A byte's set bits are those of its halves, which vpshufb looks up in a table of 16; counts stay
 * bytes, which hold 31 words of at most 8, until vpsadbw adds the eight of a lane. Longer rows are
 * left to harley.
 *
 *   bytes    each word is looked up: 8 instructions a word
 *   harley   Harley and Seal: carry-save adders make of 16 words one of weight 16, and keep four of
 *            weight 8, 4, 2, 1 for the next, so that one word of 16 is looked up
 *
 * Source: Mula, Kurz, Lemire 2018, arXiv 1611.07612
 */

TARGET ALWAYS_INLINE V FN(ones)(V x) { /* set bits of each byte */
    const V table = V_TABLE(), low = V_BYTES(15);
    return V_ADD8(V_LOOK(table, V_AND(x, low)), V_LOOK(table, V_AND(V_SHIFT4(x), low)));
}

TARGET ALWAYS_INLINE V FN(differ)(const uint64_t *a, const uint64_t *b) {
    return V_XOR(V_WORD(a), V_LOAD(b));
}

/* a + b + c of each bit: its low digit stays in a, its high one is returned. */
TARGET ALWAYS_INLINE V FN(carry)(V *a, V b, V c) {
#if TERNARY
    const V high = V_MAJOR(*a, b, c);
    *a = V_XOR3(*a, b, c);
    return high;
#else
    const V x = V_XOR(b, c), high = V_OR(V_AND(b, c), V_AND(x, *a)); /* a comes last: it waits */
    *a = V_XOR(x, *a);
    return high;
#endif
}

TARGET ALWAYS_INLINE V FN(twice)(V x) { return V_ADD8(x, x); }

/* Words w..W of MR rows of one vector of columns, each looked up: with what bytes count, to pop. */
TARGET ALWAYS_INLINE void FN(rest)(const uint64_t *a, long am, const uint64_t *b, long w, long W,
                                   V *bytes, V *pop, const int MR) {
    for (; w < W; w++) {
        const V column = V_LOAD(b + 8 * w);
        UNROLL for (int r = 0; r < MR; r++)
            bytes[r] = V_ADD8(bytes[r], FN(ones)(V_XOR(V_WORD(a + r * am + w), column)));
    }
    UNROLL for (int r = 0; r < MR; r++) pop[r] = V_ADD64(pop[r], V_SAD(bytes[r]));
}

/* Sixteen words: of weight 16 in all, what is returned; state: of weight 1, 2, 4, 8. */
TARGET ALWAYS_INLINE V FN(sixteen)(const uint64_t *a, const uint64_t *b, V *state) {
    V four[2], two[2], eight[2];
    UNROLL for (int i = 0; i < 2; i++) {
        UNROLL for (int j = 0; j < 2; j++) {
            UNROLL for (int k = 0; k < 2; k++) {
                const int w = 8 * i + 4 * j + 2 * k;
                two[k] = FN(carry)(state, FN(differ)(a + w, b + 8 * w),
                                   FN(differ)(a + w + 1, b + 8 * w + 8));
            }
            four[j] = FN(carry)(state + 1, two[0], two[1]);
        }
        eight[i] = FN(carry)(state + 2, four[0], four[1]);
    }
    return FN(carry)(state + 3, eight[0], eight[1]);
}

/* MR rows of one vector of columns; MR is a constant where this is inlined. */
TARGET ALWAYS_INLINE void FN(harley)(const uint64_t *a, long am, const uint64_t *b, long W, V *pop,
                                     const int MR) {
    V state[MOST_ROWS][4], bytes[MOST_ROWS];
    UNROLL for (int r = 0; r < MR; r++) {
        pop[r] = V_BYTES(0);
        UNROLL for (int i = 0; i < 4; i++) state[r][i] = V_BYTES(0);
    }
    long w = 0;
    for (; w + 16 <= W; w += 16)
        UNROLL for (int r = 0; r < MR; r++) {
            const V high = FN(sixteen)(a + r * am + w, b + 8 * w, state[r]);
            pop[r] = V_ADD64(pop[r], V_SAD(FN(ones)(high)));
        }
    UNROLL for (int r = 0; r < MR; r++) {
        pop[r] = V_SHIFT_LEFT4(pop[r]);
        /* 8 eights + 4 fours + 2 twos + ones: at most 120 in a byte, and 15 words of 8 more */
        bytes[r] = V_BYTES(0);
        UNROLL for (int i = 3; i >= 0; i--)
            bytes[r] = V_ADD8(FN(twice)(bytes[r]), FN(ones)(state[r][i]));
    }
    FN(rest)(a, am, b, w, W, bytes, pop, MR);
}

/* The same, of rows of at most 31 words. */
TARGET ALWAYS_INLINE void FN(bytes)(const uint64_t *a, long am, const uint64_t *b, long W, V *pop,
                                    const int MR) {
    V bytes[MOST_ROWS];
    UNROLL for (int r = 0; r < MR; r++) pop[r] = bytes[r] = V_BYTES(0);
    FN(rest)(a, am, b, 0, W, bytes, pop, MR);
}

#define TILE(how, MR)                                                                              \
    TARGET static void FN(how##_##MR)(const Tile *t) {                                             \
        for (int v = 0; v < 8; v += LANES) {                                                       \
            V pop[MR];                                                                             \
            FN(how)(t->a, t->am, t->b + v, t->W, pop, MR);                                         \
            UNROLL for (int r = 0; r < MR; r++)                                                    \
                V_PUT(t->out + r * t->os + v, pop[r], t->K);                                       \
        }                                                                                          \
    }
