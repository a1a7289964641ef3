// SPDX-License-Identifier: Apache-2.0
#include "brood/server/assembly.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "absl/memory/memory.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "brood/net/activation.h"
#include "brood/net/address.h"
#include "brood/net/listener.h"
#include "brood/proc/accounts.h"
#include "brood/proc/families.h"
#include "brood/proc/limits.h"
#include "brood/proc/posix.h"
#include "brood/proc/privileges.h"
#include "brood/proc/unique_fd.h"
#include "brood/server/acceptor.h"
#include "brood/server/admission.h"
#include "brood/server/connection_log.h"
#include "brood/server/control.h"
#include "brood/server/exec_handler.h"
#include "brood/server/explain.h"
#include "brood/server/fork_per_connection.h"
#include "brood/server/iterative.h"
#include "brood/server/notify.h"
#include "brood/server/options.h"
#include "brood/server/patience.h"
#include "brood/server/poll_loop.h"
#include "brood/server/prefork.h"
#include "brood/server/process_model.h"
#include "brood/server/rules.h"
#include "brood/server/rules_file.h"
#include "brood/server/services.h"
#include "brood/server/spare_pool.h"
#include "brood/server/supervisor.h"
#include "brood/server/worker_policy.h"

namespace brood {
namespace {

// What a person can do about a place that cannot be listened at.
std::string_view Advice(const absl::Status& status,
                        const ServerOptions::Place& place) {
  const bool path = place.address.unix_path().has_value();
  const auto& access = place.options.access;
  switch (ErrnoOf(status)) {
    case EADDRINUSE:
      return path ? "; stop who answers there, or choose a path that is free"
                  : "; stop who has it, or choose another (0 takes a free one)";
    case EPERM:
      if (access.owner.has_value() || access.group.has_value()) {
        return "; only root may give it to another: start it as root, or "
               "without --unix_owner and --unix_group";
      }
      [[fallthrough]];
    case EACCES:
      return path ? "; choose a path in a folder that may be written"
                  : "; choose a port from 1024 up";
    case ENOENT:
    case ENOTDIR:
      return "; choose a path in a folder that exists";
    case EADDRNOTAVAIL:
      return "; choose an address of this machine";
    default:
      return "";
  }
}

// The same error, after the words that say what it is about.
absl::Status About(std::string_view what, const absl::Status& status,
                   std::string_view advice = "") {
  return absl::Status(status.code(),
                      absl::StrCat(what, ": ", status.message(), advice));
}

// Why nobody listens on a socket that was handed over, and what can be done.
absl::Status OfNoUse(const ActivatedSocket& socket) {
  int type = 0;
  socklen_t length = sizeof(type);
  (void)getsockopt(socket.fd.get(), SOL_SOCKET, SO_TYPE, &type, &length);
  return absl::FailedPreconditionError(absl::StrCat(
      "LISTEN_FDS, descriptor ", socket.fd.get(), " (\"", socket.name, "\"): ",
      type == SOCK_STREAM ? "a stream socket that does not listen"
                          : "no stream socket",
      "; allowed is one that listens, as of ListenStream= with Accept=no, or "
      "--listen"));
}

// The highest of all numbers means "unchanged" to the kernel.
absl::Status CheckId(uint32_t id) {
  constexpr auto kUnchanged = static_cast<uint32_t>(-1);
  if (id != kUnchanged) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      id, " is nobody's number: allowed is one from 0 to ", kUnchanged - 1));
}

// A number is the id itself, even of a user that nobody knows; then the group
// has the same number.
absl::StatusOr<Credentials> UserOf(const std::string& text) {
  uid_t uid = 0;
  if (!absl::SimpleAtoi(text, &uid)) return LookUpUser(text);
  if (absl::Status s = CheckId(uid); !s.ok()) return s;
  const absl::StatusOr<std::string> name = NameOfUser(uid);
  if (name.ok()) return LookUpUser(*name);
  if (!absl::IsNotFound(name.status())) return name.status();
  return Credentials{.uid = uid, .gid = static_cast<gid_t>(uid)};
}

