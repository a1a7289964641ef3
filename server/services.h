// SPDX-License-Identifier: Apache-2.0
//
// A service is a ConnectionHandler that everybody knows by its name: echo,
// discard, chargen, daytime and time, of RFC 862, 863, 864, 867 and 868.
//
//   int Serve(std::string_view name, Stream& stream) {
//     absl::StatusOr<std::unique_ptr<ConnectionHandler>> service =
//         MakeService(name);
//     if (!service.ok()) {
//       std::cerr << service.status().message() << "\n";
//       return 2;
//     }
//     return (*service)->Handle(stream, {});
//   }
//
// What it is not: the UDP half of those RFCs, nor their ports.
//
// echo     sends back what it receives; see echo.h.
// discard  throws away what it receives, until the client has finished.
// chargen  sends lines of 72 characters that rotate through printable ASCII,
//          until the client leaves, and throws away what it receives. A client
//          that only shuts down its writing half has not left.
// daytime  sends one line and closes: "Monday, February 22, 1982
//          17:37:43-UTC" and CR LF. The zone is always UTC.
// time     sends the seconds since 1900 in 32 bits, big endian, and closes. In
//          2036 they begin again at 0, as the RFC has it.
//
// The last two say the end after their answer and then wait up to two seconds
// for the client's, throwing away what it has sent: to close with bytes unread
// would reset the connection, and the answer could be lost.
//
// Errors: an unknown name is InvalidArgument and quotes it. Handle() is 0 when
// the client has had all there was for it, and for chargen when it has left; 1
// when the connection broke.
//
// Threads, signals, fork: see connection_handler.h.
// Rests on: the RFCs; tcp(7) for the reset.
#ifndef BROOD_SERVER_SERVICES_H_
#define BROOD_SERVER_SERVICES_H_

#include <array>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "brood/server/connection_handler.h"

namespace brood {

// In the order of their RFCs.
inline constexpr std::array<std::string_view, 5> kServiceNames = {
    "echo", "discard", "chargen", "daytime", "time"};

absl::StatusOr<std::unique_ptr<ConnectionHandler>> MakeService(
    std::string_view name);

// What daytime and time answer at `now`.
std::string DaytimeAnswer(absl::Time now);
std::string TimeAnswer(absl::Time now);

}  // namespace brood

#endif  // BROOD_SERVER_SERVICES_H_
