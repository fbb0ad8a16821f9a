/* All that is compiled once for each kind of processor. */
#include "vectors.h"

#include "product.h"
#include "scan.h"
#include "layer.h"
#include "attend.h"
#include "gemm.h"
#include "decode.h"

const kernels_t KERNELS = {
    .name = KIND,
    .most = MOST,
    .arrange = arrange,
#if WORDS
    .left_over = left_over,
#endif
    .multiply = multiply,
    .totals = totals,
    .larger_than = larger_than,
    .most_likely = most_likely,
    .inverse = inverse,
    .nucleus = nucleus,
    .bins = bins,
    .norm = norm,
    .turn = turn,
    .gate = gate_by,
    .soften = soften,
    .norm_back = norm_back,
    .gate_back = gate_back,
    .soften_back = soften_back,
    .dots = dots,
    .scores = scores,
    .mix = mix,
    .join = join,
    .narrow = narrow,
    .exponential = exponential,
    .logarithms = logarithms,
    .wide = WIDE,
    .gemm = gemm,
    .gemm_pack = gemm_pack,
    .columns_of = columns_of,
    .rows_of = rows_of,
};
