"""Runs a test case and prints the Test Anything Protocol."""

import io
import logging
import sys
import unittest


def run(case):
    logging.disable(logging.CRITICAL)
    tests = list(unittest.defaultTestLoader.loadTestsFromTestCase(case))
    print("1..%d" % len(tests), flush=True)
    failed = 0
    for n, test in enumerate(tests, 1):
        result = unittest.TextTestRunner(stream=io.StringIO(), verbosity=0).run(test)
        name = test.id().rsplit(".", 1)[-1]
        if result.wasSuccessful():
            print("ok %d - %s%s" % (n, name, " # SKIP" if result.skipped else ""))
        else:
            failed += 1
            print("not ok %d - %s" % (n, name))
            for _, trace in result.failures + result.errors:
                print("".join("# %s\n" % line for line in trace.splitlines()), end="")
        sys.stdout.flush()
    return 1 if failed else 0
