// SPDX-License-Identifier: Apache-2.0
#include "brood/proc/spawn.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <limits>
#include <map>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/status_matchers.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "brood/proc/child.h"
#include "brood/proc/exit_status.h"
#include "brood/proc/fork.h"
#include "brood/proc/limits.h"
#include "brood/proc/posix.h"
#include "brood/proc/privileges.h"
#include "brood/proc/spawn_slots.h"
#include "brood/proc/unique_fd.h"
#include "brood/tests/deny_syscalls.h"
#include "brood/tests/gate.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

namespace fs = std::filesystem;

using ::absl_testing::IsOk;
using ::absl_testing::IsOkAndHolds;
using ::absl_testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

absl::StatusOr<ExitStatus> Sort(int in, int out) {
  absl::StatusOr<Child> sort =
      Spawn({"sort", "-n"},
            {.fds = {{.child = 0, .parent = in}, {.child = 1, .parent = out}}});
  if (!sort.ok()) return sort.status();  // It has not run, and why.
  return sort->Wait();
}

absl::StatusOr<ExitStatus> Copy(const SpawnSlots& slots, int in, int out) {
  absl::StatusOr<Child> cat =
      Spawn({"cat"},
            {.fds = {{.child = 0, .parent = in}, {.child = 1, .parent = out}},
             .slots = &slots});  // Reserved when the program began.
  if (!cat.ok()) return cat.status();
  return cat->Wait();
}

struct Pipe {
  Pipe() {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) == -1) std::abort();
    out = UniqueFd(ends[0]);
    in = UniqueFd(ends[1]);
  }
  UniqueFd out;  // What is written to `in` comes out here.
  UniqueFd in;
};

std::string ReadAll(int fd) {
  std::string text;
  char buffer[4096];
  ssize_t n;
  while ((n = RetryOnEintr([&] { return read(fd, buffer, sizeof(buffer)); })) >
         0) {
    text.append(buffer, n);
  }
  return text;
}

void WriteAll(int fd, std::string_view text) {
  EXPECT_EQ(write(fd, text.data(), text.size()), std::ssize(text));
}

// A folder of the test's own.
class Scratch {
 public:
  Scratch() {
    std::string name = absl::StrCat(testing::TempDir(), "/spawn.XXXXXX");
    if (mkdtemp(name.data()) == nullptr) std::abort();
    folder_ = fs::canonical(name);
  }
  ~Scratch() { fs::remove_all(folder_); }

  std::string Path(std::string_view name) const { return folder_ / name; }
  std::string Write(std::string_view name, std::string_view text,
                    mode_t mode) const {
    const std::string path = Path(name);
    std::ofstream(path) << text;
    EXPECT_EQ(chmod(path.c_str(), mode), 0);
    return path;
  }
  std::string Read(std::string_view name) const {
    std::ostringstream text;
    text << std::ifstream(Path(name)).rdbuf();
    return text.str();
  }

 private:
  fs::path folder_;
};

std::string Helper(const char* variable) {
  const char* path = getenv(variable);
  if (path == nullptr) std::abort();
  return fs::absolute(path);
}
std::string InspectPath() { return Helper("INSPECT"); }
std::string TruePath() { return Helper("TRUE"); }

absl::StatusOr<ExitStatus> SpawnAndWait(const std::vector<std::string>& argv,
                                        const SpawnOptions& options = {}) {
  absl::StatusOr<Child> child = Spawn(argv, options);
  if (!child.ok()) return child.status();
  return child->Wait();
}

// What a program prints.
absl::StatusOr<std::string> OutputOf(const std::vector<std::string>& argv,
                                     SpawnOptions options = {}) {
  Pipe pipe;
  options.fds.push_back({.child = 1, .parent = pipe.in.get()});
  absl::StatusOr<Child> child = Spawn(argv, options);
  if (!child.ok()) return child.status();
  (void)pipe.in.Close();
  std::string text = ReadAll(pipe.out.get());
  EXPECT_THAT(child->Wait(), IsOkAndHolds(ExitStatus::Exited(0)));
  return text;
}

// What `inspect` says of itself, or what a /proc/self/status does.
using Facts = std::map<std::string, std::string>;
Facts FactsOf(std::string_view text) {
  Facts facts;
  for (const std::string_view line : absl::StrSplit(text, '\n')) {
    std::pair<std::string, std::string> fact =
        absl::StrSplit(line, absl::MaxSplits(absl::ByAnyChar(":"), 1));
    fact.second.erase(0, fact.second.find_first_not_of(" \t"));
    facts.insert(std::move(fact));
  }
  return facts;
}

Facts Inspect(const SpawnOptions& options = {}) {
  const absl::StatusOr<std::string> text = OutputOf({InspectPath()}, options);
  EXPECT_THAT(text, IsOk());
  return text.ok() ? FactsOf(*text) : Facts();
}

// In a process of its own, where much may be spoilt.
ExitStatus InAChild(absl::FunctionRef<int()> body) {
  absl::StatusOr<Child> child = Fork({}, body);
  EXPECT_THAT(child, IsOk());
  return child.ok() ? *child->Wait() : ExitStatus::Lost();
}

class SpawnInAForkTest : public testing::Test {
 protected:
  void SetUp() override {
    if (absl::IsFailedPrecondition(Fork({}, [] { return 0; }).status())) {
      GTEST_SKIP() << "Fork refuses: a sanitizer has a thread of its own here";
    }
  }
};

TEST(SpawnTest, HeaderExample) {
  Pipe numbers;
  Pipe sorted;
  WriteAll(numbers.in.get(), "10\n9\n");
  (void)numbers.in.Close();
  EXPECT_THAT(Sort(numbers.out.get(), sorted.in.get()),
              IsOkAndHolds(ExitStatus::Exited(0)));
  (void)sorted.in.Close();
  EXPECT_EQ(ReadAll(sorted.out.get()), "9\n10\n");
}

