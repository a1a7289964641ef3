// SPDX-License-Identifier: Apache-2.0
#include "brood/tools/bench/measure_list.h"

#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/str_cat.h"
#include "brood/tools/bench/bench_report.h"

namespace brood {
namespace {

MeasureKind Latency(std::string_view id, std::string_view which) {
  return {id, absl::StrCat("Time of a connection, ", which),
          "Of the same run: from before connect until it is closed.",
          Unit::kSeconds, Better::kLess};
}

MeasureKind BesideIdle(std::string_view id, std::string_view idle) {
  return {id, absl::StrCat("A connection beside ", idle, " idle ones"),
          absl::StrCat(idle,
                       " connections are held and say nothing; one client "
                       "connects again and again; the median time of a "
                       "connection."),
          Unit::kSeconds, Better::kLess};
}

}  // namespace

std::vector<MeasureKind> AllMeasures() {
  return {
      {"connections", "Connections a second",
       "16 clients at once; each connects, has a line of 64 bytes echoed, and "
       "closes.",
       Unit::kPerSecond, Better::kMore},
      Latency("latency_p50", "median"),
      Latency("latency_p99", "99 of 100"),
      Latency("latency_p999", "999 of 1,000"),
      BesideIdle("with_10_idle", "10"),
      BesideIdle("with_1000_idle", "1,000"),
      BesideIdle("with_10000_idle", "10,000"),
      {"idle_memory", "Memory of an idle connection",
       "By how much what the server's processes have for themselves is more "
       "with 1,000 idle connections, for each of them: Pss_Anon and VmPTE of "
       "/proc, and 16 KiB for each thread's stack in the kernel. The kernel's "
       "small objects and sockets are not in it, which are the same for all.",
       Unit::kBytes, Better::kLess},
      {"reap_latency", "From a child's end until it is reaped",
       "One client after the other; the median time from when the bench hears "
       "of a child's end, by its pidfd, until signal 0 finds nobody. The "
       "server may hear of it first: below a microsecond the child had been "
       "reaped before the bench could look.",
       Unit::kSeconds, Better::kLess},
      {"messages_64", "Messages of 64 bytes a second",
       "One client on one connection; the next message follows the answer.",
       Unit::kPerSecond, Better::kMore},
      {"bytes_64k", "Bytes a second in messages of 64 KiB",
       "One client on one connection; the next message follows the answer; "
       "what comes back is counted.",
       Unit::kBytesPerSecond, Better::kMore},
      {"zombies", "Zombies left after the measures",
       "Children that have ended and are not reaped half a second after the "
       "last client.",
       Unit::kCount, Better::kLess},
      {"process_cpu", "Processor time of serving",
       "As in chapter 30 of Stevens' UNIX Network Programming: 5 clients at "
       "once, 2,500 connections in all (500 with --quick), 4,000 bytes on "
       "each, here echoed; what the server and its children used from their "
       "start to their end.",
       Unit::kSeconds, Better::kLess},
      {"process_control", "Processor time of process control",
       "The measure of that chapter: of the same runs, what is left when that "
       "of "
       "floor-iterative in the same round is taken off, which makes no "
       "process.",
       Unit::kSeconds, Better::kLess},
  };
}

}  // namespace brood
