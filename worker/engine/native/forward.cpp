// One forward pass of a decoder of the Llama family on the CPU: bf16 products, fp32 sums (AVX-512 BF16).
//
// Rules of this file:
// - A row is one token of some sequence at its own position; prefill and decode are the same arithmetic, and
//   a row's result is the same bits whatever stands in the other rows and however many threads there are.
// - Plain C structures in and out: no torch headers, so it compiles in seconds and outlives torch's versions.
//   `library.py` declares the same structures; sizes are compared when it is loaded.
// - The caller checks everything (sizes, ids, tables); nothing here is reached by a stranger's numbers unchecked.

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "attention.h"
#include "linear.h"
#include "lora.h"
#include "pack.h"

namespace {

struct Layer {
    const float *input_norm, *mlp_norm, *query_norm, *key_norm;  // the last two may be null
    Linear qkv, o, gate_up, down;
};

struct Model {
    int32_t hidden, intermediate, layers, heads, kv_heads, head_dim, vocabulary, threads;
    float epsilon;
    int32_t unused;
    const bf16* embedding;             // [vocabulary][hidden]
    const Layer* layer;                // [layers]
    const float* norm;                 // [hidden]
    const float *cosines, *sines;      // [positions][head_dim / 2]
    Linear head;
    bf16 *keys, *values;               // [layers][pages][kv_heads][16 * head_dim]
    int64_t cache_layer;               // bf16 numbers of one layer's keys
};

struct Batch {
    int32_t rows, wanted, table_width, unused;
    const int32_t *tokens, *positions;  // [rows]
    const int32_t* sequences;           // [rows]: which table
    const int32_t* tables;              // [sequences][table_width] pages
    const int32_t* wanted_rows;         // [wanted], ascending
    const int32_t* lora_starts;         // [rows + 1]: where each row's items begin and the last one's end
    const int32_t* lora_items;          // indices of lows
    const Low* lows;
    float* logits;                      // [wanted][vocabulary padded to 48]
};

// Memory that stays with its thread and only grows: fresh pages would cost more than what is computed in them.
template <typename T>
struct Room {
    ~Room() { std::free(at); }
    void fit(size_t count) {
        if (count <= size) return;
        std::free(at);
        at = (T*)std::aligned_alloc(64, (count * sizeof(T) + 127) / 64 * 64);
        size = count;
    }
    T* at = nullptr;
    size_t size = 0;
};

struct Scratch {
    int qkv, narrow;  // width of a row of y
    Room<float> hidden, y, totals;
    Room<bf16> x, queries;

    void fit(const Model& m, int rows) {
        const int input = std::max(std::max(m.hidden, m.intermediate), m.heads * m.head_dim);
        qkv = padded((m.heads + 2 * m.kv_heads) * m.head_dim);
        narrow = padded(m.hidden);
        hidden.fit((size_t)rows * m.hidden);
        y.fit((size_t)rows * std::max(std::max(qkv, narrow), padded(2 * m.intermediate)));
        totals.fit((size_t)rows * (input / GROUP + 1));
        x.fit((size_t)rows * input);
        queries.fit((size_t)rows * m.heads * m.head_dim);
    }
};

thread_local Scratch scratch;

float root_mean_square(const float* x, int size, float epsilon) {
    __m512 sum = _mm512_setzero_ps();
    int i = 0;
    for (; i + LANES <= size; i += LANES) {
        const __m512 part = _mm512_loadu_ps(x + i);
        sum = _mm512_fmadd_ps(part, part, sum);
    }
    return 1.0f / std::sqrt(_mm512_reduce_add_ps(sum) / size + epsilon);
}

void normalise(const float* x, const float* weight, int size, float epsilon, bf16* out) {
    const __m512 scale = _mm512_set1_ps(root_mean_square(x, size, epsilon));
    for (int i = 0; i < size; i += LANES) {
        const __m512 part = _mm512_mul_ps(_mm512_mul_ps(_mm512_loadu_ps(x + i), scale), _mm512_loadu_ps(weight + i));
        _mm256_storeu_si256((__m256i*)(out + i), to_bf16(part));
    }
}

// A head's own norm (Qwen3) and rotary turn; `scale` multiplies the result (https://arxiv.org/abs/2104.09864).
void turn(const Model& m, const float* head, const float* norm, int position, float scale, bf16* out) {
    const int half = m.head_dim / 2;
    const float* cosines = m.cosines + (size_t)position * half;
    const float* sines = m.sines + (size_t)position * half;
    const float size = norm == nullptr ? 1.0f : root_mean_square(head, m.head_dim, m.epsilon);
    for (int i = 0; i < half; i += 8) {
        __m256 first = _mm256_loadu_ps(head + i), second = _mm256_loadu_ps(head + half + i);
        if (norm != nullptr) {
            first = _mm256_mul_ps(_mm256_mul_ps(first, _mm256_set1_ps(size)), _mm256_loadu_ps(norm + i));
            second = _mm256_mul_ps(_mm256_mul_ps(second, _mm256_set1_ps(size)), _mm256_loadu_ps(norm + half + i));
        }
        const __m256 cosine = _mm256_loadu_ps(cosines + i), sine = _mm256_loadu_ps(sines + i);
        const __m256 left = _mm256_sub_ps(_mm256_mul_ps(first, cosine), _mm256_mul_ps(second, sine));
        const __m256 right = _mm256_add_ps(_mm256_mul_ps(second, cosine), _mm256_mul_ps(first, sine));
        const __m256 factor = _mm256_set1_ps(scale);
        _mm_storeu_si128((__m128i*)(out + i), (__m128i)_mm256_cvtneps_pbh(_mm256_mul_ps(left, factor)));
        _mm_storeu_si128((__m128i*)(out + half + i), (__m128i)_mm256_cvtneps_pbh(_mm256_mul_ps(right, factor)));
    }
}

class Pass {
   public:
    Pass(const Model& model, const Batch& batch) : m(model), b(batch), s(scratch) { s.fit(model, batch.rows); }

