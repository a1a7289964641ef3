"""brood's rules: cc_library, cc_binary and cc_test as this project uses them, and nothing more.

Only what every target has in common belongs here. Compiler flags do not: they would follow a library into a consumer's
build, so they live in .bazelrc.
"""

load("@rules_cc//cc:defs.bzl", "cc_binary", "cc_library", "cc_test")

def brood_library(name, visibility = ["//visibility:private"], **kwargs):
    """A library, private unless it says otherwise. Its headers are included as "brood/<package>/<header>"."""
    cc_library(
        name = name,
        strip_include_prefix = "/",  # from the root of the repository, not of the package
        include_prefix = "brood",
        visibility = visibility,
        **kwargs
    )

def brood_binary(name, visibility = ["//visibility:private"], **kwargs):
    """A program, private unless it says otherwise."""
    cc_binary(
        name = name,
        visibility = visibility,
        **kwargs
    )

def brood_test(name, deps = [], size = "small", **kwargs):
    """A GoogleTest program: size small unless it says otherwise, main() and GoogleTest included."""
    cc_test(
        name = name,
        size = size,
        deps = deps + [
            "//tests:test_main",
            "@googletest//:gtest",
        ],
        **kwargs
    )

def brood_fuzz_test(name, srcs, deps = [], **kwargs):
    """One fuzz target, LLVMFuzzerTestOneInput in `srcs`, as two targets. `name` ends in "_fuzz"; "x_fuzz" has its corpus
    in corpus/x/, one input a file.

    <name>_test is an ordinary test with any compiler: it runs every file of the corpus, and mutations of them from a
    fixed seed. <name> is the libFuzzer program, which only --config=fuzz can build.
    """
    corpus = "corpus/" + name.removesuffix("_fuzz")
    brood_test(
        name = name + "_test",
        srcs = srcs,
        data = native.glob([corpus + "/*"]),
        env = {"CORPUS": native.package_name() + "/" + corpus},
        deps = deps + ["//tests:fuzz_driver"],
        **kwargs
    )
    cc_binary(
        name = name,
        testonly = True,
        srcs = srcs,
        linkopts = ["-fsanitize=fuzzer"],
        target_compatible_with = select({
            "//tools:fuzz": [],
            "//conditions:default": ["@platforms//:incompatible"],
        }),
        deps = deps,
    )

def brood_benchmark(name, deps = [], **kwargs):
    """A Google Benchmark program, main() included: bazel run //package:x_benchmark."""
    cc_binary(
        name = name,
        testonly = True,
        deps = deps + ["@google_benchmark//:benchmark_main"],
        **kwargs
    )
