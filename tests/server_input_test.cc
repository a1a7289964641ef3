// SPDX-License-Identifier: Apache-2.0
//
// Whatever is wrong with what the real server is given, it says so in one line,
// and leaves nothing behind.
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstddef>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/algorithm/container.h"
#include "absl/functional/function_ref.h"
#include "absl/log/check.h"
#include "absl/status/status_matchers.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "brood/net/address.h"
#include "brood/net/stream.h"
#include "brood/proc/child.h"
#include "brood/proc/exit_status.h"
#include "brood/proc/fork.h"
#include "brood/proc/privileges.h"
#include "brood/proc/unique_fd.h"
#include "brood/tests/server_process.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::absl_testing::IsOk;
using ::absl_testing::IsOkAndHolds;
using ::testing::AllOf;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Optional;
using ::testing::StartsWith;

namespace fs = std::filesystem;

constexpr int kWorld = 1;
constexpr int kUsage = 2;
constexpr size_t kLongestLine = 300;
constexpr std::string_view kTcp = "--listen=127.0.0.1:0";

struct Row {
  std::vector<std::string> args;
  // What the line says, beside the name of the first argument.
  std::vector<std::string> says;
  // Runs in the server's process, before it is the server.
  std::function<void()> before = [] {};
};

// Root without its rights: what is executed from here on has none of them.
void GiveUpCapabilities() {
  if (geteuid() != 0) return;
  __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3,
                                     .pid = 0};
  std::array<__user_cap_data_struct, 2> none = {};
  if (prctl(PR_SET_SECUREBITS, SECBIT_NOROOT | SECBIT_NOROOT_LOCKED) == -1 ||
      syscall(SYS_capset, &header, none.data()) == -1) {
    _exit(126);
  }
}

// Whether `body` succeeds in a child.
bool Can(absl::FunctionRef<int()> body) {
  absl::StatusOr<Child> child = Fork({}, body);
  CHECK_OK(child);
  const absl::StatusOr<ExitStatus> status = child->Wait();
  CHECK_OK(status);
  return status->success();
}

// While it lives, what a child of ours leaves behind comes to us.
class Subreaper {
 public:
  Subreaper() { CHECK_EQ(prctl(PR_SET_CHILD_SUBREAPER, 1), 0); }
  ~Subreaper() { (void)prctl(PR_SET_CHILD_SUBREAPER, 0); }
  Subreaper(const Subreaper&) = delete;
  Subreaper& operator=(const Subreaper&) = delete;
};

std::set<std::string> EverythingIn(const fs::path& folder) {
  std::set<std::string> paths;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    paths.insert(entry.path().string());
  }
  return paths;
}

std::string NameIn(std::string_view flag) {
  absl::ConsumePrefix(&flag, "--");
  return std::string(flag.substr(0, flag.find('=')));
}

struct FlagOfHelp {
  std::string name;
  bool is_switch;
};

// What `server --help` says there is.
std::vector<FlagOfHelp> FlagsOfHelp() {
  ServerProcess server({"--help"});
  const std::string help = server.RestOfOutput();
  EXPECT_EQ(server.Wait(), ExitStatus::Exited(0));
  std::vector<FlagOfHelp> flags;
  for (std::string_view line : absl::StrSplit(help, '\n')) {
    if (!absl::ConsumePrefix(&line, "  --")) continue;
    const bool is_switch = absl::ConsumePrefix(&line, "[no]");
    flags.push_back({NameIn(line), is_switch});
  }
  return flags;
}

class ServerInputTest : public testing::Test {
 protected:
  ServerInputTest() {
    // Short enough for the path of a socket, and open to other users.
    std::string name = "/tmp/brood_input.XXXXXX";
    CHECK(mkdtemp(name.data()) != nullptr && chmod(name.c_str(), 0755) == 0);
    folder_ = name;
  }
  ~ServerInputTest() override {
    std::error_code ignored;
    fs::remove_all(folder_, ignored);
  }

  std::string In(std::string_view name) const {
    return absl::StrCat(folder_, "/", name);
  }
  // A socket that would be left behind by a server that does not clean up.
  std::string Unix() const { return "--listen=unix:" + In("socket"); }

  // A file in the folder, with the mode.
  std::string Write(std::string_view name, std::string_view text,
                    mode_t mode = 0644) const {
    const std::string path = In(name);
    std::ofstream(path) << text;
    CHECK_EQ(chmod(path.c_str(), mode), 0);
    return path;
  }

