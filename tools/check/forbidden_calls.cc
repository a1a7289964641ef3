// SPDX-License-Identifier: Apache-2.0
#include "brood/tools/check/forbidden_calls.h"

#include <array>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "brood/tools/check/cc_code.h"
#include "brood/tools/check/finding.h"
#include "brood/tools/check/source_tree.h"

namespace brood {
namespace {

// Whose code a rule is for.
enum class Scope {
  kAll,       // also tests, and what shows the textbook or is measured by
  kOurs,      // also programs
  kLibraries  // what others link
};

enum class When {
  kAlways,
  kUnless,  // the arguments have `argument`
  kIf       // they have
};

struct Rule {
  std::string_view name;
  Scope scope;
  std::string_view why;
  When when = When::kAlways;
  std::string_view argument = {};
};

constexpr std::string_view kOverrun = "knows no end of its buffer";
constexpr std::string_view kStatic = "its result is shared by all callers";
constexpr std::string_view kTime = "waits for time, not for an event";
constexpr std::string_view kCloexec =
    "the descriptor is close-on-exec from its creation";
constexpr std::string_view kEnds = "a library returns a Status";
constexpr std::string_view kAnyChild =
    "would take the children of the host program";
constexpr std::string_view kOneThread = "the parent has one thread";
constexpr std::string_view kNames = "loads a name service; see proc/accounts.h";
constexpr std::string_view kFork = "see proc/fork.h and proc/spawn.h";

constexpr auto kRules = std::to_array<Rule>({
    {"system", Scope::kAll, "a shell stands between; see proc/spawn.h"},
    {"popen", Scope::kAll, "a shell stands between; see proc/spawn.h"},
    {"sprintf", Scope::kAll, kOverrun},
    {"vsprintf", Scope::kAll, kOverrun},
    {"strcpy", Scope::kAll, kOverrun},
    {"strcat", Scope::kAll, kOverrun},
    {"gets", Scope::kAll, kOverrun},
    {"strtok", Scope::kAll, kStatic},
    {"inet_ntoa", Scope::kAll, kStatic},
    {"gethostbyname", Scope::kAll, kStatic},
    {"gmtime", Scope::kAll, kStatic},
    {"localtime", Scope::kAll, kStatic},
    {"getpwnam", Scope::kAll, kNames},
    {"getpwnam_r", Scope::kAll, kNames},
    {"getpwuid", Scope::kAll, kNames},
    {"getpwuid_r", Scope::kAll, kNames},
    {"getpwent", Scope::kAll, kNames},
    {"getpwent_r", Scope::kAll, kNames},
    {"getgrnam", Scope::kAll, kNames},
    {"getgrnam_r", Scope::kAll, kNames},
    {"getgrgid", Scope::kAll, kNames},
    {"getgrgid_r", Scope::kAll, kNames},
    {"getgrent", Scope::kAll, kNames},
    {"getgrent_r", Scope::kAll, kNames},
    {"getgrouplist", Scope::kAll, kNames},
    {"initgroups", Scope::kAll, kNames},
    {"mktemp", Scope::kAll, "somebody else can have the name by then"},
    {"tmpnam", Scope::kAll, "somebody else can have the name by then"},
    {"select", Scope::kAll, "knows no descriptor above 1023"},
    {"RetryOnEintr", Scope::kAll, "close is never retried", When::kIf,
     "close("},
    {"sleep", Scope::kAll, kTime},
    {"usleep", Scope::kAll, kTime},
    {"nanosleep", Scope::kAll, kTime},
    {"clock_nanosleep", Scope::kAll, kTime},
    {"SleepFor", Scope::kAll, kTime},
    {"sleep_for", Scope::kAll, kTime},
    {"sleep_until", Scope::kAll, kTime},

    {"fork", Scope::kOurs, kFork},
    {"vfork", Scope::kOurs, kFork},
    {"daemon", Scope::kOurs, kFork},
    {"wait", Scope::kOurs, kAnyChild},
    {"wait3", Scope::kOurs, kAnyChild},
    {"waitpid", Scope::kOurs, kAnyChild, When::kIf, "-1"},
    {"waitpid", Scope::kOurs, kAnyChild, When::kIf, "WAIT_ANY"},
    {"wait4", Scope::kOurs, kAnyChild, When::kIf, "-1"},
    {"wait4", Scope::kOurs, kAnyChild, When::kIf, "WAIT_ANY"},
    {"waitid", Scope::kOurs, kAnyChild, When::kIf, "P_ALL"},
    {"kill", Scope::kOurs, "a remembered pid may be another process by now"},
    {"signal", Scope::kOurs, "see signal/action.h"},
    {"setjmp", Scope::kOurs, "skips destructors"},
    {"longjmp", Scope::kOurs, "skips destructors"},
    {"pthread_create", Scope::kOurs, kOneThread},
    {"setenv", Scope::kOurs, "changes what the host program reads"},
    {"unsetenv", Scope::kOurs, "changes what the host program reads"},
    {"putenv", Scope::kOurs, "changes what the host program reads"},

    {"open", Scope::kOurs, kCloexec, When::kUnless, "O_CLOEXEC"},
    {"openat", Scope::kOurs, kCloexec, When::kUnless, "O_CLOEXEC"},
    {"socket", Scope::kOurs, kCloexec, When::kUnless, "SOCK_CLOEXEC"},
    {"socketpair", Scope::kOurs, kCloexec, When::kUnless, "SOCK_CLOEXEC"},
    {"accept4", Scope::kOurs, kCloexec, When::kUnless, "SOCK_CLOEXEC"},
    {"accept", Scope::kOurs, kCloexec},
    {"pipe", Scope::kOurs, kCloexec},
    {"pipe2", Scope::kOurs, kCloexec, When::kUnless, "O_CLOEXEC"},
    {"dup", Scope::kOurs, kCloexec},
    {"creat", Scope::kOurs, kCloexec},
    {"mkstemp", Scope::kOurs, kCloexec},
    {"epoll_create", Scope::kOurs, kCloexec},
    {"epoll_create1", Scope::kOurs, kCloexec, When::kUnless, "EPOLL_CLOEXEC"},
    {"eventfd", Scope::kOurs, kCloexec, When::kUnless, "EFD_CLOEXEC"},
    {"signalfd", Scope::kOurs, kCloexec, When::kUnless, "SFD_CLOEXEC"},
    {"timerfd_create", Scope::kOurs, kCloexec, When::kUnless, "TFD_CLOEXEC"},
    {"memfd_create", Scope::kOurs, kCloexec, When::kUnless, "MFD_CLOEXEC"},

    {"abort", Scope::kLibraries, kEnds},
    {"exit", Scope::kLibraries, kEnds},
    {"quick_exit", Scope::kLibraries, kEnds},
    {"terminate", Scope::kLibraries, kEnds},
    {"assert", Scope::kLibraries, kEnds},
    {"CHECK", Scope::kLibraries, kEnds},
    {"CHECK_EQ", Scope::kLibraries, kEnds},
    {"CHECK_OK", Scope::kLibraries, kEnds},
    {"QCHECK", Scope::kLibraries, kEnds},
    {"LOG", Scope::kLibraries, kEnds, When::kIf, "FATAL"},
});

struct Exception {
  std::string_view path;
  std::string_view name;
  std::string_view why;
};

constexpr auto kExceptions = std::to_array<Exception>({
    {"proc/fork.cc", "fork", "the one place that forks"},
    {"proc/fork.cc", "kill", "its own child, which it has not reaped"},
    {"proc/child.cc", "kill", "a child without a pidfd, not reaped yet"},
    {"proc/families.cc", "kill", "an orphan without a pidfd, not reaped yet"},
    {"proc/self_check.cc", "fork", "a probe of what fork does here"},
    {"proc/self_check.cc", "signal", "in a probe's child, that waits itself"},
    {"proc/child.cc", "nanosleep", "a child without a descriptor to wait for"},
    {"net/bound_path.cc", "nanosleep", "flock(2) has no limit of time"},
    {"server/prefork_worker.cc", "SleepFor",
     "the kernel tells nobody when it has memory again"},
    {"tools/zombies/zombies.cc", "SleepFor",
     "only time tells a zombie from a child about to be reaped"},
    {"net/proxy_header_checks.cc", "CHECK", "what the fuzz targets share"},
    {"net/proxy_header_checks.cc", "CHECK_EQ", "what the fuzz targets share"},
    {"net/proxy_header_checks.cc", "CHECK_OK", "what the fuzz targets share"},
    {"net/activation.cc", "unsetenv", "what was for this process alone"},
    {"server/notify.cc", "unsetenv", "what was for this process alone"},
    {"server/server.cc", "open",
     "standard descriptors, which handlers inherit"},
});

bool IsTest(std::string_view path) {
  return absl::StartsWith(path, "tests/") || absl::EndsWith(path, "_test.cc") ||
         absl::EndsWith(path, "_benchmark.cc") ||
         absl::EndsWith(path, "_fuzz.cc");
}

bool Covers(Scope scope, std::string_view path) {
  switch (scope) {
    case Scope::kAll:
      return true;
    case Scope::kOurs:
      return !IsTest(path) && !absl::StartsWith(path, "docs/tour/") &&
             !absl::StartsWith(path, "tools/bench/floors/");
    case Scope::kLibraries:
      return !IsTest(path) && !absl::StartsWith(path, "docs/") &&
             !absl::StartsWith(path, "tools/") && path != "server/server.cc";
  }
  return true;
}

// Not a function of that name that belongs to a class or another namespace.
bool IsGlobal(const Call& call) {
  return call.qualifier.empty() || call.qualifier == "::" ||
         call.qualifier == "std::" || call.qualifier == "absl::" ||
         call.qualifier == "std::this_thread::";
}

bool Breaks(const Rule& rule, const Call& call, std::string_view path) {
  if (rule.name != call.name || !IsGlobal(call) || !Covers(rule.scope, path)) {
    return false;
  }
  if (rule.when == When::kAlways) return true;
  // A member that is declared, as in "bool open() const".
  if (call.arguments.empty()) return false;
  const bool found = absl::StrContains(call.arguments, rule.argument);
  return found == (rule.when == When::kIf);
}

// Every call that breaks a rule, exceptions or not.
template <typename Take>
void ForEachBroken(const SourceTree& tree, Take take) {
  for (const auto& [path, text] : tree.files()) {
    if (!absl::EndsWith(path, ".cc") && !absl::EndsWith(path, ".h")) continue;
    const std::string code = CodeOnly(text);
    for (const Call& call : FindCalls(code)) {
      for (const Rule& rule : kRules) {
        if (Breaks(rule, call, path)) take(path, rule, call.line);
      }
    }
  }
}

}  // namespace

std::vector<Finding> ForbiddenCalls(const SourceTree& tree) {
  std::vector<Finding> findings;
  ForEachBroken(tree, [&](const std::string& path, const Rule& rule,
                          size_t line) {
    for (const Exception& exception : kExceptions) {
      if (exception.path == path && exception.name == rule.name) return;
    }
    findings.push_back({path, line, absl::StrCat(rule.name, "(): ", rule.why)});
  });
  return findings;
}

std::vector<Finding> StaleExceptions(const SourceTree& tree) {
  std::vector<Finding> findings;
  for (const Exception& exception : kExceptions) {
    const auto file = tree.files().find(exception.path);
    if (file == tree.files().end()) continue;
    bool used = false;
    ForEachBroken(SourceTree::Of({*file}),
                  [&](const std::string&, const Rule& rule, size_t) {
                    used = used || rule.name == exception.name;
                  });
    if (!used) {
      findings.push_back({file->first, 0,
                          absl::StrCat("makes no call of ", exception.name,
                                       "() that would need an exception")});
    }
  }
  return findings;
}

}  // namespace brood
