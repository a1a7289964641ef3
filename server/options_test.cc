// SPDX-License-Identifier: Apache-2.0
#include "brood/server/options.h"

#include <algorithm>
#include <cstddef>
#include <fstream>
#include <functional>
#include <iostream>
#include <iterator>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "absl/algorithm/container.h"
#include "absl/status/status.h"
#include "absl/status/status_matchers.h"
#include "absl/status/statusor.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "brood/net/address.h"
#include "brood/server/admission.h"
#include "brood/server/connection_log.h"
#include "brood/server/rules.h"
#include "brood/server/services.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::absl_testing::IsOk;
using ::absl_testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;

using Args = std::vector<std::string_view>;
using Model = ServerOptions::Model;

int PrintPlaces(absl::Span<const std::string_view> args) {
  absl::StatusOr<ServerOptions> options = ParseOptions(args);
  if (!options.ok()) {
    std::cerr << options.status().message() << "\n";
    return 2;
  }
  for (const ServerOptions::Place& place : options->listen.places) {
    std::cout << place.address << "\n";
  }
  return 0;
}

// The names of the flags in --help.
std::set<std::string> FlagsOfHelp() {
  std::set<std::string> names;
  const std::string usage = Usage();
  for (std::string_view line : absl::StrSplit(usage, '\n')) {
    if (!absl::ConsumePrefix(&line, "  --")) continue;
    absl::ConsumePrefix(&line, "[no]");
    names.emplace(line.substr(0, line.find('=')));
  }
  return names;
}

// What is said of `args`, which must be wrong.
std::string Refusal(const Args& args) {
  const absl::Status status = ParseOptions(args).status();
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kInvalidArgument))
      << absl::StrJoin(args, " ");
  EXPECT_TRUE(absl::c_all_of(status.message(), [](char c) {
    return c >= ' ' && c <= '~';
  })) << status;
  return std::string(status.message());
}

struct Refused {
  Args args;
  std::string message;
};

void ExpectRefused(absl::Span<const Refused> cases) {
  for (const Refused& refused : cases) {
    EXPECT_EQ(Refusal(refused.args), refused.message);
  }
}

TEST(OptionsTest, HeaderExample) {
  testing::internal::CaptureStdout();
  EXPECT_EQ(PrintPlaces({"--listen=[::1]:80,unix:/run/x"}), 0);
  EXPECT_EQ(testing::internal::GetCapturedStdout(), "[::1]:80\nunix:/run/x\n");
  testing::internal::CaptureStderr();
  EXPECT_EQ(PrintPlaces({"--listen"}), 2);
  EXPECT_EQ(testing::internal::GetCapturedStderr(),
            "--listen needs a value: --listen=ADDRESS,...\n");
}

TEST(OptionsTest, HasADefaultForEverything) {
  const absl::StatusOr<ServerOptions> options = ParseOptions({});
  ASSERT_THAT(options, IsOk());
  ASSERT_EQ(options->listen.places.size(), 1);
  EXPECT_EQ(options->listen.places[0].address.ToString(), "127.0.0.1:7007");
  EXPECT_EQ(options->listen.places[0].options.backlog, 4096);
  EXPECT_FALSE(options->listen.given);
  EXPECT_EQ(options->model, Model::kFork);
  EXPECT_EQ(options->workers.fixed, std::nullopt);
  EXPECT_EQ(options->workers.min_spare, 5);
  EXPECT_EQ(options->workers.max_spare, 10);
  EXPECT_EQ(options->workers.max, 256);
  EXPECT_EQ(options->workers.connections_per_worker, 0);
  EXPECT_EQ(options->handler.service, "echo");
  EXPECT_THAT(options->handler.program, IsEmpty());
  EXPECT_EQ(options->handler.client_gone_grace, absl::Seconds(10));
  EXPECT_FALSE(options->handler.new_privileges);
  EXPECT_EQ(options->admit.limits, ConnectionLimits());
  EXPECT_EQ(options->admit.at_limit, AtLimit::kQueue);
  EXPECT_EQ(options->admit.max_waiting, 1024);
  EXPECT_EQ(options->admit.source_lengths.ipv4(), 32);
  EXPECT_EQ(options->admit.source_lengths.ipv6(), 64);
  EXPECT_EQ(options->patience.idle, std::nullopt);
  EXPECT_EQ(options->patience.handler, std::nullopt);
  EXPECT_EQ(options->patience.min_rate, std::nullopt);
  EXPECT_THAT(options->access.rules.rules(), IsEmpty());
  EXPECT_EQ(options->access.rules_file, std::nullopt);
  EXPECT_EQ(options->access.explain, std::nullopt);
  EXPECT_FALSE(options->proxy.headers.has_value());
  EXPECT_EQ(options->proxy.timeout, absl::Seconds(3));
  EXPECT_EQ(options->privileges.user, std::nullopt);
  EXPECT_EQ(options->control.address, std::nullopt);
  EXPECT_EQ(options->log_format, LogFormat::kText);
  EXPECT_EQ(options->ready_fd, std::nullopt);
  EXPECT_EQ(options->drain_timeout, absl::Seconds(30));
  EXPECT_FALSE(options->help);
}

// One flag, what else it needs, and what comes of it.
struct Accepted {
  std::string_view flag;
  Args others;
  std::function<bool(const ServerOptions&)> is_so;
};

