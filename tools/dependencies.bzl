"""The libraries brood is built from, and the one macro a consumer's WORKSPACE calls."""

load("@bazel_tools//tools/build_defs/repo:http.bzl", "http_archive")

# Repository name -> version, archive and its sha256. {version} stands for the version in both addresses.
# MODULE.bazel names the same versions; //tools:pins_test holds the two equal.
PINS = {
    "abseil-cpp": struct(
        version = "20260526.0",
        url = "https://github.com/abseil/abseil-cpp/releases/download/{version}/abseil-cpp-{version}.tar.gz",
        strip_prefix = "abseil-cpp-{version}",
        sha256 = "6e1aee535473414164bf83e4ebc40240dec71a4701f8a642d906e95bea1aea0c",
    ),
    "googletest": struct(
        version = "1.18.0",
        url = "https://github.com/google/googletest/releases/download/v{version}/googletest-{version}.tar.gz",
        strip_prefix = "googletest-{version}",
        sha256 = "6e3191c1455468b3fc35a417fb565c1c5071aee1b7e7f85e30cf48a98d37d8b5",
    ),
    "google_benchmark": struct(
        version = "1.9.5",
        url = "https://github.com/google/benchmark/archive/refs/tags/v{version}.tar.gz",
        strip_prefix = "benchmark-{version}",
        sha256 = "9631341c82bac4a288bef951f8b26b41f69021794184ece969f8473977eaa340",
    ),
    "rules_cc": struct(
        version = "0.1.5",
        url = "https://github.com/bazelbuild/rules_cc/releases/download/{version}/rules_cc-{version}.tar.gz",
        strip_prefix = "rules_cc-{version}",
        sha256 = "b8b918a85f9144c01f6cfe0f45e4f2838c7413961a8ff23bc0c6cdf8bb07a3b6",
    ),
    "bazel_skylib": struct(
        version = "1.8.2",
        url = "https://github.com/bazelbuild/bazel-skylib/releases/download/{version}/bazel-skylib-{version}.tar.gz",
        strip_prefix = "",
        sha256 = "6e78f0e57de26801f6f564fa7c4a48dc8b36873e416257a92bbb0937eeac8446",
    ),
    "bazel_features": struct(
        version = "1.39.0",
        url = "https://github.com/bazel-contrib/bazel_features/releases/download/v{version}/bazel_features-v{version}.tar.gz",
        strip_prefix = "bazel_features-{version}",
        sha256 = "5ab1a90d09fd74555e0df22809ad589627ddff263cff82535815aa80ca3e3562",
    ),
    "platforms": struct(
        version = "1.0.0",
        url = "https://github.com/bazelbuild/platforms/releases/download/{version}/platforms-{version}.tar.gz",
        strip_prefix = "",
        sha256 = "29742e87275809b5e598dc2f04d86960cc7a55b3067d97221c9abbc9926bff0f",
    ),
}

def brood_dependencies():
    """Declares what brood's targets need, each unless the workspace has declared that name already.

    Nothing is downloaded until a target that is built needs it. Afterwards the workspace calls
    bazel_features_deps(), which can only be loaded once this macro has run:

        load("@brood//tools:dependencies.bzl", "brood_dependencies")
        brood_dependencies()
        load("@bazel_features//:deps.bzl", "bazel_features_deps")
        bazel_features_deps()
    """
    for name, pin in PINS.items():
        if not native.existing_rule(name):
            http_archive(
                name = name,
                sha256 = pin.sha256,
                strip_prefix = pin.strip_prefix.format(version = pin.version),
                url = pin.url.format(version = pin.version),
            )