  void ExpectRefused(const Row& row, int exit_code) const {
    SCOPED_TRACE(absl::StrJoin(row.args, " ").substr(0, 200));
    const std::set<std::string> before = EverythingIn(folder_);
    const Subreaper subreaper;
    const size_t children = ChildrenOf(getpid()).size();
    // A file, for a line that is not whole is to be seen as well.
    const UniqueFd said(memfd_create("stderr", MFD_CLOEXEC));
    ASSERT_TRUE(said.valid());
    {
      ServerProcess server(row.args, [&] {
        dup2(said.get(), STDERR_FILENO);
        row.before();
      });
      ASSERT_EQ(server.ready_line(), "");
      EXPECT_EQ(server.RestOfOutput(), "");
      EXPECT_EQ(server.Wait(), ExitStatus::Exited(exit_code));
    }
    std::array<char, 4096> bytes;
    const ssize_t n = pread(said.get(), bytes.data(), bytes.size(), 0);
    ASSERT_GE(n, 0);
    std::string_view line(bytes.data(), static_cast<size_t>(n));
    EXPECT_THAT(line, StartsWith("server: "));
    EXPECT_TRUE(absl::ConsumeSuffix(&line, "\n")) << line;
    EXPECT_TRUE(absl::c_all_of(line, [](char c) {
      return c >= ' ' && c <= '~';
    })) << line;
    EXPECT_LE(line.size(), kLongestLine) << line;
    for (const std::string& part : row.says) {
      EXPECT_THAT(line, HasSubstr(part));
    }
    EXPECT_EQ(EverythingIn(folder_), before);
    EXPECT_EQ(ChildrenOf(getpid()).size(), children);
  }

  void ExpectRefused(absl::Span<const Row> rows, int exit_code) const {
    for (const Row& row : rows) ExpectRefused(row, exit_code);
  }

  std::string folder_;
};

// ---- Each flag alone ----

struct BadValues {
  std::string name;
  std::vector<std::string> values;
  // What the line says, beside the flag.
  std::string allowed;
};

