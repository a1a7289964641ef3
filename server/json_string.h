// SPDX-License-Identifier: Apache-2.0
//
// AppendJsonString() writes a text as JSON has it: in quotes, on one line, and
// UTF-8 whatever bytes come.
//
//   std::string Named(std::string_view name) {
//     std::string json = "{\"name\":";
//     AppendJsonString(name, json);
//     return json + "}";
//   }
//
// What it is not: a way back to every text. A byte that is no part of UTF-8
// becomes U+FFFD, as most programs that read would make of it.
//
// Control characters, those of a terminal too, are escaped.
//
// Threads, signals, fork: a function of its arguments. Rests on: RFC 8259.
#ifndef BROOD_SERVER_JSON_STRING_H_
#define BROOD_SERVER_JSON_STRING_H_

#include <string>
#include <string_view>

namespace brood {

void AppendJsonString(std::string_view text, std::string& out);

}  // namespace brood

#endif  // BROOD_SERVER_JSON_STRING_H_