absl::StatusOr<uid_t> OwnerOf(const std::string& text) {
  uid_t uid = 0;
  if (absl::SimpleAtoi(text, &uid)) {
    if (absl::Status s = CheckId(uid); !s.ok()) return s;
    return uid;
  }
  const absl::StatusOr<Credentials> user = LookUpUser(text);
  if (!user.ok()) return user.status();
  return user->uid;
}

absl::StatusOr<gid_t> GroupOf(const std::string& text) {
  gid_t gid = 0;
  if (!absl::SimpleAtoi(text, &gid)) return LookUpGroup(text);
  if (absl::Status s = CheckId(gid); !s.ok()) return s;
  return gid;
}

Patience ToPatience(const ServerOptions& options) {
  Patience patience = {
      .handler_timeout =
          options.patience.handler.value_or(absl::InfiniteDuration()),
      .idle_timeout = options.patience.idle.value_or(absl::InfiniteDuration()),
      .client_gone_grace = options.handler.client_gone_grace};
  if (options.patience.min_rate.has_value()) {
    patience.min_rate =
        Patience::MinRate{.bytes = options.patience.min_rate->bytes,
                          .period = options.patience.min_rate->period};
  }
  return patience;
}

// Whether a handler could be given these limits, for it would have to end if
// not. A hard limit that may be raised is raised, and put back, which one may
// always.
absl::Status CheckLimits(const Limits& limits) {
  for (const Limit& wanted : limits.entries()) {
    const absl::StatusOr<Limit> now = CurrentLimit(wanted.resource);
    if (!now.ok()) return now.status();
    if (wanted.hard <= now->hard) continue;
    Limits raised;
    Limits old;
    for (absl::Status s : {raised.Set({.resource = wanted.resource,
                          .soft = now->soft,
                          .hard = wanted.hard}),
                           old.Set(*now)}) {
      if (!s.ok()) return s;
    }
    const absl::Status status = raised.Apply();
    if (ErrnoOf(status) == EPERM) {
      return About(absl::StrCat("--rlimit=", wanted.ToString()), status,
                   absl::StrCat("; without root's rights the hard limit may be "
                                "at most that of the server, ",
                                now->ToString()));
    }
    if (!status.ok()) return status;
    if (absl::Status s = old.Apply(); !s.ok()) return s;
  }
  return absl::OkStatus();
}

// Nobody else starts processes here. PID 1 has Orphans for it.
Families::Reaps Reaped() {
  return getpid() == 1 ? Families::Reaps::kNobody : Families::Reaps::kAll;
}

ForkPerConnection::Options ToModel(const ServerOptions& options,
                                   const Rules& rules) {
  ForkPerConnection::Options model = {
      .gate = {.limits = options.admit.limits,
               .source_lengths = options.admit.source_lengths,
               .at_limit = options.admit.at_limit,
               .max_waiting = options.admit.max_waiting,
               .message = options.admit.message,
               .rules = rules,
               .flood_threshold = options.admit.flood_threshold},
      .limits = options.handler.limits,
      .spares_from = SparePool::kCrowd,
      .patience = ToPatience(options),
      .reaps = Reaped()};
  // Programs are told how many connections their client's source has. Else, to
  // count what no limit asks for would cost every fork a page.
  ConnectionLimits& limits = model.gate.limits;
  limits.count_sources = !options.handler.program.empty();
  if (limits.max_connections == ConnectionLimits::kNone &&
      limits.max_connections_per_source == ConnectionLimits::kNone) {
    model.gate.max_waiting = 0;
  }
  if (options.proxy.headers.has_value()) {
    model.gate.trusted_proxies = options.proxy.trusted;
    model.gate.proxy_header = *options.proxy.headers;
    model.gate.proxy_timeout = options.proxy.timeout;
  }
  return model;
}

WorkerPolicy::Options ToPolicy(const ServerOptions::Workers& workers) {
  // With one client each it is spares that are wanted, however many serve.
  if (workers.connections_per_worker == 1) {
    const size_t spares = workers.fixed.value_or(workers.min_spare);
    return WorkerPolicy::Options::ForkAhead(spares,
                                            std::max(spares, workers.max));
  }
  WorkerPolicy::Options policy =
      workers.fixed.has_value()
          ? WorkerPolicy::Options::Static(*workers.fixed)
          : WorkerPolicy::Options::Dynamic(workers.min_spare, workers.max_spare,
                                           workers.max);
  policy.connections_per_worker = workers.connections_per_worker;
  return policy;
}

