// SPDX-License-Identifier: Apache-2.0
// The input is a command line, an argument a line. Either it is refused in one
// line that everybody can print, or what was promised of the struct holds.
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "absl/algorithm/container.h"
#include "absl/log/check.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_split.h"
#include "brood/server/options.h"
#include "brood/server/services.h"

namespace brood {
namespace {

void ReadAsCommandLine(std::string_view text) {
  std::vector<std::string_view> args;
  if (!text.empty()) args = absl::StrSplit(text, '\n');
  const absl::StatusOr<ServerOptions> options = ParseOptions(args);
  if (!options.ok()) {
    const std::string_view message = options.status().message();
    CHECK(absl::IsInvalidArgument(options.status())) << message;
    CHECK(!message.empty());
    CHECK(absl::c_all_of(message, [](char c) { return c >= ' ' && c <= '~'; }))
        << message;
    return;
  }
  if (options->help) return;
  CHECK(!options->listen.places.empty());
  CHECK(absl::c_linear_search(kServiceNames, options->handler.service));
  CHECK_LE(1, options->workers.min_spare);
  CHECK_LE(options->workers.min_spare, options->workers.max_spare);
  CHECK_LE(options->workers.max_spare, options->workers.max);
  CHECK(options->proxy.headers.has_value() != options->proxy.trusted.empty());
  CHECK(options->privileges.user.has_value() ||
        !options->privileges.group.has_value());
  CHECK(!absl::StrContains(options->admit.message, '\n'));

  // An order of their own makes no difference to whether they are taken.
  if (absl::c_linear_search(args, "--")) return;
  for (const std::string_view arg : args) {
    if (!absl::StrContains(arg, '=')) return;  // It may be two arguments.
  }
  absl::c_reverse(args);
  CHECK_OK(ParseOptions(args));
}

}  // namespace
}  // namespace brood

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  brood::ReadAsCommandLine({reinterpret_cast<const char*>(data), size});
  return 0;
}
