// SPDX-License-Identifier: Apache-2.0
#include "brood/server/rules_file.h"

#include <fcntl.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <climits>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "brood/proc/posix.h"
#include "brood/proc/unique_fd.h"
#include "brood/server/rules.h"

namespace brood {
namespace {

// IN_MODIFY is not among them: who writes is not done until it closes. Nor is
// any that our own reading would cause.
constexpr uint32_t kEvents = IN_CLOSE_WRITE | IN_MOVED_FROM | IN_MOVED_TO |
                             IN_CREATE | IN_DELETE | IN_ATTRIB | IN_ONLYDIR;

// In one drain, so that who writes to the folder without end cannot hold us.
constexpr int kMaxReads = 64;

std::string FolderOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == path.npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

std::string_view NameIn(std::string_view path) {
  return path.substr(path.rfind('/') + 1);  // npos + 1 is 0.
}

}  // namespace

absl::StatusOr<RulesFile> RulesFile::Open(std::string_view path) {
  if (NameIn(path).empty() || path.find('\0') != path.npos) {
    return absl::InvalidArgumentError(
        absl::StrCat("rules file \"", absl::CHexEscape(path),
                     "\": expected the path of a file"));
  }
  UniqueFd fd(inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  if (!fd.valid()) return ErrnoStatus(errno, "inotify_init1");
  RulesFile file(std::string(path), std::move(fd));
  if (absl::Status s = file.Watch(); !s.ok()) return s;
  return file;
}

// A folder that is watched already gives the same number again; one that has
// taken its place gives another, and what the old one still says is ignored.
absl::Status RulesFile::Watch() {
  const std::string folder = FolderOf(path_);
  watch_ = inotify_add_watch(fd_.get(), folder.c_str(), kEvents);
  if (watch_ == -1) return ErrnoStatus(errno, absl::StrCat("watch ", folder));
  return absl::OkStatus();
}

absl::StatusOr<Rules> RulesFile::Load() {
  // First, so that no change falls between.
  absl::Status status = Watch();
  absl::StatusOr<std::string> text =
      status.ok() ? Read() : absl::StatusOr<std::string>(status);
  absl::StatusOr<Rules> rules = text.ok()
                                    ? Rules::Parse(*text, path_)
                                    : absl::StatusOr<Rules>(text.status());
  complaint_ = rules.status();
  return rules;
}

absl::StatusOr<std::string> RulesFile::Read() {
  const UniqueFd file = OpenFile(seen_);
  if (!file.valid()) return ErrnoStatus(seen_.error, path_);
  struct stat about;
  if (fstat(file.get(), &about) == -1) return ErrnoStatus(errno, path_);
  if (!S_ISREG(about.st_mode)) {
    return absl::InvalidArgumentError(
        absl::StrCat(path_, ": expected an ordinary file"));
  }
  std::string text;
  std::array<char, 16384> buffer;
  for (;;) {
    const ssize_t n = RetryOnEintr(
        [&] { return read(file.get(), buffer.data(), buffer.size()); });
    if (n == -1) return ErrnoStatus(errno, path_);
    if (n == 0) return text;
    text.append(buffer.data(), static_cast<size_t>(n));
    if (text.size() > kMaxSize) {
      return absl::InvalidArgumentError(absl::StrCat(
          path_, ": expected a file of at most ", kMaxSize, " bytes"));
    }
  }
}

// O_NONBLOCK, because a FIFO would make open(2) wait for its writer.
UniqueFd RulesFile::OpenFile(Seen& seen) const {
  UniqueFd file(RetryOnEintr([&] {
    return open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  }));
  seen = {.error = file.valid() ? 0 : errno};
  struct stat about;
  if (file.valid() && fstat(file.get(), &about) == 0) {
    seen.device = about.st_dev;
    seen.inode = about.st_ino;
  }
  return file;
}

bool RulesFile::Concerns(uint32_t mask, int watch,
                         std::string_view name) const {
  if ((mask & IN_Q_OVERFLOW) != 0) return true;
  if (watch != watch_) return false;
  // The folder itself has gone, and the file with it.
  if ((mask & IN_IGNORED) != 0) return true;
  struct stat entry;
  const bool there = lstat(path_.c_str(), &entry) == 0;
  const bool is_link = there && S_ISLNK(entry.st_mode);
  const bool is_ours = name == NameIn(path_);
  if (is_ours && (mask & (IN_ATTRIB | IN_CREATE)) == 0) return true;
  if (is_ours && (mask & IN_CREATE) != 0) {
    // Whoever creates a file by open(2) has yet to write and close it; a link
    // is complete as it is.
    return is_link || (there && entry.st_nlink > 1);
  }
  // Permissions of the file or the folder, or another link on the way. Any may
  // come in the middle of a writing, which changes nothing of these.
  if (!is_ours && !is_link && !name.empty()) return false;
  Seen now;
  OpenFile(now);
  return now != seen_;
}

absl::StatusOr<bool> RulesFile::Drain() {
  bool concerns = false;
  alignas(inotify_event)
      std::array<char, 16 * (sizeof(inotify_event) + NAME_MAX + 1)>
          buffer;
  for (int i = 0; i < kMaxReads; ++i) {
    const ssize_t n = RetryOnEintr(
        [&] { return read(fd_.get(), buffer.data(), buffer.size()); });
    if (n == -1 && errno == EAGAIN) return concerns;
    if (n == -1)
      return ErrnoStatus(errno, absl::StrCat("read inotify of ", path_));
    size_t at = 0;
    while (at < static_cast<size_t>(n)) {
      inotify_event event;
      std::memcpy(&event, &buffer[at], sizeof(event));
      at += sizeof(event);
      // Padded with NULs.
      const char* name = event.len == 0 ? "" : &buffer[at];
      at += event.len;
      concerns = concerns || Concerns(event.mask, event.wd, name);
    }
  }
  return concerns;
}

absl::StatusOr<std::optional<Rules>> RulesFile::Next() {
  const absl::StatusOr<bool> changed = Drain();
  if (!changed.ok()) return changed.status();
  if (!*changed) return std::nullopt;
  const absl::Status before = complaint_;
  absl::StatusOr<Rules> rules = Load();
  if (rules.ok()) return *std::move(rules);
  if (rules.status() == before) return std::nullopt;
  return rules.status();
}

}  // namespace brood
