// SPDX-License-Identifier: Apache-2.0
//
// A Control is a unix socket at which a program that runs is asked: a line
// comes in, an answer goes out, and the connection is closed.
//
//   void AnswerWhatTimeItIs(Control& control, PollLoop& loop) {
//     control.Add({.name = "time",
//                  .help = "what time it is",
//                  .answer = [](std::string_view) {
//                    return absl::FormatTime(absl::Now());
//                  }});
//     control.Start(loop);
//   }
//
// and elsewhere, AskControl(address, "time", deadline).
//
// What it is not: a session, a stream of events, or a way in for bytes. Nor a
// door for clients: who asks here counts against no limit of theirs, and is
// answered while the server is full, and while it drains, to the end. It knows
// no command but "help"; what there is to ask, others Add().
//
// An answer is computed while the loop waits for it, so a command must not
// block. One that takes long, such as an upgrade, begins it, says so, and has
// another that tells how far it is. What is too long for an answer is not for
// here.
//
// A request is a line of at most kMaxRequest bytes, its newline included: the
// name of a command, and after a space its argument, if it takes one. At most
// kMaxOpen connections are open; who comes then waits in the kernel's queue,
// but not for long: each has Options::patience, from where it comes in until it
// has its whole answer. Nothing here waits for who asks.
//
// Who may ask: processes of our own user, and root's, as the kernel saw them
// when they connected. Others are told so and do nothing more. A path is born
// with mode 0600 and belongs to who opened it; an abstract name may be found by
// everybody. So whatever runs as our user, handlers included, may ask.
//
// An answer that begins with "error: " says in one line why there is none, and
// what is allowed.
//
// Readiness: the loop's. Ownership: owns its socket, its connections, and the
// path, which the destructor removes if it is still its own. Once the Control
// is destroyed the loop must not run any more, and once the loop is, the
// Control can only be destroyed.
//
// Errors: Open: InvalidArgument for what is no unix path or abstract name, else
// as listener.h. Later, what goes wrong with a connection is that connection's
// end. AskControl: as stream.h where nobody listens; FailedPrecondition with
// the text of an error; Unavailable where there was no whole answer.
//
// Threads: one. Signals: none. Fork: a child closes its copies; no command of
// the parent's is for it. Rests on: acceptor.h, net/peer_credentials.h,
// net/bound_path.h, unix(7).
#ifndef BROOD_SERVER_CONTROL_H_
#define BROOD_SERVER_CONTROL_H_

#include <cstddef>
#include <list>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "brood/net/address.h"
#include "brood/net/listener.h"
#include "brood/net/stream.h"
#include "brood/server/acceptor.h"
#include "brood/server/poll_loop.h"

namespace brood {

class Control {
 public:
  static constexpr size_t kMaxOpen = 8;
  static constexpr size_t kMaxRequest = 256;
  static constexpr size_t kMaxAnswer = 1 << 20;

  struct Options {
    absl::Duration patience = absl::Seconds(1);
  };

  struct Command {
    // "explain"; may have more words, as "state json".
    std::string name;
    // What comes after it, for help: "ADDRESS". Nothing does if empty.
    std::string argument = {};
    // One line.
    std::string help;
    // In whole lines; an error's message is one.
    absl::AnyInvocable<absl::StatusOr<std::string>(std::string_view argument)>
        answer;
  };

  static absl::StatusOr<std::unique_ptr<Control>> Open(const Address& address,
                                                       const Options& options);
  static absl::StatusOr<std::unique_ptr<Control>> Open(const Address& address);
  Control(const Control&) = delete;
  Control& operator=(const Control&) = delete;

  const Address& address() const { return acceptor_.addresses().front(); }

  // No two have one name.
  void Add(Command command) { commands_.push_back(std::move(command)); }
  // Answers whenever `loop` runs.
  void Start(PollLoop& loop);

  // How many connections are open.
  size_t open() const { return askers_.size(); }

 private:
  struct Asker {
    Stream stream;
    absl::Duration until;  // Monotonic.
    std::string request = {};
    std::string answer = {};  // What of it has yet to be sent.
  };
  using Askers = std::list<Asker>;

  Control(Listener listener, const Options& options)
      : acceptor_(std::move(listener)), options_(options) {}

  bool Arrive(Stream stream);
  absl::Status Listen(Askers::iterator asker);
  std::string AnswerTo(std::string_view request);
  std::string Help() const;
  void Reply(Askers::iterator asker, std::string answer);
  void Send(Askers::iterator asker);
  void Leave(Askers::iterator asker);
  void LookAtTheClock();
  void LookSoon();

  Acceptor acceptor_;
  const Options options_;
  std::vector<Command> commands_;
  Askers askers_;
  bool looking_soon_ = false;
  PollLoop* loop_ = nullptr;
};

// Blocks until there is an answer, or until `deadline`. `request` is without
// its newline.
absl::StatusOr<std::string> AskControl(const Address& address,
                                       std::string_view request,
                                       absl::Time deadline);

}  // namespace brood

#endif  // BROOD_SERVER_CONTROL_H_
