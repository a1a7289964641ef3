"""The tour's one rule."""

load("//tools:cc.bzl", "brood_test")

def tour_test(name, program, varies = []):
    """Runs a stop of the tour, and holds what it prints equal to what its two pages show.

    Args:
      name: of the test.
      program: the stop's program, named like its folder.
      varies: regular expressions, which may span lines; numbers in what they match are not compared. Pids are compared
        by who is who and need none.
    """
    brood_test(
        name = name,
        data = [
            program,
            "//docs/tour:index",
        ] + native.glob(["*.cc"]) + native.glob(["*.md"]),
        env = {
            "PROGRAM": "$(rootpath {})".format(program),
            "VARIES": "|".join(varies),
        },
        deps = ["//docs/tour:tour_test"],
    )