    void run() {
        embed();
        for (int layer = 0; layer < m.layers; ++layer) {
            attention(layer);
            mlp(layer);
        }
        head();
    }

   private:
    const Model& m;
    const Batch& b;
    Scratch& s;

    template <typename Do>
    void each_row(Do&& work) {
#pragma omp parallel for num_threads(m.threads) if (m.threads > 1 && b.rows > 1) schedule(static)
        for (int row = 0; row < b.rows; ++row) work(row);
    }

    template <typename Do>
    void each_low(int row, Do&& work) {
        const int start = b.lora_starts[row], end = b.lora_starts[row + 1];
        for (int i = start; i < end; ++i) {
            const int before = i - (end - start);  // the same term of the row before, where that has as many
            work(b.lows[b.lora_items[i]], before < 0 || b.lora_items[before] != b.lora_items[i]);
        }
    }

    void embed() {
        each_row([&](int row) {
            const bf16* from = m.embedding + (size_t)b.tokens[row] * m.hidden;
            for (int i = 0; i < m.hidden; i += LANES)
                _mm512_storeu_ps(s.hidden.at + (size_t)row * m.hidden + i, from_bf16(from + i));
        });
    }

    void norm(const float* weight) {
        each_row([&](int row) {
            normalise(s.hidden.at + (size_t)row * m.hidden, weight, m.hidden, m.epsilon, s.x.at + (size_t)row * m.hidden);
        });
    }

    // hidden += y, of which a row is `narrow` wide.
    void add_to_hidden(int row) {
        float* hidden = s.hidden.at + (size_t)row * m.hidden;
        const float* y = s.y.at + (size_t)row * s.narrow;
        for (int i = 0; i < m.hidden; i += LANES)
            _mm512_storeu_ps(hidden + i, _mm512_add_ps(_mm512_loadu_ps(hidden + i), _mm512_loadu_ps(y + i)));
    }

    void attention(int index) {
        const Layer& layer = m.layer[index];
        const int query_size = m.heads * m.head_dim, kv_size = m.kv_heads * m.head_dim;
        norm(layer.input_norm);
        multiply(layer.qkv, s.x.at, b.rows, s.y.at, s.totals.at, m.threads);
        each_row([&](int row) {
            const bf16* x = s.x.at + (size_t)row * m.hidden;
            float* y = s.y.at + (size_t)row * s.qkv;
            each_low(row, [&](const Low& low, bool fresh) {
                add_target(low, fresh, index, Q, x, m.hidden, y, query_size);
                add_target(low, fresh, index, K, x, m.hidden, y + query_size, kv_size);
                add_target(low, fresh, index, V, x, m.hidden, y + query_size + kv_size, kv_size);
            });
            place(index, layer, row, y);
        });
        attend_all(index);
        multiply(layer.o, s.x.at, b.rows, s.y.at, s.totals.at, m.threads);
        each_row([&](int row) {
            const bf16* x = s.x.at + (size_t)row * query_size;
            float* y = s.y.at + (size_t)row * s.narrow;
            each_low(row, [&](const Low& low, bool fresh) { add_target(low, fresh, index, O, x, query_size, y, m.hidden); });
            add_to_hidden(row);
        });
    }

