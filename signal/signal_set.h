// SPDX-License-Identifier: Apache-2.0
//
// A SignalSet says which signals.
//
//   constexpr SignalSet kStop = {SIGINT, SIGTERM};
//
//   absl::StatusOr<SignalSet> Watched(int reload) {
//     SignalSet watched = kStop | SignalSet{SIGCHLD};
//     const absl::Status added = watched.Add(reload);  // Known only now.
//     if (!added.ok()) return added;
//     watched.Remove(SIGINT);
//     return watched;  // "SIGUSR2 SIGTERM SIGCHLD", if that is `reload`.
//   }
//
// What it is not: a mask. It changes nothing; see mask.h for who does.
//
// Only signals can be in it. A number in braces must be a standard signal and
// is checked by the compiler: SignalSet{99} does not compile, and neither does
// SignalSet{SIGRTMIN}, which is not a constant. What is known at run time goes
// through Add() or Of().
//
// Errors: InvalidArgument for a number that is no signal (see IsSignal()).
//
// Threads, signals, fork: a value; compare and copy it anywhere.
// Rests on: sigsetops(3).
#ifndef BROOD_SIGNAL_SIGNAL_SET_H_
#define BROOD_SIGNAL_SIGNAL_SET_H_

#include <csignal>
#include <cstdint>
#include <initializer_list>
#include <ostream>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace brood {

class SignalSet {
 public:
  // A standard signal's number that the compiler knows; converts from int.
  class Constant {
   public:
    // NOLINTNEXTLINE(google-explicit-constructor): it is written as an int.
    consteval Constant(int signo) : signo_(signo) {
      if (signo < 1 || signo > kLastStandard) NotAStandardSignal();
    }
    constexpr int signo() const { return signo_; }

   private:
    static void NotAStandardSignal();  // Not constexpr, hence the error.
    int signo_;
  };

  constexpr SignalSet() = default;
  constexpr SignalSet(std::initializer_list<Constant> signals) {
    for (const Constant signal : signals) bits_ |= Bit(signal.signo());
  }
  // For numbers known at run time only.
  static absl::StatusOr<SignalSet> Of(absl::Span<const int> signals);
  // Every signal, SIGKILL and SIGSTOP among them, as sigfillset(3) has it.
  static SignalSet All();
  static SignalSet FromNative(const sigset_t& native);

  // Leaves the set as it was if `signo` is no signal.
  absl::Status Add(int signo);
  // Removing what is not there is no error, nor is asking for it.
  void Remove(int signo);
  bool Contains(int signo) const;

  bool empty() const { return bits_ == 0; }
  // In ascending order.
  std::vector<int> ToVector() const;
  // "SIGINT SIGTERM SIGRTMIN+3", in ascending order; "" if empty.
  std::string ToString() const;
  sigset_t native() const;

  // In either; in the first but not in the second.
  friend constexpr SignalSet operator|(SignalSet a, SignalSet b) {
    return SignalSet(a.bits_ | b.bits_);
  }
  friend constexpr SignalSet operator-(SignalSet a, SignalSet b) {
    return SignalSet(a.bits_ & ~b.bits_);
  }
  friend bool operator==(const SignalSet&, const SignalSet&) = default;
  friend std::ostream& operator<<(std::ostream& os, const SignalSet& set) {
    return os << set.ToString();
  }

 private:
  static constexpr int kLastStandard = 31;
  static constexpr int kLast = 64;
  static constexpr uint64_t Bit(int signo) {
    return uint64_t{1} << (signo - 1);
  }
  explicit constexpr SignalSet(uint64_t bits) : bits_(bits) {}

  uint64_t bits_ = 0;  // Bit signo - 1, as in the kernel.
};

// What no program can handle, ignore, block or read.
inline constexpr SignalSet kKillAndStop = {SIGKILL, SIGSTOP};
// InvalidArgument if one of those two is in `signals`, which somebody is about
// to receive.
absl::Status CheckReceivable(const SignalSet& signals);

}  // namespace brood

#endif  // BROOD_SIGNAL_SIGNAL_SET_H_
