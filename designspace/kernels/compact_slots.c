/* An event's move: bring the kept slots of some rows to the front, in place.
 *
 * order lists the kept slots of each (layer, event row, head) first, in rising order, so a slot only ever moves towards the
 * front and nothing is overwritten before it has been read; neighbours that move by the same distance move together.
 * keys, values: [layers, rows, heads, slots] of `slot_bytes` each; positions: [layers, rows, heads, slots]; order: [layers,
 * events, heads, slots]; kept: [layers, events, heads]; row: [events], each row once. */
#include <stdint.h>
#include <string.h>

void compact_slots(int64_t layers, int64_t rows, int64_t heads, int64_t slots, int64_t slot_bytes, int64_t events,
                   int64_t order_events, int32_t threads, char *keys, char *values, int32_t *positions,
                   const int64_t *order, const int64_t *kept, const int64_t *row) {
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1)
    for (int64_t i = 0; i < layers * events * heads; i++) {
        int64_t head = i % heads, event = i / heads % events, layer = i / heads / events;
        int64_t from = (layer * order_events + event) * heads + head, n = kept[from];
        int64_t to = (layer * rows + row[event]) * heads + head;
        const int64_t *source = order + from * slots;
        char *k = keys + to * slots * slot_bytes, *v = values + to * slots * slot_bytes;
        int32_t *p = positions + to * slots;
        for (int64_t c = 0, run = 1; c < n; c += run, run = 1) {
            while (c + run < n && source[c + run] == source[c] + run) run++;
            if (source[c] == c) continue;
            memmove(k + c * slot_bytes, k + source[c] * slot_bytes, run * slot_bytes);
            memmove(v + c * slot_bytes, v + source[c] * slot_bytes, run * slot_bytes);
            memmove(p + c, p + source[c], run * sizeof *p);
        }
        for (int64_t c = n; c < slots; c++) p[c] = -1;
    }
}
