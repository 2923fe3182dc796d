/* One decode step of attention over fixed slots: append each row's new token, then attend to its filled slots.
 *
 * The filled slots of a (row, KV head) are 0 ... count-1 in position order, so empty slots are never read. Every (row, head)
 * is computed by the same sequence of operations whatever its neighbours: a row's output does not depend on the batch.
 * keys, values: [rows, heads, slots, dim]; new_key, new_value: [rows, heads, dim], float32 or, where `half`, bfloat16.
 * query, output: [rows, heads * group, dim] float32, in which all sums are taken. */
#include <float.h>
#include <omp.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include "lanes.h"

typedef struct {
    int64_t rows, heads, group, slots, dim;
    int64_t query_row, query_head, key_row, key_head, value_row, value_head; /* strides of the new vectors, in elements */
    int64_t window; /* attend to the newest `window` positions only; 0: no limit */
    int32_t append; /* 0: this layer reads a cache that has the token already */
    int32_t threads;
    int32_t half; /* are keys and values bfloat16, not float32? */
    float scale;
} Shape;

enum { MOST_LANES = 16 }; /* per vector: up to 256 dimensions */

typedef uint32_t Words __attribute__((vector_size(64), aligned(2), may_alias));

static inline int64_t size_of(int32_t half) { return half ? sizeof(uint16_t) : sizeof(float); }

static inline char *past(const void *x, int64_t n, int32_t half) { return (char *)x + n * size_of(half); }

/* Return 16 elements as float32. A bfloat16 is the upper half of a float32, so 16 words of memory give the 16 elements at
 * even places by a shift, then those at odd places by a mask: of halves, `at` counts in that order ("unzipped"). */
static inline __attribute__((always_inline)) Lanes lanes_at(const void *x, int64_t at, int32_t half) {
    if (!half) return *(const Lanes *)((const float *)x + at);
    Words pairs = *(const Words *)((const uint16_t *)x + at / 32 * 32);
    return at % 32 ? (Lanes)(pairs & 0xffff0000u) : (Lanes)(pairs << 16);
}

static inline void unzip(const float *from, float *to, int64_t dim) {
    for (int64_t d = 0; d < dim; d += 32)
        for (int i = 0; i < 16; i++) to[d + i] = from[d + 2 * i], to[d + 16 + i] = from[d + 2 * i + 1];
}

static inline void zip(float *x, int64_t dim) {
    for (int64_t d = 0; d < dim; d += 32) {
        float unzipped[32];
        memcpy(unzipped, x + d, sizeof unzipped);
        for (int i = 0; i < 16; i++) x[d + 2 * i] = unzipped[i], x[d + 2 * i + 1] = unzipped[16 + i];
    }
}

/* Do vectors of so many elements fill whole registers? */
static inline int whole(int64_t dim, int32_t half) { return dim % (half ? 32 : 16) == 0 && dim <= 16 * MOST_LANES; }

static inline __attribute__((always_inline)) float element_at(const void *x, int64_t at, int32_t half) {
    float number;
    if (!half) return ((const float *)x)[at];
    uint32_t bits = (uint32_t)((const uint16_t *)x)[at] << 16;
    memcpy(&number, &bits, sizeof number);
    return number;
}

/* exp(x) for x <= 0: 2^n times a polynomial on [-ln2/2, ln2/2], relative error below 2e-7; vectorises, unlike libm's. */
static inline float exp_negative(float x) {
    x = x < -87.0f ? -87.0f : x;
    float n = (float)(int32_t)(x * 1.44269504f - 0.5f);
    float r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    int32_t bits = ((int32_t)n + 127) << 23;
    float power;
    memcpy(&power, &bits, 4);
    return p * power;
}

static inline __attribute__((always_inline)) float dot(const float *a, const void *b, int64_t dim, int32_t half) {
    float sum = 0.0f;
    if (half && whole(dim, half)) { /* a is unzipped */
        Lanes part = {0};
        for (int64_t d = 0; d < dim; d += 16) part += *(const Lanes *)(a + d) * lanes_at(b, d, half);
        for (int i = 0; i < 16; i++) sum += part[i];
    } else
        for (int64_t d = 0; d < dim; d++) sum += a[d] * element_at(b, d, half);
    return sum;
}

/* Ask for the block of slots that is read 16 KiB from now, or a whole stream if that is shorter, so that none is passed over;
 * where the stream ends, for the one that follows it: a processor's own prefetcher stops at every page and at every end of a
 * head's slots. Into the second-level cache, as there are too few buffers for lines on their way into the first. */