TEST(SpawnTest, PassesArgumentsAndEnvironmentAsTheyAre) {
  const absl::StatusOr<std::string> text =
      OutputOf({InspectPath(), "", "two words"},
               {.env = std::vector<std::string>{"A=1", "B="}});
  ASSERT_THAT(text, IsOk());
  Facts facts = FactsOf(*text);
  EXPECT_EQ(facts["arguments"], absl::StrCat(InspectPath(), "||two words"));
  EXPECT_EQ(facts["environment"], "A=1|B=");
}

TEST(SpawnTest, InheritsTheEnvironmentUnlessToldAnother) {
  EXPECT_THAT(Inspect()["environment"],
              HasSubstr(absl::StrCat("INSPECT=", getenv("INSPECT"))));
  EXPECT_EQ(Inspect({.env = std::vector<std::string>()})["environment"], "");
}

TEST(SpawnTest, ExecutesAnotherProgramThanArgvNames) {
  const absl::StatusOr<std::string> text =
      OutputOf({"-login"}, {.program = InspectPath()});
  ASSERT_THAT(text, IsOk());
  EXPECT_EQ(FactsOf(*text)["arguments"], "-login");
}

TEST(SpawnTest, ReportsHowTheProgramEnded) {
  EXPECT_THAT(SpawnAndWait({"sh", "-c", "exit 7"}),
              IsOkAndHolds(ExitStatus::Exited(7)));
  EXPECT_THAT(SpawnAndWait({"sh", "-c", "kill -TERM $$"}),
              IsOkAndHolds(ExitStatus::Killed(SIGTERM)));
  const absl::StatusOr<ExitStatus> status = SpawnAndWait({"true"});
  ASSERT_THAT(status, IsOk());
  EXPECT_TRUE(status->usage().has_value());
}

// ---- Which program ----

// PATH for the length of a test.
class SearchPath {
 public:
  explicit SearchPath(const std::string& path) : before_(getenv("PATH")) {
    setenv("PATH", path.c_str(), 1);
  }
  ~SearchPath() { setenv("PATH", before_.c_str(), 1); }

 private:
  std::string before_;
};

TEST(SpawnTest, TakesTheFirstOfItsNameInPathThatExecutes) {
  const Scratch scratch;
  ASSERT_TRUE(fs::create_directory(scratch.Path("a")));
  ASSERT_TRUE(fs::create_directory(scratch.Path("b")));
  scratch.Write("a/tool", "#!/bin/sh\nexit 1\n", 0600);
  scratch.Write("b/tool", "#!/bin/sh\nexit 2\n", 0700);
  const SearchPath path(absl::StrCat(
      "/nonexistent:/dev/null:", scratch.Path("a"), ":", scratch.Path("b")));
  EXPECT_THAT(SpawnAndWait({"tool"}), IsOkAndHolds(ExitStatus::Exited(2)));
}

TEST(SpawnTest, SaysThatAProgramIsNowhereInPath) {
  const SearchPath path("/nonexistent:/dev/null");
  const absl::StatusOr<Child> child = Spawn({"no-such-program"});
  EXPECT_THAT(child.status(),
              StatusIs(absl::StatusCode::kNotFound,
                       AllOf(HasSubstr("no-such-program"),
                             HasSubstr("/nonexistent:/dev/null"))));
  EXPECT_EQ(ErrnoOf(child.status()), ENOENT);
}

TEST(SpawnTest, SaysThatWhatIsInPathMayNotBeExecuted) {
  const Scratch scratch;
  const std::string tool = scratch.Write("tool", "#!/bin/sh\n", 0600);
  const SearchPath path(absl::StrCat(scratch.Path(""), ":/nonexistent"));
  const absl::StatusOr<Child> child = Spawn({"tool"});
  EXPECT_EQ(ErrnoOf(child.status()), EACCES);
  EXPECT_THAT(child.status().message(), HasSubstr(scratch.Path("")));
}

TEST(SpawnTest, LooksInNoDirectoryThatIsRelative) {
  const Scratch scratch;
  scratch.Write("tool", "#!/bin/sh\n", 0700);
  for (const char* relative : {"", ".", ":", "../x"}) {
    const SearchPath path(relative);
    EXPECT_EQ(ErrnoOf(Spawn({"tool"}, {.cwd = scratch.Path("")}).status()),
              ENOENT)
        << relative;
  }
}

TEST(SpawnTest, TakesAPathWithASlashAsItIs) {
  const Scratch scratch;
  scratch.Write("tool", "#!/bin/sh\nexit 4\n", 0700);
  const fs::path before = fs::current_path();
  fs::current_path(scratch.Path(""));
  EXPECT_THAT(SpawnAndWait({"./tool"}), IsOkAndHolds(ExitStatus::Exited(4)));
  fs::current_path(before);
}

// ---- What cannot be executed ----

struct Unexecutable {
  const char* description;
  std::string program;
  int error;
};

TEST(SpawnTest, SaysWhyAProgramCannotBeExecuted) {
  const Scratch scratch;
  fs::create_symlink("loop", scratch.Path("loop"));
  const std::vector<Unexecutable> cases = {
      {"missing", scratch.Path("missing"), ENOENT},
      {"its interpreter is missing",
       scratch.Write("orphan", "#!/nonexistent/sh\n", 0700), ENOENT},
      {"not executable", scratch.Write("plain", "#!/bin/sh\n", 0600), EACCES},
      {"a directory", scratch.Path(""), EACCES},
      {"of no known format", scratch.Write("text", "exit 0\n", 0700), ENOEXEC},
      {"empty", scratch.Write("empty", "", 0700), ENOEXEC},
      {"a link to itself", scratch.Path("loop"), ELOOP},
      {"below a file", "/dev/null/true", ENOTDIR},
      {"too long a name", absl::StrCat("/", std::string(300, 'x')),
       ENAMETOOLONG},
  };
  for (const Unexecutable& c : cases) {
    const absl::Status status = Spawn({c.program}).status();
    EXPECT_EQ(ErrnoOf(status), c.error) << c.description << ": " << status;
    EXPECT_THAT(status.message(), HasSubstr(c.program)) << c.description;
    EXPECT_THAT(status.message(), HasSubstr("execve")) << c.description;
  }
}

