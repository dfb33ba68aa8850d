// Memory for the kernels of one task.
#pragma once
#include <cstddef>
#include <memory>
#include <new>

namespace attune::engine {

/// At least n bytes, 64-byte aligned, contents undefined, until the end of the scope; one at a time on a thread. Up to
/// 32 MiB they stay with the thread, since fresh pages cost more than a short sequence; more is given back.
class Workspace {
 public:
  explicit Workspace(std::size_t n) {
    constexpr std::size_t kKept = std::size_t(32) << 20;
    thread_local Memory kept;
    thread_local std::size_t size = 0;
    if (n > kKept) {
      own_ = allocate(n);
      begin_ = own_.get();
      return;
    }
    if (size < n) {
      kept.reset();
      size = 0;
      kept = allocate(n);
      size = n;
    }
    begin_ = kept.get();
  }
  std::byte* begin() const { return begin_; }

 private:
  struct Free {
    void operator()(std::byte* p) const { ::operator delete[](p, std::align_val_t(64)); }
  };
  using Memory = std::unique_ptr<std::byte[], Free>;
  static Memory allocate(std::size_t n) {
    return Memory(static_cast<std::byte*>(::operator new[](n, std::align_val_t(64))));
  }
  Memory own_;
  std::byte* begin_ = nullptr;
};

}  // namespace attune::engine
