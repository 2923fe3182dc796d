/* Greedy selection under a penalty for the largest similarity to what has been chosen, one head after the other.
 *
 * The same float operations in the same order as the plain loop, so the picks are the same to the bit.
 * similarity: [heads, slots, slots], weighted; scores, penalty, gain: [heads, slots]; penalty and gain are updated;
 * candidates: [heads, slots]; n_picks: [heads]; chosen: [heads, slots], set to 1 where picked. Ties go to the later slot. */
#include <float.h>
#include <stdint.h>

void greedy_penalised(int64_t heads, int64_t slots, int32_t threads, const float *similarity, const float *scores,
                      float *penalty, float *gain, const uint8_t *candidates, const int64_t *n_picks, uint8_t *chosen) {
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1)
    for (int64_t head = 0; head < heads; head++) {
        const float *score = scores + head * slots;
        const uint8_t *candidate = candidates + head * slots;
        float *p = penalty + head * slots, *g = gain + head * slots;
        uint8_t *taken = chosen + head * slots;
        for (int64_t i = 0; i < n_picks[head]; i++) {
            int32_t best = -1;
            float most = -FLT_MAX;
            for (int64_t c = 0; c < slots; c++) { /* the largest gain … */
                float value = candidate[c] & !taken[c] ? g[c] : -FLT_MAX;
                most = value > most ? value : most;
            }
            for (int64_t c = 0; c < slots; c++) /* … and the last slot that has it */
                best = candidate[c] & !taken[c] & (g[c] >= most) ? (int32_t)c : best;
            if (best < 0) break;
            taken[best] = 1;
            const float *row = similarity + (head * slots + best) * slots;
            for (int64_t c = 0; c < slots; c++) {
                p[c] = row[c] > p[c] ? row[c] : p[c];
                g[c] = score[c] - p[c];
            }
        }
    }
}
