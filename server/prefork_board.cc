// SPDX-License-Identifier: Apache-2.0
#include "brood/server/prefork_board.h"

#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "brood/net/address.h"
#include "brood/proc/posix.h"

namespace brood {
namespace {

// Two processes need not map it at one address, and a lock would be in one.
static_assert(std::atomic<uint64_t>::is_always_lock_free);
static_assert(std::atomic<bool>::is_always_lock_free);
// Messages are written and read whole.
static_assert(std::has_unique_object_representations_v<PreforkMessage>);
static_assert(std::has_unique_object_representations_v<PreforkCopy>);

Address AddressIn(const std::array<char, sizeof(sockaddr_un)>& bytes,
                  size_t length) {
  sockaddr_storage storage = {};
  length = std::min(length, bytes.size());
  std::memcpy(&storage, bytes.data(), length);
  return Address::FromSockaddr(reinterpret_cast<sockaddr*>(&storage),
                               static_cast<socklen_t>(length))
      .value_or(Address());
}

}  // namespace

// Zeroes are the state in which all begins. Pages that no worker has come to
// cost nothing.
absl::StatusOr<PreforkBoard> PreforkBoard::Create(size_t slots) {
  const size_t size = sizeof(Shared) + slots * sizeof(Slot);
  void* memory = mmap(nullptr, size, PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) {
    return ErrnoStatus(errno, absl::StrCat("mmap of ", size, " bytes"));
  }
  return PreforkBoard(memory, size);
}

PreforkBoard::Slot& PreforkBoard::slot(size_t i) const {
  static_assert(sizeof(Shared) % alignof(Slot) == 0);
  return reinterpret_cast<Slot*>(static_cast<char*>(memory_) +
                                 sizeof(Shared))[i];
}

void PreforkBoard::Unmap() {
  if (memory_ != nullptr) (void)munmap(memory_, size_);
  memory_ = nullptr;
}

void PreforkBoard::Slot::SetPeer(const Address& address) {
  std::memcpy(peer.data(), address.sockaddr(), address.sockaddr_length());
  peer_length.store(static_cast<uint16_t>(address.sockaddr_length()),
                    std::memory_order_relaxed);
}

Address PreforkBoard::Slot::Peer() const {
  return AddressIn(peer, peer_length);
}

Address PreforkMessage::Peer() const { return AddressIn(peer, peer_length); }

}  // namespace brood
