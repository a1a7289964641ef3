// SPDX-License-Identifier: Apache-2.0
#include "brood/net/accept_error.h"

#include <array>
#include <cerrno>

#include "absl/types/span.h"

namespace brood {
namespace {

// Linux passes on what has gone wrong with a connection before it was accepted;
// the manual page lists these network errors and asks to treat them as "try
// again". EOPNOTSUPP is among them, and also what a socket that is not of
// SOCK_STREAM says; that one no Listener ever holds.
constexpr std::array<AcceptErrorRow, 27> kRows = {{
    {EAGAIN, AcceptRemedy::kWait, "nobody waits"},
    {EINTR, AcceptRemedy::kRetry, "a signal came first"},
    {ECONNABORTED, AcceptRemedy::kRetry, "the client has left already"},
    {EPERM, AcceptRemedy::kRetry, "a firewall rule forbids this client"},
    {EPROTO, AcceptRemedy::kRetry, "the client broke the protocol"},
    {ETIMEDOUT, AcceptRemedy::kRetry, "the client fell silent"},
    {ENETDOWN, AcceptRemedy::kRetry, "the client's network is down"},
    {ENETUNREACH, AcceptRemedy::kRetry, "the client's network is unreachable"},
    {EHOSTDOWN, AcceptRemedy::kRetry, "the client's host is down"},
    {EHOSTUNREACH, AcceptRemedy::kRetry, "the client's host is unreachable"},
    {ENONET, AcceptRemedy::kRetry, "the client is not on the network"},
    {ENOPROTOOPT, AcceptRemedy::kRetry, "a network error of the client's"},
    {EOPNOTSUPP, AcceptRemedy::kRetry, "a network error of the client's"},
    {ESOCKTNOSUPPORT, AcceptRemedy::kRetry, "a network error of the client's"},
    {EPROTONOSUPPORT, AcceptRemedy::kRetry, "a network error of the client's"},
    {ECONNRESET, AcceptRemedy::kRetry, "the client has left already"},
    {ENOBUFS, AcceptRemedy::kPause, "the kernel is short of socket memory"},
    {ENOMEM, AcceptRemedy::kPause, "the kernel is short of memory"},
    {ENOSR, AcceptRemedy::kPause, "the kernel is short of stream memory"},
    {EMFILE, AcceptRemedy::kShedAndPause, "the process has no descriptor left"},
    {ENFILE, AcceptRemedy::kShedAndPause, "the machine has no file left"},
    {EBADF, AcceptRemedy::kGiveUp, "the listener is closed"},
    {ENOTSOCK, AcceptRemedy::kGiveUp, "the descriptor is no socket"},
    {EINVAL, AcceptRemedy::kGiveUp, "the socket does not listen"},
    {EFAULT, AcceptRemedy::kGiveUp, "the address is not to be written"},
    {EACCES, AcceptRemedy::kPause, "a security module forbids it"},
    {ENOSYS, AcceptRemedy::kGiveUp, "the kernel or a sandbox has no accept4"},
}};

}  // namespace

absl::Span<const AcceptErrorRow> AcceptErrors() { return kRows; }

AcceptRemedy RemedyFor(int error) {
  for (const AcceptErrorRow& row : kRows) {
    if (row.error == error) return row.remedy;
  }
  return AcceptRemedy::kPause;
}

}  // namespace brood
