// SPDX-License-Identifier: Apache-2.0
#include "brood/server/json_string.h"

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "gtest/gtest.h"

namespace brood {
namespace {

std::string Named(std::string_view name) {
  std::string json = "{\"name\":";
  AppendJsonString(name, json);
  return json + "}";
}

TEST(JsonStringTest, HeaderExample) {
  EXPECT_EQ(Named("echo \"1\""), R"({"name":"echo \"1\""})");
}

TEST(JsonStringTest, IsOneLineOfUtf8WhateverBytesCome) {
  const std::vector<std::pair<std::string_view, std::string_view>> cases = {
      {"", R"({"name":""})"},
      {"a\\b", R"({"name":"a\\b"})"},
      {"a\nb\x1b\x7f", R"({"name":"a\u000ab\u001b\u007f"})"},
      {std::string_view("\0", 1), R"({"name":"\u0000"})"},
      {"\xed\x95\x9c", "{\"name\":\"\xed\x95\x9c\"}"},
      // Cut in the middle, as the kernel cuts a process's name.
      {"\xed\x95", R"({"name":"\ufffd\ufffd"})"},
      {"\xc0\xaf", R"({"name":"\ufffd\ufffd"})"},
      {"\xc2\x85", R"({"name":"\u0085"})"},
  };
  for (const auto& [name, json] : cases) EXPECT_EQ(Named(name), json);
}

}  // namespace
}  // namespace brood
