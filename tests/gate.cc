// SPDX-License-Identifier: Apache-2.0
#include "brood/tests/gate.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "absl/log/check.h"
#include "brood/proc/posix.h"
#include "brood/proc/unique_fd.h"

namespace brood {

Gate::Gate() {
  std::array<int, 2> ends;
  CHECK_EQ(pipe2(ends.data(), O_CLOEXEC), 0) << ErrnoStatus(errno, "pipe2");
  read_end_ = UniqueFd(ends[0]);
  write_end_ = UniqueFd(ends[1]);
}

void Gate::Open() { write_end_ = UniqueFd(); }

void Gate::Wait() {
  write_end_ = UniqueFd();
  char byte;
  (void)RetryOnEintr([&] { return read(read_end_.get(), &byte, 1); });
}

}  // namespace brood
