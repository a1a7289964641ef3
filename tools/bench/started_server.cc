// SPDX-License-Identifier: Apache-2.0
#include "brood/tools/bench/started_server.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <fstream>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "brood/net/address.h"
#include "brood/net/listener.h"
#include "brood/net/stream.h"
#include "brood/proc/accounts.h"
#include "brood/proc/child.h"
#include "brood/proc/exit_status.h"
#include "brood/proc/orphans.h"
#include "brood/proc/posix.h"
#include "brood/proc/process_table.h"
#include "brood/proc/spawn.h"
#include "brood/proc/stop.h"
#include "brood/proc/unique_fd.h"
#include "brood/tools/bench/contender.h"
#include "brood/tools/bench/process_memory.h"

namespace brood {
namespace {

constexpr absl::Duration kTimeToStart = absl::Seconds(10);
// Ten thousand that are killed at once take seconds.
constexpr absl::Duration kTimeToEnd = absl::Minutes(1);
constexpr std::string_view kSaysWhere = "listening on ";

absl::StatusOr<UniqueFd> OpenFile(const std::string& path, int flags) {
  UniqueFd file(open(path.c_str(), flags | O_CLOEXEC, 0600));
  if (!file.valid()) {
    return ErrnoStatus(errno, absl::StrCat("open ", path));
  }
  return file;
}

absl::Status WriteFile(const std::string& path, std::string_view text) {
  std::ofstream file(path);
  file << text << std::flush;
  return file ? absl::OkStatus()
              : ErrnoStatus(errno, absl::StrCat("write ", path));
}

std::string UserName() {
  return NameOfUser(geteuid()).value_or(absl::StrCat(geteuid()));
}

// A port that was free a moment ago. Nobody is told to use one of these but
// whoever asks for port 0 and is very unlucky.
absl::StatusOr<uint16_t> FreePort() {
  const absl::StatusOr<Address> any = Address::Parse("127.0.0.1:0");
  if (!any.ok()) return any.status();
  const absl::StatusOr<Listener> listener = Listener::Open(*any);
  if (!listener.ok()) return listener.status();
  return listener->address().port().value_or(0);
}

// What it has said, on one line, if it has said anything.
absl::Status Failed(const Contender& contender, std::string_view what,
                    const std::string& said_in) {
  std::ifstream file(said_in);
  std::string line;
  std::getline(file, line);
  return absl::UnavailableError(
      absl::StrCat(contender.name, " ", what, line.empty() ? "" : ": ",
                   std::string_view(line).substr(0, 200)));
}

absl::StatusOr<bool> Answers(const Address& address, absl::Time deadline) {
  absl::StatusOr<Stream> client = Stream::Connect(address, deadline);
  if (!client.ok()) return false;
  constexpr std::string_view kLine = "hello\n";
  if (!client->WriteAll(kLine, deadline).ok()) return false;
  std::string heard;
  std::array<char, 64> buffer;
  while (heard.size() < kLine.size()) {
    const absl::StatusOr<IoResult> got =
        client->Read(absl::MakeSpan(buffer), deadline);
    if (!got.ok() || got->end()) return false;
    heard.append(buffer.data(), *got->bytes());
  }
  return heard == kLine;
}

absl::StatusOr<std::string> ReadLine(int fd, absl::Time deadline) {
  std::string line;
  const Deadline end = deadline;
  while (true) {
    const absl::StatusOr<bool> ready = PollUntil(fd, POLLIN, end);
    if (!ready.ok()) return ready.status();
    if (!*ready) return absl::DeadlineExceededError("said nothing in time");
    char byte;
    const ssize_t n = RetryOnEintr([&] { return read(fd, &byte, 1); });
    if (n == -1) return ErrnoStatus(errno, "read what a server says");
    if (n == 0) return absl::UnavailableError("ended");
    if (byte == '\n') return line;
    line.push_back(byte);
  }
}

absl::Duration CpuOf(const ExitStatus& status) {
  if (!status.usage().has_value()) return absl::ZeroDuration();
  return status.usage()->user_time + status.usage()->system_time;
}

}  // namespace

StartedServer::StartedServer(Child child, Orphans orphans)
    : pid_(child.pid()),
      child_(std::move(child)),
      orphans_(std::move(orphans)) {}

StartedServer::StartedServer(StartedServer&& other) noexcept
    : pid_(other.pid_),
      child_(std::exchange(other.child_, std::nullopt)),
      orphans_(std::exchange(other.orphans_, std::nullopt)),
      address_(other.address_),
      command_(std::move(other.command_)),
      config_(std::move(other.config_)) {}

StartedServer::~StartedServer() {
  if (!child_.has_value()) return;
  (void)child_->SignalGroup(SIGKILL);
  std::move(*child_).Drop(absl::Now() + kTimeToEnd);
  (void)EndOrphans();
}

absl::StatusOr<StartedServer> StartedServer::Start(const Contender& contender,
                                                   const std::string& program,
                                                   const std::string& folder) {
  Places places = {.program = program, .folder = folder, .user = UserName()};
  if (!contender.says_where) {
    const absl::StatusOr<uint16_t> port = FreePort();
    if (!port.ok()) return port.status();
    places.port = absl::StrCat(*port);
  }
  if (!contender.config.empty()) {
    if (absl::Status s = WriteFile(absl::StrCat(folder, "/", contender.name),
                                   ConfigOf(contender, places));
        !s.ok()) {
      return s;
    }
  }
  const std::string said_in = absl::StrCat(folder, "/said");
  absl::StatusOr<UniqueFd> null = OpenFile("/dev/null", O_RDWR);
  if (!null.ok()) return null.status();
  absl::StatusOr<UniqueFd> said =
      OpenFile(said_in, O_WRONLY | O_CREAT | O_TRUNC);
  if (!said.ok()) return said.status();
  std::array<int, 2> ends;
  if (pipe2(ends.data(), O_CLOEXEC) == -1) return ErrnoStatus(errno, "pipe2");
  const UniqueFd reader(ends[0]);
  UniqueFd writer(ends[1]);

  absl::StatusOr<Orphans> orphans =
      Orphans::Receive([](pid_t) { return false; }, absl::InfiniteDuration());
  if (!orphans.ok()) return orphans.status();
  absl::StatusOr<Child> child = Spawn(
      CommandOf(contender, places),
      {.fds = {{.child = 0, .parent = null->get()},
               {.child = 1,
                .parent = contender.says_where ? writer.get() : null->get()},
               {.child = 2, .parent = said->get()}},
       .inherit_stdio = false,
       .new_session = true,
       .parent_death_signal = SIGKILL});
  if (!child.ok()) return child.status();
  writer = UniqueFd();
  StartedServer server(*std::move(child), *std::move(orphans));
  server.command_ = CommandOf(contender, places);
  server.config_ = ConfigOf(contender, places);

  const absl::Time deadline = absl::Now() + kTimeToStart;
  if (contender.says_where) {
    const absl::StatusOr<std::string> line = ReadLine(reader.get(), deadline);
    if (!line.ok()) return Failed(contender, line.status().message(), said_in);
    std::string_view where = *line;
    if (!absl::ConsumePrefix(&where, kSaysWhere)) {
      return Failed(contender, "does not say where it listens", said_in);
    }
    const absl::StatusOr<Address> address =
        Address::Parse(where.substr(0, where.find(" (")));
    if (!address.ok()) return address.status();
    server.address_ = *address;
  } else {
    const absl::StatusOr<Address> address =
        Address::Parse(absl::StrCat("127.0.0.1:", places.port));
    if (!address.ok()) return address.status();
    server.address_ = *address;
  }
  // Whoever comes before it listens is refused, and asks again.
  while (true) {
    const absl::StatusOr<bool> answers = Answers(server.address_, deadline);
    if (!answers.ok()) return answers.status();
    if (*answers) return server;
    const absl::StatusOr<bool> ended = server.child_->HasEnded();
    if (!ended.ok()) return ended.status();
    if (*ended) return Failed(contender, "ended", said_in);
    if (absl::Now() >= deadline) {
      return Failed(contender, "does not answer", said_in);
    }
    (void)PollUntil(server.child_->fd(), POLLIN,
                    absl::Now() + absl::Milliseconds(5));
  }
}

// Whose parent has ended is a child of this process, and still one of its.
absl::StatusOr<int64_t> StartedServer::MemoryOfAll() const {
  const absl::StatusOr<std::vector<Process>> processes = ProcessTable().List();
  if (!processes.ok()) return processes.status();
  return MemoryOf(DescendantsOf(getpid(), *processes));
}

absl::StatusOr<int> StartedServer::Zombies() const {
  const ProcessTable table;
  const absl::StatusOr<std::vector<pid_t>> children = table.ChildrenOf(pid_);
  if (!children.ok()) return children.status();
  int zombies = 0;
  for (const pid_t pid : *children) {
    const absl::StatusOr<Process> process = table.Read(pid);
    if (process.ok() && process->zombie()) ++zombies;
  }
  return zombies;
}

absl::Duration StartedServer::EndOrphans() {
  absl::Duration cpu = absl::ZeroDuration();
  const Deadline deadline = absl::Now() + kTimeToEnd;
  // One that is killed may leave children of its own, so it takes several
  // looks.
  while (orphans_->Scan().ok() && deadline.Left() > absl::ZeroDuration()) {
    (void)orphans_->SignalAll(SIGKILL);
    bool found = false;
    while (true) {
      const absl::StatusOr<std::optional<Orphans::Exit>> end = orphans_->Next();
      if (!end.ok() || !end->has_value()) break;
      cpu += CpuOf((*end)->status);
      found = true;
    }
    if (!found && orphans_->size() == 0) break;
    if (!found) {
      (void)PollUntil(orphans_->fd(), POLLIN,
                      absl::Now() + absl::Milliseconds(100));
    }
  }
  return cpu;
}

absl::StatusOr<absl::Duration> StartedServer::Stop() && {
  absl::StatusOr<brood::Stop> stop = brood::Stop::Begin(
      std::move(*std::exchange(child_, std::nullopt)),
      {.steps = {{SIGTERM, absl::Seconds(3)}, {SIGKILL, kTimeToEnd}}});
  if (!stop.ok()) return stop.status();
  absl::Duration cpu = absl::ZeroDuration();
  while (true) {
    const absl::StatusOr<std::optional<brood::Stop::Result>> result =
        stop->Next();
    if (!result.ok()) return result.status();
    if (result->has_value()) {
      if (!(*result)->status.has_value()) {
        return absl::DeadlineExceededError(
            absl::StrCat("process ", pid_, " outlives SIGKILL"));
      }
      cpu = CpuOf(*(*result)->status);
      break;
    }
    const absl::StatusOr<bool> ready =
        PollUntil(stop->fd(), POLLIN, absl::InfiniteFuture());
    if (!ready.ok()) return ready.status();
  }
  return cpu + EndOrphans();
}

}  // namespace brood