std::vector<BadValues> ValuesThatAreWrong() {
  const std::string long_path = "unix:/" + std::string(108, 'x');
  const std::string kRanges = "address range";
  return {
      {"listen",
       {"nonsense", "localhost:80", ":1,", "two\nlines"},
       "expected an IPv4 address"},
      {"listen", {"127.0.0.1", "[::1]"}, "expected \":\" and a port"},
      {"listen", {"127.0.0.256:80"}, "from 0 to 255"},
      {"listen", {"[::1:80"}, "expected \"]\""},
      {"listen", {":65536", ":-1", ":x"}, "expected a port from 0 to 65535"},
      {"listen", {long_path}, "108"},
      {"backlog", {"0", "65536", "-1", "+1", "many"}, "from 1 to 65535"},
      {"reuse_port", {"maybe", "1"}, "true or false"},
      {"defer_accept", {"0s", "1h1s", "1500ms", "5"}, "from 1s to 1h"},
      {"no_delay", {"yes"}, "true or false"},
      {"keep_alive",
       {"0s", "32768s", "1s,1s", "1s,1s,0", "1s,1s,128", "1s,0s,1"},
       "from 1s to 32767s"},
      {"user_timeout", {"0s", "576h1ms", "soon"}, "from 1ms to 576h"},
      {"unix_mode", {"-1", "1000", "8", "rw-"}, "octal, from 0 to 0777"},
      {"unix_owner", {"a\nb"}, "a name or a number"},
      {"unix_group", {"a\nb"}, "a name or a number"},
      {"model", {"threads", "Fork"}, "fork, iterative or prefork"},
      {"workers", {"0", "32769", "-1", "x"}, "from 1 to 32768"},
      {"min_spare_workers", {"0", "32769"}, "from 1 to 32768"},
      {"max_spare_workers", {"0", "32769"}, "from 1 to 32768"},
      {"max_workers", {"0", "32769"}, "from 1 to 32768"},
      {"connections_per_worker", {"-1", "1000000001"}, "to 1000000000"},
      {"service", {"qotd", "ECHO"}, "echo, discard, chargen, daytime or time"},
      {"stderr_to_socket", {"2"}, "true or false"},
      {"keep_env", {"1X", "A,", "A=b", "PATH"}, "allowed are names"},
      {"client_gone_grace", {"-1s", "24h1s", "inf"}, "from 0s to 24h"},
      {"rlimit", {"SPEED=1"}, "NOFILE"},
      {"rlimit", {"CPU=2:1"}, "the soft limit is above the hard"},
      {"rlimit", {"CPU=1,CPU=2"}, "allowed is once"},
      {"rlimit", {"CPU", "CPU=-1", "CPU=x", "CPU=1,"}, "RESOURCE=BOTH"},
      {"max_connections", {"0", "1000001", "1.5"}, "from 1 to 1000000"},
      {"max_connections_per_source", {"0", "1000001"}, "from 1 to 1000000"},
      {"connection_rate_per_source",
       {"0/s", "1000001/s", "5", "5/d", "5/s,0", "5/s,1000001"},
       "each number from 1 to 1000000"},
      {"source_prefix", {"33,64", "32,129", "-1,64", "32"}, "from 0 to 128"},
      {"at_limit", {"drop"}, "queue, refuse or reset"},
      {"at_limit_message",
       {std::string(513, 'x'), "two\nlines"},
       "at most 512 bytes"},
      {"max_waiting", {"0", "1000001"}, "from 1 to 1000000"},
      {"flood_threshold",
       {"-1", "1000001", "x"},
       "from 0, for never, to 1000000"},
      {"idle_timeout", {"0s", "721h", "30"}, "from 1ms to 720h"},
      {"handler_timeout", {"0s", "721h", "30"}, "from 1ms to 720h"},
      {"min_rate", {"0/s", "1/0s", "1/2h", "1", "1000000000001/s"}, "1s to 1h"},
      {"allow", {"everybody", "10.0.0.0/33", "::/129", "10.0.0.1/8,"}, kRanges},
      {"deny", {"localhost", "10.0.0.0/-1"}, kRanges},
      {"rules", {"a\nb"}, "a path without control characters"},
      {"explain", {"10.0.0.0/8", "me"}, "expected an address"},
      {"proxy_protocol", {"v3", "on"}, "off, v1, v2 or auto"},
      {"trusted_proxies", {"unix", "all", "10.0.0.0/33"}, kRanges},
      {"proxy_timeout", {"0s", "1h1s"}, "from 1ms to 1h"},
      {"user", {"a\nb"}, "a name or a number"},
      {"group", {"a\nb"}, "a name or a number"},
      {"chroot", {"relative", "/a\nb"}, "a path that begins with /"},
      {"new_privileges", {"on"}, "true or false"},
      {"log_format", {"xml"}, "text, json or none"},
      {"ready_fd", {"0", "-1", "1048576", "stdout"}, "from 1 to 1048575"},
      {"drain_timeout", {"-1s", "25h", "inf", "soon"}, "from 0s to 24h"},
      {"control", {"127.0.0.1:0"}, "unix:/path or unix:@abstract"},
      {"control", {"unix:"}, "expected a path"},
      {"ask", {std::string(256, 'x'), "a\nb"}, "1 to 255 bytes"},
      {"help", {"me"}, "true or false"},
  };
}

TEST_F(ServerInputTest, RefusesWhatNoFlagMayBe) {
  std::set<std::string> tried;
  for (const BadValues& bad : ValuesThatAreWrong()) {
    tried.insert(bad.name);
    for (const std::string& value : bad.values) {
      ExpectRefused({.args = {absl::StrCat("--", bad.name, "=", value)},
                     .says = {"--" + bad.name, bad.allowed}},
                    kUsage);
    }
  }
  for (const FlagOfHelp& flag : FlagsOfHelp()) {
    EXPECT_TRUE(tried.contains(flag.name))
        << "--" << flag.name << " has no row here";
  }
}

TEST_F(ServerInputTest, RefusesAnEmptyOrForgottenValueOfEachFlag) {
  const std::vector<FlagOfHelp> flags = FlagsOfHelp();
  EXPECT_GT(flags.size(), 40);
  for (const FlagOfHelp& flag : flags) {
    const std::string written = "--" + flag.name;
    ExpectRefused({.args = {written + "="}, .says = {written, "allowed is "}},
                  kUsage);
    if (flag.is_switch) {
      const std::string negated = "--no" + flag.name;
      ExpectRefused(
          {.args = {negated + "=false"}, .says = {negated, "allowed is "}},
          kUsage);
    } else {
      ExpectRefused({.args = {written}, .says = {written, "needs a value"}},
                    kUsage);
      ExpectRefused(
          {.args = {written, "--", "cat"}, .says = {written, "needs a value"}},
          kUsage);
    }
  }
}

