"""tools/setup on machines that lack something: one line says what, why and what to do.

The programs that it asks and changes the machine with (dpkg-query, apt-get, apt-cache) are fakes; it
sees nothing else of the machine but the few tools that it runs on.
"""
import os
import pathlib
import shutil
import subprocess
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOOLS = ("bash", "dirname", "env", "mktemp", "rm", "tail")
NOBODY = 65534


class SetupTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = pathlib.Path(folder.name)
        self.bin = self.root / "bin"
        self.bin.mkdir()
        for tool in TOOLS:
            (self.bin / tool).symlink_to(shutil.which(tool))
        (self.root / "tools").mkdir()
        for name in ("setup", "lib.sh"):
            shutil.copy(ROOT / "tools" / name, self.root / "tools")
        self.root.chmod(0o755)
        self.fake("dpkg-query", "exit 0")  # nothing is installed
        self.fake("apt-cache", "exit 0")  # every package is known
        self.fake("sudo", '"$@"')
        self.fake("apt-get", f'echo "$@" >>{self.root}/asked')

    def fake(self, name, script):
        path = self.bin / name
        path.write_text(f"#!{shutil.which('bash')}\n{script}\n")
        path.chmod(0o755)

    def run_setup(self, *groups, as_nobody=False):
        environment = {"PATH": str(self.bin), "HOME": str(self.root)}
        return subprocess.run(
            [self.root / "tools" / "setup", *groups], env=environment, capture_output=True,
            text=True, timeout=60,
            user=NOBODY if as_nobody and os.geteuid() == 0 else None)

    def test_installs_what_is_missing_once_it_knows_the_packages(self):
        done = self.run_setup("model")
        self.assertEqual(done.returncode, 0, done.stderr)
        asked = (self.root / "asked").read_text().splitlines()
        self.assertEqual(asked[0], "update -q")
        self.assertIn("unzip", asked[1])

    def test_says_that_root_is_needed_where_sudo_is_not_there(self):
        (self.bin / "sudo").unlink()
        done = self.run_setup("model", as_nobody=True)
        self.assertEqual(done.returncode, 1)
        self.assertEqual(done.stderr.strip().count("\n"), 0, done.stderr)
        self.assertIn("root is needed to install", done.stderr)
        self.assertIn("unzip", done.stderr)

    def test_names_the_network_when_the_lists_cannot_be_read(self):
        self.fake("apt-get", "echo could not resolve deb.debian.org; exit 100")
        done = self.run_setup("model")
        self.assertEqual(done.returncode, 1)
        self.assertIn("could not resolve", done.stderr)
        self.assertIn("apt-get update failed; check the network", done.stderr)

    def test_names_a_package_that_the_system_does_not_have(self):
        self.fake("apt-cache", '[[ $2 != unzip ]]')
        done = self.run_setup("model")
        self.assertEqual(done.returncode, 1)
        self.assertIn("no package unzip for this system", done.stderr)


if __name__ == "__main__":
    unittest.main()
