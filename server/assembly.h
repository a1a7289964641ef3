// SPDX-License-Identifier: Apache-2.0
//
// An Assembly is a server put together as its options say, and ready to run.
//
//   int Serve(ServerOptions options) {
//     absl::StatusOr<std::unique_ptr<Assembly>> server =
//         Assembly::Create(std::move(options));
//     if (!server.ok()) {
//       std::cerr << server.status().message() << "\n";
//       return 1;
//     }
//     return (*server)->Run().ok() ? 0 : 1;
//   }
//
// What it is not: options.h, which knows nothing of the world. Here the world
// is asked: sockets are opened or taken over, the one for questions too, rules
// are read, users are looked up, privileges given up, programs found, in this
// order, so that a program is found with the rights it will have.
//
// The process is its own. The environment is read and changed: what is for this
// process alone, of LISTEN_FDS and NOTIFY_SOCKET and their kind, is removed. If
// the handler is a program, whatever children the process has besides are
// reaped when they end.
//
// Ownership: all there is, until it is destroyed. What has been opened when
// something fails is closed again, paths included; privileges that were given
// up stay so.
//
// Errors: one line that begins with the flag it is about and says what a person
// can do. Threads: one. Signals: see supervisor.h. Fork: none here.
#ifndef BROOD_SERVER_ASSEMBLY_H_
#define BROOD_SERVER_ASSEMBLY_H_

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "brood/net/listener.h"
#include "brood/proc/unique_fd.h"
#include "brood/server/connection_handler.h"
#include "brood/server/control.h"
#include "brood/server/notify.h"
#include "brood/server/options.h"
#include "brood/server/poll_loop.h"
#include "brood/server/process_model.h"
#include "brood/server/rules.h"
#include "brood/server/rules_file.h"
#include "brood/server/supervisor.h"

namespace brood {

class Assembly {
 public:
  static absl::StatusOr<std::unique_ptr<Assembly>> Create(
      ServerOptions options);
  Assembly(const Assembly&) = delete;
  Assembly& operator=(const Assembly&) = delete;

  // Blocks until the server has been stopped.
  absl::Status Run();

 private:
  explicit Assembly(ServerOptions options) : options_(std::move(options)) {}

  absl::Status ReadEnvironment();
  absl::Status OpenListeners();
  absl::Status OpenControl();
  absl::Status ReadRules();
  absl::Status GiveUpPrivileges();
  absl::Status MakeHandler();
  absl::Status MakeModel();
  // What the loop is to watch besides.
  absl::Status Prepare(PollLoop& loop, const SuperviseOptions::Log& log,
                       const SuperviseOptions::State& state);
  // What there is to ask.
  void AddCommands(const SuperviseOptions::Log& log,
                   const SuperviseOptions::State& state);
  absl::StatusOr<std::string> Explain(std::string_view client,
                                      const SuperviseOptions::State& state);
  absl::StatusOr<std::string> Forget(std::string_view client,
                                     const SuperviseOptions::Log& log);
  void SetRules(Rules rules);
  void NoteWhatIsOutOfReach();

  ServerOptions options_;
  UniqueFd ready_;
  std::optional<Notifier> notifier_;
  std::optional<absl::Duration> watchdog_;
  std::vector<Listener> listeners_;
  std::optional<RulesFile> rules_file_;
  Rules rules_;  // As the model has them.
  std::unique_ptr<Control> control_;
  std::vector<LogEvent> notices_;  // Said once, when the server begins.
  std::unique_ptr<ConnectionHandler> handler_;
  std::unique_ptr<ProcessModel> model_;
};

}  // namespace brood

#endif  // BROOD_SERVER_ASSEMBLY_H_
