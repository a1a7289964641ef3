// SPDX-License-Identifier: Apache-2.0
#include "brood/tools/bench/bench_words.h"

#include <cmath>
#include <cstddef>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "brood/tools/bench/bench_report.h"
#include "brood/tools/bench/samples.h"

namespace brood {
namespace {

// 6814 as "6,814".
std::string WithCommas(double value) {
  std::string digits = absl::StrFormat("%.0f", value);
  for (size_t left = digits.size(); left > 3; left -= 3) {
    digits.insert(left - 3, 1, ',');
  }
  return digits;
}

// What is rounded to three digits may have become four: 9.996 is "10.0".
std::string ThreeDigits(double value) {
  if (value >= 99.95) return WithCommas(value);
  return absl::StrFormat("%.*f", value >= 9.995 ? 1 : 2, value);
}

struct Scale {
  double size;
  std::string_view name;
};

// In the greatest of the units in which it is at least one; else in the least.
std::string Scaled(double value, std::initializer_list<Scale> from_greatest) {
  for (const Scale& scale : from_greatest) {
    // 0.9996 ms is "1.00 ms", for it would be a thousand of the next.
    if (value >= scale.size * 0.9995) {
      return absl::StrCat(ThreeDigits(value / scale.size), " ", scale.name);
    }
  }
  const Scale& least = *(from_greatest.end() - 1);
  return absl::StrCat(ThreeDigits(value / least.size), " ", least.name);
}

}  // namespace

std::string FigureOf(double value, Unit unit) {
  if (!std::isfinite(value)) return "unknown";
  if (value < 0) return absl::StrCat("-", FigureOf(-value, unit));
  switch (unit) {
    case Unit::kPerSecond:
      if (value == 0) return "0/s";
      return absl::StrCat(ThreeDigits(value), "/s");
    case Unit::kSeconds:
      if (value == 0) return "0 s";
      return Scaled(value,
                    {{1, "s"}, {1e-3, "ms"}, {1e-6, "\u00b5s"}, {1e-9, "ns"}});
    case Unit::kBytes:
      if (value < 1023.5) return absl::StrFormat("%.0f B", value);
      return Scaled(value,
                    {{1073741824, "GiB"}, {1048576, "MiB"}, {1024, "KiB"}});
    case Unit::kBytesPerSecond:
      if (value < 999.5) return absl::StrFormat("%.0f B/s", value);
      return Scaled(value, {{1e9, "GB/s"}, {1e6, "MB/s"}, {1e3, "kB/s"}});
    case Unit::kCount:
      // A median may lie between two.
      if (value < 1000 && value != std::floor(value)) {
        return absl::StrFormat("%.1f", value);
      }
      return WithCommas(value);
  }
  return "";
}

std::string LoadOf(const BenchReport::Machine::Load& load) {
  std::string words;
  if (load.average.has_value()) {
    words = absl::StrFormat("load average %.2f", *load.average);
  }
  if (load.pressure.has_value()) {
    absl::StrAppendFormat(&words,
                          "%s%.0f %% of the time somebody waited for a "
                          "processor",
                          words.empty() ? "" : "; ", *load.pressure);
  }
  return words;
}

bool WasBusy(const BenchReport::Machine& machine) {
  return machine.before.average.value_or(0) > 0.5 * machine.processors ||
         machine.before.pressure.value_or(0) > 10;
}

std::string RoundsOf(int rounds) {
  return absl::StrCat(rounds, rounds == 1 ? " round" : " rounds");
}

std::string SpreadOf(const Summary& summary, Unit unit) {
  return absl::StrCat(FigureOf(summary.least, unit), " .. ",
                      FigureOf(summary.greatest, unit));
}

std::string RatioOf(double ratio) {
  // "0.007 of" has too few digits to be seen.
  if (ratio < 0.00995) return absl::StrCat("1/", WithCommas(1 / ratio), " of");
  if (ratio < 0.0995) return absl::StrFormat("%.2g of", ratio);
  if (ratio < 1) return absl::StrFormat("%.2f of", ratio);
  if (ratio < 1.995) return absl::StrFormat("%.2f times", ratio);
  if (ratio < 99.95) return absl::StrFormat("%.1f times", ratio);
  return absl::StrCat(WithCommas(ratio), " times");
}

bool IsNone(const Samples& samples) {
  const std::optional<Summary> summary = Summarise(samples);
  return summary.has_value() && summary->least == 0 && summary->greatest == 0;
}

std::string_view WhyNotToldApart(const Comparison& comparison) {
  return comparison.too_few_rounds ? "too few rounds" : "too close to call";
}

std::string VerdictOf(const Samples& first, const Samples& second,
                      std::string_view name_of_second,
                      const RoundNoise& noise) {
  if (IsNone(first) && IsNone(second)) {
    return absl::StrCat("none, like ", name_of_second);
  }
  const Comparison comparison = Compare(first, second, noise);
  if (comparison.too_close) return std::string(WhyNotToldApart(comparison));
  if (comparison.ratio <= 0) {
    return absl::StrCat("none, ", name_of_second, " has some");
  }
  if (std::isinf(comparison.ratio)) {
    return absl::StrCat("some, ", name_of_second, " has none");
  }
  return absl::StrCat(RatioOf(comparison.ratio), " ", name_of_second);
}

}  // namespace brood
