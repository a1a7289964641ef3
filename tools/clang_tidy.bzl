"""clang-tidy as a build: bazel build --config=tidy //... looks at every C++ source that ships, and again only
at what has changed. Tests are left out: there are more of them than of the others, GoogleTest makes each as long to look
at, and what is wrong in a test the sanitizers find when it runs.

Needs clang-tidy-16 on the machine, Debian's package of that name. What is looked for stands in .clang-tidy.
"""

load("@rules_cc//cc:defs.bzl", "CcInfo", "cc_common")

_PROGRAM = "clang-tidy-16"

# Findings in other people's headers are theirs. The compiler is told so, for it is the one who tells clang-tidy.
def _include_flags(context):
    flags = []
    for folder in context.quote_includes.to_list():
        flags += ["-isystem" if folder.startswith("external/") or "/external/" in folder else "-iquote", folder]
    for folder in context.includes.to_list():
        flags += ["-isystem" if "external/" in folder else "-I", folder]
    for folder in depset(transitive = [context.system_includes, context.external_includes]).to_list():
        flags += ["-isystem", folder]
    return flags

def _clang_tidy_impl(target, ctx):
    # A label of this repository has no repository name, with and without bzlmod.
    if target.label.workspace_name or ctx.rule.attr.testonly or not hasattr(ctx.rule.attr, "deps"):
        return []
    sources = [file for file in ctx.rule.files.srcs if file.extension == "cc" and file.is_source]
    if not sources:
        return []
    infos = [target[CcInfo]] if CcInfo in target else []
    infos += [dep[CcInfo] for dep in ctx.rule.attr.deps if CcInfo in dep]
    context = cc_common.merge_cc_infos(cc_infos = infos).compilation_context

    flags = ctx.fragments.cpp.cxxopts + _include_flags(context)
    flags += ["-D" + define for define in context.defines.to_list() + context.local_defines.to_list()]

    reports = []
    for source in sources:
        report = ctx.actions.declare_file("{}.{}.tidy".format(target.label.name, source.basename))
        reports.append(report)
        arguments = ctx.actions.args()
        arguments.add(report)
        arguments.add(_PROGRAM)
        arguments.add("--quiet")
        arguments.add(ctx.file._config, format = "--config-file=%s")
        arguments.add(source)
        arguments.add("--")
        arguments.add_all(flags)
        ctx.actions.run_shell(
            outputs = [report],
            inputs = depset([source, ctx.file._config], transitive = [context.headers]),
            arguments = [arguments],
            # What it found is shown once, and what it counts of other people's code never.
            command = 'report=$1; shift; "$@" >"$report" 2>"$report.counts" || { cat "$report" "$report.counts"; exit 1; }',
            mnemonic = "ClangTidy",
            progress_message = "clang-tidy of " + source.short_path,
            use_default_shell_env = True,
        )
    return [OutputGroupInfo(tidy = depset(reports))]

clang_tidy = aspect(
    implementation = _clang_tidy_impl,
    attrs = {
        "_config": attr.label(
            default = "//:.clang-tidy",
            allow_single_file = True,
        ),
    },
    fragments = ["cpp"],
)