TEST(SpawnTest, SaysThatTheArgumentsAreTooLong) {
  EXPECT_EQ(ErrnoOf(Spawn({"true", std::string(1 << 20, 'x')}).status()),
            E2BIG);
}

// The mask, descriptors, dispositions and children are compared after every
// test, by //tests:hygiene.
TEST(SpawnTest, LeavesTheParentAsItWasWhenItFails) {
  const fs::path directory = fs::current_path();
  const mode_t mask = umask(022);
  const int niceness = getpriority(PRIO_PROCESS, 0);
  const std::optional<Limit> files = *CurrentLimit(RLIMIT_NOFILE);
  const absl::StatusOr<Limits> limits = Limits::Parse("NOFILE=64");
  ASSERT_THAT(limits, IsOk());
  EXPECT_EQ(ErrnoOf(Spawn({"/nonexistent"}, {.cwd = "/",
                                             .new_session = true,
                                             .umask = 0777,
                                             .nice = 19,
                                             .limits = *limits,
                                             .no_new_privileges = true,
                                             .parent_death_signal = SIGKILL,
                                             .blocked_signals = {SIGTERM}})
                        .status()),
            ENOENT);
  EXPECT_EQ(fs::current_path(), directory);
  EXPECT_EQ(umask(mask), 022u);
  EXPECT_EQ(getpriority(PRIO_PROCESS, 0), niceness);
  EXPECT_EQ(*CurrentLimit(RLIMIT_NOFILE), *files);
  EXPECT_EQ(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), 0);
  int death_signal = -1;
  prctl(PR_GET_PDEATHSIG, &death_signal);
  EXPECT_EQ(death_signal, 0);
}

TEST(SpawnTest, LeavesNothingBehindAThousandTimes) {
  const std::string program = TruePath();
  for (int i = 0; i < 500; ++i) {
    ASSERT_THAT(SpawnAndWait({program}), IsOkAndHolds(ExitStatus::Exited(0)));
    ASSERT_EQ(ErrnoOf(Spawn({"/nonexistent"}).status()), ENOENT);
  }
}

// ---- Bad input ----

struct BadInput {
  std::vector<std::string> argv;
  SpawnOptions options;
  std::string message;
};

TEST(SpawnTest, NamesTheArgumentThatNoKernelWouldTake) {
  const std::string nul("a\0b", 3);
  const uid_t unchanged = -1;
  const std::vector<BadInput> cases = {
      {{}, {}, "argv: is empty"},
      {{""}, {}, "argv[0]: is empty"},
      {{"true", nul}, {}, "argv[1]: there is a NUL"},
      {{"true"}, {.program = ""}, "program: is empty"},
      {{"true"}, {.program = nul}, "program: there is a NUL"},
      {{"true"}, {.env = {{"A=1", nul}}}, "env[1]: there is a NUL"},
      {{"true"}, {.env = {{"A"}}}, "env[0]: \"A\" is not NAME=value"},
      {{"true"}, {.env = {{"=A"}}}, "env[0]: \"=A\" is not NAME=value"},
      {{"true"}, {.cwd = ""}, "cwd: is empty"},
      {{"true"}, {.cwd = nul}, "cwd: there is a NUL"},
      {{"bin/true"}, {.cwd = "/usr"}, "\"bin/true\" is relative"},
      {{"true"},
       {.program = "./true", .cwd = "/bin"},
       "\"./true\" is relative"},
      {{"true"},
       {.fds = {{.child = -1, .parent = 0}}},
       "fds[0]: the child's descriptor -1"},
      {{"true"},
       {.fds = {{5, 0}, {6, 0}, {5, 1}}},
       "fds[2]: the child's descriptor 5 is also that of fds[0]"},
      {{"true"},
       {.fds = {{std::numeric_limits<int>::max(), 0}}},
       "fds[0]: the child's descriptor 2147483647 is not below"},
      {{"true"},
       {.fds = {{9, 0}}, .limits = *Limits::Parse("NOFILE=9")},
       "NOFILE=9"},
      {{"true"},
       {.new_session = true, .process_group = 0},
       "process_group and new_session"},
      {{"true"}, {.process_group = -5}, "process_group: -5"},
      {{"true"}, {.cgroup = ""}, "cgroup: is empty"},
      {{"true"}, {.umask = 01000}, "umask: 01000"},
      {{"true"}, {.nice = -21}, "nice: -21"},
      {{"true"}, {.nice = 20}, "nice: 20"},
      {{"true"}, {.run_as = Credentials{.uid = unchanged}}, "run_as: uid -1"},
      {{"true"}, {.run_as = Credentials{.gid = unchanged}}, "run_as: gid -1"},
      {{"true"},
       {.run_as = Credentials{.groups = {unchanged}}},
       "run_as: gid -1"},
      {{"true"},
       {.parent_death_signal = 0},
       "parent_death_signal: 0 is no signal"},
      {{"true"},
       {.parent_death_signal = 65},
       "parent_death_signal: 65 is no signal"},
      {{"true"},
       {.blocked_signals = {SIGTERM, -1}},
       "blocked_signals[1]: -1 is no signal"},
  };
  for (const BadInput& c : cases) {
    EXPECT_THAT(
        Spawn(c.argv, c.options).status(),
        StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(c.message)));
  }
}