std::vector<Accepted> TypicalValues() {
  return {
      {"--listen=[::1]:80",
       {},
       [](const ServerOptions& o) {
         return o.listen.given && o.listen.places.size() == 1 &&
                o.listen.places[0].address.ToString() == "[::1]:80";
       }},
      {"--backlog=16",
       {},
       [](const ServerOptions& o) {
         return o.listen.places[0].options.backlog == 16;
       }},
      {"--reuse_port=true",
       {},
       [](const ServerOptions& o) {
         return o.listen.places[0].options.reuse_port;
       }},
      {"--defer_accept=5s",
       {},
       [](const ServerOptions& o) {
         return o.listen.places[0].options.defer_accept == absl::Seconds(5);
       }},
      {"--no_delay=true",
       {},
       [](const ServerOptions& o) {
         return o.listen.places[0].options.socket.no_delay;
       }},
      {"--keep_alive=1m,10s,5",
       {},
       [](const ServerOptions& o) {
         const auto& keep_alive = o.listen.places[0].options.socket.keep_alive;
         return keep_alive.has_value() &&
                keep_alive->idle == absl::Seconds(60) &&
                keep_alive->interval == absl::Seconds(10) &&
                keep_alive->count == 5;
       }},
      {"--user_timeout=20s",
       {},
       [](const ServerOptions& o) {
         return o.listen.places[0].options.socket.user_timeout ==
                absl::Seconds(20);
       }},
      {"--unix_mode=0660",
       {"--listen=unix:/run/x"},
       [](const ServerOptions& o) {
         return o.listen.places[0].options.access.mode == 0660;
       }},
      {"--unix_owner=www-data",
       {"--listen=unix:/run/x"},
       [](const ServerOptions& o) {
         return o.listen.unix_owner == "www-data";
       }},
      {"--unix_group=33",
       {"--listen=unix:/run/x"},
       [](const ServerOptions& o) { return o.listen.unix_group == "33"; }},
      {"--model=iterative",
       {},
       [](const ServerOptions& o) { return o.model == Model::kIterative; }},
      {"--workers=8",
       {"--model=prefork"},
       [](const ServerOptions& o) {
         return o.model == Model::kPrefork && o.workers.fixed == 8;
       }},
      {"--min_spare_workers=7",
       {"--model=prefork"},
       [](const ServerOptions& o) { return o.workers.min_spare == 7; }},
      {"--max_spare_workers=20",
       {"--model=prefork"},
       [](const ServerOptions& o) { return o.workers.max_spare == 20; }},
      {"--max_workers=50",
       {"--model=prefork"},
       [](const ServerOptions& o) { return o.workers.max == 50; }},
      {"--connections_per_worker=1000",
       {"--model=prefork"},
       [](const ServerOptions& o) {
         return o.workers.connections_per_worker == 1000;
       }},
      {"--service=daytime",
       {},
       [](const ServerOptions& o) { return o.handler.service == "daytime"; }},
      {"--stderr_to_socket=true",
       {"--", "cat"},
       [](const ServerOptions& o) { return o.handler.stderr_to_socket; }},
      {"--keep_env=LANG,TZ",
       {"--", "cat"},
       [](const ServerOptions& o) { return o.handler.keep_env == "LANG,TZ"; }},
      {"--client_gone_grace=2s",
       {"--", "cat"},
       [](const ServerOptions& o) {
         return o.handler.client_gone_grace == absl::Seconds(2);
       }},
      {"--rlimit=NOFILE=64:128,CPU=10",
       {},
       [](const ServerOptions& o) {
         return o.handler.limits.ToString() == "NOFILE=64:128,CPU=10";
       }},
      {"--max_connections=100",
       {},
       [](const ServerOptions& o) {
         return o.admit.limits.max_connections == 100;
       }},
      {"--max_connections_per_source=10",
       {},
       [](const ServerOptions& o) {
         return o.admit.limits.max_connections_per_source == 10;
       }},
      {"--connection_rate_per_source=5/s,10",
       {},
       [](const ServerOptions& o) {
         return o.admit.limits.rate_per_source ==
                ConnectionRate{
                    .connections = 5, .period = absl::Seconds(1), .burst = 10};
       }},
      {"--source_prefix=24,48",
       {"--max_connections_per_source=9"},
       [](const ServerOptions& o) {
         return o.admit.source_lengths.ipv4() == 24 &&
                o.admit.source_lengths.ipv6() == 48;
       }},
      {"--at_limit=reset",
       {"--deny=192.0.2.9"},
       [](const ServerOptions& o) {
         return o.admit.at_limit == AtLimit::kReset;
       }},
      {"--at_limit_message=Full. Come again.",
       {"--at_limit=refuse", "--max_connections=9"},
       [](const ServerOptions& o) {
         return o.admit.at_limit == AtLimit::kRefuse &&
                o.admit.message == "Full. Come again.";
       }},
      {"--flood_threshold=0",
       {},
       [](const ServerOptions& o) { return o.admit.flood_threshold == 0; }},
      {"--max_waiting=64",
       {"--at_limit=queue", "--max_connections=9"},
       [](const ServerOptions& o) {
         return o.admit.at_limit == AtLimit::kQueue &&
                o.admit.max_waiting == 64;
       }},
      {"--idle_timeout=30s",
       {},
       [](const ServerOptions& o) {
         return o.patience.idle == absl::Seconds(30);
       }},
      {"--handler_timeout=1h30m",
       {},
       [](const ServerOptions& o) {
         return o.patience.handler == absl::Minutes(90);
       }},
      {"--min_rate=1000/10s",
       {},
       [](const ServerOptions& o) {
         return o.patience.min_rate ==
                ServerOptions::Patience::Rate{.bytes = 1000,
                                              .period = absl::Seconds(10)};
       }},
      {"--allow=192.0.2.0/24,unix",
       {},
       [](const ServerOptions& o) {
         const Rules& rules = o.access.rules;
         return rules.Lookup(*Address::Parse("192.0.2.9:1")).allowed &&
                !rules.Lookup(*Address::Parse("192.0.3.9:1")).allowed;
       }},
      {"--deny=192.0.2.9",
       {"--allow=192.0.2.0/24"},
       [](const ServerOptions& o) {
         const Rules& rules = o.access.rules;
         return !rules.Lookup(*Address::Parse("192.0.2.9:1")).allowed &&
                rules.Lookup(*Address::Parse("192.0.2.8:1")).allowed;
       }},
      {"--rules=/etc/office.rules",
       {},
       [](const ServerOptions& o) {
         return o.access.rules_file == "/etc/office.rules";
       }},
      {"--explain=2001:db8::7",
       {},
       [](const ServerOptions& o) {
         return o.access.explain == "2001:db8::7";
       }},
      {"--control=unix:/run/x.control",
       {},
       [](const ServerOptions& o) {
         return o.control.address == *Address::UnixPath("/run/x.control") &&
                !o.control.ask.has_value();
       }},
      {"--ask=explain 2001:db8::7",
       {"--control=unix:@x"},
       [](const ServerOptions& o) {
         return o.control.ask == "explain 2001:db8::7";
       }},
      {"--proxy_protocol=v1",
       {"--trusted_proxies=10.0.0.0/8"},
       [](const ServerOptions& o) {
         return o.proxy.headers.has_value() && o.proxy.headers->v1 &&
                !o.proxy.headers->v2;
       }},
      {"--trusted_proxies=10.0.0.0/8,::1",
       {"--proxy_protocol=auto"},
       [](const ServerOptions& o) {
         return o.proxy.headers->v1 && o.proxy.headers->v2 &&
                o.proxy.trusted.ToString() == "10.0.0.0/8,::1";
       }},
      {"--proxy_timeout=500ms",
       {"--proxy_protocol=v2", "--trusted_proxies=10.0.0.1"},
       [](const ServerOptions& o) {
         return !o.proxy.headers->v1 && o.proxy.headers->v2 &&
                o.proxy.timeout == absl::Milliseconds(500);
       }},
      {"--user=nobody",
       {},
       [](const ServerOptions& o) { return o.privileges.user == "nobody"; }},
      {"--group=65534",
       {"--user=nobody"},
       [](const ServerOptions& o) { return o.privileges.group == "65534"; }},
      {"--chroot=/srv",
       {"--user=nobody"},
       [](const ServerOptions& o) { return o.privileges.chroot == "/srv"; }},
      {"--new_privileges=true",
       {"--", "cat"},
       [](const ServerOptions& o) { return o.handler.new_privileges; }},
      {"--log_format=json",
       {},
       [](const ServerOptions& o) { return o.log_format == LogFormat::kJson; }},
      {"--ready_fd=3",
       {},
       [](const ServerOptions& o) { return o.ready_fd == 3; }},
      {"--drain_timeout=1m30s",
       {},
       [](const ServerOptions& o) {
         return o.drain_timeout == absl::Seconds(90);
       }},
      {"--help=true", {}, [](const ServerOptions& o) { return o.help; }},
  };
}

