// SPDX-License-Identifier: Apache-2.0
//
// A RulesFile reads rules from a file, and again when the file has changed.
//
//   absl::Status Follow(RulesFile& file, Rules& rules, std::ostream& log) {
//     absl::StatusOr<std::optional<Rules>> changed = file.Next();
//     if (!changed.ok()) {
//       log << changed.status().message() << "; the old rules stay\n";
//     } else if (changed->has_value()) {
//       rules = **std::move(changed);
//       log << rules.rules().size() << " rules\n";
//     }
//     return absl::OkStatus();
//   }
//
// What it is not: the holder of the rules. Who asked for them keeps them, and
// after an error still has those from before.
//
// A file is read again once somebody who wrote to it has closed it, not while
// it is being written; when another is put in its place, by rename, link or
// symbolic link; when it goes away; and when it becomes readable or ceases to
// be. That is seen in the folder, so all the ways in which editors and scripts
// replace a file are. Where `path` is a symbolic link, it is seen when this or
// another link in its folder leads to another file, but not when the target is
// written to elsewhere, nor is a folder on the way that is renamed: then, as on
// SIGHUP, call Load().
//
// Readiness: fd() is readable when something in the folder may have changed the
// file; Next() says whether it did.
//
// Ownership: owns a watch and its descriptor, not the file.
//
// Errors: those of Rules::Parse, with the path as the name. A file that cannot
// be read: NotFound, PermissionDenied, what open(2) and read(2) say. One that
// is no ordinary file, or larger than kMaxSize: InvalidArgument. Next() makes
// the same complaint once. Open: ResourceExhausted if there are no more
// watches to be had.
//
// Threads: one at a time. Signals: none used. Fork: the watch is shared, and a
// child that asks Next() takes the answer away from its parent.
// Rests on: inotify(7).
#ifndef BROOD_SERVER_RULES_FILE_H_
#define BROOD_SERVER_RULES_FILE_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "brood/proc/unique_fd.h"
#include "brood/server/rules.h"

namespace brood {

class RulesFile {
 public:
  // In bytes.
  static constexpr size_t kMaxSize = size_t{16} << 20;

  // Watches from here on; the file need not be there yet, but its folder.
  static absl::StatusOr<RulesFile> Open(std::string_view path);

  // Borrowed.
  int fd() const { return fd_.get(); }
  const std::string& path() const { return path_; }

  // Reads the file now.
  absl::StatusOr<Rules> Load();

  // The rules, if the file has changed since it was read; nullopt if not. Never
  // waits for an event.
  absl::StatusOr<std::optional<Rules>> Next();

 private:
  // Which file it was, and how the attempt to open it ended.
  struct Seen {
    int error = 0;
    uint64_t device = 0;
    uint64_t inode = 0;

    friend bool operator==(const Seen&, const Seen&) = default;
  };

  RulesFile(std::string path, UniqueFd fd)
      : path_(std::move(path)), fd_(std::move(fd)) {}

  absl::Status Watch();
  absl::StatusOr<std::string> Read();
  // Opens the file, and says what it saw.
  UniqueFd OpenFile(Seen& seen) const;
  // Whether an event says that the file should be read.
  bool Concerns(uint32_t mask, int watch, std::string_view name) const;
  // Takes the events; whether one of them concerns the file.
  absl::StatusOr<bool> Drain();

  std::string path_;
  UniqueFd fd_;
  int watch_ = -1;
  Seen seen_;
  absl::Status complaint_;  // The last that was made, unless all is well.
};

}  // namespace brood

#endif  // BROOD_SERVER_RULES_FILE_H_
