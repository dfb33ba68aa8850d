// Memory for kernels, one piece a thread, kept between calls.
#pragma once
#include <cstddef>
#include <memory>
#include <new>

namespace attune::engine {

/// This thread's workspace: 64-byte aligned, at least n bytes, contents undefined.
inline std::byte* thread_workspace(std::size_t n) {
  struct Free {
    void operator()(std::byte* p) const { ::operator delete[](p, std::align_val_t(64)); }
  };
  thread_local std::unique_ptr<std::byte[], Free> memory;
  thread_local std::size_t size = 0;
  if (size < n) {
    memory.reset();
    size = 0;
    memory.reset(static_cast<std::byte*>(::operator new[](n, std::align_val_t(64))));
    size = n;
  }
  return memory.get();
}

}  // namespace attune::engine