TEST_F(ServerInputTest, RefusesTwiceWhatMayBeGivenOnce) {
  const std::map<std::string, std::string> right = {
      {"backlog", "16"},
      {"defer_accept", "5s"},
      {"keep_alive", "60s"},
      {"user_timeout", "20s"},
      {"unix_mode", "0660"},
      {"unix_owner", "0"},
      {"unix_group", "0"},
      {"model", "fork"},
      {"workers", "4"},
      {"min_spare_workers", "4"},
      {"max_spare_workers", "4"},
      {"max_workers", "4"},
      {"connections_per_worker", "4"},
      {"service", "time"},
      {"keep_env", "TZ"},
      {"client_gone_grace", "1s"},
      {"rlimit", "CPU=1"},
      {"max_connections", "4"},
      {"max_connections_per_source", "4"},
      {"connection_rate_per_source", "4/s"},
      {"source_prefix", "24,48"},
      {"at_limit", "reset"},
      {"at_limit_message", "full"},
      {"max_waiting", "4"},
      {"flood_threshold", "4"},
      {"idle_timeout", "1s"},
      {"handler_timeout", "1s"},
      {"min_rate", "1/s"},
      {"rules", "r"},
      {"explain", "::1"},
      {"proxy_protocol", "v2"},
      {"trusted_proxies", "::1"},
      {"proxy_timeout", "1s"},
      {"user", "nobody"},
      {"group", "nogroup"},
      {"chroot", "/"},
      {"log_format", "json"},
      {"ready_fd", "1"},
      {"drain_timeout", "1s"},
      {"control", "unix:@x"},
      {"ask", "state"},
  };
  for (const FlagOfHelp& flag : FlagsOfHelp()) {
    if (flag.name == "allow" || flag.name == "deny" || flag.name == "listen") {
      continue;  // These add up.
    }
    const auto value = right.find(flag.name);
    if (!flag.is_switch && value == right.end()) {
      ADD_FAILURE() << "--" << flag.name << " has no row here";
      continue;
    }
    const std::string written = absl::StrCat(
        "--", flag.name, "=", flag.is_switch ? "true" : value->second);
    ExpectRefused(
        {.args = {written, written},
         .says = {"--" + flag.name + " is given twice", "allowed is once"}},
        kUsage);
  }
  ExpectRefused(
      {.args = {"--listen=:7,:7"}, .says = {"--listen", "is given twice"}},
      kUsage);
}

TEST_F(ServerInputTest, SaysWhichFlagWasMeant) {
  ExpectRefused(
      std::vector<Row>{
          {{"--max_conections=5"}, {"did you mean --max_connections?"}},
          {{"--max-connections=5"}, {"did you mean --max_connections?"}},
          {{"--idle_timout=5s"}, {"did you mean --idle_timeout?"}},
          {{"--Listen=:1"}, {"did you mean --listen?"}},
          {{"--worker=5"}, {"did you mean --workers?"}},
          {{"--speed=11"}, {"--speed", "--help lists all"}},
          {{"--" + std::string(5000, 'u')}, {"--help lists all"}},
          {{"---"}, {"---", "--help lists all"}},
          {{"-l", ":7007"}, {"-l", "a flag begins with --"}},
          {{"7007"}, {"7007", "as in --listen=:7007"}},
          {{"cat"}, {"cat", "a program comes after a lone --"}},
          {{""}, {"a flag begins with --"}},
      },
      kUsage);
}

// ---- Flags that contradict each other ----

