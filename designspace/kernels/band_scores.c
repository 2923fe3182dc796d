/* Linear scores of rotary keys in their halves and in the moduli of their bands, without writing the moduli down.
 *
 * A key of F bands keeps their real parts first, then their imaginary parts. A query head weighs real, imaginary, modulus:
 * scores[head][g][c] = sum over bands f of w[f] re + w[F + f] im + w[2 F + f] sqrt(re^2 + im^2).
 * keys: [heads, slots, 2 F], float32 or, where `half`, bfloat16, which is widened one head at a time into room: [threads, slots,
 * 2 F]; weights: [heads, group, 3 F]; scores: [heads, group, slots]; F a multiple of 16, group <= 16. */
#include <omp.h>

#include "lanes.h"

enum { MOST_GROUP = 16, BLOCK = 16 };

static inline Lanes moduli(Lanes real, Lanes imaginary) {
    Lanes square = real * real + imaginary * imaginary, modulus;
    for (int i = 0; i < 16; i++) modulus[i] = __builtin_sqrtf(square[i]);
    return modulus;
}

static inline __attribute__((always_inline)) void score_head(const float *keys, const float *weights, float *scores,
                                                             int64_t slots, int64_t group, int64_t bands) {
    for (int64_t first = 0; first < slots; first += BLOCK) {
        Lanes part[MOST_GROUP][BLOCK];
        for (int64_t c = 0; c < BLOCK; c++) {
            const float *key = keys + 2 * bands * (first + c < slots ? first + c : slots - 1);
            for (int64_t g = 0; g < group; g++) part[g][c] = (Lanes){0};
            for (int64_t f = 0; f < bands; f += 16) {
                Lanes real = *(const Lanes *)(key + f), imaginary = *(const Lanes *)(key + bands + f);
                Lanes modulus = moduli(real, imaginary);
                for (int64_t g = 0; g < group; g++) {
                    const float *w = weights + 3 * bands * g + f;
                    part[g][c] += *(const Lanes *)w * real + *(const Lanes *)(w + bands) * imaginary +
                                  *(const Lanes *)(w + 2 * bands) * modulus;
                }
            }
        }
        for (int64_t g = 0; g < group; g++) {
            Lanes sum = sums(part[g]);
            for (int64_t c = 0; c < BLOCK && first + c < slots; c++) scores[g * slots + first + c] = sum[c];
        }
    }
}

typedef uint32_t Word __attribute__((may_alias));

/* A bfloat16 is the upper half of a float32. */
static const float *widened(const uint16_t *halves, float *room, int64_t n) {
    for (int64_t i = 0; i < n; i++) ((Word *)room)[i] = (uint32_t)halves[i] << 16;
    return room;
}

void band_scores(int64_t heads, int64_t slots, int64_t group, int64_t bands, int32_t threads, int32_t half, const void *keys,
                 const float *weights, float *scores, float *room) {
    const int64_t size = slots * 2 * bands;
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1)
    for (int64_t head = 0; head < heads; head++) {
        const float *k = half ? widened((const uint16_t *)keys + head * size, room + omp_get_thread_num() * size, size)
                              : (const float *)keys + head * size;
        const float *w = weights + head * group * 3 * bands;
        float *s = scores + head * group * slots;
        switch (bands) { /* a constant lets the compiler unroll */
            case 16: score_head(k, w, s, slots, group, 16); break;
            case 32: score_head(k, w, s, slots, group, 32); break;
            case 64: score_head(k, w, s, slots, group, 64); break;
            default: score_head(k, w, s, slots, group, bands);
        }
    }
}
