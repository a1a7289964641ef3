// SPDX-License-Identifier: Apache-2.0
//
// A ProcessModel decides which process handles a connection, and when.
//
//   void LogTo(std::ostream& log, ProcessModel& model) {
//     model.OnConnectionEnd([&log](const ConnectionRecord& record) {
//       log << ConnectionLine(record, LogFormat::kText) << "\n";
//     });
//   }
//
// What it is not: the server. It neither reads signals nor decides when to
// stop; see supervisor.h, which drives it through these verbs.
//
// Ownership: a model owns its listeners and the processes it starts. Destroying
// it kills and reaps them.
//
// Errors: Start() fails for good. What goes wrong with one connection is that
// connection's end, and what keeps clients from coming in (no descriptor, no
// process to be had) is told as trouble and tried again; neither is an error of
// the model.
//
// Threads: one. Signals: none. Fork: see connection_handler.h.
#ifndef BROOD_SERVER_PROCESS_MODEL_H_
#define BROOD_SERVER_PROCESS_MODEL_H_

#include <sys/types.h>

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "brood/net/address.h"
#include "brood/server/connection_log.h"
#include "brood/server/poll_loop.h"
#include "brood/server/rules.h"

namespace brood {

class ProcessModel {
 public:
  virtual ~ProcessModel() = default;

  // One word each, for logs: "fork", "echo".
  virtual std::string_view name() const = 0;
  virtual std::string_view service() const = 0;
  // Where clients connect, with the ports the kernel chose.
  virtual const std::vector<Address>& addresses() const = 0;

  // Observers, at first null: nobody listens, and what they would be told is
  // not even put together.
  //
  // Calls `observer` for each connection that has ended and been reaped.
  virtual void OnConnectionEnd(
      absl::AnyInvocable<void(const ConnectionRecord&)> observer) = 0;

  // Calls `observer` when clients cannot be taken in, with the reason, and with
  // OK when they can again. They wait meanwhile.
  virtual void OnTrouble(
      absl::AnyInvocable<void(const absl::Status&)> observer) = 0;

  // Calls `observer` for what else a person who runs the server should know: a
  // client that was turned away, a worker that crashed.
  virtual void OnEvent(absl::AnyInvocable<void(const LogEvent&)> observer) = 0;

  // Serves clients whenever `loop` runs. Once the model is destroyed `loop`
  // must not run any more, and once `loop` is, the model can only be destroyed.
  virtual absl::Status Start(PollLoop& loop) = 0;
  // From now on connecting is refused. Who has connected already, whether taken
  // in or not, is served as before; `done` is called once nobody is left.
  virtual void Drain(absl::AnyInvocable<void()> done) = 0;
  // Connections taken in whose end has not been observed.
  virtual size_t active() const = 0;
  // Whether `pid` is a child of the model's that it has yet to reap: for
  // whoever waits for others, such as Orphans.
  virtual bool Owns(pid_t pid) const = 0;
  // Sends `signo` to every process that handles a connection, and resets the
  // clients that wait for one. `cause` is why, for the records of those who
  // end. REQUIRES: Drain().
  virtual void SignalHandlers(int signo, EndCause cause) = 0;

  // Who may come at all, from now on.
  virtual void SetRules(Rules rules) = 0;
  // One process more (1) or fewer (-1) may handle connections from now on;
  // nobody is sent away. What the number is now, which is what it was before
  // where it makes the model what it is.
  virtual size_t ChangeCapacity(int by) = 0;
  // How things stand, for whoever asks: {"active", 3}, {"waiting", 1},
  // and {"connections", 4711}: how many clients have been taken in so far.
  virtual std::vector<LogField> State() const = 0;
  // What would become of a client from `peer` whom the rules allow, in lines. A
  // model that does not know each client says how full it is.
  virtual std::string Explain(const Address& /*peer*/) const {
    return absl::StrCat("now: ", FieldsText(State()), "\n");
  }
  // The rate of `peer`'s source begins anew. What was left of it, in a line;
  // FailedPrecondition where no rate is limited.
  virtual absl::StatusOr<std::string> Forget(const Address& peer) = 0;
};

}  // namespace brood

#endif  // BROOD_SERVER_PROCESS_MODEL_H_
