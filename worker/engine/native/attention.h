// Causal attention over paged keys and values, one query row at a time.
//
// Rules of this file:
// - A row sees positions 0 ... its own, page by page in order with a running maximum (online softmax), so its
//   result is the same bits whether its neighbours are prefilled with it or were computed steps ago.
// - Pages hold 16 tokens. Keys of a page and head lie as [head_dim / 2][16 tokens][2], so that one register
//   is a pair of dimensions of 16 tokens; values as [8 token pairs][head_dim][2].
// - Slots behind a row's position may hold old numbers; they count zero times. They are always finite.
#pragma once

#include "simd.h"

constexpr int PAGE = 16;
constexpr int MAX_HEAD = 256;

static inline size_t page_offset(int page, int head, int kv_heads, int head_dim) {
    return ((size_t)page * kv_heads + head) * PAGE * head_dim;
}

static inline void store_key(bf16* keys, const bf16* key, int slot, int head_dim) {
    for (int d = 0; d < head_dim; d += 2) std::memcpy(keys + ((size_t)d / 2 * PAGE + slot) * 2, key + d, 4);
}

static inline void store_value(bf16* values, const bf16* value, int slot, int head_dim) {
    bf16* pair = values + (size_t)(slot / 2) * head_dim * 2 + slot % 2;
    for (int d = 0; d < head_dim; ++d) pair[2 * d] = value[d];
}

// The running softmax of one query head.
struct Running {
    float most, total;
    __m512 sum[MAX_HEAD / LANES];
};

static inline __m512 score_page(const bf16* query, const bf16* keys, int head_dim) {
    __m512 even = _mm512_setzero_ps(), odd = _mm512_setzero_ps();
    for (int d = 0; d < head_dim; d += 4) {
        even = _mm512_dpbf16_ps(even, load_pairs(keys + (size_t)d * PAGE), broadcast_pair(query + d));
        odd = _mm512_dpbf16_ps(odd, load_pairs(keys + (size_t)(d + 2) * PAGE), broadcast_pair(query + d + 2));
    }
    return _mm512_add_ps(even, odd);
}

static inline void add_page(Running& run, __m512 scores, const bf16* values, int head_dim) {
    const float most = std::max(run.most, _mm512_reduce_max_ps(scores));
    const __m512 weights = exp_ps(_mm512_sub_ps(scores, _mm512_set1_ps(most)));
    const __mmask16 seen = _mm512_cmp_ps_mask(scores, _mm512_set1_ps(-INFINITY), _CMP_GT_OQ);
    alignas(64) bf16 rounded[PAGE];
    _mm256_store_si256((__m256i*)rounded, to_bf16(_mm512_maskz_mov_ps(seen, weights)));
    if (most > run.most) {
        const __m512 shrink = exp_ps(_mm512_set1_ps(run.most - most));
        run.total *= _mm512_cvtss_f32(shrink);
        for (int part = 0; part < head_dim / LANES; ++part) run.sum[part] = _mm512_mul_ps(run.sum[part], shrink);
        run.most = most;
    }
    run.total += _mm512_mask_reduce_add_ps(seen, weights);
    for (int pair = 0; pair < PAGE; pair += 2, values += 2 * head_dim) {
        const __m512bh both = broadcast_pair(rounded + pair);
        for (int part = 0; part < head_dim / LANES; ++part)
            run.sum[part] = _mm512_dpbf16_ps(run.sum[part], load_pairs(values + part * PAIRS), both);
    }
}

// out [queries][head_dim] of the query heads that share one key head; `queries` are scaled already.
static void attend(const bf16* queries, int count, const bf16* keys, const bf16* values, const int32_t* table,
                   int position, int head, int kv_heads, int head_dim, bf16* out) {
    Running run[16];
    for (int query = 0; query < count; ++query) {
        run[query].most = -1e30f;
        run[query].total = 0;
        for (int part = 0; part < head_dim / LANES; ++part) run[query].sum[part] = _mm512_setzero_ps();
    }
    for (int page = 0; page <= position / PAGE; ++page) {
        const size_t at = page_offset(table[page], head, kv_heads, head_dim);
        const int valid = position - page * PAGE + 1;
        const __mmask16 hidden = valid >= PAGE ? 0 : (__mmask16)(0xffff << valid);
        for (int query = 0; query < count; ++query) {
            const __m512 scores = score_page(queries + (size_t)query * head_dim, keys + at, head_dim);
            add_page(run[query], _mm512_mask_mov_ps(scores, hidden, _mm512_set1_ps(-INFINITY)), values + at, head_dim);
        }
    }
    for (int query = 0; query < count; ++query) {
        const __m512 whole = _mm512_set1_ps(1.0f / run[query].total);
        for (int part = 0; part < head_dim / LANES; ++part)
            _mm256_storeu_si256((__m256i*)(out + (size_t)query * head_dim + part * LANES),
                                to_bf16(_mm512_mul_ps(run[query].sum[part], whole)));
    }
}
