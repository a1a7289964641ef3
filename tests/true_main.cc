// SPDX-License-Identifier: Apache-2.0
// The least that a program can do: what it costs to start one.
int main() { return 0; }