TEST(SpawnTest, NamesADescriptorThatIsClosed) {
  UniqueFd closed(open("/dev/null", O_RDONLY | O_CLOEXEC));
  const int number = closed.get();
  (void)closed.Close();
  const auto spawn = [](int fd) {
    return Spawn({"true"}, {.fds = {{.child = 0, .parent = fd}}}).status();
  };
  EXPECT_EQ(ErrnoOf(spawn(number)), EBADF);
  EXPECT_THAT(
      spawn(number).message(),
      HasSubstr(absl::StrCat("fds[0]: the parent's descriptor ", number)));
  EXPECT_THAT(spawn(-1),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("fds[0]: the parent's descriptor -1 is")));
}

struct Refused {
  SpawnOptions options;
  int error;
  std::string message;
};

TEST(SpawnTest, NamesTheStageAtWhichTheKernelRefused) {
  const Scratch scratch;
  const std::vector<Refused> cases = {
      {{.cwd = "/nonexistent"}, ENOENT, "chdir /nonexistent"},
      {{.cwd = "/dev/null"}, ENOTDIR, "chdir /dev/null"},
      {{.process_group = std::numeric_limits<pid_t>::max()},
       EPERM,
       "setpgid 2147483647"},
      {{.cgroup = scratch.Path("")}, ENOENT, "cgroup.procs"},
  };
  for (const Refused& c : cases) {
    const absl::Status status = Spawn({"true"}, c.options).status();
    EXPECT_EQ(ErrnoOf(status), c.error) << status;
    EXPECT_THAT(status.message(), HasSubstr(c.message));
    EXPECT_THAT(status.message(), HasSubstr("spawn true: "));
  }
}

TEST_F(SpawnInAForkTest, NamesALimitThatMayNotBeRaised) {
  EXPECT_EQ(
      InAChild([] {
        if (!Limits::Parse("CORE=0")->Apply().ok()) return 1;
        // A sandbox's root has nobody else to become, and no such
        // privilege.
        if (geteuid() == 0) (void)!seteuid(1);
        const absl::Status status =
            Spawn({"true"}, {.limits = *Limits::Parse("CPU=9,CORE=1")})
                .status();
        if (ErrnoOf(status) != EPERM) return 2;
        return absl::StrContains(status.message(), "set limit CORE=1") ? 0 : 3;
      }),
      ExitStatus::Exited(0));
}

// ---- What the program finds ----

TEST(SpawnTest, StartsTheProgramWhereItIsTold) {
  const Scratch scratch;
  EXPECT_EQ(Inspect()["cwd"], fs::current_path());
  EXPECT_EQ(Inspect({.cwd = scratch.Path("")})["cwd"],
            fs::path(scratch.Path("")).parent_path());
}

TEST(SpawnTest, SetsUmaskNiceAndLimits) {
  Facts facts = Inspect(
      {.umask = 027, .nice = 19, .limits = *Limits::Parse("NOFILE=40:50")});
  EXPECT_EQ(facts["umask"], "027");
  EXPECT_EQ(facts["nice"], "19");
  EXPECT_EQ(facts["files"], "40:50");
}

TEST(SpawnTest, InheritsUmaskNiceAndLimits) {
  const mode_t before = umask(031);
  Facts facts = Inspect();
  umask(before);
  EXPECT_EQ(facts["umask"], "031");
  EXPECT_EQ(facts["nice"], absl::StrCat(getpriority(PRIO_PROCESS, 0)));
  const Limit files = *CurrentLimit(RLIMIT_NOFILE);
  EXPECT_EQ(facts["files"], absl::StrCat(files.soft, ":", files.hard));
}

TEST(SpawnTest, LeadsAGroupOrASessionWhenAsked) {
  Facts facts = Inspect();
  EXPECT_EQ(facts["group"], absl::StrCat(getpgrp()));
  EXPECT_EQ(facts["session"], absl::StrCat(getsid(0)));
  facts = Inspect({.process_group = 0});
  EXPECT_EQ(facts["group"], facts["pid"]);
  EXPECT_EQ(facts["session"], absl::StrCat(getsid(0)));
  facts = Inspect({.new_session = true});
  EXPECT_EQ(facts["group"], facts["pid"]);
  EXPECT_EQ(facts["session"], facts["pid"]);
}

TEST(SpawnTest, JoinsTheGroupOfASibling) {
  Gate gate;
  absl::StatusOr<Child> leader = Spawn(
      {"cat"},
      {.fds = {{.child = 0, .parent = gate.read_fd()}}, .process_group = 0});
  ASSERT_THAT(leader, IsOk());
  EXPECT_EQ(Inspect({.process_group = leader->pid()})["group"],
            absl::StrCat(leader->pid()));
  gate.Open();
  EXPECT_THAT(leader->Wait(), IsOkAndHolds(ExitStatus::Exited(0)));
}

TEST(SpawnTest, HasAGroupToSignalAsSoonAsItReturns) {
  for (int i = 0; i < 100; ++i) {
    absl::StatusOr<Child> child =
        Spawn({"sleep", "infinity"}, {.process_group = 0});
    ASSERT_THAT(child, IsOk());
    EXPECT_EQ(kill(-child->pid(), SIGKILL), 0);
    EXPECT_THAT(child->Wait(), IsOkAndHolds(ExitStatus::Killed(SIGKILL)));
  }
}

TEST(SpawnTest, GainsNoNewPrivilegesWhenAsked) {
  EXPECT_EQ(Inspect()["no new privileges"], "0");
  EXPECT_EQ(Inspect({.no_new_privileges = true})["no new privileges"], "1");
}

// Dispositions for the length of a test.
class Disposition {
 public:
  Disposition(int signo, void (*handler)(int), int flags = 0) : signo_(signo) {
    struct sigaction action = {};
    action.sa_handler = handler;
    action.sa_flags = flags;
    sigaction(signo, &action, &before_);
  }
  ~Disposition() { sigaction(signo_, &before_, nullptr); }

 private:
  int signo_;
  struct sigaction before_;
};

