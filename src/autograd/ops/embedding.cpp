// Rows of a table by id. The backward adds rows in the order of the ids: equal bits for any thread count.
#include "attune/autograd/ops/embedding.hpp"

#include <string>

#include "autograd/impl.hpp"
#include "kernels/embedding.hpp"

namespace attune {

Tensor embedding(const Ids& ids, const Tensor& table, double scale) {
  detail::check_defined("embedding", table);
  if (!ids.defined()) fail("embedding", "ids", "they are undefined");
  if (table.rank() != 2) fail("embedding", "table [V, C]", "got " + table.shape().text());
  const std::int64_t num_ids = table.shape()[0], width = table.shape()[1];
  for (std::int64_t i = 0; i < ids.size(); ++i) {
    if (ids[i] < 0 || ids[i] >= num_ids) {
      fail("embedding", "ids in 0 .. " + std::to_string(num_ids - 1),
           "element " + std::to_string(i) + " is " + std::to_string(ids[i]));
    }
  }
  const int rank = ids.shape().rank();
  if (rank + 1 > Shape::kMaxRank) fail("embedding", "ids of rank 7 or less", "got " + ids.shape().text());
  std::int64_t extents[Shape::kMaxRank] = {};
  for (int i = 0; i < rank; ++i) extents[i] = ids.shape()[i];
  extents[rank] = width;
  Tensor out = Tensor::empty(Shape(extents, rank + 1), table.dtype());
  detail::on_compute_type("embedding", table.dtype(), [&]<class T>(T) {
    kernels::embedding<T>(ids.size(), width, table.data<T>(), ids.data(), T(scale), out.data<T>());
  });
  // out[t] = scale table[ids[t]]: dtable[ids[t]] += scale dout[t], in the order of t.
  record("embedding", out, {table}, [ids, width, scale](Backward& b) {
    Tensor dtable = b.zeroed_slot(0);
    const Tensor dout = b.dout();
    detail::on_compute_type("embedding", dout.dtype(), [&]<class T>(T) {
      kernels::embedding_backward<T>(ids.size(), width, ids.data(), dout.data<T>(), T(scale), dtable.data<T>());
    });
  });
  return out;
}

}  // namespace attune
