// SPDX-License-Identifier: Apache-2.0
#include "brood/tests/traced_child.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <utility>

#include "absl/log/check.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "brood/proc/child.h"
#include "brood/proc/fork.h"
#include "brood/proc/posix.h"
#include "brood/proc/unique_fd.h"
#include "brood/tests/gate.h"

namespace brood {

TracedChild::TracedChild(const ForkOptions& options) {
  constexpr int kExitCode = 9;
  Gate traceable;
  absl::StatusOr<Child> child = Fork(options, [&] {
    grip_.Open();
    (void)prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY);
    traceable.Open();
    life_.Wait();
    return kExitCode;
  });
  CHECK_OK(child);
  child_ = *std::move(child);
  traceable.Wait();

  std::array<int, 2> ends;
  CHECK_EQ(pipe2(ends.data(), O_CLOEXEC), 0) << ErrnoStatus(errno, "pipe2");
  const UniqueFd seized(ends[0]);
  UniqueFd seizing(ends[1]);
  absl::StatusOr<Child> tracer = Fork({}, [&] {
    life_.Open();
    if (ptrace(PTRACE_SEIZE, child_->pid(), nullptr, nullptr) == -1) return 1;
    CHECK_EQ(write(seizing.get(), "x", 1), 1);
    grip_.Wait();
    return 0;
  });
  CHECK_OK(tracer);
  tracer_ = *std::move(tracer);
  seizing = UniqueFd();
  char byte;
  permitted_ = RetryOnEintr([&] { return read(seized.get(), &byte, 1); }) == 1;
}

void TracedChild::Die() {
  const UniqueFd pidfd(
      static_cast<int>(syscall(SYS_pidfd_open, child_->pid(), 0)));
  life_.Open();
  CHECK_OK(PollUntil(pidfd.get(), POLLIN, absl::InfiniteFuture()));
}

void TracedChild::LetGo() {
  grip_.Open();
  // A tracer that ends has let go before its own end can be seen.
  CHECK_OK(tracer_->Wait());
}

}  // namespace brood