std::string_view NameIn(std::string_view flag) {
  flag.remove_prefix(2);
  return flag.substr(0, flag.find('='));
}

std::string_view ValueIn(std::string_view flag) {
  return flag.substr(flag.find('=') + 1);
}

TEST(OptionsTest, TakesATypicalValueOfEachFlagOfTheHelp) {
  std::set<std::string> tried;
  for (const Accepted& c : TypicalValues()) {
    SCOPED_TRACE(c.flag);
    Args args = {c.flag};
    args.insert(args.end(), c.others.begin(), c.others.end());
    const absl::StatusOr<ServerOptions> options = ParseOptions(args);
    ASSERT_THAT(options, IsOk());
    EXPECT_TRUE(c.is_so(*options));
    const absl::StatusOr<ServerOptions> without = ParseOptions(c.others);
    EXPECT_FALSE(without.ok() && c.is_so(*without)) << "is so anyway";
    tried.emplace(NameIn(c.flag));
  }
  EXPECT_EQ(tried, FlagsOfHelp());
}

TEST(OptionsTest, TakesAValueAsAnArgumentOfItsOwn) {
  for (const Accepted& c : TypicalValues()) {
    SCOPED_TRACE(c.flag);
    const std::string name = absl::StrCat("--", NameIn(c.flag));
    if (ValueIn(c.flag) == "true") {
      EXPECT_THAT(Refusal({name, "true"}), StartsWith("argument \"true\": "));
      continue;
    }
    Args args = {name, ValueIn(c.flag)};
    args.insert(args.end(), c.others.begin(), c.others.end());
    const absl::StatusOr<ServerOptions> options = ParseOptions(args);
    ASSERT_THAT(options, IsOk());
    EXPECT_TRUE(c.is_so(*options));
  }
}

TEST(OptionsTest, TakesTheFlagsInAnyOrder) {
  for (const Accepted& c : TypicalValues()) {
    if (c.others.empty() || c.others[0] == "--") continue;
    SCOPED_TRACE(c.flag);
    Args args = c.others;
    args.push_back(c.flag);
    const absl::StatusOr<ServerOptions> options = ParseOptions(args);
    ASSERT_THAT(options, IsOk());
    EXPECT_TRUE(c.is_so(*options));
  }
  Args args = {"--deny=192.0.2.9", "--allow=all", "--max_connections=10",
               "--listen=:1"};
  absl::c_sort(args);
  do {
    const absl::StatusOr<ServerOptions> options = ParseOptions(args);
    ASSERT_THAT(options, IsOk());
    EXPECT_FALSE(
        options->access.rules.Lookup(*Address::Parse("192.0.2.9:1")).allowed);
    EXPECT_EQ(options->admit.limits.max_connections, 10);
    EXPECT_EQ(options->listen.places[0].address.port(), 1);
  } while (std::next_permutation(args.begin(), args.end()));
}

TEST(OptionsTest, TakesTrueAndFalseInShort) {
  for (const Args& args : {Args{"--no_delay"}, Args{"--no_delay=true"}}) {
    const absl::StatusOr<ServerOptions> options = ParseOptions(args);
    ASSERT_THAT(options, IsOk());
    EXPECT_TRUE(options->listen.places[0].options.socket.no_delay);
  }
  for (const Args& args :
       {Args{"--nono_delay"}, Args{"--no_delay=false"}, Args{}}) {
    const absl::StatusOr<ServerOptions> options = ParseOptions(args);
    ASSERT_THAT(options, IsOk());
    EXPECT_FALSE(options->listen.places[0].options.socket.no_delay);
  }
  // What is not so needs nothing else to be.
  EXPECT_THAT(ParseOptions({"--nostderr_to_socket"}), IsOk());
  const absl::StatusOr<ServerOptions> h = ParseOptions({"-h"});
  ASSERT_THAT(h, IsOk());
  EXPECT_TRUE(h->help);
  ExpectRefused({
      {{"--no_delay=1"}, "--no_delay=\"1\": allowed is true or false"},
      {{"--nono_delay=true"},
       "--nono_delay=\"true\": allowed is --nono_delay, or --no_delay=true or "
       "false"},
      {{"--nobacklog"},
       "unknown flag \"--nobacklog\": did you mean "
       "--backlog? --help lists all"},
  });
}

