// SPDX-License-Identifier: Apache-2.0
//
// ProgramFamilies are the Families of a model's programs, or nobody's: for a
// model whose handler is no program, and where the kernel lacks what it takes.
//
//   void EndAll(ProgramFamilies& families, uint64_t connection) {
//     families.End(connection);  // Does nothing, if nobody's.
//   }
//
// What it is not: the one who ends a program, or its process group.
//
// Ownership: the loop must outlive it. Errors: none; that families cannot be
// known is told once, as an event. Threads: one. Signals, fork, rests on: see
// families.h.
#ifndef BROOD_SERVER_PROGRAM_FAMILIES_H_
#define BROOD_SERVER_PROGRAM_FAMILIES_H_

#include <sys/types.h>

#include <cstdint>
#include <optional>

#include "absl/functional/any_invocable.h"
#include "absl/functional/function_ref.h"
#include "brood/proc/families.h"
#include "brood/server/connection_log.h"
#include "brood/server/poll_loop.h"

namespace brood {

class ProgramFamilies {
 public:
  // From here on it is known whom the programs start. `is_mine` and `reaps` are
  // Families::Receive's. After each look `on_look` is called. If families
  // cannot be known, `tell` is, and they remain nobody's.
  void Start(PollLoop& loop, Families::IsMine is_mine, Families::Reaps reaps,
             absl::AnyInvocable<void()> on_look,
             absl::FunctionRef<void(const LogEvent&)> tell);

  // Null for nobody's.
  const Families* get() const {
    return families_.has_value() ? &*families_ : nullptr;
  }
  // As those of Families.
  void Ask(uint64_t number, pid_t leader) {
    if (families_.has_value()) families_->Ask(number, leader);
  }
  void End(uint64_t number) {
    if (families_.has_value()) families_->End(number);
  }
  bool is_ending() const {
    return families_.has_value() && families_->ending() > 0;
  }

 private:
  std::optional<Families> families_;
};

}  // namespace brood

#endif  // BROOD_SERVER_PROGRAM_FAMILIES_H_
