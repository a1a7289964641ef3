// SPDX-License-Identifier: Apache-2.0
//
// What a parent does about SIGCHLD, why it has zombies, and what would cure it,
// in words.
//
//   std::string Advice(const ZombieParent& parent) {
//     return absl::StrCat("SIGCHLD: ", SigchldInWords(parent), ". ",
//                         CureInWords(parent));
//   }
//
// What it is not: certain. /proc tells what a parent has asked of the kernel,
// and not what its handler does, nor whether it reads a signalfd; where the
// words guess they say so.
//
// Threads, signals, fork: functions of their arguments.
// Rests on: signal(7), waitpid(2), proc(5).
#ifndef BROOD_TOOLS_ZOMBIES_CURE_H_
#define BROOD_TOOLS_ZOMBIES_CURE_H_

#include <string>

#include "brood/tools/zombies/zombie_watch.h"

namespace brood {

// "handled", "ignored and blocked", "neither handled nor ignored".
std::string SigchldInWords(const ZombieParent& parent);

// Some sentences of printable ASCII.
std::string CureInWords(const ZombieParent& parent);

}  // namespace brood

#endif  // BROOD_TOOLS_ZOMBIES_CURE_H_