TEST(OptionsTest, AddsUpWhatIsGivenMoreThanOnce) {
  const absl::StatusOr<ServerOptions> options =
      ParseOptions({"--listen=:1,:2", "--listen=unix:/a\\x2cb,unix:@c",
                    "--listen=127.0.0.1:0,127.0.0.1:0", "--allow=10.0.0.0/8",
                    "--allow=192.0.2.1", "--deny=10.0.0.1", "--deny=unix"});
  ASSERT_THAT(options, IsOk());
  std::vector<std::string> places;
  for (const ServerOptions::Place& place : options->listen.places) {
    places.push_back(place.address.ToString());
  }
  EXPECT_THAT(places, ElementsAre(":1", ":2", "unix:/a,b", "unix:@c",
                                  "127.0.0.1:0", "127.0.0.1:0"));
  EXPECT_EQ(options->access.rules.rules().size(), 4);
}

TEST(OptionsTest, GivesEachPlaceTheOptionsOfItsFamily) {
  const absl::StatusOr<ServerOptions> options =
      ParseOptions({"--listen=:1,unix:/run/x,unix:@y", "--no_delay",
                    "--defer_accept=1s", "--reuse_port", "--keep_alive=1m",
                    "--user_timeout=1s", "--unix_mode=600", "--backlog=7"});
  ASSERT_THAT(options, IsOk());
  ASSERT_EQ(options->listen.places.size(), 3);
  for (const ServerOptions::Place& place : options->listen.places) {
    SCOPED_TRACE(place.address);
    const bool tcp = place.address.port().has_value();
    EXPECT_EQ(place.options.backlog, 7);
    EXPECT_EQ(place.options.socket.no_delay, tcp);
    EXPECT_EQ(place.options.reuse_port, tcp);
    EXPECT_EQ(place.options.socket.keep_alive.has_value(), tcp);
    EXPECT_EQ(place.options.socket.user_timeout.has_value(), tcp);
    EXPECT_EQ(place.options.defer_accept > absl::ZeroDuration(), tcp);
    EXPECT_EQ(place.options.access.mode.has_value(),
              place.address.unix_path().has_value());
  }
}

TEST(OptionsTest, LetsTheSparesThatAreNotGivenMakeRoom) {
  const auto workers = [](const Args& args) {
    Args all = {"--model=prefork"};
    all.insert(all.end(), args.begin(), args.end());
    const ServerOptions::Workers w = ParseOptions(all)->workers;
    return std::vector<size_t>{w.min_spare, w.max_spare, w.max};
  };
  EXPECT_THAT(workers({}), ElementsAre(5, 10, 256));
  EXPECT_THAT(workers({"--max_workers=4"}), ElementsAre(4, 4, 4));
  EXPECT_THAT(workers({"--max_workers=7"}), ElementsAre(5, 7, 7));
  EXPECT_THAT(workers({"--min_spare_workers=300"}), ElementsAre(300, 300, 300));
  EXPECT_THAT(workers({"--max_spare_workers=2"}), ElementsAre(2, 2, 256));
  EXPECT_THAT(workers({"--min_spare_workers=3", "--max_workers=3"}),
              ElementsAre(3, 3, 3));
}

