// SPDX-License-Identifier: Apache-2.0
#include "brood/server/prefork_board.h"

#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "brood/net/address.h"
#include "brood/proc/exit_status.h"
#include "brood/proc/posix.h"

namespace brood {
namespace {

// Two processes need not map it at one address, and a lock would be in one.
static_assert(std::atomic<uint64_t>::is_always_lock_free);
static_assert(std::atomic<bool>::is_always_lock_free);
// Messages are written and read whole.
static_assert(std::has_unique_object_representations_v<PreforkMessage>);
static_assert(std::has_unique_object_representations_v<PreforkCopy>);

// Each begins with a cache line of its own.
constexpr size_t CacheLinesOf(size_t size) { return (size + 63) / 64 * 64; }
constexpr size_t kOfShared = CacheLinesOf(sizeof(PreforkBoard::Shared));
constexpr size_t kOfSlot = CacheLinesOf(sizeof(PreforkBoard::Slot));

Address AddressIn(std::string_view bytes) {
  sockaddr_storage storage = {};
  std::memcpy(&storage, bytes.data(), std::min(bytes.size(), sizeof(storage)));
  return Address::FromSockaddr(reinterpret_cast<sockaddr*>(&storage),
                               static_cast<socklen_t>(bytes.size()))
      .value_or(Address());
}

}  // namespace

// Zeroes are the state in which all begins. Pages that no worker has come to
// cost nothing.
absl::StatusOr<PreforkBoard> PreforkBoard::Create(size_t slots) {
  const size_t size = kOfShared + slots * kOfSlot;
  void* memory = mmap(nullptr, size, PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) {
    return ErrnoStatus(errno, absl::StrCat("mmap of ", size, " bytes"));
  }
  return PreforkBoard(memory, size);
}

PreforkBoard::Slot& PreforkBoard::slot(size_t i) const {
  return *reinterpret_cast<Slot*>(static_cast<char*>(memory_) + kOfShared +
                                  i * kOfSlot);
}

PreforkBoard::~PreforkBoard() {
  if (memory_ != nullptr) (void)munmap(memory_, size_);
}

// Where the kernel cannot, they have one that they do not use.
void PreforkBoard::KeepFromChildren() const {
  (void)madvise(memory_, size_, MADV_DONTFORK);
}

void PreforkBoard::Note(const PreforkMessage& message) const {
  Slot& of_worker = slot(message.slot);
  NoteTurnedAway(message.slot, message.turned_away);
  if (message.state < of_worker.state) return;
  of_worker.state = message.state;
  of_worker.trouble = message.result;
  of_worker.trouble_at = message.listener;
  of_worker.broken = (message.flags & PreforkMessage::kBroken) != 0;
  of_worker.saw_nobody = (message.flags & PreforkMessage::kSawNobody) != 0;
  of_worker.program = message.pid;
  if ((message.flags & PreforkMessage::kBusy) == 0) return;
  of_worker.listener = message.listener;
  of_worker.since = message.duration;
  of_worker.parties = message.parties;
  if (of_worker.doing.exchange(Doing::kBusy) == Doing::kBusy) return;
  ++of_worker.begun;
  --shared().idle;
}

void PreforkBoard::NoteTurnedAway(size_t i, uint64_t count) const {
  std::atomic<uint64_t>& so_far = slot(i).turned_away;
  so_far = std::max<uint64_t>(so_far, count);
}

void PreforkParties::Set(const Address& peer,
                         const std::optional<Address>& client,
                         const std::optional<Address>& local,
                         std::string_view text) {
  size_t used = 0;
  const auto put = [&](const void* from, size_t length) {
    length = std::min(length, bytes.size() - used);
    std::memcpy(bytes.data() + used, from, length);
    used += length;
    return static_cast<uint16_t>(length);
  };
  peer_length = put(peer.sockaddr(), peer.sockaddr_length());
  client_length = !client.has_value()
                      ? 0
                      : put(client->sockaddr(), client->sockaddr_length());
  local_length =
      !local.has_value() ? 0 : put(local->sockaddr(), local->sockaddr_length());
  constexpr std::string_view kCut = "...";
  text_length = 0;
  if (used + text.size() > bytes.size()) {
    text_length = put(kCut.data(), kCut.size());
    text.remove_prefix(text.size() - (bytes.size() - used));
  }
  if (!text.empty()) text_length += put(text.data(), text.size());
}

// Who has written it may have spoilt its memory.
std::string_view PreforkParties::Part(size_t begin, size_t length) const {
  begin = std::min(begin, bytes.size());
  return {bytes.data() + begin, std::min(length, bytes.size() - begin)};
}

Address PreforkParties::Peer() const { return AddressIn(Part(0, peer_length)); }

std::optional<Address> PreforkParties::Client() const {
  if (client_length == 0) return std::nullopt;
  return AddressIn(Part(peer_length, client_length));
}

std::optional<Address> PreforkParties::Local() const {
  if (local_length == 0) return std::nullopt;
  return AddressIn(Part(size_t{peer_length} + client_length, local_length));
}

std::string PreforkParties::Text() const {
  return std::string(
      Part(size_t{peer_length} + client_length + local_length, text_length));
}

int32_t PreforkMessage::ResultOf(const ExitStatus& status) {
  if (const std::optional<int> code = status.exit_code()) {
    return W_EXITCODE(*code & 0xff, 0);
  }
  const std::optional<int> signo = status.term_signal();
  if (!signo.has_value()) return -1;
  return W_EXITCODE(0, *signo) | (status.core_dumped() ? WCOREFLAG : 0);
}

ExitStatus PreforkMessage::Status() const {
  if (result < 0 || (!WIFEXITED(result) && !WIFSIGNALED(result))) {
    return ExitStatus::Lost();
  }
  return ExitStatus::FromWaitStatus(result);
}

}  // namespace brood
