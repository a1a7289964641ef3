// SPDX-License-Identifier: Apache-2.0
//
// A ServerProcess is the real server binary, started by a test and ended with
// it.
//
//   ServerProcess server({"--listen=127.0.0.1:0"});
//   Stream client = *Stream::Connect(server.address());
//   client = *Stream::Connect(server.address());  // The first one leaves.
//   EXPECT_THAT(server.NextLogLine(), HasSubstr("exited 0"));
//   server.Signal(SIGTERM);
//
// What it is not: a mock. Nothing of it is linked into the test; it is seen
// only from outside, as an operator sees it.
//
// Ownership: the destructor kills and reaps a server that still runs.
//
// Errors: what makes the test meaningless (no binary, no pipe) aborts it.
// Threads: one. Fork: see proc/fork.h.
#ifndef BROOD_TESTS_SERVER_PROCESS_H_
#define BROOD_TESTS_SERVER_PROCESS_H_

#include <sys/types.h>

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/functional/function_ref.h"
#include "brood/net/address.h"
#include "brood/proc/child.h"
#include "brood/proc/exit_status.h"
#include "brood/proc/unique_fd.h"

namespace brood {

// A process that `parent` has not reaped. A zombie has the state 'Z'.
struct ProcessEntry {
  pid_t pid;
  char state;
};
// The children of `parent`, dead and alive, from /proc.
std::vector<ProcessEntry> ChildrenOf(pid_t parent);
// How many of them are zombies.
int ZombiesOf(pid_t parent);

class ServerProcess {
 public:
  // Starts the binary that the environment variable SERVER names, and blocks
  // until it is ready or has ended.
  // `before_exec` runs in the new process, once its descriptors are in place.
  explicit ServerProcess(
      const std::vector<std::string>& args,
      absl::FunctionRef<void()> before_exec = [] {});
  ServerProcess(ServerProcess&&) = default;
  ServerProcess& operator=(ServerProcess&&) = default;
  ~ServerProcess();

  // The line it said when it was ready; empty if it has ended instead.
  const std::string& ready_line() const { return ready_line_; }
  // Where it listens, as that line says.
  Address address() const;
  pid_t pid() const { return child_->pid(); }
  void Signal(int signo);

  // Blocks for the next line on its standard error; nullopt when there is no
  // more. Skips the one that depends on who runs the test: "running as root".
  std::optional<std::string> NextLogLine();
  // Skips lines until one contains `text`, and returns that; nullopt if none
  // does.
  std::optional<std::string> NextLogLineWith(std::string_view text);
  // Everything that is still to come on its standard error, until its end.
  std::string RestOfLog();
  // Everything else on its standard output, until its end: after the line that
  // it said when it was ready, or all if that never was a whole line.
  std::string RestOfOutput();
  // Nobody listens to it any more.
  void CloseItsOutput();
  // Makes its log hold a page at most until it is read.
  void ShrinkItsLog();

  ExitStatus Wait();

 private:
  // The text up to the next newline, without it.
  static std::optional<std::string> NextLine(const UniqueFd& fd,
                                             std::string& buffer);

  std::optional<Child> child_;
  UniqueFd out_;
  UniqueFd log_;
  std::string out_buffer_;
  std::string log_buffer_;
  std::string ready_line_;
};

}  // namespace brood

#endif  // BROOD_TESTS_SERVER_PROCESS_H_
