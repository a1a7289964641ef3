// SPDX-License-Identifier: Apache-2.0
//
// The way back from a signal's name to its number, and what is a signal at all.
//
//   absl::StatusOr<int> StopSignal(std::string_view flag) {
//     const absl::StatusOr<int> signo = ParseSignal(flag);  // "TERM", "15"
//     if (!signo.ok()) return signo.status();  // Quotes it, says what may be.
//     if (*signo == SIGKILL) {
//       return absl::InvalidArgumentError(
//           absl::StrCat(NameOfSignal(*signo), " leaves no time to drain"));
//     }
//     return signo;
//   }
//
// What it is not: the way forth. That is NameOfSignal(int) of
// brood/proc/posix.h, which lies below this package because a wait status needs
// it. For every signal, ParseSignal(NameOfSignal(signo)) is signo.
//
// Errors: InvalidArgument, and no other.
//
// Threads, signals, fork: no state. Only IsSignal is async-signal-safe.
// Rests on: signal(7), sigabbrev_np(3) (glibc 2.32).
#ifndef BROOD_SIGNAL_NAMES_H_
#define BROOD_SIGNAL_NAMES_H_

#include <string_view>

#include "absl/status/statusor.h"

namespace brood {

// Whether a program may name this signal: the standard ones, 1 to 31, and
// SIGRTMIN to SIGRTMAX. Those between are the C library's own.
bool IsSignal(int signo);

// Understands, in any case, "SIGCHLD" and "CHLD"; "SIGRTMIN+3" and
// "SIGRTMAX-1", also without "SIG"; the synonyms CLD, IO and IOT of signal(7);
// and a decimal number that IsSignal(). Nothing else: no sign, no space, no
// "0x11".
absl::StatusOr<int> ParseSignal(std::string_view text);

}  // namespace brood

#endif  // BROOD_SIGNAL_NAMES_H_
