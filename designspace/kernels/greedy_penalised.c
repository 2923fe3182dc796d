/* Greedy selection under a penalty for the largest similarity to what has been chosen, one head after the other.
 *
 * The same float operations in the same order as the plain loop, so the picks are the same to the bit.
 * similarity: [heads, slots, slots]; scores, penalty, gain: [heads, slots], all three overwritten; candidates: [heads, slots];
 * n_picks: [heads]; chosen: [heads, slots], set to 1 where picked. Ties go to the later slot. */
#include <float.h>
#include <stdint.h>

static const float NEVER = -FLT_MAX; /* the score and the gain of what cannot be picked, or no more */

void greedy_penalised(int64_t heads, int64_t slots, int32_t threads, float weight, const float *similarity, float *scores,
                      float *penalty, float *gain, const uint8_t *candidates, const int64_t *n_picks, uint8_t *chosen) {
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1)
    for (int64_t head = 0; head < heads; head++) {
        float *score = scores + head * slots, *p = penalty + head * slots, *g = gain + head * slots;
        float most = NEVER;
        for (int64_t c = 0; c < slots; c++) {
            if (!candidates[head * slots + c]) score[c] = g[c] = NEVER;
            most = g[c] > most ? g[c] : most;
        }
        for (int64_t i = 0; i < n_picks[head] && most > NEVER; i++) {
            int32_t best = -1;
            for (int64_t c = 0; c < slots; c++) best = g[c] >= most ? (int32_t)c : best; /* the last that has the most */
            chosen[head * slots + best] = 1;
            score[best] = NEVER;
            const float *row = similarity + (head * slots + best) * slots;
            most = NEVER;
            for (int64_t c = 0; c < slots; c++) {
                float similar = weight * row[c];
                p[c] = similar > p[c] ? similar : p[c];
                g[c] = score[c] > NEVER ? score[c] - p[c] : NEVER;
                most = g[c] > most ? g[c] : most;
            }
        }
    }
}