TEST(OptionsTest, TakesTheEndsOfEachRangeAndNothingBeyond) {
  struct Range {
    std::string_view name;
    Args needs;
    std::vector<std::string> inside;
    std::vector<std::string> outside;
    std::string allowed;
  };
  const std::string longest(512, 'x');
  const std::vector<Range> ranges = {
      {"backlog",
       {},
       {"1", "65535"},
       {"0", "65536", "-1", "+5", " 5", "1e3", "0x10", "99999999999999999999"},
       "a number from 1 to 65535"},
      {"defer_accept",
       {},
       {"1s", "1h"},
       {"0s", "1h1s", "1500ms", "5"},
       "whole seconds from 1s to 1h"},
      {"keep_alive",
       {},
       {"1s", "32767s", "1s,1s,1", "32767s,32767s,127"},
       {"0s", "32768s", "1s,1s", "1s,1s,0", "1s,1s,128", "1s,0s,1", "1s,1s,1,1",
        "1500ms", ",,"},
       "whole seconds from 1s to 32767s, and again, and a number from 1 to "
       "127, as in 60s or 60s,10s,5"},
      {"user_timeout",
       {},
       {"1ms", "576h"},
       {"999us", "576h1ns", "0"},
       "a duration from 1ms to 576h"},
      {"unix_mode",
       {"--listen=unix:/x"},
       {"0", "0777", "660"},
       {"1000", "8", "0o7", "-1", "rw", " 7"},
       "octal, from 0 to 0777"},
      {"unix_owner",
       {"--listen=unix:/x"},
       {"a", "0"},
       {"a\n"},
       "a name or a number, without control characters"},
      {"unix_group",
       {"--listen=unix:/x"},
       {"a", "0"},
       {"a\t"},
       "a name or a number, without control characters"},
      {"model",
       {},
       {"fork", "iterative", "prefork"},
       {"Fork", "threads"},
       "fork, iterative or prefork"},
      {"workers",
       {"--model=prefork"},
       {"1", "32768"},
       {"0", "32769"},
       "a number from 1 to 32768"},
      {"min_spare_workers",
       {"--model=prefork"},
       {"1", "32768"},
       {"0", "32769"},
       "a number from 1 to 32768"},
      {"max_spare_workers",
       {"--model=prefork"},
       {"1", "32768"},
       {"0", "32769"},
       "a number from 1 to 32768"},
      {"max_workers",
       {"--model=prefork"},
       {"1", "32768"},
       {"0", "32769"},
       "a number from 1 to 32768"},
      {"connections_per_worker",
       {"--model=prefork"},
       {"0", "1000000000"},
       {"1000000001", "-1"},
       "a number from 0, for never, to 1000000000"},
      {"service",
       {},
       {kServiceNames.begin(), kServiceNames.end()},
       {"Echo", "qotd"},
       "echo, discard, chargen, daytime or time"},
      {"client_gone_grace",
       {"--", "cat"},
       {"0s", "24h"},
       {"-1ns", "24h1ns", "inf"},
       "a duration from 0s to 24h"},
      {"rlimit",
       {},
       {"CPU=1", "nofile=1:unlimited"},
       {"CPU=1\n"},
       "limits such as CPU=10,NOFILE=64:128,AS=unlimited"},
      {"max_connections",
       {},
       {"1", "1000000"},
       {"0", "1000001"},
       "a number from 1 to 1000000"},
      {"max_connections_per_source",
       {},
       {"1", "1000000"},
       {"0", "1000001"},
       "a number from 1 to 1000000"},
      {"connection_rate_per_source",
       {},
       {"1/h", "1000000/s,1000000"},
       {},
       "N/s, N/m or N/h, and a burst or none, as in 5/s,10; each number from "
       "1 to 1000000"},
      {"source_prefix",
       {"--max_connections=9"},
       {"0,0", "32,128"},
       {"33,64", "32,129", "32", "32,64,1", "-1,64"},
       "a number from 0 to 32 and one from 0 to 128"},
      {"at_limit",
       {"--max_connections=9"},
       {"queue", "refuse", "reset"},
       {"drop"},
       "queue, refuse or reset"},
      {"at_limit_message",
       {"--at_limit=refuse", "--max_connections=9"},
       {"x", longest, "\xed\x92\x80"},
       {"two\nlines", longest + "x"},
       "one line of at most 512 bytes, without control characters"},
      {"flood_threshold",
       {},
       {"0", "1000000"},
       {"-1", "1000001", "many"},
       "a number from 0, for never, to 1000000"},
      {"max_waiting",
       {"--max_connections=9"},
       {"1", "1000000"},
       {"0", "1000001"},
       "a number from 1 to 1000000"},
      {"idle_timeout",
       {},
       {"1ms", "720h"},
       {"0s", "999us", "720h1ns", "30"},
       "a duration from 1ms to 720h"},
      {"handler_timeout",
       {},
       {"1ms", "720h"},
       {"0s", "720h1ns", "1 h"},
       "a duration from 1ms to 720h"},
      {"min_rate",
       {},
       {"1/s", "1/1s", "1000000000000/h", "5/1m30s"},
       {"0/s", "1000000000001/s", "1/0s", "1/1h1s", "1/1500ms", "1/ms", "1",
        "1/", "/s", "1/s/s", "1/-1s"},
       "a number from 1 to 1000000000000, a slash, and whole seconds from 1s "
       "to 1h, as in 100/s or 1000/10s"},
      {"allow",
       {},
       {"all", "unix", "10.0.0.0/8, ::1"},
       {"10.0.0.1\n"},
       "ranges such as 10.0.0.0/8 or 2001:db8::/32, with commas between, and "
       "the words all and unix"},
      {"deny",
       {},
       {"all", "unix"},
       {"10.0.0.1\n"},
       "ranges such as 10.0.0.0/8 or 2001:db8::/32, with commas between, and "
       "the words all and unix"},
      {"rules",
       {},
       {"x", "/x y"},
       {"x\n"},
       "a path without control characters"},
      {"explain",
       {},
       {"192.0.2.1", "::1", "unix", "unix:/x"},
       {},
       "an address such as 203.0.113.7 or 2001:db8::7, or unix"},
      {"proxy_protocol",
       {"--trusted_proxies=::1"},
       {"v1", "v2", "auto"},
       {"v3", "on"},
       "off, v1, v2 or auto"},
      {"trusted_proxies",
       {"--proxy_protocol=v2"},
       {"0.0.0.0/0", "::/0"},
       {},
       "ranges such as 10.0.0.0/8 or 2001:db8::/32, with commas "
       "between"},
      {"proxy_timeout",
       {"--proxy_protocol=v2", "--trusted_proxies=::1"},
       {"1ms", "1h"},
       {"0s", "1h1ns"},
       "a duration from 1ms to 1h"},
      {"user",
       {},
       {"a", "65534"},
       {std::string("root\0", 5)},
       "a name or a number, without control characters"},
      {"group",
       {"--user=a"},
       {"a", "65534"},
       {"a\x7f"},
       "a name or a number, without control characters"},
      {"chroot",
       {"--user=a"},
       {"/", "/srv/x y"},
       {"srv", "/s\n", "~"},
       "a path that begins with /, without control characters"},
      {"log_format",
       {},
       {"text", "json", "none"},
       {"JSON"},
       "text, json or none"},
      {"control",
       {},
       {"unix:/run/x", "unix:@x"},
       {"127.0.0.1:80", "unix:(unnamed)"},
       "unix:/path or unix:@abstract"},
      {"ask",
       {"--control=unix:@x"},
       {"state", std::string(255, 'x')},
       {"state\n", std::string(256, 'x')},
       "1 to 255 bytes, without control characters"},
      {"ready_fd",
       {},
       {"1", "1048575"},
       {"0", "1048576", "stdout"},
       "a number from 1 to 1048575"},
      {"drain_timeout",
       {},
       {"0s", "24h"},
       {"-1ns", "24h1ns", "30", "inf", "soon"},
       "a duration from 0s to 24h"},
  };
  for (const Range& range : ranges) {
    for (const std::string& value : range.inside) {
      const std::string flag = absl::StrCat("--", range.name, "=", value);
      Args args = range.needs;
      args.insert(args.begin(), flag);
      EXPECT_THAT(ParseOptions(args), IsOk()) << flag;
    }
    const std::string empty = absl::StrCat("--", range.name, "=");
    EXPECT_EQ(Refusal({empty}),
              absl::StrCat(empty, "\"\": allowed is ", range.allowed));
    for (const std::string& value : range.outside) {
      const std::string flag = absl::StrCat("--", range.name, "=", value);
      Args args = range.needs;
      args.insert(args.begin(), flag);
      EXPECT_EQ(Refusal(args),
                absl::StrCat("--", range.name, "=\"",
                             absl::CHexEscape(value.substr(0, 64)),
                             value.size() > 64 ? "..." : "", "\": allowed is ",
                             range.allowed));
    }
  }
}

