// SPDX-License-Identifier: Apache-2.0
#include "brood/proc/spawn_slots.h"

#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "brood/proc/posix.h"
#include "brood/proc/unique_fd.h"

namespace brood {
namespace {

constexpr int kFirstFdAfterStdio = 3;

// Below this the kernel's copy of the table is of one size.
constexpr int kLow = 64;

// fcntl(2): "all of a process's record locks on a file are removed when *any*
// file descriptor referring to that file is closed", so to close a copy could
// cost the caller a lock.
bool MayHoldRecordLocks(int fd) {
  struct stat file;
  return fstat(fd, &file) == -1 || S_ISREG(file.st_mode);
}

}  // namespace

absl::StatusOr<SpawnSlots> SpawnSlots::Reserve(int count) {
  if (count <= 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("reserve ", count, " spawn slots: there must be one"));
  }
  auto slots = std::make_unique<Slots>();
  slots->placeholder = UniqueFd(eventfd(0, EFD_CLOEXEC));
  while (slots->placeholder.valid() &&
         slots->free.size() < static_cast<size_t>(count)) {
    slots->free.emplace_back(
        fcntl(slots->placeholder.get(), F_DUPFD_CLOEXEC, kFirstFdAfterStdio));
    if (!slots->free.back().valid()) break;
  }
  if (slots->free.empty() || !slots->free.back().valid()) {
    return ErrnoStatus(errno, absl::StrCat("reserve ", count, " spawn slots"));
  }
  std::ranges::reverse(slots->free);  // The lowest is lent first.
  return SpawnSlots(std::move(slots));
}

SpawnSlots::Slots::Slots() : owner(getpid()) {}

SpawnSlots::Slots::~Slots() {
  if (!is_forked_copy()) return;
  (void)std::move(placeholder).Release();
  for (UniqueFd& slot : free) (void)std::move(slot).Release();
}

bool SpawnSlots::Slots::is_forked_copy() const { return owner != getpid(); }

SpawnSlots::Loan::Loan(const SpawnSlots* slots)
    : slots_(slots == nullptr || slots->slots_->is_forked_copy() ? nullptr
                                                                 : slots) {}

SpawnSlots::Loan::~Loan() {
  for (UniqueFd& slot : lent_) {
    Slots& slots = *slots_->slots_;
    // In one step, so that nobody else can be given the number in between.
    if (dup3(slots.placeholder.get(), slot.get(), O_CLOEXEC) == -1) continue;
    const std::lock_guard lock(slots.mutex);
    slots.free.push_back(std::move(slot));
  }
}

int SpawnSlots::Loan::Lower(int fd) {
  if (fd < kFirstFdAfterStdio || MayHoldRecordLocks(fd)) return fd;
  if (slots_ != nullptr) {
    UniqueFd slot;
    {
      const std::lock_guard lock(slots_->slots_->mutex);
      std::vector<UniqueFd>& free = slots_->slots_->free;
      if (!free.empty()) {
        slot = std::move(free.back());
        free.pop_back();
      }
    }
    if (slot.valid()) {
      lent_.push_back(std::move(slot));
      // It cannot fail, the number is open; if it did, fd itself will do.
      return dup3(fd, lent_.back().get(), O_CLOEXEC) == -1 ? fd
                                                           : lent_.back().get();
    }
  }
  if (fd < kLow) return fd;
  UniqueFd copy(fcntl(fd, F_DUPFD_CLOEXEC, kFirstFdAfterStdio));
  if (!copy.valid() || copy.get() > fd) return fd;
  copies_.push_back(std::move(copy));
  return copies_.back().get();
}

}  // namespace brood
