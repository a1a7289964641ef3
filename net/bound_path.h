// SPDX-License-Identifier: Apache-2.0
//
// A BoundPath is the place in the file system where one unix socket of ours is
// bound, and the duty to take it away again.
//
//   absl::StatusOr<BoundPath> Claim(int socket, const Address& address) {
//     return BoundPath::Bind(socket, address, {.mode = 0660});
//   }
//
// What it is not: the socket, which listens or not as its owner likes.
//
// A path that exists is replaced only if it is a socket on which nobody answers
// (connect is refused); the asking looks to a living server like a client that
// leaves at once. While it decides, Bind holds flock(2) on the directory, where
// it can, and waits up to a second for whoever else holds it: of two servers
// that find one stale socket, one becomes its successor and the other learns of
// it. Keep `lock` until the socket listens, which is when it begins to answer.
//
// Ownership: the destructor removes the path if it is still the one that was
// bound (same device and inode) and the process still the one that bound it, so
// that neither a forked copy nor a successor's socket comes to harm (but for a
// copy that has the same pid, in another pid namespace). Destroy it
// before the socket is closed: as long as that lives it holds on to its inode,
// whose number can therefore not have gone to another file. A relative path is
// found again only from the same working directory.
//
// Errors: as listener.h says. Threads: one at a time. Signals: none.
// Fork: only the process that bound it removes it. Rests on: unix(7), flock(2).
#ifndef BROOD_NET_BOUND_PATH_H_
#define BROOD_NET_BOUND_PATH_H_

#include <sys/types.h>

#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "brood/net/address.h"
#include "brood/proc/unique_fd.h"

namespace brood {

class BoundPath {
 public:
  // Who may connect, which takes the right to write. What is not given is as
  // the umask and the process make it.
  struct Access {
    std::optional<mode_t> mode = std::nullopt;
    std::optional<uid_t> owner = std::nullopt;
    std::optional<gid_t> group = std::nullopt;
  };

  // REQUIRES: `address` has a path, `socket` is not bound.
  static absl::StatusOr<BoundPath> Bind(int socket, const Address& address,
                                        const Access& access);

  BoundPath(BoundPath&& other) noexcept;
  BoundPath& operator=(BoundPath&& other) noexcept;
  ~BoundPath();

  // Nobody else decides about this directory until this is called.
  void Unlock() { lock_ = UniqueFd(); }
  // Removes the path now, if it is ours to remove.
  absl::Status Remove();

 private:
  BoundPath(const std::string& path, UniqueFd lock);

  // Learns which file has been bound, and gives it to whom it shall belong.
  absl::Status SetAccess(const Address& address, const Access& access);

  std::string path_;  // Empty once removed or moved from.
  dev_t device_ = 0;
  ino_t inode_ = 0;
  pid_t owner_;
  UniqueFd lock_;
};

}  // namespace brood

#endif  // BROOD_NET_BOUND_PATH_H_
