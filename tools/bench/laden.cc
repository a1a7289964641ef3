// SPDX-License-Identifier: Apache-2.0
//
// The server as a part of a large program: one that has so many bytes resident
// before the server begins, and so many descriptors open before it serves.
//
//   laden MEBIBYTES DESCRIPTORS --listen=127.0.0.1:0 -- /bin/cat
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/types.h>

#include <cerrno>
#include <cstddef>
#include <iostream>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "absl/types/span.h"
#include "brood/proc/posix.h"
#include "brood/server/assembly.h"
#include "brood/server/options.h"
#include "brood/server/supervisor.h"
#include "brood/signal/mask.h"
#include "brood/tools/load/descriptor_limit.h"

namespace brood {
namespace {

// These stay until this process ends.
absl::Status OpenMany(size_t descriptors) {
  if (absl::Status s = RaiseDescriptorLimit(descriptors); !s.ok()) return s;
  for (size_t i = 0; i < descriptors; ++i) {
    if (open("/dev/null", O_RDWR | O_CLOEXEC) == -1) {
      return ErrnoStatus(errno, "open /dev/null");
    }
  }
  return absl::OkStatus();
}

absl::Status TakeMuch(size_t mebibytes) {
  if (mebibytes == 0) return absl::OkStatus();
  const void* const memory =
      mmap(nullptr, mebibytes << 20, PROT_READ | PROT_WRITE,
           MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  return memory == MAP_FAILED ? ErrnoStatus(errno, "mmap") : absl::OkStatus();
}

absl::Status Run(absl::Span<const std::string_view> args) {
  size_t mebibytes;
  size_t descriptors;
  if (args.size() < 2 || !absl::SimpleAtoi(args[0], &mebibytes) ||
      !absl::SimpleAtoi(args[1], &descriptors)) {
    return absl::InvalidArgumentError(
        "expected MEBIBYTES DESCRIPTORS and what //server takes");
  }
  absl::StatusOr<ServerOptions> options = ParseOptions(args.subspan(2));
  if (!options.ok()) return options.status();
  if (absl::Status s = TakeMuch(mebibytes); !s.ok()) return s;
  const absl::StatusOr<std::unique_ptr<Assembly>> server =
      Assembly::Create(*std::move(options));
  if (!server.ok()) return server.status();
  if (absl::Status s = OpenMany(descriptors); !s.ok()) return s;
  return (*server)->Run();
}

}  // namespace
}  // namespace brood

int main(int argc, char** argv) {
  const absl::StatusOr<brood::SignalMask> mask =
      brood::SignalMask::Block(brood::SupervisedSignals());
  const absl::Status status =
      mask.ok()
          ? brood::Run(std::vector<std::string_view>(argv + 1, argv + argc))
          : mask.status();
  if (!status.ok()) std::cerr << "laden: " << status.message() << "\n";
  return status.ok() ? 0 : 1;
}