TEST_F(ServerInputTest, RefusesFlagsThatContradictEachOther) {
  const std::string unix = "--listen=unix:/x";
  const std::string prefork = "--model=prefork";
  const std::string iterative = "--model=iterative";
  std::vector<Row> rows = {
      {{"--service=time", "--", "cat"}, {"the program \"cat\""}},
      {{"--"}, {"allowed is a program after it"}},
      {{"--", ""}, {"allowed is a program after it"}},
      // Limits.
      {{"--at_limit_message=full", "--max_connections=9"},
       {"needs --at_limit=refuse"}},
      {{"--max_waiting=9", "--max_connections=9", "--at_limit=reset"},
       {"needs --at_limit=queue"}},
      // Who may come.
      {{"--allow=::1", "--rules=x"}, {"--rules do not go together"}},
      {{"--deny=::1", "--rules=x"}, {"--rules do not go together"}},
      {{"--allow=::1", "--deny=all"}, {"--deny=all do not go together"}},
      {{"--trusted_proxies=::1"}, {"needs --proxy_protocol"}},
      {{"--proxy_timeout=1s"}, {"needs --proxy_protocol"}},
      {{"--proxy_protocol=v1"}, {"needs --trusted_proxies"}},
      // Rights.
      {{"--group=nogroup"}, {"needs --user"}},
      {{"--chroot=/"}, {"needs --user"}},
      // A server that runs.
      {{"--ask=state"}, {"needs --control"}},
      {{"--explain=::1", "--control=unix:/x"}, {"--control do not go"}},
      {{"--explain=::1", "--control=unix:/x", "--ask=state"},
       {"--ask do not go"}},
      {{"--backlog=9", "--control=unix:/x", "--ask=state"},
       {"--ask do not go"}},
      {{"--ask=state", "--control=unix:/x", "--", "cat"}, {"\"cat\""}},
      {{"--listen=unix:/x", "--control=unix:/x"}, {"--control are both at"}},
      // Workers.
      {{"--workers=9", "--max_connections=8", prefork},
       {"--max_connections=8", "must not be above"}},
      {{"--min_spare_workers=3", "--max_spare_workers=2", prefork},
       {"--max_spare_workers=2", "must not be above"}},
      {{"--max_spare_workers=3", "--max_workers=2", prefork},
       {"--max_workers=2", "must not be above"}},
      {{"--max_waiting=9", iterative}, {"--model=iterative"}},
      {{"--max_connections=9", iterative}, {"that is one"}},
      {{"--proxy_protocol=v2", "--trusted_proxies=::1", unix},
       {"needs an address of TCP"}},
  };
  for (const char* flag :
       {"--workers=2", "--min_spare_workers=2", "--max_spare_workers=2",
        "--max_workers=2", "--connections_per_worker=2"}) {
    for (const char* model : {"fork", "iterative"}) {
      rows.push_back(
          {{flag, absl::StrCat("--model=", model)},
           {absl::StrCat("needs --model=prefork, and it is ", model)}});
    }
  }
  for (const char* flag :
       {"--min_spare_workers=2", "--max_spare_workers=2", "--max_workers=2"}) {
    rows.push_back({{flag, "--workers=2", prefork}, {"--workers do not go"}});
  }
  for (const char* flag :
       {"--stderr_to_socket", "--keep_env=TZ", "--client_gone_grace=5s"}) {
    rows.push_back({{flag}, {"needs a program"}});
    rows.push_back({{flag, "--service=time"}, {"needs a program"}});
  }
  for (const char* flag :
       {"--reuse_port", "--defer_accept=1s", "--no_delay", "--keep_alive=1s",
        "--user_timeout=1s", "--idle_timeout=1s", "--min_rate=1/s"}) {
    rows.push_back({{flag, unix}, {"needs an address of TCP"}});
  }
  for (const char* flag :
       {"--unix_mode=600", "--unix_owner=0", "--unix_group=0"}) {
    rows.push_back({{flag, "--listen=unix:@x"}, {"needs a unix:/path"}});
  }
  for (const Row& row : rows) {
    ExpectRefused(row, kUsage);
    // In whatever order, and by the name of the flag that is one too many.
    if (absl::c_linear_search(row.args, "--")) continue;
    Row other = row;
    absl::c_reverse(other.args);
    other.says.push_back("--" + NameIn(row.args[0]));
    ExpectRefused(other, kUsage);
  }
}

// ---- What the world refuses ----

TEST_F(ServerInputTest, NamesThePlaceWhereItCannotListen) {
  const ServerProcess tcp({std::string(kTcp)});
  const ServerProcess path({"--listen=unix:" + In("taken")});
  const std::string port = absl::StrCat("--listen=", tcp.address());
  Write("file", "");
  fs::create_directory(In("folder"));
  ExpectRefused(
      std::vector<Row>{
          {{port}, {port, "EADDRINUSE", "choose another"}},
          {{"--listen=unix:" + In("taken")},
           {"taken", "EADDRINUSE", "choose a path that is free"}},
          {{"--listen=unix:" + In("file")},
           {"file", "EADDRINUSE", "is no socket", "choose a path"}},
          {{"--listen=unix:" + In("folder")},
           {"folder", "EADDRINUSE", "is no socket", "choose a path"}},
          {{"--listen=unix:" + In("none/socket")},
           {"none/socket", "ENOENT", "in a folder that exists"}},
          {{"--listen=unix:" + In("file/socket")},
           {"file/socket", "ENOTDIR", "in a folder that exists"}},
          {{"--listen=192.0.2.1:0"},
           {"192.0.2.1:0", "EADDRNOTAVAIL", "choose an address of this"}},
          // Those before it are closed again.
          {{Unix() + "," + "unix:" + In("none/socket")}, {"none/socket"}},
          {{Unix(), port}, {port, "EADDRINUSE"}},
      },
      kWorld);
}