TEST(OptionsTest, SaysWhatOthersSayOfTheirTexts) {
  ExpectRefused({
      {{"--listen=localhost:80"},
       "--listen: address \"localhost:80\": expected an IPv4 address, an IPv6 "
       "address in brackets, \":\" and a port, or \"unix:\" (names of hosts "
       "are not looked up) at character 1"},
      {{"--listen=:1,"},
       "--listen: address \"\": expected an IPv4 address, an IPv6 address in "
       "brackets, \":\" and a port, or \"unix:\" (names of hosts are not "
       "looked up) at character 1, where it ends"},
      {{"--listen=:65536"},
       "--listen: address \":65536\": expected a port from 0 to 65535 at "
       "character 2"},
      {{"--listen=unix:(unnamed)"},
       "--listen=\"unix:(unnamed)\": allowed is addresses such as "
       "127.0.0.1:7007, [::1]:7007, :7007 (every address of this machine), "
       "unix:/path or unix:@abstract, with commas between"},
      {{"--keep_env=1X", "--", "cat"},
       "--keep_env: \"1X\": allowed are names of letters, digits and _, no "
       "digit first, with commas between them"},
      {{"--keep_env=PROTO", "--", "cat"},
       "--keep_env: \"PROTO\": allowed are names that the server does not set"},
      {{"--rlimit=SPEED=1"},
       "--rlimit: \"SPEED\" is no resource; there are AS, CORE, CPU, DATA, "
       "FSIZE, LOCKS, MEMLOCK, MSGQUEUE, NICE, NOFILE, NPROC, RSS, RTPRIO, "
       "RTTIME, SIGPENDING, STACK"},
      {{"--rlimit=CPU=1,RLIMIT_CPU=2"},
       "--rlimit: \"CPU=1,RLIMIT_CPU=2\" names a resource twice: allowed is "
       "once"},
      {{"--rlimit=CPU=2:1"},
       "--rlimit: CPU=2:1: the soft limit is above the hard"},
      {{"--connection_rate_per_source=5"},
       "--connection_rate_per_source: connection rate \"5\": expected N/s, N/m "
       "or N/h, and a burst or none, as in 5/s,10; each number from 1 to "
       "1000000"},
      {{"--allow=10.0.0.0/33"},
       "--allow: address range \"10.0.0.0/33\": expected a prefix length from "
       "0 to 32 at character 10"},
      {{"--deny=everybody"},
       "--deny: address range \"everybody\": expected an IPv4 address, as in "
       "10.0.0.0/8, or an IPv6 address, as in 2001:db8::/32, at character 1; "
       "or the word \"all\" or \"unix\""},
      {{"--explain=10.0.0.0/8"},
       "--explain: client \"10.0.0.0/8\": expected an address, as 203.0.113.7, "
       "2001:db8::7 or unix"},
      {{"--proxy_protocol=v2", "--trusted_proxies=unix"},
       "--trusted_proxies: address range \"unix\": expected an IPv4 address, "
       "as in 10.0.0.0/8, or an IPv6 address, as in 2001:db8::/32, at "
       "character 1"},
  });
}

TEST(OptionsTest, RefusesWhatContradictsItself) {
  std::vector<Refused> cases = {
      {{"--service=time", "--", "cat", "-u"},
       "--service and the program \"cat\" do not go together: allowed is one "
       "of them"},
      {{"--stderr_to_socket"},
       "--stderr_to_socket needs a program: --service has nothing to do with "
       "it"},
      {{"--service=echo", "--keep_env=TZ"},
       "--keep_env needs a program: --service has nothing to do with it"},
      {{"--workers=4"}, "--workers needs --model=prefork, and it is fork"},
      {{"--min_spare_workers=4", "--model=iterative"},
       "--min_spare_workers needs --model=prefork, and it is iterative"},
      {{"--max_spare_workers=4", "--model=fork"},
       "--max_spare_workers needs --model=prefork, and it is fork"},
      {{"--max_workers=4"},
       "--max_workers needs --model=prefork, and it is fork"},
      {{"--connections_per_worker=0"},
       "--connections_per_worker needs --model=prefork, and it is fork"},
      {{"--max_connections=1", "--model=iterative"},
       "--max_connections and --model=iterative do not go together: that is "
       "one"},
      {{"--max_waiting=9", "--model=iterative"},
       "--max_waiting and --model=iterative do not go together: the others "
       "wait "
       "in the kernel's queue, which has room for --backlog"},
      {{"--workers=3", "--max_connections=2", "--model=prefork"},
       "--workers=3 and --max_connections=2 do not go together: the first must "
       "not be above the second"},
      {{"--max_spare_workers=3", "--max_connections=2", "--model=prefork"},
       "--max_spare_workers=3 and --max_connections=2 do not go together: the "
       "first must not be above the second"},
      {{"--max_waiting=1", "--model=prefork"},
       "--max_waiting and --model=prefork do not go together: who waits for a "
       "worker is in the kernel's queue"},
      {{"--min_spare_workers=3", "--max_spare_workers=2", "--model=prefork"},
       "--min_spare_workers=3 and --max_spare_workers=2 do not go together: "
       "the first must not be above the second"},
      {{"--max_spare_workers=3", "--max_workers=2", "--model=prefork"},
       "--max_spare_workers=3 and --max_workers=2 do not go together: the "
       "first must not be above the second"},
      {{"--min_spare_workers=3", "--max_workers=2", "--model=prefork"},
       "--min_spare_workers=3 and --max_workers=2 do not go together: the "
       "first must not be above the second"},
      {{"--allow=::1", "--deny=192.0.2.1, all"},
       "--allow and --deny=all do not go together: nobody could come; whom no "
       "--allow names may not anyway"},
      {{"--at_limit_message=full"},
       "--at_limit_message needs --at_limit=refuse, and it is queue"},
      {{"--at_limit_message=full", "--at_limit=reset"},
       "--at_limit_message needs --at_limit=refuse, and it is reset"},
      {{"--max_waiting=3", "--at_limit=refuse"},
       "--max_waiting needs --at_limit=queue, and it is refuse"},
      {{"--rules=x", "--allow=all"},
       "--allow and --rules do not go together: write it into the file"},
      {{"--rules=x", "--deny=all"},
       "--deny and --rules do not go together: write it into the file"},
      {{"--trusted_proxies=::1"},
       "--trusted_proxies needs --proxy_protocol=v1, v2 or auto, and it is "
       "off"},
      {{"--proxy_timeout=1s", "--proxy_protocol=off"},
       "--proxy_timeout needs --proxy_protocol=v1, v2 or auto, and it is off"},
      {{"--proxy_protocol=v2"},
       "--proxy_protocol needs --trusted_proxies: else anybody could claim to "
       "be anybody"},
      {{"--listen=unix:/x", "--proxy_protocol=v2", "--trusted_proxies=::1"},
       "--proxy_protocol needs an address of TCP in --listen"},
      {{"--group=x"}, "--group needs --user: root would stay who it is"},
      {{"--chroot=/x"}, "--chroot needs --user: root could leave it"},
      {{"--listen=:1,:2", "--listen=:1"},
       "--listen: :1 is given twice: allowed is once"},
      {{"--listen=:1,unix:/x", "--control=unix:/x"},
       "--listen and --control are both at unix:/x: clients come by one door, "
       "and who asks by another"},
      {{"--ask=state"},
       "--ask needs --control: where is the server to be asked?"},
      {{"--control=unix:/x", "--explain=::1"},
       "--explain and --control do not go together: a server that runs is "
       "asked by --ask=\"explain ADDRESS\""},
      {{"--control=unix:/x", "--ask=state", "--", "cat"},
       "program \"cat\" and --ask do not go together: the server that is asked "
       "has its own"},
  };
  for (const std::string_view flag :
       {"--min_spare_workers=4", "--max_spare_workers=4", "--max_workers=4"}) {
    cases.push_back(
        {{"--model=prefork", "--workers=4", flag},
         absl::StrCat("--", NameIn(flag),
                      " and --workers do not go together: so many workers, or "
                      "as many as clients need")});
  }
  for (const Args& flags : std::vector<Args>{
           {"--max_connections_per_source=1"},
           {"--max_connections_per_source=1", "--at_limit=queue"}}) {
    Args args = {"--model=prefork"};
    args.insert(args.end(), flags.begin(), flags.end());
    cases.push_back(
        {args,
         "--max_connections_per_source needs --at_limit=refuse or reset with "
         "--model=prefork: its workers let clients in from the kernel's queue, "
         "where nobody can wait for others of his source"});
  }
  for (const std::string_view flag :
       {"--reuse_port", "--defer_accept=1s", "--no_delay", "--keep_alive=1s",
        "--user_timeout=1s", "--idle_timeout=1s", "--min_rate=1/s"}) {
    cases.push_back({{"--listen=unix:/x,unix:@y", flag},
                     absl::StrCat("--", NameIn(flag),
                                  " needs an address of TCP in --listen")});
  }
  for (const std::string_view flag :
       {"--unix_mode=600", "--unix_owner=x", "--unix_group=x"}) {
    cases.push_back(
        {{"--listen=:1,unix:@y", flag},
         absl::StrCat("--", NameIn(flag), " needs a unix:/path in --listen")});
  }
  for (const std::string_view flag :
       {"--listen=:1", "--max_workers=4", "--explain=::1", "--no_delay",
        "--log_format=none"}) {
    cases.push_back(
        {{"--control=unix:/x", "--ask=state", flag},
         absl::StrCat("--", NameIn(flag),
                      " and --ask do not go together: the server that is asked "
                      "has its own")});
  }
  ExpectRefused(cases);
  // Whatever comes first.
  for (Refused& refused : cases) {
    if (absl::c_linear_search(refused.args, "--")) continue;
    absl::c_reverse(refused.args);
  }
  ExpectRefused(cases);
  // Whoever asks for help is to have it.
  for (Refused& refused : cases) {
    refused.args.insert(refused.args.begin(), "--help");
    EXPECT_THAT(ParseOptions(refused.args), IsOk());
  }
}