static inline __attribute__((always_inline)) void fetch_ahead(const void *slots, const void *following, int64_t c,
                                                              int64_t dim, int64_t n, int32_t half) {
    int64_t distance = 16384 / (dim * size_of(half)), ahead = c + (distance < n ? distance : n);
    const char *block = ahead < n ? past(slots, ahead * dim, half) : past(following, (ahead - n) * dim, half);
    for (int64_t byte = 0; byte < 16 * dim * size_of(half); byte += 64) __builtin_prefetch(block + byte, 0, 2);
}

/* w[c] = scale * query . key of every slot, a block of slots for all queries of the group while its keys are at hand. */
static inline __attribute__((always_inline)) void logits(const float *query, int64_t query_head, const void *keys,
                                                         float *weights, int64_t slots, int64_t group, int64_t dim,
                                                         int64_t n, float scale, const void *following, int32_t half) {
    int64_t c = 0;
    if (whole(dim, half))
        for (; c + 16 <= n; c += 16) {
            fetch_ahead(keys, following, c, dim, n, half);
            for (int64_t g = 0; g < group; g++) {
                const float *q = query + g * query_head;
                Lanes part[16];
                for (int j = 0; j < 16; j++) {
                    const void *k = past(keys, (c + j) * dim, half);
                    part[j] = *(const Lanes *)q * lanes_at(k, 0, half);
                    for (int64_t d = 16; d < dim; d += 16) part[j] += *(const Lanes *)(q + d) * lanes_at(k, d, half);
                }
                *(Lanes *)(weights + g * slots + c) = sums(part) * scale;
            }
        }
    for (; c < n; c++)
        for (int64_t g = 0; g < group; g++)
            weights[g * slots + c] = dot(query + g * query_head, past(keys, c * dim, half), dim, half) * scale;
}

static inline void softmax(float *w, const float *log_mass, int64_t n) {
    float largest = -FLT_MAX, total = 0.0f;
    if (log_mass)
        for (int64_t c = 0; c < n; c++) w[c] += log_mass[c];
    for (int64_t c = 0; c < n; c++) largest = w[c] > largest ? w[c] : largest;
    for (int64_t c = 0; c < n; c++) {
        w[c] = exp_negative(w[c] - largest);
        total += w[c];
    }
    float inverse = 1.0f / total;
    for (int64_t c = 0; c < n; c++) w[c] *= inverse;
}

/* o += sum of w[c] v[c] from slot first to last, in memory's order; two chains, as one would wait for its own sums. */
static inline __attribute__((always_inline)) void mix_block(const float *w, const void *values, float *o, int64_t lanes,
                                                            int64_t first, int64_t last, int32_t half) {
    Lanes even[MOST_LANES], odd[MOST_LANES];
    for (int64_t i = 0; i < lanes; i++) even[i] = *(const Lanes *)(o + 16 * i), odd[i] = (Lanes){0};
    int64_t c = first;
    for (; c + 2 <= last; c += 2)
        for (int64_t i = 0; i < lanes; i++) {
            even[i] += w[c] * lanes_at(values, (c * lanes + i) * 16, half);
            odd[i] += w[c + 1] * lanes_at(values, ((c + 1) * lanes + i) * 16, half);
        }
    for (int64_t i = 0; i < lanes; i++) {
        if (c < last) even[i] += w[c] * lanes_at(values, (c * lanes + i) * 16, half);
        *(Lanes *)(o + 16 * i) = even[i] + odd[i];
    }
}

/* o = sum of w[c] v[c], a block of slots for all queries of the group while its values are at hand. */
static inline __attribute__((always_inline)) void mix(const float *weights, const void *values, float *out, int64_t slots,
                                                      int64_t group, int64_t dim, int64_t n, const void *following,
                                                      int32_t half) {
    memset(out, 0, group * dim * sizeof(float));
    for (int64_t first = 0; first < n; first += 16) {
        int64_t last = first + 16 < n ? first + 16 : n;
        fetch_ahead(values, following, first, dim, n, half);
        for (int64_t g = 0; g < group; g++) {
            const float *w = weights + g * slots;
            float *o = out + g * dim;
            if (whole(dim, half))
                mix_block(w, values, o, dim / 16, first, last, half);
            else
                for (int64_t d = 0; d < dim; d++)
                    for (int64_t c = first; c < last; c++) o[d] += w[c] * element_at(values, c * dim + d, half);
        }
    }
}

