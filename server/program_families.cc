// SPDX-License-Identifier: Apache-2.0
#include "brood/server/program_families.h"

#include <string>
#include <utility>

#include "absl/functional/any_invocable.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "brood/proc/families.h"
#include "brood/server/connection_log.h"
#include "brood/server/poll_loop.h"

namespace brood {

void ProgramFamilies::Start(PollLoop& loop, Families::IsMine is_mine,
                            Families::Reaps reaps,
                            absl::AnyInvocable<void()> on_look,
                            absl::FunctionRef<void(const LogEvent&)> tell) {
  absl::StatusOr<Families> families =
      Families::Receive(std::move(is_mine), reaps);
  if (!families.ok()) {
    const std::string why(families.status().message());
    tell({.name = "only_groups_end",
          .sentence = absl::StrCat(
              "of a program only its process group is ended: ", why),
          .fields = {{"why", why}}});
    return;
  }
  families_.emplace(*std::move(families));
  loop.Watch(families_->fd(), [this, on_look = std::move(on_look)]() mutable {
    // What fails for want of a descriptor is tried again.
    (void)families_->Look();
    on_look();
    return absl::OkStatus();
  });
}

}  // namespace brood