    // Turn queries and keys, and put keys and values into their page.
    void place(int index, const Layer& layer, int row, const float* y) {
        const int position = b.positions[row], query_size = m.heads * m.head_dim, kv_size = m.kv_heads * m.head_dim;
        const int page = b.tables[(size_t)b.sequences[row] * b.table_width + position / PAGE];
        const float scale = 1.0f / std::sqrt((float)m.head_dim);
        for (int head = 0; head < m.heads; ++head)
            turn(m, y + (size_t)head * m.head_dim, layer.query_norm, position, scale,
                 s.queries.at + (size_t)row * query_size + (size_t)head * m.head_dim);
        for (int head = 0; head < m.kv_heads; ++head) {
            alignas(64) bf16 key[MAX_HEAD], value[MAX_HEAD];
            const size_t at = index * m.cache_layer + page_offset(page, head, m.kv_heads, m.head_dim);
            turn(m, y + query_size + (size_t)head * m.head_dim, layer.key_norm, position, 1.0f, key);
            const float* from = y + query_size + kv_size + (size_t)head * m.head_dim;
            for (int i = 0; i < m.head_dim; i += LANES)
                _mm256_storeu_si256((__m256i*)(value + i), to_bf16(_mm512_loadu_ps(from + i)));
            store_key(m.keys + at, key, position % PAGE, m.head_dim);
            store_value(m.values + at, value, position % PAGE, m.head_dim);
        }
    }

    void attend_all(int index) {
        const int group = m.heads / m.kv_heads;
#pragma omp parallel for num_threads(m.threads) if (m.threads > 1) schedule(dynamic, 4)
        for (int work = 0; work < b.rows * m.kv_heads; ++work) {
            const int row = work / m.kv_heads, head = work % m.kv_heads;
            const size_t at = (size_t)row * m.heads * m.head_dim + (size_t)head * group * m.head_dim;
            attend(s.queries.at + at, group, m.keys + index * m.cache_layer, m.values + index * m.cache_layer,
                   b.tables + (size_t)b.sequences[row] * b.table_width, b.positions[row], head, m.kv_heads, m.head_dim,
                   s.x.at + at);
        }
    }

    void mlp(int index) {
        const Layer& layer = m.layer[index];
        const int size = m.intermediate, stride = padded(2 * size);
        norm(layer.mlp_norm);
        multiply(layer.gate_up, s.x.at, b.rows, s.y.at, s.totals.at, m.threads);
        each_row([&](int row) {
            const bf16* x = s.x.at + (size_t)row * m.hidden;
            float* y = s.y.at + (size_t)row * stride;
            each_low(row, [&](const Low& low, bool fresh) {
                add_target(low, fresh, index, GATE, x, m.hidden, y, size);
                add_target(low, fresh, index, UP, x, m.hidden, y + size, size);
            });
        });
        each_row([&](int row) {
            const float *gate = s.y.at + (size_t)row * stride, *up = gate + size;
            for (int i = 0; i < size; i += LANES) {
                const __m512 g = _mm512_loadu_ps(gate + i);
                const __m512 below = _mm512_add_ps(_mm512_set1_ps(1.0f), exp_ps(_mm512_sub_ps(_mm512_setzero_ps(), g)));
                const __m512 silu = _mm512_div_ps(g, below);
                _mm256_storeu_si256((__m256i*)(s.x.at + (size_t)row * size + i),
                                    to_bf16(_mm512_mul_ps(silu, _mm512_loadu_ps(up + i))));
            }
        });
        multiply(layer.down, s.x.at, b.rows, s.y.at, s.totals.at, m.threads);
        each_row([&](int row) {
            const bf16* x = s.x.at + (size_t)row * size;
            float* y = s.y.at + (size_t)row * s.narrow;
            each_low(row, [&](const Low& low, bool fresh) { add_target(low, fresh, index, DOWN, x, size, y, m.hidden); });
            add_to_hidden(row);
        });
    }

    void head() {
        for (int i = 0; i < b.wanted; ++i)
            normalise(s.hidden.at + (size_t)b.wanted_rows[i] * m.hidden, m.norm, m.hidden, m.epsilon,
                      s.x.at + (size_t)i * m.hidden);
        if (b.wanted > 0) multiply(m.head, s.x.at, b.wanted, b.logits, s.totals.at, m.threads);
    }
};

}  // namespace

extern "C" {

void commonlore_forward(const Model* model, const Batch* batch) { Pass(*model, *batch).run(); }

void commonlore_pack(const Packing* packing) { pack(*packing); }

// Sizes of the structures that `structures.py` declares, in its order.
void commonlore_sizes(int64_t* sizes) {
    sizes[0] = sizeof(Linear);
    sizes[1] = sizeof(Layer);
    sizes[2] = sizeof(Model);
    sizes[3] = sizeof(Batch);
    sizes[4] = sizeof(Low);
    sizes[5] = sizeof(Packing);
}

// y [rows][out padded to 48] = x [rows][in] W^T + bias, alone: for tests and measurements.
void commonlore_multiply(const Linear* linear, const bf16* x, int32_t rows, float* y, int32_t threads) {
    Room<float> totals;
    totals.fit((size_t)rows * (linear->in / GROUP + 1));
    multiply(*linear, x, rows, y, totals.at, threads);
}
}