static inline __attribute__((always_inline)) void attend_head(
    const float *query, const void *keys, const void *values, const float *log_mass, float *weights, float *out,
    int64_t query_head, int64_t group, int64_t dim, int64_t first, int64_t n, int64_t slots, float scale, int32_t half) {
    const void *next_head = past(keys, (slots + first) * dim, half);
    keys = past(keys, first * dim, half);
    values = past(values, first * dim, half);
    logits(query, query_head, keys, weights + first, slots, group, dim, n - first, scale, values, half);
    for (int64_t g = 0; g < group; g++) {
        float *w = weights + g * slots;
        softmax(w + first, log_mass ? log_mass + first : 0, n - first);
        memset(w, 0, first * sizeof(float));
        memset(w + n, 0, (slots - n) * sizeof(float));
    }
    mix(weights + first, values, out, slots, group, dim, n - first, next_head, half);
}

/* weights: [rows, heads * group, slots] where wanted. scratch: [threads, group, slots + dim]. */
void decode_attention(const Shape *s, const float *query, const void *new_key, const void *new_value, void *keys,
                      void *values, int32_t *positions, int32_t *counts, const int64_t *next_position,
                      const uint8_t *active, const float *log_mass, float *weights, float *scratch, float *out) {
    int64_t slots = s->slots, dim = s->dim, group = s->group;
    int32_t half = s->half;
#pragma omp parallel for num_threads(s->threads) schedule(static) if (s->threads > 1)
    for (int64_t i = 0; i < s->rows * s->heads; i++) {
        int64_t row = i / s->heads, head = i % s->heads, n = counts[i];
        char *k = past(keys, i * slots * dim, half), *v = past(values, i * slots * dim, half);
        int32_t *p = positions + i * slots;
        if (s->append) {
            int64_t key_at = row * s->key_row + head * s->key_head, value_at = row * s->value_row + head * s->value_head;
            memcpy(past(k, n * dim, half), past(new_key, key_at, half), dim * size_of(half));
            memcpy(past(v, n * dim, half), past(new_value, value_at, half), dim * size_of(half));
            p[n] = active[row] ? (int32_t)next_position[row] : -1;
            counts[i] += active[row];
            n++;
        }
        int64_t first = 0;
        if (s->window)
            while (first < n - 1 && p[first] <= next_position[row] - s->window) first++;
        const float *q = query + row * s->query_row + head * group * s->query_head;
        const float *m = log_mass ? log_mass + i * slots : 0;
        float *own = scratch + omp_get_thread_num() * group * (slots + dim), *unzipped = own + group * slots;
        float *w = weights ? weights + i * group * slots : own, *o = out + i * group * dim;
        int64_t query_head = s->query_head;
        if (half && whole(dim, half)) {
            for (int64_t g = 0; g < group; g++) unzip(q + g * query_head, unzipped + g * dim, dim);
            q = unzipped, query_head = dim;
        }
/* Constants let the compiler unroll, convert nothing where there is nothing to convert, and keep sums in registers. */
#define ATTEND(DIM, HALF) \
    attend_head(q, k, v, m, w, o, query_head, group, DIM, first, n, slots, s->scale, HALF)
#define CASE(DIM) \
    case DIM: half ? ATTEND(DIM, 1) : ATTEND(DIM, 0); break
        switch (dim) {
            CASE(16);
            CASE(32);
            CASE(64);
            CASE(128);
            CASE(256);
            default: ATTEND(dim, half);
        }
        if (half && whole(dim, half))
            for (int64_t g = 0; g < group; g++) zip(o + g * dim, dim);
    }
}

/* Ask the system to keep these bytes in huge pages; it may decline. A step reads the whole cache, and with pages of 4 KiB a
 * tenth to a fifth of the time goes to looking up addresses. */
void in_huge_pages(char *start, int64_t n_bytes) {
#ifdef MADV_HUGEPAGE /* Linux */
    const intptr_t page = 1 << 21;
    intptr_t first = ((intptr_t)start + page - 1) / page * page, last = ((intptr_t)start + n_bytes) / page * page;
    if (last <= first || madvise((void *)first, last - first, MADV_HUGEPAGE)) return;
    madvise((void *)first, last - first, 25 /* MADV_COLLAPSE, for pages that were touched already */);
#endif
}