Prefork::Options ToPrefork(const ServerOptions& options, const Rules& rules) {
  Prefork::Options model = {
      .workers = ToPolicy(options.workers),
      .terms = {.rules = rules,
                .limits = options.handler.limits,
                .sources = options.admit.limits,
                .source_lengths = options.admit.source_lengths,
                .at_limit = options.admit.at_limit,
                .message = options.admit.message,
                .flood_threshold = options.admit.flood_threshold},
      .patience = ToPatience(options),
      .reaps = Reaped()};
  model.terms.sources.count_sources = !options.handler.program.empty();
  // So that servers that begin together do not recycle together.
  model.workers.seed =
      static_cast<uint64_t>(absl::ToInt64Nanoseconds(MonotonicNow()));
  if (options.proxy.headers.has_value()) {
    model.terms.trusted_proxies = options.proxy.trusted;
    model.terms.proxy_header = *options.proxy.headers;
    model.terms.proxy_timeout = options.proxy.timeout;
  }
  return model;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Assembly>> Assembly::Create(
    ServerOptions options) {
  auto assembly = absl::WrapUnique(new Assembly(std::move(options)));
  for (const auto step : {&Assembly::ReadEnvironment, &Assembly::OpenListeners,
                          &Assembly::OpenControl, &Assembly::ReadRules,
                          &Assembly::GiveUpPrivileges, &Assembly::MakeHandler,
                          &Assembly::MakeModel}) {
    if (absl::Status s = (*assembly.*step)(); !s.ok()) return s;
  }
  return assembly;
}

absl::Status Assembly::ReadEnvironment() {
  // While what is open was open before: a number that nobody gave us could
  // become one of ours. TellReady closes its own; of the first three it has a
  // copy.
  if (options_.ready_fd.has_value()) {
    const int fd = *options_.ready_fd;
    const int flags = fcntl(fd, F_GETFL);
    if (flags == -1) {
      return ErrnoStatus(errno, absl::StrCat("--ready_fd=", fd));
    }
    if ((flags & O_ACCMODE) == O_RDONLY) {
      return absl::InvalidArgumentError(
          absl::StrCat("--ready_fd=", fd,
                       ": is open for reading only; choose one that can be "
                       "written to"));
    }
    ready_ = UniqueFd(fd > STDERR_FILENO
                          ? fd
                          : fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1));
    (void)fcntl(ready_.get(), F_SETFD, FD_CLOEXEC);
  }
  const NotifyVariables variables = NotifyVariables::FromEnvironment();
  absl::StatusOr<Notifier> notifier = Notifier::Create(variables);
  if (absl::IsInvalidArgument(notifier.status())) return notifier.status();
  // Whoever was to be told has gone: no reason not to serve.
  if (!notifier.ok()) {
    notices_.push_back({.name = "nobody_to_notify",
                        .sentence = std::string(notifier.status().message())});
    notifier = Notifier::Create({});
  }
  if (!notifier.ok()) return notifier.status();
  notifier_ = *std::move(notifier);
  absl::StatusOr<std::optional<absl::Duration>> watchdog =
      WatchdogInterval(variables, getpid());
  if (!watchdog.ok()) return watchdog.status();
  watchdog_ = *watchdog;
  UnsetNotifyVariables();
  return absl::OkStatus();
}

