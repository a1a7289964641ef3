// SPDX-License-Identifier: Apache-2.0
#include "brood/tools/load/descriptor_limit.h"

#include <sys/resource.h>

#include <cerrno>
#include <cstddef>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "brood/proc/posix.h"

namespace brood {
namespace {

constexpr size_t kOthers = 32;

}  // namespace

absl::Status RaiseDescriptorLimit(size_t connections) {
  rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) == -1) {
    return ErrnoStatus(errno, "getrlimit NOFILE");
  }
  limit.rlim_cur = limit.rlim_max;
  if (setrlimit(RLIMIT_NOFILE, &limit) == -1) {
    return ErrnoStatus(errno, "setrlimit NOFILE");
  }
  if (limit.rlim_max >= connections + kOthers) return absl::OkStatus();
  return absl::ResourceExhaustedError(
      absl::StrCat(connections, " connections at once: this process may have ",
                   limit.rlim_max, " descriptors, of which ", kOthers,
                   " are for other things (ulimit -Hn)"));
}

}  // namespace brood
