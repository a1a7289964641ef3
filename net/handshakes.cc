// SPDX-License-Identifier: Apache-2.0
#include "brood/net/handshakes.h"

#include <arpa/inet.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "brood/net/address.h"
#include "brood/proc/posix.h"
#include "brood/proc/unique_fd.h"

namespace brood {
namespace {

struct Request {
  nlmsghdr header;
  inet_diag_req_v2 body;
};

// Those of one family. The kernel looks at the port only; whoever listens on
// the same port of another address is counted too.
absl::StatusOr<int> CountFamily(int netlink, sa_family_t family, uint16_t port,
                                const Address& local) {
  Request request = {};
  request.header.nlmsg_len = sizeof(request);
  request.header.nlmsg_type = SOCK_DIAG_BY_FAMILY;
  request.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
  request.body.sdiag_family = static_cast<uint8_t>(family);
  request.body.sdiag_protocol = IPPROTO_TCP;
  request.body.idiag_states = 1U << TCP_SYN_RECV;
  request.body.id.idiag_sport = htons(port);
  const auto fail = [&](int error) {
    return ErrnoStatus(error, absl::StrCat("sock_diag for ", local));
  };
  if (RetryOnEintr(
          [&] { return send(netlink, &request, sizeof(request), 0); }) == -1) {
    return fail(errno);
  }
  int count = 0;
  std::array<char, 32768> buffer;
  for (;;) {
    const ssize_t received = RetryOnEintr(
        [&] { return recv(netlink, buffer.data(), buffer.size(), 0); });
    if (received == -1) return fail(errno);
    std::string_view rest(buffer.data(), static_cast<size_t>(received));
    while (rest.size() >= sizeof(nlmsghdr)) {
      nlmsghdr header;
      std::memcpy(&header, rest.data(), sizeof(header));
      if (header.nlmsg_type == NLMSG_DONE) return count;
      if (header.nlmsg_type == NLMSG_ERROR) {
        nlmsgerr error = {};
        rest.remove_prefix(sizeof(header));
        std::memcpy(&error, rest.data(), std::min(rest.size(), sizeof(error)));
        return fail(-error.error);
      }
      ++count;
      rest.remove_prefix(
          std::min<size_t>(rest.size(), NLMSG_ALIGN(header.nlmsg_len)));
    }
  }
}

}  // namespace

absl::StatusOr<int> HandshakesUnderWay(const Address& local) {
  const UniqueFd netlink(
      socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG));
  if (!netlink.valid()) {
    return ErrnoStatus(errno, absl::StrCat("sock_diag for ", local));
  }
  int count = 0;
  // A client that comes by IPv4 to a listener of both families is an IPv4 one.
  constexpr std::array<sa_family_t, 2> kFamilies = {AF_INET, AF_INET6};
  for (const sa_family_t family : kFamilies) {
    if (family != local.family() && !local.both_families()) continue;
    const absl::StatusOr<int> of_family =
        CountFamily(netlink.get(), family, *local.port(), local);
    if (!of_family.ok()) return of_family.status();
    count += *of_family;
  }
  return count;
}

}  // namespace brood
