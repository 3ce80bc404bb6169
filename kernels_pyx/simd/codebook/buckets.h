/* The gradient of signed buckets: out[j] = the sum of +-g over the places of bucket j.
 *
 *     places   [ 2 p | sign ]   those of bucket j from starts[j] to starts[j + 1], ascending in p
 *
 * Sums run in double, in the order of the places. Additions to one sum wait for each other, those
 * of neighbouring buckets do not: the processor overlaps them, and a list of few places has no use
 * for lanes. The sign is the lowest bit, moved to the sign bit of the float.
 */
#ifndef MINICOMP_BUCKETS_H
#define MINICOMP_BUCKETS_H

#include <stdint.h>
#include <string.h>

static void bucket_sums(const float *g, const unsigned int *places, const int64_t *starts, long k,
                        float *out) {
    for (long j = 0; j < k; j++) {
        double total = 0;
        for (int64_t t = starts[j]; t < starts[j + 1]; t++) {
            uint32_t bits;
            float x;
            memcpy(&bits, g + (places[t] >> 1), sizeof bits);
            bits ^= (uint32_t)places[t] << 31;
            memcpy(&x, &bits, sizeof x);
            total += x;
        }
        out[j] = (float)total;
    }
}

#endif