TEST(OptionsTest, LeavesToPreforkWhatItCanDo) {
  EXPECT_THAT(
      ParseOptions({"--model=prefork", "--workers=4",
                    "--connections_per_worker=1", "--allow=all",
                    "--handler_timeout=1m", "--idle_timeout=1m",
                    "--min_rate=1/s", "--client_gone_grace=1s",
                    "--max_connections_per_source=1", "--source_prefix=24,48",
                    "--at_limit=refuse", "--at_limit_message=full",
                    "--rlimit=CPU=1", "--explain=unix", "--", "cat"}),
      IsOk());
}

TEST(OptionsTest, LetsPreforkHaveNoMoreWorkersThanConnections) {
  struct Row {
    std::vector<std::string_view> flags;
    size_t min_spare;
    size_t max_spare;
    size_t max;
  };
  const std::vector<Row> rows = {
      {{"--max_connections=1000"}, 5, 10, 1000},
      {{"--max_connections=1000000"}, 5, 10, 32768},
      {{"--max_connections=7"}, 5, 7, 7},
      {{"--max_connections=1"}, 1, 1, 1},
      {{"--max_connections=50", "--max_workers=40"}, 5, 10, 40},
      {{"--max_connections=40", "--max_workers=50"}, 5, 10, 40},
      {{"--max_connections=9", "--at_limit=queue"}, 5, 9, 9},
  };
  for (Row row : rows) {
    row.flags.push_back("--model=prefork");
    const absl::StatusOr<ServerOptions> options = ParseOptions(row.flags);
    ASSERT_THAT(options, IsOk()) << row.flags[0];
    EXPECT_EQ(options->workers.min_spare, row.min_spare) << row.flags[0];
    EXPECT_EQ(options->workers.max_spare, row.max_spare) << row.flags[0];
    EXPECT_EQ(options->workers.max, row.max) << row.flags[0];
  }
  const absl::StatusOr<ServerOptions> fixed =
      ParseOptions({"--model=prefork", "--workers=2", "--max_connections=9"});
  ASSERT_THAT(fixed, IsOk());
  EXPECT_EQ(fixed->workers.fixed, 2);
}

TEST(OptionsTest, TakesOnceWhatDoesNotAddUp) {
  ExpectRefused({
      {{"--model=iterative", "--model=fork"},
       "--model is given twice, as \"iterative\" and as \"fork\": allowed is "
       "once"},
      {{"--backlog=1", "--backlog=1"},
       "--backlog is given twice, as \"1\" and as \"1\": allowed is once"},
      {{"--no_delay", "--nono_delay"},
       "--no_delay is given twice, as \"true\" and as \"false\": allowed is "
       "once"},
  });
}

