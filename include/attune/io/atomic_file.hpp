// Files that are complete or absent: bytes go to a file beside the target ("<path>.tmp"), reach the disk (fsync), and
// only then take the target's name (rename, which POSIX makes atomic). A crash, a kill or a full disk at any moment
// leaves the old file as it was.
#pragma once
#include <cstddef>
#include <filesystem>
#include <string>
#include <string_view>

namespace attune::io {

/// A file in the making. Nothing is visible under `path` until commit() returns.
///
/// Throws  Error, naming the path and the system's reason, when the file cannot be created, written, synced or renamed
///         (a full disk, no permission, no such folder). The old file under `path` is then intact.
class AtomicFile {
 public:
  /// Creates "<path>.tmp", replacing what an interrupted writer left there. The folder must exist.
  explicit AtomicFile(std::filesystem::path path);
  /// Removes the unfinished file unless commit() succeeded.
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(const void* data, std::size_t bytes);
  void write(std::string_view text) { write(text.data(), text.size()); }
  /// Flushes to the disk and renames. To be called once, last.
  void commit();

 private:
  [[noreturn]] void give_up(std::string_view action);

  std::filesystem::path path_, unfinished_;
  std::string buffer_;  // small writes are gathered into blocks of 64 KiB
  int descriptor_ = -1;
  void flush();
};

/// Writes `content` to `path` as AtomicFile does.
void write_file(const std::filesystem::path& path, std::string_view content);

/// The whole file. Throws Error if it cannot be read.
std::string read_file(const std::filesystem::path& path);

/// Forces the entries of a folder to the disk, so that a rename in it survives a power cut.
void sync_folder(const std::filesystem::path& folder);

}  // namespace attune::io