// By a program without a runtime that handles signals of its own.
Facts StatusOfCat(const SpawnOptions& options) {
  const absl::StatusOr<std::string> text =
      OutputOf({"cat", "/proc/self/status"}, options);
  EXPECT_THAT(text, IsOk());
  return text.ok() ? FactsOf(*text) : Facts();
}

TEST(SpawnTest, StartsTheProgramWithEverySignalAtItsDefaultAndNoneBlocked) {
  const Disposition handled(SIGUSR1, [](int) {});
  const Disposition ignored(SIGPIPE, SIG_IGN);
  const Disposition ignored_too(SIGHUP, SIG_IGN);
  const Disposition realtime(SIGRTMIN + 3, SIG_IGN);
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  sigprocmask(SIG_BLOCK, &all, &before);
  Facts facts = StatusOfCat({});
  sigprocmask(SIG_SETMASK, &before, nullptr);
  EXPECT_EQ(facts["SigBlk"], "0000000000000000");
  EXPECT_EQ(facts["SigIgn"], "0000000000000000");
  EXPECT_EQ(facts["SigCgt"], "0000000000000000");
}

TEST(SpawnTest, BlocksTheSignalsItIsTold) {
  Facts facts = StatusOfCat({.blocked_signals = {SIGHUP, SIGTERM, 64}});
  EXPECT_EQ(facts["SigBlk"], "8000000000004001");
}

// ---- Descriptors ----

TEST(SpawnTest, GivesTheProgramItsDescriptorsAndNoOther) {
  std::vector<UniqueFd> others;
  for (int i = 0; i < 20; ++i) {
    others.emplace_back(open("/dev/null", O_RDONLY));  // Not close-on-exec.
  }
  const int fd = others[7].get();
  EXPECT_EQ(Inspect()["descriptors"], "0 1 2");
  EXPECT_EQ(Inspect({.fds = {{5, fd}, {4, fd}}})["descriptors"], "0 1 2 4 5");
  EXPECT_EQ(Inspect({.fds = {{fd, fd}}})["descriptors"],
            absl::StrCat("0 1 2 ", fd));
  EXPECT_EQ(Inspect({.inherit_stdio = false})["descriptors"], "1");
  EXPECT_EQ(
      Inspect({.fds = {{200, fd}}, .inherit_stdio = false})["descriptors"],
      "1 200");
}

TEST_F(SpawnInAForkTest, GivesTheProgramNoneOfTheStandardThreeThatIsClosed) {
  EXPECT_EQ(InAChild([] {
              Pipe pipe;
              close(STDIN_FILENO);
              const absl::StatusOr<Child> child =
                  Spawn({InspectPath()},
                        {.fds = {{.child = 1, .parent = pipe.in.get()}}});
              if (!child.ok()) return 1;
              (void)pipe.in.Close();
              Facts facts = FactsOf(ReadAll(pipe.out.get()));
              return facts["descriptors"] == "1 2" ? 0 : 2;
            }),
            ExitStatus::Exited(0));
}

TEST(SpawnTest, LeaksNothingThatAnotherThreadOpensMeanwhile) {
  std::atomic<bool> done = false;
  std::thread opener([&done] {
    while (!done) {
      const UniqueFd leaky(open("/dev/null", O_RDONLY));
      const UniqueFd leaky_too(open("/dev/null", O_RDONLY));
    }
  });
  absl::StatusOr<SpawnSlots> slots = SpawnSlots::Reserve();
  EXPECT_THAT(slots, IsOk());
  for (int i = 0; i < 300; ++i) {
    const SpawnSlots* const used = i % 2 == 0 ? nullptr : &*slots;
    EXPECT_EQ(Inspect({.slots = used})["descriptors"], "0 1 2");
  }
  done = true;
  opener.join();
}

TEST_F(SpawnInAForkTest, LetsDescriptorsChangePlaces) {
  const Scratch scratch;
  EXPECT_EQ(InAChild([&] {
              const UniqueFd one(creat(scratch.Path("one").c_str(), 0600));
              const UniqueFd two(creat(scratch.Path("two").c_str(), 0600));
              if (dup2(one.get(), 1) == -1 || dup2(two.get(), 2) == -1)
                return 1;
              const absl::StatusOr<ExitStatus> status =
                  SpawnAndWait({"sh", "-c", "echo out; echo err >&2"},
                               {.fds = {{1, 2}, {2, 1}}});
              return status.ok() && status->success() ? 0 : 2;
            }),
            ExitStatus::Exited(0));
  EXPECT_EQ(scratch.Read("one"), "err\n");
  EXPECT_EQ(scratch.Read("two"), "out\n");
}

TEST_F(SpawnInAForkTest, LetsDescriptorsChangePlacesBesideTheHighestOfAll) {
  EXPECT_EQ(InAChild([] {
              const rlimit few = {.rlim_cur = 64, .rlim_max = 64};
              if (setrlimit(RLIMIT_NOFILE, &few) == -1) return 1;
              const UniqueFd file(open("/dev/null", O_RDWR | O_CLOEXEC));
              const absl::StatusOr<ExitStatus> status = SpawnAndWait(
                  {"true"}, {.fds = {{63, file.get()}, {1, 2}, {2, 1}}});
              return status.ok() && status->success() ? 0 : 2;
            }),
            ExitStatus::Exited(0));
}

TEST_F(SpawnInAForkTest, TakesNothingOfTheParentsForAStandardStream) {
  EXPECT_EQ(InAChild([] {
              (void)close(STDIN_FILENO);
              const UniqueFd file(open("/dev/null", O_RDWR | O_CLOEXEC));
              if (file.get() != STDIN_FILENO) return 1;
              const absl::StatusOr<ExitStatus> status =
                  SpawnAndWait({"sh", "-c", "test ! -e /proc/$$/fd/0"});
              return status.ok() && status->success() ? 0 : 2;
            }),
            ExitStatus::Exited(0));
}

