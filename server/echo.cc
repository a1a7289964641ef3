// SPDX-License-Identifier: Apache-2.0
#include "brood/server/echo.h"

#include <array>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "brood/net/stream.h"
#include "brood/server/connection_handler.h"

namespace brood {

int EchoHandler::Handle(Stream& stream, const ConnectionInfo& /*info*/) {
  // Not zeroed: a child touches only the pages that its client fills.
  std::array<char, 65536> buffer;
  while (true) {
    const absl::StatusOr<IoResult> got = stream.Read(absl::MakeSpan(buffer));
    if (!got.ok()) return 1;
    if (got->end()) return 0;
    const std::string_view bytes(buffer.data(), *got->bytes());
    if (!stream.WriteAll(bytes).ok()) return 1;
  }
}

}  // namespace brood