absl::Status Assembly::OpenListeners() {
  absl::StatusOr<std::vector<ActivatedSocket>> activated =
      AdoptActivatedSockets(ActivationVariables::FromEnvironment());
  if (!activated.ok()) return activated.status();
  UnsetActivationVariables();
  size_t unused = options_.listen.given ? activated->size() : 0;
  if (!options_.listen.given) {
    // Where nobody asked for it nobody shall be listened to: not on the port
    // that is the default either.
    const auto listens = [](const ActivatedSocket& s) { return s.listening; };
    if (!activated->empty() && std::ranges::none_of(*activated, listens)) {
      return OfNoUse(activated->front());
    }
    for (ActivatedSocket& socket : *activated) {
      if (!socket.listening) {
        ++unused;
        continue;
      }
      absl::StatusOr<Listener> listener = Listener::Adopt(std::move(socket.fd));
      if (!listener.ok()) {
        return About(absl::StrCat("LISTEN_FDS, socket \"", socket.name, "\""),
                     listener.status());
      }
      listeners_.push_back(*std::move(listener));
    }
  }
  if (unused > 0) {
    notices_.push_back(
        {.name = "sockets_unused",
         .sentence = absl::StrCat(
             unused, " of ", activated->size(), " sockets of LISTEN_FDS ",
             options_.listen.given ? "closed: --listen says where to listen"
                                   : "closed: nobody listens on them"),
         .fields = {{"unused", uint64_t{unused}}}});
  }
  if (!listeners_.empty()) return absl::OkStatus();
  for (ServerOptions::Place& place : options_.listen.places) {
    auto& access = place.options.access;
    if (place.address.unix_path().has_value()) {
      if (options_.listen.unix_owner.has_value()) {
        const absl::StatusOr<uid_t> owner =
            OwnerOf(*options_.listen.unix_owner);
        if (!owner.ok()) {
          return About(
              absl::StrCat("--unix_owner=", *options_.listen.unix_owner),
              owner.status());
        }
        access.owner = *owner;
      }
      if (options_.listen.unix_group.has_value()) {
        const absl::StatusOr<gid_t> group =
            GroupOf(*options_.listen.unix_group);
        if (!group.ok()) {
          return About(
              absl::StrCat("--unix_group=", *options_.listen.unix_group),
              group.status());
        }
        access.group = *group;
      }
    }
    absl::StatusOr<Listener> listener =
        Listener::Open(place.address, place.options);
    if (!listener.ok()) {
      return About(absl::StrCat("--listen=", place.address.ToString()),
                   listener.status(), Advice(listener.status(), place));
    }
    listeners_.push_back(*std::move(listener));
  }
  return absl::OkStatus();
}

absl::Status Assembly::OpenControl() {
  if (!options_.control.address.has_value()) return absl::OkStatus();
  const Address& address = *options_.control.address;
  absl::StatusOr<std::unique_ptr<Control>> control = Control::Open(address);
  if (!control.ok()) {
    return About(absl::StrCat("--control=", address.ToString()),
                 control.status(),
                 Advice(control.status(), {.address = address}));
  }
  control_ = *std::move(control);
  return absl::OkStatus();
}

absl::Status Assembly::ReadRules() {
  rules_ = options_.access.rules;
  if (!options_.access.rules_file.has_value()) return absl::OkStatus();
  const std::string flag =
      absl::StrCat("--rules=", *options_.access.rules_file);
  absl::StatusOr<RulesFile> file = RulesFile::Open(*options_.access.rules_file);
  if (!file.ok()) return About(flag, file.status());
  absl::StatusOr<Rules> rules = file->Load();
  if (!rules.ok()) return About(flag, rules.status());
  rules_file_ = *std::move(file);
  rules_ = *std::move(rules);
  return absl::OkStatus();
}

