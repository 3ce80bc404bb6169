"""Builds every kernels_pyx/NAME.pyx as minicomp._kernels.NAME; what is static is in pyproject.toml.

Kernels are optional: where one does not build (no compiler, an old one), the installation goes on
and the NumPy reference runs in its place. What was built, what failed and why is recorded in
minicomp/_kernels/BUILD.json, from where `minicomp --version` and the first use of a kernel say it.

    MINICOMP_BUILD_ONLY=maps,coding   builds only those modules, while developing
"""

import json
import os
import tempfile
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

# The code that all typed memoryviews need, compiled once instead of in every module.
SHARED = "minicomp._kernels._cyutility"
DIRECTIVES = {"language_level": 3, "boundscheck": False, "wraparound": False, "cdivision": True,
              "initializedcheck": False}
# Never -march: what a kernel needs beyond the baseline it asks for by function, at run time.
# Without the two middle flags floorf and rintf stay library calls, one at a time. With the last,
# a product and a sum round twice on every rung and processor, as they do in NumPy.
FLAGS = {"msvc": ["/O2"],
         "unix": ["-O3", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=off",
                  "-Wno-unused-function"]}
# (compiler flags, linker flags), the first that compiles and links is taken.
OPENMP = {"msvc": [(["/openmp"], [])],
          "unix": [(["-fopenmp"], ["-fopenmp"]), (["-Xpreprocessor", "-fopenmp"], ["-lomp"])]}
OPENMP_PROBE = "#include <omp.h>\nint main(void) { return omp_get_max_threads() < 1; }\n"


class BuildKernels(build_ext):
    """Builds the extensions one by one, and records which were built and which failed."""

    def finalize_options(self):
        super().finalize_options()
        self.cython_c_in_temp = True
        self.cython_directives = DIRECTIVES
        self.shared_utility_qualified_name = SHARED

    def run(self):
        self.failed = {}
        super().run()
        self.record(Path(self.build_lib, "minicomp", "_kernels"))
        if self.inplace:
            self.record(Path(__file__).parent / "minicomp" / "_kernels")

    def build_extensions(self):
        kind = "msvc" if self.compiler.compiler_type == "msvc" else "unix"
        self.compile_flags, self.link_flags = FLAGS[kind], []
        self.openmp = self.find_openmp(OPENMP[kind])
        shared = Extension(SHARED, [])
        wanted, self.extensions = [shared, *self.extensions], []
        for ext in wanted:
            if self.build_one(ext):
                self.extensions.append(ext)

    def build_one(self, ext):
        # Returns whether ext was built. Whatever goes wrong is recorded; a stale build does not
        # stay behind.
        ext.extra_compile_args, ext.extra_link_args = self.compile_flags, self.link_flags
        ext._full_name, ext._needs_stub = ext.name, False
        ext._file_name = self.get_ext_filename(ext.name)
        try:
            self.build_extension(ext)
            return True
        except (Exception, SystemExit) as error:  # each kind of failure has its own exception type
            name, why = ext.name.rpartition(".")[2], f"{type(error).__name__}: {error}"[:200]
            self.failed[name] = why
            self.warn(f"kernel {name} is not built, the slower NumPy reference replaces it: {why}")
            Path(self.build_lib, ext._file_name).unlink(missing_ok=True)
            return False

    def find_openmp(self, candidates):
        # Returns whether a program that uses OpenMP compiles and links, and if so, adds its flags.
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder, "probe.c")
            source.write_text(OPENMP_PROBE)
            for compile_flags, link_flags in candidates:
                try:
                    objects = self.compiler.compile([str(source)], folder,
                                                    extra_postargs=compile_flags)
                    self.compiler.link_executable(objects, "probe", folder,
                                                  extra_postargs=link_flags)
                except Exception:
                    continue
                self.compile_flags = self.compile_flags + compile_flags
                self.link_flags = self.link_flags + link_flags
                return True
        return False

    def record(self, folder):
        # Adds this build to folder/BUILD.json; what has no source any more is dropped.
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "BUILD.json"
        before = json.loads(path.read_text()) if path.exists() else {}
        known = {path.stem for path in Path("kernels_pyx").glob("*.pyx")} | {"_cyutility"}
        built = {ext.name.rpartition(".")[2] for ext in self.extensions}
        failed = {**before.get("failed", {}), **self.failed}
        built_before = set(before.get("built", [])) & known - set(self.failed)
        command = getattr(self.compiler, "compiler_so", None) or [self.compiler.compiler_type]
        path.write_text(json.dumps({
            "compiler": command[0], "flags": self.compile_flags, "openmp": self.openmp,
            "built": sorted(built | built_before),
            "failed": {k: failed[k] for k in sorted(set(failed) & known - built)},
        }, indent=1) + "\n")


def kernels():
    """Returns one Extension per kernels_pyx/*.pyx, or those that MINICOMP_BUILD_ONLY names."""
    only = [name for name in os.environ.get("MINICOMP_BUILD_ONLY", "").split(",") if name]
    sources = {path.stem: path.as_posix() for path in sorted(Path("kernels_pyx").glob("*.pyx"))}
    if unknown := set(only) - set(sources):
        raise SystemExit(f"MINICOMP_BUILD_ONLY must name some of {', '.join(sources)}, "
                         f"got {', '.join(sorted(unknown))}")
    simd = Path("kernels_pyx", "simd")  # isa.h for all, and a folder for each module
    shared = [simd / "isa.h", *sorted(Path("kernels_pyx").glob("*.pxi"))]
    headers = {name: [*shared, *sorted(simd.glob(f"{name}/*.h"))] for name in sources}
    headers["floats"] += sorted(simd.glob("maps/*.h"))
    return [Extension(f"minicomp._kernels.{name}", [source], include_dirs=["kernels_pyx"],
                      depends=[path.as_posix() for path in headers[name]])
            for name, source in sources.items() if not only or name in only]


def lessons():
    """Returns the notebooks as a package of data, so that an installed minicomp can open them."""
    if not any(Path("lessons").glob("*.ipynb")):
        return {}
    return {"minicomp.lessons": "lessons"}


os.chdir(Path(__file__).parent)
setup(
    packages=[*find_packages(include=["minicomp", "minicomp.*"]), *lessons()],
    package_dir=lessons(),
    package_data={"minicomp": ["py.typed", "**/*.toml", "**/*.json", "**/*.md",
                               "papers/runs/*.jsonl"],
                  "minicomp.lessons": ["*.ipynb", "expected/*.json", "words/*.toml"]},
    # BUILD.json is written by this build, not taken from the checkout.
    exclude_package_data={"minicomp._kernels": ["*"]},
    include_package_data=False,
    ext_modules=kernels(),
    cmdclass={"build_ext": BuildKernels},
)
