// SPDX-License-Identifier: Apache-2.0
#include "brood/tools/zombies/cure.h"

#include <csignal>
#include <string>
#include <string_view>

#include "absl/algorithm/container.h"
#include "absl/strings/str_cat.h"
#include "brood/proc/process_table.h"
#include "brood/tools/zombies/zombie_watch.h"

namespace brood {
namespace {

constexpr std::string_view kLoop =
    "Cure: wait in a loop until nothing is left, while (waitpid(-1, &status, "
    "WNOHANG) > 0).";

// Of a parent that runs, and whose signals are known.
std::string Cure(const Process& parent, const SignalState& signals) {
  const bool many_threads = parent.thread_count > 1;
  const bool blocks = signals.blocks(SIGCHLD);
  const bool awaits = signals.awaits(SIGCHLD);
  if (signals.ignores(SIGCHLD)) {
    return "It ignores SIGCHLD, so the kernel reaps its children as they end; "
           "these ended before it did so. They stay until it waits for them, "
           "or ends.";
  }
  if (signals.handles(SIGCHLD) && blocks && awaits) {
    return absl::StrCat(
        "It has a handler for SIGCHLD, and one is pending, but ",
        many_threads ? "its first thread blocks it and no other has taken it"
                     : "it blocks it: the handler cannot run",
        ". Cure: unblock SIGCHLD, for good or while it waits for work "
        "(ppoll, sigsuspend). If it does so, it is busy with something else.");
  }
  if (signals.handles(SIGCHLD) && awaits) {
    return "It has a handler for SIGCHLD, and one is on its way: it has not "
           "run since. Look again; if that stays so, it hangs in the kernel.";
  }
  if (signals.handles(SIGCHLD)) {
    return absl::StrCat(
        "It handles SIGCHLD, yet leaves zombies: most likely its handler waits "
        "once, and one SIGCHLD may stand for many exits; or it waits only for "
        "children that it knows. ",
        kLoop, " For now, each kill -CHLD ", parent.pid,
        " runs its handler once more",
        blocks ? ", when it unblocks SIGCHLD." : ".");
  }
  if (parent.pid == 1) {
    return absl::StrCat(
        "It is PID 1, to whom every orphan comes, and it does not wait for "
        "children that it never started. Cure: an init as PID 1 (tini, or "
        "docker run --init), which runs this program; or let it wait for any "
        "child, in a loop.");
  }
  if (blocks) {
    return absl::StrCat(
        "It blocks SIGCHLD and has no handler: it reads a signalfd, or calls "
        "sigwait, or does nothing about it. ",
        awaits ? "One is pending, so it has not read that yet: it is busy, "
                 "or it never does. "
               : "None is pending, so that one was taken and too few waited "
                 "for. ",
        kLoop);
  }
  return "It neither handles nor ignores SIGCHLD, so it is up to it to wait, "
         "and it has not: it is busy, it never does, or it was executed in "
         "place of the program that started them. Cure: waitpid() for each "
         "child; or, if it does not ask how they end, signal(SIGCHLD, SIG_IGN) "
         "before the first. kill -CHLD changes nothing; its zombies go when it "
         "ends.";
}

}  // namespace

std::string SigchldInWords(const ZombieParent& parent) {
  if (!parent.signals.has_value()) return "not known";
  const SignalState& signals = *parent.signals;
  return absl::StrCat(signals.ignores(SIGCHLD) ? "ignored"
                      : signals.handles(SIGCHLD)
                          ? "handled"
                          : "neither handled nor ignored",
                      signals.blocks(SIGCHLD) ? ", blocked" : "",
                      signals.awaits(SIGCHLD) ? ", one pending" : "");
}

std::string CureInWords(const ZombieParent& parent) {
  if (parent.pid == 0) {
    return "Their parent is outside of this pid namespace, and nobody else can "
           "wait for them. Look from there.";
  }
  if (!parent.process.has_value()) {
    return "Their parent is not to be seen: it is hidden from this user, or it "
           "has ended meanwhile. Look again, as root.";
  }
  if (parent.process->state == ProcessState::kStopped) {
    return absl::StrCat(
        "It is stopped, and waits for nobody meanwhile. Cure: kill -CONT ",
        parent.pid, ".");
  }
  if (parent.process->state == ProcessState::kTraced) {
    return "A debugger holds it, and it waits for nobody meanwhile.";
  }
  const bool unannounced =
      absl::c_all_of(parent.zombies, [](const FoundZombie& zombie) {
        return zombie.process.exit_signal != SIGCHLD;
      });
  if (unannounced) {
    return "They were made by clone(2) with another signal than SIGCHLD, or "
           "none: no SIGCHLD tells of their ends, and only a wait with __WALL "
           "or __WCLONE takes them. Cure: waitpid(pid, &status, __WALL) for "
           "each, or SIGCHLD in clone().";
  }
  if (!parent.signals.has_value()) {
    return "What it does about SIGCHLD may not be read. Look again, as root.";
  }
  return Cure(*parent.process, *parent.signals);
}

}  // namespace brood
