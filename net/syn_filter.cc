// SPDX-License-Identifier: Apache-2.0
#include "brood/net/syn_filter.h"

#include <arpa/inet.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "brood/net/address_range.h"
#include "brood/net/listener.h"
#include "brood/proc/posix.h"

namespace brood {
namespace {

using Program = std::vector<sock_filter>;

constexpr uint32_t kDrop = 0;
constexpr uint32_t kKeep = 0xffffffff;

// Where the filter of a TCP socket finds what it asks for: the packet begins
// with its TCP header, and the IP header is reached by an offset of its own.
constexpr uint32_t kTcpFlags = 13;
constexpr uint32_t kSyn = 0x02;
constexpr uint32_t kAck = 0x10;
constexpr auto kIpHeader = static_cast<uint32_t>(SKF_NET_OFF);
constexpr uint32_t kIpv4Source = kIpHeader + 12;
constexpr uint32_t kIpv6Source = kIpHeader + 8;
constexpr auto kProtocol = static_cast<uint32_t>(SKF_AD_OFF + SKF_AD_PROTOCOL);

void Add(uint16_t code, uint32_t k, Program& program) {
  program.push_back({.code = code, .jt = 0, .jf = 0, .k = k});
}

// Goes on if it is so, else over the next `over` instructions.
void UnlessJump(uint16_t test, uint32_t k, size_t over, Program& program) {
  program.push_back({.code = static_cast<uint16_t>(BPF_JMP | test | BPF_K),
                     .jt = 0,
                     .jf = static_cast<uint8_t>(over),
                     .k = k});
}

// Drops what comes from `range`. The words of the address beyond its prefix
// are not looked at.
Program DropFrom(const AddressRange& range) {
  struct Word {
    uint32_t value;
    uint32_t mask;
  };
  std::vector<Word> words;
  size_t first = 0;
  for (int bits = range.prefix_length(); bits > 0; bits -= 32, first += 4) {
    const uint32_t mask = bits >= 32 ? ~uint32_t{0} : ~(~uint32_t{0} >> bits);
    uint32_t value = 0;
    std::memcpy(&value, &range.first_host()[first], sizeof(value));
    words.push_back({.value = ntohl(value), .mask = mask});
  }
  const bool ipv4 = range.family() == AF_INET;
  const uint32_t source = ipv4 ? kIpv4Source : kIpv6Source;
  // Three instructions a word, and the verdict.
  size_t left = 3 * words.size() + 1;
  Program program;
  Add(BPF_LD | BPF_W | BPF_ABS, kProtocol, program);
  UnlessJump(BPF_JEQ, ipv4 ? ETH_P_IP : ETH_P_IPV6, left, program);
  for (size_t i = 0; i < words.size(); ++i) {
    left -= 3;
    Add(BPF_LD | BPF_W | BPF_ABS, source + static_cast<uint32_t>(4 * i),
        program);
    Add(BPF_ALU | BPF_AND | BPF_K, words[i].mask, program);
    UnlessJump(BPF_JEQ, words[i].value, left, program);
  }
  Add(BPF_RET | BPF_K, kDrop, program);
  return program;
}

Program FilterOf(absl::Span<const AddressRange> sources) {
  // Whoever is connected sends no SYN, and an answer to one has an ACK too.
  Program program;
  Add(BPF_LD | BPF_B | BPF_ABS, kTcpFlags, program);
  Add(BPF_ALU | BPF_AND | BPF_K, kSyn | kAck, program);
  UnlessJump(BPF_JEQ, kSyn, 0, program);
  program.back().jt = 1;
  Add(BPF_RET | BPF_K, kKeep, program);
  for (const AddressRange& source : sources) {
    const Program one = DropFrom(source);
    program.insert(program.end(), one.begin(), one.end());
  }
  Add(BPF_RET | BPF_K, kKeep, program);
  return program;
}

}  // namespace

absl::Status DropSynsFrom(int listener,
                          absl::Span<const AddressRange> sources) {
  if (sources.size() > kMaxFilteredSources) {
    return absl::InvalidArgumentError(
        absl::StrCat("filter ", sources.size(), " sources: at most ",
                     kMaxFilteredSources, " are allowed"));
  }
  if (sources.empty()) {
    constexpr int kUnused = 0;
    if (setsockopt(listener, SOL_SOCKET, SO_DETACH_FILTER, &kUnused,
                   sizeof(kUnused)) == 0 ||
        errno == ENOENT) {  // There was none.
      return absl::OkStatus();
    }
    return ErrnoStatus(errno, absl::StrCat("setsockopt(SO_DETACH_FILTER) of ",
                                           "descriptor ", listener));
  }
  Program program = FilterOf(sources);
  const sock_fprog filter = {.len = static_cast<uint16_t>(program.size()),
                             .filter = program.data()};
  if (setsockopt(listener, SOL_SOCKET, SO_ATTACH_FILTER, &filter,
                 sizeof(filter)) == -1) {
    return ErrnoStatus(errno, absl::StrCat("setsockopt(SO_ATTACH_FILTER) of ",
                                           "descriptor ", listener));
  }
  return absl::OkStatus();
}

absl::Status DropSynsFrom(absl::Span<const Listener> listeners,
                          absl::Span<const AddressRange> sources) {
  absl::Status status;
  for (const Listener& listener : listeners) {
    if (listener.fd() == -1 || listener.address().family() == AF_UNIX) continue;
    status.Update(DropSynsFrom(listener.fd(), sources));
  }
  return status;
}

uint32_t PacketsDroppedAt(absl::Span<const Listener> listeners) {
  uint32_t dropped = 0;
  for (const Listener& listener : listeners) {
    std::array<uint32_t, SK_MEMINFO_VARS> counters = {};
    socklen_t length = sizeof(counters);
    if (getsockopt(listener.fd(), SOL_SOCKET, SO_MEMINFO, counters.data(),
                   &length) == 0) {
      dropped += counters[SK_MEMINFO_DROPS];
    }
  }
  return dropped;
}

}  // namespace brood
