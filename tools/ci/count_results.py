#!/usr/bin/env python3
"""Counts the tests below a results folder and prints `N passed, N failed, N skipped`.

The folder holds ctest's JUnit files (*.xml), GoogleTest's reports (gtest/*.json) and the outcomes
of fuzz targets (fuzz/*.outcome). GoogleTest programs and Python unittest scripts count by their
single tests; any other ctest test counts as one. Exit code 1 if something failed or nothing ran.
"""

import collections
import json
import pathlib
import re
import sys
import xml.etree.ElementTree as ElementTree

Count = collections.Counter
UNITTEST = re.compile(r"^Ran (\d+) tests? in .*\n+(OK|FAILED|NO TESTS RAN)(?: \((.*)\))?\s*$", re.M)


def of_gtest(report):
    count = Count()
    for suite in report.get("testsuites", []):
        for test in suite.get("testsuite", []):
            if test.get("status") != "RUN":
                continue
            if test.get("failures"):
                count["failed"] += 1
                print(f"failed: {suite['name']}.{test['name']}", file=sys.stderr)
            elif test.get("result") == "SKIPPED":
                count["skipped"] += 1
            else:
                count["passed"] += 1
    return count


def of_unittest(output):
    """The sum over the summaries in a script's output; None if there are none."""
    count = None
    for ran, _, details in UNITTEST.findall(output):
        count = count or Count()
        parts = {key: int(n) for key, n in re.findall(r"([a-z ]+)=(\d+)", details)}
        failed = sum(n for key, n in parts.items() if key.strip() in ("failures", "errors"))
        skipped = parts.get("skipped", 0)
        count += Count(failed=failed, skipped=skipped, passed=int(ran) - failed - skipped)
    return count


def of_case(case, gtest_folder):
    name = case.get("name")
    status = case.get("status")
    failed = status == "fail" or case.find("failure") is not None
    skipped = status in ("notrun", "disabled") or case.find("skipped") is not None
    report = gtest_folder / f"{name}.json"
    count = None
    if report.exists():
        count = of_gtest(json.loads(report.read_text()))
    elif not skipped:
        count = of_unittest(case.findtext("system-out") or "")
    if count is None:
        count = Count([("failed" if failed else "skipped" if skipped else "passed")])
    if failed and not count["failed"]:
        count["failed"] += 1  # it crashed, or ran out of time, after or before its tests
    if failed:
        print(f"failed: {name}", file=sys.stderr)
    return count


def main():
    folder = pathlib.Path(sys.argv[1])
    total = Count()
    for path in sorted(folder.glob("*.xml")):
        for case in ElementTree.parse(path).getroot().iter("testcase"):
            total += of_case(case, folder / "gtest")
    for path in sorted(folder.glob("fuzz/*.outcome")):
        outcome = path.read_text().strip()
        total[outcome] += 1
        if outcome == "failed":
            print(f"failed: {path.stem}", file=sys.stderr)
    sys.stderr.flush()
    print(f"{total['passed']} passed, {total['failed']} failed, {total['skipped']} skipped")
    if not sum(total.values()):
        print("count_results: no test ran", file=sys.stderr)
        return 1
    return 1 if total["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
