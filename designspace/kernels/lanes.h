/* Vectors of 16 floats, and their sums. */
#ifndef LANES_H
#define LANES_H
#include <stdint.h>

typedef float Lanes __attribute__((vector_size(64), aligned(4), may_alias));
typedef int32_t Order __attribute__((vector_size(64)));

static inline Lanes pairwise(Lanes a, Lanes b, Order low, Order high) {
    return __builtin_shuffle(a, b, low) + __builtin_shuffle(a, b, high);
}

/* Return the 16 horizontal sums of 16 vectors: four rounds of pairwise sums, four times cheaper than one by one. */
static inline Lanes sums(Lanes x[16]) {
    const Order low1 = {0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30}, high1 = low1 + 1;
    const Order low2 = {0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29}, high2 = low2 + 2;
    const Order low4 = {0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27}, high4 = low4 + 4;
    const Order low8 = {0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23}, high8 = low8 + 8;
    for (int i = 0; i < 8; i++) x[i] = pairwise(x[2 * i], x[2 * i + 1], low1, high1);
    for (int i = 0; i < 4; i++) x[i] = pairwise(x[2 * i], x[2 * i + 1], low2, high2);
    for (int i = 0; i < 2; i++) x[i] = pairwise(x[2 * i], x[2 * i + 1], low4, high4);
    return pairwise(x[0], x[1], low8, high8);
}

#endif