TEST_F(ServerInputTest, NamesThePlaceWhereItCannotBeAsked) {
  const ServerProcess other(
      {std::string(kTcp), "--control=unix:" + In("taken")});
  Write("file", "");
  std::vector<Row> rows = {
      {{"--control=unix:" + In("taken"), Unix()}, {"taken", "EADDRINUSE"}},
      {{"--control=unix:" + In("file"), Unix()}, {"file", "EADDRINUSE"}},
      {{"--control=unix:" + In("none/x"), Unix()}, {"none/x", "ENOENT"}},
      {{"--control=unix:" + In("none"), "--ask=state"}, {"none", "ENOENT"}},
      {{"--control=unix:" + In("file"), "--ask=state"},
       {"file", "ECONNREFUSED"}},
  };
  for (Row& row : rows) row.says.push_back(row.args[0]);
  rows.push_back({{"--control=unix:" + In("taken"), "--ask=stat"},
                  {"--ask", "\"stat\"", "allowed is", "help"}});
  ExpectRefused(rows, kWorld);
}

TEST_F(ServerInputTest, NamesTheRulesThatItCannotRead) {
  const std::string wrong = Write("wrong", "allow all\n  dney 192.0.2.0/24\n");
  const std::string range = Write("range", "deny 10.0.0.0/8, 10.0.0.0/33\n");
  const std::string bytes = Write("bytes", std::string("\x7f"
                                                       "ELF\0\xff",
                                                       6));
  fs::create_directory(In("folder"));
  ASSERT_EQ(mkfifo(In("fifo").c_str(), 0600), 0);
  const std::vector<std::pair<std::string, std::vector<std::string>>> files = {
      {In("none"), {"none", "ENOENT"}},
      {In("none/none"), {"none", "ENOENT"}},
      {wrong + "/none", {"none", "ENOTDIR"}},
      {In("folder"), {"folder", "expected an ordinary file"}},
      {In("folder/"), {"folder/", "expected the path of a file"}},
      {In("fifo"), {"fifo", "expected an ordinary file"}},
      {wrong, {wrong + ":2:3: \"dney\"", "expected \"allow\" or \"deny\""}},
      {range, {range + ":1:18: ", "from 0 to 32"}},
      {bytes, {bytes + ":1:1: ", "expected \"allow\" or \"deny\""}},
  };
  for (const auto& [path, says] : files) {
    Row row = {{"--rules=" + path, Unix()}, says};
    row.says.push_back("--rules=" + path);
    ExpectRefused(row, kWorld);
    row.args.emplace_back("--explain=192.0.2.1");
    ExpectRefused(row, kWorld);
  }
}

TEST_F(ServerInputTest, KeepsTheOldRulesWhenTheNewOnesAreWrong) {
  const std::string path = Write("rules", "deny 127.0.0.2\nallow all\n");
  ServerProcess server({std::string(kTcp), "--rules=" + path});
  const auto is_served = [&](std::string_view host) {
    absl::StatusOr<Stream> client =
        Stream::Connect(server.address(), absl::InfiniteFuture(),
                        {.source = *Address::Parse(absl::StrCat(host, ":0"))});
    std::array<char, 1> byte;
    if (!client.ok() || !client->WriteAll("x").ok()) return false;
    const absl::StatusOr<IoResult> got = client->Read(absl::MakeSpan(byte));
    return got.ok() && got->bytes() == 1;
  };
  EXPECT_FALSE(is_served("127.0.0.2"));
  // By itself, as soon as they are written, and when it is asked to read them.
  Write("rules", "allow all\ndeny 127.0.0.1, me\n");
  EXPECT_THAT(
      server.NextLogLineWith(path + ":2:17: "),
      Optional(AllOf(HasSubstr("\"me\""), EndsWith("; the old rules stay"))));
  server.Signal(SIGHUP);
  EXPECT_THAT(server.NextLogLineWith("SIGHUP"),
              Optional(AllOf(HasSubstr(path + ":2:17: "),
                             EndsWith("; what was read before stays"))));
  fs::remove(path);
  EXPECT_THAT(
      server.NextLogLineWith("ENOENT"),
      Optional(AllOf(HasSubstr(path), EndsWith("; the old rules stay"))));
  EXPECT_FALSE(is_served("127.0.0.2"));
  EXPECT_TRUE(is_served("127.0.0.1"));
  Write("rules", "deny 127.0.0.1\n");
  EXPECT_THAT(server.NextLogLineWith("rules hold"),
              Optional(HasSubstr("1 rules hold from now on")));
  EXPECT_FALSE(is_served("127.0.0.1"));
}

