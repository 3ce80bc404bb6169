/* Cross-entropy of labels, float32.   z (N, K) logits, t the target: 1 - s at the label, plus s / K
 *
 *   p[k] = exp(z[k] - top) / total        loss = log(total) - sum_k t[k] (z[k] - top)
 *   dz[k] = g (p[k] - t[k])               top the largest logit, total the sum of the exponentials
 *
 * Plain C: a batch has a few hundred logits, and the calls that NumPy takes for them cost ten times
 * the arithmetic. Sums run in double.
 */
#ifndef MINICOMP_SOFTMAX_H
#define MINICOMP_SOFTMAX_H

#include <math.h>
#include <stdint.h>
#include "../isa.h"

/* Returns N, or the first row whose label is none of 0..K-1, where it stops. */
static long softmax_losses(const float *z, const int64_t *label, long N, long K, double s,
                           float *loss, float *p) {
    for (long n = 0; n < N; n++, z += K, p += K) {
        const int64_t y = label[n];
        float top = z[0];
        double total = 0, spread = 0;
        if (y < 0 || y >= K) return n;
        for (long k = 1; k < K; k++) top = z[k] > top ? z[k] : top;
        for (long k = 0; k < K; k++) {
            p[k] = expf(z[k] - top);
            total += p[k];
        }
        for (long k = 0; s && k < K; k++) spread += z[k] - top;
        const float share = (float)(1.0 / total);
        for (long k = 0; k < K; k++) p[k] *= share;
        loss[n] = (float)(log(total) - (1.0 - s) * (z[y] - top) - s / K * spread);
    }
    return N;
}

/* Returns what softmax_losses returns. */
static long softmax_losses_dz(const float *g, const float *p, const int64_t *label, long N, long K,
                              double s, float *dz) {
    const float at = (float)(1.0 - s), all = (float)(s / K);
    for (long n = 0; n < N; n++, p += K, dz += K) {
        if (label[n] < 0 || label[n] >= K) return n;
        for (long k = 0; k < K; k++) dz[k] = g[n] * (p[k] - all);
        dz[label[n]] = g[n] * (p[label[n]] - all - at);
    }
    return N;
}

#endif
