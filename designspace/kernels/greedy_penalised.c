/* Greedy selection under a penalty for the largest similarity to what has been chosen, one head after the other.
 *
 * A slot's similarities are computed when it is chosen, so those between slots that nobody chose never are.
 * features: [heads, dim, padded slots], padded to a multiple of 64; scores, penalty, gain: [heads, slots], all three
 * overwritten; candidates: [heads, slots]; n_picks: [heads]; chosen: [heads, slots], set to 1 where picked; similar: scratch
 * [threads, padded slots]. Ties go to the later slot. */
#include <float.h>
#include <omp.h>
#include <stdint.h>

#include "lanes.h"

static const float NEVER = -FLT_MAX; /* the score and the gain of what cannot be picked, or no more */

/* similar[c] = features of `one` . features of c; 64 slots at a time stay in registers. */
static void similarities(const float *features, int64_t dim, int64_t padded, int64_t one, float *similar) {
    for (int64_t c = 0; c < padded; c += 64) {
        Lanes sum[4] = {0};
        for (int64_t d = 0; d < dim; d++) {
            const float *row = features + d * padded;
            for (int i = 0; i < 4; i++) sum[i] += row[one] * *(const Lanes *)(row + c + 16 * i);
        }
        for (int i = 0; i < 4; i++) *(Lanes *)(similar + c + 16 * i) = sum[i];
    }
}

void greedy_penalised(int64_t heads, int64_t slots, int64_t dim, int64_t padded, int32_t threads, float weight,
                      const float *features, float *scores, float *penalty, float *gain, const uint8_t *candidates,
                      const int64_t *n_picks, uint8_t *chosen, float *similar) {
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1)
    for (int64_t head = 0; head < heads; head++) {
        float *score = scores + head * slots, *p = penalty + head * slots, *g = gain + head * slots;
        float *closeness = similar + omp_get_thread_num() * padded, most = NEVER;
        for (int64_t c = 0; c < slots; c++) {
            if (!candidates[head * slots + c]) score[c] = g[c] = NEVER;
            most = g[c] > most ? g[c] : most;
        }
        for (int64_t i = 0; i < n_picks[head] && most > NEVER; i++) {
            int32_t best = -1;
            for (int64_t c = 0; c < slots; c++) best = g[c] >= most ? (int32_t)c : best; /* the last that has the most */
            chosen[head * slots + best] = 1;
            score[best] = most = NEVER;
            similarities(features + head * dim * padded, dim, padded, best, closeness);
            for (int64_t c = 0; c < slots; c++) {
                float penalised = weight * closeness[c];
                p[c] = penalised > p[c] ? penalised : p[c];
                g[c] = score[c] > NEVER ? score[c] - p[c] : NEVER;
                most = g[c] > most ? g[c] : most;
            }
        }
    }
}
