"""What tools/bundle makes runs where none of our libraries is installed."""

import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import unittest

import harness

BUNDLE = harness.ROOT / "tools/bundle"
PROGRAMS = ("mili", "mili-router", "mili-worker")
# What a bundle may leave to the system it runs on.
OF_THE_SYSTEM = ("linux-vdso.so.1", "ld-linux-x86-64.so.2", "libc.so.6", "libm.so.6",
                 "libstdc++.so.6", "libgcc_s.so.1")
UNSHARE = ["unshare", "--map-root-user", "--mount", "--pid", "--fork", "--mount-proc"]


def libraries_of(program):
    """soname -> path, as the loader finds them with an empty environment."""
    shown = subprocess.run(["/usr/bin/ldd", program], env={}, capture_output=True, text=True,
                           check=True)
    fields = [line.strip().split(" ") for line in shown.stdout.splitlines()]
    return {pathlib.PurePath(words[0]).name: words[2] if len(words) > 2 else words[0]
            for words in fields}


def can_unshare():
    try:
        return subprocess.run([*UNSHARE, "true"], capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


def run_bundle(*args, env=None):
    return subprocess.run([BUNDLE, *map(str, args)], capture_output=True, text=True, env=env)


class BundleTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.root = pathlib.Path(tempfile.mkdtemp(prefix="mili-root-"))
        cls.addClassCleanup(shutil.rmtree, cls.root)
        made = run_bundle("--bin-dir", harness.BIN, "--out", cls.root / "mili")
        if made.returncode != 0:
            raise RuntimeError(made.stderr)

    def test_every_library_is_in_the_bundle_or_the_systems(self):
        for program in PROGRAMS:
            found = libraries_of(self.root / "mili/bin" / program)
            self.assertTrue(any("libgrpc" in name for name in found))
            for name, path in found.items():
                carried = path.startswith(f"{self.root}/mili/")
                self.assertTrue(carried or name in OF_THE_SYSTEM, f"{program}: {name} => {path}")

    def test_every_library_comes_with_its_licence(self):
        manifest = json.loads((self.root / "mili/manifest.json").read_text())
        self.assertEqual(set(manifest["libraries"]),
                         {path.name for path in (self.root / "mili/lib").iterdir()})
        for package in [*manifest["libraries"].values(), *manifest["headers"]]:
            licence = self.root / "mili/licences" / package.split(" ")[0]
            self.assertGreater(licence.stat().st_size, 0)

    def test_sums_name_every_file(self):
        sums = dict(reversed(line.split("  ")) for line in
                    (self.root / "mili/SHA256SUMS").read_text().splitlines())
        files = {str(path.relative_to(self.root / "mili")): path
                 for path in (self.root / "mili").rglob("*") if path.is_file()}
        del files["SHA256SUMS"]
        self.assertEqual(sums.keys(), files.keys())
        for name, path in files.items():
            self.assertEqual(sums[name], hashlib.sha256(path.read_bytes()).hexdigest(), name)

    @unittest.skipUnless(can_unshare(), "this machine gives no namespaces")
    def test_generates_where_nothing_else_is_installed(self):
        for name, path in libraries_of(self.root / "mili/bin/mili-worker").items():
            if name in OF_THE_SYSTEM and pathlib.Path(path).exists():
                to = self.root / path.lstrip("/")
                to.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, to)
                to.chmod(0o755)
        for folder in ("proc", "tmp"):
            (self.root / folder).mkdir()
        shutil.copytree(harness.tiny_model(), self.root / "model")
        inside = [*UNSHARE, f"--root={self.root}"]
        for program in PROGRAMS:
            shown = subprocess.run([*inside, f"/mili/bin/{program}", "--version"], env={},
                                   executable=shutil.which("unshare"), capture_output=True,
                                   text=True)
            self.assertEqual(shown.returncode, 0, shown.stderr)
        answer = subprocess.run([*inside, "/mili/bin/mili", "generate", "/model", "--prompt", "a",
                                 "--max-tokens", "3", "--ignore-eos"], env={},
                                executable=shutil.which("unshare"), capture_output=True)
        self.assertEqual(answer.returncode, 0, answer.stderr)
        self.assertIn(b"3 tokens", answer.stderr)

    def test_says_what_to_build(self):
        failed = run_bundle("--bin-dir", self.root / "none", "--out", self.root / "other")
        self.assertEqual(failed.returncode, 1)
        self.assertEqual(len(failed.stderr.splitlines()), 1)
        self.assertIn("build first: cmake --preset cpu", failed.stderr)

    def test_names_a_library_that_is_not_there(self):
        with tempfile.TemporaryDirectory() as tools:
            fake = pathlib.Path(tools) / "ldd"
            fake.write_text("#!/bin/sh\necho '\tlibnone.so.7 => not found'\n")
            fake.chmod(0o755)
            path = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"}
            failed = run_bundle("--bin-dir", harness.BIN, "--out", self.root / "other", env=path)
        self.assertEqual(failed.returncode, 1)
        self.assertEqual(len(failed.stderr.splitlines()), 1)
        self.assertIn("mili needs libnone.so.7", failed.stderr)
        self.assertFalse((self.root / "other").exists())


if __name__ == "__main__":
    unittest.main()
