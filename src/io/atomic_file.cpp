#include "attune/io/atomic_file.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "attune/base/error.hpp"

namespace attune::io {
namespace {

constexpr std::size_t kBlockBytes = std::size_t(1) << 16;

std::string reason(int error) { return std::strerror(error); }

}  // namespace

AtomicFile::AtomicFile(std::filesystem::path path) : path_(std::move(path)), unfinished_(path_) {
  unfinished_ += ".tmp";
  descriptor_ = ::open(unfinished_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (descriptor_ < 0) give_up("create");
}

AtomicFile::~AtomicFile() {
  if (descriptor_ < 0) return;
  ::close(descriptor_);
  ::unlink(unfinished_.c_str());
}

void AtomicFile::write(const void* data, std::size_t bytes) {
  if (descriptor_ < 0) fail("AtomicFile::write", "a file that is not yet committed", path_.string());
  buffer_.append(static_cast<const char*>(data), bytes);
  if (buffer_.size() >= kBlockBytes) flush();
}

void AtomicFile::flush() {
  const char* from = buffer_.data();
  std::size_t left = buffer_.size();
  while (left > 0) {
    const ssize_t written = ::write(descriptor_, from, left);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) give_up("write");
    from += written;
    left -= std::size_t(written);
  }
  buffer_.clear();
}

void AtomicFile::commit() {
  if (descriptor_ < 0) fail("AtomicFile::commit", "to be called once", path_.string());
  flush();
  if (::fsync(descriptor_) != 0 && errno != EINVAL) give_up("sync");
  // A network file system may report a full disk as late as here.
  if (::close(std::exchange(descriptor_, -1)) != 0) give_up("close");
  if (::rename(unfinished_.c_str(), path_.c_str()) != 0) give_up("rename");
  sync_folder(path_.parent_path());
}

void AtomicFile::give_up(std::string_view action) {
  const int error = errno;
  if (descriptor_ >= 0) ::close(std::exchange(descriptor_, -1));
  // If not even the creation succeeded, what lies there is not ours.
  if (action != "create") ::unlink(unfinished_.c_str());
  fail("write_file", fmt::format("a place to write {}", path_.string()),
       fmt::format("cannot {} it: {}", action, reason(error)));
}

void write_file(const std::filesystem::path& path, std::string_view content) {
  AtomicFile file(path);
  file.write(content);
  file.commit();
}

std::string read_file(const std::filesystem::path& path) {
  const auto give_up = [&](int error) {
    fail("read_file", fmt::format("a readable file {}", path.string()), reason(error));
  };
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) give_up(errno);
  std::string content;
  struct stat about {};
  if (::fstat(descriptor, &about) == 0 && about.st_size > 0) content.reserve(std::size_t(about.st_size) + 1);
  // Read to the end rather than st_size bytes: pipes and /proc have no size.
  for (std::size_t filled = 0;;) {
    content.resize(filled + kBlockBytes);
    const ssize_t got = ::read(descriptor, content.data() + filled, kBlockBytes);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      const int error = errno;
      ::close(descriptor);
      give_up(error);
    }
    filled += std::size_t(got);
    if (got == 0) {
      content.resize(filled);
      break;
    }
  }
  ::close(descriptor);
  return content;
}

void sync_folder(const std::filesystem::path& folder) {
  const std::filesystem::path place = folder.empty() ? std::filesystem::path(".") : folder;
  const int descriptor = ::open(place.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  // Some file systems do not let a folder be opened or synced; the rename itself has succeeded then.
  if (descriptor < 0) return;
  ::fsync(descriptor);
  ::close(descriptor);
}

}  // namespace attune::io