TEST(OptionsTest, LeavesToTheProgramWhatComesAfterADoubleDash) {
  const absl::StatusOr<ServerOptions> options = ParseOptions(
      {"--backlog=1", "--", "-prog", "--help", "--", "", "\n", "--backlog=2"});
  ASSERT_THAT(options, IsOk());
  EXPECT_THAT(options->handler.program,
              ElementsAre("-prog", "--help", "--", "", "\n", "--backlog=2"));
  EXPECT_FALSE(options->help);
  ExpectRefused({
      {{"--"}, "--: allowed is a program after it, by its name or its path"},
      {{"--", ""},
       "-- \"\": allowed is a program after it, by its name or its path"},
      {{"--", "cat", std::string_view("a\0b", 3)},
       "program's argument \"a\\x00\\x62\": allowed is any text without a "
       "NUL"},
      {{"cat"},
       "argument \"cat\": a flag begins with --, as in --listen=:7007, and a "
       "program comes after a lone --"},
      {{""},
       "argument \"\": a flag begins with --, as in --listen=:7007, and a "
       "program comes after a lone --"},
      {{"-x"},
       "argument \"-x\": a flag begins with --, as in --listen=:7007, and a "
       "program comes after a lone --"},
  });
}

TEST(OptionsTest, TakesNoFlagForAValueThatWasForgotten) {
  ExpectRefused({
      {{"--user"}, "--user needs a value: --user=USER"},
      {{"--user", "--group=x"}, "--user needs a value: --user=USER"},
      {{"--user", "--", "cat"}, "--user needs a value: --user=USER"},
      {{"--drain_timeout", "-1s"},
       "--drain_timeout=\"-1s\": allowed is a duration from 0s to 24h"},
  });
  const absl::StatusOr<ServerOptions> options = ParseOptions({"--user=--x"});
  ASSERT_THAT(options, IsOk());
  EXPECT_EQ(options->privileges.user, "--x");
}

TEST(OptionsTest, KnowsWhichFlagWasMeant) {
  ExpectRefused({
      {{"--max_conections=5"},
       "unknown flag \"--max_conections\": did you mean --max_connections? "
       "--help lists all"},
      {{"--max-connections-per-source=5"},
       "unknown flag \"--max-connections-per-source\": did you mean "
       "--max_connections_per_source? --help lists all"},
      {{"--ueser"},
       "unknown flag \"--ueser\": did you mean --user? --help lists all"},
      {{"--Help"},
       "unknown flag \"--Help\": did you mean --help? --help lists all"},
      {{"--speed=11"}, "unknown flag \"--speed\": --help lists all"},
      {{"--=x"}, "unknown flag \"--\": --help lists all"},
      {{"---"}, "unknown flag \"---\": --help lists all"},
  });
  EXPECT_THAT(Refusal({absl::StrCat("--", std::string(100'000, 'u'))}),
              Not(HasSubstr("did you mean")));
}

TEST(OptionsTest, QuotesWhatNobodyCouldRead) {
  for (const std::string& garbage :
       {std::string("\0", 1), std::string("a\nb"), std::string("\x1b[2J"),
        std::string("\xff\xfe"), std::string("\xed\x92\x80"),
        std::string("\"'\\")}) {
    // Refusal() holds that it is printable ASCII.
    EXPECT_THAT(Refusal({garbage}), HasSubstr(absl::CHexEscape(garbage)));
    EXPECT_THAT(Refusal({absl::StrCat("--", garbage)}),
                HasSubstr(absl::CHexEscape(garbage)));
    for (const std::string& name : FlagsOfHelp()) {
      const std::string flag = absl::StrCat("--", name, "=", garbage);
      const absl::Status status = ParseOptions({flag}).status();
      if (!status.ok()) Refusal({flag});
    }
  }
  EXPECT_EQ(Refusal({"--model=a\nb"}),
            "--model=\"a\\nb\": allowed is fork, iterative or prefork");
}

TEST(OptionsTest, ExplainsEveryFlagInEightyColumns) {
  const std::string usage = Usage();
  for (const std::string_view line : absl::StrSplit(usage, '\n')) {
    EXPECT_LE(line.size(), 80) << line;
    EXPECT_FALSE(absl::EndsWith(line, " ")) << line;
  }
  for (const char* word : {"SIGTERM", "SIGINT", "SIGQUIT", "SIGTTIN", "SIGTTOU",
                           "SIGUSR1", "SIGHUP", "exit code: 0 ", "examples:"}) {
    EXPECT_THAT(usage, HasSubstr(word));
  }
  // What is allowed stands there in the words of the errors.
  const std::string words = absl::StrJoin(
      absl::StrSplit(usage, absl::ByAnyChar(" \n"), absl::SkipEmpty()), " ");
  for (const std::string& name : FlagsOfHelp()) {
    const std::string message = Refusal({absl::StrCat("--", name, "=")});
    const std::string begin = absl::StrCat("--", name, "=\"\": allowed is ");
    ASSERT_THAT(message, StartsWith(begin));
    EXPECT_THAT(
        words, HasSubstr(absl::StrCat("allowed: ", message.substr(begin.size()),
                                      "; default: ")));
  }
}

TEST(OptionsTest, GivesExamplesThatItTakes) {
  const std::string usage = Usage();
  int examples = 0;
  for (std::string_view line : absl::StrSplit(
           std::string_view(usage).substr(usage.find("examples:")), '\n')) {
    if (!absl::ConsumePrefix(&line, "  server ")) continue;
    const Args args = absl::StrSplit(line, ' ');
    EXPECT_THAT(ParseOptions(args), IsOk()) << line;
    ++examples;
  }
  EXPECT_EQ(examples, 3);
}

TEST(OptionsTest, KnowsTheFlagsOfTheReadme) {
  const std::set<std::string> flags = FlagsOfHelp();
  for (const char* page : {"README.md", "README.ko.md"}) {
    std::ifstream file(page);
    ASSERT_TRUE(file.is_open()) << page;
    const std::string text{std::istreambuf_iterator<char>(file),
                           std::istreambuf_iterator<char>()};
    int rows = 0;
    for (std::string_view line : absl::StrSplit(text, '\n')) {
      if (!absl::ConsumePrefix(&line, "| `--")) continue;
      const std::string name(line.substr(0, line.find_first_of("=`")));
      EXPECT_TRUE(flags.contains(name)) << page << " has --" << name;
      ++rows;
    }
    EXPECT_GT(rows, 0) << page;
  }
}

}  // namespace
}  // namespace brood
