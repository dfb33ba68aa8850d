// Memory for the kernels of one task.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <vector>

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

/// Gives memory at the begin of a line of the cache; large arrays taken in a row begin at other places of a page: a
/// processor looks at these alone when it asks whether a number to be read is still on its way to memory. A pass over
/// two tiles, both read and written, takes 1.2 to 2.3 times as long where they lie alike or across lines.
template <class T>
struct LineAllocator {
  using value_type = T;
  LineAllocator() = default;
  template <class U>
  LineAllocator(const LineAllocator<U>&) {}
  T* allocate(std::size_t n) {
    const std::size_t bytes = n * sizeof(T);
    if (bytes < kPage) return static_cast<T*>(::operator new(bytes, std::align_val_t(kLine)));
    constexpr std::size_t kPlaces[] = {kLine, kLine + 2048, kLine + 1024, kLine + 3072};
    thread_local unsigned taken = 0;
    const std::size_t place = kPlaces[taken++ % 4];
    return reinterpret_cast<T*>(static_cast<std::byte*>(::operator new(place + bytes, std::align_val_t(kPage))) +
                                place);
  }
  void deallocate(T* p, std::size_t n) {
    if (n * sizeof(T) < kPage) return ::operator delete(p, std::align_val_t(kLine));
    auto* at = reinterpret_cast<std::byte*>(p);
    ::operator delete(at - reinterpret_cast<std::uintptr_t>(at) % kPage, std::align_val_t(kPage));
  }
  friend bool operator==(LineAllocator, LineAllocator) { return true; }

 private:
  static constexpr std::size_t kLine = 64, kPage = 4096;  // bytes
};
/// Numbers that vectors of the processor read and write.
template <class T>
using Numbers = std::vector<T, LineAllocator<T>>;

}  // namespace attune::engine
