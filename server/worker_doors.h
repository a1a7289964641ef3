// SPDX-License-Identifier: Apache-2.0
//
// WorkerDoors are where a worker of prefork waits for its clients, and how it
// is called off.
//
//   // Serves until it is called off; `serve` says whether at a listener
//   // somebody was.
//   void ServeUntilCalledOff(WorkerDoors& doors,
//                            absl::FunctionRef<bool(size_t listener)> serve) {
//     while (!doors.called_off()) {
//       const absl::InlinedVector<size_t, 8> woken =
//           doors.Wait(absl::InfiniteDuration());
//       for (const size_t listener : woken) serve(listener);
//     }
//   }
//
// What it is not: an owner of listeners, or one who accepts.
//
// There are two kinds. Who serves one client after the other has OwnDoors: an
// epoll(7) of its own, of which the kernel wakes one for each client, and a
// bell that the parent rings, for everybody at once. Who serves only one has
// SharedDoors, which it leaves as fast as it can, for its client waits: all
// wait at one CommonDoor, and one at a time is called off, by SIGURG. That
// signal does nothing to a process that does not ask for it, so a worker may
// have a client by the time it comes.
//
// Ownership: listeners and bell are borrowed, and must outlive it; the door is
// the child's copy, and its own. Errors: Open: what the calls say that it
// makes.
//
// Threads: one. Signals: SharedDoors block SIGURG from Open() to Leave(), but
// while they wait, and handle it. Fork: for children. Rests on: epoll(7) with
// EPOLLEXCLUSIVE (Linux 4.5), signal(7), common_door.h.
#ifndef BROOD_SERVER_WORKER_DOORS_H_
#define BROOD_SERVER_WORKER_DOORS_H_

#include <cstddef>
#include <optional>
#include <utility>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "brood/net/listener.h"
#include "brood/proc/unique_fd.h"
#include "brood/server/common_door.h"
#include "brood/signal/action.h"
#include "brood/signal/mask.h"
#include "brood/signal/signal_set.h"
#include "brood/signal/wakeup_fd.h"

namespace brood {

class WorkerDoors {
 public:
  virtual ~WorkerDoors() = default;

  // From here on clients wake the worker.
  virtual absl::Status Open() = 0;
  // Blocks until somebody may be at one of the listeners, and says at which;
  // none if there is something else to look at, or `timeout` is over.
  virtual absl::InlinedVector<size_t, 8> Wait(absl::Duration timeout) = 0;
  // Whether it was, and whether nobody new can come any more. For OwnDoors the
  // caller has to know what the bell means.
  virtual bool called_off() const = 0;
  virtual bool closing() const = 0;
  // A client was accepted at this listener: another may be there.
  virtual void Accepted(size_t listener) = 0;
  // Blocks for so long, or until there is something else to look at. Clients
  // are for others meanwhile.
  virtual absl::Status Pause(absl::Duration time) = 0;
  // For as long as it serves, if that is to keep clients from waking it.
  virtual void StepAside() = 0;
  virtual absl::Status StepBack() = 0;
  // To be said before the worker closes this listener.
  virtual void Unwatch(size_t listener) = 0;
  // Nothing of all this is left.
  virtual void Leave() = 0;
};

class OwnDoors : public WorkerDoors {
 public:
  OwnDoors(const std::vector<Listener>& listeners, const WakeupFd& bell)
      : listeners_(listeners), bell_(bell) {}

  absl::Status Open() override;
  absl::InlinedVector<size_t, 8> Wait(absl::Duration timeout) override;
  bool called_off() const override { return false; }
  bool closing() const override { return false; }
  void Accepted(size_t /*listener*/) override {}
  absl::Status Pause(absl::Duration time) override;
  void StepAside() override;
  absl::Status StepBack() override;
  void Unwatch(size_t listener) override;
  void Leave() override { (void)epoll_.Close(); }

 private:
  const std::vector<Listener>& listeners_;
  const WakeupFd& bell_;
  UniqueFd epoll_;
};

class SharedDoors : public WorkerDoors {
 public:
  explicit SharedDoors(CommonDoor door) : door_(std::move(door)) {}

  absl::Status Open() override;
  absl::InlinedVector<size_t, 8> Wait(absl::Duration timeout) override;
  bool called_off() const override;
  bool closing() const override { return closing_; }
  void Accepted(size_t listener) override { door_.LookAgain(listener); }
  absl::Status Pause(absl::Duration time) override;
  void StepAside() override {}
  absl::Status StepBack() override { return absl::OkStatus(); }
  void Unwatch(size_t /*listener*/) override {}
  void Leave() override;

 private:
  CommonDoor door_;
  bool closing_ = false;
  std::optional<SignalMask> mask_;
  std::optional<SignalAction> action_;
};

}  // namespace brood

#endif  // BROOD_SERVER_WORKER_DOORS_H_
