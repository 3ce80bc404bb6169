/* What comes next, asked for while a kernel works.
 *
 * Maps of a batch do not fit L2, and many not L3. A kernel takes them 16 channels at a time, or
 * after others have gone over them, in jumps that no processor foresees; so it asks for the next
 * image's, into L2, a few cache lines after each piece of work: all at once would keep its own
 * loads waiting. No bit depends on it.
 */
#ifndef MINICOMP_AHEAD_H
#define MINICOMP_AHEAD_H

#include "../isa.h"

#ifdef __GNUC__
#define AHEAD_LINE(p) __builtin_prefetch(p, 0, 2)
#else
#define AHEAD_LINE(p) ((void)(p))
#endif

/* Two runs of memory, and how many cache lines are left of each. */
typedef struct { const float *run[2]; long lines[2]; } Ahead;

/* What lies behind the n floats at x and the m at y, as many again: the next image's maps; nothing
 * where there is none. */
static inline Ahead ahead_of(const float *x, long n, const float *y, long m, int some) {
    const Ahead next = {{x + n, y + m}, {some ? (n + 15) / 16 : 0, some ? (m + 15) / 16 : 0}};
    return next;
}

/* How many lines each of so many pieces of work asks for; ahead: 0 for none. */
static inline long ahead_share(const Ahead *ahead, long pieces) {
    return ahead ? (ahead->lines[0] + ahead->lines[1] + pieces - 1) / pieces : 0;
}

/* Asks for so many more. */
ALWAYS_INLINE void ahead_ask(Ahead *ahead, long lines) {
    for (int r = 0; r < 2; r++) {
        const long n = lines < ahead->lines[r] ? lines : ahead->lines[r];
        for (long k = 0; k < n; k++) AHEAD_LINE(ahead->run[r] + 16 * k);
        ahead->run[r] += 16 * n;
        ahead->lines[r] -= n;
        lines -= n;
    }
}

#endif