TEST(SpawnTest, LetsDescriptorsGoRoundInACircleWithOneLimitOfTheirOwn) {
  std::vector<Pipe> pipes(3);
  const int a = pipes[0].in.get();
  const int b = pipes[1].in.get();
  const int c = pipes[2].in.get();
  // As few descriptors as the program can have: none is left to move by.
  Limits limits;
  const rlim_t files = std::max({a, b, c}) + 1;
  ASSERT_THAT(limits.Set({RLIMIT_NOFILE, files, files}), IsOk());
  const auto entry = [](int fd) { return absl::StrCat("/proc/self/fd/", fd); };
  const auto target = [&entry](int fd) {
    return fs::read_symlink(entry(fd)).string();
  };
  EXPECT_THAT(OutputOf({"readlink", entry(a), entry(b), entry(c)},
                       {.fds = {{a, b}, {b, c}, {c, a}}, .limits = limits}),
              IsOkAndHolds(absl::StrCat(target(b), "\n", target(c), "\n",
                                        target(a), "\n")));
}

TEST_F(SpawnInAForkTest, KeepsTheRecordLocksOfTheParent) {
  const Scratch scratch;
  const std::string path = scratch.Write("lock", "", 0600);
  const UniqueFd file(open(path.c_str(), O_RDWR | O_CLOEXEC));
  const UniqueFd high(fcntl(file.get(), F_DUPFD_CLOEXEC, 500));
  struct flock lock = {};
  lock.l_type = F_WRLCK;
  ASSERT_EQ(fcntl(file.get(), F_SETLK, &lock), 0);
  absl::StatusOr<SpawnSlots> slots = SpawnSlots::Reserve();
  ASSERT_THAT(slots, IsOk());
  for (const SpawnSlots* used : {static_cast<const SpawnSlots*>(nullptr),
                                 static_cast<const SpawnSlots*>(&*slots)}) {
    EXPECT_THAT(
        SpawnAndWait({TruePath()}, {.fds = {{0, high.get()}}, .slots = used}),
        IsOkAndHolds(ExitStatus::Exited(0)));
    EXPECT_EQ(InAChild([&file] {
                struct flock wanted = {};
                wanted.l_type = F_WRLCK;
                if (fcntl(file.get(), F_GETLK, &wanted) == -1) return 1;
                return wanted.l_type == F_WRLCK ? 0 : 2;
              }),
              ExitStatus::Exited(0));
  }
}

TEST(SpawnTest, SaysThatThereIsNoDescriptorForThePidfd) {
  const UniqueFd next(open("/dev/null", O_RDONLY | O_CLOEXEC));
  const Limit old = *CurrentLimit(RLIMIT_NOFILE);
  Limits tight;
  Limits usual;
  const rlim_t files = static_cast<rlim_t>(next.get()) + 1;
  ASSERT_THAT(tight.Set({RLIMIT_NOFILE, files, old.hard}), IsOk());
  ASSERT_THAT(usual.Set(old), IsOk());
  ASSERT_THAT(tight.Apply(), IsOk());
  const absl::Status status = Spawn({"true"}).status();
  ASSERT_THAT(usual.Apply(), IsOk());
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kResourceExhausted,
                               HasSubstr("spawn true: clone")));
  EXPECT_EQ(ErrnoOf(status), EMFILE);
}

// ---- Other threads, other waiters ----

