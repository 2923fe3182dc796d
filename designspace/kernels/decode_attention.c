/* One decode step of attention over fixed slots, float32: append each row's new token, then attend to its filled slots.
 *
 * The filled slots of a (row, KV head) are 0 ... count-1 in position order, so empty slots are never read. Every (row, head)
 * is computed by the same sequence of operations whatever its neighbours: a row's output does not depend on the batch.
 * keys, values: [rows, heads, slots, dim]; query: [rows, heads * group, dim]; new_key, new_value: [rows, heads, dim]. */
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
    float scale;
} Shape;

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

enum { MOST_LANES = 16 }; /* per vector: up to 256 dimensions */

static inline __attribute__((always_inline)) float dot(const float *a, const float *b, int64_t dim) {
    float sum = 0.0f;
    for (int64_t d = 0; d < dim; d++) sum += a[d] * b[d];
    return sum;
}

/* Ask for the block of slots that is read 16 KiB from now, where the stream ends for the one that follows it: a processor's
 * own prefetcher stops at every page and at every end of a head's slots. Into the second-level cache, as there are too few
 * buffers for lines on their way into the first. */
static inline __attribute__((always_inline)) void fetch_ahead(const float *slots, const float *following, int64_t c,
                                                              int64_t dim, int64_t n) {
    int64_t ahead = c + 16384 / (dim * (int64_t)sizeof(float));
    const char *block = (const char *)(ahead < n ? slots + ahead * dim : following + (ahead - n) * dim);
    for (int64_t byte = 0; byte < 16 * dim * (int64_t)sizeof(float); byte += 64) __builtin_prefetch(block + byte, 0, 2);
}

