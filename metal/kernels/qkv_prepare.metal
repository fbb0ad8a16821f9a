// Prepares the rows of new tokens in one launch: RMS norm of queries and keys, rotary embedding, quantisation.
//
// One simdgroup a row of D values; the heads of a token are its queries, then its keys, then its values.
#include <metal_stdlib>
#include <metal_simdgroup>
using namespace metal;

// Writes a row as scale * code + bias. The codes are those of the scale and bias as they are stored, rounding and all.
template <typename S, int BITS, int GROUP_SIZE, int D>
inline void quantise(
    threadgroup const float* x, threadgroup float2* affine, device uint* codes, device S* scales, device S* biases,
    int lane) {
  constexpr float most = float((1 << BITS) - 1);
  for (int g = 0; g < D / GROUP_SIZE; g++) {
    float least = INFINITY, largest = -INFINITY;
    for (int i = lane; i < GROUP_SIZE; i += 32) {
      least = min(least, x[g * GROUP_SIZE + i]);
      largest = max(largest, x[g * GROUP_SIZE + i]);
    }
    least = simd_min(least);
    largest = simd_max(largest);
    S bias = S(least);
    S scale = S(max((largest - float(bias)) / most, 1e-7f));
    if (lane == 0) {
      scales[g] = scale;
      biases[g] = bias;
      affine[g] = float2(float(scale), float(bias));
    }
  }
  simdgroup_barrier(mem_flags::mem_threadgroup);
  constexpr int each = 32 / BITS;
  for (int w = lane; w < D / each; w += 32) {
    float2 line = affine[w * each / GROUP_SIZE];
    uint word = 0u;
    for (int i = 0; i < each; i++) {
      word |= uint(clamp((x[w * each + i] - line.y) / line.x, 0.0f, most) + 0.5f) << uint(BITS * i);
    }
    codes[w] = word;
  }
}
//: body
threadgroup float x[D];
threadgroup float2 affine[D / 32];

const int lane = int(thread_index_in_simdgroup);
const int heads = params[0];
const int kv_heads = params[1];
const int tokens = params[2];
const int half_turn = params[3];  // pairs that rotate
const float epsilon = as_type<float>(params[4]);
const int head = int(threadgroup_position_in_grid.x);
const int t = int(threadgroup_position_in_grid.y);
const int b = int(threadgroup_position_in_grid.z);
const bool is_query = head < heads;
const bool is_key = head >= heads && head < heads + kv_heads;
const int own = is_query ? head : (head - heads) % kv_heads;
const size_t from = (size_t(b) * size_t(tokens) + size_t(t)) * size_t(heads + 2 * kv_heads) + size_t(head);
const size_t to = (size_t(b) * size_t(is_query ? heads : kv_heads) + size_t(own)) * size_t(tokens) + size_t(t);

float squares = 0.0f;
for (int i = lane; i < D; i += 32) {
  x[i] = float(rows[from * D + size_t(i)]);
  squares = fma(x[i], x[i], squares);
}
#if NORM
if (is_query || is_key) {
  float scale = metal::precise::rsqrt(simd_sum(squares) / float(D) + epsilon);
  for (int i = lane; i < D; i += 32) {
    x[i] *= scale * float(is_query ? query_weight[i] : key_weight[i]);
  }
}
#endif
simdgroup_barrier(mem_flags::mem_threadgroup);
if (is_query || is_key) {
  for (int i = lane; i < half_turn; i += 32) {
    float angle = float(offsets[b * params[5]] + t) * frequencies[i];
    float c = metal::precise::cos(angle), s = metal::precise::sin(angle);
    int one = TRADITIONAL ? 2 * i : i;
    int other = TRADITIONAL ? 2 * i + 1 : i + half_turn;
    float a = x[one], z = x[other];
    x[one] = a * c - z * s;
    x[other] = a * s + z * c;
  }
}
simdgroup_barrier(mem_flags::mem_threadgroup);
if (is_query) {
  for (int i = lane; i < D; i += 32) {
    out[to * D + size_t(i)] = T(x[i]);
  }
} else if (is_key) {
#if K_BITS == 16
  for (int i = lane; i < D; i += 32) {
    keys[to * D + size_t(i)] = T(x[i]);
  }
#else
  quantise<S, K_BITS, K_GROUP, D>(
      x, affine, key_codes + to * (D * K_BITS / 32), key_scales + to * (D / K_GROUP), key_biases + to * (D / K_GROUP),
      lane);
#endif
} else {
#if V_BITS == 16
  for (int i = lane; i < D; i += 32) {
    values[to * D + size_t(i)] = T(x[i]);
  }
#else
  quantise<S, V_BITS, V_GROUP, D>(
      x, affine, value_codes + to * (D * V_BITS / 32), value_scales + to * (D / V_GROUP),
      value_biases + to * (D / V_GROUP), lane);
#endif
}