TEST(SpawnTest, StartsFromManyThreadsAtOnce) {
  const std::string program = TruePath();
  absl::StatusOr<SpawnSlots> slots = SpawnSlots::Reserve(3);  // Too few.
  ASSERT_THAT(slots, IsOk());
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&program, &slots] {
      Pipe pipe;
      for (int i = 0; i < 50; ++i) {
        EXPECT_THAT(SpawnAndWait({program}, {.fds = {{1, pipe.in.get()},
                                                     {7, pipe.out.get()}},
                                             .slots = &*slots}),
                    IsOkAndHolds(ExitStatus::Exited(0)));
        EXPECT_EQ(ErrnoOf(Spawn({"/nonexistent"}).status()), ENOENT);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

// A child that held a copy of the descriptor by which another thread has just
// written its program would make executing that program fail with ETXTBSY.
TEST(SpawnTest, NeverFindsAFreshProgramBusy) {
  const Scratch scratch;
  absl::StatusOr<SpawnSlots> slots = SpawnSlots::Reserve(16);
  ASSERT_THAT(slots, IsOk());
  std::atomic<int> busy = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&, t] {
      Pipe pipe;
      for (int i = 0; i < 200; ++i) {
        const std::string path = scratch.Path(absl::StrCat("program", t));
        constexpr std::string_view kText = "#!/bin/true\n";
        {
          const UniqueFd file(
              open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0700));
          WriteAll(file.get(), kText);
        }
        const absl::StatusOr<ExitStatus> status =
            i % 2 == 0 ? SpawnAndWait({path})
                       : SpawnAndWait({path}, {.fds = {{1, pipe.in.get()}},
                                               .slots = &*slots});
        if (ErrnoOf(status.status()) == ETXTBSY) {
          ++busy;
        } else {
          EXPECT_THAT(status, IsOkAndHolds(ExitStatus::Exited(0)));
        }
        EXPECT_EQ(unlink(path.c_str()), 0);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(busy, 0);
}

TEST(SpawnTest, SaysThatAProgramIsStillBeingWritten) {
  const Scratch scratch;
  const std::string path = scratch.Write("program", "#!/bin/true\n", 0700);
  const UniqueFd writer(open(path.c_str(), O_WRONLY | O_CLOEXEC));
  EXPECT_EQ(ErrnoOf(Spawn({path}).status()), ETXTBSY);
}

TEST(SpawnTest, ReportsFailureWhateverBecomesOfSigchld) {
  {
    const Disposition ignored(SIGCHLD, SIG_IGN);
    EXPECT_EQ(ErrnoOf(Spawn({"/nonexistent"}).status()), ENOENT);
    // The exit is lost, but not that it ran.
    EXPECT_THAT(SpawnAndWait({TruePath()}), IsOk());
  }
  {
    const Disposition no_wait(SIGCHLD, SIG_DFL, SA_NOCLDWAIT);
    EXPECT_EQ(ErrnoOf(Spawn({"/nonexistent"}).status()), ENOENT);
    EXPECT_THAT(SpawnAndWait({TruePath()}), IsOk());
  }
}

TEST(SpawnTest, SendsNoSigchldForAChildThatNeverRan) {
  static std::atomic<int> received;
  received = 0;
  const Disposition counted(SIGCHLD, [](int) { ++received; });
  EXPECT_EQ(ErrnoOf(Spawn({"/nonexistent"}).status()), ENOENT);
  EXPECT_EQ(received, 0);
}

TEST(SpawnTest, ReportsFailureBesideAThreadThatWaitsForAnyChild) {
  std::atomic<bool> done = false;
  std::thread thief([&done] {
    while (!done) (void)waitpid(-1, nullptr, WNOHANG | __WALL);
  });
  for (int i = 0; i < 300; ++i) {
    ASSERT_EQ(ErrnoOf(Spawn({"/nonexistent"}).status()), ENOENT);
  }
  done = true;
  thief.join();
}

// ---- The parent's death ----

TEST_F(SpawnInAForkTest, DiesWithItsParentWhenAsked) {
  // The program's is the only writing end that is left.
  Gate gate;
  EXPECT_EQ(InAChild([&gate] {
              absl::StatusOr<Child> child =
                  Spawn({"sleep", "infinity"},
                        {.fds = {{.child = 3, .parent = gate.write_fd()}},
                         .parent_death_signal = SIGKILL});
              if (!child.ok()) return 1;
              (void)std::move(*child).Release();  // Not to be killed by us.
              return 0;
            }),
            ExitStatus::Exited(0));
  gate.Wait();
}

TEST(SpawnTest, TellsTheProgramNothingOfAParentsDeathUnlessAsked) {
  EXPECT_EQ(Inspect()["parent death signal"], "0");
  EXPECT_EQ(Inspect({.parent_death_signal = SIGTERM})["parent death signal"],
            absl::StrCat(SIGTERM));
}

// A control group that can be joined only when the test says so: its
// cgroup.procs is a pipe, and full.
class Checkpoint {
 public:
  explicit Checkpoint(const Scratch& scratch) : folder_(scratch.Path("")) {
    const std::string path = scratch.Path("cgroup.procs");
    EXPECT_EQ(mkfifo(path.c_str(), 0600), 0);
    pipe_ = UniqueFd(open(path.c_str(), O_RDWR | O_NONBLOCK | O_CLOEXEC));
    const std::vector<char> page(4096);
    while (write(pipe_.get(), page.data(), page.size()) > 0) {
    }
  }
  const std::string& folder() const { return folder_; }
  void LetThrough() {
    std::vector<char> page(4096);
    while (read(pipe_.get(), page.data(), page.size()) > 0) {
    }
  }

 private:
  std::string folder_;
  UniqueFd pipe_;
};

// The child that `parent` has just begun; blocks until there is one.
pid_t ChildOf(pid_t parent) {
  const std::string path =
      absl::StrCat("/proc/", parent, "/task/", parent, "/children");
  pid_t child = 0;
  while (child == 0) {
    std::ifstream(path) >> child;
    std::this_thread::yield();
  }
  return child;
}

bool KernelListsChildren() {
  return access("/proc/thread-self/children", R_OK) == 0;
}

TEST_F(SpawnInAForkTest, RunsNothingForAParentThatDiedBeforeTheSignalWasArmed) {
  if (!KernelListsChildren()) {
    GTEST_SKIP() << "this kernel does not list a process's children";
  }
  const Scratch scratch;
  Checkpoint checkpoint(scratch);
  Pipe pipe;
  absl::StatusOr<Child> parent = Fork({}, [&] {
    const absl::StatusOr<Child> child =
        Spawn({"echo", "it ran"}, {.fds = {{1, pipe.in.get()}},
                                   .cgroup = checkpoint.folder(),
                                   .parent_death_signal = SIGKILL});
    return 0;
  });
  ASSERT_THAT(parent, IsOk());
  (void)ChildOf(parent->pid());
  ASSERT_THAT(parent->Signal(SIGKILL), IsOk());
  EXPECT_THAT(parent->Wait(), IsOkAndHolds(ExitStatus::Killed(SIGKILL)));
  checkpoint.LetThrough();
  (void)pipe.in.Close();
  EXPECT_THAT(ReadAll(pipe.out.get()), IsEmpty());
}

TEST(SpawnTest, SaysThatASignalCameBeforeTheProgram) {
  if (!KernelListsChildren()) {
    GTEST_SKIP() << "this kernel does not list a process's children";
  }
  const Scratch scratch;
  const Checkpoint checkpoint(scratch);
  const pid_t parent = getpid();
  std::thread killer([parent] { kill(ChildOf(parent), SIGKILL); });
  EXPECT_THAT(Spawn({"true"}, {.cgroup = checkpoint.folder()}).status(),
              StatusIs(absl::StatusCode::kAborted,
                       HasSubstr("spawn true: killed by SIGKILL before")));
  killer.join();
}

TEST(SpawnTest, JoinsTheCgroupFirst) {
  const Scratch scratch;
  scratch.Write("cgroup.procs", "", 0600);
  EXPECT_THAT(SpawnAndWait({TruePath()}, {.cgroup = scratch.Path("")}),
              IsOkAndHolds(ExitStatus::Exited(0)));
  EXPECT_EQ(scratch.Read("cgroup.procs"), "0");
  // Also by a descriptor that is where another one goes.
  const UniqueFd next(open("/dev/null", O_RDONLY | O_CLOEXEC));
  EXPECT_EQ(Inspect({.fds = {{next.get() + 1, 0},
                             {next.get() + 2, 0},
                             {next.get() + 3, 0}},
                     .cgroup = scratch.Path("")})["descriptors"],
            absl::StrCat("0 1 2 ", next.get() + 1, " ", next.get() + 2, " ",
                         next.get() + 3));
}

// ---- Old kernels, strict sandboxes ----

TEST_F(SpawnInAForkTest, LeaksNothingWhereCloseRangeIsForbidden) {
  for (const int error : {ENOSYS, EPERM}) {
    EXPECT_EQ(InAChild([error] {
                const UniqueFd leaky(open("/dev/null", O_RDONLY));
                DenySyscalls({SYS_close_range}, error);
                const absl::StatusOr<std::string> text =
                    OutputOf({InspectPath()}, {.fds = {{9, leaky.get()}}});
                if (!text.ok()) return 1;
                if (FactsOf(*text)["descriptors"] != "0 1 2 9") return 2;
                return ErrnoOf(Spawn({"/nonexistent"}).status()) == ENOENT ? 0
                                                                           : 3;
              }),
              ExitStatus::Exited(0));
  }
}

TEST_F(SpawnInAForkTest, ClosesAThousandDescriptorsWhereCloseRangeIsForbidden) {
  EXPECT_EQ(InAChild([] {
              std::vector<UniqueFd> leaky;
              for (int i = 0; i < 1000; ++i) {
                leaky.emplace_back(open("/dev/null", O_RDONLY));
              }
              DenySyscalls({SYS_close_range}, ENOSYS);
              const absl::StatusOr<std::string> text =
                  OutputOf({InspectPath()}, {.fds = {{9, leaky.back().get()}}});
              if (!text.ok()) return 1;
              return FactsOf(*text)["descriptors"] == "0 1 2 9" ? 0 : 2;
            }),
            ExitStatus::Exited(0));
}

TEST_F(SpawnInAForkTest, SaysThatCloneIsForbidden) {
  EXPECT_EQ(
      InAChild([] {
        DenySyscalls({SYS_clone}, EPERM);
        const absl::Status status = Spawn({"true"}).status();
        if (ErrnoOf(status) != EPERM) return 1;
        return absl::StrContains(status.message(), "spawn true: clone") ? 0 : 2;
      }),
      ExitStatus::Exited(0));
}

// ---- Slots ----

TEST(SpawnSlotsTest, HeaderExample) {
  absl::StatusOr<SpawnSlots> slots = SpawnSlots::Reserve();
  ASSERT_THAT(slots, IsOk());
  Pipe from;
  Pipe to;
  WriteAll(from.in.get(), "text");
  (void)from.in.Close();
  EXPECT_THAT(Copy(*slots, from.out.get(), to.in.get()),
              IsOkAndHolds(ExitStatus::Exited(0)));
  (void)to.in.Close();
  EXPECT_EQ(ReadAll(to.out.get()), "text");
}

TEST(SpawnSlotsTest, LendsTheSameNumbersAgain) {
  absl::StatusOr<SpawnSlots> slots = SpawnSlots::Reserve(2);
  ASSERT_THAT(slots, IsOk());
  Pipe pipe;
  int first = -1;
  {
    SpawnSlots::Loan loan(&*slots);
    first = loan.Lower(pipe.in.get());
    EXPECT_LT(first, pipe.in.get());
    EXPECT_NE(loan.Lower(pipe.in.get()), first);
    EXPECT_EQ(loan.Lower(pipe.in.get()), pipe.in.get());  // There are two.
    EXPECT_EQ(loan.Lower(STDIN_FILENO), STDIN_FILENO);
  }
  EXPECT_NE(fcntl(first, F_GETFD), -1);  // Taken, and no copy of the pipe.
  (void)pipe.in.Close();
  EXPECT_THAT(ReadAll(pipe.out.get()), IsEmpty());
}

TEST(SpawnSlotsTest, AreNotNeededWhereLowNumbersAreFree) {
  Pipe pipe;
  const UniqueFd high(fcntl(pipe.in.get(), F_DUPFD_CLOEXEC, 500));
  SpawnSlots::Loan loan(nullptr);
  EXPECT_LT(loan.Lower(high.get()), 500);
  EXPECT_EQ(loan.Lower(pipe.in.get()), pipe.in.get());
}

// A forked child keeps what it is told to, and opens others in their places.
TEST(SpawnSlotsTest, LendNothingInAChildThatHasOtherDescriptorsThere) {
  absl::StatusOr<SpawnSlots> slots = SpawnSlots::Reserve();
  ASSERT_THAT(slots, IsOk());
  absl::StatusOr<Child> child =
      Fork({.keep_fds = absl::Span<const int>()}, [&] {
        Pipe pipe;
        {
          SpawnSlots gone = *std::move(slots);
          SpawnSlots::Loan loan(&gone);
          if (loan.Lower(pipe.in.get()) != pipe.in.get()) return 1;
        }
        WriteAll(pipe.in.get(), "text");
        (void)pipe.in.Close();
        return ReadAll(pipe.out.get()) == "text" ? 0 : 2;
      });
  ASSERT_THAT(child, IsOk());
  EXPECT_THAT(child->Wait(), IsOkAndHolds(ExitStatus::Exited(0)));
}

TEST_F(SpawnInAForkTest, SaysWhatItCannotReserve) {
  for (const int count : {0, -1}) {
    EXPECT_THAT(SpawnSlots::Reserve(count).status(),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         HasSubstr(absl::StrCat("reserve ", count))));
  }
  EXPECT_EQ(InAChild([] {
              if (!Limits::Parse("NOFILE=64")->Apply().ok()) return 1;
              return ErrnoOf(SpawnSlots::Reserve(64).status()) == EMFILE ? 0
                                                                         : 2;
            }),
            ExitStatus::Exited(0));
}

}  // namespace
}  // namespace brood