TEST_F(ServerInputTest, NamesTheProgramThatCannotBeRun) {
  const std::string plain = Write("plain", "#!/bin/sh\n", 0644);
  const std::string text = Write("text", "echo hello\n", 0755);
  const std::string empty = Write("empty", "#!\n", 0755);
  const std::string orphan = Write("orphan", "#!/no/such/shell\n", 0755);
  fs::create_directory(In("folder"));
  ExpectRefused(
      std::vector<Row>{
          {{Unix(), "--", In("none")}, {"none", "ENOENT"}},
          {{Unix(), "--", "no-such-program"}, {"no-such-program", "PATH"}},
          {{Unix(), "--", plain}, {plain, "is not executable", "EACCES"}},
          {{Unix(), "--", In("folder")}, {"folder", "is a directory"}},
          {{Unix(), "--", "/dev/null"}, {"/dev/null", "no regular file"}},
          {{Unix(), "--", plain + "/x"}, {"plain/x", "ENOTDIR"}},
          {{Unix(), "--", text}, {text, "begins neither with #! nor as ELF"}},
          {{Unix(), "--", empty}, {empty, "names no interpreter"}},
          {{Unix(), "--", orphan}, {orphan, "\"/no/such/shell\"", "ENOENT"}},
      },
      kWorld);
}

TEST_F(ServerInputTest, NamesTheUserThatItCannotBecome) {
  const std::string file = In("file");
  Write("file", "");
  const std::string nobody = "--user=65534";
  const std::string highest = "4294967295";
  ExpectRefused(
      std::vector<Row>{
          {{"--user=no-such-user", Unix()}, {"--user=no-such-user"}},
          {{"--user=root", Unix()}, {"--user=root", "must not be 0"}},
          {{"--user=0", Unix()}, {"--user=0", "must not be 0"}},
          {{"--user=" + highest, Unix()}, {"--user=4294967295", "allowed is"}},
          {{nobody, "--group=no-such-group", Unix()},
           {"--group=no-such-group", "there is no group"}},
          {{nobody, "--group=0", Unix()}, {"must not be 0"}},
          {{nobody, "--group=" + highest, Unix()},
           {"--group=4294967295", "allowed is"}},
          {{nobody, "--chroot=/no/such/folder", Unix()},
           {"--chroot=/no/such/folder", "ENOENT"}},
          {{nobody, "--chroot=" + file, Unix()},
           {"--chroot=" + file, "ENOTDIR"}},
          {{"--unix_owner=no-such-user", Unix()}, {"--unix_owner=no-such"}},
          {{"--unix_owner=" + highest, Unix()},
           {"--unix_owner=4294967295", "allowed is"}},
          {{"--unix_group=no-such-group", Unix()}, {"--unix_group=no-such"}},
          {{"--unix_group=" + highest, Unix()},
           {"--unix_group=4294967295", "allowed is"}},
      },
      kWorld);
}

TEST_F(ServerInputTest, FindsAProgramWithTheRightsAndTheRootItWillHave) {
  const Credentials user = {.uid = 65534, .gid = 65534};
  if (!Can([&] {
        return DropPrivileges({.chroot = "/", .run_as = user}).ok() ? 0 : 1;
      })) {
    GTEST_SKIP() << "it takes root to change root and user";
  }
  fs::create_directory(In("root"));
  ExpectRefused(std::vector<Row>{{{std::string(kTcp), "--user=65534",
                                   "--chroot=" + In("root"), "--", "/bin/sh"},
                                  {"/bin/sh", "ENOENT"}}},
                kWorld);
  // A program that only root may execute.
  const std::string mine = Write("mine", "#!/bin/sh\n", 0700);
  ExpectRefused(
      std::vector<Row>{
          {{std::string(kTcp), "--user=65534", "--", mine}, {"mine", "EACCES"}},
      },
      kWorld);
}

