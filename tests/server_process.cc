// SPDX-License-Identifier: Apache-2.0
#include "brood/tests/server_process.h"

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/log/check.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "absl/time/time.h"
#include "brood/net/address.h"
#include "brood/proc/child.h"
#include "brood/proc/exit_status.h"
#include "brood/proc/fork.h"
#include "brood/proc/posix.h"
#include "brood/proc/unique_fd.h"

namespace brood {
namespace {

std::pair<UniqueFd, UniqueFd> MakePipe() {
  std::array<int, 2> ends;
  CHECK_EQ(pipe2(ends.data(), O_CLOEXEC), 0) << ErrnoStatus(errno, "pipe2");
  return {UniqueFd(ends[0]), UniqueFd(ends[1])};
}

// Runs in the forked child, before exec.
int ExecServer(const std::vector<const char*>& argv, int out, int log,
               absl::FunctionRef<void()> before_exec) {
  const int null = open("/dev/null", O_RDONLY);
  if (dup2(null, STDIN_FILENO) == -1 || dup2(out, STDOUT_FILENO) == -1 ||
      dup2(log, STDERR_FILENO) == -1) {
    return 127;
  }
  before_exec();
  execv(argv[0], const_cast<char* const*>(argv.data()));
  return 127;
}

}  // namespace

std::vector<ProcessEntry> ChildrenOf(pid_t parent) {
  std::vector<ProcessEntry> children;
  DIR* directory = opendir("/proc");
  CHECK(directory != nullptr) << ErrnoStatus(errno, "open /proc");
  while (const dirent* entry = readdir(directory)) {
    pid_t pid;
    if (!absl::SimpleAtoi(entry->d_name, &pid)) continue;
    std::ifstream file(absl::StrCat("/proc/", pid, "/stat"));
    std::string stat;
    if (!std::getline(file, stat)) continue;  // It has gone meanwhile.
    // "pid (name) state ppid ...", and a name may contain anything.
    const std::vector<std::string_view> fields =
        absl::StrSplit(std::string_view(stat).substr(stat.rfind(')') + 2), ' ');
    pid_t ppid;
    CHECK(fields.size() > 2 && absl::SimpleAtoi(fields[1], &ppid)) << stat;
    if (ppid == parent) children.push_back({pid, fields[0].front()});
  }
  closedir(directory);
  return children;
}

int ZombiesOf(pid_t parent) {
  int zombies = 0;
  for (const ProcessEntry& child : ChildrenOf(parent)) {
    if (child.state == 'Z') ++zombies;
  }
  return zombies;
}

ServerProcess::ServerProcess(const std::vector<std::string>& args,
                             absl::FunctionRef<void()> before_exec) {
  const char* binary = std::getenv("SERVER");
  CHECK(binary != nullptr) << "SERVER does not name the server's binary";
  std::vector<const char*> argv = {binary};
  for (const std::string& arg : args) argv.push_back(arg.c_str());
  argv.push_back(nullptr);

  auto [out_reader, out_writer] = MakePipe();
  auto [log_reader, log_writer] = MakePipe();
  const int out = out_writer.get();
  const int log = log_writer.get();
  absl::StatusOr<Child> child = Fork({.parent_death_signal = SIGKILL}, [&] {
    return ExecServer(argv, out, log, before_exec);
  });
  CHECK_OK(child);
  child_ = *std::move(child);
  out_ = std::move(out_reader);
  log_ = std::move(log_reader);
  // Only the server must hold these ends, or its end would not be seen.
  out_writer = UniqueFd();
  log_writer = UniqueFd();
  ready_line_ = NextLine(out_, out_buffer_).value_or("");
}

// A Child that is destroyed does not wait for long, and a process with a watch
// of inotify(7) may take a tenth of a second to die.
ServerProcess::~ServerProcess() {
  std::move(*child_).Drop(absl::InfiniteFuture());
}

Address ServerProcess::address() const {
  std::string_view text = ready_line_;
  CHECK(absl::ConsumePrefix(&text, "listening on ")) << ready_line_;
  absl::StatusOr<Address> address =
      Address::Parse(text.substr(0, text.find(" (")));
  CHECK_OK(address);
  return *address;
}

void ServerProcess::Signal(int signo) { CHECK_OK(child_->Signal(signo)); }

std::optional<std::string> ServerProcess::NextLine(const UniqueFd& fd,
                                                   std::string& buffer) {
  while (true) {
    if (const size_t end = buffer.find('\n'); end != std::string::npos) {
      std::string line = buffer.substr(0, end);
      buffer.erase(0, end + 1);
      return line;
    }
    std::array<char, 65536> bytes;
    const ssize_t n = RetryOnEintr(
        [&] { return read(fd.get(), bytes.data(), bytes.size()); });
    CHECK_GE(n, 0) << ErrnoStatus(errno, "read from the server");
    if (n == 0) return std::nullopt;
    buffer.append(bytes.data(), static_cast<size_t>(n));
  }
}

std::optional<std::string> ServerProcess::NextLogLine() {
  while (true) {
    std::optional<std::string> line = NextLine(log_, log_buffer_);
    if (!line.has_value() || !absl::StartsWith(*line, "running as root")) {
      return line;
    }
  }
}

std::optional<std::string> ServerProcess::NextLogLineWith(
    std::string_view text) {
  while (true) {
    std::optional<std::string> line = NextLogLine();
    if (!line.has_value() || absl::StrContains(*line, text)) return line;
  }
}

std::string ServerProcess::RestOfOutput() {
  std::string rest;
  while (std::optional<std::string> line = NextLine(out_, out_buffer_)) {
    absl::StrAppend(&rest, *line, "\n");
  }
  return rest + std::exchange(out_buffer_, "");
}

std::string ServerProcess::RestOfLog() {
  std::string rest;
  while (std::optional<std::string> line = NextLogLine()) {
    absl::StrAppend(&rest, *line, "\n");
  }
  return rest;
}

void ServerProcess::CloseItsOutput() {
  out_ = UniqueFd();
  log_ = UniqueFd();
}

void ServerProcess::ShrinkItsLog() {
  CHECK_NE(fcntl(log_.get(), F_SETPIPE_SZ, 4096), -1)
      << ErrnoStatus(errno, "F_SETPIPE_SZ");
}

ExitStatus ServerProcess::Wait() {
  absl::StatusOr<ExitStatus> status = child_->Wait();
  CHECK_OK(status);
  return *status;
}

}  // namespace brood