/* w[c] = scale * query . key of every slot, a block of slots for all queries of the group while its keys are at hand. */
static inline __attribute__((always_inline)) void logits(const float *query, int64_t query_head, const float *keys,
                                                         float *weights, int64_t slots, int64_t group, int64_t dim,
                                                         int64_t n, float scale, const float *following) {
    int64_t c = 0;
    if (dim % 16 == 0)
        for (; c + 16 <= n; c += 16) {
            fetch_ahead(keys, following, c, dim, n);
            for (int64_t g = 0; g < group; g++) {
                const float *q = query + g * query_head;
                Lanes part[16];
                for (int j = 0; j < 16; j++) {
                    const float *k = keys + (c + j) * dim;
                    part[j] = *(const Lanes *)q * *(const Lanes *)k;
                    for (int64_t d = 16; d < dim; d += 16) part[j] += *(const Lanes *)(q + d) * *(const Lanes *)(k + d);
                }
                *(Lanes *)(weights + g * slots + c) = sums(part) * scale;
            }
        }
    for (; c < n; c++)
        for (int64_t g = 0; g < group; g++)
            weights[g * slots + c] = dot(query + g * query_head, keys + c * dim, dim) * scale;
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
static inline __attribute__((always_inline)) void mix_block(const float *w, const float *values, float *o, int64_t lanes,
                                                            int64_t first, int64_t last) {
    Lanes even[MOST_LANES], odd[MOST_LANES];
    for (int64_t i = 0; i < lanes; i++) even[i] = *(const Lanes *)(o + 16 * i), odd[i] = (Lanes){0};
    int64_t c = first;
    for (; c + 2 <= last; c += 2)
        for (int64_t i = 0; i < lanes; i++) {
            even[i] += w[c] * *(const Lanes *)(values + (c * lanes + i) * 16);
            odd[i] += w[c + 1] * *(const Lanes *)(values + ((c + 1) * lanes + i) * 16);
        }
    for (int64_t i = 0; i < lanes; i++) {
        if (c < last) even[i] += w[c] * *(const Lanes *)(values + (c * lanes + i) * 16);
        *(Lanes *)(o + 16 * i) = even[i] + odd[i];
    }
}

/* o = sum of w[c] v[c], a block of slots for all queries of the group while its values are at hand. */
static inline __attribute__((always_inline)) void mix(const float *weights, const float *values, float *out, int64_t slots,
                                                      int64_t group, int64_t dim, int64_t n, const float *following) {
    memset(out, 0, group * dim * sizeof(float));
    for (int64_t first = 0; first < n; first += 16) {
        int64_t last = first + 16 < n ? first + 16 : n;
        fetch_ahead(values, following, first, dim, n);
        for (int64_t g = 0; g < group; g++) {
            const float *w = weights + g * slots;
            float *o = out + g * dim;
            if (dim % 16 == 0 && dim <= 16 * MOST_LANES)
                mix_block(w, values, o, dim / 16, first, last);
            else
                for (int64_t d = 0; d < dim; d++)
                    for (int64_t c = first; c < last; c++) o[d] += w[c] * values[c * dim + d];
        }
    }
}

static inline __attribute__((always_inline)) void attend_head(
    const float *query, const float *keys, const float *values, const float *log_mass, float *weights, float *out,
    int64_t query_head, int64_t group, int64_t dim, int64_t first, int64_t n, int64_t slots, float scale) {
    const float *next_head = keys + (slots + first) * dim;
    keys += first * dim;
    values += first * dim;
    logits(query, query_head, keys, weights + first, slots, group, dim, n - first, scale, values);
    for (int64_t g = 0; g < group; g++) {
        float *w = weights + g * slots;
        softmax(w + first, log_mass ? log_mass + first : 0, n - first);
        memset(w, 0, first * sizeof(float));
        memset(w + n, 0, (slots - n) * sizeof(float));
    }
    mix(weights + first, values, out, slots, group, dim, n - first, next_head);
}

/* weights: [rows, heads * group, slots] where wanted, else scratch [threads, group, slots]. */
void decode_attention(const Shape *s, const float *query, const float *new_key, const float *new_value, float *keys,
                      float *values, int32_t *positions, int32_t *counts, const int64_t *next_position,
                      const uint8_t *active, const float *log_mass, float *weights, float *scratch, float *out) {
    int64_t slots = s->slots, dim = s->dim, group = s->group;
#pragma omp parallel for num_threads(s->threads) schedule(static) if (s->threads > 1)
    for (int64_t i = 0; i < s->rows * s->heads; i++) {
        int64_t row = i / s->heads, head = i % s->heads, n = counts[i];
        float *k = keys + i * slots * dim, *v = values + i * slots * dim;
        int32_t *p = positions + i * slots;
        if (s->append) {
            memcpy(k + n * dim, new_key + row * s->key_row + head * s->key_head, dim * sizeof(float));
            memcpy(v + n * dim, new_value + row * s->value_row + head * s->value_head, dim * sizeof(float));
            p[n] = active[row] ? (int32_t)next_position[row] : -1;
            counts[i] += active[row];
            n++;
        }
        int64_t first = 0;
        if (s->window)
            while (first < n - 1 && p[first] <= next_position[row] - s->window) first++;
        const float *q = query + row * s->query_row + head * group * s->query_head;
        const float *m = log_mass ? log_mass + i * slots : 0;
        float *w = weights ? weights + i * group * slots : scratch + omp_get_thread_num() * group * slots;
        float *o = out + i * group * dim;
        switch (dim) { /* a constant dimension lets the compiler unroll and keep accumulators in registers */
            case 16: attend_head(q, k, v, m, w, o, s->query_head, group, 16, first, n, slots, s->scale); break;
            case 32: attend_head(q, k, v, m, w, o, s->query_head, group, 32, first, n, slots, s->scale); break;
            case 64: attend_head(q, k, v, m, w, o, s->query_head, group, 64, first, n, slots, s->scale); break;
            case 128: attend_head(q, k, v, m, w, o, s->query_head, group, 128, first, n, slots, s->scale); break;
            case 256: attend_head(q, k, v, m, w, o, s->query_head, group, 256, first, n, slots, s->scale); break;
            default: attend_head(q, k, v, m, w, o, s->query_head, group, dim, first, n, slots, s->scale);
        }
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
