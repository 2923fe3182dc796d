/* Greedy selection under a penalty for the largest similarity to what has been chosen, one head after the other.
 *
 * A slot's similarities are computed when it is chosen, so those between slots that nobody chose never are, and only to slots
 * that can still be chosen: those are kept side by side in columns, and the last one takes the place of the one that leaves.
 * features: [heads, slots, dim]; scores, penalty, gain, candidates: [heads, slots]; n_picks: [heads];
 * chosen: [heads, slots], set to 1 where picked; scratch: [threads, stride * (dim + 6)] of finite numbers. stride: more than
 * the slots, filled up to a multiple of 64. Ties go to the later slot. */
#include <float.h>
#include <omp.h>
#include <stdint.h>

#include "lanes.h"

typedef struct {
    int64_t n, dim, stride;
    float *features; /* [dim, stride], so that the comparison of one column with all others runs along memory */
    float *score, *penalty, *gain, *similar;
    int32_t *slot, *column; /* of a column, its slot; of a slot, its column */
} Columns;

static Columns columns_in(float *scratch, int64_t dim, int64_t stride) {
    float *row = scratch + dim * stride;
    return (Columns){0,   dim,          stride,           scratch,          row, row + stride, row + 2 * stride,
                     row + 3 * stride, (int32_t *)(row + 4 * stride), (int32_t *)(row + 5 * stride)};
}

static void add(Columns *x, int64_t slot, const float *features, float score, float penalty, float gain) {
    int64_t c = x->n++;
    for (int64_t d = 0; d < x->dim; d++) x->features[d * x->stride + c] = features[d];
    x->score[c] = score, x->penalty[c] = penalty, x->gain[c] = gain;
    x->slot[c] = (int32_t)slot, x->column[slot] = (int32_t)c;
}

/* similar[c] = features of `one` . features of c; 64 columns at a time stay in registers. */
static void compare(Columns *x, int64_t one) {
    for (int64_t c = 0; c < x->n; c += 64) {
        Lanes sum[4] = {0};
        for (int64_t d = 0; d < x->dim; d++) {
            const float *row = x->features + d * x->stride;
            for (int i = 0; i < 4; i++) sum[i] += row[one] * *(const Lanes *)(row + c + 16 * i);
        }
        for (int i = 0; i < 4; i++) *(Lanes *)(x->similar + c + 16 * i) = sum[i];
    }
}

static void leave(Columns *x, int64_t one) {
    int64_t last = --x->n;
    for (int64_t d = 0; d < x->dim; d++) x->features[d * x->stride + one] = x->features[d * x->stride + last];
    x->score[one] = x->score[last], x->penalty[one] = x->penalty[last], x->similar[one] = x->similar[last];
    x->slot[one] = x->slot[last], x->column[x->slot[one]] = (int32_t)one;
}

/* Return the slot of the largest gain, the later one of equals. */
static int32_t best_of(const Columns *x) {
    float most = -FLT_MAX;
    int32_t best = -1;
    for (int64_t c = 0; c < x->n; c++) most = x->gain[c] > most ? x->gain[c] : most;
    for (int64_t c = 0; c < x->n; c++) best = x->gain[c] >= most && x->slot[c] > best ? x->slot[c] : best;
    return best;
}

void greedy_penalised(int64_t heads, int64_t slots, int64_t dim, int64_t stride, int32_t threads, float weight,
                      const float *features, const float *scores, const float *penalty, const float *gain,
                      const uint8_t *candidates, const int64_t *n_picks, uint8_t *chosen, float *scratch) {
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1)
    for (int64_t head = 0; head < heads; head++) {
        Columns x = columns_in(scratch + omp_get_thread_num() * stride * (dim + 6), dim, stride);
        for (int64_t slot = 0, at = head * slots; slot < slots; slot++, at++)
            if (candidates[at]) add(&x, slot, features + at * dim, scores[at], penalty[at], gain[at]);
        for (int64_t i = 0; i < n_picks[head] && x.n > 0; i++) {
            int32_t best = best_of(&x), one = x.column[best];
            chosen[head * slots + best] = 1;
            compare(&x, one);
            leave(&x, one);
            for (int64_t c = 0; c < x.n; c++) {
                float penalised = weight * x.similar[c];
                x.penalty[c] = penalised > x.penalty[c] ? penalised : x.penalty[c];
                x.gain[c] = x.score[c] - x.penalty[c];
            }
        }
    }
}