absl::Status Assembly::GiveUpPrivileges() {
  PrivilegeDrop drop = {.chroot = options_.privileges.chroot,
                        .no_new_privileges = !options_.handler.new_privileges};
  if (options_.privileges.user.has_value()) {
    const std::string& user = *options_.privileges.user;
    absl::StatusOr<Credentials> credentials = UserOf(user);
    if (!credentials.ok()) {
      return About(absl::StrCat("--user=", user), credentials.status());
    }
    if (options_.privileges.group.has_value()) {
      const std::string& name = *options_.privileges.group;
      const absl::StatusOr<gid_t> group = GroupOf(name);
      if (!group.ok()) {
        return About(absl::StrCat("--group=", name), group.status());
      }
      credentials->gid = *group;
    }
    drop.run_as = *std::move(credentials);
  }
  if (geteuid() == 0 && !drop.run_as.has_value()) {
    notices_.push_back(
        {.name = "privileged",
         .sentence = "running as root, handlers too: --user=NAME gives it up"});
  }
  if (!drop.run_as.has_value() && !drop.no_new_privileges) {
    return absl::OkStatus();
  }
  if (drop.chroot.has_value()) {
    const UniqueFd directory(
        open(drop.chroot->c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (!directory.valid()) {
      return ErrnoStatus(errno, absl::StrCat("--chroot=", *drop.chroot));
    }
  }
  if (absl::Status s = DropPrivileges(drop); !s.ok()) {
    if (!drop.run_as.has_value()) return s;
    return About(
        absl::StrCat("--user=", *options_.privileges.user), s,
        ErrnoOf(s) == EPERM ? "; start it as root, or without --user" : "");
  }
  NoteWhatIsOutOfReach();
  return absl::OkStatus();
}

// For whoever the server is from now on, and in the root that it has now.
void Assembly::NoteWhatIsOutOfReach() {
  if (rules_file_.has_value() &&
      access(rules_file_->path().c_str(), R_OK) == -1) {
    notices_.push_back({.name = "rules_out_of_reach",
                        .sentence = absl::StrCat(
                            ErrnoStatus(errno, rules_file_->path()).message(),
                            ": its rules hold, and cannot be read again")});
  }
  std::vector<Address> places;
  places.reserve(options_.listen.places.size() + 1);
  for (const ServerOptions::Place& place : options_.listen.places) {
    places.push_back(place.address);
  }
  if (control_ != nullptr) places.push_back(*options_.control.address);
  for (const Address& place : places) {
    const std::optional<std::string_view> path = place.unix_path();
    if (!path.has_value()) continue;
    const std::string folder = std::filesystem::path(*path).parent_path();
    if (access(folder.empty() ? "." : folder.c_str(), W_OK | X_OK) == 0) {
      continue;
    }
    const std::string name = place.ToString();
    notices_.push_back({.name = "path_stays",
                        .sentence = absl::StrCat(
                            ErrnoStatus(errno, name).message(),
                            ": it cannot be removed when the server ends"),
                        .fields = {{"path", name}}});
  }
}

absl::Status Assembly::MakeHandler() {
  if (absl::Status s = CheckLimits(options_.handler.limits); !s.ok()) return s;
  if (options_.handler.program.empty()) {
    absl::StatusOr<std::unique_ptr<ConnectionHandler>> service =
        MakeService(options_.handler.service);
    if (!service.ok()) return service.status();
    handler_ = *std::move(service);
    return absl::OkStatus();
  }
  absl::StatusOr<std::unique_ptr<ExecHandler>> program = ExecHandler::Create(
      options_.handler.program,
      {.stderr_to_socket = options_.handler.stderr_to_socket,
       .keep_env = options_.handler.keep_env});
  if (!program.ok()) return program.status();
  handler_ = *std::move(program);
  return absl::OkStatus();
}

absl::Status Assembly::MakeModel() {
  absl::StatusOr<std::unique_ptr<ProcessModel>> model;
  switch (options_.model) {
    case ServerOptions::Model::kFork:
      model = ForkPerConnection::Create(Acceptor(std::move(listeners_)),
                                        *handler_, ToModel(options_, rules_));
      break;
    case ServerOptions::Model::kIterative:
      model = MakeIterative(Acceptor(std::move(listeners_)), *handler_,
                            ToModel(options_, rules_));
      break;
    case ServerOptions::Model::kPrefork:
      model = Prefork::Create(std::move(listeners_), *handler_,
                              ToPrefork(options_, rules_));
      break;
  }
  if (!model.ok()) return model.status();
  model_ = *std::move(model);
  return absl::OkStatus();
}

void Assembly::SetRules(Rules rules) {
  rules_ = std::move(rules);
  model_->SetRules(rules_);
}

void Assembly::AddCommands(const SuperviseOptions::Log& log,
                           const SuperviseOptions::State& state) {
  control_->Add({.name = "explain",
                 .argument = "ADDRESS",
                 .help = "which rule and which limits would speak if this "
                         "client came now",
                 .answer = [this, state](std::string_view client) {
                   return Explain(client, state);
                 }});
  control_->Add({.name = "forget",
                 .argument = "ADDRESS",
                 .help = "the rate of this client's source begins anew",
                 .answer = [this, log](std::string_view client) {
                   return Forget(client, log);
                 }});
  control_->Add({.name = "state",
                 .help = "how things stand, in one line",
                 .answer = [state](std::string_view) {
                   return EventLine(state(), LogFormat::kText);
                 }});
  control_->Add({.name = "state json",
                 .help = "the same as JSON",
                 .answer = [state](std::string_view) {
                   LogEvent event = state();
                   event.time = absl::Now();
                   return EventLine(event, LogFormat::kJson);
                 }});
}

absl::StatusOr<std::string> Assembly::Explain(
    std::string_view client, const SuperviseOptions::State& state) {
  const absl::StatusOr<Address> peer = ParseClient(client);
  if (!peer.ok()) return peer.status();
  std::string lines;
  const std::string phase = std::get<std::string>(state().fields.front().value);
  if (phase != "serving") {
    absl::StrAppend(&lines, phase, ": nobody new can connect\n");
  }
  if (options_.proxy.headers.has_value() &&
      options_.proxy.trusted.Contains(*peer)) {
    absl::StrAppend(&lines, client,
                    ": a trusted proxy; who it speaks for counts, and not it "
                    "as here\n");
  }
  const Rules::Match match = rules_.Lookup(*peer);
  absl::StrAppend(&lines, ExplainRule(client, match));
  if (match.allowed) absl::StrAppend(&lines, model_->Explain(*peer));
  return lines;
}

absl::StatusOr<std::string> Assembly::Forget(std::string_view client,
                                             const SuperviseOptions::Log& log) {
  const absl::StatusOr<Address> peer = ParseClient(client);
  if (!peer.ok()) return peer.status();
  absl::StatusOr<std::string> line = model_->Forget(*peer);
  if (line.ok()) {
    log({.name = "forgotten",
         .sentence = absl::StrCat("forgotten as asked: ",
                                  absl::StripTrailingAsciiWhitespace(*line)),
         .fields = {{"client", std::string(client)}}});
  }
  return line;
}

absl::Status Assembly::Prepare(PollLoop& loop, const SuperviseOptions::Log& log,
                               const SuperviseOptions::State& state) {
  if (control_ != nullptr) {
    AddCommands(log, state);
    control_->Start(loop);
  }
  for (const LogEvent& notice : notices_) log(notice);
  if (!rules_file_.has_value()) return absl::OkStatus();
  loop.Watch(rules_file_->fd(), [this, log] {
    absl::StatusOr<std::optional<Rules>> rules = rules_file_->Next();
    if (!rules.ok()) {
      log({.name = "rules_refused",
           .sentence =
               absl::StrCat(rules.status().message(), "; the old rules stay"),
           .fields = {{"why", std::string(rules.status().message())}}});
    } else if (rules->has_value()) {
      const auto count = static_cast<uint64_t>((*rules)->rules().size());
      SetRules(**std::move(rules));
      log({.name = "rules_read",
           .sentence = absl::StrCat(rules_file_->path(), ": ", count,
                                    " rules hold from now on"),
           .fields = {{"rules", count}}});
    }
    return absl::OkStatus();
  });
  return absl::OkStatus();
}

absl::Status Assembly::Run() {
  SuperviseOptions options;
  options.drain_timeout = options_.drain_timeout;
  options.notifier = &*notifier_;
  options.watchdog = watchdog_;
  options.log_format = options_.log_format;
  options.ready_fd = std::move(ready_);
  if (rules_file_.has_value()) {
    options.on_hangup = [this]() -> absl::Status {
      absl::StatusOr<Rules> rules = rules_file_->Load();
      if (!rules.ok()) return rules.status();
      SetRules(*std::move(rules));
      return absl::OkStatus();
    };
  }
  options.prepare = [this](PollLoop& loop, const SuperviseOptions::Log& log,
                           const SuperviseOptions::State& state) {
    return Prepare(loop, log, state);
  };
  return Supervise(*model_, std::move(options));
}

}  // namespace brood
