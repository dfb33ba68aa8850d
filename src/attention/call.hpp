// How the files of this folder reach each other: a checked call, the plain path, the map.
#pragma once
#include "attention/problem.hpp"
#include "attune/attention/attend.hpp"

namespace attune::engine {

/// Extents of a call from its views; checks ranks and the axes that must agree, not widths.
AttendShape shape_of(const char* function, const ConstView& query, const ConstView& key, const ConstView& value);
/// Whether v has this shape of rank 4 and this dtype, and a contiguous last axis.
bool rows_fit(const ConstView& v, const Shape& shape, DType dtype);
/// Whether v has this shape and dtype without gaps, or no memory at all.
bool numbers_fit(const ConstView& v, const Shape& shape, DType dtype);
/// Throws Error if options and shape disagree; asks every stage.
void check_options(const char* function, const AttendShape&, const AttendOptions&);
/// The position of query 0 among the keys, [B].
std::vector<int> offsets_of(const AttendShape&, const AttendOptions&);
/// Stages bound for one scalar; arrays have no memory yet.
template <class T>
Problem<T> make_problem(const AttendShape&, const AttendOptions&);

/// Whether a call needs no stage at all: scaled dot, no position, no bias, softmax; with dropout, no mask but causal,
/// windows and padding.
bool is_plain(const AttendOptions&);
/// Why is_plain says no: the first stage that stands in the way; empty if it says yes.
std::string why_not_plain(const AttendOptions&);
template <class T>
void plain_forward(const Problem<T>&, const AttendOptions&, const ForwardResult<T>&);
template <class T>
void plain_backward(const Problem<T>&, const AttendOptions&, const BackwardInputs<T>&, const BackwardResult<T>&);
/// Bytes that plain_backward needs beside the workspace of each thread: what the parts of a head share.
template <class T>
std::int64_t plain_backward_bytes(const AttendShape&, bool causal);

/// attend_forward over tiles of logits, also where the call is decoding.
void forward_tiles(const AttendInputs&, const AttendOutputs&, const AttendOptions&);

/// attend_forward and attend_backward where options.sequences says that there are several in the one batch entry.
void forward_sequences(const AttendInputs&, const AttendOutputs&, const AttendOptions&);
void backward_sequences(const AttendInputs&, const AttendUpstream&, const AttendGradients&, const AttendOptions&);

/// attend_map's tiles: map [B, heads, queries, Tk].
template <class T>
void map_tiles(const Problem<T>&, const MapOptions&, const T* lse, int heads, int queries, T* map);

}  // namespace attune::engine