TEST_F(ServerInputTest, SaysWhatTakesRightsThatItDoesNotHave) {
  if (!Can([] {
        GiveUpCapabilities();
        return 0;
      })) {
    GTEST_SKIP() << "this root may not give up its rights";
  }
  const std::string secret = Write("secret", "allow all\n", 0000);
  fs::create_directory(In("closed"));
  ASSERT_EQ(chmod(In("closed").c_str(), 0555), 0);
  std::vector<Row> rows = {
      {{"--user=65534", Unix()}, {"--user=65534", "EPERM", "start it as root"}},
      {{"--rules=" + secret, Unix()}, {"--rules=" + secret, "EACCES"}},
      {{"--listen=unix:" + In("closed/socket")},
       {"closed/socket", "EACCES", "in a folder that may be written"}},
      {{"--unix_owner=12345", Unix()}, {"socket", "chown"}},
      {{"--rlimit=NOFILE=64:512", Unix()},
       {"--rlimit=NOFILE=64:512", "EPERM", "NOFILE=256"}},
  };
  int first_port = 0;
  std::ifstream("/proc/sys/net/ipv4/ip_unprivileged_port_start") >> first_port;
  if (first_port > 7) {
    rows.push_back(
        {{"--listen=127.0.0.1:7"}, {"127.0.0.1:7", "EACCES", "from 1024 up"}});
  }
  for (Row& row : rows) {
    row.before = [] {
      const rlimit few = {.rlim_cur = 256, .rlim_max = 256};
      setrlimit(RLIMIT_NOFILE, &few);
      GiveUpCapabilities();
    };
    ExpectRefused(row, kWorld);
  }
}

TEST_F(ServerInputTest, NamesWhatOfItsSurroundingsMeansNothing) {
  const auto set = [](const char* name, const char* value) {
    return [name, value] { setenv(name, value, 1); };
  };
  // LISTEN_PID is the server itself.
  const auto hand_over = [](const char* fds, const char* names) {
    return [fds, names] {
      setenv("LISTEN_PID", absl::StrCat(getpid()).c_str(), 1);
      setenv("LISTEN_FDS", fds, 1);
      if (names != nullptr) setenv("LISTEN_FDNAMES", names, 1);
      for (int fd = 3; fd < 16; ++fd) close(fd);
    };
  };
  // At descriptors 3 and 4, and no client can come in at either.
  const auto hand_over_sockets = [&](const char* names, int first, int second) {
    return [=, begin = hand_over("2", names)] {
      begin();
      (void)socket(AF_UNIX, first, 0);
      (void)socket(AF_UNIX, second, 0);
    };
  };
  const std::vector<std::string> any = {std::string(kTcp)};
  ExpectRefused(
      std::vector<Row>{
          {any,
           {"NOTIFY_SOCKET=\"relative\""},
           set("NOTIFY_SOCKET", "relative")},
          {any, {"NOTIFY_SOCKET=\"\""}, set("NOTIFY_SOCKET", "")},
          {any,
           {"WATCHDOG_USEC=\"soon\""},
           [] {
             setenv("NOTIFY_SOCKET", "@brood/nobody", 1);
             setenv("WATCHDOG_USEC", "soon", 1);
           }},
          {any, {"LISTEN_FDS=\"many\""}, hand_over("many", nullptr)},
          {any, {"LISTEN_FDS=\"5000\""}, hand_over("5000", nullptr)},
          {any, {"EBADF"}, hand_over("1", nullptr)},
          {any, {"LISTEN_FDNAMES=\"a:b\""}, hand_over("1", "a:b")},
          // Without --listen it does not listen where nobody asked it to.
          {{"--max_connections=9"},
           {"LISTEN_FDS, descriptor 3 (\"dns\")", "no stream socket",
            "allowed is one that listens"},
           hand_over_sockets("dns:other", SOCK_DGRAM, SOCK_STREAM)},
          {{"--max_connections=9"},
           {"LISTEN_FDS, descriptor 3 (\"unknown\")",
            "a stream socket that does not listen",
            "allowed is one that listens"},
           hand_over_sockets(nullptr, SOCK_STREAM, SOCK_STREAM)},
          {{"--ready_fd=77", Unix()}, {"--ready_fd=77", "EBADF"}},
          {{"--ready_fd=9", Unix()},
           {"--ready_fd=9", "reading only"},
           [] { dup2(open("/dev/null", O_RDONLY), 9); }},
          {{"--ready_fd=3", std::string(kTcp)},
           {"3", "close-on-exec"},
           [] {
             setenv("LISTEN_PID", absl::StrCat(getpid()).c_str(), 1);
             setenv("LISTEN_FDS", "1", 1);
             dup2(open("/dev/null", O_RDWR), 3);
           }},
          {{"--help"},
           {"standard output", "ENOSPC"},
           [] { dup2(open("/dev/full", O_WRONLY), STDOUT_FILENO); }},
      },
      kWorld);
}

}  // namespace
}  // namespace brood
