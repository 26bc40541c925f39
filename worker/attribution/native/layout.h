// What the passes are told, and where they keep things in `room`.
//
// Rules of this file: of a long example one layer's part is kept, with one head's probabilities; what entered each layer
// stands behind it.
#pragma once

#include <algorithm>

#include "../../engine/native/linear.h"

enum Target : int32_t { Q, K, V, O, GATE, UP, DOWN, TARGETS };

struct Low {
    const float *down, *up;  // [rank][in], [rank][out]; null where the adapter has none
    float *down_gradient, *up_gradient;
};

struct Layer {
    const float *input_norm, *mlp_norm;
    Linear qkv, o, gate_up, down;
    Linear qkv_back, o_back, gate_up_back, down_back;  // the same weights transposed
    Low low[TARGETS];
};

struct Passes {
    int32_t tokens, hidden, intermediate, layers, heads, kv_heads, head_dim, rank, threads;
    float epsilon, scale;
    int32_t terms;  // 1 or 2
    Layer* layer;
    const float *cosines, *sines;  // [tokens][head_dim]
    float* states;                 // [tokens][hidden]: forwards in and out, backwards gradients out and in
    float* room;
    void (*watch)(int32_t layer);  // told after each layer's backward pass; may be null
    int64_t most_kept;             // numbers of all layers' parts: beyond that an example is long
};

// Where things stand in `room`: what every layer keeps, and what one layer at a time uses.
struct Places {
    int64_t at = 0;
    int64_t take(int64_t count) {
        const int64_t place = at;
        at += (count + LANES - 1) / LANES * LANES;
        return place;
    }
};

struct Kept {
    int64_t entered, first_inverse, first, qkv, odds, attended, middle, second_inverse, second, gate_up, active, squeezed, size;
};

struct Shared {
    int64_t out, d_out, d_active, d_gate_up, d_middle, d_attended, d_qkv, back, pull, rounded, more, size;
};

struct Sizes {
    int tokens, hidden, query, key, qkv, inner;
    int64_t entered;  // numbers that enter a layer
    explicit Sizes(const Passes& p)
        : tokens(p.tokens), hidden(p.hidden), query(p.heads * p.head_dim), key(p.kv_heads * p.head_dim),
          qkv(query + 2 * key), inner(p.intermediate), entered((int64_t)tokens * hidden) {}
};

static Kept kept_places(const Passes& p, bool again) {
    const Sizes s(p);
    const int64_t n = s.tokens;
    Places places;
    Kept k;
    k.entered = places.take(n * s.hidden), k.first_inverse = places.take(n), k.first = places.take(n * s.hidden);
    k.qkv = places.take(n * padded(s.qkv)), k.odds = places.take((again ? 1 : p.heads) * n * n);
    k.attended = places.take(n * s.query), k.middle = places.take(n * s.hidden), k.second_inverse = places.take(n);
    k.second = places.take(n * s.hidden), k.gate_up = places.take(n * padded(2 * s.inner));
    k.active = places.take(n * s.inner), k.squeezed = places.take(n * TARGETS * p.rank);
    k.size = places.at;
    return k;
}

static bool is_long(const Passes& p) { return p.layers * kept_places(p, false).size > p.most_kept; }

static Shared shared_places(const Passes& p) {
    const Sizes s(p);
    const int64_t n = s.tokens;
    Places places;
    Shared k;
    k.d_out = places.take(n * s.hidden), k.d_middle = places.take(n * s.hidden);
    k.out = places.take(n * padded(s.hidden)), k.d_active = places.take(n * padded(s.inner));
    k.d_gate_up = places.take(n * 2 * s.inner), k.d_attended = places.take(n * padded(s.query));
    k.d_qkv = places.take(n * s.qkv), k.back = places.take(n * TARGETS * p.rank), k.pull = places.take(n);
    k.rounded = places.take(n * std::max({s.hidden, s.query, s.qkv, 2 * s.inner}) / 2 + LANES);
    k.more = places.take(p.terms < 2 ? 0 : n * padded(std::max({s.hidden, s.query, s.qkv, 2 * s.inner})));
    k.size = places.at;
    return k;
}
